"""Running values of a key's windows, and the cursors that keep them as of one time.

A key's state is as of its clock: the time of the row that was answered last. To answer another row it is moved to that
row's time, forward or, for one that is out of order, back. What a move costs is the number of rows that enter and leave
the frames.

A window's low cursor is the first row of the key not older than the frame's start, a front's high cursor the last row
not newer than the end of its windows' frames: what lies between them is counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.kernel.machine.compiled import compiled, inlined
from tidegate.kernel.windows import extremes, labels, occurrences, rowframes
from tidegate.kernel.windows.counting import (
    AFTER,
    BEFORE,
    BOTH,
    count,
    count_row,
    high_time_of,
    set_high,
    set_low,
)
from tidegate.kernel.windows.layout import (
    ACCUMULATOR_WORDS,
    ACCUMULATORS,
    ACCUMULATORS_END,
    BITS,
    FRONT_WORDS,
    FRONTS,
    FRONTS_END,
    HIGH,
    LABELS,
    LOW,
    LOW_TIME,
    LOWER,
    ROW_FRONTS,
    TIP,
    UPPER,
    VALUE_WORDS,
    WINDOW_WORDS,
    WINDOWS,
    WINDOWS_END,
)
from tidegate.kernel.windows.rowlog import (
    APPLIED,
    EARLIER,
    END_OF_TIME,
    HEAD,
    KEY_CLOCK,
    LABEL_TIME,
    LABELLED,
    LATER,
    LINKS_A_LABEL,
    NIL,
    OLDER,
    PENDING,
    TAIL,
    VALID,
    VERDICT_SHIFT,
    following,
    is_after,
    is_from,
    is_up_to,
    of_slot,
    place,
    preceding,
    set_of_slot,
    time_of,
    verdict_of_row,
)


@compiled
def _count_out(rows: Any, layout: Any, slot: Any, front: Any, window: Any, lower: Any) -> None:
    """Count out what is older than `lower`: one row at least is."""
    low, low_time = of_slot(rows, slot, layout[window + LOW]), rows.heap[slot + layout[window + LOW_TIME]]
    high_time = high_time_of(rows, layout, slot, front)
    while low_time < lower:
        if low_time <= high_time:
            count_row(rows, layout, slot, window, low, -1, low_time, high_time, AFTER)
        low = following(rows, low)
        low_time = time_of(rows, low) if low != NIL else END_OF_TIME
    set_low(rows, layout, slot, window, low, low_time)


@inlined
def _raise_low(rows: Any, layout: Any, slot: Any, front: Any, window: Any, lower: Any) -> None:
    if rows.heap[slot + layout[window + LOW_TIME]] < lower:
        _count_out(rows, layout, slot, front, window, lower)


@compiled
def _lower_low(rows: Any, layout: Any, slot: Any, front: Any, window: Any, lower: Any) -> None:
    """Count in what is not older than `lower`."""
    low, low_time = of_slot(rows, slot, layout[window + LOW]), rows.heap[slot + layout[window + LOW_TIME]]
    high_time = high_time_of(rows, layout, slot, front)
    row = preceding(rows, low) if low != NIL else of_slot(rows, slot, TAIL)
    while row != NIL and time_of(rows, row) >= lower:
        low, low_time = row, time_of(rows, row)
        if low_time <= high_time:
            count_row(rows, layout, slot, window, row, 1, low_time, high_time, AFTER)
        row = preceding(rows, row)
    set_low(rows, layout, slot, window, low, low_time)


@compiled
def _enter_front(rows: Any, layout: Any, slot: Any, front: Any, row: Any, time: Any) -> None:
    """The frames of a front now end at a row that is the next after their end."""
    for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
        low_time = rows.heap[slot + layout[window + LOW_TIME]]
        if time >= low_time:
            count_row(rows, layout, slot, window, row, 1, low_time, time, BEFORE)
    extremes.append_row(rows, layout, front, slot, row, of_slot(rows, slot, layout[front + HIGH]))
    set_high(rows, layout, slot, front, row)


@compiled
def _leave_front(rows: Any, layout: Any, slot: Any, front: Any, row: Any, time: Any) -> None:
    """The frames of a front now end before the row that was their last."""
    for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
        low_time = rows.heap[slot + layout[window + LOW_TIME]]
        if time >= low_time:
            count_row(rows, layout, slot, window, row, -1, low_time, time, BEFORE)
    set_high(rows, layout, slot, front, preceding(rows, row))


@compiled
def _move_forward(rows: Any, layout: Any, entity: Any, slot: Any, time: Any, floor: Any) -> None:
    for front in range(layout[entity + FRONTS], layout[entity + ROW_FRONTS], FRONT_WORDS):
        for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
            _raise_low(rows, layout, slot, front, window, max(time - layout[window + LOWER], floor))
        high, upper = of_slot(rows, slot, layout[front + HIGH]), time - layout[front + UPPER]
        if high == of_slot(rows, slot, TAIL):
            continue
        row = following(rows, high) if high != NIL else of_slot(rows, slot, HEAD)
        while row != NIL and time_of(rows, row) <= upper:
            _enter_front(rows, layout, slot, front, row, time_of(rows, row))
            row = following(rows, row)


@compiled
def _move_back(rows: Any, layout: Any, entity: Any, slot: Any, time: Any, floor: Any) -> None:
    for front in range(layout[entity + FRONTS], layout[entity + ROW_FRONTS], FRONT_WORDS):
        high, upper = of_slot(rows, slot, layout[front + HIGH]), time - layout[front + UPPER]
        while high != NIL and time_of(rows, high) > upper:
            _leave_front(rows, layout, slot, front, high, time_of(rows, high))
            high = preceding(rows, high)
        for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
            lower = max(time - layout[window + LOWER], floor)
            _raise_low(rows, layout, slot, front, window, lower)
            _lower_low(rows, layout, slot, front, window, lower)


@compiled
def move(rows: Any, layout: Any, entity: Any, slot: Any, time: Any, floor: Any) -> None:
    """Make a key's state as of a time; rows older than `floor` are in no frame."""
    clock = rows.heap[slot + KEY_CLOCK]
    reads_labels = layout[entity + LABELS] >= 0
    rows.heap[slot + KEY_CLOCK] = time
    if time >= clock:
        if reads_labels:
            changed = _apply_labels(rows, layout, entity, slot, time)
            if changed != NIL:
                extremes.chain_labelled(rows, layout, entity, slot, changed)
        _move_forward(rows, layout, entity, slot, time, floor)
    else:
        changed = _take_back_labels(rows, layout, entity, slot, time) if reads_labels else np.int64(NIL)
        _move_back(rows, layout, entity, slot, time, floor)
        if changed != NIL:
            extremes.chain_labelled(rows, layout, entity, slot, changed)
    if layout[entity + TIP] >= 0:
        rowframes.move(rows, layout, entity, slot, time, floor, time < clock)


