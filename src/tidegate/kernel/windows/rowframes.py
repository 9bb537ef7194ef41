"""Frames that rows bound: ROWS frames, and sessions.

They look back from the tip, the last row of the key not newer than the time that its state is as of. A front's high
cursor is so many rows before the tip; BEHIND counts the rows between, fewer where the list has no more. A window's low
cursor is the first row of its frame, if the frame is empty that after the tip: what lies between it and the front's
high cursor is counted, and IN_FRAME says how many rows that are.

As the tip moves on by a row, so does each cursor, by one row at most but for what grows too old or ends a session; as
it moves back, so do they. So what a row costs does not grow with the frame.
"""

from __future__ import annotations

from typing import Any

from tidegate.kernel.machine.compiled import compiled, inlined
from tidegate.kernel.windows import extremes
from tidegate.kernel.windows.counting import AFTER, BEFORE, count_row, high_time_of, set_high, set_low
from tidegate.kernel.windows.layout import (
    BEHIND,
    FRONT_WORDS,
    FRONTS_END,
    GAP,
    HIGH,
    IN_FRAME,
    LOW,
    LOW_TIME,
    LOWER,
    MOST,
    NO_GAP,
    ROW_FRONTS,
    TIP,
    UPPER,
    WINDOW_WORDS,
    WINDOWS,
    WINDOWS_END,
)
from tidegate.kernel.windows.rowlog import (
    END_OF_TIME,
    HEAD,
    NIL,
    TAIL,
    following,
    is_after,
    is_from,
    is_up_to,
    of_slot,
    preceding,
    set_of_slot,
    time_of,
)


@inlined
def _after(rows: Any, slot: Any, row: Any) -> Any:
    """The row after one, the first of all after NIL."""
    return following(rows, row) if row != NIL else of_slot(rows, slot, HEAD)


@inlined
def _before(rows: Any, slot: Any, row: Any) -> Any:
    """The row before one, the last of all before NIL."""
    return preceding(rows, row) if row != NIL else of_slot(rows, slot, TAIL)


@compiled
def _raise_low_by_one(rows: Any, layout: Any, slot: Any, front: Any, window: Any) -> None:
    """Let the first row of a frame go."""
    low, low_time = of_slot(rows, slot, layout[window + LOW]), rows.heap[slot + layout[window + LOW_TIME]]
    high = of_slot(rows, slot, layout[front + HIGH])
    if is_up_to(rows, low, high):
        count_row(rows, layout, slot, window, low, -1, low_time, high_time_of(rows, layout, slot, front), AFTER)
        rows.links[2 * slot + layout[window + IN_FRAME]] -= 1
    low = following(rows, low)
    set_low(rows, layout, slot, window, low, time_of(rows, low) if low != NIL else END_OF_TIME)


@compiled
def _raise_low(rows: Any, layout: Any, slot: Any, front: Any, window: Any, lower: Any) -> None:
    """Let all rows go that are older than `lower`."""
    while rows.heap[slot + layout[window + LOW_TIME]] < lower:
        _raise_low_by_one(rows, layout, slot, front, window)


@compiled
def _end_session(rows: Any, layout: Any, slot: Any, front: Any, window: Any, last: Any) -> None:
    """Let all rows go up to the last of a session."""
    low = of_slot(rows, slot, layout[window + LOW])
    while low != NIL and is_up_to(rows, low, last):
        _raise_low_by_one(rows, layout, slot, front, window)
        low = of_slot(rows, slot, layout[window + LOW])


@inlined
def _is_apart(layout: Any, window: Any, earlier: Any, later: Any) -> Any:
    """Whether a session ends between two times."""
    return layout[window + GAP] != NO_GAP and later - earlier > layout[window + GAP]


@compiled
def _lower_low(
    rows: Any, layout: Any, slot: Any, front: Any, window: Any, lower: Any, tip: Any, time: Any
) -> None:  # fmt: skip
    """Take the rows before a frame in that belong to it, as seen from a time after the tip."""
    high = of_slot(rows, slot, layout[front + HIGH])
    high_time = high_time_of(rows, layout, slot, front)
    low = of_slot(rows, slot, layout[window + LOW])
    row = _before(rows, slot, low)
    while row != NIL and time_of(rows, row) >= lower:
        row_time = time_of(rows, row)
        if is_up_to(rows, row, tip):
            later = time if row == tip else time_of(rows, following(rows, row))
            if _is_apart(layout, window, row_time, later):
                return
        if is_up_to(rows, row, high):
            if of_slot(rows, slot, layout[window + IN_FRAME]) >= layout[window + MOST]:
                return
            count_row(rows, layout, slot, window, row, 1, row_time, high_time, AFTER)
            rows.links[2 * slot + layout[window + IN_FRAME]] += 1
        set_low(rows, layout, slot, window, row, row_time)
        row = preceding(rows, row)


@compiled
def _enter(rows: Any, layout: Any, slot: Any, front: Any) -> None:
    """The frames of a front now end at the next row."""
    high = of_slot(rows, slot, layout[front + HIGH])
    row = _after(rows, slot, high)
    time = time_of(rows, row)
    for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
        low, low_time = of_slot(rows, slot, layout[window + LOW]), rows.heap[slot + layout[window + LOW_TIME]]
        if is_from(rows, row, time, low, low_time):
            count_row(rows, layout, slot, window, row, 1, low_time, time, BEFORE)
            rows.links[2 * slot + layout[window + IN_FRAME]] += 1
    extremes.append_row(rows, layout, front, slot, row, high)
    set_high(rows, layout, slot, front, row)


