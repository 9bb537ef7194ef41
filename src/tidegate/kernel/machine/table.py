"""Open addressing: a run of the heap that finds what is named by a hash of 31 bits.

An entry holds the hash and a name of 32 bits; who looks for one says of each name of its hash whether it is the one.
Linear probing (Knuth 6.4, algorithm L), and deletion that moves later entries up (algorithm R), so that no table ever
fills with tombstones. An entry's home is told by the upper bits of its hash: entries lie nearly in the order of their
hashes, and a table is copied into a larger one in one pass from its start to its end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.kernel.machine.compiled import compiled, entry, inlined

EMPTY = -1

# A table's registers: the word where it begins, how many entries it has room for, and how many there are.
TABLE_AT, TABLE_SIZE, TABLE_COUNT, TABLE_REGISTERS = 0, 1, 2, 3

HASH_BITS = 31

# Odd 64-bit constants of well mixed bits: 2^64 divided by the golden ratio, and one of MurmurHash3's finaliser.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xFF51AFD7ED558CCD)


@inlined
def hash_of(key0: Any, key1: Any) -> Any:
    """31 bits."""
    h = np.uint64(key0) * _GOLDEN
    h = ((h ^ (h >> np.uint64(32))) + np.uint64(key1)) * _MIX
    h = (h ^ (h >> np.uint64(33))) * _GOLDEN
    return np.int64(h >> np.uint64(33))


@inlined
def home_of(h: Any, size: Any) -> Any:
    """The position where an entry is at home in a table of so many."""
    return (h * size) >> HASH_BITS


@inlined
def first_of(heap: Any, table: Any, h: Any) -> Any:
    """The position where the search for a hash begins."""
    return home_of(h, heap[table + TABLE_SIZE])


@inlined
def home_in(heap: Any, table: Any, h: Any) -> Any:
    """The word where the search for a hash begins."""
    return heap[table + TABLE_AT] + first_of(heap, table, h)


@inlined
def after(heap: Any, table: Any, position: Any) -> Any:
    """The position after another."""
    return (position + 1) & (heap[table + TABLE_SIZE] - 1)


@inlined
def entry_at(heap: Any, table: Any, position: Any) -> Any:
    return heap[heap[table + TABLE_AT] + position]


@inlined
def hash_in(entry: Any) -> Any:
    return entry >> 32


@inlined
def name_in(entry: Any) -> Any:
    return entry & 0xFFFFFFFF


@compiled
def find_name(heap: Any, table: Any, h: Any, name: Any) -> Any:
    """The position of the entry that has the hash and the name, EMPTY if there is none."""
    position = first_of(heap, table, h)
    wanted = (h << 32) | name
    while entry_at(heap, table, position) != wanted:
        if entry_at(heap, table, position) == EMPTY:
            return EMPTY
        position = after(heap, table, position)
    return position


@compiled
def likely_name(heap: Any, table: Any, h: Any) -> Any:
    """The first name that the table has of a hash, EMPTY if it has none: what it names is not looked at."""
    position = first_of(heap, table, h)
    while entry_at(heap, table, position) != EMPTY:
        entry = entry_at(heap, table, position)
        if hash_in(entry) == h:
            return name_in(entry)
        position = after(heap, table, position)
    return EMPTY


@compiled
def find_key(heap: Any, table: Any, key0: Any, key1: Any) -> Any:
    """The position of the entry that names a word of the heap where a key lies, in this word and the next; EMPTY if
    there is none.
    """
    h = hash_of(key0, key1)
    position = first_of(heap, table, h)
    while entry_at(heap, table, position) != EMPTY:
        entry = entry_at(heap, table, position)
        if hash_in(entry) == h:
            at = name_in(entry)
            if heap[at] == key0 and heap[at + 1] == key1:
                return position
        position = after(heap, table, position)
    return EMPTY


@compiled
def set_name(heap: Any, table: Any, position: Any, name: Any) -> None:
    """Let the entry at a position name another."""
    at = heap[table + TABLE_AT] + position
    heap[at] = (hash_in(heap[at]) << 32) | name


@compiled
def put(entries: Any, at: Any, size: Any, entry: Any) -> None:
    """Put an entry into a table of that size, which begins at `at`."""
    position = home_of(hash_in(entry), size)
    while entries[at + position] != EMPTY:
        position = (position + 1) & (size - 1)
    entries[at + position] = entry


@compiled
def insert(heap: Any, table: Any, h: Any, name: Any) -> None:
    put(heap, heap[table + TABLE_AT], heap[table + TABLE_SIZE], (h << 32) | name)
    heap[table + TABLE_COUNT] += 1


@compiled
def remove(heap: Any, table: Any, position: Any) -> None:
    """Take out the entry at a position."""
    first, mask = heap[table + TABLE_AT], heap[table + TABLE_SIZE] - 1
    hole = position
    position = (position + 1) & mask
    while heap[first + position] != EMPTY:
        home = first_of(heap, table, hash_in(heap[first + position]))
        if (position - home) & mask >= (position - hole) & mask:
            heap[first + hole] = heap[first + position]
            hole = position
        position = (position + 1) & mask
    heap[first + hole] = EMPTY
    heap[table + TABLE_COUNT] -= 1


@entry
def copy(entries: Any, larger: Any) -> None:
    """Put every entry of a table into a larger, empty one."""
    size = len(larger)
    for kept in entries:
        if kept != EMPTY:
            put(larger, 0, size, kept)