@compiled
def count_in(rows: Any, layout: Any, entity: Any, slot: Any, row: Any, time: Any, floor: Any) -> None:
    """Count a row that was just put into the list of its key, whose state is as of the row's time."""
    for front in range(layout[entity + FRONTS], layout[entity + ROW_FRONTS], FRONT_WORDS):
        for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
            if rows.heap[slot + layout[window + LOW_TIME]] > time:
                set_low(rows, layout, slot, window, row, time)
        extremes.insert_row(rows, layout, front, slot, row, floor)
        if layout[front + UPPER] == 0:
            _enter_front(rows, layout, slot, front, row, time)
    if layout[entity + TIP] >= 0:
        rowframes.count_in(rows, layout, entity, slot, row, time, floor)


@compiled
def leave(rows: Any, layout: Any, entity: Any, slot: Any, row: Any, floor: Any) -> None:
    """Take a row that is older than `floor` out of all frames and off all cursors."""
    for front in range(layout[entity + FRONTS], layout[entity + ROW_FRONTS], FRONT_WORDS):
        for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
            _raise_low(rows, layout, slot, front, window, floor)
        if of_slot(rows, slot, layout[front + HIGH]) == row:
            set_high(rows, layout, slot, front, preceding(rows, row))
        extremes.leave(rows, layout, front, slot, row, floor)
    if layout[entity + TIP] >= 0:
        rowframes.leave(rows, layout, entity, slot, row, floor)


