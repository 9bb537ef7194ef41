"""docs/benchmarks.md, from what was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

import psutil

from benchmarks.materials import SAMPLE
from benchmarks.systems import SYSTEMS
from benchmarks.workload import OUTPUTS, RULES

_HEAD = f"""# Benchmarks

Written by `make bench`, in half an hour: every system in one run on one machine, repeats interleaved, medians. `make
bench QUICK=1` is a small form of it, in three minutes, without Flink SQL and Spark, and `make bench CASE=full` measures
one workload, by its name or a part of it; they leave this page as it is. All write `build/bench.json`, anew after each
repeat.

- **events/s**: of one worker (one thread, one slot). Starting up, planning and compiling are in no figure. Tidegate,
  Bytewax, Faust and Spark are measured from the middle of their events on, when windows are as full as they get; those
  that answer in bursts or whose steps run ahead of each other over all of them, from the first event read. Slow
  systems are given fewer events, over as many fewer keys, so that their windows are as full.
- **ratio**: to Tidegate's own rate. Below 1, the peer is slower.
- **spread**: the largest rate less the smallest, by the median.
- **CPU s per million**: of all its processes, over the time measured. **peak MiB**: the sum of the resident memory of
  all its processes while it worked, the events and its runtime (JVM, Python) with it.
- **mismatches**: of a sample of {SAMPLE} events, the values that differ from what the naive twin of the tests gives: by
  then known rows only, as of the event's own time. **late**: the same, where a tenth of the events come up to ten
  minutes late. In brackets, what differs.

What is computed, on made-up payments of two weeks with evenly spread keys (hot keys would slow those most whose cost
grows with a window's rows):

- `windows`: for card, device, merchant and IP address, over 10 minutes, 1 hour, 1 day and 7 days: count, sum, average,
  largest, and distinct merchants or cards: {len(OUTPUTS["windows"])} values for each event.
- `full`: those, {len(RULES)} rules over them, the sequence "a tiny amount, then a large one, with a card within 10
  minutes", a LightGBM model of 500 trees over all values, score and outcome.

Each peer is written as its own documentation would have it, in `benchmarks/peers`, with the versions of
`benchmarks/environments`.
"""


def write(measured: Sequence[dict[str, Any]], left_out: Sequence[tuple[str, str, str]]) -> str:
    memory_gb = psutil.virtual_memory().total / 2**30
    parts = [
        _HEAD,
        f"Machine: {os.cpu_count()} cores ({platform.machine()}), {memory_gb:.0f} GiB of memory.",
    ]
    workloads = dict.fromkeys(row["workload"] for row in measured)
    parts += [_table(workload, [row for row in measured if row["workload"] == workload]) for workload in workloads]
    if left_out:
        lines = [f"- {workload}, {system}: {why}" for workload, system, why in left_out]
        parts.append("\n".join(["## Not measured", "", *lines]))
    notes = [f"- **{system.name}**: {system.note}" for system in SYSTEMS]
    parts.append("\n".join(["## What each number means", "", *notes]))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(workload: str, rows: Sequence[dict[str, Any]]) -> str:
    own = next((row["events_per_s"] for row in rows if row["system"] == "tidegate"), None)
    lines = [
        f"## {workload}",
        "",
        "| system | events/s | ratio | spread | CPU s per million | peak MiB | mismatches | late |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    lines += [
        f"| {row['system']} | {row['events_per_s']:,} | {_ratio(row['events_per_s'], own)} "
        f"| {row['spread']:.0%} | {row['cpu_s_per_million']:,} | {row['peak_rss_mb']:,} "
        f"| {_wrong(row, '')} | {_wrong(row, 'late_')} |"
        for row in sorted(rows, key=lambda row: -row["events_per_s"])
    ]
    return "\n".join([*lines, *(line for row in rows for line in _figures(row))])


def _ratio(rate: float, own: float | None) -> str:
    return f"{rate / own:.3g}" if own else ""


def _wrong(row: dict[str, Any], sample: str) -> str:
    if row.get(f"{sample}mismatches") is None:
        return ""
    kinds = row.get(f"{sample}mismatched")
    of = f" of {row['compared']:,}" if "compared" in row else ""
    return f"{row[f'{sample}mismatches']:,}{of}" + (f" ({', '.join(kinds)})" if kinds else "")


def _figures(row: dict[str, Any]) -> list[str]:
    """What only this workload tells."""
    if "p99_ms" in row:
        text = (
            "From an event's record in the log to the record of its decision, decoding, reasons, hash and the wait for "
            f"those before it included: p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms."
        )
        return ["", text]
    if "mb_per_s" in row:
        return ["", f"{row['system']}: {row['mb_per_s']} MB/s."]
    if "rows_per_minute" in row:
        return ["", f"{row['rows_per_minute']:,} rows a minute, from the command's start to its end, on all cores."]
    if "restore_s" in row:
        text = (
            f"{row['state_bytes']:,} bytes of state are back in {row['restore_s']} s from files in the system's cache, "
            f"in {row['restore_cold_s']} s from others. A snapshot of all of it holds the engine up for "
            f"{row['pause_ms']} ms and is written after {row['written_s']} s."
        )
        return ["", text]
    if "state_bytes" in row:
        ratio = row["state_bytes"] / row["bytes_aimed_at"]
        text = (
            f"{row['rows']:,} rows, each kept for four entities, and {row['keys']:,} keys take "
            f"{row['state_bytes']:,} bytes, {ratio:.2f} times the aim of 64 a row and 64 a key and window."
        )
        return ["", text]
    return []
