"""Measures Tidegate beside its peers in one run. `make bench` runs it, `make bench QUICK=1` a small form of it.

Writes build/bench.json (one object a measurement) and, in its whole form, docs/benchmarks.md.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import materials, page
from benchmarks.cases import CASES, OF_RAW
from benchmarks.contest import Contest, Entry
from benchmarks.events import QUICK, RAW, ROOT
from benchmarks.measure import Run
from benchmarks.systems import SYSTEMS, System
from benchmarks.workload import OUTPUTS

REPEATS = 2 if QUICK else 5

#: How long the small form may take, once everything is made that it works with.
_QUICK_S = 165

#: Sums of averages differ in the last bits between two orders of adding them up.
_SAME = 1e-9


class Bench:
    def __init__(self) -> None:
        self.measured: list[dict[str, Any]] = []
        self.left_out: list[tuple[str, str, str]] = []
        """Workload, system, why."""
        self._began = time.monotonic()

    def left_s(self) -> float:
        return _QUICK_S - (time.monotonic() - self._began) if QUICK else float("inf")

    def alone(self, workload: str) -> None:
        """A workload whose every repeat is a process of its own, which prints what it took."""
        systems = list(CASES[workload])
        taken: dict[str, list[dict[str, Any]]] = {system: [] for system in systems}
        for _ in range(REPEATS):
            for system in systems:
                taken[system].append(_once(workload, system))
        reference = taken[systems[-1]][0].get("checksums", {})
        for system, said in taken.items():
            runs = [Run(run["events"], run["seconds"], run["cpu_s"], run["peak_rss_mb"]) for run in said]
            told = said[0].get("checksums", {})
            wrong = sum(abs(told[name] - wanted) > _SAME * max(1, abs(wanted)) for name, wanted in reference.items())
            middle = sorted(said, key=lambda run: run.get("more", {}).get("p99_ms", 0))[len(said) // 2]
            self.measured.append(_summed_up(workload, system, runs, wrong) | middle.get("more", {}))

    def contest(self, workload: str, systems: Sequence[System]) -> list[Entry]:
        """The shared workload."""
        contest = Contest(workload, quick=QUICK, told=lambda system, why: self.left_out.append((workload, system, why)))
        try:
            say(f"{workload}: exactness of {', '.join(system.name for system in systems)}")
            contest.admit(systems)
            say(f"{workload}: speed")
            contest.run(REPEATS, self.left_s)
        finally:
            contest.close()
        for entry in contest.entries:
            wrong, kinds = entry.wrong["sample"]
            more = {"compared": materials.SAMPLE * len(OUTPUTS[workload]), "mismatched": kinds}
            if "late" in entry.wrong:
                more["late_mismatches"], more["late_mismatched"] = entry.wrong["late"]
            self.measured.append(_summed_up(workload, entry.system.name, entry.runs, wrong) | more)
        return contest.entries


def _once(workload: str, system: str) -> dict[str, Any]:
    say(f"{workload}: {system}")
    command = [sys.executable, "-m", "benchmarks.cases", workload, system]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _summed_up(workload: str, system: str, runs: Sequence[Run], mismatches: int) -> dict[str, Any]:
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
    missing = []
    installed: list[System] = []
    for system in SYSTEMS:
        say(f"environment of {system.name}")
        why = system.install()
        if why:
            missing.append(("all", system.name, f"can't be installed here: {why}"))
        else:
            installed.append(system)
    say("events, samples, model")
    materials.prepare()
    say("compiling Tidegate")
    compiled = Contest("full", quick=False, told=lambda system, why: say(f"{system}: {why}"))
    compiled.admit([system for system in installed if not system.environment])
    compiled.close()

    bench = Bench()
    bench.left_out += missing
    entries = bench.contest("windows", installed)
    for workload in CASES:
        if workload in OF_RAW and not RAW.exists():
            bench.left_out.append((workload, "tidegate", f"{RAW.name} is not beside the project"))
        else:
            bench.alone(workload)
    fitting = _that_fit(installed, entries, bench.left_s())
    bench.left_out += [("full", system.name, "left out for time") for system in installed if system not in fitting]
    bench.contest("full", fitting)
    (ROOT / "build" / "bench.json").write_text(json.dumps(bench.measured, indent=1) + "\n", "utf-8")
    text = page.write(bench.measured, bench.left_out)
    if not QUICK:
        (ROOT / "docs" / "benchmarks.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
