"""MIN and MAX, and the first and last values that are known. Each row keeps its better: the last row before it that has
a better value (before a row without a value: that has any). The frame's newest row, its better, the better of that and
so on hold the best of every run of rows that ends there.

The rows with a value that no later row is as good as are a chain with two ends, the monotone queue of sliding-window
extremes, as of the last row that was looked at. All windows of a front share it: each has a cursor to its first row in
the chain, whose value is the answer. If the frames end before the last row that was looked at, because a row out of
order is answered, the answer is found along the betters.

For the last known value a row with a value is better than all before it, for the first than all after it: its chain is
all rows with a value.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.kernel.machine.compiled import compiled, inlined
from tidegate.kernel.windows.layout import (
    CHAIN,
    CHAIN_BITS,
    CHAIN_VALUES,
    CHAIN_WORDS,
    CHAINS,
    CHAINS_END,
    CURSORS,
    CURSORS_END,
    EARLIEST,
    ENDS,
    FIRST_IN_CHAIN,
    FRONT_WORDS,
    FRONTS,
    FRONTS_END,
    HIGH,
    HIGH_TIME,
    LAST_IN_CHAIN,
    LATEST,
    LOOKED_AT,
    READS_LABEL,
    TURN,
)
from tidegate.kernel.windows.rowlog import (
    HEAD,
    NIL,
    VALID,
    following,
    is_after,
    is_from,
    is_kept,
    is_up_to,
    link,
    of_slot,
    place,
    preceding,
    set_link,
    set_of_slot,
    time_of,
    verdict_of_row,
)


@inlined
def _has_value(rows: Any, layout: Any, chain: Any, row: Any) -> Any:
    bit = layout[chain + CHAIN_BITS + verdict_of_row(rows, row)]
    return (rows.heap[place(rows, row) + VALID] >> bit) & 1 == 1


@inlined
def _value(rows: Any, layout: Any, chain: Any, row: Any) -> Any:
    return rows.heap[place(rows, row) + layout[chain + CHAIN_VALUES + verdict_of_row(rows, row)]]


@inlined
def _is_as_good(rows: Any, layout: Any, chain: Any, row: Any, other: Any) -> Any:
    """Whether a row is as good as another before it, both with a value."""
    turn = layout[chain + TURN]
    if turn in (EARLIEST, LATEST):
        return turn == LATEST
    return _value(rows, layout, chain, row) ^ turn >= _value(rows, layout, chain, other) ^ turn


@inlined
def _better(rows: Any, layout: Any, chain: Any, row: Any) -> Any:
    """A row's better; it may be gone."""
    return link(rows, row, layout[chain + CHAIN] + 1)


@compiled
def _kept_better(rows: Any, layout: Any, chain: Any, row: Any) -> Any:
    better = _better(rows, layout, chain, row)
    return better if is_kept(rows, better) else NIL


@compiled
def _move_cursors(rows: Any, layout: Any, chain: Any, slot: Any, gone: Any, instead: Any) -> None:
    """A row is no more in the chain."""
    for cursor in range(layout[chain + ENDS] + CURSORS, layout[chain + CURSORS_END]):
        if of_slot(rows, slot, cursor) == gone:
            set_of_slot(rows, slot, cursor, instead)


@compiled
def _append(rows: Any, layout: Any, chain: Any, slot: Any, row: Any) -> None:
    """A row after all that were looked at goes to the chain's end, in the place of all that are not better."""
    links, ends = layout[chain + CHAIN], layout[chain + ENDS]
    set_of_slot(rows, slot, ends + LOOKED_AT, row)
    better = of_slot(rows, slot, ends + LAST_IN_CHAIN)
    if not _has_value(rows, layout, chain, row):
        set_link(rows, row, links + 1, better)
        return
    first = of_slot(rows, slot, ends + FIRST_IN_CHAIN)
    while better != NIL and _is_as_good(rows, layout, chain, row, better):
        _move_cursors(rows, layout, chain, slot, better, row)
        better = NIL if better == first else _better(rows, layout, chain, better)
    set_link(rows, row, links, NIL)
    set_link(rows, row, links + 1, better)
    if better == NIL:
        set_of_slot(rows, slot, ends + FIRST_IN_CHAIN, row)
    else:
        set_link(rows, better, links, row)
    set_of_slot(rows, slot, ends + LAST_IN_CHAIN, row)


