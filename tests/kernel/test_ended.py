"""Versions of joined tables that leave: what has ended, and what is older than `keep`; no answer is another for it."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernel.test_joins import POLICY, at, batches, payment, texts
from tests.kernel.transactions import MINUTE_US

from tidegate.errors import DetectorError
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import compile_detector
from tidegate.kernel.joins import versions
from tidegate.kernel.machine.clock import pass_time
from tidegate.wiring import read_detector

ON = "t.merchant_id = d.merchant_id AND t.event_time >= d.event_time"
JOIN = f"FROM transactions AS t ASOF LEFT JOIN lists AS d ON d.list = 'deny' AND {ON}"
STANDS = "COALESCE(NOT d.removed AND COALESCE(t.event_time < d.expires_at, true), false)"
DENIED = texts(f"SELECT {STANDS} AS is_denied, amount_minor AS minor {JOIN}")

#: Reads the version itself, so that what has ended can be told from none.
TOLD = texts(f"SELECT {STANDS} AS is_denied, d.reason {JOIN}")


LATENESS_US = 10 * MINUTE_US


@pytest.fixture(autouse=True, scope="module")
def small_first_arrays():
    """So that what may leave does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "_FIRST_VERSIONS", 2)
        patch.setattr(versions, "_FIRST_BYTES", 4)
        yield


def ends_of(detector):
    return [table.ends for table in detector.compiled.joins.tables]


def compiled(texts):
    return compile_detector("lists", texts)


def entry(minutes, expires=None, *, removed=False, merchant="m", number=0, **columns):
    row = {
        "event_id": f"{merchant} at {minutes}, {number}",
        "event_time": at(minutes),
        "list": "deny",
        "merchant_id": merchant,
        "expires_at": None if expires is None else at(expires),
        "removed": removed,
    }
    return ("lists", row | columns)


@st.composite
def timelines(draw):
    """Payments and entries around a clock that goes on, most of which end soon."""
    events, clock = [], 0
    for number in range(draw(st.integers(1, 40))):
        clock += draw(st.sampled_from([0, 0, 1, 3, 7, 30]))
        minutes = clock - draw(st.sampled_from([0, 0, 0, 1, 3, 9, 11, 40]))
        merchant = draw(st.sampled_from("mn"))
        if draw(st.booleans()):
            events.append(payment(minutes, event_id=f"p{number}", merchant_id=merchant))
        else:
            expires = draw(st.sampled_from([None, minutes - 2, minutes, minutes + 1, minutes + 5, minutes + 20]))
            removed = draw(st.sampled_from([False, False, True]))
            events.append(entry(minutes, expires, removed=removed, merchant=merchant, number=draw(st.integers(0, 2))))
    return events


class Twin:
    """Forgets at once, by the rule said in words: docs/semantics.md, Joins."""

    def __init__(self, keep_minutes=None):
        self.keep_us = None if keep_minutes is None else keep_minutes * MINUTE_US
        self.registers = [-(2**62), 0, 0]
        self.entries = []

    @property
    def floor(self):
        return self.registers[0] - LATENESS_US

    def end(self, row):
        ends = [] if row["expires_at"] is None else [row["expires_at"]]
        if row["removed"]:
            ends.append(row["event_time"])
        if self.keep_us is not None:
            ends.append(row["event_time"] + self.keep_us + 1)
        return max(min(ends, default=2**62), row["event_time"])

    def forget(self):
        for merchant in "mn":
            old = [row for row in self.entries if row["merchant_id"] == merchant and row["event_time"] <= self.floor]
            gone = old if old and self.end(old[-1]) <= self.floor else old[:-1]
            self.entries = [row for row in self.entries if row not in gone]

    def apply(self, stream, row):
        if stream == "lists":
            self.forget()
            same = [old for old in self.entries if old["merchant_id"] == row["merchant_id"]]
            newest_old = [old for old in same if old["event_time"] <= self.floor][-1:]
            known = any(all(old[name] == row[name] for name in ("event_id", "event_time")) for old in same)
            if not known and not (newest_old and newest_old[0]["event_time"] > row["event_time"]):
                self.entries = sorted([*self.entries, row], key=lambda each: each["event_time"])
            return None
        pass_time(self.registers, LATENESS_US, row["event_time"])
        self.forget()
        of = [each for each in self.entries if each["merchant_id"] == row["merchant_id"]]
        seen = [each for each in of if each["event_time"] <= row["event_time"]][-1:]
        return [bool(seen and self.end(seen[0]) > row["event_time"])]


def keeping(minutes):
    """Sees each entry for so long; None: as it says itself."""
    if minutes is None:
        return compiled(DENIED)
    sql = f"SELECT d.event_time IS NOT NULL AS is_denied, amount_minor AS minor {JOIN}"
    return compiled(texts(sql, POLICY + f"joins: {{d: {{keep: {minutes} minutes}}}}\n"))


DETECTORS = {minutes: keeping(minutes) for minutes in (None, 4, 15)}
KEEPS = compiled(TOLD)


