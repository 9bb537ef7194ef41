"""How a row is tried by the partial matches of its partition.

Of two partial matches with the same first row that come to the same state, the one that SQL does not prefer is given
up. So a first row has at most as many as there are states.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tidegate.kernel.machine.compiled import compiled
from tidegate.kernel.sequences import conditions as op
from tidegate.kernel.sequences import matchtables as of
from tidegate.kernel.sequences.matchstore import (
    BY,
    FOLLOWING,
    KNOWN,
    LANES,
    LAST,
    MASK,
    MATCH_START,
    MATCH_TIME,
    MATCH_WORDS,
    NIL,
    SCRATCH,
    SKIPPED,
    SLOT,
    START,
    START_TIME,
    STATE,
    THREAD_COUNT,
    THREAD_WORDS,
    THREADS,
    VALID,
    comes_before,
    free_threads,
    place,
    take_thread,
    time_of,
)


class Found(NamedTuple):
    matches: np.ndarray
    """int64[m, MATCH_WORDS + references]"""
    filled: np.ndarray
    """int64[1]: how many of them are matches."""


@compiled
def _aggregate(threads: Any, thread: Any, register: Any, kind: Any, value: Any) -> None:
    so_far, count = threads[thread, register], threads[thread, register + 1]
    threads[thread, register + 1] = count + 1
    if kind == of.SUMMED:
        threads[thread, register] += value
    elif count == 0 or (kind == of.LEAST and value < so_far) or (kind == of.GREATEST and value > so_far):
        threads[thread, register] = value


@compiled
def _remember(store: Any, tables: Any, thread: Any, variable: Any, row: Any) -> None:
    """Take a row, as a variable, into a thread's registers."""
    threads, at = store.threads, place(store, row)
    for group in range(tables.groups.shape[0]):
        if tables.groups[group, of.OF] != -1 and tables.groups[group, of.OF] != variable:
            continue
        kind, lane = tables.groups[group, of.KIND], tables.groups[group, of.LANE]
        register, size = THREAD_WORDS + tables.groups[group, of.REGISTER], tables.groups[group, of.SIZE]
        if kind == of.FIRSTS:
            i = register
            while i < register + size and threads[thread, i] != NIL:
                i += 1
            if i < register + size:
                threads[thread, i] = row
        elif kind == of.LASTS:
            for i in range(register + size - 1, register, -1):
                threads[thread, i] = threads[thread, i - 1]
            threads[thread, register] = row
        elif lane >= 0 and not (store.rows[at, VALID] >> lane) & 1:
            continue
        elif kind == of.COUNTED:
            threads[thread, register] += 1
        else:
            _aggregate(threads, thread, register, kind, store.rows[at, LANES + lane])


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
    threads, here = store.threads, place(store, row)
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
                    at = NIL if named == NIL else place(store, named)
                work.known[top] = at != NIL and (store.rows[at, VALID] >> lane) & 1
                work.stack[top] = store.rows[at, LANES + lane] if work.known[top] else 0
        elif op.takes_one(operation):
            op.work_one(work, top, operation, first)
        elif operation == op.IF:
            top -= 2
            chosen = top + 1 if work.known[top] and work.stack[top] != 0 else top + 2
            work.stack[top], work.known[top] = work.stack[chosen], work.known[chosen]
        else:
            top -= 1
            op.work_two(work, top, operation)
    return work.known[0] and work.stack[0] != 0


@compiled
def _is_a(store: Any, tables: Any, work: Any, thread: Any, variable: Any, row: Any) -> Any:
    """Whether a row may be taken as a variable by a thread, NIL: by a new one. If so, the scratch thread has it."""
    if not (store.rows[place(store, row), MASK] >> variable) & 1:
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
    mask = store.rows[place(store, row), MASK] & variables
    variable = 0
    while mask >> variable:
        if (mask >> variable) & 1 and _is_a(store, tables, work, thread, variable, row):
            return True
        variable += 1
    return False


@compiled
def report(store: Any, tables: Any, found: Any, thread: Any, by: Any, time: Any) -> None:
    """Write a whole match down."""
    match, threads = found.filled[0], store.threads
    found.filled[0] += 1
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
                at = place(store, value)
                value, known = store.rows[at, LANES + lane], bool((store.rows[at, VALID] >> lane) & 1)
        elif kind != of.COUNTED:
            known = threads[thread, register + 1] > 0
        matches[match, MATCH_WORDS + answer] = value
        matches[match, KNOWN] |= np.int64(known) << answer


@compiled
def skipped_to(store: Any, tables: Any, thread: Any, row: Any) -> Any:
    """The row up to which a whole match, which ends with `row`, ends all others: NIL if no others."""
    skip = tables.numbers[of.SKIP]
    if skip == of.TO_NEXT_ROW:
        return NIL
    if skip == of.PAST_LAST_ROW:
        return row
    return store.threads[thread, THREAD_WORDS + tables.numbers[of.SKIP_REGISTER]]