@compiled
def _drop_older(rows: Any, layout: Any, chain: Any, slot: Any, floor: Any) -> None:
    """Take rows older than `floor` off the chain's start."""
    first = of_slot(rows, slot, layout[chain + ENDS] + FIRST_IN_CHAIN)
    while first != NIL and time_of(rows, first) < floor:
        after = link(rows, first, layout[chain + CHAIN])
        _move_cursors(rows, layout, chain, slot, first, after)
        first = after
    set_of_slot(rows, slot, layout[chain + ENDS] + FIRST_IN_CHAIN, first)
    if first == NIL:
        set_of_slot(rows, slot, layout[chain + ENDS] + LAST_IN_CHAIN, NIL)


@compiled
def _better_before(rows: Any, layout: Any, chain: Any, row: Any, floor: Any) -> Any:
    """The better of a row that was put into its key's list, NIL if there is none that is not older than `floor`."""
    has_value = _has_value(rows, layout, chain, row)
    better = preceding(rows, row)
    while better != NIL and time_of(rows, better) >= floor:
        better_has_value = _has_value(rows, layout, chain, better)
        if better_has_value and not (has_value and _is_as_good(rows, layout, chain, row, better)):
            return better
        better = _kept_better(rows, layout, chain, better)
    return NIL


@compiled
def _is_best_to(rows: Any, layout: Any, chain: Any, row: Any, last: Any) -> Any:
    """Make a row the better of those after it that it is better than; whether it is better than all, to the last."""
    later = row
    while later != last:
        later = following(rows, later)
        if _has_value(rows, layout, chain, later) and _is_as_good(rows, layout, chain, later, row):
            return False
        better = _kept_better(rows, layout, chain, later)
        if better == NIL or is_after(rows, row, better):
            set_link(rows, later, layout[chain + CHAIN] + 1, row)
    return True


@compiled
def _insert(rows: Any, layout: Any, chain: Any, slot: Any, row: Any, floor: Any) -> None:
    """A row before the last that was looked at finds its better, becomes that of those after it, and a link of the
    chain if it is better than all of them.
    """
    _drop_older(rows, layout, chain, slot, floor)
    links, ends = layout[chain + CHAIN], layout[chain + ENDS]
    better = _better_before(rows, layout, chain, row, floor)
    set_link(rows, row, links + 1, better)
    if not _has_value(rows, layout, chain, row):
        return
    first, before, after = of_slot(rows, slot, ends + FIRST_IN_CHAIN), of_slot(rows, slot, ends + LAST_IN_CHAIN), NIL
    while before != NIL and is_after(rows, before, row):
        after = before
        before = NIL if before == first else _better(rows, layout, chain, before)
    if not _is_best_to(rows, layout, chain, row, of_slot(rows, slot, ends + LOOKED_AT)):
        return
    while before not in (NIL, better):
        _move_cursors(rows, layout, chain, slot, before, row)
        before = NIL if before == first else _better(rows, layout, chain, before)
    set_link(rows, row, links, after)
    if better == NIL:
        set_of_slot(rows, slot, ends + FIRST_IN_CHAIN, row)
    else:
        set_link(rows, better, links, row)
    if after == NIL:
        set_of_slot(rows, slot, ends + LAST_IN_CHAIN, row)


@compiled
def append_row(rows: Any, layout: Any, front: Any, slot: Any, row: Any, before: Any) -> None:
    """The frames of a front now end at a row; they ended at the one before it, NIL if it is the list's first."""
    for chain in range(layout[front + CHAINS], layout[front + CHAINS_END], CHAIN_WORDS):
        if of_slot(rows, slot, layout[chain + ENDS] + LOOKED_AT) == before:
            _append(rows, layout, chain, slot, row)


@compiled
def insert_row(rows: Any, layout: Any, front: Any, slot: Any, row: Any, floor: Any) -> None:
    """A row that was put into its key's list, perhaps before the last that was looked at."""
    for chain in range(layout[front + CHAINS], layout[front + CHAINS_END], CHAIN_WORDS):
        looked_at = of_slot(rows, slot, layout[chain + ENDS] + LOOKED_AT)
        if looked_at != NIL and is_after(rows, looked_at, row):
            _insert(rows, layout, chain, slot, row, floor)


@compiled
def leave(rows: Any, layout: Any, front: Any, slot: Any, row: Any, floor: Any) -> None:
    """A row that is older than `floor` is about to go."""
    is_oldest = preceding(rows, row) == NIL
    for chain in range(layout[front + CHAINS], layout[front + CHAINS_END], CHAIN_WORDS):
        # The key's oldest row is the chain's first or not in it: no other row need be looked at then.
        if not is_oldest or of_slot(rows, slot, layout[chain + ENDS] + FIRST_IN_CHAIN) == row:
            _drop_older(rows, layout, chain, slot, floor)
        if of_slot(rows, slot, layout[chain + ENDS] + LOOKED_AT) == row:
            set_of_slot(rows, slot, layout[chain + ENDS] + LOOKED_AT, preceding(rows, row))