@compiled
def _count_by_verdict(
    rows: Any, layout: Any, entity: Any, slot: Any, row: Any, verdict: Any, other: Any, sign: Any
) -> None:  # fmt: skip
    """Count a row, in all frames that it is in, in or out of what it counts in by one verdict and not by the other."""
    time = time_of(rows, row)
    for front in range(layout[entity + FRONTS], layout[entity + FRONTS_END], FRONT_WORDS):
        high = of_slot(rows, slot, layout[front + HIGH])
        if not is_up_to(rows, row, high):
            continue
        high_time = high_time_of(rows, layout, slot, front)
        for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
            low, low_time = of_slot(rows, slot, layout[window + LOW]), rows.heap[slot + layout[window + LOW_TIME]]
            if not is_from(rows, row, time, low, low_time):
                continue
            first, end = layout[window + ACCUMULATORS], layout[window + ACCUMULATORS_END]
            for accumulator in range(first, end, ACCUMULATOR_WORDS):
                bits, values = accumulator + BITS, accumulator + VALUE_WORDS
                if (
                    layout[bits + verdict] != layout[bits + other]
                    or layout[values + verdict] != layout[values + other]
                ):  # fmt: skip
                    count(rows, layout, slot, window, accumulator, row, verdict, sign, low_time, high_time, BOTH)


@compiled
def swap_verdict(rows: Any, layout: Any, entity: Any, slot: Any, row: Any, verdict: Any) -> Any:
    """Let a row count by another verdict; whether that is another."""
    before = verdict_of_row(rows, row)
    if before == verdict:
        return False
    _count_by_verdict(rows, layout, entity, slot, row, before, verdict, -1)
    occurrences.unlink_labelled(rows, layout, entity, slot, row, verdict)
    rows.heap[place(rows, row) + VALID] += (verdict - before) << VERDICT_SHIFT
    occurrences.link_labelled(rows, layout, entity, slot, row, before)
    _count_by_verdict(rows, layout, entity, slot, row, verdict, before, 1)
    return True


@compiled
def relabel(rows: Any, layout: Any, entity: Any, slot: Any, row: Any, newest: Any) -> None:
    """Let a row count by what its history, given by its newest label, says as of the key's clock."""
    verdict = labels.verdict_of(rows, labels.label_at(rows, newest, rows.heap[slot + KEY_CLOCK]))
    if swap_verdict(rows, layout, entity, slot, row, verdict):
        extremes.chain_labelled(rows, layout, entity, slot, row)


@inlined
def _older(rows: Any, oldest: Any, row: Any) -> Any:
    return row if oldest == NIL or is_after(rows, oldest, row) else oldest


@compiled
def _apply_labels(rows: Any, layout: Any, entity: Any, slot: Any, time: Any) -> Any:
    """Apply the pending labels up to `time`; the oldest row that counts otherwise now, NIL if there is none."""
    column, changed = LINKS_A_LABEL * layout[entity + LABELS], np.int64(NIL)
    label = of_slot(rows, slot, PENDING)
    while label != NIL and rows.heap[label + LABEL_TIME] <= time:
        row, verdict = labels.half_of(rows, label, LABELLED + column), labels.verdict_of(rows, label)
        if swap_verdict(rows, layout, entity, slot, row, verdict):
            changed = _older(rows, changed, row)
        set_of_slot(rows, slot, APPLIED, label)
        label = labels.half_of(rows, label, LATER + column)
        set_of_slot(rows, slot, PENDING, label)
    return changed


@compiled
def _take_back_labels(rows: Any, layout: Any, entity: Any, slot: Any, time: Any) -> Any:
    """Take back the labels after `time`; the oldest row that counts otherwise now, NIL if there is none."""
    column, changed = LINKS_A_LABEL * layout[entity + LABELS], np.int64(NIL)
    label = of_slot(rows, slot, APPLIED)
    while label != NIL and rows.heap[label + LABEL_TIME] > time:
        row = labels.half_of(rows, label, LABELLED + column)
        verdict = labels.verdict_of(rows, labels.half_of(rows, label, OLDER))
        if swap_verdict(rows, layout, entity, slot, row, verdict):
            changed = _older(rows, changed, row)
        set_of_slot(rows, slot, PENDING, label)
        label = labels.half_of(rows, label, EARLIER + column)
        set_of_slot(rows, slot, APPLIED, label)
    return changed
