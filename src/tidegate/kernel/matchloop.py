"""The loop over the rows of one sequence: each is put into its partition, and every partial match there tries it.

Rows lie in a ring in the order of their arrival, each linked to its neighbours by time in its partition. A partial
match is a thread: the state it is in, its first and last row, and the registers of what its conditions and measures
remember. A partition's threads are in a list, by their first rows, those of one first row as SQL prefers them; of two
in the same state the second is given up.

A row out of order is put where it belongs; then its partition's threads are made anew from the rows that a match of its
time can have. What matches ended before it is kept with the rows, as SKIPPED, so that none is found twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tidegate.kernel import conditions as op
from tidegate.kernel import matchtables as of
from tidegate.kernel import table
from tidegate.kernel.compiled import compiled, entry, inlined

NIL = -1

# A row's words; its lanes follow. MASK: the variables that it may be, VALID: the lanes that are not NULL. SLOT: its
# partition's, NIL if it takes no part. SKIPPED: the row up to which a match that it completed ended all others; of a
# row that may start no more match, by the duration's end, its own name.
TIME, ID, MASK, VALID, SLOT, NEXT, PREV, SKIPPED, LANES = 0, 1, 2, 3, 4, 5, 6, 7, 8
# A partition's words.
KEY0, KEY1, HEAD, TAIL, THREADS, ROW_COUNT, THREAD_COUNT, SLOT_WORDS = 0, 1, 2, 3, 4, 5, 6, 7
# A thread's words; its registers follow. Thread 0 is where a row is tried.
FOLLOWING, STATE, START, START_TIME, LAST, THREAD_WORDS = 0, 1, 2, 3, 4, 5
SCRATCH = 0

# Registers: the newest time, the ring's first row and the one after its last, the first free thread and slot, how many
# of each are free in these lists, where they were never used from, and how many timers there are.
NEWEST, FIRST, END, FREE_THREAD, FREE_SLOT, FREE_THREADS, FREE_SLOTS, THREADS_END, SLOTS_END, TIMERS = range(10)
REGISTERS = 10

# A match's words; what its measures remember follows. BY: the arrival at which it was found.
BY, MATCH_START, MATCH_TIME, KNOWN, MATCH_WORDS = 0, 1, 2, 3, 4

#: What there may be too little of.
ENOUGH, MORE_SLOTS, MORE_THREADS, MORE_MATCHES = 0, 1, 2, 3


class Store(NamedTuple):
    """All state of one sequence."""

    registers: np.ndarray
    """int64[REGISTERS]"""
    rows: np.ndarray
    """int64[r, LANES + lanes], r a power of two: row number n lies at n mod r."""
    slots: np.ndarray
    """int64[s, SLOT_WORDS]"""
    slot_table: np.ndarray
    """int64[2s]: partitions by key."""
    threads: np.ndarray
    """int64[t, THREAD_WORDS + registers]"""
    timers: np.ndarray
    """int64[r]: a heap of the rows that started a match by duration, the one that is due first on top."""


class Rows(NamedTuple):
    """n rows that arrive. They lie in the ring already, but for their links."""

    keys: np.ndarray
    """int64[n, 2]"""
    before: np.ndarray
    """int64[n]: the newest time before it."""
    clock: np.ndarray
    """int64[n + 1]: the newest time with it; the last: in the end."""


class Found(NamedTuple):
    matches: np.ndarray
    """int64[m, MATCH_WORDS + references]"""
    count: np.ndarray
    """int64[1]: how many of them are filled."""


@inlined
def _at(store: Any, row: Any) -> Any:
    """Where a row lies in the ring."""
    return row & (store.rows.shape[0] - 1)


@inlined
def _time(store: Any, row: Any) -> Any:
    return store.rows[_at(store, row), TIME]


@compiled
def _comes_before(store: Any, row: Any, other: Any) -> Any:
    """Whether a row is before another of its partition."""
    time, other_time = _time(store, row), _time(store, other)
    return time < other_time or (time == other_time and row < other)


# --- conditions ---


@compiled
def _remember(store: Any, tables: Any, thread: Any, variable: Any, row: Any) -> None:
    """Take a row, as a variable, into a thread's registers."""
    threads, at = store.threads, _at(store, row)
    for group in range(tables.groups.shape[0]):
        if tables.groups[group, of.OF] != -1 and tables.groups[group, of.OF] != variable:
            continue
        kind, lane = tables.groups[group, of.KIND], tables.groups[group, of.LANE]
        register, size = THREAD_WORDS + tables.groups[group, of.REGISTER], tables.groups[group, of.SIZE]
        if kind == of.FIRSTS:
            for i in range(register, register + size):
                if threads[thread, i] == NIL:
                    threads[thread, i] = row
                    break
        elif kind == of.LASTS:
            for i in range(register + size - 1, register, -1):
                threads[thread, i] = threads[thread, i - 1]
            threads[thread, register] = row
        elif lane >= 0 and not (store.rows[at, VALID] >> lane) & 1:
            continue
        elif kind == of.COUNTED:
            threads[thread, register] += 1
        else:
            value, count = store.rows[at, LANES + lane], threads[thread, register + 1]
            if kind == of.SUMMED:
                threads[thread, register] += value
            elif (
                count == 0
                or (kind == of.LEAST and value < threads[thread, register])
                or (kind == of.GREATEST and value > threads[thread, register])
            ):
                threads[thread, register] = value
            threads[thread, register + 1] = count + 1