@settings(max_examples=60, deadline=None)
@given(timelines(), st.sets(st.integers(0, 40)), st.sampled_from(list(DETECTORS)))
def test_the_kernel_forgets_as_its_twin_does_however_it_is_cut(events, cuts, keep):
    if keep:
        for stream, row in events:
            row.update({"expires_at": None, "removed": False} if stream == "lists" else {})
    twin, kernel, found = Twin(keep), Kernel(DETECTORS[keep]), []
    for start, end in itertools.pairwise([0, *sorted(cut for cut in cuts if 0 < cut < len(events)), len(events)]):
        found += kernel.decide(batches(events[start:end])).features["is_denied"].to_pylist()
        if start % 2:
            arrays, kernel = kernel.snapshot(), Kernel(DETECTORS[keep])
            kernel.restore(arrays)
    assert found == [seen for event in events for seen in twin.apply(*event) or []]


@settings(max_examples=30, deadline=None)
@given(timelines())
def test_who_comes_in_time_is_told_the_same_whether_what_has_ended_left_or_not(events):
    twin, in_time = Twin(), []
    for stream, row in events:
        if row["event_time"] > twin.floor:
            in_time.append((stream, row))
            twin.apply(stream, row)
    forgets, keeps = (
        Kernel(each).decide(batches(in_time)).features["is_denied"].to_pylist() for each in (DETECTORS[None], KEEPS)
    )
    assert forgets == keeps


def test_entries_that_have_ended_leave_with_their_keys():
    kernel = Kernel(compiled(DENIED))
    for minute in range(0, 4_500, 9):
        kernel.decide(batches([entry(minute, minute + 5, merchant=f"m{minute}"), payment(minute + 1)]))
    (size,) = kernel._joins.sizes().values()
    assert size.keys <= 16
    assert size.rows <= 16


def test_keys_of_a_table_leave_by_keep():
    policy = {"policy.yaml": POLICY + "joins: {d: {keep: 1 hour}}\n"}
    kernel = Kernel(compiled(TOLD | policy))
    for minute in range(0, 4_500, 9):
        kernel.decide(batches([entry(minute, merchant=f"m{minute}"), payment(minute + 1)]))
    (size,) = kernel._joins.sizes().values()
    assert size.keys <= 32
    seen = [payment(60, merchant_id="m"), payment(61, merchant_id="m")]
    decided = Kernel(compiled(TOLD | policy)).decide(batches([entry(0, reason="stolen"), *seen]))
    assert decided.features["reason"].to_pylist() == ["stolen", None]


@pytest.mark.parametrize(
    ("item", "ends"),
    [
        (STANDS, ("removed", "expires_at")),
        ("d.event_time IS NOT NULL AND NOT d.removed", ("removed",)),
        ("COALESCE(t.event_time >= d.expires_at, true)", ("expires_at",)),
        ("IF(d.removed OR d.expires_at <= t.event_time, 0, 1)", ()),
        ("CASE WHEN NOT d.removed AND d.expires_at > t.event_time THEN 1 ELSE 0 END", ("removed", "expires_at")),
        ("NOT d.removed", ()),
        ("d.list IS NOT NULL", ()),
        (f"COUNT(*) FILTER (WHERE {STANDS}) OVER w", ("removed", "expires_at")),
        ("COUNT(*) FILTER (WHERE d.removed) OVER w", ()),
        ("COUNT(*) OVER (PARTITION BY d.reason ORDER BY t.event_time RANGE INTERVAL 1 DAY PRECEDING)", ()),
    ],
)
def test_what_has_ended_may_leave_only_where_nobody_can_tell(item, ends):
    window = "WINDOW w AS (PARTITION BY t.pan ORDER BY t.event_time RANGE INTERVAL 1 DAY PRECEDING)"
    detector = compiled(texts(f"SELECT {item} AS told {JOIN} {window if 'OVER w' in item else ''}"))
    assert ends_of(detector) == [ends]


def test_what_policy_names_says_what_is_missing_and_keeps_what_has_ended():
    policy = POLICY + "joins: {d: {missing: 10 points}}\n"
    assert ends_of(compiled(DENIED | {"policy.yaml": policy})) == [()]


def test_joins_of_one_table_with_other_ends_have_tables_of_their_own():
    other = f"ASOF LEFT JOIN lists AS e ON e.list = 'deny' AND {ON.replace('d.', 'e.')}"
    sql = DENIED["features.sql"]
    both = texts(f"{sql} {other}".replace("amount_minor AS minor", "e.reason"))
    assert ends_of(compiled(both)) == [("removed", "expires_at"), ()]
    same = texts(f"{sql} {other}".replace("amount_minor AS minor", STANDS.replace("d.", "e.") + " AS too"))
    assert ends_of(compiled(same)) == [("removed", "expires_at")]


def test_keep_is_longer_than_what_makes_a_version_stale():
    policy = POLICY + "joins: {d: {stale: review, stale_after: 2 days, keep: 2 days}}\n"
    with pytest.raises(DetectorError, match="not longer than `stale_after`"):
        compiled(DENIED | {"policy.yaml": policy})


def test_the_shops_own_lists_forget():
    detector = read_detector(Path(__file__).resolve().parents[2] / "detectors" / "card_fraud")
    tables = {table.stream: table.ends for table in detector.compiled.joins.tables}
    assert tables["lists"] == ("removed", "expires_at")
