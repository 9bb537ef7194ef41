"""The work that is measured. A case does its set-up, then yields to be timed, and returns what it computed.

Each case runs in a process of its own (`python -m benchmarks.cases WORKLOAD SYSTEM`), so that its peak memory is its
own, and prints one JSON object.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.events import ROOT, company_records, handbook_rows

#: Rows of a micro-batch.
BATCH_ROWS = 4_096

Case = Callable[[], tuple[int, Callable[[], pa.Table]]]


def _company_rows() -> pa.Table:
    from tidegate.streams.batch import to_batch
    from tidegate.streams.schema import load_schema

    rows = pa.Table.from_batches([to_batch(load_schema("transactions"), company_records())])
    # Each event once: the kernel passes over repeats, DuckDB knows none.
    _, first = np.unique(rows["event_id"].to_numpy(zero_copy_only=False), return_index=True)
    return rows.take(np.sort(first)).sort_by("event_time").combine_chunks()


def _tidegate(name: str, rows: pa.Table) -> tuple[int, Callable[[], pa.Table]]:
    """The kernel: features, rules, scores, outcomes."""
    from tidegate.kernel.arrivals import Arrived
    from tidegate.kernel.decide import Kernel
    from tidegate.wiring import read_detector

    detector = read_detector(ROOT / "detectors" / name)
    batches = [{"transactions": Arrived.alone(batch)} for batch in rows.to_batches(BATCH_ROWS)]
    Kernel(detector).decide(batches[0])  # compiles
    kernel = Kernel(detector)
    return rows.num_rows, lambda: pa.concat_tables(kernel.decide(batch).table() for batch in batches)


def _duckdb(name: str, rows: pa.Table) -> tuple[int, Callable[[], pa.Table]]:
    """DuckDB, batch, one thread: the same SQL text over the same rows, features only."""
    from tidegate.streams.schema import load_schema
    from tidegate.wiring import read_detector

    connection = duckdb.connect(config={"threads": 1})
    connection.register("transactions", rows.append_column("is_fraud", pa.nulls(rows.num_rows, pa.bool_())))
    for stream in read_detector(ROOT / "detectors" / name).streams:
        if stream not in ("transactions", "labels"):  # tables that are joined: nothing has come to them
            connection.register(stream, load_schema(stream).arrow.empty_table())
    text = (ROOT / "detectors" / name / "features.sql").read_text("utf-8").strip().rstrip(";")
    return rows.num_rows, lambda: connection.sql(text).to_arrow_table()


CASES: dict[tuple[str, str], Case] = {
    ("handbook features", "tidegate"): lambda: _tidegate("handbook", handbook_rows()),
    ("handbook features", "duckdb, batch"): lambda: _duckdb("handbook", handbook_rows()),
    ("card_fraud, 56 features and 43 rules", "tidegate"): lambda: _tidegate("card_fraud", _company_rows()),
    ("card_fraud, 56 features and 43 rules", "duckdb, batch"): lambda: _duckdb("card_fraud", _company_rows()),
}


def main() -> None:
    """Run one case and print what it took."""
    workload, system = sys.argv[1:3]
    events, work = CASES[workload, system]()
    wall, cpu = time.perf_counter(), time.process_time()
    answer = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    numbers = {
        field.name: answer.column(field.name).cast(pa.float64()).to_numpy()
        for field in answer.schema
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
    }
    print(
        json.dumps(
            {
                "events": events,
                "seconds": wall,
                "cpu_s": cpu,
                "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "checksums": {name: float(np.nansum(values)) for name, values in numbers.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