@compiled
def _forget(store: Any, tables: Any, thread: Any) -> None:
    """Set a thread's registers to those of a match that has no row."""
    for group in range(tables.groups.shape[0]):
        kind, register = tables.groups[group, of.KIND], THREAD_WORDS + tables.groups[group, of.REGISTER]
        for i in range(register, register + tables.groups[group, of.SIZE]):
            store.threads[thread, i] = NIL if kind in (of.FIRSTS, of.LASTS) else 0


@compiled
def _is_true(store: Any, tables: Any, work: Any, variable: Any, row: Any) -> Any:
    """Whether the instructions of a variable come to true for the row and the scratch thread, which has the row."""
    threads, here = store.threads, _at(store, row)
    top = -1
    for i in range(tables.conditions[variable, 0], tables.conditions[variable, 1]):
        operation, first, second = tables.code[i, 0], tables.code[i, 1], tables.code[i, 2]
        if operation <= op.REGISTER:
            top += 1
            if operation == op.CONSTANT:
                work.stack[top], work.known[top] = first, True
            elif operation == op.UNKNOWN:
                work.stack[top], work.known[top] = 0, False
            elif operation == op.REGISTER:
                work.stack[top] = threads[SCRATCH, THREAD_WORDS + first]
                work.known[top] = second == -1 or threads[SCRATCH, THREAD_WORDS + second] > 0
            else:
                at, lane = here, first
                if operation == op.AT:
                    named, lane = threads[SCRATCH, THREAD_WORDS + first], second
                    at = NIL if named == NIL else _at(store, named)
                work.known[top] = at != NIL and (store.rows[at, VALID] >> lane) & 1
                work.stack[top] = store.rows[at, LANES + lane] if work.known[top] else 0
        elif op.takes_one(operation):
            op._one(work, top, operation, first)
        elif operation == op.IF:
            top -= 2
            chosen = top + 1 if work.known[top] and work.stack[top] != 0 else top + 2
            work.stack[top], work.known[top] = work.stack[chosen], work.known[chosen]
        else:
            top -= 1
            op._two(work, top, operation)
    return work.known[0] and work.stack[0] != 0


@compiled
def _is_a(store: Any, tables: Any, work: Any, thread: Any, variable: Any, row: Any) -> Any:
    """Whether a row may be taken as a variable by a thread, NIL: by a new one. If so, the scratch thread has it."""
    if not (store.rows[_at(store, row), MASK] >> variable) & 1:
        return False
    if thread == NIL:
        _forget(store, tables, SCRATCH)
    else:
        for i in range(THREAD_WORDS, store.threads.shape[1]):
            store.threads[SCRATCH, i] = store.threads[thread, i]
    _remember(store, tables, SCRATCH, variable, row)
    if tables.conditions[variable, 0] == tables.conditions[variable, 1]:
        return True
    return _is_true(store, tables, work, variable, row)


@compiled
def _is_any(store: Any, tables: Any, work: Any, thread: Any, variables: Any, row: Any) -> Any:
    """Whether a row may be taken as one of the variables, a set of bits."""
    mask = store.rows[_at(store, row), MASK] & variables
    variable = 0
    while mask >> variable:
        if (mask >> variable) & 1 and _is_a(store, tables, work, thread, variable, row):
            return True
        variable += 1
    return False


