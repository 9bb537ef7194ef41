"""The shared workload in all systems: first how exact each is, then how fast, repeats interleaved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any

import pyarrow.parquet as pq

from benchmarks.events import QUICK
from benchmarks.materials import FOLDER, MODEL, stream
from benchmarks.measure import Run, Served, SystemFailedError
from benchmarks.referee import mismatches
from benchmarks.systems import System

#: How long a system may take for all its repeats: one that would need longer is measured less often.
PER_SYSTEM_S = 90

#: Of the time that is left, what all together may take for each sample. Late events take PyFlink as long as all else:
#: the small form has none.
_SAMPLES = {"sample": 0.5} if QUICK else {"sample": 0.4, "late": 0.25}


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
    spent_s: float = 0
    """All its runs together."""
    failed: bool = False


class Contest:
    """`left_s` says how much time there is for all of it; `told` hears of what fails: a system's name and why. What one
    system does ends no other's run.
    """

    def __init__(self, workload: str, *, left_s: Callable[[], float], told: Callable[[str, str], None]) -> None:
        self.workload, self._left_s, self._told = workload, left_s, told
        self.entries: list[Entry] = []
        self._until = inf
        """When what all do at once must be done, by the monotonic clock."""

    def admit(self, systems: Iterable[System]) -> None:
        """Start the systems and look at how exact they are, all at once: nothing is timed here."""
        for system in systems:
            try:
                self.entries.append(Entry(system, self._served(system)))
            except OSError as error:
                self._told(system.name, str(error))
        for sample, share in _SAMPLES.items():
            self._until = time.monotonic() + share * self._left_s()
            self._each(lambda entry, sample=sample: entry.served.begin(**self._job(entry, sample)))
            self._each(lambda entry, sample=sample: self._compare(entry, sample))
        self._until = inf

    def run(self, repeats: int) -> Iterator[Entry]:
        """Measure; yields a system's entry each time it was measured. Interleaved: what disturbs the machine disturbs
        all alike. When time is up, what was measured until then counts; who was not measured is left out.
        """
        for _ in range(repeats):
            for entry in list(self.entries):
                if entry.failed or entry.spent_s + entry.took_s > PER_SYSTEM_S or self._left_s() <= entry.took_s:
                    continue
                self._try(entry, self._measure)
                if entry.runs:
                    yield entry
        for entry in [entry for entry in self.entries if not entry.runs]:
            self._fail(entry, "left out for time")

    def close(self) -> None:
        for entry in self.entries:
            entry.served.close()

    def _served(self, system: System) -> Served:
        log = FOLDER / f"{system.module}-{self.workload}.log"
        return Served(system.python, system.module, log, self._patience_s)

    def _patience_s(self) -> float:
        return self._until - time.monotonic() if self._until < inf else min(PER_SYSTEM_S, self._left_s())

    def _measure(self, entry: Entry) -> None:
        events = entry.system.quick_events if QUICK else entry.system.events
        began = time.monotonic()
        entry.served.begin(workload=self.workload, source=stream(events), model=MODEL, out=None)
        entry.runs.append(entry.served.finished())
        took_s = time.monotonic() - began
        entry.took_s, entry.spent_s = max(entry.took_s, took_s), entry.spent_s + took_s

    def _job(self, entry: Entry, sample: str) -> dict[str, Any]:
        out = FOLDER / f"{entry.system.module}-{sample}.parquet"
        out.unlink(missing_ok=True)
        return {"workload": self.workload, "source": FOLDER / f"{sample}.parquet", "model": MODEL, "out": out}

    def _compare(self, entry: Entry, sample: str) -> None:
        try:
            entry.served.finished()
        except SystemFailedError as error:
            if not entry.wrong:
                raise
            # It has shown how exact it is in order: it is measured.
            entry.served.close()
            entry.served = self._served(entry.system)
            self._told(entry.system.name, f"late events: {error}")
            return
        told = pq.read_table(FOLDER / f"{entry.system.module}-{sample}.parquet")
        wanted = pq.read_table(FOLDER / f"{sample}-expected.parquet")
        entry.wrong[sample] = mismatches(told, wanted, self.workload)

    def _each(self, step: Callable[[Entry], None]) -> None:
        for entry in list(self.entries):
            self._try(entry, step)

    def _try(self, entry: Entry, step: Callable[[Entry], None]) -> None:
        try:
            step(entry)
        except Exception as error:  # noqa: BLE001 - whatever a system answers, the others are measured
            why = str(error) if isinstance(error, SystemFailedError) else f"{type(error).__name__}: {error}"
            self._fail(entry, why)

    def _fail(self, entry: Entry, why: str) -> None:
        """It is not asked again; what it did until now counts."""
        entry.served.close()
        entry.failed = True
        if entry.runs:
            why = f"not measured again after {len(entry.runs)} repeats: {why}"
        else:
            self.entries.remove(entry)
        self._told(entry.system.name, why)