@compiled
def _chain_up_to(rows: Any, layout: Any, chain: Any, slot: Any, last: Any) -> None:
    """Make the chain that of the rows up to one, whose betters and those before it hold."""
    links, ends = layout[chain + CHAIN], layout[chain + ENDS]
    for half in range(ends, layout[chain + CURSORS_END]):
        set_of_slot(rows, slot, half, NIL)
    set_of_slot(rows, slot, ends + LOOKED_AT, last)
    if last == NIL:
        return
    row, after = last if _has_value(rows, layout, chain, last) else _kept_better(rows, layout, chain, last), NIL
    set_of_slot(rows, slot, ends + LAST_IN_CHAIN, row)
    while row != NIL:
        set_link(rows, row, links, after)
        after = row
        row = _kept_better(rows, layout, chain, row)
    set_of_slot(rows, slot, ends + FIRST_IN_CHAIN, after)


@compiled
def chain_labelled(rows: Any, layout: Any, entity: Any, slot: Any, oldest: Any) -> None:
    """Labels changed what counts, of no row before `oldest`: make the chains that read labels anew from there on, up to
    the frames' ends.
    """
    for front in range(layout[entity + FRONTS], layout[entity + FRONTS_END], FRONT_WORDS):
        high = of_slot(rows, slot, layout[front + HIGH])
        for chain in range(layout[front + CHAINS], layout[front + CHAINS_END], CHAIN_WORDS):
            looked_at = of_slot(rows, slot, layout[chain + ENDS] + LOOKED_AT)
            if layout[chain + READS_LABEL] == 0 or looked_at == NIL or is_after(rows, oldest, looked_at):
                continue
            row = high if high == NIL or is_after(rows, oldest, high) else preceding(rows, oldest)
            _chain_up_to(rows, layout, chain, slot, row)
            while row != high:
                row = of_slot(rows, slot, HEAD) if row == NIL else following(rows, row)
                _append(rows, layout, chain, slot, row)


@inlined
def extreme_of(
    rows: Any, layout: Any, front: Any, chain: Any, cursor: Any, slot: Any, low: Any, low_time: Any
) -> Any:  # fmt: skip
    """Whether an extreme has a value, and the value: of the rows from `low`, of `low_time`, up to the front."""
    high = of_slot(rows, slot, layout[front + HIGH])
    found, best = False, np.int64(0)
    if high == NIL or not is_from(rows, high, rows.heap[slot + layout[front + HIGH_TIME]], low, low_time):
        return found, best
    is_newest = high == of_slot(rows, slot, layout[chain + ENDS] + LOOKED_AT)
    if is_newest or layout[chain + TURN] == EARLIEST:
        row = _first_in_frame(rows, layout, chain, cursor, slot, low, low_time)
        set_of_slot(rows, slot, cursor, row)
        if row != NIL and (is_newest or is_up_to(rows, row, high)):
            return True, _value(rows, layout, chain, row)
        return found, best
    row = high if _has_value(rows, layout, chain, high) else _kept_better(rows, layout, chain, high)
    while row != NIL and is_from(rows, row, time_of(rows, row), low, low_time):
        found, best = True, _value(rows, layout, chain, row)
        row = _kept_better(rows, layout, chain, row)
    return found, best


@inlined
def _first_in_frame(
    rows: Any, layout: Any, chain: Any, cursor: Any, slot: Any, low: Any, low_time: Any
) -> Any:  # fmt: skip
    """The first row in the chain that does not come before `low`, sought from where it was before."""
    row = of_slot(rows, slot, cursor)
    if row == NIL:
        row = of_slot(rows, slot, layout[chain + ENDS] + LAST_IN_CHAIN)
    while row != NIL and not is_from(rows, row, time_of(rows, row), low, low_time):
        row = link(rows, row, layout[chain + CHAIN])
    if row == NIL:
        return row
    first = of_slot(rows, slot, layout[chain + ENDS] + FIRST_IN_CHAIN)
    while row != first:
        better = _better(rows, layout, chain, row)
        if not is_from(rows, better, time_of(rows, better), low, low_time):
            break
        row = better
    return row
