"""A plan laid out as arrays, for the loops of the window engine."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tidegate.errors import UsageError
from tidegate.kernel import rowlog
from tidegate.kernel.plan import MAX_LANES, WindowPlan

COUNT, SUM, DISTINCT, EXTREME = 0, 1, 2, 3

#: Longest span of time in a plan, some 146,000 years: times within as much of 1970 can be added to it in 64 bits.
MAX_SPAN_US = 2**62

#: An accumulator's number shares a 64-bit word with that of its slot.
MAX_ACCUMULATORS = 2**16

_EVERY_ROW = -1


class Layout(NamedTuple):
    """Windows are ordered by entity, accumulators and extremes by window, answers by entity: all arrays are of int64,
    and `x_of_y[i]` to `x_of_y[i + 1]` are the x of the i-th y.
    """

    horizon: int
    """How much older than the newest row a row may be to be kept, microseconds."""
    lateness: int
    """Microseconds."""
    labelled: bool
    """Whether any lane reads a label."""
    distinct: bool
    """Whether there is any COUNT DISTINCT."""
    windows_of_entity: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    edges: np.ndarray
    """Column of the window's low cursor; the high one follows."""
    accumulators_of_window: np.ndarray
    kind: np.ndarray
    """COUNT, SUM or DISTINCT."""
    lane: np.ndarray
    """[3, accumulators]: the lane by verdict; -1 counts every row."""
    column: np.ndarray
    """Column of the running value. A sum has two: of the upper halves of its values, which are signed, and of the lower
    ones, so that it is exact for as many rows as a log can hold, whatever their values."""
    extremes_of_window: np.ndarray
    turn: np.ndarray
    """What a value is exclusive-ored with before it is compared: 0 for MAX, -1, which turns the order round, for MIN."""
    extreme_lane: np.ndarray
    """[3, extremes]: the lane by verdict."""
    chain: np.ndarray
    """Column of the row's next in the chain; its previous follows."""
    ends: np.ndarray
    """Column of the chain's first row; its last follows."""
    answers_of_entity: np.ndarray
    answer: np.ndarray
    """Number of the aggregate that is answered."""
    answer_window: np.ndarray
    answer_kind: np.ndarray
    answer_from: np.ndarray
    """Column of the running value, or the number of the extreme."""
    answer_valid: np.ndarray
    """Of a sum: column of the count of its valid rows."""
    answer_lane: np.ndarray
    """The lane with the label unknown; -1 counts every row."""


def check(plan: WindowPlan) -> None:
    """
    Raises:
        UsageError: the plan asks for what cannot be answered.
    """
    if plan.lane_count > MAX_LANES:
        raise UsageError(f"window plan: {plan.lane_count} lanes; at most {MAX_LANES} can be kept; use fewer aggregates")
    for window in plan.windows:
        if not 0 <= window.upper_us <= window.lower_us <= MAX_SPAN_US:
            raise UsageError(
                f"window plan: a frame from {window.lower_us} to {window.upper_us} us before the row; wanted "
                f"0 <= end <= start <= {MAX_SPAN_US}"
            )
        if window.entity not in range(len(plan.entities)):
            raise UsageError(f"window plan: no entity {window.entity}; there are {len(plan.entities)}")
    for aggregate in plan.aggregates:
        first_lane = _EVERY_ROW if aggregate.function == "count" else 0
        if aggregate.window not in range(len(plan.windows)) or aggregate.lane not in range(first_lane, plan.lane_count):
            raise UsageError(f"window plan: {aggregate} names a window or a lane that is not there")
    if not (0 <= plan.lateness_us <= MAX_SPAN_US and 0 <= plan.dedupe_us <= MAX_SPAN_US):
        raise UsageError(f"window plan: lateness and dedupe must be from 0 to {MAX_SPAN_US} us")


def _starts(owners: list[int], count: int) -> np.ndarray:
    """Where each owner's run begins in a list that is ordered by owner."""
    return np.searchsorted(np.array(owners, np.int64), np.arange(count + 1)).astype(np.int64)


