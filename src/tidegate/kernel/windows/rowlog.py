"""The row logs: of each entity, every row that its windows may still need, threaded into one list by time for each key.

All state is one heap of 64-bit words, the first of them registers. What lies in it:

    events      a ring, in order of arrival: ids that are remembered, and what labels said of them
    rows        a ring for each entity, in order of arrival: the rows that may count in its windows
    slot        of one key of one entity: its cursors into its list of rows, its running values
    label       one of an event's history, newest first; for each entity that reads labels also in its key's list
    waiting     the history of a transaction that has not come
    tables      of events by id, of slots by key, of the newest row by value

What is in a ring is named by its number, all else by where it lies. Names are 32 bits wide, and signed: they are the
halves of words, `links` being the same heap in halves. NIL names nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tidegate.kernel.machine import clock
from tidegate.kernel.machine.compiled import compiled, inlined
from tidegate.kernel.machine.memory import halves_of, words_of

NIL = -1

BEGIN_OF_TIME, END_OF_TIME = -(2**63), 2**63 - 1

#: Numbers in a ring start again at 2^31.
MAX_NAMES = 2**31
_NAMES_MASK = MAX_NAMES - 1

# A verdict: what a label says of an event.
UNKNOWN, GENUINE, FRAUD = 0, 1, 2

# A ring's registers: the word where it begins, how many it has room for less one, its first, and how many there are.
RING_AT, RING_MASK, RING_FIRST, RING_COUNT, RING_REGISTERS = 0, 1, 2, 3, 4

# The registers that every heap has. The first are those of the clock. BUMP: the word from which on room
# is free until BUMP_END. CHUNK: the first of the chain of what is free elsewhere. HEAP_END: nothing lies from here on.
CLOCK_REGISTER = clock.TIME
BUMP, BUMP_END, CHUNK, HEAP_END, FREE_LABEL, FREE_WAITING = range(clock.REGISTERS, clock.REGISTERS + 6)
EVENTS, EVENT_TABLE, WAITING_TABLE = 9, 13, 16
# Those of the entities follow, each with these and a table for each of its COUNT DISTINCTs.
ENTITY_REGISTERS_AT = 19
ROWS_RING, SLOT_TABLE, FREE_SLOT, ENTITY_REGISTERS = 0, 4, 7, 8

# An event's words. If labels are read its halves follow: its newest label, and its row in each entity that reads them.
ID0, ID1, EVENT_TIME, EVENT_WORDS = 0, 1, 2, 3
EVENT_LABEL, EVENT_ROWS = 6, 7

# A row's words: its time; its neighbours in its key's list; its slot and its event; its valid bits and, above them, the
# verdict that it counts by. Its values follow, then the halves of its links in chains.
TIME, NEXT, PREV, SLOT, EVENT, VALID, ROW_WORDS = 0, 2, 3, 4, 5, 3, 4
VERDICT_SHIFT = 60

# A slot's words and halves. KEY_CLOCK is the time that its state is as of, APPLIED the newest label that counts then,
# PENDING the one after. Cursors, counts and sums follow.
KEY0, KEY1, KEY_CLOCK, HEAD, TAIL, APPLIED, PENDING = 0, 1, 2, 6, 7, 8, 9

# A label's word and halves; for each entity that reads labels three more follow: its neighbours in the key's list, and
# the row.
LABEL_TIME, VERDICT, OLDER, EARLIER, LATER, LABELLED, LABEL_HALVES, LINKS_A_LABEL = 0, 2, 3, 4, 5, 6, 4, 3

# The words of what waits: the transaction's id, and a half: its newest label.
HISTORY, WAITING_WORDS = 4, 3


class Log(NamedTuple):
    """Arrays where there is room to be made, their addresses in the loops."""

    heap: Any
    """int64[h]"""
    links: Any
    """int32[2h]: the same memory."""


@inlined
def near_log(log: Any) -> Any:
    """The log by its addresses."""
    return Log(words_of(log.heap), halves_of(log.heap))


class Rows(NamedTuple):
    """The rows of one entity, as functions pass them on: the log, and what its ring's registers and the layout say."""

    heap: Any
    links: Any
    at: Any
    mask: Any
    first: Any
    count: Any
    words: Any


@inlined
def rows_of(log: Any, ring: Any, words: Any) -> Any:
    heap = log.heap
    return Rows(
        heap,
        log.links,
        heap[ring + RING_AT],
        heap[ring + RING_MASK],
        heap[ring + RING_FIRST],
        heap[ring + RING_COUNT],
        words,
    )