@compiled
def is_ended(store: Any, tables: Any, start: Any, upto: Any) -> Any:
    """Whether matches that start with a row are ended, those up to `upto` being so, NIL: none."""
    if upto == NIL:
        return False
    if start == upto:
        return tables.numbers[of.SKIP] == of.PAST_LAST_ROW
    return comes_before(store, start, upto)


@compiled
def _try(store: Any, tables: Any, work: Any, thread: Any, state: Any, row: Any, tail: Any, group: Any) -> Any:
    """Let a thread (NIL: a new one) take a row in each way it can, as new threads after `tail`; `group` is the last
    thread before those of the same first row. The new tail, and the thread that is whole with the row, or NIL.
    """
    threads = store.threads
    slot = store.rows[place(store, row), SLOT]
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
        new = take_thread(store)
        store.slots[slot, THREAD_COUNT] += 1
        for i in range(THREAD_WORDS, threads.shape[1]):
            threads[new, i] = threads[SCRATCH, i]
        threads[new, STATE], threads[new, LAST] = target, row
        threads[new, START] = row if thread == NIL else threads[thread, START]
        threads[new, START_TIME] = time_of(store, row) if thread == NIL else threads[thread, START_TIME]
        _append(store, slot, tail, new)
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
    free_threads(store, slot, first, NIL)


@compiled
def _append(store: Any, slot: Any, tail: Any, thread: Any) -> None:
    """Put a thread at the end of a partition's list, after `tail`."""
    store.threads[thread, FOLLOWING] = NIL
    if tail == NIL:
        store.slots[slot, THREADS] = thread
    else:
        store.threads[tail, FOLLOWING] = thread


@compiled
def step(store: Any, tables: Any, work: Any, slot: Any, row: Any, anew: Any, by: Any, found: Any) -> None:
    """Let the threads of a partition, and a new one, try its next row. `by` is the arrival that it is, NIL: no match is
    told of. `anew`: what the row ended is known already.
    """
    by_duration = tables.numbers[of.BY_DURATION]
    upto = store.rows[place(store, row), SKIPPED] if anew and not by_duration else NIL
    thread = store.slots[slot, THREADS]
    store.slots[slot, THREADS] = NIL
    # `group` is the last thread of the first row before the present one, `whole` a first row whose match is whole.
    tail, group, start, whole = NIL, NIL, NIL, NIL
    while thread != NIL:
        following, first = store.threads[thread, FOLLOWING], store.threads[thread, START]
        if first != start:
            start, group = first, tail
        ended = first == whole or is_ended(store, tables, first, upto)
        if time_of(store, row) - store.threads[thread, START_TIME] >= tables.numbers[of.SPAN]:
            if by_duration:  # it waits for its time
                _append(store, slot, tail, thread)
                tail, thread = thread, following
                continue
        elif not ended:
            tail, match = _try(store, tables, work, thread, store.threads[thread, STATE], row, tail, group)
            if match != NIL:
                whole, tail = first, group
                upto, by = _tell(store, tables, slot, row, match, group, upto, anew, by, found)
        free_threads(store, slot, thread, following)
        thread = following
    if not is_ended(store, tables, row, upto) and (not by_duration or store.rows[place(store, row), SKIPPED] != row):
        _, match = _try(store, tables, work, NIL, 0, row, tail, tail)
        if match != NIL:
            upto, by = _tell(store, tables, slot, row, match, tail, upto, anew, by, found)
    if not by_duration:
        store.rows[place(store, row), SKIPPED] = upto
        _end_threads(store, tables, slot, upto)


@compiled
def _tell(
    store: Any, tables: Any, slot: Any, row: Any, match: Any, group: Any, upto: Any, anew: Any, by: Any, found: Any
) -> Any:
    """A match is whole: write it down, if it is to be told of, and free its threads, those after `group`. The row up to
    which matches are ended now, and NIL for `by` if it was told of.
    """
    if by != NIL:
        report(store, tables, found, match, by, time_of(store, row))
    if not anew:
        further = skipped_to(store, tables, match, row)
        if upto == NIL or (further != NIL and comes_before(store, upto, further)):
            upto = further
    _cut(store, slot, group)
    return upto, NIL


@compiled
def _end_threads(store: Any, tables: Any, slot: Any, upto: Any) -> None:
    """Free the threads whose first rows are up to `upto`: the first ones of the list."""
    thread = store.slots[slot, THREADS]
    kept = thread
    while kept != NIL and is_ended(store, tables, store.threads[kept, START], upto):
        kept = store.threads[kept, FOLLOWING]
    free_threads(store, slot, thread, kept)
    store.slots[slot, THREADS] = kept
