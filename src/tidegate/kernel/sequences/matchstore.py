"""The state of one sequence, in flat arrays: rows, partitions and partial matches.

Rows lie in a ring in the order of their arrival, each linked to its neighbours by time in its partition. A partial
match is a thread: the state it is in, its first and last row, and the registers of what its conditions and measures
remember. A partition's threads are in a list, by their first rows, those of one first row as SQL prefers them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tidegate.kernel.machine import table
from tidegate.kernel.machine.compiled import compiled, inlined

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

#: Where in `slot_table` the words are that tell of the table.
SLOT_TABLE = 0

# A match's words; what its measures remember follows. BY: the arrival at which it was found.
BY, MATCH_START, MATCH_TIME, KNOWN, MATCH_WORDS = 0, 1, 2, 3, 4


class Store(NamedTuple):
    """All state of one sequence."""

    registers: np.ndarray
    """int64[REGISTERS]"""
    rows: np.ndarray
    """int64[r, LANES + lanes], r a power of two: row number n lies at n mod r."""
    slots: np.ndarray
    """int64[s, SLOT_WORDS]"""
    slot_table: np.ndarray
    """int64[TABLE_REGISTERS + 2s]: partitions by key, a table and before it the words that tell of it."""
    threads: np.ndarray
    """int64[t, THREAD_WORDS + registers]"""
    timers: np.ndarray
    """int64[r]: a heap of the rows that started a match by duration, the one that is due first on top."""


@inlined
def place(store: Any, row: Any) -> Any:
    """Where a row lies in the ring."""
    return row & (store.rows.shape[0] - 1)


@inlined
def time_of(store: Any, row: Any) -> Any:
    return store.rows[place(store, row), TIME]


@compiled
def comes_before(store: Any, row: Any, other: Any) -> Any:
    """Whether a row is before another of its partition."""
    time, other_time = time_of(store, row), time_of(store, other)
    return time < other_time or (time == other_time and row < other)


@inlined
def _take(registers: Any, records: Any, following: Any, free: Any, free_count: Any, end: Any) -> Any:
    """The number of one more record: the first free one, whose word `following` names the next, or one never used."""
    taken = registers[free]
    if taken != NIL:
        registers[free] = records[taken, following]
        registers[free_count] -= 1
    else:
        taken = registers[end]
        registers[end] += 1
    return taken


@compiled
def take_thread(store: Any) -> Any:
    return _take(store.registers, store.threads, FOLLOWING, FREE_THREAD, FREE_THREADS, THREADS_END)


@compiled
def free_threads(store: Any, slot: Any, thread: Any, end: Any) -> None:
    """Free threads from one up to another, which stays."""
    while thread != end:
        following = store.threads[thread, FOLLOWING]
        store.threads[thread, FOLLOWING] = store.registers[FREE_THREAD]
        store.registers[FREE_THREAD] = thread
        store.registers[FREE_THREADS] += 1
        store.slots[slot, THREAD_COUNT] -= 1
        thread = following


@compiled
def find_slot(store: Any, key0: Any, key1: Any) -> Any:
    """Where in the table the partition of a key is; the entry there is EMPTY if there is none."""
    h = table.hash_of(key0, key1)
    at = table.first_of(store.slot_table, SLOT_TABLE, h)
    while True:
        named = table.entry_at(store.slot_table, SLOT_TABLE, at)
        if named == table.EMPTY:
            return at
        if table.hash_in(named) == h:
            slot = table.name_in(named)
            if store.slots[slot, KEY0] == key0 and store.slots[slot, KEY1] == key1:
                return at
        at = table.after(store.slot_table, SLOT_TABLE, at)


@compiled
def open_slot(store: Any, key0: Any, key1: Any) -> Any:
    slots = store.slots
    slot = _take(store.registers, slots, KEY0, FREE_SLOT, FREE_SLOTS, SLOTS_END)
    slots[slot, KEY0], slots[slot, KEY1] = key0, key1
    slots[slot, HEAD], slots[slot, TAIL], slots[slot, THREADS] = NIL, NIL, NIL
    slots[slot, ROW_COUNT], slots[slot, THREAD_COUNT] = 0, 0
    table.insert(store.slot_table, SLOT_TABLE, table.hash_of(key0, key1), slot)
    return slot


@compiled
def link_row(store: Any, slot: Any, before: Any, row: Any) -> None:
    """Put a row after `before`, NIL: as the first."""
    rows, slots = store.rows, store.slots
    after = slots[slot, HEAD] if before == NIL else rows[place(store, before), NEXT]
    at = place(store, row)
    rows[at, PREV], rows[at, NEXT], rows[at, SLOT] = before, after, slot
    if before == NIL:
        slots[slot, HEAD] = row
    else:
        rows[place(store, before), NEXT] = row
    if after == NIL:
        slots[slot, TAIL] = row
    else:
        rows[place(store, after), PREV] = row
    slots[slot, ROW_COUNT] += 1


@compiled
def retire_rows(store: Any, floor: Any, end: Any) -> None:
    """Let rows go that are older than `floor`, as far as those that came before them are gone."""
    registers, rows, slots = store.registers, store.rows, store.slots
    while registers[FIRST] < end:
        at = place(store, registers[FIRST])
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
            rows[place(store, before), NEXT] = after
        if after == NIL:
            slots[slot, TAIL] = before
        else:
            rows[place(store, after), PREV] = before
        slots[slot, ROW_COUNT] -= 1
        if slots[slot, HEAD] == NIL:
            free_threads(store, slot, slots[slot, THREADS], NIL)
            table.remove(store.slot_table, SLOT_TABLE, find_slot(store, slots[slot, KEY0], slots[slot, KEY1]))
            slots[slot, KEY0] = registers[FREE_SLOT]
            registers[FREE_SLOT] = slot
            registers[FREE_SLOTS] += 1