@compiled
def _leave(rows: Any, layout: Any, slot: Any, front: Any) -> None:
    """The frames of a front now end before the row that was their last."""
    row = of_slot(rows, slot, layout[front + HIGH])
    time = time_of(rows, row)
    for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
        low, low_time = of_slot(rows, slot, layout[window + LOW]), rows.heap[slot + layout[window + LOW_TIME]]
        if is_from(rows, row, time, low, low_time):
            count_row(rows, layout, slot, window, row, -1, low_time, time, BEFORE)
            rows.links[2 * slot + layout[window + IN_FRAME]] -= 1
    set_high(rows, layout, slot, front, preceding(rows, row))


@compiled
def _set_behind(rows: Any, layout: Any, slot: Any, front: Any, behind: Any) -> None:
    """Let so many rows lie between a front's end and the tip: as many as it wants, if there are as many."""
    while behind > layout[front + UPPER]:
        _enter(rows, layout, slot, front)
        behind -= 1
    while behind < layout[front + UPPER] and of_slot(rows, slot, layout[front + HIGH]) != NIL:
        _leave(rows, layout, slot, front)
        behind += 1
    rows.links[2 * slot + layout[front + BEHIND]] = behind


@compiled
def _move_tip_on(rows: Any, layout: Any, entity: Any, slot: Any, row: Any) -> None:
    """The tip moves on by one row."""
    tip, time = of_slot(rows, slot, layout[entity + TIP]), time_of(rows, row)
    for front in range(layout[entity + ROW_FRONTS], layout[entity + FRONTS_END], FRONT_WORDS):
        _set_behind(rows, layout, slot, front, of_slot(rows, slot, layout[front + BEHIND]) + 1)
        for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
            if of_slot(rows, slot, layout[window + IN_FRAME]) > layout[window + MOST]:
                _raise_low_by_one(rows, layout, slot, front, window)
            if tip != NIL and _is_apart(layout, window, time_of(rows, tip), time):
                _end_session(rows, layout, slot, front, window, tip)
    set_of_slot(rows, slot, layout[entity + TIP], row)


@compiled
def _move_tip_back(rows: Any, layout: Any, entity: Any, slot: Any) -> None:
    for front in range(layout[entity + ROW_FRONTS], layout[entity + FRONTS_END], FRONT_WORDS):
        _set_behind(rows, layout, slot, front, of_slot(rows, slot, layout[front + BEHIND]) - 1)
    set_of_slot(rows, slot, layout[entity + TIP], preceding(rows, of_slot(rows, slot, layout[entity + TIP])))


@compiled
def move(rows: Any, layout: Any, entity: Any, slot: Any, time: Any, floor: Any, is_back: Any) -> None:
    """Make the frames those that a row of a time sees, which is before (`is_back`) that which they are as of or not;
    rows older than `floor` are in none.
    """
    tip = of_slot(rows, slot, layout[entity + TIP])
    while tip != NIL and time_of(rows, tip) > time:
        _move_tip_back(rows, layout, entity, slot)
        tip = of_slot(rows, slot, layout[entity + TIP])
    row = _after(rows, slot, tip)
    while row != NIL and time_of(rows, row) <= time:
        _move_tip_on(rows, layout, entity, slot, row)
        row = following(rows, row)
    tip = of_slot(rows, slot, layout[entity + TIP])
    for front in range(layout[entity + ROW_FRONTS], layout[entity + FRONTS_END], FRONT_WORDS):
        for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
            lower = max(time - layout[window + LOWER], floor)
            _raise_low(rows, layout, slot, front, window, lower)
            if tip != NIL and _is_apart(layout, window, time_of(rows, tip), time):
                _end_session(rows, layout, slot, front, window, tip)
            if is_back:
                _lower_low(rows, layout, slot, front, window, lower, tip, time)


@compiled
def count_in(rows: Any, layout: Any, entity: Any, slot: Any, row: Any, time: Any, floor: Any) -> None:
    """Count a row that was just put into the list of its key, whose state is as of the row's time."""
    for front in range(layout[entity + ROW_FRONTS], layout[entity + FRONTS_END], FRONT_WORDS):
        for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
            low = of_slot(rows, slot, layout[window + LOW])
            if low == NIL or is_after(rows, low, row):
                set_low(rows, layout, slot, window, row, time)
        extremes.insert_row(rows, layout, front, slot, row, floor)
    _move_tip_on(rows, layout, entity, slot, row)


@compiled
def leave(rows: Any, layout: Any, entity: Any, slot: Any, row: Any, floor: Any) -> None:
    """Take a row that is older than `floor` out of all frames and off all cursors."""
    tip = of_slot(rows, slot, layout[entity + TIP])
    for front in range(layout[entity + ROW_FRONTS], layout[entity + FRONTS_END], FRONT_WORDS):
        for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
            _raise_low(rows, layout, slot, front, window, floor)
        if of_slot(rows, slot, layout[front + HIGH]) == row:
            set_high(rows, layout, slot, front, preceding(rows, row))
        elif is_up_to(rows, row, tip) and not is_up_to(rows, row, of_slot(rows, slot, layout[front + HIGH])):
            _set_behind(rows, layout, slot, front, of_slot(rows, slot, layout[front + BEHIND]) - 1)
        extremes.leave(rows, layout, front, slot, row, floor)
    if tip == row:
        set_of_slot(rows, slot, layout[entity + TIP], preceding(rows, row))
