"""ASOF joins: the kernel against its naive twin and DuckDB over drawn timelines, and some drawn by hand."""

import itertools
from decimal import Decimal

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernel.transactions import MINUTE_US, START_US, same_arrays, transactions

from tidegate.errors import DetectorError, StateError
from tidegate.kernel.arrivals import Arrived
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import compile_detector
from tidegate.kernel.joins import versions
from tidegate.kernel.machine.clock import pass_time
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
        self.registers = [-(2**62), 0, 0]
        self.versions = []

    def kept(self, holds):
        """The versions that meet a condition and are kept, in order of time; of one time, of arrival."""
        fitting = sorted((row for row in self.versions if holds(row)), key=lambda row: row["event_time"])
        floor = self.registers[0] - self.LATENESS_US
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
        pass_time(self.registers, self.LATENESS_US, row["event_time"])

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


# Drawn by hand. -------------------------------------------------------------------------------------------------------


def at(minutes):
    return START_US + minutes * MINUTE_US


def payment(minutes, **columns):
    return ("transactions", {"event_id": f"payment at {minutes}", "event_time": at(minutes), **columns})


def customer(minutes, segment, event_id=None, customer_id="customer_a"):
    row = {"event_id": event_id or f"{segment} at {minutes}", "event_time": at(minutes), "segment": segment}
    return ("customers", row | {"customer_id": customer_id})


SEGMENTS = texts("""
SELECT c.segment, COALESCE(c.segment = 'new', true) AS is_new, amount_minor AS minor,
FROM transactions AS t
ASOF LEFT JOIN customers AS c ON t.customer_id = c.customer_id AND t.event_time >= c.event_time
""")


def segments(*events, policy=POLICY):
    """What each payment saw, one event after the other."""
    kernel = Kernel(compile_detector("segments", SEGMENTS | {"policy.yaml": policy}))
    return [seen for event in events for seen in kernel.decide(batches([event])).features["segment"].to_pylist()]


def test_a_version_is_seen_as_of_the_events_own_time():
    #  0       5       9
    #  gold    new             a payment at 4 sees gold, whenever it comes; one at -1 nothing
    events = [customer(0, "gold"), customer(5, "new"), payment(9), payment(4), payment(5), payment(-1)]
    assert segments(*events) == ["new", "gold", "new", None]


def test_a_version_that_has_not_arrived_is_not_seen_and_is_placed_in_time():
    assert segments(payment(6), customer(8, "new"), customer(5, "gold"), payment(7), payment(9)) == [
        None,
        "gold",
        "new",
    ]


def test_of_versions_of_one_time_the_last_to_come_is_seen():
    assert segments(customer(5, "gold"), customer(5, "new"), payment(5)) == ["new"]


def test_the_same_version_twice_changes_nothing():
    assert segments(customer(5, "gold", "1"), customer(5, "new", "2"), customer(5, "gold", "1"), payment(6)) == ["new"]


def test_an_event_later_than_the_lateness_sees_only_what_is_kept():
    #  0       5       8              30       of what is not newer than 20 only the version of 8 is kept
    events = [customer(0, "gold"), customer(5, "new"), customer(8, "old"), payment(30), payment(6), payment(9)]
    assert segments(*events) == ["old", None, "old"]
    # A version that comes too late to be the newest of these is not kept either.
    assert segments(*events, customer(7, "gold"), payment(7), payment(31)) == ["old", None, "old", None, "old"]


def test_null_is_equal_to_nothing():
    sql = SEGMENTS["features.sql"].replace("t.customer_id = c.customer_id", "t.email = c.email")
    kernel = Kernel(compile_detector("segments", SEGMENTS | {"features.sql": sql}))
    decided = kernel.decide(batches([customer(0, "gold"), payment(1)]))
    assert decided.features["segment"].to_pylist() == [None]


def test_what_is_no_longer_kept_is_freed():
    kernel = Kernel(compile_detector("segments", SEGMENTS))
    for minute in range(0, 18_000, 9):
        kernel.decide(batches([customer(minute, f"segment {minute}"), payment(minute + 1)]))
    (size,) = kernel._joins.sizes().values()
    assert size.keys == 1
    assert size.rows <= 8
    assert size.bytes < 3_000


def test_a_snapshot_of_other_joins_is_refused():
    arrays = Kernel(DETECTOR).snapshot()
    joins = Kernel(compile_detector("segments", SEGMENTS))._joins
    with pytest.raises(StateError, match="another plan"):
        joins.restore(arrays)
    arrays = joins.state()
    del arrays["clock"]
    with pytest.raises(StateError, match="lacks clock"):
        joins.restore(arrays)


# Freshness. -----------------------------------------------------------------------------------------------------------

WATCHED = POLICY + "joins: {c: {missing: review, stale: 45 points, stale_after: 1 day}}\n"
TWO_DAYS = 2 * 24 * 60


