"""The events that are measured with."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa

ROOT = Path(__file__).resolve().parents[1]
RAW = ROOT.parent / "shared" / "data" / "fdh_raw.parquet"

#: `make bench QUICK=1`: a small form of all.
QUICK = bool(os.environ.get("QUICK"))

#: Rows of the handbook's data that a case works on, the day up to which it is replayed (empty: all of it), and payments
#: of the simulated company.
ROWS = 100_000 if QUICK else 400_000
HANDBOOK_UNTIL = "2018-04-15" if QUICK else ""
PAYMENTS = 10_000 if QUICK else 40_000

#: Events that fill the windows before one event's time is measured, and those that are measured: one takes some
#: milliseconds.
LATENCY_WARM, LATENCY_MEASURED = (300, 500) if QUICK else (2_000, 3_000)

#: Where payments of the simulated company are kept: to play them takes longer than to decide them.
_PAYMENTS = ROOT / "build" / "bench" / f"payments-{PAYMENTS}.ndjson"

#: 2026-03-02T09:00:00Z, a Monday.
_START_US = 1_772_442_000_000_000


def handbook_rows() -> pa.Table:
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


def as_transactions(events: pa.Table) -> pa.Table:
    """Events of the shared workload, as the stream has them."""
    from tidegate.streams.schema import load_schema

    rows = events.num_rows
    given = {
        "event_id": events["number"].cast(pa.string()),
        "event_time": events["event_time"].cast(pa.timestamp("us")),
        **{name: events[name] for name in ("pan", "device_id", "merchant_id", "ip", "amount_minor")},
    }
    always = {
        "transaction_type": "purchase",
        "channel": "ecommerce",
        "card_present": False,
        "authorisation": "approved",
        "customer_id": "customer",
        "currency": "EUR",
    }
    schema = load_schema("transactions").arrow
    columns = [
        given[field.name].cast(field.type)
        if field.name in given
        else pa.repeat(pa.scalar(always.get(field.name), field.type), rows)
        for field in schema
    ]
    return pa.table(columns, schema=schema).combine_chunks()


def company_records() -> list[bytes]:
    """Payments of the simulated company, 3 % of its stories fraud, as they stand in the log: clear values in the place
    of tokens.
    """
    from tidegate.simulator.company import Company
    from tidegate.simulator.day import Day

    if _PAYMENTS.exists():
        return _PAYMENTS.read_bytes().splitlines()
    day = Day(Company(7), start_us=_START_US, rate_per_s=200, fraud_share=0.03, spoiled_share=0)
    records: list[bytes] = []
    second = 0
    while len(records) < PAYMENTS:
        second += 1
        events = day.until(_START_US + second * 1_000_000)
        records += [_record(dict(event.body)) for event in events if event.stream == "transactions"]
    new = _PAYMENTS.with_suffix(".new")
    new.parent.mkdir(parents=True, exist_ok=True)
    new.write_bytes(b"\n".join(records[:PAYMENTS]))
    new.replace(_PAYMENTS)
    return records[:PAYMENTS]


def _record(body: dict[str, object]) -> bytes:
    time = datetime.fromisoformat(str(body["event_time"]))
    pan = body.get("pan")
    parts = {"pan_bin": str(pan)[:6], "pan_last4": str(pan)[-4:]} if pan else {}
    return msgspec.json.encode(body | parts | {"event_time": int(time.timestamp() * 1_000_000)})
