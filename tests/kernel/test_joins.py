"""ASOF joins: the kernel against its naive twin and DuckDB, over timelines that hypothesis draws, and some drawn by hand."""

import itertools

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernel.transactions import MINUTE_US, START_US, same_arrays, transactions

from tidegate.errors import DetectorError, StateError
from tidegate.kernel import versions
from tidegate.kernel.arrivals import Arrived
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import compile_detector
from tidegate.streams.schema import load_schema

SQL = """
SELECT
    t.event_id,
    t.event_time,
    c.segment,
    c.event_time AS since,
    upper(c.country) || ' ' || t.currency AS label,
    s.quantity < s.reorder_at AS is_short,
    s.quantity,
    busy.quantity AS busy_quantity,
    COUNT(*) FILTER (WHERE c.segment = 'new') OVER card AS card_new,
    COUNT(DISTINCT c.country) OVER card AS card_countries,
    SUM(s.quantity) OVER card AS card_quantity,
    COUNT(*) OVER by_segment AS segment_payments
FROM transactions AS t
ASOF LEFT JOIN customers AS c ON t.customer_id = c.customer_id AND t.event_time >= c.event_time
ASOF LEFT JOIN stock AS s
    ON t.merchant_id = s.shop_id AND s.sku = t.merchant_category AND s.event_time <= t.event_time
ASOF LEFT JOIN stock AS busy
    ON busy.quantity > 5 AND t.merchant_id = busy.shop_id AND t.event_time >= busy.event_time
WINDOW
    card AS (PARTITION BY pan ORDER BY t.event_time RANGE BETWEEN INTERVAL 30 MINUTE PRECEDING AND CURRENT ROW),
    by_segment AS (
        PARTITION BY c.segment ORDER BY t.event_time RANGE BETWEEN INTERVAL 1 HOUR PRECEDING AND CURRENT ROW
    )
"""
POLICY = "lateness: 10 minutes\ndedupe: 1 day\noutcomes: {review: 40, decline: 80}\ncap: 100\n"


def texts(sql=SQL, policy=POLICY, rules="rules: []"):
    return {"features.sql": sql, "rules.yaml": rules, "policy.yaml": policy}


DETECTOR = compile_detector("joined", texts())
STREAMS = ("transactions", "customers", "stock")


