"""Open addressing: a run of an int64 array that finds records by a key of two int64, their first two words.

An entry holds 31 bits of the key's hash and the record's name of 32 bits; linear probing (Knuth 6.4, algorithm L), and
deletion that moves later entries up (algorithm R), so that no table ever fills with tombstones. Tables have a power of
two of entries and are kept at most half full by whoever owns them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.kernel.compiled import compiled, entry, inlined

EMPTY = -1

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
def name_in(entry: Any) -> Any:
    return entry & 0xFFFFFFFF


@compiled
def insert(entries: Any, first: Any, mask: Any, key0: Any, key1: Any, name: Any) -> None:
    """Add an entry for a key that has none, to the table of mask + 1 entries that begins at `first`."""
    h = hash_of(key0, key1)
    at = h & mask
    while entries[first + at] != EMPTY:
        at = (at + 1) & mask
    entries[first + at] = (h << 32) | name


@compiled
def remove(entries: Any, first: Any, mask: Any, at: Any) -> None:
    """Take out the entry at a position."""
    hole = at
    at = (at + 1) & mask
    while entries[first + at] != EMPTY:
        home = (entries[first + at] >> 32) & mask
        if (at - home) & mask >= (at - hole) & mask:
            entries[first + hole] = entries[first + at]
            hole = at
        at = (at + 1) & mask
    entries[first + hole] = EMPTY


@entry
def copy(entries: Any, larger: Any) -> None:
    """Put every entry of a table into a larger, empty one."""
    mask = len(larger) - 1
    for kept in entries:
        if kept != EMPTY:
            at = (kept >> 32) & mask
            while larger[at] != EMPTY:
                at = (at + 1) & mask
            larger[at] = kept
