"""Measures Tidegate beside its peers in one run. `make bench` runs it, in half an hour; `make bench QUICK=1` a small
form of it, in three minutes; `make bench CASE=full` what is called so, or holds it in its name.

Writes build/bench.json (one object a measurement) and, where all was measured in the whole form, docs/benchmarks.md,
both anew after each repeat: a run that is cut off leaves what it measured.
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
from typing import Any

from benchmarks import materials, page
from benchmarks.cases import CASES, LONG, OF_RAW, ONCE
from benchmarks.contest import PER_SYSTEM_S, Contest, Entry
from benchmarks.events import QUICK, RAW, ROOT
from benchmarks.measure import Run, SystemFailedError
from benchmarks.systems import SYSTEMS, System
from benchmarks.workload import OUTPUTS

REPEATS = 2 if QUICK else 3

#: How long it may measure, once all is made that it works with: up to when the workload of windows, the full one, and
#: the cases after them.
_WINDOWS_S, _FULL_S, _ALL_S = (70, 110, 150) if QUICK else (540, 1020, 1560)

#: How long one repeat of a case may take, and compiling before all is timed.
_CASE_S, _COMPILE_S = 240, 600

#: Sums of averages differ in the last bits between two orders of adding them up.
_SAME = 1e-9

_FILE = ROOT / "build" / "bench.json"


class Bench:
    """`case` is the workload that is asked for, or a part of its name; `modules` are the systems that take part beside
    Tidegate, by module. Empty: all.
    """

    def __init__(self, case: str = "", modules: Sequence[str] = ()) -> None:
        self.case, self.modules = case, modules
        self.left_out: list[tuple[str, str, str]] = []
        """Workload, system, why."""
        self._measured: dict[tuple[str, str], dict[str, Any]] = {}
        self._began = time.monotonic()

    def begin(self) -> None:
        """What is timed begins."""
        self._began = time.monotonic()

    def left_s(self, within_s: float = _ALL_S) -> float:
        return within_s - (time.monotonic() - self._began)

    def asked(self, workload: str) -> bool:
        return self.case in workload if self.case not in (*OUTPUTS, *CASES) else self.case == workload

    def alone(self, workloads: Sequence[str]) -> None:
        """Workloads whose every repeat is a process of its own, which prints what it took: each once, then each again,
        so that time that runs out takes repeats away and no workload.
        """
        taken = {workload: {system: list[dict[str, Any]]() for system in CASES[workload]} for workload in workloads}
        failed: dict[tuple[str, str], str] = {}
        for repeat in range(REPEATS):
            for workload in workloads:
                if repeat and workload in ONCE:
                    continue
                for system, said in taken[workload].items():
                    if (workload, system) in failed:
                        continue
                    try:
                        said.append(_once(workload, system, self.left_s()))
                    except SystemFailedError as error:
                        failed[workload, system] = str(error)
                self._keep_alone(workload, {system: said for system, said in taken[workload].items() if said})
        self.left_out += [(*place, why) for place, why in failed.items() if not taken[place[0]][place[1]]]

    def _keep_alone(self, workload: str, done: dict[str, list[dict[str, Any]]]) -> None:
        reference = [*done.values()][-1][0].get("checksums") if len(done) > 1 else None
        for system, said in done.items():
            runs = [Run(run["events"], run["seconds"], run["cpu_s"], run["peak_rss_mb"]) for run in said]
            wrong = _differing(said[0]["checksums"], reference) if reference else None
            middle = sorted(said, key=lambda run: run.get("more", {}).get("p99_ms", 0))[len(said) // 2]
            self._keep(_summed_up(workload, system, runs, wrong) | middle.get("more", {}))

    def contest(self, workload: str, systems: Sequence[System], within_s: float) -> list[Entry]:
        """The shared workload."""
        contest = Contest(
            workload,
            left_s=lambda: self.left_s(within_s),
            told=lambda system, why: self.left_out.append((workload, system, why)),
        )
        try:
            say(f"{workload}: exactness of {', '.join(system.name for system in systems)}")
            contest.admit(systems)
            say(f"{workload}: speed")
            for entry in contest.run(REPEATS):
                say(f"{workload}: {entry.system.name}, {entry.took_s:.0f} s")
                wrong, kinds = entry.wrong["sample"]
                more = {"compared": materials.SAMPLE * len(OUTPUTS[workload]), "mismatched": kinds}
                if "late" in entry.wrong:
                    more["late_mismatches"], more["late_mismatched"] = entry.wrong["late"]
                self._keep(_summed_up(workload, entry.system.name, entry.runs, wrong) | more)
        finally:
            contest.close()
        return contest.entries

    def _keep(self, row: dict[str, Any]) -> None:
        self._measured[row["workload"], row["system"]] = row
        self.save()

    def save(self) -> str:
        """Write what there is; returns the page."""
        measured = [*self._measured.values()]
        new = _FILE.with_suffix(".new")
        new.write_text(json.dumps(measured, indent=1) + "\n", "utf-8")
        new.replace(_FILE)
        text = page.write(measured, self.left_out)
        if measured and not (QUICK or self.case or self.modules):
            (ROOT / "docs" / "benchmarks.md").write_text(text, "utf-8")
        return text


def _once(workload: str, system: str, left_s: float) -> dict[str, Any]:
    """
    Raises:
        SystemFailedError: it failed, or there was no time for it.
    """
    if left_s <= 0:
        raise SystemFailedError("left out for time")
    began = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.cases", workload, system]
    # In a session of its own, so that what it starts ends with it.
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            said, _ = process.communicate(timeout=min(left_s, _CASE_S))
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise SystemFailedError(f"no answer within {min(left_s, _CASE_S):.0f} s") from None
            raise
    say(f"{workload}: {system}, {time.monotonic() - began:.0f} s")
    if process.returncode or not said:
        raise SystemFailedError(f"it ended with {process.returncode}, its reason is in the output of the run")
    return json.loads(said.splitlines()[-1])


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
        left_s -= each_s[system] + min(each_s[system] * REPEATS, PER_SYSTEM_S)
        if left_s > 0:
            fitting.append(system)
    return fitting


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _install(bench: Bench) -> list[System]:
    """The systems that can be measured here."""
    installed: list[System] = []
    for system in SYSTEMS:
        if bench.modules and system.module not in ("tidegate", *bench.modules):
            continue
        if QUICK and not system.quick_events:
            bench.left_out.append(("all", system.name, "takes too long for the small form"))
            continue
        say(f"environment of {system.name}")
        why = system.install()
        if why:
            bench.left_out.append(("all", system.name, f"can't be installed here: {why}"))
        else:
            installed.append(system)
    return installed


def _contests(bench: Bench) -> None:
    """The shared workloads, in all systems."""
    installed = _install(bench)
    say("compiling Tidegate")
    compiled = Contest("full", left_s=lambda: _COMPILE_S, told=lambda system, why: say(f"{system}: {why}"))
    compiled.admit([system for system in installed if system.name == "tidegate"])
    compiled.close()
    bench.begin()
    fitting = installed
    if bench.asked("windows"):
        entries = bench.contest("windows", installed, _WINDOWS_S)
        fitting = _that_fit(installed, entries, bench.left_s(_FULL_S))
        why = {system: why for _, system, why in bench.left_out}
        bench.left_out += [
            ("full", system.name, why.get(system.name, "left out for time"))
            for system in installed
            if system not in fitting
        ]
    if bench.asked("full"):
        bench.contest("full", fitting, _FULL_S)


def main(case: str = "", *modules: str) -> None:
    """Make what is missing, measure all, write both files."""
    _FILE.parent.mkdir(exist_ok=True)
    bench = Bench(case, modules)
    bench.save()
    say("events, samples, model")
    materials.prepare()
    if any(map(bench.asked, OUTPUTS)):
        _contests(bench)
    else:
        bench.begin()
    cases: list[str] = []
    for workload in filter(bench.asked, CASES):
        if workload in OF_RAW and not RAW.exists():
            bench.left_out.append((workload, "tidegate", f"{RAW.name} is not beside the project"))
        elif workload in LONG and QUICK:
            bench.left_out.append((workload, "tidegate", "takes too long for the small form"))
        else:
            cases.append(workload)
    bench.alone(cases)
    print(bench.save())


if __name__ == "__main__":
    main(*sys.argv[1:])
