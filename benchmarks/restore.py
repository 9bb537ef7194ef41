"""What a snapshot of many keys costs: the engine's pause, the time to write it whole and to write what changed, and the
time to come back. Prints one JSON object. `python -m benchmarks.restore [KEYS]`, 10 million if it is not said.

Each key is a card with one payment and four windows of count and sum. The restore is timed in a process of its own,
with the files in the system's cache (warm) and without (cold).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

KEYS = 10_000_000
BATCH_ROWS = 65_536

#: Events decided between two snapshots, half a minute of 500 a second, and those timed one by one.
BETWEEN, ALONE = 15_000, 2_000

_START_US = 1_772_442_000_000_000

_FEATURES = """SELECT event_id, event_time,
    count(*) OVER hour AS n_1h, sum(amount_minor) OVER hour AS sum_1h,
    count(*) OVER day AS n_1d, sum(amount_minor) OVER day AS sum_1d,
    count(*) OVER week AS n_7d, sum(amount_minor) OVER week AS sum_7d,
    count(*) OVER month AS n_30d, sum(amount_minor) OVER month AS sum_30d
FROM transactions
WINDOW hour AS (PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW),
    day AS (PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL '1' DAY PRECEDING AND CURRENT ROW),
    week AS (PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW),
    month AS (PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL '30' DAY PRECEDING AND CURRENT ROW)"""

_POLICY = "lateness: 1 hour\ndedupe: 1 hour\noutcomes: {review: 50, decline: 90}\ncap: 100\n"
_RULES = "rules:\n- {name: often, status: live, points: 100, when: n_1h > 1000, reason: Often.}\n"


def _kernel() -> Any:
    from tidegate.kernel.decide import Kernel
    from tidegate.kernel.detector import compile_detector

    return Kernel(compile_detector("many", {"features.sql": _FEATURES, "rules.yaml": _RULES, "policy.yaml": _POLICY}))


def _events(cards: np.ndarray, first: int) -> dict[str, Any]:
    """Payments of these cards, 100 a second, from the number `first` on."""
    from tidegate.kernel.arrivals import Arrived
    from tidegate.streams.schema import load_schema

    numbers, rows = np.arange(first, first + len(cards)), len(cards)
    own = {
        "event_id": pa.array(numbers).cast(pa.string()),
        "event_time": pa.array(_START_US + numbers * 10_000, pa.timestamp("us")),
        "pan": pa.array(cards).cast(pa.string()),
        "amount_minor": pa.array(numbers % 10_000),
    }
    schema = load_schema("transactions").arrow
    columns = [
        own[field.name].cast(field.type) if field.name in own else pa.nulls(rows, field.type) for field in schema
    ]
    return {"transactions": Arrived.alone(pa.RecordBatch.from_arrays(columns, schema=schema))}


def _spread_ms(seconds: list[float]) -> dict[str, float]:
    p50, p99, p999 = np.percentile(np.array(seconds) * 1000, [50, 99, 99.9])
    return {"p50": round(p50, 2), "p99": round(p99, 2), "p99.9": round(p999, 2), "max": round(max(seconds) * 1000, 1)}


def _timed(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    call()
    return clock() - started


def _fill(folder: Path, keys: int) -> dict[str, Any]:
    from tidegate.adapters.embedded.log import EmbeddedLog
    from tidegate.adapters.embedded.snapshots import EmbeddedSnapshots
    from tidegate.hosts.forecast import Counts
    from tidegate.hosts.recovery import Recovery
    from tidegate.ports.log import TopicPartition

    kernel, chance, done = _kernel(), np.random.default_rng(7), 0
    log = EmbeddedLog(folder / "log.sqlite")
    log.create("transactions", partitions=1, retention_ms=10**12)
    recovery = Recovery(log, EmbeddedSnapshots(folder / "snapshots"), "bench", ["transactions"])

    def decide(cards: np.ndarray, clock: Callable[[], float] = time.perf_counter) -> float:
        nonlocal done
        events = _events(cards, done)
        done += len(cards)
        return _timed(lambda: kernel.decide(events), clock)

    decide(np.arange(1))
    filling = [
        decide(np.arange(first, min(first + BATCH_ROWS, keys)), time.process_time)
        for first in range(0, keys, BATCH_ROWS)
    ]

    def snapshot() -> dict[str, Any]:
        position = {TopicPartition("transactions", 0): done}
        started = time.perf_counter()
        cpu = time.process_time()
        pause = _timed(lambda: recovery.keep([(kernel, Counts())], position))
        cpu = time.process_time() - cpu
        meanwhile = [decide(chance.integers(0, keys, 1)) for _ in range(ALONE)]
        recovery.settle()
        newest = max((folder / "snapshots").glob("*.snapshot"))
        return {
            "pause_ms": round(pause * 1000, 1),
            "pause_cpu_ms": round(cpu * 1000, 1),
            "written_s": round(time.perf_counter() - started, 1),
            "bytes": newest.stat().st_blocks * 512,
            "one_event_meanwhile_ms": _spread_ms(meanwhile),
        }

    alone = [decide(chance.integers(0, keys, 1)) for _ in range(ALONE)]
    whole = snapshot()
    decide(chance.integers(0, keys, BETWEEN))
    changes = snapshot()
    recovery.close()
    log.close()
    state = kernel.state()
    return {
        "keys": keys,
        "state_bytes": sum(array.nbytes for array in state.values()),
        "filled_cpu_s": round(sum(filling), 1),
        "batch_cpu_ms": {"median": round(float(np.median(filling)) * 1000), "worst": round(max(filling) * 1000)},
        "one_event_ms": _spread_ms(alone),
        "whole": whole,
        "changes": changes,
    }


def _restore(folder: Path) -> dict[str, Any]:
    from tidegate.adapters.embedded.snapshots import EmbeddedSnapshots

    snapshots, kernel = EmbeddedSnapshots(folder / "snapshots"), _kernel()
    kernel.decide({})
    started, cpu = time.perf_counter(), time.process_time()
    found = snapshots.newest("many")
    assert found is not None
    checked = time.perf_counter()
    kernel.restore(found.arrays)
    restored, cpu = time.perf_counter(), time.process_time() - cpu
    (done,) = found.positions.values()
    first = [_timed(lambda n=n: kernel.decide(_events(np.array([n * 7919]), done + n))) for n in range(ALONE)]
    return {
        "seconds": round(restored - started, 2),
        "cpu_s": round(cpu, 2),
        "of_these_checking": round(checked - started, 2),
        "one_event_then_ms": _spread_ms(first),
    }


def _in_a_process(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.restore", *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _forget(folder: Path) -> None:
    """Have the system's cache let go of the files."""
    for path in folder.glob("*.snapshot"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(keys: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        measured = _in_a_process("fill", folder, str(keys))
        warm = _in_a_process("restore", folder)
        _forget(Path(folder) / "snapshots")
        return measured | {"warm": warm, "cold": _in_a_process("restore", folder)}


def main() -> None:
    match sys.argv[1:]:
        case ["fill", folder, keys]:
            print(json.dumps(_fill(Path(folder), int(keys))))
        case ["restore", folder]:
            print(json.dumps(_restore(Path(folder))))
        case arguments:
            print(json.dumps(measure(int(arguments[0]) if arguments else KEYS), indent=1))


if __name__ == "__main__":
    main()
