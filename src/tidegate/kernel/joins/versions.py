"""A versioned table: by key, what was so from when on.

Versions of a key are one list, the newest first; of equal times the last to come is the newer. With `floor`, the time
of the newest event less the lateness, the rules are:

    of the versions not newer than the floor only the newest is kept: no event that is not late asks for another
    that one is forgotten once its end is not newer than the floor either, as if it and those before had never been
    an event of time t sees the newest kept version that is not newer than t, if its end is newer than t
    a version whose id is that of a kept version of its key and time is a duplicate: it changes nothing

Memory is freed when it runs short, and what should be gone by then is never seen: when it is freed changes no answer.
All is flat arrays of numbers, so that a snapshot is the arrays. NIL names nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tidegate.kernel.machine import table
from tidegate.kernel.machine.compiled import compiled, entry

NIL = -1

# A version's words; its values follow. END_TIME: from when on it is none any more. OLDER of a free one names the next
# free one.
KEY0, KEY1, TIME, END_TIME, ID0, ID1, VALID, OLDER, VALUES = 0, 1, 2, 3, 4, 5, 6, 7, 8

# The registers: the first free version, where the never used ones begin, how many are in use, how many keys there are,
# where the texts end. GONE: the first of those that were let go and may still be what an event of this batch found.
FREE, END, IN_USE, KEYS, TEXTS_END, GONE, REGISTERS = 0, 1, 2, 3, 4, 5, 6

#: A text is named by where it begins and, in so many bits, how many bytes it has.
LENGTH_BITS = 24
_LENGTH = (1 << LENGTH_BITS) - 1

_FIRST_VERSIONS = 1024
_FIRST_BYTES = 1024


class Table(NamedTuple):
    """c columns."""

    versions: np.ndarray
    """int64[v, VALUES + c]"""
    entries: np.ndarray
    """int64[e], a power of two: the newest version of each key."""
    texts: np.ndarray
    """uint8[t]"""
    registers: np.ndarray
    """int64[REGISTERS]"""


class New(NamedTuple):
    """m versions in order of arrival."""

    at: np.ndarray
    """int64[m]: their places in the order of all that arrived."""
    keys: np.ndarray
    """int64[m, 2]"""
    ids: np.ndarray
    """int64[m, 2]"""
    times: np.ndarray
    """int64[m]"""
    floors: np.ndarray
    """int64[m]: the floor when it arrived."""
    ends: np.ndarray
    """int64[m]: from when on it is none any more; not before its time."""
    valid: np.ndarray
    """int64[m]: bit i says that value i is there."""
    values: np.ndarray
    """int64[c, m]"""


class Asked(NamedTuple):
    """n events in order of arrival, and their keys in each of j joins."""

    at: np.ndarray
    """int64[n]"""
    times: np.ndarray
    """int64[n]"""
    floors: np.ndarray
    """int64[n]: the floor, the event counted in."""
    keys: np.ndarray
    """int64[j, n, 2]"""
    known: np.ndarray
    """bool[j, n]: none of the key's parts is NULL."""


def empty_table(columns: int) -> Table:
    registers = np.zeros(REGISTERS, np.int64)
    registers[[FREE, GONE]] = NIL
    return Table(
        versions=np.zeros((_FIRST_VERSIONS, VALUES + columns), np.int64),
        entries=np.full(2 * _FIRST_VERSIONS, table.EMPTY, np.int64),
        texts=np.zeros(_FIRST_BYTES, np.uint8),
        registers=registers,
    )


@compiled
def _find(of: Any, key0: Any, key1: Any) -> Any:
    """The position of a key's entry, EMPTY if it has none."""
    mask = len(of.entries) - 1
    h = table.hash_of(key0, key1)
    at = table.home_of(h, len(of.entries))
    while of.entries[at] != table.EMPTY:
        found = of.entries[at]
        if found >> 32 == h:
            version = table.name_in(found)
            if of.versions[version, KEY0] == key0 and of.versions[version, KEY1] == key1:
                return at
        at = (at + 1) & mask
    return table.EMPTY


@compiled
def _as_of(of: Any, newest: Any, time: Any) -> Any:
    """Of a key's versions, given by its newest: the one just newer than a time, and the newest that is not."""
    newer, version = NIL, newest
    while version != NIL and of.versions[version, TIME] > time:
        newer = version
        version = of.versions[version, OLDER]
    return newer, version