# --- threads ---


@compiled
def _take_thread(store: Any) -> Any:
    registers = store.registers
    thread = registers[FREE_THREAD]
    if thread != NIL:
        registers[FREE_THREAD] = store.threads[thread, FOLLOWING]
        registers[FREE_THREADS] -= 1
    else:
        thread = registers[THREADS_END]
        registers[THREADS_END] += 1
    return thread


@compiled
def _free_threads(store: Any, slot: Any, thread: Any, end: Any) -> None:
    """Free threads from one up to another, which stays."""
    while thread != end:
        following = store.threads[thread, FOLLOWING]
        store.threads[thread, FOLLOWING] = store.registers[FREE_THREAD]
        store.registers[FREE_THREAD] = thread
        store.registers[FREE_THREADS] += 1
        store.slots[slot, THREAD_COUNT] -= 1
        thread = following


@compiled
def _report(store: Any, tables: Any, found: Any, thread: Any, by: Any, time: Any) -> None:
    """Write a whole match down."""
    match, threads = found.count[0], store.threads
    found.count[0] += 1
    matches = found.matches
    matches[match, BY], matches[match, MATCH_TIME] = by, time
    matches[match, MATCH_START], matches[match, KNOWN] = threads[thread, START], 0
    for answer in range(tables.answers.shape[0]):
        kind, lane = tables.answers[answer, of.KIND], tables.answers[answer, of.LANE]
        register = THREAD_WORDS + tables.answers[answer, of.REGISTER]
        value, known = threads[thread, register], True
        if kind in (of.FIRSTS, of.LASTS):
            known = value != NIL
            if known and not tables.answers[answer, of.TEXT]:
                at = _at(store, value)
                value, known = store.rows[at, LANES + lane], bool((store.rows[at, VALID] >> lane) & 1)
        elif kind != of.COUNTED:
            known = threads[thread, register + 1] > 0
        matches[match, MATCH_WORDS + answer] = value
        matches[match, KNOWN] |= np.int64(known) << answer


@compiled
def _bound(store: Any, tables: Any, thread: Any, row: Any) -> Any:
    """The row up to which a whole match, which ends with `row`, ends all others: NIL if no others."""
    skip = tables.numbers[of.SKIP]
    if skip == of.TO_NEXT_ROW:
        return NIL
    if skip == of.PAST_LAST_ROW:
        return row
    return store.threads[thread, THREAD_WORDS + tables.numbers[of.SKIP_REGISTER]]


@compiled
def _is_ended(store: Any, tables: Any, start: Any, bound: Any) -> Any:
    """Whether the bound ends a match that starts with a row."""
    if bound == NIL:
        return False
    if start == bound:
        return tables.numbers[of.SKIP] == of.PAST_LAST_ROW
    return _comes_before(store, start, bound)


@compiled
def _try(store: Any, tables: Any, work: Any, thread: Any, state: Any, row: Any, tail: Any, group: Any) -> Any:
    """Let a thread (NIL: a new one) take a row in each way it can, as new threads after `tail`; `group` is the last
    thread before those of the same first row. The new tail, and the thread that is whole with the row, or NIL.
    """
    threads = store.threads
    slot = store.rows[_at(store, row), SLOT]
    for branch in range(tables.states[state, of.FIRST_BRANCH], tables.states[state, of.END_BRANCH]):
        unless, variable = tables.branches[branch, of.UNLESS], tables.branches[branch, of.VARIABLE]
        if unless and _is_any(store, tables, work, thread, unless, row):
            continue
        if not _is_a(store, tables, work, thread, variable, row):
            continue
        target = tables.branches[branch, of.TARGET]
        other = threads[group, FOLLOWING] if group != NIL else store.slots[slot, THREADS]
        while other != NIL and threads[other, STATE] != target:
            other = threads[other, FOLLOWING]
        if other != NIL:
            continue
        new = _take_thread(store)
        store.slots[slot, THREAD_COUNT] += 1
        for i in range(THREAD_WORDS, threads.shape[1]):
            threads[new, i] = threads[SCRATCH, i]
        threads[new, STATE], threads[new, LAST], threads[new, FOLLOWING] = target, row, NIL
        threads[new, START] = row if thread == NIL else threads[thread, START]
        threads[new, START_TIME] = _time(store, row) if thread == NIL else threads[thread, START_TIME]
        if tail == NIL:
            store.slots[slot, THREADS] = new
        else:
            threads[tail, FOLLOWING] = new
        tail = new
        if tables.states[target, of.ACCEPTING] and not tables.numbers[of.BY_DURATION]:
            return tail, new
    return tail, NIL


