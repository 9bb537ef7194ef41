"""Arrivals and their answers as the loop takes them: addresses of columns, and how long these are."""

from __future__ import annotations

from typing import Any, NamedTuple

from tidegate.kernel.machine.compiled import inlined
from tidegate.kernel.machine.memory import bytes_of, constants_of, words_of


class Columns(NamedTuple):
    """`windows.Arrivals` with all words signed, and valid bits by entity; then what the loop notes of each arrival."""

    count: Any
    times: Any
    ids: Any
    kinds: Any
    keys: Any
    values: Any
    valid: Any
    clocks: Any
    """int64[n]: the clock when it was taken."""
    events: Any
    """int64[n]: its event, NIL if it is not remembered."""
    slots: Any
    """int64[n]: its likely slot of the entity that is at it."""
    leaving: Any
    """int64[...]: pairs of a row that a window will lose and the time before which it loses rows."""


class Answered(NamedTuple):
    """`windows.Answers`"""

    count: Any
    values: Any
    valid: Any
    duplicate: Any
    late: Any


@inlined
def columns_of(arrays: Any) -> Any:
    """Columns of addresses from columns of arrays."""
    return Columns(
        arrays.count,
        constants_of(arrays.times),
        constants_of(arrays.ids),
        bytes_of(arrays.kinds),
        constants_of(arrays.keys),
        constants_of(arrays.values),
        constants_of(arrays.valid),
        words_of(arrays.clocks),
        words_of(arrays.events),
        words_of(arrays.slots),
        words_of(arrays.leaving),
    )


@inlined
def answered_of(arrays: Any) -> Any:
    return Answered(
        arrays.count,
        words_of(arrays.values),
        bytes_of(arrays.valid),
        bytes_of(arrays.duplicate),
        bytes_of(arrays.late),
    )


@inlined
def cell(columns: Any, row: Any, i: Any) -> Any:
    """Where the value of an arrival stands in a row of values, one row after the other."""
    return row * columns.count + i


@inlined
def id_of(columns: Any, i: Any) -> Any:
    return columns.ids[2 * i], columns.ids[2 * i + 1]


@inlined
def key_of(columns: Any, entity: Any, i: Any) -> Any:
    """An arrival's key of an entity, given by its number."""
    key = 2 * cell(columns, entity, i)
    return columns.keys[key], columns.keys[key + 1]
