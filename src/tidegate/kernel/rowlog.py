"""The row log: every row that is kept, once, threaded into one list by time for each of its keys.

Rows lie in a ring in the order of their arrival. All else lies in one heap of words, and is named by where it lies:

    slot        of one key of one entity: its cursors into its list of rows, its running values
    label       one of a row's history, newest first; for each of the row's keys also in one list by the label's time
    waiting     the history of a transaction that has not come
    value       how often a running COUNT DISTINCT counts a value

All of it is flat arrays of numbers, so that a snapshot is the arrays. NIL names nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tidegate.kernel import table
from tidegate.kernel.compiled import compiled, inlined

NIL = -1

BEGIN_OF_TIME, END_OF_TIME = -(2**63), 2**63 - 1

#: No row has come yet: far enough from the ends of int64 that a frame's length can be taken off.
NEVER = -(2**62)

#: Links are 32 bits wide, and signed: rows are named by their number, which starts again at 2^31.
MAX_NAMES = 2**31
_NAMES_MASK = MAX_NAMES - 1

# A verdict: what a label says of a row.
UNKNOWN, GENUINE, FRAUD = 0, 1, 2

# A row's words; its lanes follow.
ID0, ID1, TIME, VALID, LANES = 0, 1, 2, 3, 4
# A row's links: its newest label; three for each entity; then two for each extreme, its neighbours in the chain.
LABEL, NEXT, PREV, SLOT = 0, 1, 2, 3
LINKS_AN_ENTITY = 3

# The heap begins with registers: the newest row's time, the ring's first row and number of rows, where the heap is free
# from, and for each kind the first free one.
NEWEST, FIRST, ROWS, HEAP_END, FREE_SLOT, FREE_LABEL, FREE_WAITING, FREE_VALUE = 0, 1, 2, 3, 4, 5, 6, 7
# ... and tables: where the entries are, how many there can be less one, and how many there are.
SLOT_TABLE, WAITING_TABLE, VALUE_TABLE, REGISTERS = 8, 11, 14, 17
ENTRIES, MASK, COUNT = 0, 1, 2

# A slot's words; for each window its edges follow, for each extreme the two ends of its chain, and the running values.
# CLOCK is the time that its state is as of, APPLIED the newest label that counts, PENDING the one after.
KEY0, KEY1, CLOCK, HEAD, TAIL, APPLIED, PENDING, CURSORS = 0, 1, 2, 3, 4, 5, 6, 7
# A window's edges: the low and the high cursor, and the time of the low one, END_OF_TIME if it is NIL: it stands here
# so that the row need not be looked at to see that it stays.
LOW, HIGH, LOW_TIME, EDGE_WORDS = 0, 1, 2, 3
# A label's words; for each entity two follow.
LABEL_TIME, VERDICT, OLDER, LABELLED, EARLIER, LATER = 0, 1, 2, 3, 4, 5
LABEL_WORDS, LINKS_A_LABEL_AND_ENTITY = 4, 2
# The words of what waits: the transaction's id and the newest label.
HISTORY, WAITING_WORDS = 2, 3
# A value's words: the value, whose it is, and how often.
VALUE, OWNER, TIMES, VALUE_WORDS = 0, 1, 2, 3


class Log(NamedTuple):
    """e entities."""

    rows: np.ndarray
    """int64[r, LANES + lanes], r a power of two."""
    links: np.ndarray
    """int32[r, 1 + 3e + 2 extremes]"""
    row_table: np.ndarray
    """int64[2r]: rows by id."""
    heap: np.ndarray
    """int64[h]"""


@inlined
def place(log: Any, row: Any) -> Any:
    """Where a row lies in the ring."""
    return row & (log.rows.shape[0] - 1)


@inlined
def is_kept(log: Any, row: Any) -> Any:
    """Whether a row's name still names it: names of rows that are gone are given again after a while."""
    return (row - log.heap[FIRST]) & _NAMES_MASK < log.heap[ROWS]


@inlined
def time_of(log: Any, row: Any) -> Any:
    return log.rows[place(log, row), TIME]


@inlined
def link(log: Any, row: Any, column: Any) -> Any:
    return np.int64(log.links[place(log, row), column])


@inlined
def following(log: Any, entity: Any, row: Any) -> Any:
    return link(log, row, NEXT + LINKS_AN_ENTITY * entity)


@inlined
def preceding(log: Any, entity: Any, row: Any) -> Any:
    return link(log, row, PREV + LINKS_AN_ENTITY * entity)


@compiled
def _join(log: Any, entity: Any, slot: Any, before: Any, after: Any, first: Any, last: Any) -> None:
    """Make `first` follow `before` in a key's list, and `after` follow `last`; NIL is the list's end."""
    column = LINKS_AN_ENTITY * entity
    if before == NIL:
        log.heap[slot + HEAD] = first
    else:
        log.links[place(log, before), NEXT + column] = first
    if after == NIL:
        log.heap[slot + TAIL] = last
    else:
        log.links[place(log, after), PREV + column] = last


@compiled
def link_row(log: Any, entity: Any, slot: Any, row: Any) -> None:
    """Put a row into its key's list, after all that are not newer."""
    before, after, time = log.heap[slot + TAIL], NIL, time_of(log, row)
    if time >= log.heap[slot + CLOCK]:
        log.heap[slot + CLOCK] = time
    else:
        while before != NIL and time_of(log, before) > time:
            after = before
            before = preceding(log, entity, before)
    at, column = place(log, row), LINKS_AN_ENTITY * entity
    log.links[at, NEXT + column] = after
    log.links[at, PREV + column] = before
    log.links[at, SLOT + column] = slot
    _join(log, entity, slot, before, after, row, row)