@compiled
def _cut(store: Any, slot: Any, group: Any) -> None:
    """Free the threads after `group`, NIL: all."""
    first = store.slots[slot, THREADS] if group == NIL else store.threads[group, FOLLOWING]
    if group == NIL:
        store.slots[slot, THREADS] = NIL
    else:
        store.threads[group, FOLLOWING] = NIL
    _free_threads(store, slot, first, NIL)


@compiled
def _step(store: Any, tables: Any, work: Any, slot: Any, row: Any, anew: Any, by: Any, found: Any) -> None:
    """Let the threads of a partition try its next row. `by` is the arrival that it is, NIL: no match is told of.
    `anew`: what the row ended is known already.
    """
    threads, numbers = store.threads, tables.numbers
    time, span = _time(store, row), numbers[of.SPAN]
    bound = store.rows[_at(store, row), SKIPPED] if anew and not numbers[of.BY_DURATION] else NIL
    thread = store.slots[slot, THREADS]
    store.slots[slot, THREADS] = NIL
    # `group` is the last thread of the first row before the present one, `whole` a first row whose match is whole.
    tail, group, start, whole = NIL, NIL, NIL, NIL
    starting = store.rows[_at(store, row), SKIPPED] != row or not numbers[of.BY_DURATION]
    while thread != NIL or starting:
        new = thread == NIL
        if new:
            starting = False
        first = row if new else threads[thread, START]
        if first != start:
            start, group = first, tail
        following = NIL if new else threads[thread, FOLLOWING]
        in_span = new or time - threads[thread, START_TIME] < span
        ended = first == whole or (bound != NIL and _is_ended(store, tables, first, bound))
        if not in_span and numbers[of.BY_DURATION] and not ended:
            # It waits for its time.
            if tail == NIL:
                store.slots[slot, THREADS] = thread
            else:
                threads[tail, FOLLOWING] = thread
            threads[thread, FOLLOWING] = NIL
            tail, thread = thread, following
            continue
        if in_span and not ended:
            tail, match = _try(store, tables, work, thread, 0 if new else threads[thread, STATE], row, tail, group)
            if match != NIL:
                whole = first
                if by != NIL:
                    _report(store, tables, found, match, by, time)
                    by = NIL
                if not anew:
                    further = _bound(store, tables, match, row)
                    if bound == NIL or (further != NIL and _comes_before(store, bound, further)):
                        bound = further
                _cut(store, slot, group)
                tail = group
        if not new:
            _free_threads(store, slot, thread, following)
        thread = following
    if not numbers[of.BY_DURATION]:
        store.rows[_at(store, row), SKIPPED] = bound
        if bound != NIL:
            _end_threads(store, tables, slot, bound)


@compiled
def _end_threads(store: Any, tables: Any, slot: Any, bound: Any) -> None:
    """Free the threads that a bound ends: the first ones of the list."""
    thread = store.slots[slot, THREADS]
    kept = thread
    while kept != NIL and _is_ended(store, tables, store.threads[kept, START], bound):
        kept = store.threads[kept, FOLLOWING]
    _free_threads(store, slot, thread, kept)
    store.slots[slot, THREADS] = kept


# --- partitions ---


@compiled
def _find_slot(store: Any, key0: Any, key1: Any) -> Any:
    """Where in the table the partition of a key is; the entry there is EMPTY if there is none."""
    mask = len(store.slot_table) - 1
    h = table.hash_of(key0, key1)
    at = h & mask
    while store.slot_table[at] != table.EMPTY:
        entry_ = store.slot_table[at]
        if entry_ >> 32 == h:
            slot = table.name_in(entry_)
            if store.slots[slot, KEY0] == key0 and store.slots[slot, KEY1] == key1:
                return at
        at = (at + 1) & mask
    return at


