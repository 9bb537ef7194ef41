"""Counting rows in and out of what windows keep of their frames."""

from __future__ import annotations

from typing import Any

from tidegate.kernel.machine.compiled import compiled, inlined
from tidegate.kernel.windows import quantiles, variance
from tidegate.kernel.windows.layout import (
    ACCUMULATOR_WORDS,
    ACCUMULATORS,
    ACCUMULATORS_END,
    BITS,
    COUNT,
    DISTINCT,
    HIGH,
    HIGH_TIME,
    KIND,
    LOW,
    LOW_TIME,
    ROW_LINKS,
    RUNNING,
    SUM,
    TREE,
    VALUE_WORDS,
    WINDOW_FRONT,
)
from tidegate.kernel.windows.rowlog import (
    BEGIN_OF_TIME,
    NIL,
    TAIL,
    VALID,
    is_from,
    link,
    of_slot,
    place,
    set_of_slot,
    time_of,
    verdict_of_row,
)

_LOW_HALF = 0xFFFFFFFF

# Which neighbours of the same value could be in the frame: those before a row, as it is the frame's newest; those after
# it, as it is the oldest; or both.
BEFORE, AFTER, BOTH = 1, 2, 3


@compiled
def _is_only_one(
    rows: Any, layout: Any, slot: Any, window: Any, row: Any, same: Any, low_time: Any, high_time: Any, neighbours: Any
) -> Any:
    """Whether no neighbour of the same value is in the frame from `low_time` to `high_time`."""
    if neighbours & BEFORE:
        before = link(rows, row, same)
        if before != NIL and is_from(
            rows, before, time_of(rows, before), of_slot(rows, slot, layout[window + LOW]), low_time
        ):
            return False
    if neighbours & AFTER:
        after, high = link(rows, row, same + 1), of_slot(rows, slot, layout[layout[window + WINDOW_FRONT] + HIGH])
        # Nothing is after the key's newest row: that need not be looked up.
        is_newest = high == of_slot(rows, slot, TAIL)
        if after != NIL and (is_newest or is_from(rows, high, high_time, after, time_of(rows, after))):
            return False
    return True


@inlined
def count(
    rows: Any, layout: Any, slot: Any, window: Any, accumulator: Any, row: Any, verdict: Any, sign: Any, low_time: Any,
    high_time: Any, neighbours: Any,
) -> None:  # fmt: skip
    """Count a row in (sign 1) or out (-1) of an accumulator by a verdict."""
    heap, at = rows.heap, place(rows, row)
    bit = layout[accumulator + BITS + verdict]
    if bit >= 0 and (heap[at + VALID] >> bit) & 1 == 0:
        return
    kind, running = layout[accumulator + KIND], layout[accumulator + RUNNING]
    if kind == COUNT:
        rows.links[2 * slot + running] += sign
    elif kind == DISTINCT:
        same = layout[accumulator + ROW_LINKS]
        if _is_only_one(rows, layout, slot, window, row, same, low_time, high_time, neighbours):
            rows.links[2 * slot + running] += sign
    else:
        value = heap[at + layout[accumulator + VALUE_WORDS + verdict]]
        if kind == SUM:
            heap[slot + running] += sign * (value >> 32)
            heap[slot + running + 1] += sign * (value & _LOW_HALF)
        elif kind == TREE:
            quantiles.count_value(rows, layout, slot, accumulator, row, value, sign)
        else:
            variance.count_square(heap, slot + running, value, sign)


@compiled
def count_row(
    rows: Any, layout: Any, slot: Any, window: Any, row: Any, sign: Any, low_time: Any, high_time: Any, neighbours: Any
) -> None:
    """Count a row in or out of a window by its verdict."""
    verdict = verdict_of_row(rows, row)
    for accumulator in range(layout[window + ACCUMULATORS], layout[window + ACCUMULATORS_END], ACCUMULATOR_WORDS):
        count(rows, layout, slot, window, accumulator, row, verdict, sign, low_time, high_time, neighbours)


@inlined
def high_time_of(rows: Any, layout: Any, slot: Any, front: Any) -> Any:
    """The time of the last row of a front's frames."""
    return rows.heap[slot + layout[front + HIGH_TIME]]


@inlined
def set_high(rows: Any, layout: Any, slot: Any, front: Any, high: Any) -> None:
    set_of_slot(rows, slot, layout[front + HIGH], high)
    rows.heap[slot + layout[front + HIGH_TIME]] = time_of(rows, high) if high != NIL else BEGIN_OF_TIME


@inlined
def set_low(rows: Any, layout: Any, slot: Any, window: Any, low: Any, low_time: Any) -> None:
    set_of_slot(rows, slot, layout[window + LOW], low)
    rows.heap[slot + layout[window + LOW_TIME]] = low_time