@compiled
def unlink_row(log: Any, entity: Any, slot: Any, row: Any) -> None:
    before, after = preceding(log, entity, row), following(log, entity, row)
    _join(log, entity, slot, before, after, after, before)


@inlined
def verdict_of(log: Any, label: Any) -> Any:
    return UNKNOWN if label == NIL else log.heap[label + VERDICT]


@inlined
def label_at(log: Any, newest: Any, time: Any) -> Any:
    """The newest label of a history, given by its newest, that is not newer than `time`."""
    label = newest
    while label != NIL and log.heap[label + LABEL_TIME] > time:
        label = log.heap[label + OLDER]
    return label


@inlined
def verdict_at(log: Any, row: Any, time: Any) -> Any:
    """What was known of a row at a time."""
    newest = link(log, row, LABEL)
    return UNKNOWN if newest == NIL else verdict_of(log, label_at(log, newest, time))


@inlined
def take(log: Any, free: Any, words: Any) -> Any:
    """Room for one more of a kind: `free` is the register of its first free one, whose first word names the next."""
    heap = log.heap
    taken = heap[free]
    if taken != NIL:
        heap[free] = heap[taken]
        return taken
    taken = heap[HEAP_END]
    heap[HEAP_END] += words
    return taken


@compiled
def give_back(log: Any, free: Any, name: Any) -> None:
    log.heap[name] = log.heap[free]
    log.heap[free] = name


@inlined
def find(log: Any, register: Any, key0: Any, key1: Any) -> Any:
    """The position of a key's entry in one of the heap's tables, EMPTY if it has none."""
    heap = log.heap
    first, mask = heap[register + ENTRIES], heap[register + MASK]
    h = table.hash_of(key0, key1)
    at = h & mask
    while heap[first + at] != table.EMPTY:
        entry = heap[first + at]
        if entry >> 32 == h:
            name = table.name_in(entry)
            if heap[name] == key0 and heap[name + 1] == key1:
                return at
        at = (at + 1) & mask
    return table.EMPTY


@inlined
def named(log: Any, register: Any, at: Any) -> Any:
    """What the entry at a position names."""
    return table.name_in(log.heap[log.heap[register + ENTRIES] + at])


@compiled
def enter(log: Any, register: Any, key0: Any, key1: Any, name: Any) -> None:
    """Write the key into what is named, and the name into the table."""
    heap = log.heap
    heap[name], heap[name + 1] = key0, key1
    heap[register + COUNT] += 1
    table.insert(heap, heap[register + ENTRIES], heap[register + MASK], key0, key1, name)


@compiled
def strike(log: Any, register: Any, at: Any) -> None:
    log.heap[register + COUNT] -= 1
    table.remove(log.heap, log.heap[register + ENTRIES], log.heap[register + MASK], at)


@compiled
def find_row(log: Any, id0: Any, id1: Any) -> Any:
    """The position of an event id in the table of rows, EMPTY if it is not there."""
    mask = len(log.row_table) - 1
    h = table.hash_of(id0, id1)
    at = h & mask
    while log.row_table[at] != table.EMPTY:
        entry = log.row_table[at]
        if entry >> 32 == h:
            row = place(log, table.name_in(entry))
            if log.rows[row, ID0] == id0 and log.rows[row, ID1] == id1:
                return at
        at = (at + 1) & mask
    return table.EMPTY


@compiled
def kept_row(log: Any, id0: Any, id1: Any, floor: Any) -> Any:
    """The row of an event id, NIL if there is none that is kept, that is, not older than `floor`."""
    at = find_row(log, id0, id1)
    if at != table.EMPTY:
        row = table.name_in(log.row_table[at])
        if time_of(log, row) >= floor:
            return row
    return NIL


@compiled
def new_row(log: Any, id0: Any, id1: Any, time: Any, valid: Any) -> Any:
    """A row at the ring's end, in no list yet, without lanes. An id that an older row has is from now on its own."""
    row = (log.heap[FIRST] + log.heap[ROWS]) & _NAMES_MASK
    log.heap[ROWS] += 1
    at, mask = find_row(log, id0, id1), len(log.row_table) - 1
    if at != table.EMPTY:
        table.remove(log.row_table, 0, mask, at)
    table.insert(log.row_table, 0, mask, id0, id1, row)
    at = place(log, row)
    log.links[at, LABEL] = NIL
    log.rows[at, ID0], log.rows[at, ID1] = id0, id1
    log.rows[at, TIME], log.rows[at, VALID] = time, valid
    return row


@compiled
def drop_first_row(log: Any) -> None:
    """Free the ring's first row, which is in no list any more."""
    row = log.heap[FIRST]
    at = find_row(log, log.rows[place(log, row), ID0], log.rows[place(log, row), ID1])
    if at != table.EMPTY and table.name_in(log.row_table[at]) == row:
        table.remove(log.row_table, 0, len(log.row_table) - 1, at)
    log.heap[FIRST] = (row + 1) & _NAMES_MASK
    log.heap[ROWS] -= 1