@compiled
def _is_kept(of: Any, newer: Any, floor: Any) -> Any:
    """Whether a version is kept beside the one after it."""
    return newer == NIL or of.versions[newer, TIME] > floor


@compiled
def _is_duplicate(of: Any, version: Any, time: Any, id0: Any, id1: Any, floor: Any) -> Any:
    """Whether a version of that time and id is kept, `version` being the last of those not newer."""
    while version != NIL and of.versions[version, TIME] == time:
        if of.versions[version, ID0] == id0 and of.versions[version, ID1] == id1:
            return True
        if time <= floor:
            break
        version = of.versions[version, OLDER]
    return False


@compiled
def _add(of: Any, new: Any, i: Any, older: Any) -> Any:
    """A version before `older` in no list yet."""
    registers, added = of.registers, of.registers[FREE]
    if added == NIL:
        added = registers[END]
        registers[END] += 1
    else:
        registers[FREE] = of.versions[added, OLDER]
    registers[IN_USE] += 1
    words = of.versions[added]
    words[KEY0], words[KEY1] = new.keys[i, 0], new.keys[i, 1]
    words[TIME], words[END_TIME] = new.times[i], new.ends[i]
    words[ID0], words[ID1], words[VALID], words[OLDER] = new.ids[i, 0], new.ids[i, 1], new.valid[i], older
    for column in range(new.values.shape[0]):
        words[VALUES + column] = new.values[column, i]
    return added


@compiled
def _let_go(of: Any, version: Any) -> None:
    """Let a version go and all that are older."""
    while version != NIL:
        older = of.versions[version, OLDER]
        of.versions[version, OLDER] = of.registers[GONE]
        of.registers[GONE] = version
        version = older


@entry
def _free(of: Any) -> None:
    """Free what was let go: nothing that was found is looked at any more."""
    while of.registers[GONE] != NIL:
        version = of.registers[GONE]
        of.registers[GONE] = of.versions[version, OLDER]
        of.versions[version, OLDER] = of.registers[FREE]
        of.registers[FREE] = version
        of.registers[IN_USE] -= 1


@compiled
def _forget(of: Any, newest: Any, floor: Any) -> Any:
    """Let the versions of a key go that are not kept; whether one is left."""
    newer, last = _as_of(of, newest, floor)
    if last == NIL:
        return True
    if of.versions[last, END_TIME] > floor:
        _let_go(of, of.versions[last, OLDER])
        of.versions[last, OLDER] = NIL
        return True
    _let_go(of, last)
    if newer != NIL:
        of.versions[newer, OLDER] = NIL
    return newer != NIL


@compiled
def _place(of: Any, new: Any, i: Any) -> None:
    """Put a version where it belongs in time."""
    key0, key1, time, floor = new.keys[i, 0], new.keys[i, 1], new.times[i], new.floors[i]
    at = _find(of, key0, key1)
    if at == table.EMPTY:
        added = _add(of, new, i, NIL)
        table.put(of.entries, 0, len(of.entries), (table.hash_of(key0, key1) << 32) | added)
        of.registers[KEYS] += 1
        return
    if not _forget(of, table.name_in(of.entries[at]), floor):
        of.entries[at] = (table.hash_of(key0, key1) << 32) | _add(of, new, i, NIL)
        return
    newer, version = _as_of(of, table.name_in(of.entries[at]), time)
    if not _is_kept(of, newer, floor) or _is_duplicate(of, version, time, new.ids[i, 0], new.ids[i, 1], floor):
        return
    added = _add(of, new, i, version)
    if newer == NIL:
        of.entries[at] = (table.hash_of(key0, key1) << 32) | added
    else:
        of.versions[newer, OLDER] = added