@compiled
def _open_slot(store: Any, key0: Any, key1: Any) -> Any:
    registers = store.registers
    slot = registers[FREE_SLOT]
    if slot != NIL:
        registers[FREE_SLOT] = store.slots[slot, KEY0]
        registers[FREE_SLOTS] -= 1
    else:
        slot = registers[SLOTS_END]
        registers[SLOTS_END] += 1
    slots = store.slots
    slots[slot, KEY0], slots[slot, KEY1] = key0, key1
    slots[slot, HEAD], slots[slot, TAIL], slots[slot, THREADS] = NIL, NIL, NIL
    slots[slot, ROW_COUNT], slots[slot, THREAD_COUNT] = 0, 0
    table.insert(store.slot_table, 0, len(store.slot_table) - 1, key0, key1, slot)
    return slot


@compiled
def _link(store: Any, slot: Any, before: Any, row: Any) -> None:
    """Put a row after `before`, NIL: as the first."""
    rows, slots = store.rows, store.slots
    after = slots[slot, HEAD] if before == NIL else rows[_at(store, before), NEXT]
    at = _at(store, row)
    rows[at, PREV], rows[at, NEXT], rows[at, SLOT] = before, after, slot
    if before == NIL:
        slots[slot, HEAD] = row
    else:
        rows[_at(store, before), NEXT] = row
    if after == NIL:
        slots[slot, TAIL] = row
    else:
        rows[_at(store, after), PREV] = row
    slots[slot, ROW_COUNT] += 1


@compiled
def _retire(store: Any, floor: Any, end: Any) -> None:
    """Let rows go that are older than `floor`, as far as those that came before them are gone."""
    registers, rows, slots = store.registers, store.rows, store.slots
    while registers[FIRST] < end:
        at = _at(store, registers[FIRST])
        if rows[at, TIME] >= floor:
            return
        registers[FIRST] += 1
        slot = rows[at, SLOT]
        if slot == NIL:
            continue
        before, after = rows[at, PREV], rows[at, NEXT]
        if before == NIL:
            slots[slot, HEAD] = after
        else:
            rows[_at(store, before), NEXT] = after
        if after == NIL:
            slots[slot, TAIL] = before
        else:
            rows[_at(store, after), PREV] = before
        slots[slot, ROW_COUNT] -= 1
        if slots[slot, HEAD] == NIL:
            _free_threads(store, slot, slots[slot, THREADS], NIL)
            mask = len(store.slot_table) - 1
            table.remove(store.slot_table, 0, mask, _find_slot(store, slots[slot, KEY0], slots[slot, KEY1]))
            slots[slot, KEY0] = registers[FREE_SLOT]
            registers[FREE_SLOT] = slot
            registers[FREE_SLOTS] += 1


# --- durations ---


