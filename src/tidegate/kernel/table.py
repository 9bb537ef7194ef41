"""Open addressing: an int64 array that finds records of another array by their first two columns.

A table's entry holds 31 bits of the key's hash and the record's number; linear probing (Knuth 6.4, algorithm L), and
deletion that moves later entries up (algorithm R), so that no table ever fills with tombstones. Tables have a power of
two of entries and are kept at most half full by whoever owns them.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

EMPTY = -1

# Odd 64-bit constants of well mixed bits: 2^64 divided by the golden ratio, and one of MurmurHash3's finaliser.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xFF51AFD7ED558CCD)


@numba.njit(cache=True, nogil=True)
def mixed(key0: Any, key1: Any) -> Any:
    """31 bits of hash of a key of two int64."""
    h = (np.uint64(key0) ^ np.uint64(0x2545F4914F6CDD1D)) * _GOLDEN
    h = ((h ^ (h >> np.uint64(32))) + np.uint64(key1)) * _MIX
    h = (h ^ (h >> np.uint64(33))) * _GOLDEN
    return np.int64(h >> np.uint64(33))


@numba.njit(cache=True, nogil=True)
def find(table: Any, records: Any, key0: Any, key1: Any) -> Any:
    """The position of the key's entry in the table, EMPTY if it has none."""
    mask = table.size - 1
    h = mixed(key0, key1)
    at = h & mask
    while table[at] != EMPTY:
        if table[at] >> 32 == h:
            record = table[at] & 0xFFFFFFFF
            if records[record, 0] == key0 and records[record, 1] == key1:
                return at
        at = (at + 1) & mask
    return EMPTY


@numba.njit(cache=True, nogil=True)
def insert(table: Any, key0: Any, key1: Any, record: Any) -> None:
    """Add an entry for a key that has none."""
    mask = table.size - 1
    h = mixed(key0, key1)
    at = h & mask
    while table[at] != EMPTY:
        at = (at + 1) & mask
    table[at] = (h << 32) | record


@numba.njit(cache=True, nogil=True)
def remove(table: Any, at: Any) -> None:
    """Take out the entry at a position."""
    mask = table.size - 1
    hole = at
    at = (at + 1) & mask
    while table[at] != EMPTY:
        home = (table[at] >> 32) & mask
        if (at - home) & mask >= (at - hole) & mask:
            table[hole] = table[at]
            hole = at
        at = (at + 1) & mask
    table[hole] = EMPTY


@numba.njit(cache=True, nogil=True)
def enlarge(table: Any, larger: Any) -> None:
    """Put every entry of a table into a larger, empty one."""
    mask = larger.size - 1
    for entry in table:
        if entry != EMPTY:
            at = (entry >> 32) & mask
            while larger[at] != EMPTY:
                at = (at + 1) & mask
            larger[at] = entry
