"""The loop over the rows of one sequence: each is put into its partition, where every partial match tries it.

A row out of order is put where it belongs; then its partition's partial matches are made anew from the rows that can be
in a match with it. What matches ended before it is kept with the rows, as SKIPPED, so that none is found twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tidegate.kernel.machine import table
from tidegate.kernel.machine.compiled import compiled, entry
from tidegate.kernel.sequences import matchtables as of
from tidegate.kernel.sequences.matchstore import (
    END,
    FOLLOWING,
    FREE_SLOTS,
    FREE_THREADS,
    ID,
    LAST,
    MASK,
    NEWEST,
    NEXT,
    NIL,
    PREV,
    ROW_COUNT,
    SKIPPED,
    SLOT,
    SLOT_TABLE,
    SLOTS_END,
    START,
    STATE,
    TAIL,
    THREAD_COUNT,
    THREADS,
    THREADS_END,
    TIMERS,
    comes_before,
    find_slot,
    free_threads,
    link_row,
    open_slot,
    place,
    retire_rows,
    time_of,
)
from tidegate.kernel.sequences.threads import is_ended, report, skipped_to, step

#: What there may be too little of.
ENOUGH, MORE_SLOTS, MORE_THREADS, MORE_MATCHES = 0, 1, 2, 3


class Rows(NamedTuple):
    """n rows that arrive. They lie in the ring already, but for their links."""

    keys: np.ndarray
    """int64[n, 2]"""
    before: np.ndarray
    """int64[n]: the newest time before it."""
    clock: np.ndarray
    """int64[n + 1]: the newest time with it; the last: in the end."""


@compiled
def _push_timer(store: Any, row: Any) -> None:
    timers, at = store.timers, store.registers[TIMERS]
    store.registers[TIMERS] += 1
    while at and comes_before(store, row, timers[(at - 1) // 2]):
        timers[at] = timers[(at - 1) // 2]
        at = (at - 1) // 2
    timers[at] = row


@compiled
def _pop_timer(store: Any) -> Any:
    timers = store.timers
    due = timers[0]
    store.registers[TIMERS] -= 1
    count = store.registers[TIMERS]
    row, at = timers[count], 0
    while 2 * at + 1 < count:
        below = 2 * at + 1
        if below + 1 < count and comes_before(store, timers[below + 1], timers[below]):
            below += 1
        if not comes_before(store, timers[below], row):
            break
        timers[at] = timers[below]
        at = below
    timers[at] = row
    return due


@compiled
def _complete(store: Any, tables: Any, start: Any, by: Any, found: Any) -> None:
    """The span of a match that started with a row has passed: if it is whole, it is complete now."""
    rows, threads = store.rows, store.threads
    slot = rows[place(store, start), SLOT]
    thread = store.slots[slot, THREADS]
    while thread != NIL and (
        threads[thread, START] != start or not tables.states[threads[thread, STATE], of.ACCEPTING]
    ):
        thread = threads[thread, FOLLOWING]
    upto = NIL
    if thread != NIL:
        report(store, tables, found, thread, by, time_of(store, start) + tables.numbers[of.SPAN])
        upto = skipped_to(store, tables, thread, threads[thread, LAST])
    # None that is ended shall start anew when a row out of order comes.
    row = start
    while row == start or (row != NIL and is_ended(store, tables, row, upto)):
        rows[place(store, row), SKIPPED] = row
        row = rows[place(store, row), NEXT]
    kept, thread = NIL, store.slots[slot, THREADS]
    while thread != NIL:
        following = threads[thread, FOLLOWING]
        first = threads[thread, START]
        if first == start or is_ended(store, tables, first, upto):
            if kept == NIL:
                store.slots[slot, THREADS] = following
            else:
                threads[kept, FOLLOWING] = following
            free_threads(store, slot, thread, following)
        else:
            kept = thread
        thread = following


@compiled
def _fire(store: Any, tables: Any, clock: Any, by: Any, found: Any) -> Any:
    """Complete what has become due. False: there is no room for more matches."""
    while store.registers[TIMERS]:
        start = store.timers[0]
        if time_of(store, start) + tables.numbers[of.SPAN] > clock - tables.numbers[of.LATENESS]:
            return True
        if found.filled[0] == found.matches.shape[0]:
            return False
        _complete(store, tables, _pop_timer(store), by, found)
    return True


@compiled
def _take_out_of_order(
    store: Any, tables: Any, work: Any, slot: Any, row: Any, newest: Any, by: Any, found: Any
) -> None:
    """Make the partition's threads anew from the rows that are in a match with the row."""
    rows = store.rows
    since = time_of(store, row)
    if tables.numbers[of.BY_DURATION]:
        since = newest - tables.numbers[of.LATENESS]  # what began before waits no more
    since -= tables.numbers[of.SPAN]
    free_threads(store, slot, store.slots[slot, THREADS], NIL)
    store.slots[slot, THREADS] = NIL
    each = row
    while rows[place(store, each), PREV] != NIL and time_of(store, rows[place(store, each), PREV]) > since:
        each = rows[place(store, each), PREV]
    while each != row:
        step(store, tables, work, slot, each, True, NIL, found)
        each = rows[place(store, each), NEXT]
    step(store, tables, work, slot, row, False, by, found)
    each = rows[place(store, row), NEXT]
    while each != NIL:
        step(store, tables, work, slot, each, False, NIL, found)
        each = rows[place(store, each), NEXT]


