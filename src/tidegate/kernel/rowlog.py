"""The row log: every row that is kept, once, threaded into one list by time for each of its keys.

Rows lie in a ring in the order of their arrival. A key (of one entity) has a slot: its running values and its cursors
into its list. A row's labels form its history, newest first; for each key they are also threaded into one list by the
label's time. All of it is flat arrays of numbers, so that a snapshot is the arrays.

Rows, slots, labels and so on are named by their number in their array; NIL is no number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from tidegate.kernel import table

NIL = -1

#: No row has come yet: far enough from the ends of int64 that a frame's length can be taken off.
NEVER = -(2**62)

# A verdict: what a label says of a row.
UNKNOWN, GENUINE, FRAUD = 0, 1, 2

# Columns of `rows`; the lanes follow.
ID0, ID1, TIME, VALID, LANES = 0, 1, 2, 3, 4
# Columns of `links`; for each entity three follow, then two for each extreme: its neighbours in the chain.
LABEL, NEXT, PREV, SLOT = 0, 1, 2, 3
LINKS_AN_ENTITY = 3
# Columns of `slots`; the accumulators follow.
KEY0, KEY1, ACCUMULATORS = 0, 1, 2
# Columns of `cursors`; a window's low and high cursor follow, then an extreme's two ends of its chain.
HEAD, TAIL, APPLIED, PENDING, EDGES = 0, 1, 2, 3, 4
# Columns of `labels`.
LABEL_TIME, VERDICT = 0, 1
# Columns of `label_links`; for each entity two follow.
OLDER, LABELLED, EARLIER, LATER = 0, 1, 2, 3
LINKS_A_LABEL_AND_ENTITY = 2
# Columns of `waiting`: the labels of a transaction that has not come.
HISTORY = 2
# Columns of `bag`: how often an accumulator counts a value.
VALUE, OWNER, COUNT = 0, 1, 2

# Registers.
NEWEST, FIRST, ROWS, FREE_SLOTS, FREE_LABELS, FREE_WAITING, FREE_BAG, REGISTERS = 0, 1, 2, 3, 4, 5, 6, 7


class Log(NamedTuple):
    """e entities. The arrays of one group grow together, by doubling; tables have two entries for a record."""

    registers: np.ndarray
    """int64[REGISTERS]: the newest row's time, the ring's first row, its number of rows, and how many numbers are on
    each stack of free numbers."""
    rows: np.ndarray
    """int64[r, LANES + lanes]"""
    links: np.ndarray
    """int32[r, 1 + 3e + 2 extremes]"""
    row_table: np.ndarray
    """int64[2r]: rows by id."""
    slots: np.ndarray
    """int64[s, ACCUMULATORS + the most accumulators of an entity]"""
    cursors: np.ndarray
    """int32[s, EDGES + the most cursors of an entity]"""
    slot_table: np.ndarray
    """int64[2s]: slots by key and entity."""
    free_slots: np.ndarray
    """int32[s]"""
    labels: np.ndarray
    """int64[b, 2]"""
    label_links: np.ndarray
    """int32[b, 2 + 2e]"""
    free_labels: np.ndarray
    """int32[b]"""
    waiting: np.ndarray
    """int64[w, 3]"""
    waiting_table: np.ndarray
    """int64[2w]: labels that wait, by the transaction's id."""
    free_waiting: np.ndarray
    """int32[w]"""
    bag: np.ndarray
    """int64[d, 3]"""
    bag_table: np.ndarray
    """int64[2d]: by value and owner."""
    free_bag: np.ndarray
    """int32[d]"""


@numba.njit(cache=True, nogil=True)
def take(log: Any, stack: Any, free: Any) -> Any:
    """A number from a stack of free ones; `free` is the stack's register."""
    log.registers[free] -= 1
    return np.int64(stack[log.registers[free]])


@numba.njit(cache=True, nogil=True)
def give_back(log: Any, stack: Any, free: Any, number: Any) -> None:
    stack[log.registers[free]] = number
    log.registers[free] += 1


@numba.njit(cache=True, nogil=True)
def time_of(log: Any, row: Any) -> Any:
    return log.rows[row, TIME]


@numba.njit(cache=True, nogil=True)
def following(log: Any, entity: Any, row: Any) -> Any:
    return np.int64(log.links[row, NEXT + LINKS_AN_ENTITY * entity])


@numba.njit(cache=True, nogil=True)
def preceding(log: Any, entity: Any, row: Any) -> Any:
    return np.int64(log.links[row, PREV + LINKS_AN_ENTITY * entity])


@numba.njit(cache=True, nogil=True)
def link_row(log: Any, entity: Any, slot: Any, row: Any) -> None:
    """Put a row into its key's list, after all that are not newer."""
    before = np.int64(log.cursors[slot, TAIL])
    after = np.int64(NIL)
    while before != NIL and time_of(log, before) > time_of(log, row):
        after = before
        before = preceding(log, entity, before)
    column = LINKS_AN_ENTITY * entity
    log.links[row, NEXT + column] = after
    log.links[row, PREV + column] = before
    log.links[row, SLOT + column] = slot
    if before == NIL:
        log.cursors[slot, HEAD] = row
    else:
        log.links[before, NEXT + column] = row
    if after == NIL:
        log.cursors[slot, TAIL] = row
    else:
        log.links[after, PREV + column] = row