@entry
def look_up(of: Any, new: Any, asked: Any, found: Any) -> None:
    """Take new versions in, and find those that events see: int64[j, n], NIL for none. There must be room for them."""
    i = 0
    for event in range(len(asked.at)):
        while i < len(new.at) and new.at[i] < asked.at[event]:
            _place(of, new, i)
            i += 1
        for join in range(found.shape[0]):
            found[join, event] = NIL
            if asked.known[join, event]:
                at = _find(of, asked.keys[join, event, 0], asked.keys[join, event, 1])
                if at != table.EMPTY:
                    time, floor = asked.times[event], asked.floors[event]
                    newer, version = _as_of(of, table.name_in(of.entries[at]), time)
                    there = version != NIL and of.versions[version, END_TIME] > max(time, floor)
                    if there and _is_kept(of, newer, floor):
                        found[join, event] = version
    while i < len(new.at):
        _place(of, new, i)
        i += 1


@entry
def _sweep(of: Any, floor: Any, entries: Any) -> None:
    """Let the versions go that are not kept, and put the keys that are left into `entries`."""
    for at in range(len(of.entries)):
        if of.entries[at] != table.EMPTY:
            if _forget(of, table.name_in(of.entries[at]), floor):
                table.put(entries, 0, len(entries), of.entries[at])
            else:
                of.registers[KEYS] -= 1


def _swept(of: Table, floor: int) -> Table:
    """Without what is not kept."""
    entries = np.full(len(of.entries), table.EMPTY, np.int64)
    _sweep(of, floor, entries)
    _free(of)
    return of._replace(entries=entries)


@entry
def _move_texts(of: Any, column: Any, texts: Any, end: Any) -> Any:
    """Copy a column's texts to `texts`, from `end` on; where they end."""
    for at in range(len(of.entries)):
        if of.entries[at] == table.EMPTY:
            continue
        version = table.name_in(of.entries[at])
        while version != NIL:
            if (of.versions[version, VALID] >> column) & 1:
                named = of.versions[version, VALUES + column]
                first, length = named >> LENGTH_BITS, named & _LENGTH
                for byte in range(length):
                    texts[end + byte] = of.texts[first + byte]
                of.versions[version, VALUES + column] = (end << LENGTH_BITS) | length
                end += length
            version = of.versions[version, OLDER]
    return end


@entry
def copy_texts(of: Any, named: Any, offsets: Any, texts: Any) -> None:
    """The bytes of the texts named int64[n] into `texts`, each from its offset (int32[n + 1]) on."""
    for i in range(len(named)):
        first, length = named[i] >> LENGTH_BITS, named[i] & _LENGTH
        for byte in range(length):
            texts[offsets[i] + byte] = of.texts[first + byte]


def lengths(named: np.ndarray) -> np.ndarray:
    """int64[n]: the bytes of texts by their names."""
    return named & _LENGTH


def let_go(of: Table) -> None:
    """Free what had to stay as long as it may be what an event of the batch before found."""
    if of.registers[GONE] != NIL:
        _free(of)


def with_room(of: Table, versions: int, text_bytes: int, text_columns: list[int], floor: int) -> Table:
    """A table with room for so many more versions and bytes of texts. What was found before means nothing any more."""
    let_go(of)
    if of.registers[IN_USE] + versions > len(of.versions):
        of = _swept(of, floor)
        capacity = len(of.versions)
        while 2 * (int(of.registers[IN_USE]) + versions) > capacity:
            capacity *= 2
        larger = np.zeros((capacity, of.versions.shape[1]), np.int64)
        larger[: len(of.versions)] = of.versions
        of = of._replace(versions=larger)
    while 2 * (int(of.registers[KEYS]) + versions) > len(of.entries):
        entries = np.full(2 * len(of.entries), table.EMPTY, np.int64)
        table.copy(of.entries, entries)
        of = of._replace(entries=entries)
    if int(of.registers[TEXTS_END]) + text_bytes > len(of.texts):
        of = _with_more_texts(of, text_bytes, text_columns, floor)
    return of


def _with_more_texts(of: Table, text_bytes: int, text_columns: list[int], floor: int) -> Table:
    """Texts of versions that are gone are left behind; if that is not half of all, there is twice the room."""
    of = _swept(of, floor)
    moved, end = np.zeros(len(of.texts), np.uint8), 0
    for column in text_columns:
        end = int(_move_texts(of, column, moved, end))
    size = len(moved)
    while 2 * (end + text_bytes) > size:
        size *= 2
    texts = np.zeros(size, np.uint8)
    texts[:end] = moved[:end]
    of.registers[TEXTS_END] = end
    return of._replace(texts=texts)