def test_a_decision_says_which_version_it_read_and_what_was_not_fresh():
    detector = compile_detector("segments", SEGMENTS | {"policy.yaml": WATCHED})
    events = [payment(0), customer(1, "gold"), payment(2), payment(TWO_DAYS)]
    missing, fresh, stale = Kernel(detector).decide(batches(events)).records()
    assert (fresh.versions, fresh.freshness, fresh.outcome, fresh.reasons) == ({"c": at(1)}, {}, "approve", [])
    assert (missing.versions, missing.outcome, missing.score) == ({}, "review", 0)
    assert missing.freshness == {"segment": "defaulted", "is_new": "defaulted"}
    assert (missing.points, missing.reasons) == ({"c missing": 0}, ["Nothing is known of c"])
    assert (stale.versions, stale.outcome, stale.score) == ({"c": at(1)}, "review", 45)
    assert stale.freshness == {"segment": "stale", "is_new": "stale"}
    assert (stale.points, stale.reasons) == ({"c stale": 45}, ["What is known of c is old"])


def test_a_join_that_the_policy_does_not_name_lacks_nothing():
    (record,) = Kernel(compile_detector("segments", SEGMENTS)).decide(batches([payment(0)])).records()
    assert (record.versions, record.freshness, record.outcome) == ({}, {}, "approve")


@pytest.mark.parametrize(
    ("joins", "said"),
    [
        ("{d: {missing: review}}", "the join 'd'; expected a known name, such as c|one of c"),
        ("{c: {missing: reviews}}", "'reviews'; expected nothing, review, decline or '20 points'"),
        ("{c: {missing: -5 points}}", "'-5 points'"),
        ("{c: {stale: review}}", "the keys stale; expected stale and stale_after"),
        ("{c: {stale: review, stale_after: often}}", "'often'; expected a duration"),
        ("{c: {late: review}}", "the unknown key 'late'"),
        ("[c]", "a list; expected a mapping"),
    ],
)
def test_what_is_wrong_with_the_policy_of_joins_is_told_with_its_place(joins, said):
    with pytest.raises(DetectorError, match=said) as caught:
        compile_detector("segments", SEGMENTS | {"policy.yaml": f"{POLICY}joins: {joins}\n"})
    assert str(caught.value).startswith("policy.yaml:5:")


# The text. ------------------------------------------------------------------------------------------------------------

DAY = "RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW"

ON = "t.customer_id = c.customer_id AND t.event_time >= c.event_time"


@pytest.mark.parametrize(
    ("from_", "found", "expected"),
    [
        (f"ASOF JOIN customers AS c ON {ON}", "leaves events out", "ASOF LEFT JOIN"),
        (f"LEFT JOIN customers AS c ON {ON}", "LEFT JOIN", "ASOF LEFT JOIN"),
        (f"JOIN customers AS c ON {ON}", "JOIN", "ASOF LEFT JOIN"),
        (", customers AS c", "customers", "ASOF LEFT JOIN"),
        ("ASOF LEFT JOIN customers AS c USING (customer_id, event_time)", "USING", "ASOF LEFT JOIN"),
        ("ASOF LEFT JOIN customers AS c ON t.event_time >= c.event_time", "without a key", "t.key = c.key"),
        ("ASOF LEFT JOIN customers AS c ON t.customer_id = c.customer_id", "without the time", "t.event_time >="),
        (f"ASOF LEFT JOIN customers AS c ON {ON.replace('>=', '>')}", ">", "t.key = c.key"),
        (f"ASOF LEFT JOIN customers AS c ON {ON.replace('>=', '<=')}", "<=", "t.event_time >= c.event_time"),
        (f"ASOF LEFT JOIN customers AS c ON {ON} AND t.amount_minor = c.segment", "=", "of one type"),
        (f"ASOF LEFT JOIN customers AS c ON {ON} AND t.amount_minor > 5", ">", "t.key = c.key"),
        (f"ASOF LEFT JOIN customers AS c ON {ON} AND c.segment", "VARCHAR", "BOOLEAN"),
        (f"ASOF LEFT JOIN customers AS c ON {ON} OR c.segment = 'a'", "OR", "t.key = c.key"),
        (f"ASOF LEFT JOIN customers AS c ON {ON} AND c.segments = 'a'", "c.segments", "c.segment"),
        (f"ASOF LEFT JOIN customer AS c ON {ON}", "'customer'", "customers"),
        ("ASOF LEFT JOIN transactions AS c ON t.pan = c.pan AND t.event_time >= c.event_time", "itself|with", "window"),
        ("ASOF LEFT JOIN labels AS c ON t.event_id = c.transaction_id AND t.event_time >= c.event_time", "", "window"),
        (f"ASOF LEFT JOIN customers AS t ON {ON}", "a second table 't'", "another name"),
        (f"ASOF LEFT JOIN (SELECT * FROM customers) AS c ON {ON}", "SELECT", "one stream"),
    ],
)
def test_a_join_that_is_not_in_the_dialect_is_refused(from_, found, expected):
    sql = f"SELECT amount_minor AS a FROM transactions AS t {from_}"
    with pytest.raises(DetectorError) as caught:
        compile_detector("broken", texts(sql))
    assert any(word in caught.value.found for word in found.split("|"))
    assert expected in caught.value.expected
    assert caught.value.line == 1