@numba.njit(cache=True, nogil=True)
def unlink_row(log: Any, entity: Any, slot: Any, row: Any) -> None:
    column = LINKS_AN_ENTITY * entity
    after, before = log.links[row, NEXT + column], log.links[row, PREV + column]
    if before == NIL:
        log.cursors[slot, HEAD] = after
    else:
        log.links[before, NEXT + column] = after
    if after == NIL:
        log.cursors[slot, TAIL] = before
    else:
        log.links[after, PREV + column] = before


@numba.njit(cache=True, nogil=True)
def verdict_of(log: Any, label: Any) -> Any:
    return np.int64(UNKNOWN) if label == NIL else log.labels[label, VERDICT]


@numba.njit(cache=True, nogil=True)
def label_at(log: Any, newest: Any, time: Any) -> Any:
    """The newest label of a history, given by its newest, that is not newer than `time`."""
    label = np.int64(newest)
    while label != NIL and log.labels[label, LABEL_TIME] > time:
        label = np.int64(log.label_links[label, OLDER])
    return label


@numba.njit(cache=True, nogil=True)
def verdict_at(log: Any, row: Any, time: Any) -> Any:
    """What was known of a row at a time."""
    newest = log.links[row, LABEL]
    if newest == NIL:
        return np.int64(UNKNOWN)
    return verdict_of(log, label_at(log, newest, time))


@numba.njit(cache=True, nogil=True)
def add_to_history(log: Any, newest: Any, time: Any) -> Any:
    """A history with a label of that time: its newest, and the label. There is one label of one time: the last that
    came wins.
    """
    newer = np.int64(NIL)
    label = np.int64(newest)
    while label != NIL and log.labels[label, LABEL_TIME] > time:
        newer = label
        label = np.int64(log.label_links[label, OLDER])
    if label != NIL and log.labels[label, LABEL_TIME] == time:
        return np.int64(newest), label
    added = take(log, log.free_labels, FREE_LABELS)
    log.labels[added, LABEL_TIME] = time
    log.labels[added, VERDICT] = UNKNOWN
    log.label_links[added, :] = NIL
    log.label_links[added, OLDER] = label
    if newer == NIL:
        return added, added
    log.label_links[newer, OLDER] = added
    return np.int64(newest), added


@numba.njit(cache=True, nogil=True)
def link_label(log: Any, entity: Any, slot: Any, label: Any, clock: Any) -> None:
    """Put a label into its key's list by its time. `clock` is the time that the key's state is as of: labels up to it
    are applied, later ones pending.
    """
    time = log.labels[label, LABEL_TIME]
    earlier = np.int64(log.cursors[slot, APPLIED])
    later = np.int64(log.cursors[slot, PENDING])
    column = LINKS_A_LABEL_AND_ENTITY * entity
    if time <= clock:
        while earlier != NIL and log.labels[earlier, LABEL_TIME] > time:
            later = earlier
            earlier = np.int64(log.label_links[earlier, EARLIER + column])
        if later == log.cursors[slot, PENDING]:
            log.cursors[slot, APPLIED] = label
    else:
        while later != NIL and log.labels[later, LABEL_TIME] <= time:
            earlier = later
            later = np.int64(log.label_links[later, LATER + column])
        if earlier == log.cursors[slot, APPLIED]:
            log.cursors[slot, PENDING] = label
    log.label_links[label, EARLIER + column] = earlier
    log.label_links[label, LATER + column] = later
    if earlier != NIL:
        log.label_links[earlier, LATER + column] = label
    if later != NIL:
        log.label_links[later, EARLIER + column] = label


@numba.njit(cache=True, nogil=True)
def unlink_label(log: Any, entity: Any, slot: Any, label: Any) -> None:
    column = LINKS_A_LABEL_AND_ENTITY * entity
    earlier, later = log.label_links[label, EARLIER + column], log.label_links[label, LATER + column]
    if earlier != NIL:
        log.label_links[earlier, LATER + column] = later
    if later != NIL:
        log.label_links[later, EARLIER + column] = earlier
    if log.cursors[slot, APPLIED] == label:
        log.cursors[slot, APPLIED] = earlier
    if log.cursors[slot, PENDING] == label:
        log.cursors[slot, PENDING] = later


@numba.njit(cache=True, nogil=True)
def slot_of(log: Any, entity: Any, key0: Any, key1: Any) -> Any:
    """The slot of a key, NIL if it has none. A slot's key is the key's hash, moved by the entity's number."""
    at = table.find(log.slot_table, log.slots, key0 + entity, key1)
    return np.int64(NIL) if at == table.EMPTY else log.slot_table[at] & 0xFFFFFFFF


@numba.njit(cache=True, nogil=True)
def open_slot(log: Any, entity: Any, key0: Any, key1: Any) -> Any:
    """A slot for a key that has none. It is as the last key left it: nothing counted, no cursor set."""
    slot = take(log, log.free_slots, FREE_SLOTS)
    log.slots[slot, KEY0] = key0 + entity
    log.slots[slot, KEY1] = key1
    table.insert(log.slot_table, key0 + entity, key1, slot)
    return slot


