"""Measures Tidegate beside its peers in one run. `make bench` runs it, `make bench QUICK=1` a small form of it.

Writes build/bench.json (one object a measurement) and, in its whole form, docs/benchmarks.md.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from math import inf
from typing import Any

from benchmarks import materials, page
from benchmarks.cases import CASES, LONG, OF_RAW, ONCE
from benchmarks.contest import Contest, Entry
from benchmarks.events import QUICK, RAW, ROOT
from benchmarks.measure import Run, SystemFailedError
from benchmarks.systems import SYSTEMS, System
from benchmarks.workload import OUTPUTS

REPEATS = 2 if QUICK else 5

#: How long the small form may measure, once all is made that it works with: up to when the workload of windows, the
#: full one, and the cases after them.
_WINDOWS_S, _FULL_S, _QUICK_S = 70, 110, 150

#: Sums of averages differ in the last bits between two orders of adding them up.
_SAME = 1e-9

_FILE = ROOT / "build" / "bench.json"


class Bench:
    def __init__(self) -> None:
        self.measured: list[dict[str, Any]] = []
        self.left_out: list[tuple[str, str, str]] = []
        """Workload, system, why."""
        self._began = time.monotonic()

    def begin(self) -> None:
        """What is timed begins."""
        self._began = time.monotonic()

    def left_s(self, within_s: float = _QUICK_S) -> float:
        return within_s - (time.monotonic() - self._began) if QUICK else inf

    def alone(self, workload: str) -> None:
        """A workload whose every repeat is a process of its own, which prints what it took."""
        taken: dict[str, list[dict[str, Any]]] = {system: [] for system in CASES[workload]}
        failed: dict[str, str] = {}
        for _ in range(1 if workload in ONCE else REPEATS):
            for system, said in taken.items():
                try:
                    said.append(_once(workload, system, self.left_s()))
                except SystemFailedError as error:
                    failed[system] = str(error)
        self.left_out += [(workload, system, why) for system, why in failed.items() if not taken[system]]
        done = {system: said for system, said in taken.items() if said}
        reference = [*done.values()][-1][0].get("checksums") if len(done) > 1 else None
        for system, said in done.items():
            runs = [Run(run["events"], run["seconds"], run["cpu_s"], run["peak_rss_mb"]) for run in said]
            wrong = _differing(said[0]["checksums"], reference) if reference else None
            middle = sorted(said, key=lambda run: run.get("more", {}).get("p99_ms", 0))[len(said) // 2]
            self.measured.append(_summed_up(workload, system, runs, wrong) | middle.get("more", {}))
        self.save()

    def contest(self, workload: str, systems: Sequence[System], within_s: float) -> list[Entry]:
        """The shared workload."""
        contest = Contest(
            workload,
            quick=QUICK,
            left_s=lambda: self.left_s(within_s),
            told=lambda system, why: self.left_out.append((workload, system, why)),
        )
        try:
            say(f"{workload}: exactness of {', '.join(system.name for system in systems)}")
            contest.admit(systems)
            say(f"{workload}: speed")
            contest.run(REPEATS)
        finally:
            contest.close()
        for entry in contest.entries:
            wrong, kinds = entry.wrong["sample"]
            more = {"compared": materials.SAMPLE * len(OUTPUTS[workload]), "mismatched": kinds}
            if "late" in entry.wrong:
                more["late_mismatches"], more["late_mismatched"] = entry.wrong["late"]
            self.measured.append(_summed_up(workload, entry.system.name, entry.runs, wrong) | more)
        self.save()
        return contest.entries

    def save(self) -> None:
        """Whole at every moment: a run that is cut off leaves what it measured."""
        new = _FILE.with_suffix(".new")
        new.write_text(json.dumps(self.measured, indent=1) + "\n", "utf-8")
        new.replace(_FILE)
        if self.measured and not QUICK:
            (ROOT / "docs" / "benchmarks.md").write_text(page.write(self.measured, self.left_out), "utf-8")


def _once(workload: str, system: str, left_s: float) -> dict[str, Any]:
    """
    Raises:
        SystemFailedError: it failed, or there was no time for it.
    """
    if left_s <= 0:
        raise SystemFailedError("left out for time")
    say(f"{workload}: {system}")
    command = [sys.executable, "-m", "benchmarks.cases", workload, system]
    # In a session of its own, so that what it starts ends with it.
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            said, _ = process.communicate(timeout=None if left_s == inf else left_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise SystemFailedError("left out for time") from None
            raise
    if process.returncode:
        raise SystemFailedError(f"it ended with {process.returncode}")
    return json.loads(said)


def _differing(told: dict[str, float], reference: dict[str, float]) -> int:
    return sum(abs(told[name] - wanted) > _SAME * max(1, abs(wanted)) for name, wanted in reference.items())


def _summed_up(workload: str, system: str, runs: Sequence[Run], mismatches: int | None) -> dict[str, Any]:
    rates = [run.events / run.seconds for run in runs]
    return {
        "workload": workload,
        "system": system,
        "events_per_s": round(statistics.median(rates)),
        "spread": round((max(rates) - min(rates)) / statistics.median(rates), 3),
        "cpu_s_per_million": round(statistics.median(run.cpu_s / run.events * 1e6 for run in runs), 3),
        "peak_rss_mb": round(max(run.peak_rss_mb for run in runs)),
        "mismatches": mismatches,
        "repeats": len(runs),
        "events": runs[0].events,
    }


def _that_fit(systems: Sequence[System], entries: Sequence[Entry], left_s: float) -> list[System]:
    """Those that can do as much again in the time that is left, the quickest first."""
    fitting, each_s = [], {entry.system: entry.took_s for entry in entries}
    for system in sorted((system for system in systems if system in each_s), key=each_s.__getitem__):
        # A start with a look at exactness takes about as long as a run.
        left_s -= each_s[system] * (1 + REPEATS)
        if left_s > 0:
            fitting.append(system)
    return fitting


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Make what is missing, measure all, write both files."""
    _FILE.parent.mkdir(exist_ok=True)
    bench, installed = Bench(), []
    bench.save()
    for system in SYSTEMS:
        if QUICK and not system.quick_events:
            bench.left_out.append(("all", system.name, "takes too long for the small form"))
            continue
        say(f"environment of {system.name}")
        why = system.install()
        if why:
            bench.left_out.append(("all", system.name, f"can't be installed here: {why}"))
        else:
            installed.append(system)
    say("events, samples, model")
    materials.prepare()
    say("compiling Tidegate")
    compiled = Contest("full", quick=False, left_s=lambda: inf, told=lambda system, why: say(f"{system}: {why}"))
    compiled.admit([system for system in installed if system.name == "tidegate"])
    compiled.close()

    bench.begin()
    entries = bench.contest("windows", installed, _WINDOWS_S)
    fitting = _that_fit(installed, entries, bench.left_s(_FULL_S))
    bench.left_out += [("full", system.name, "left out for time") for system in installed if system not in fitting]
    bench.contest("full", fitting, _FULL_S)
    for workload in CASES:
        if workload in OF_RAW and not RAW.exists():
            bench.left_out.append((workload, "tidegate", f"{RAW.name} is not beside the project"))
        elif workload in LONG and QUICK:
            bench.left_out.append((workload, "tidegate", "takes too long for the small form"))
        else:
            bench.alone(workload)
    print(page.write(bench.measured, bench.left_out))


if __name__ == "__main__":
    main()