@pytest.mark.parametrize(
    ("item", "found", "expected"),
    [
        ("customer_id AS a", "'customer_id'", "t.customer_id or c.customer_id"),
        ("x.segment AS a", "'x'", "c"),
        ("c.amount_minor AS a", "c.amount_minor", "c."),
        ("c.event_time", "'event_time'", "name other than"),
        (f"COUNT(*) OVER (PARTITION BY pan ORDER BY c.event_time {DAY}) AS a", "c.event_time", "ORDER BY event_time"),
        ("t.is_fraud AS a", "is_fraud", "a window around it"),
    ],
)  # fmt: skip
def test_a_name_of_two_tables_or_of_none_is_refused(item, found, expected):
    sql = f"SELECT {item} FROM transactions AS t ASOF LEFT JOIN customers AS c ON {ON}"
    with pytest.raises(DetectorError) as caught:
        compile_detector("broken", texts(sql))
    assert found in caught.value.found
    assert expected in caught.value.expected


WITH = f"""
WITH known AS (
    SELECT t.*, c.segment, c.segment = 'new' AS is_new, coalesce(is_new, false) AS is_surely_new
    FROM transactions AS t
    ASOF LEFT JOIN customers AS c ON {ON}
)
SELECT customer_id, segment, is_surely_new, k.amount_minor AS minor,
    COUNT(*) FILTER (WHERE is_fraud AND NOT k.is_new) OVER card AS n
FROM known AS k
WINDOW card AS (PARTITION BY segment ORDER BY event_time {DAY})
"""


def test_a_with_gives_the_joined_columns_names_of_their_own():
    detector = compile_detector("with", texts(WITH))
    assert detector.streams == ("transactions", "labels", "customers")
    assert list(detector.features) == ["customer_id", "segment", "is_surely_new", "minor", "n"]
    decided = Kernel(detector).decide(batches([payment(0), customer(1, "new"), payment(2)])).table().to_pylist()
    assert [(row["segment"], row["is_surely_new"]) for row in decided] == [(None, False), ("new", True)]


@pytest.mark.parametrize(
    ("was", "becomes", "found", "expected"),
    [
        ("t.*, ", "", "c.segment", "t.*"),
        ("t.*, ", "*, ", "*", "t.*"),
        ("c.segment,", "c.segment AS pan,", "a second 'pan'", "a name that no column"),
        ("c.segment,", "NOT t.is_fraud AS x,", "'t.is_fraud'", "window"),
        ("FROM known AS k", "FROM transactions AS k", "transactions", "FROM known"),
        ("c.event_time\n)", "c.event_time\n    WHERE amount_minor > 5\n)", "WHERE", "WITH name AS"),
        ("WITH known AS", "WITH a AS (SELECT 1), known AS", "WITH", "WITH name AS"),
        ("c.segment,", "COUNT(*) OVER card AS m,", "a window", "without windows"),
        ("SELECT customer_id", "SELECT c.country AS home", "the table 'c'", "k"),
    ],
)
def test_a_with_that_is_not_in_the_dialect_is_refused(was, becomes, found, expected):
    assert was in WITH
    with pytest.raises(DetectorError) as caught:
        compile_detector("broken", texts(WITH.replace(was, becomes, 1)))
    assert found in caught.value.found
    assert expected in caught.value.expected


# DuckDB is the referee. -----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(timelines(), st.sampled_from([SQL, WITH]))
def test_duckdb_runs_the_same_text_and_gives_the_same_values(events, sql):
    settled = []
    for number, (stream, row) in enumerate(sorted(events, key=lambda event: event[1]["event_time"])):
        settled.append((stream, row | {"event_id": f"{stream} {number}", "event_time": row["event_time"] + number}))
    detector = compile_detector("joined", texts(sql))
    found = Kernel(detector).decide(batches(settled)).table()
    with duckdb.connect(config={"threads": 1}) as connection:
        for stream in STREAMS:
            rows = [row for of, row in settled if of == stream]
            table = (
                transactions(rows)
                if stream == "transactions"
                else pa.Table.from_pylist(rows, load_schema(stream).arrow)
            )
            connection.register(f"{stream}_rows", table)
            connection.execute(f"CREATE TABLE {stream} AS SELECT * FROM {stream}_rows")
        connection.execute("ALTER TABLE transactions ADD COLUMN is_fraud BOOLEAN")
        expected = connection.execute(
            f"SELECT * FROM ({sql.replace('SELECT customer_id', 'SELECT event_time, customer_id')}) ORDER BY event_time"
        ).to_arrow_table()
    for name in detector.features:
        assert list(map(plain, found[name].to_pylist())) == list(map(plain, expected[name].to_pylist())), name


def plain(value):
    return int(value) if isinstance(value, Decimal) else value