@numba.njit(cache=True, nogil=True)
def close_slot(log: Any, slot: Any) -> None:
    """Give back the slot of a key that has no row left."""
    table.remove(log.slot_table, table.find(log.slot_table, log.slots, log.slots[slot, KEY0], log.slots[slot, KEY1]))
    give_back(log, log.free_slots, FREE_SLOTS, slot)


@numba.njit(cache=True, nogil=True)
def kept_row(log: Any, id0: Any, id1: Any, floor: Any) -> Any:
    """The row of an event id, NIL if there is none that is kept, that is, not older than `floor`."""
    at = table.find(log.row_table, log.rows, id0, id1)
    if at == table.EMPTY:
        return np.int64(NIL)
    row = log.row_table[at] & 0xFFFFFFFF
    return row if time_of(log, row) >= floor else np.int64(NIL)


@numba.njit(cache=True, nogil=True)
def new_row(log: Any, id0: Any, id1: Any, time: Any, valid: Any) -> Any:
    """A row at the ring's end, in no list yet, without lanes. An id that an older row has is from now on its own."""
    row = (log.registers[FIRST] + log.registers[ROWS]) & (len(log.rows) - 1)
    log.registers[ROWS] += 1
    log.links[row, :] = NIL
    log.rows[row, ID0], log.rows[row, ID1] = id0, id1
    log.rows[row, TIME], log.rows[row, VALID] = time, valid
    at = table.find(log.row_table, log.rows, id0, id1)
    if at != table.EMPTY:
        table.remove(log.row_table, at)
    table.insert(log.row_table, id0, id1, row)
    return row


@numba.njit(cache=True, nogil=True)
def drop_first_row(log: Any) -> None:
    """Free the ring's first row, which is in no list any more."""
    row = log.registers[FIRST]
    at = table.find(log.row_table, log.rows, log.rows[row, ID0], log.rows[row, ID1])
    if at != table.EMPTY and log.row_table[at] & 0xFFFFFFFF == row:
        table.remove(log.row_table, at)
    log.registers[FIRST] = (row + 1) & (len(log.rows) - 1)
    log.registers[ROWS] -= 1


@numba.njit(cache=True, nogil=True)
def keep_waiting(log: Any, id0: Any, id1: Any, time: Any, verdict: Any) -> None:
    """A label whose transaction is not kept waits for it."""
    at = table.find(log.waiting_table, log.waiting, id0, id1)
    if at == table.EMPTY:
        record = take(log, log.free_waiting, FREE_WAITING)
        log.waiting[record, ID0], log.waiting[record, ID1] = id0, id1
        log.waiting[record, HISTORY] = NIL
        table.insert(log.waiting_table, id0, id1, record)
    else:
        record = log.waiting_table[at] & 0xFFFFFFFF
    newest, label = add_to_history(log, log.waiting[record, HISTORY], time)
    log.labels[label, VERDICT] = verdict
    log.waiting[record, HISTORY] = newest


@numba.njit(cache=True, nogil=True)
def free_older(log: Any, newest: Any, floor: Any) -> Any:
    """A history without what is older than `floor`."""
    kept = np.int64(NIL)
    label = np.int64(newest)
    while label != NIL:
        older = np.int64(log.label_links[label, OLDER])
        if log.labels[label, LABEL_TIME] >= floor:
            kept = label
        else:
            give_back(log, log.free_labels, FREE_LABELS, label)
        label = older
    if kept == NIL:
        return kept
    log.label_links[kept, OLDER] = NIL
    return np.int64(newest)


@numba.njit(cache=True, nogil=True)
def end_waiting(log: Any, id0: Any, id1: Any, row: Any, floor: Any) -> Any:
    """The history that waited for a transaction, now a row's, without what waited too long: its newest label."""
    at = table.find(log.waiting_table, log.waiting, id0, id1)
    if at == table.EMPTY:
        return np.int64(NIL)
    record = log.waiting_table[at] & 0xFFFFFFFF
    table.remove(log.waiting_table, at)
    give_back(log, log.free_waiting, FREE_WAITING, record)
    newest = free_older(log, log.waiting[record, HISTORY], floor)
    label = newest
    while label != NIL:
        log.label_links[label, LABELLED] = row
        label = np.int64(log.label_links[label, OLDER])
    return newest


@numba.njit(cache=True, nogil=True)
def forget_waiting(log: Any, floor: Any) -> None:
    """Free all labels that waited too long."""
    at = 0
    while at < len(log.waiting_table):
        if log.waiting_table[at] != table.EMPTY:
            record = log.waiting_table[at] & 0xFFFFFFFF
            log.waiting[record, HISTORY] = free_older(log, log.waiting[record, HISTORY], floor)
            if log.waiting[record, HISTORY] == NIL:
                table.remove(log.waiting_table, at)
                give_back(log, log.free_waiting, FREE_WAITING, record)
                continue  # another entry may have moved here
        at += 1