@inlined
def place(rows: Any, row: Any) -> Any:
    """The word where a row lies."""
    return rows.at + (row & rows.mask) * rows.words


@inlined
def is_kept(rows: Any, row: Any) -> Any:
    """Whether a row's name still names it: names of rows that are gone are given again after a while."""
    return row != NIL and (row - rows.first) & _NAMES_MASK < rows.count


@inlined
def time_of(rows: Any, row: Any) -> Any:
    return rows.heap[place(rows, row) + TIME]


@inlined
def link(rows: Any, row: Any, half: Any) -> Any:
    """A half of a row's words."""
    return np.int64(rows.links[2 * place(rows, row) + half])


@inlined
def set_link(rows: Any, row: Any, half: Any, name: Any) -> None:
    rows.links[2 * place(rows, row) + half] = name


@inlined
def following(rows: Any, row: Any) -> Any:
    return link(rows, row, NEXT)


@inlined
def preceding(rows: Any, row: Any) -> Any:
    return link(rows, row, PREV)


@inlined
def of_slot(rows: Any, slot: Any, half: Any) -> Any:
    """A half of a slot's words."""
    return np.int64(rows.links[2 * slot + half])


@inlined
def set_of_slot(rows: Any, slot: Any, half: Any, name: Any) -> None:
    rows.links[2 * slot + half] = name


@compiled
def is_after(rows: Any, row: Any, other: Any) -> Any:
    """Whether a row comes after another in the order of time, then of arrival."""
    time, other_time = time_of(rows, row), time_of(rows, other)
    return time > other_time or (
        time == other_time and (row - rows.first) & _NAMES_MASK > (other - rows.first) & _NAMES_MASK
    )


@inlined
def is_from(rows: Any, row: Any, time: Any, low: Any, low_time: Any) -> Any:
    """Whether a row of a time does not come before another, `low`, of `low_time`. What lies between two times is seen
    by these alone; of one time, the order of arrival tells.
    """
    return time > low_time or (time == low_time and not is_after(rows, low, row))


@inlined
def is_up_to(rows: Any, row: Any, last: Any) -> Any:
    """Whether a row does not come after another; after NIL all do."""
    return last != NIL and not is_after(rows, row, last)


@inlined
def verdict_of_row(rows: Any, row: Any) -> Any:
    """The verdict that a row counts by."""
    return rows.heap[place(rows, row) + VALID] >> VERDICT_SHIFT


@compiled
def _join(rows: Any, slot: Any, before: Any, after: Any, first: Any, last: Any) -> None:
    """Make `first` follow `before` in a key's list, and `after` follow `last`; NIL is the list's end."""
    if before == NIL:
        set_of_slot(rows, slot, HEAD, first)
    else:
        set_link(rows, before, NEXT, first)
    if after == NIL:
        set_of_slot(rows, slot, TAIL, last)
    else:
        set_link(rows, after, PREV, last)


@compiled
def link_row(rows: Any, slot: Any, row: Any, time: Any) -> None:
    """Put a row into its key's list, after all that are not newer."""
    before, after = of_slot(rows, slot, TAIL), NIL
    while before != NIL and time_of(rows, before) > time:
        after = before
        before = preceding(rows, before)
    at = 2 * place(rows, row)
    rows.links[at + NEXT], rows.links[at + PREV], rows.links[at + SLOT] = after, before, slot
    _join(rows, slot, before, after, row, row)


@compiled
def unlink_row(rows: Any, slot: Any, row: Any) -> None:
    before, after = preceding(rows, row), following(rows, row)
    _join(rows, slot, before, after, after, before)


@compiled
def add_to_ring(log: Any, ring: Any) -> Any:
    """The name of one more at a ring's end."""
    heap = log.heap
    name = (heap[ring + RING_FIRST] + heap[ring + RING_COUNT]) & _NAMES_MASK
    heap[ring + RING_COUNT] += 1
    return name


@compiled
def drop_first(log: Any, ring: Any) -> None:
    """A ring's first is gone."""
    log.heap[ring + RING_FIRST] = (log.heap[ring + RING_FIRST] + 1) & _NAMES_MASK
    log.heap[ring + RING_COUNT] -= 1


@inlined
def take(log: Any, free: Any, words: Any) -> Any:
    """Room for one more of a kind: `free` is the register of its first free one, whose first word names the next."""
    heap = log.heap
    taken = heap[free]
    if taken != NIL:
        heap[free] = heap[taken]
        return taken
    taken = heap[BUMP]
    heap[BUMP] += words
    return taken


@compiled
def give_back(log: Any, free: Any, name: Any) -> None:
    log.heap[name] = log.heap[free]
    log.heap[free] = name
