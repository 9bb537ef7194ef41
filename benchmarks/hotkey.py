"""What one hot key costs: the same stream with and without an IP address that has 1 % of all traffic. Prints one JSON
object: CPU time an event, and the ratio. `python -m benchmarks.hotkey [EVENTS]`

500 events a second: a tenth of them come out of order by up to nine minutes, one of a hundred is late by up to half an
hour, one of a hundred is labelled ten minutes later. Windows of an hour to 30 days answer COUNT, SUM, MAX and COUNT
DISTINCT, and the same of what labels say.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

EVENTS = 500_000
BATCH_ROWS = 4_096
REPEATS = 3

HOT_SHARE, OUT_OF_ORDER, LATE, LABELLED = 0.01, 0.1, 0.01, 0.01

_START_US = 1_772_442_000_000_000
_GAP_US, _MINUTE_US = 2_000, 60_000_000
_LABEL_US = 10 * _MINUTE_US

_WINDOWS = {"hour": "'1' HOUR", "day": "'1' DAY", "week": "'7' DAY", "month": "'30' DAY"}
_ASKED = ("COUNT(*)", "SUM(amount_minor)", "MAX(amount_minor)", "COUNT(DISTINCT pan)", "COUNT(DISTINCT currency)")
_FRAUDS = ("COUNT(*)", "MAX(amount_minor)")


def _features() -> str:
    columns = [
        f"{asked} OVER {window} AS {window}_{number}" for window in _WINDOWS for number, asked in enumerate(_ASKED)
    ] + [
        f"{asked} FILTER (WHERE is_fraud) OVER {window} AS {window}_fraud_{number}"
        for window in ("week", "month")
        for number, asked in enumerate(_FRAUDS)
    ]
    windows = [
        f"{name} AS (PARTITION BY ip ORDER BY event_time RANGE BETWEEN INTERVAL {span} PRECEDING AND CURRENT ROW)"
        for name, span in _WINDOWS.items()
    ]
    return f"SELECT event_id, event_time, {', '.join(columns)} FROM transactions WINDOW {', '.join(windows)}"


def hot_detector() -> Any:
    from tidegate.kernel.detector import compile_detector

    policy = "lateness: 10 minutes\ndedupe: 1 hour\noutcomes: {review: 50, decline: 90}\ncap: 100\n"
    return compile_detector("hot", {"features.sql": _features(), "rules.yaml": "rules: []", "policy.yaml": policy})


def _batch(stream: str, own: dict[str, pa.Array[Any]]) -> pa.RecordBatch:
    from tidegate.streams.schema import load_schema

    schema, rows = load_schema(stream).arrow, len(own["event_id"])
    columns = [
        own[field.name].cast(field.type) if field.name in own else pa.nulls(rows, field.type) for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _texts(numbers: npt.NDArray[np.int64]) -> pa.Array[Any]:
    column: Any = pa.array(numbers)
    return column.cast(pa.string())


def stream(events: int, *, hot: bool) -> list[dict[str, Any]]:
    """Batches of payments and of the labels that came beside them."""
    from tidegate.kernel.arrivals import Arrived

    chance, number = np.random.default_rng(7), np.arange(events)
    late = np.where(chance.random(events) < OUT_OF_ORDER, chance.integers(0, 9 * _MINUTE_US, events), 0)
    late = np.where(chance.random(events) < LATE, chance.integers(0, 30 * _MINUTE_US, events), late)
    times: Any = pa.array(_START_US + number * _GAP_US - late, pa.timestamp("us"))
    ips = chance.integers(1, 1 + events // 10, events)
    ips = np.where((chance.random(events) < HOT_SHARE) & hot, 0, ips)
    own = {
        "event_id": _texts(number),
        "event_time": times,
        "ip": _texts(ips),
        "pan": _texts(chance.integers(0, events // 5, events)),
        "amount_minor": pa.array(chance.integers(1, 100_000, events)),
        "currency": pa.array(["EUR"] * events),
    }
    payments = _batch("transactions", own)
    chosen = np.flatnonzero(chance.random(events) < LABELLED)
    label_times: Any = pa.array(_START_US + chosen * _GAP_US + _LABEL_US, pa.timestamp("us"))
    labels = _batch(
        "labels",
        {
            "event_id": _texts(events + chosen),
            "event_time": label_times,
            "transaction_id": _texts(chosen),
            "is_fraud": pa.array(chance.random(len(chosen)) < 0.5),
        },
    )
    # A label comes after all payments up to its time.
    label_at = chosen + _LABEL_US // _GAP_US
    batches: list[dict[str, Any]] = []
    for first in range(0, events, BATCH_ROWS):
        last = min(first + BATCH_ROWS, events)
        few = np.searchsorted(label_at, [first, last])
        at, label_place = number[first:last] - first, label_at[few[0] : few[1]] - first
        batches.append(
            {
                "transactions": Arrived(2 * at, payments.slice(first, last - first)),
                "labels": Arrived(2 * label_place + 1, labels.slice(few[0], few[1] - few[0])),
            }
        )
    return batches


def run(detector: Any, batches: list[dict[str, Any]]) -> tuple[float, float]:
    """CPU seconds of all batches, and of the slowest."""
    from tidegate.kernel.decide import Kernel

    kernel, took = Kernel(detector), []
    for batch in batches:
        started = time.process_time()
        kernel.decide(batch)
        took.append(time.process_time() - started)
    return sum(took), max(took)


def main() -> None:
    events = int(sys.argv[1]) if sys.argv[1:] else EVENTS
    detector = hot_detector()
    streams = {"without": stream(events, hot=False), "with": stream(events, hot=True)}
    run(detector, streams["with"][:1])  # compiles
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in streams}
    for _ in range(REPEATS):
        for name, batches in streams.items():
            taken[name].append(run(detector, batches))
    each = {name: statistics.median(all_ for all_, _ in runs) / events * 1e6 for name, runs in taken.items()}
    print(
        json.dumps(
            {
                "events": events,
                "hot_events": sum(
                    batch["transactions"].events["ip"].to_pylist().count("0") for batch in streams["with"]
                ),
                "cpu_us_per_event": {name: round(us, 2) for name, us in each.items()},
                "slowest_batch_ms": {
                    name: round(statistics.median(most for _, most in runs) * 1000, 1) for name, runs in taken.items()
                },
                "ratio": round(each["with"] / each["without"], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