@pytest.fixture(autouse=True, scope="module")
def small_first_arrays():
    """So that a short timeline makes every array grow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "_FIRST_VERSIONS", 2)
        patch.setattr(versions, "_FIRST_BYTES", 4)
        yield


def batches(events):
    """What a list of (stream, row) is to the kernel."""
    arrived = {}
    for stream in dict.fromkeys(stream for stream, _ in events):
        at = [index for index, (of, _) in enumerate(events) if of == stream]
        rows = [events[index][1] for index in at]
        batch = (
            transactions(rows)
            if stream == "transactions"
            else pa.RecordBatch.from_pylist(rows, load_schema(stream).arrow)
        )
        arrived[stream] = Arrived(np.array(at, np.int64), batch)
    return arrived


@st.composite
def timelines(draw):
    """Events and versions around a clock that goes on: ties, out of order, late, very late, the same id twice."""
    events, clock = [], START_US
    for number in range(draw(st.integers(1, 40))):
        clock += draw(st.sampled_from([0, 0, 1, 3, 7, 30])) * MINUTE_US
        time = clock - draw(st.sampled_from([0, 0, 0, 1, 3, 9, 11, 40])) * MINUTE_US
        stream = draw(st.sampled_from(STREAMS))
        row = {"event_id": f"{stream} {draw(st.integers(0, 30))}", "event_time": time}
        if stream == "transactions":
            row |= {
                "event_id": f"transaction {number}",
                "customer_id": draw(st.sampled_from("ab")),
                "merchant_id": draw(st.sampled_from([None, "m", "n"])),
                "merchant_category": draw(st.sampled_from([None, "x", "y"])),
                "pan": draw(st.sampled_from([None, "p", "q"])),
            }
        elif stream == "customers":
            row |= {
                "customer_id": draw(st.sampled_from("ab")),
                "segment": draw(st.sampled_from([None, "new", "gold", "ümlaut"])),
                "country": draw(st.sampled_from([None, "", "de", "fr"])),
            }
        else:
            row |= {
                "shop_id": draw(st.sampled_from("mn")),
                "sku": draw(st.sampled_from("xy")),
                "quantity": draw(st.integers(0, 10)),
                "reorder_at": draw(st.integers(0, 10)),
            }
        events.append((stream, row))
    return events


class Twin:
    """Every version that ever came in one list, every answer by a look at all of them."""

    LATENESS_US = 10 * MINUTE_US

    def __init__(self):
        self.clock = -(2**62)
        self.versions = []

    def kept(self, holds):
        """The versions that meet a condition and are kept, in order of time; of one time, of arrival."""
        fitting = sorted((row for row in self.versions if holds(row)), key=lambda row: row["event_time"])
        floor = self.clock - self.LATENESS_US
        old = [row for row in fitting if row["event_time"] <= floor]
        return old[-1:] + [row for row in fitting if row["event_time"] > floor]

    def add(self, table, row):
        """A version, unless it is a duplicate of one that is kept for the same key."""
        name, key = table
        row = row | {"table": name}
        same = self.kept(lambda other: other["table"] == name and all(other[k] == row[k] for k in key))
        if not any(r["event_id"] == row["event_id"] and r["event_time"] == row["event_time"] for r in same):
            self.versions.append(row)

    def apply(self, stream, row):
        if stream == "customers":
            self.add(("c", ("customer_id",)), row)
            return None
        if stream == "stock":
            self.add(("s", ("shop_id", "sku")), row)
            if row["quantity"] > 5:
                self.add(("busy", ("shop_id",)), row)
            return None
        self.clock = max(self.clock, row["event_time"])

        def seen(table, **key):
            kept = self.kept(lambda r: r["table"] == table and all(r[k] == v for k, v in key.items()))
            visible = [r for r in kept if r["event_time"] <= row["event_time"]]
            return visible[-1] if visible else dict.fromkeys(("event_time", "segment", "country", "quantity"))

        customer = seen("c", customer_id=row["customer_id"])
        stock = seen("s", shop_id=row["merchant_id"], sku=row["merchant_category"])
        busy = seen("busy", shop_id=row["merchant_id"])
        return (customer["event_time"], customer["segment"], stock["quantity"], busy["quantity"])


def decisions(kernel, events):
    table = kernel.decide(batches(events)).table()
    since = table["since"].cast(pa.int64()).to_pylist()
    return list(
        zip(since, *(table[name].to_pylist() for name in ("segment", "quantity", "busy_quantity")), strict=True)
    )


@settings(max_examples=150, deadline=None)
@given(timelines(), st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_the_kernel_equals_its_twin_however_it_is_cut_and_restarted(events, cuts, restores):
    kernel, found = Kernel(DETECTOR), []
    edges = [0, *sorted(cut for cut in cuts | restores if 0 < cut < len(events)), len(events)]
    for start, end in itertools.pairwise(edges):
        if start in restores:
            arrays = kernel.snapshot()
            kernel = Kernel(DETECTOR)
            kernel.restore(arrays)
            assert same_arrays(kernel.snapshot(), arrays)
        found += decisions(kernel, events[start:end])
    twin = Twin()
    answers = [twin.apply(stream, row) for stream, row in events]
    assert found == [answer for answer in answers if answer]
    whole, pieces = Kernel(DETECTOR), Kernel(DETECTOR)
    expected = whole.decide(batches(events)).records()
    assert [record for event in events for record in pieces.decide(batches([event])).records()] == expected
