"""Measures every case beside its peers in one run: interleaved repeats, medians and spread. `make bench` runs it.

Writes build/bench.json (one object a measurement) and docs/benchmarks.md.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES
from benchmarks.events import ROOT

REPEATS = 3 if os.environ.get("QUICK") else 5

#: Sums of averages differ in the last bits between two orders of adding them up.
_SAME = 1e-9


def _once(module: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def _measure(workload: str, systems: list[str]) -> list[dict[str, Any]]:
    taken: dict[str, list[dict[str, Any]]] = {system: [] for system in systems}
    for _ in range(REPEATS):
        for system in systems:  # interleaved: what disturbs the machine disturbs all alike
            taken[system].append(_once("cases", workload, system))
    reference = taken[systems[-1]][0]["checksums"]
    return [_summed_up(workload, system, runs, reference) for system, runs in taken.items()]


def _latency() -> dict[str, Any]:
    """The run of the middle p99."""
    runs = sorted((_once("latency") for _ in range(REPEATS)), key=lambda run: run["p99_ms"])
    return {"workload": "card_fraud, one event at 50 % load", "system": "tidegate", "repeats": REPEATS} | runs[
        REPEATS // 2
    ]


def _summed_up(workload: str, system: str, runs: list[dict[str, Any]], reference: dict[str, float]) -> dict[str, Any]:
    rates = [run["events"] / run["seconds"] for run in runs]
    return {
        "workload": workload,
        "system": system,
        "events_per_s": round(statistics.median(rates)),
        "spread": round((max(rates) - min(rates)) / statistics.median(rates), 3),
        "cpu_s_per_million": round(statistics.median(run["cpu_s"] / run["events"] * 1e6 for run in runs), 3),
        "peak_rss_mb": round(max(run["peak_rss_mb"] for run in runs)),
        "mismatches": sum(
            abs(runs[0]["checksums"][name] - wanted) > _SAME * max(1, abs(wanted)) for name, wanted in reference.items()
        ),
        "repeats": len(runs),
    }


def _page(measured: list[dict[str, Any]], latency: dict[str, Any]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`: every system in one run on one machine, each repeat in a process of its own,",
        "repeats interleaved, medians. The ratio is to Tidegate's own rate: below 1, the peer is slower.",
        "`mismatches` counts the feature columns whose sum over all rows differs from the referee's.",
        "",
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}.",
        "",
        "| workload | system | events/s | ratio | spread | CPU s per million | peak MiB | mismatches |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    own = {row["workload"]: row["events_per_s"] for row in measured if row["system"] == "tidegate"}
    lines += [
        f"| {row['workload']} | {row['system']} | {row['events_per_s']:,} "
        f"| {row['events_per_s'] / own[row['workload']]:.2f} "
        f"| {row['spread']:.0%} | {row['cpu_s_per_million']} | {row['peak_rss_mb']} | {row['mismatches']} |"
        for row in measured
    ]
    lines += [
        "",
        "One event, from its record in the log to the record of its decision, decoding, reasons, hash and the wait for",
        f"those before it included: {latency['workload']}, {latency['events_per_s']:,} a second,",
        f"p50 {latency['p50_ms']} ms, p99 {latency['p99_ms']} ms.",
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure all and write both files."""
    systems: dict[str, list[str]] = {}
    for workload, system in CASES:
        systems.setdefault(workload, []).append(system)
    measured = [row for workload, names in systems.items() for row in _measure(workload, names)]
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    latency = _latency()
    (build / "bench.json").write_text(json.dumps([*measured, latency], indent=1) + "\n", "utf-8")
    page = _page(measured, latency)
    Path(ROOT / "docs" / "benchmarks.md").write_text(page, "utf-8")
    print(page)


if __name__ == "__main__":
    main()
