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
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

ROOT = Path(__file__).resolve().parents[1]
RAW = ROOT.parent / "shared" / "data" / "fdh_raw.parquet"

#: Rows of the handbook's data that a case works on, and rows of a micro-batch.
ROWS = 400_000
BATCH_ROWS = 4_096

Case = Callable[[], tuple[int, Callable[[], pa.Table]]]


def _handbook_rows() -> pa.Table:
    """The first transactions in order of time, as the stream has them, without labels.

    Of those that a customer makes in the same second there is only one: SQL would let each see the other.
    """
    from tidegate.streams.schema import load_schema

    source = duckdb.sql(
        f"""SELECT CAST(TRANSACTION_ID AS VARCHAR) AS event_id, CAST(TX_DATETIME AS TIMESTAMP) AS event_time,
            CAST(CUSTOMER_ID AS VARCHAR) AS customer_id, CAST(TERMINAL_ID AS VARCHAR) AS terminal_id,
            CAST(round(TX_AMOUNT * 100) AS BIGINT) AS amount_minor, 'USD' AS currency
            FROM '{RAW}' QUALIFY row_number() OVER (PARTITION BY CUSTOMER_ID, TX_DATETIME ORDER BY TRANSACTION_ID) = 1
            ORDER BY TX_DATETIME, TRANSACTION_ID LIMIT {ROWS}"""
    ).to_arrow_table()
    schema = load_schema("transactions").arrow
    columns = [
        source.column(field.name).cast(field.type) if field.name in source.column_names else pa.nulls(ROWS, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema).combine_chunks()


def handbook_tidegate() -> tuple[int, Callable[[], pa.Table]]:
    """The kernel: features, rules, scores, outcomes."""
    from tidegate.kernel.arrivals import Arrived
    from tidegate.kernel.decide import Kernel
    from tidegate.wiring import read_detector

    rows = _handbook_rows()
    detector = read_detector(ROOT / "detectors" / "handbook")
    batches = [Arrived.alone(batch) for batch in rows.to_batches(BATCH_ROWS)]
    Kernel(detector).decide({"transactions": batches[0]})  # compiles
    kernel = Kernel(detector)
    return ROWS, lambda: pa.concat_tables(kernel.decide({"transactions": batch}).table() for batch in batches)


def handbook_duckdb() -> tuple[int, Callable[[], pa.Table]]:
    """DuckDB, batch, one thread: the same SQL text over the same rows, features only."""
    connection = duckdb.connect(config={"threads": 1})
    rows = _handbook_rows().append_column("is_fraud", pa.nulls(ROWS, pa.bool_()))
    connection.register("transactions", rows)
    text = (ROOT / "detectors" / "handbook" / "features.sql").read_text("utf-8").strip().rstrip(";")
    return ROWS, lambda: connection.sql(text).to_arrow_table()


CASES: dict[tuple[str, str], Case] = {
    ("handbook features", "tidegate"): handbook_tidegate,
    ("handbook features", "duckdb, batch"): handbook_duckdb,
}


def main() -> None:
    """Run one case and print what it took."""
    workload, system = sys.argv[1:3]
    events, work = CASES[workload, system]()
    wall, cpu = time.perf_counter(), time.process_time()
    answer = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    numbers = [answer.column(name) for name in sorted(answer.column_names) if name.endswith("_window")]
    print(
        json.dumps(
            {
                "events": events,
                "seconds": wall,
                "cpu_s": cpu,
                "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "checksums": [float(np.nansum(column.cast(pa.float64()).to_numpy())) for column in numbers],
            }
        )
    )


if __name__ == "__main__":
    main()
