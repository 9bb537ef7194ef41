"""Whether the window engine can answer a plan."""

from __future__ import annotations

from tidegate.errors import UsageError
from tidegate.kernel.plan import EVERY_ROW, MAX_DENOMINATOR, MAX_LANES, MAX_ROWS, NO_VALUE, Aggregate, WindowPlan
from tidegate.kernel.windows.layout import MAX_SPAN_US, frame_end, lanes_by_entity


def check_plan(plan: WindowPlan) -> None:
    """
    Raises:
        UsageError: the plan asks for what cannot be answered.
    """
    for window in plan.windows:
        if not 0 <= window.upper_us <= window.lower_us <= MAX_SPAN_US:
            raise UsageError(
                f"window plan: a frame from {window.lower_us} to {window.upper_us} us before the row; wanted "
                f"0 <= end <= start <= {MAX_SPAN_US}"
            )
        first, last = window.rows or (0, 0)
        if not 0 <= last <= first <= MAX_ROWS or (frame_end(window)[0] and window.upper_us):
            raise UsageError(
                f"window plan: a frame from {first} to {last} rows before the row, or a session, that ends "
                f"{window.upper_us} us before it; wanted 0 <= end <= start <= {MAX_ROWS} rows, and 0 us"
            )
        if window.entity not in range(len(plan.entities)):
            raise UsageError(f"window plan: no entity {window.entity}; there are {len(plan.entities)}")
    for aggregate in plan.aggregates:
        _check_aggregate(plan, aggregate)
    for entity, lanes in enumerate(lanes_by_entity(plan)):
        if len(lanes) > MAX_LANES:
            raise UsageError(
                f"window plan: {len(lanes)} lanes of {', '.join(plan.entities[entity].columns)}; at most {MAX_LANES} "
                "can be kept; use fewer aggregates"
            )
    for span in (plan.lateness_us, plan.dedupe_us, plan.ahead_us):
        if not 0 <= span <= MAX_SPAN_US:
            raise UsageError(f"window plan: lateness, dedupe and ahead must be from 0 to {MAX_SPAN_US} us")


def _check_aggregate(plan: WindowPlan, aggregate: Aggregate) -> None:
    first_lane = EVERY_ROW if aggregate.function == "count" else 0
    if aggregate.window not in range(len(plan.windows)) or aggregate.lane not in range(first_lane, len(plan.lanes)):
        raise UsageError(f"window plan: {aggregate} names a window or a lane that is not there")
    numerator, denominator = aggregate.share
    if not 0 <= numerator <= denominator <= MAX_DENOMINATOR or not denominator:
        raise UsageError(
            f"window plan: {aggregate} with a share of {numerator}/{denominator}; wanted 0 to 1, in parts of up to "
            f"{MAX_DENOMINATOR}"
        )
    if aggregate.excludes_row and plan.windows[aggregate.window].rows is not None:
        raise UsageError(f"window plan: {aggregate} excludes the row from a ROWS frame; wanted one that ends before it")
    if aggregate.function != "count" and plan.lanes[aggregate.lane] == NO_VALUE:
        raise UsageError(f"window plan: {aggregate} needs values and its lane has none")
