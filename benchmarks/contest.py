"""The shared workload in all systems: first how exact each is, then how fast, repeats interleaved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

from benchmarks.materials import FOLDER, MODEL, stream
from benchmarks.measure import Run, Served, SystemFailedError
from benchmarks.referee import mismatches
from benchmarks.systems import System

#: How long a system may take for one job, with its start.
_PATIENCE_S, _QUICK_PATIENCE_S = 600, 60


@dataclass
class Entry:
    """A system in the contest."""

    system: System
    served: Served
    wrong: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    """By sample: how many values differ from the twin's, and of what kinds."""
    runs: list[Run] = field(default_factory=list)
    took_s: float = 0
    """Its longest run, with all that is not measured."""


class Contest:
    """`told` hears of what fails and is left out: a system's name and why."""

    def __init__(self, workload: str, *, quick: bool, told: Callable[[str, str], None]) -> None:
        self.workload, self.quick, self._told = workload, quick, told
        self.entries: list[Entry] = []

    def admit(self, systems: Iterable[System]) -> None:
        """Start the systems and look at how exact they are, all at once: nothing is timed here."""
        patience_s = _QUICK_PATIENCE_S if self.quick else _PATIENCE_S
        for system in systems:
            log = FOLDER / f"{system.module}-{self.workload}.log"
            self.entries.append(Entry(system, Served(system.python, system.module, log, patience_s)))
        # In the small form only in order: a late sample takes Flink and Spark as long as all the rest.
        for sample in ("sample",) if self.quick else ("sample", "late"):
            self._each(lambda entry, sample=sample: entry.served.begin(**self._job(entry, sample)))
            self._each(lambda entry, sample=sample: self._compare(entry, sample))

    def run(self, repeats: int, left_s: Callable[[], float]) -> None:
        """Measure. Interleaved: what disturbs the machine disturbs all alike. A system that can't have all its repeats
        in the time that is left is left out.
        """
        for repeat in range(repeats):
            for entry in list(self.entries):
                if left_s() < entry.took_s * (repeats - repeat) * (repeat == 0):
                    self._leave_out(entry, "left out for time")
                else:
                    self._try(entry, self._measure)

    def close(self) -> None:
        for entry in self.entries:
            entry.served.close()

    def _measure(self, entry: Entry) -> None:
        events = entry.system.quick_events if self.quick else entry.system.events
        began = time.monotonic()
        entry.served.begin(workload=self.workload, source=stream(events), model=MODEL, out=None)
        entry.runs.append(entry.served.finished())
        entry.took_s = max(entry.took_s, time.monotonic() - began)

    def _job(self, entry: Entry, sample: str) -> dict[str, Any]:
        out = FOLDER / f"{entry.system.module}-{sample}.parquet"
        out.unlink(missing_ok=True)
        return {"workload": self.workload, "source": FOLDER / f"{sample}.parquet", "model": MODEL, "out": out}

    def _compare(self, entry: Entry, sample: str) -> None:
        entry.served.finished()
        told = pq.read_table(FOLDER / f"{entry.system.module}-{sample}.parquet")
        wanted = pq.read_table(FOLDER / f"{sample}-expected.parquet")
        entry.wrong[sample] = mismatches(told, wanted, self.workload)

    def _each(self, step: Callable[[Entry], None]) -> None:
        for entry in list(self.entries):
            self._try(entry, step)

    def _try(self, entry: Entry, step: Callable[[Entry], None]) -> None:
        try:
            step(entry)
        except (SystemFailedError, OSError) as error:
            self._leave_out(entry, str(error))

    def _leave_out(self, entry: Entry, why: str) -> None:
        entry.served.close()
        self.entries.remove(entry)
        self._told(entry.system.name, why)