@compiled
def _short_of(store: Any, tables: Any, slot: Any, in_order: Any, found: Any) -> Any:
    """What there must be more of before a row can be taken. Most threads by far that it can need are reckoned with."""
    registers, numbers = store.registers, tables.numbers
    if found.filled[0] == found.matches.shape[0]:
        return MORE_MATCHES
    if registers[FREE_SLOTS] == 0 and registers[SLOTS_END] == store.slots.shape[0]:
        return MORE_SLOTS
    demand = numbers[of.MOST_BRANCHES]
    if slot != NIL and in_order:
        demand *= store.slots[slot, THREAD_COUNT] + 1
    elif slot != NIL:
        demand += (store.slots[slot, ROW_COUNT] + 1) * numbers[of.STATES]
    if registers[FREE_THREADS] + store.threads.shape[0] - registers[THREADS_END] < demand:
        return MORE_THREADS
    return ENOUGH


@compiled
def _take(store: Any, tables: Any, work: Any, arrivals: Any, i: Any, row: Any, found: Any) -> Any:
    """Take a row in; what there is too little of, ENOUGH if it was taken."""
    rows, numbers = store.rows, tables.numbers
    at, time = place(store, row), time_of(store, row)
    rows[at, SLOT], rows[at, SKIPPED] = NIL, NIL
    if time < arrivals.before[i] - numbers[of.LATENESS]:
        return ENOUGH
    key0, key1 = arrivals.keys[i, 0], arrivals.keys[i, 1]
    named = table.entry_at(store.slot_table, SLOT_TABLE, find_slot(store, key0, key1))
    slot = NIL if named == table.EMPTY else table.name_in(named)
    before = NIL if slot == NIL else store.slots[slot, TAIL]
    while before != NIL and time_of(store, before) > time:
        before = rows[place(store, before), PREV]
    equal = before
    while equal != NIL and time_of(store, equal) == time:
        if rows[place(store, equal), ID] == rows[at, ID]:
            return ENOUGH
        equal = rows[place(store, equal), PREV]
    in_order = slot == NIL or before == store.slots[slot, TAIL]
    short = _short_of(store, tables, slot, in_order, found)
    if short != ENOUGH:
        return short
    if slot == NIL:
        slot = open_slot(store, key0, key1)
    link_row(store, slot, before, row)
    if in_order:
        step(store, tables, work, slot, row, False, i, found)
    else:
        _take_out_of_order(store, tables, work, slot, row, arrivals.clock[i], i, found)
    if numbers[of.BY_DURATION] and _started(store, tables, row):
        _push_timer(store, row)
    return ENOUGH


@compiled
def _started(store: Any, tables: Any, row: Any) -> Any:
    """Whether a row can be the first of a match."""
    mask = store.rows[place(store, row), MASK]
    for branch in range(tables.states[0, of.FIRST_BRANCH], tables.states[0, of.END_BRANCH]):
        if (mask >> tables.branches[branch, of.VARIABLE]) & 1:
            return True
    return False


@entry
def run_matches(store: Any, tables: Any, work: Any, arrivals: Any, start: Any, found: Any) -> Any:
    """Take rows in, from the one at `start` on. How many were taken (one more: what became due in the end was
    completed too), and what there was too little of to take the next.
    """
    registers, numbers = store.registers, tables.numbers
    count = len(arrivals.before)
    first = registers[END] - start
    for i in range(start, count + 1):
        clock = arrivals.clock[i]
        if numbers[of.BY_DURATION] and not _fire(store, tables, clock, i, found):
            return i, MORE_MATCHES
        retire_rows(store, clock - numbers[of.SPAN] - numbers[of.LATENESS], registers[END])
        if i < count:
            short = _take(store, tables, work, arrivals, i, first + i, found)
            if short != ENOUGH:
                return i, short
            registers[END] += 1
        registers[NEWEST] = clock
    return count + 1, ENOUGH
