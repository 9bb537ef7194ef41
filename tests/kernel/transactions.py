"""Batches of transactions and labels, made from the few columns that a test is about."""

import numpy as np
import pyarrow as pa

from tidegate.kernel.arrivals import Arrived
from tidegate.streams.schema import load_schema

TRANSACTIONS = load_schema("transactions").arrow
LABELS = load_schema("labels").arrow

#: 2026-01-01T00:00:00Z
START_US = 1_767_225_600_000_000

MINUTE_US = 60_000_000
DAY_US = 86_400_000_000

_ALWAYS = {
    "transaction_type": "purchase",
    "channel": "pos",
    "card_present": True,
    "authorisation": "approved",
    "customer_id": "customer_a",
    "amount_minor": 100,
    "currency": "EUR",
}


def transactions(rows):
    """A batch of rows, dicts of columns; `event_id` is e0, e1, ... and `event_time` a minute apart unless told."""
    filled = [
        {"event_id": f"e{number}", "event_time": START_US + number * MINUTE_US, **_ALWAYS, **row}
        for number, row in enumerate(rows)
    ]
    return pa.RecordBatch.from_pylist(filled, TRANSACTIONS)


def labels(verdicts, *, time=START_US):
    """Label events of (transaction id, is_fraud)."""
    rows = [
        {"event_id": f"l{number}", "event_time": time, "transaction_id": of, "is_fraud": fraud, "source": "analyst"}
        for number, (of, fraud) in enumerate(verdicts)
    ]
    return pa.RecordBatch.from_pylist(rows, LABELS)


def arrived(events, verdicts=None, before=None):
    """Transactions, and labels before the events with these indexes; without: after all."""
    if verdicts is None:
        return {"transactions": Arrived.alone(events)}
    if before is None:
        before = [events.num_rows] * verdicts.num_rows
    own, before = np.arange(events.num_rows), np.array(before, np.int64)
    return {
        "transactions": Arrived(own + np.searchsorted(before, own, side="right"), events),
        "labels": Arrived(before + np.arange(verdicts.num_rows), verdicts),
    }


def labelled(batch, known):
    """The batch as a table that DuckDB can run a detector's SQL over: `is_fraud` is what is known by event id."""
    verdicts = [known.get(event_id) for event_id in batch.column("event_id").to_pylist()]
    return pa.Table.from_batches([batch]).append_column("is_fraud", pa.array(verdicts, pa.bool_()))


def same_arrays(left, right):
    """Whether two snapshots are equal to the bit."""
    return left.keys() == right.keys() and all(
        np.array_equal(np.asarray(left[name]).view(np.uint8), np.asarray(right[name]).view(np.uint8)) for name in left
    )