def _numbers(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


def lay_out(plan: WindowPlan) -> Layout:
    """
    Raises:
        UsageError: the plan asks for what cannot be answered.
    """
    check(plan)
    entity_count = len(plan.entities)
    by_entity = sorted(range(len(plan.windows)), key=lambda number: plan.windows[number].entity)
    windows = [plan.windows[number] for number in by_entity]
    place = {number: at for at, number in enumerate(by_entity)}
    windows_of_entity = _starts([window.entity for window in windows], entity_count)

    # What has to be run along: a sum also needs the count of its valid rows, which a count of the same lane shares.
    wanted: set[tuple[int, int, int]] = set()
    extremes: set[tuple[int, bool, int]] = set()
    kinds = {"count": COUNT, "sum": SUM, "count_distinct": DISTINCT}
    for aggregate in plan.aggregates:
        window = place[aggregate.window]
        if aggregate.function in {"min", "max"}:
            extremes.add((window, aggregate.function == "min", aggregate.lane))
            continue
        wanted.add((window, kinds[aggregate.function], aggregate.lane))
        if aggregate.function == "sum":
            wanted.add((window, COUNT, aggregate.lane))
    accumulators = sorted(wanted)
    chains = sorted(extremes)
    if len(accumulators) > MAX_ACCUMULATORS:
        raise UsageError(f"window plan: {len(accumulators)} running values; at most {MAX_ACCUMULATORS}")

    next_column = [rowlog.ACCUMULATORS] * entity_count
    columns: dict[tuple[int, int, int], int] = {}
    for accumulator in accumulators:
        entity = windows[accumulator[0]].entity
        columns[accumulator] = next_column[entity]
        next_column[entity] += 2 if accumulator[1] == SUM else 1
    edges = [rowlog.EDGES + 2 * (at - int(windows_of_entity[window.entity])) for at, window in enumerate(windows)]
    next_end = [
        rowlog.EDGES + 2 * int(windows_of_entity[entity + 1] - windows_of_entity[entity])
        for entity in range(entity_count)
    ]
    ends: list[int] = []
    for window, _, _ in chains:
        ends.append(next_end[windows[window].entity])
        next_end[windows[window].entity] += 2

    answers = sorted(range(len(plan.aggregates)), key=lambda number: place[plan.aggregates[number].window])
    answer_kind: list[int] = []
    answer_from: list[int] = []
    answer_valid: list[int] = []
    for number in answers:
        aggregate = plan.aggregates[number]
        window = place[aggregate.window]
        if aggregate.function in {"min", "max"}:
            answer_kind.append(EXTREME)
            answer_from.append(chains.index((window, aggregate.function == "min", aggregate.lane)))
        else:
            answer_kind.append(kinds[aggregate.function])
            answer_from.append(columns[window, kinds[aggregate.function], aggregate.lane])
        answer_valid.append(columns.get((window, COUNT, aggregate.lane), 0))

    by_verdict = {lane.lane: (lane.lane, lane.if_genuine, lane.if_fraud) for lane in plan.label_lanes}

    def lanes(of: list[int]) -> np.ndarray:
        return np.array([by_verdict.get(lane, (lane, lane, lane)) for lane in of], np.int64).reshape(-1, 3).T.copy()

    widest = max((window.lower_us for window in windows), default=0)
    return Layout(
        horizon=min(max(widest + plan.lateness_us, plan.dedupe_us), MAX_SPAN_US),
        lateness=plan.lateness_us,
        labelled=bool(plan.label_lanes),
        distinct=any(kind == DISTINCT for _, kind, _ in accumulators),
        windows_of_entity=windows_of_entity,
        lower=_numbers([window.lower_us for window in windows]),
        upper=_numbers([window.upper_us for window in windows]),
        edges=_numbers(edges),
        accumulators_of_window=_starts([window for window, _, _ in accumulators], len(windows)),
        kind=_numbers([kind for _, kind, _ in accumulators]),
        lane=lanes([lane for _, _, lane in accumulators]),
        column=_numbers([columns[accumulator] for accumulator in accumulators]),
        extremes_of_window=_starts([window for window, _, _ in chains], len(windows)),
        turn=_numbers([-1 if is_min else 0 for _, is_min, _ in chains]),
        extreme_lane=lanes([lane for _, _, lane in chains]),
        chain=_numbers([1 + rowlog.LINKS_AN_ENTITY * entity_count + 2 * at for at in range(len(chains))]),
        ends=_numbers(ends),
        answers_of_entity=_starts(
            [plan.windows[plan.aggregates[number].window].entity for number in answers], entity_count
        ),
        answer=_numbers(answers),
        answer_window=_numbers([place[plan.aggregates[number].window] for number in answers]),
        answer_kind=_numbers(answer_kind),
        answer_from=_numbers(answer_from),
        answer_valid=_numbers(answer_valid),
        answer_lane=_numbers([plan.aggregates[number].lane for number in answers]),
    )
