"""The window engine against its naive twin, over timelines that hypothesis draws, and timelines drawn by hand."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernel.twin import Label, Row, Twin, from_answers, to_arrivals

from tidegate.kernel.plan import Aggregate, Entity, LabelLane, Window, WindowPlan
from tidegate.kernel.windows import Windows

# Lane 0 reads no label; lane 1 counts as lane 2 once the row is known as fraud, as lane 3 once it is known as genuine.
EVERYTHING = WindowPlan(
    entities=(Entity(("card",)), Entity(("merchant", "country"))),
    windows=(Window(0, 5), Window(1, 3), Window(0, 12, 4), Window(1, 9), Window(0, 0), Window(1, 6, 6)),
    lane_count=4,
    label_lanes=(LabelLane(1, 2, 3),),
    aggregates=tuple(
        Aggregate(function, window, lane, excludes_row)
        for window in range(6)
        for lane in (0, 1)
        for function in ("count", "sum", "min", "max", "count_distinct", "var_samp", "var_pop")
        for excludes_row in (False, True)
    )
    + tuple(Aggregate("count", window, -1, excludes_row) for window in range(6) for excludes_row in (True, False)),
    lateness_us=4,
    dedupe_us=10,
)

VALUES = st.one_of(
    st.none(), st.integers(-3, 3), st.sampled_from([2**63 - 1, -(2**63), 2**62]), st.integers(-(2**63), 2**63 - 1)
)
IDS = st.integers(0, 30)


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
    edges = [0, *sorted(set(cuts)), len(events)]
    for start, end in itertools.pairwise(edges):
        if start in restore_at:
            arrays = windows.snapshot()
            windows = Windows(plan)
            windows.restore(arrays)
        piece = events[start:end]
        answers += from_answers(piece, windows.apply(to_arrivals(plan, piece)))
    return answers


@settings(max_examples=300, deadline=None)
@given(timelines(), st.lists(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_engine_equals_its_twin(events, cuts, restore_at):
    assert engine_answers(EVERYTHING, events, [cut for cut in cuts if cut < len(events)], restore_at) == twin_answers(
        EVERYTHING, events
    )