@compiled
def _push_timer(store: Any, row: Any) -> None:
    timers, at = store.timers, store.registers[TIMERS]
    store.registers[TIMERS] += 1
    while at and _comes_before(store, row, timers[(at - 1) // 2]):
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
        if below + 1 < count and _comes_before(store, timers[below + 1], timers[below]):
            below += 1
        if not _comes_before(store, timers[below], row):
            break
        timers[at] = timers[below]
        at = below
    timers[at] = row
    return due


@compiled
def _complete(store: Any, tables: Any, start: Any, by: Any, found: Any) -> None:
    """The span of a match that started with a row has passed: if it is whole, it is complete now."""
    rows, threads = store.rows, store.threads
    slot = rows[_at(store, start), SLOT]
    thread = store.slots[slot, THREADS]
    while thread != NIL and (
        threads[thread, START] != start or not tables.states[threads[thread, STATE], of.ACCEPTING]
    ):
        thread = threads[thread, FOLLOWING]
    bound = NIL
    if thread != NIL:
        _report(store, tables, found, thread, by, _time(store, start) + tables.numbers[of.SPAN])
        bound = _bound(store, tables, thread, threads[thread, LAST])
    # None that is ended shall start anew when a row out of order comes.
    row = start
    while row == start or (row != NIL and _is_ended(store, tables, row, bound)):
        rows[_at(store, row), SKIPPED] = row
        row = rows[_at(store, row), NEXT]
    kept, thread = NIL, store.slots[slot, THREADS]
    while thread != NIL:
        following = threads[thread, FOLLOWING]
        first = threads[thread, START]
        if first == start or _is_ended(store, tables, first, bound):
            if kept == NIL:
                store.slots[slot, THREADS] = following
            else:
                threads[kept, FOLLOWING] = following
            _free_threads(store, slot, thread, following)
        else:
            kept = thread
        thread = following


@compiled
def _fire(store: Any, tables: Any, clock: Any, by: Any, found: Any) -> Any:
    """Complete what has become due. False: there is no room for more matches."""
    while store.registers[TIMERS]:
        start = store.timers[0]
        if _time(store, start) + tables.numbers[of.SPAN] > clock - tables.numbers[of.LATENESS]:
            return True
        if found.count[0] == found.matches.shape[0]:
            return False
        _complete(store, tables, _pop_timer(store), by, found)
    return True


# --- rows ---


@compiled
def _take_out_of_order(
    store: Any, tables: Any, work: Any, slot: Any, row: Any, newest: Any, by: Any, found: Any
) -> None:
    """Make the partition's threads anew from the rows that are in a match with the row."""
    rows = store.rows
    since = _time(store, row)
    if tables.numbers[of.BY_DURATION]:
        since = newest - tables.numbers[of.LATENESS]  # what began before waits no more
    since -= tables.numbers[of.SPAN]
    _free_threads(store, slot, store.slots[slot, THREADS], NIL)
    store.slots[slot, THREADS] = NIL
    step = row
    while rows[_at(store, step), PREV] != NIL and _time(store, rows[_at(store, step), PREV]) > since:
        step = rows[_at(store, step), PREV]
    while step != row:
        _step(store, tables, work, slot, step, True, NIL, found)
        step = rows[_at(store, step), NEXT]
    _step(store, tables, work, slot, row, False, by, found)
    step = rows[_at(store, row), NEXT]
    while step != NIL:
        _step(store, tables, work, slot, step, False, NIL, found)
        step = rows[_at(store, step), NEXT]


@compiled
def _short_of(store: Any, tables: Any, slot: Any, in_order: Any, found: Any) -> Any:
    """What there must be more of before a row can be taken. Most threads by far that it can need are reckoned with."""
    registers, numbers = store.registers, tables.numbers
    if found.count[0] == found.matches.shape[0]:
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
    registers, rows, numbers = store.registers, store.rows, tables.numbers
    at, time = _at(store, row), _time(store, row)
    rows[at, SLOT], rows[at, SKIPPED] = NIL, NIL
    if time < arrivals.before[i] - numbers[of.LATENESS]:
        return ENOUGH
    key0, key1 = arrivals.keys[i, 0], arrivals.keys[i, 1]
    entry_ = store.slot_table[_find_slot(store, key0, key1)]
    slot = NIL if entry_ == table.EMPTY else table.name_in(entry_)
    before = NIL if slot == NIL else store.slots[slot, TAIL]
    while before != NIL and _time(store, before) > time:
        before = rows[_at(store, before), PREV]
    equal = before
    while equal != NIL and _time(store, equal) == time:
        if rows[_at(store, equal), ID] == rows[at, ID]:
            return ENOUGH
        equal = rows[_at(store, equal), PREV]
    in_order = slot == NIL or before == store.slots[slot, TAIL]
    short = _short_of(store, tables, slot, in_order, found)
    if short != ENOUGH:
        return short
    if slot == NIL:
        slot = _open_slot(store, key0, key1)
    _link(store, slot, before, row)
    if in_order:
        _step(store, tables, work, slot, row, False, i, found)
    else:
        _take_out_of_order(store, tables, work, slot, row, arrivals.clock[i], i, found)
    if numbers[of.BY_DURATION] and _started(store, tables, row):
        _push_timer(store, row)
    return ENOUGH


@compiled
def _started(store: Any, tables: Any, row: Any) -> Any:
    """Whether a row can be the first of a match."""
    mask = store.rows[_at(store, row), MASK]
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
        _retire(store, clock - numbers[of.SPAN] - numbers[of.LATENESS], registers[END])
        if i < count:
            short = _take(store, tables, work, arrivals, i, first + i, found)
            if short != ENOUGH:
                return i, short
            registers[END] += 1
        registers[NEWEST] = clock
    return count + 1, ENOUGH
