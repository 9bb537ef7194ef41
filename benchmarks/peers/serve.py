"""How the runner speaks with a system: one JSON line in a job, lines out when its measured part begins and ends.

A system stays in its process for all repeats of one workload, so that starting it up is in no figure.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.workload import OUTPUTS


class Job:
    """One run over a table of events. What comes out is counted, and kept only where exactness is looked at."""

    def __init__(self, tell: Callable[..., None], workload: str, source: str, model: str, out: str | None) -> None:
        self.workload = workload
        self.source = Path(source)
        """Parquet: number, event_time (int64, microseconds), the keys, amount_minor."""
        self.events = pq.read_table(source)
        self.model = Path(model)
        self.full = workload == "full"
        self.columns = ("number", *OUTPUTS[workload])
        self.exact = out is not None
        """Whether the answers are kept, to be compared."""
        self._out, self._tell = out, tell
        self.answers = self._began_at = 0
        self._began = self._ended = False
        self._rows: list[Sequence[Any]] = []
        self._tables: list[pa.Table] = []

    def begin(self) -> None:
        """What is measured begins now: with the first event, for a system that takes all as one batch."""
        self._began, self._began_at = True, self.answers
        self._tell(mark="begin", at=time.time())

    def entered(self) -> None:
        """An event enters the first step. Told by a system whose steps run ahead of each other: half of its answers
        come when most of the work is done, so that it is measured from the first event on.
        """
        if not self._began:
            self.begin()

    def measured(self, began: float, ended: float, events: int) -> None:
        """So many events were answered between two times (seconds since the epoch), of a system that knows it better
        than what comes out tells.
        """
        self._began = self._ended = True
        self._tell(mark="begin", at=began)
        self._tell(mark="end", at=ended, events=events)

    def put(self, row: Sequence[Any]) -> None:
        """One event is answered: its number and what the workload asks for, in order."""
        if self.exact:
            self._rows.append(row)
        self.answered(1)

    def put_table(self, columns: dict[str, Any] | pa.Table) -> None:
        """Many events are answered: `number` and what the workload asks for, by name."""
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        if self.exact:
            self._tables.append(table.select(self.columns))
        self.answered(table.num_rows)

    def answered(self, events: int) -> None:
        """So many more events are answered. Measuring begins when half of all are: windows are full by then."""
        self.answers += events
        if not self._began and 2 * self.answers >= self.events.num_rows:
            self.begin()

    def keep(self, rows: Iterable[Sequence[Any]]) -> None:
        """The answers to be compared, of a system that counts them by itself."""
        self._rows = list(rows)

    def finish(self) -> None:
        """Nothing more is answered: hand over the answers that were kept."""
        if not self._ended:
            self._tell(mark="end", at=time.time(), events=self.answers - self._began_at)
        if self._out:
            for columns in self._columns():
                pq.write_table(columns, self._out)
        self._tell(mark="done")

    def _columns(self) -> Iterable[pa.Table]:
        if self._rows:
            yield pa.table(dict(zip(self.columns, map(list, zip(*self._rows, strict=True)), strict=True)))
        elif self._tables:
            yield pa.concat_tables(self._tables)


def serve(run: Callable[[Job], None]) -> None:
    """Run the jobs of standard input, one after the other."""
    # What a system itself prints goes to where errors go.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(**said: Any) -> None:
        channel.write(json.dumps(said) + "\n")

    tell(mark="ready")
    for line in sys.stdin:
        job = Job(tell, **json.loads(line))
        run(job)
        job.finish()
