"""The window engine against its naive twin, over timelines that hypothesis draws, and timelines drawn by hand."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernel.twin import Label, Row, Twin, from_answers, hash_of, to_arrivals

from tidegate.errors import StateError, UsageError
from tidegate.kernel.machine.clock import WITNESSES
from tidegate.kernel.machine.table import TABLE_COUNT
from tidegate.kernel.plan import MAX_LANES, MAX_ROWS, NO_VALUE, Aggregate, Entity, LabelLane, Window, WindowPlan
from tidegate.kernel.windows import rowlog, storage
from tidegate.kernel.windows.windows import ROW, Arrivals, Windows

# Lane 0 reads no label; lane 1 counts as lane 2 once the row is known as fraud, as lane 3 once it is known as genuine.
EVERYTHING = WindowPlan(
    entities=(Entity(("card",)), Entity(("merchant", "country"))),
    windows=(Window(0, 5), Window(1, 3), Window(0, 12, 4), Window(1, 9), Window(0, 0), Window(1, 6, 6)),
    lanes=(0, 1, 2, 3),
    label_lanes=(LabelLane(1, 2, 3),),
    aggregates=tuple(
        Aggregate(function, window, lane, excludes_row)
        for window in range(6)
        for lane in (0, 1)
        for function in (
            "count",
            "sum",
            "min",
            "max",
            "count_distinct",
            "var_samp",
            "var_pop",
            "first_value",
            "last_value",
            "first_known",
            "last_known",
        )
        for excludes_row in (False, True)
    )
    + tuple(
        Aggregate(f"quantile_{which}", window, lane, share=(part, 10))
        for window in range(6)
        for lane in (0, 1)
        for which, part in itertools.product(("disc", "floor", "ceil"), (0, 3, 5, 10))
    )
    + tuple(Aggregate("count", window, -1, excludes_row) for window in range(6) for excludes_row in (True, False)),
    lateness_us=4,
    dedupe_us=10,
    ahead_us=9,
)

# The same over frames that rows bound, some beside frames that time bounds.
ROW_WINDOWS = (
    *(Window(0, 20, rows=(3, 0)), Window(0, 9, rows=(2, 2)), Window(1, 12, rows=(4, 1)), Window(0, 5)),
    *(Window(0, 30, gap_us=2), Window(1, 6, rows=(MAX_ROWS, 0), gap_us=4)),
)
BY_ROWS = replace(
    EVERYTHING,
    windows=ROW_WINDOWS,
    aggregates=tuple(
        each for each in EVERYTHING.aggregates if not each.excludes_row or ROW_WINDOWS[each.window].rows is None
    ),
)

VALUES = st.one_of(
    st.none(), st.integers(-3, 3), st.sampled_from([2**63 - 1, -(2**63), 2**62]), st.integers(-(2**63), 2**63 - 1)
)
IDS = st.integers(0, 30)


@pytest.fixture(autouse=True, scope="module")
def small_first_arrays():
    """So that a short timeline makes every array grow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "_FIRST_ROWS", 2)
        patch.setattr(storage, "_FIRST_ENTRIES", 4)
        yield


@st.composite
def timelines(draw, count=40):
    """Events around a clock that goes on, with times mostly near it: ties, out of order, late, very late."""
    events, clock = [], 0
    for _ in range(draw(st.integers(1, count))):
        clock += draw(st.sampled_from([0, 0, 1, 1, 2, 3, 8, 30]))
        time = clock - draw(st.sampled_from([0, 0, 0, 1, 2, 4, 5, 9, 17, 25]))
        if draw(st.integers(0, 3)) == 0:
            events.append(Label(time + draw(st.integers(-3, 6)), draw(IDS), draw(st.booleans())))
        else:
            keys = (draw(st.sampled_from("ab")), draw(st.sampled_from("xyz")))
            events.append(Row(time, draw(IDS), keys, tuple(draw(VALUES) for _ in range(4))))
    return events


def twin_answers(plan, events):
    twin = Twin(plan)
    return [twin.apply(event) for event in events]


def engine_answers(plan, events, cuts=(), restore_at=()):
    """`cuts`: where the stream is cut into calls; at those in `restore_at` the engine goes on from a snapshot."""
    windows, answers = Windows(plan), []
    for ring in storage.rings(windows._layout):
        windows._log.heap[ring + rowlog.RING_FIRST] = rowlog.MAX_NAMES - 7  # names start again in mid-timeline
    edges = [0, *sorted(set(cuts)), len(events)]
    for start, end in itertools.pairwise(edges):
        if start in restore_at:
            arrays = windows.state()
            windows = Windows(plan)
            windows.restore(arrays)
        piece = events[start:end]
        answers += from_answers(piece, windows.apply(to_arrivals(plan, piece)))
    return answers


