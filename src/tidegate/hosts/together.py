"""A file's events and what arrives among them: the labels of its rows, and the rows of further files, in one order.

A label, and a row of a further file, arrives before the first event of the file at which the stream's clock, which is
the highest event time so far, has reached its time; what it does not reach arrives after all. So an event sees a table,
a list or another stream as it was then. Where a row goes does not depend on how events are cut into batches.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.errors import UsageError
from tidegate.files.mapping import IS_FRAUD, Mapping
from tidegate.files.source import ROW
from tidegate.hosts.checkpoint import Position, State
from tidegate.hosts.delayed_labels import DelayedLabels, Due
from tidegate.hosts.ordered import Span, ordered_rows
from tidegate.kernel.arrivals import LABELS, Arrived
from tidegate.kernel.machine.words import raw

#: Rows of a further file that are read at once.
_BATCH_ROWS = 16_384


class Further(NamedTuple):
    """A further file, and how its rows become a stream."""

    path: Path
    mapping: Mapping


class Together:
    """What arrives with the rows of one file, which are to be given in order."""

    def __init__(self, mapping: Mapping, further: Sequence[_Rows]) -> None:
        self._mapping = mapping
        self._labels = DelayedLabels(mapping.known_after_us)
        self._further = further

    @property
    def clock_us(self) -> int:
        """The highest event time so far."""
        return self._labels.clock_us

    @property
    def pending(self) -> pa.Table:
        """The labels that have not arrived yet."""
        return self._labels.snapshot()

    @property
    def positions(self) -> dict[str, Position]:
        """The last row of each further file that arrived, by stream."""
        return {rows.stream: rows.after for rows in self._further if rows.after}

    def restore(self, state: State) -> None:
        """Go on after a checkpoint; the further files were opened there."""
        self._labels.restore(state.labels, state.clock_us, state.tally.events)

    def arrive(self, rows: pa.RecordBatch) -> dict[str, Arrived]:
        """The rows as events, of which there is at least one, and what arrives among them, by stream."""
        events = self._mapping.complete(rows)
        times = raw(events.column("event_time"))
        clock_us = np.maximum.accumulate(np.maximum(times, self.clock_us))
        further = [rows.due(clock_us) for rows in self._further]
        streams = [rows.stream for rows in self._further]
        if self._mapping.is_fraud:
            further.append(self._labels.arrive(events, rows.column(IS_FRAUD)))
            streams.append(LABELS)
        else:
            self._labels.clock_us = int(clock_us[-1])
        own, others = _among(events, further)
        return {self._mapping.schema.name: own, **dict(zip(streams, others, strict=True))}

    def rest(self) -> dict[str, Arrived]:
        """What arrives after all events: rows of the further files."""
        nothing = self._mapping.schema.nothing
        own, others = _among(nothing, [rows.rest() for rows in self._further])
        return {
            self._mapping.schema.name: own,
            **{rows.stream: arrived for rows, arrived in zip(self._further, others, strict=True)},
        }


@contextmanager
def together(
    mapping: Mapping,
    further: Sequence[Further],
    *,
    spill: Path,
    until_us: int | None = None,
    after: dict[str, Position] | None = None,
) -> Generator[Together]:
    """Open further files: from their start, or after a position by stream, and up to `until_us`.

    Raises:
        UsageError: two of the files give the same stream.
    """
    given = [mapping.schema.name, *([LABELS] if mapping.is_fraud else [])]
    for file in further:
        stream = file.mapping.schema.name
        if stream in given:
            raise UsageError(f"source {file.path.name}: the stream {stream} comes from another file already")
        given.append(stream)
    opened = [_Rows(file, spill, until_us, (after or {}).get(file.mapping.schema.name)) for file in further]
    try:
        yield Together(mapping, opened)
    finally:
        for rows in opened:
            rows.close()


class _Rows:
    """The rows of a further file in order of time, those that are read and have not arrived kept back."""

    def __init__(self, file: Further, spill: Path, until_us: int | None, after: Position | None) -> None:
        self.stream = file.mapping.schema.name
        self.after = after
        self._mapping = file.mapping
        self._kept: list[pa.RecordBatch] = []
        spill = spill / self.stream
        spill.mkdir(exist_ok=True)
        self._batches = ordered_rows(
            file.path,
            file.mapping,
            span=Span(None, until_us),
            order="time",
            after=after,
            spill=spill,
            batch_rows=_BATCH_ROWS,
            progress=lambda done, total: None,  # noqa: ARG005 - nobody to tell
        )

    def due(self, clock_us: npt.NDArray[np.int64]) -> Due:
        """The rows that the clock reaches; `clock_us` is how it stands at each event."""
        arrived = self._until(int(clock_us[-1]))
        return Due(arrived, np.searchsorted(clock_us, raw(arrived.column("event_time")), side="left"))

    def rest(self) -> Due:
        """All rows that have not arrived."""
        arrived = self._until(None)
        return Due(arrived, np.zeros(arrived.num_rows, np.int64))

    def _until(self, time_us: int | None) -> pa.RecordBatch:
        """Take out the rows up to a time; None: all."""
        while not self._kept or time_us is None or _times(self._kept[-1])[-1] <= time_us:
            batch = next(self._batches, None)
            if batch is None:
                break
            self._kept.append(batch)
        parts: list[pa.RecordBatch] = []
        while self._kept:
            first = self._kept.pop(0)
            count = first.num_rows if time_us is None else int(np.searchsorted(_times(first), time_us, side="right"))
            if count:
                parts.append(first.slice(0, count))
                self.after = Position(int(_times(first)[count - 1]), first.column(ROW)[count - 1].as_py())
            if count < first.num_rows:
                self._kept.insert(0, first.slice(count))
                break
        events = [self._mapping.complete(part) for part in parts]
        nothing = self._mapping.schema.nothing
        return pa.Table.from_batches(events).combine_chunks().to_batches()[0] if events else nothing

    def close(self) -> None:
        """The file is read no further."""
        self._batches.close()


def _times(rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
    return raw(rows.column("event_time"))


def _among(events: pa.RecordBatch, others: Sequence[Due]) -> tuple[Arrived, list[Arrived]]:
    """Events of several streams in one order. Of those that arrive before one event the earlier is first; of one time,
    that of the stream that is named first.
    """
    rows = events.num_rows
    before = np.concatenate([np.arange(rows), *(due.before for due in others)])
    last = np.arange(len(before)) < rows
    times = np.concatenate([np.zeros(rows, np.int64), *(raw(due.events.column("event_time")) for due in others)])
    at = np.empty(len(before), np.int64)
    at[np.lexsort((times, last, before))] = np.arange(len(before))
    own, *parts = np.split(at, np.cumsum([rows, *(len(due.before) for due in others)])[:-1])
    return Arrived(own, events), [Arrived(part, due.events) for part, due in zip(parts, others, strict=True)]