@pytest.mark.parametrize("plan", [EVERYTHING, BY_ROWS])
@settings(max_examples=200, deadline=None)
@given(timelines(), st.lists(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_engine_equals_its_twin(plan, events, cuts, restore_at):
    answers = engine_answers(plan, events, [cut for cut in cuts if cut < len(events)], restore_at)
    same_answers(plan, answers, twin_answers(plan, events))


def same_answers(plan, answers, wanted):
    """A variance may be the other of two doubles that the true one lies half way between, as test_variance holds it to:
    here it is seen which rows it counts.
    """
    assert [replace(answer, values=()) for answer in answers] == [replace(answer, values=()) for answer in wanted]
    for answer, want in zip(answers, wanted, strict=True):
        assert len(answer.values) == len(want.values)  # a label and a duplicate have none
        for aggregate, value, wish in zip(plan.aggregates, answer.values, want.values, strict=False):
            if aggregate.function.startswith("var_") and None not in (value, wish):
                assert abs(value - wish) <= 1
            else:
                assert value == wish, aggregate


TEN_US = (Window(0, 10),)


def one_card(*aggregates, windows=TEN_US, lateness_us=5, dedupe_us=20, label_lanes=(), lanes=(0, 1, 2), ahead_us=10**9):
    return WindowPlan((Entity(("card",)),), windows, lanes, label_lanes, aggregates, lateness_us, dedupe_us, ahead_us)


def card_row(time, lanes=(None, None, None), event_id=None):
    return Row(time, event_id or f"row at {time}", ("card",), lanes)


def values(plan, *events):
    """The engine's answers to the rows among events; the twin's are the same."""
    answers = engine_answers(plan, events, cuts=range(len(events)))
    assert answers == twin_answers(plan, list(events))
    return [answer.values for answer, event in zip(answers, events, strict=True) if isinstance(event, Row)]


def test_both_edges_of_a_frame_are_in_it():
    #  0         10  11
    #  |----------|          10 sees 0
    #   |----------|         11 does not
    plan = one_card(Aggregate("count", 0, -1))
    assert values(plan, card_row(0), card_row(10), card_row(11)) == [(1,), (2,), (2,)]


def test_a_row_out_of_order_is_answered_as_of_its_own_time():
    #  0     4     8     12      arrive as 0, 8, 12, 4
    #  |<----4               4 sees 0, as 8 and 12 are after it
    #     |<--------12 ... 13    13 sees 4, 8 and 12
    plan = one_card(Aggregate("count", 0, -1), lateness_us=10)
    events = [card_row(0), card_row(8), card_row(12), card_row(4), card_row(13)]
    assert values(plan, *events) == [(1,), (2,), (2,), (2,), (4,)]


def test_a_delayed_frame_ends_before_the_row():
    #  0        5        10       15
    #  |<--frame of 15-->|            rows 0, 5 and 10 are in the frame [0, 10] of 15, 15 is not
    plan = one_card(Aggregate("count", 0, -1), windows=(Window(0, 15, 5),))
    assert values(plan, *(card_row(time) for time in (0, 5, 10, 15))) == [(0,), (1,), (2,), (3,)]


def test_a_label_is_seen_from_its_own_time_on():
    #  0      3       5      6
    #  row    |       |      row     the row of 0 becomes fraud at 5: 6 sees it,
    #         row, come last         3 does not, though it comes after the label
    plan = one_card(Aggregate("sum", 0, 0), label_lanes=(LabelLane(0, 1, 2),))
    events = [
        card_row(0, (0, 1, 0), "bought"),
        Label(5, "bought", fraud=True),
        card_row(6, (0, 1, 0)),
        card_row(3, (0, 1, 0)),
    ]
    assert values(plan, *events) == [(0,), (1,), (0,)]


def test_the_newest_label_counts_and_of_one_time_the_last_to_come():
    plan = one_card(Aggregate("sum", 0, 0), label_lanes=(LabelLane(0, 1, 2),))
    bought, probe = card_row(0, (0, 1, 2), "bought"), [card_row(9, (0, 0, 0), name) for name in ("p", "q", "r")]
    events = [
        bought,
        Label(5, "bought", fraud=False),
        Label(4, "bought", fraud=True),
        probe[0],
        Label(5, "bought", fraud=True),
        probe[1],
        Label(5, "bought", fraud=True),
        probe[2],
    ]
    assert values(plan, *events) == [(0,), (2,), (1,), (1,)]


def test_a_label_waits_for_its_transaction():
    plan = one_card(Aggregate("sum", 0, 0), label_lanes=(LabelLane(0, 1, 2),))
    events = [Label(3, "bought", fraud=True), card_row(2, (0, 1, 0), "bought"), card_row(4, (0, 1, 0))]
    assert values(plan, *events) == [(0,), (1,)]


def test_the_same_id_is_a_duplicate_as_long_as_its_row_is_kept():
    #  0 ......... 20  21      rows are kept for 20
    plan = one_card(Aggregate("count", 0, -1))
    answers = engine_answers(plan, [card_row(0, event_id="a"), card_row(20, event_id="a"), card_row(21, event_id="a")])
    assert [answer.duplicate for answer in answers] == [False, True, False]


def test_a_late_row_is_placed_and_marked():
    #  0    2            10
    #       2 comes after 10, more than 5 late: marked, and seen by 11 all the same
    plan = one_card(Aggregate("count", 0, -1))
    events = [card_row(0), card_row(10), card_row(2), card_row(11)]
    assert values(plan, *events) == [(1,), (2,), (2,), (3,)]
    assert [answer.late for answer in engine_answers(plan, events)] == [False, False, True, False]


def test_a_row_too_old_to_be_kept_is_answered_from_itself():
    plan = one_card(Aggregate("count", 0, -1), Aggregate("sum", 0, 0))
    events = [card_row(0), card_row(100), card_row(1, (7, None, None)), card_row(2)]
    assert values(plan, *events) == [(1, None), (1, None), (1, 7), (1, None)]


def test_a_sum_is_exact_beyond_64_bits_and_answered_as_the_nearest():
    plan = one_card(Aggregate("sum", 0, 0))
    largest = 2**63 - 1
    events = [card_row(0, (largest, None, None)), card_row(5, (largest, None, None)), card_row(11, (-5, None, None))]
    assert values(plan, *events) == [(largest,), (largest,), (largest - 5,)]


def test_what_has_grown_old_leaves_nothing_behind():
    plan = EVERYTHING
    rows = [Row(time, time, (f"a{time}", f"x{time % 3}"), (time, time, 1, 2)) for time in range(2000)]
    marks = [Label(row.time + 2, row.id, fraud=True) for row in rows] + [Label(9, f"no {n}", True) for n in range(300)]
    windows = Windows(plan)
    for start in range(0, len(rows), 7):
        windows.apply(to_arrivals(plan, rows[start : start + 7]))
        windows.apply(to_arrivals(plan, marks[start : start + 7]))
    for number in range(WITNESSES + 1):
        windows.apply(to_arrivals(plan, [Row(10**6 + 100 * number, f"last {number}", ("b", "y"), (1, 1, None, None))]))
    heap = windows._log.heap
    assert heap[rowlog.EVENTS + rowlog.RING_COUNT] <= WITNESSES + 1
    for size in windows.sizes().values():
        assert size.rows <= WITNESSES + 1
        assert size.keys == 1
        assert size.bytes < 20_000
    assert all(heap[register + TABLE_COUNT] <= WITNESSES + 1 for register in storage.tables(windows._layout))


def test_a_key_is_apart_from_the_same_key_of_another_entity():
    plan = WindowPlan(
        (Entity(("card",)), Entity(("account",))),
        (Window(0, 10), Window(1, 10)),
        (),
        (),
        (Aggregate("count", 0, -1), Aggregate("count", 1, -1)),
        0,
        0,
        10,
    )
    assert values(plan, Row(0, 1, ("k", "l")), Row(1, 2, ("l", "k")), Row(2, 3, ("k", "m"))) == [(1, 1), (1, 1), (2, 1)]


def steps(rows_in_frame):
    """Links followed for each of some rows of one key, whose frames hold so many rows."""
    script = Path(__file__).with_name("steps.py")
    root = Path(__file__).parents[2]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(  # numba must be told before it is imported
        [sys.executable, "-W", "ignore", script, str(rows_in_frame)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_what_a_row_costs_does_not_grow_with_the_rows_in_its_frames():
    few, many = steps(60), steps(600)
    assert sum(many) <= 1.2 * sum(few)
    assert max(many) <= 2 * max(few)


def test_a_snapshot_of_another_plan_is_refused():
    arrays = Windows(EVERYTHING).state()
    with pytest.raises(StateError, match="another plan"):
        Windows(one_card()).restore(arrays)


def test_a_snapshot_that_lacks_an_array_is_refused():
    arrays = Windows(EVERYTHING).state()
    del arrays["heap"]
    with pytest.raises(StateError, match="lacks the heap"):
        Windows(EVERYTHING).restore(arrays)


def test_a_full_log_says_so(monkeypatch):
    plan = one_card(Aggregate("count", 0, -1))
    of_one_card = [card_row(0, event_id=number + 1) for number in range(257)]
    windows = Windows(plan)
    windows.apply(to_arrivals(plan, of_one_card[:1]))
    monkeypatch.setattr(rowlog, "MAX_NAMES", 256)
    with pytest.raises(StateError, match="256 rows are kept"):
        windows.apply(to_arrivals(plan, of_one_card))
    of_many_cards = [Row(0, number, (number,), (None,) * 3) for number in range(100)]
    with pytest.raises(StateError, match="need more than the 256 words"):
        Windows(plan).apply(to_arrivals(plan, of_many_cards))


def test_one_event_far_in_the_future_expires_nothing():
    plan = one_card(Aggregate("count", 0, -1), ahead_us=5)
    card = [card_row(time) for time in range(10)]
    ahead = Row(10**6, "ahead", ("another",), (None,) * 3)
    assert values(plan, *card[:5], ahead, *card[5:])[-5:] == [(count,) for count in (6, 7, 8, 9, 10)]
    assert not any(answer.late for answer in engine_answers(plan, [*card[:5], ahead, *card[5:]]))


def test_after_a_silence_time_passes_once_enough_events_say_so():
    plan = one_card(Aggregate("count", 0, -1), ahead_us=5)
    later = [card_row(1000 + number) for number in range(WITNESSES)]
    probe = card_row(1000 - 6, event_id="too late")
    for witnesses, late in ((WITNESSES - 1, False), (WITNESSES, True)):
        answers = engine_answers(plan, [card_row(0), *later[:witnesses], probe])
        assert answers == twin_answers(plan, [card_row(0), *later[:witnesses], probe])
        assert answers[-1].late == late


@pytest.mark.parametrize(
    "plan",
    [
        one_card(windows=(Window(0, 5, 6),)),
        one_card(windows=(Window(0, -1, -1),)),
        one_card(windows=(Window(1, 5),)),
        one_card(windows=(Window(0, 5, rows=(1, 2)),)),
        one_card(windows=(Window(0, 5, 1, rows=(2, 1)),)),
        one_card(windows=(Window(0, 5, 1, gap_us=1),)),
        one_card(Aggregate("sum", 0, -1)),
        one_card(Aggregate("quantile_disc", 0, 0, share=(2, 1))),
        one_card(Aggregate("quantile_disc", 0, 0, share=(0, 0))),
        one_card(Aggregate("sum", 0, 0, excludes_row=True), windows=(Window(0, 5, rows=(2, 0)),)),
        one_card(Aggregate("sum", 0, 3)),
        one_card(Aggregate("count", 1, -1)),
        one_card(lateness_us=-1),
        one_card(Aggregate("sum", 0, 2), lanes=(0, 1, NO_VALUE)),
        one_card(*(Aggregate("count", 0, lane) for lane in range(MAX_LANES + 1)), lanes=(NO_VALUE,) * (MAX_LANES + 1)),
    ],
)
def test_a_plan_that_cannot_be_answered_is_refused(plan):
    with pytest.raises(UsageError, match="window plan"):
        Windows(plan)


def test_no_arrivals_and_no_aggregates_are_fine():
    plan = WindowPlan((), (), (), (), (), 0, 0, 0)
    none = np.zeros(0, np.int64)
    no_values, no_lanes = np.zeros((0, 0), np.int64), np.zeros((0, 0), np.bool_)
    arrivals = Arrivals(none, np.zeros((0, 2), np.uint64), none, np.zeros((0, 0, 2), np.uint64), no_values, no_lanes)
    assert Windows(plan).apply(arrivals).values.shape == (0, 0)
    one = Arrivals(
        times=np.array([1]),
        ids=np.array([hash_of("a")], np.uint64),
        kinds=np.array([ROW], np.int8),
        keys=np.zeros((0, 1, 2), np.uint64),
        values=np.zeros((0, 1), np.int64),
        valid=np.zeros((0, 1), np.bool_),
    )
    assert not Windows(plan).apply(one).duplicate[0]
