"""COUNT(DISTINCT): the rows of a key that have the same value are linked, in order. A row is the only one of its value
in a frame if the one before it and the one after it are outside: each window then counts with a look at these two, and
values are looked up once a row, not once a window.
"""

from __future__ import annotations

from typing import Any

from tidegate.kernel.machine import table
from tidegate.kernel.machine.compiled import compiled, inlined
from tidegate.kernel.windows.layout import (
    OCCURRENCE_WORDS,
    OCCURRENCES,
    OCCURRENCES_END,
    SAME,
    SAME_BITS,
    SAME_VALUES,
    VALUE_TABLE,
)
from tidegate.kernel.windows.rowlog import NIL, SLOT, VALID, is_after, link, place, preceding, set_link, verdict_of_row


@inlined
def _is_valid(rows: Any, layout: Any, occurrence: Any, row: Any) -> Any:
    bit = layout[occurrence + SAME_BITS + verdict_of_row(rows, row)]
    return (rows.heap[place(rows, row) + VALID] >> bit) & 1 == 1


@inlined
def _value(rows: Any, layout: Any, occurrence: Any, row: Any) -> Any:
    return rows.heap[place(rows, row) + layout[occurrence + SAME_VALUES + verdict_of_row(rows, row)]]


@inlined
def _has(rows: Any, layout: Any, occurrence: Any, row: Any, value: Any) -> Any:
    """Whether a row has a value that counts."""
    return _is_valid(rows, layout, occurrence, row) and _value(rows, layout, occurrence, row) == value


@compiled
def _find(rows: Any, layout: Any, occurrence: Any, slot: Any, value: Any) -> Any:
    """The position of a key's value in the table, EMPTY if it is not there. The table names the newest row of each."""
    heap, at = rows.heap, layout[occurrence + VALUE_TABLE]
    h = table.hash_of(value, slot)
    position = table.first_of(heap, at, h)
    while table.entry_at(heap, at, position) != table.EMPTY:
        entry = table.entry_at(heap, at, position)
        if table.hash_in(entry) == h:
            row = table.name_in(entry)
            if link(rows, row, SLOT) == slot and _value(rows, layout, occurrence, row) == value:
                return position
        position = table.after(heap, at, position)
    return table.EMPTY


@compiled
def _link_row(rows: Any, layout: Any, occurrence: Any, slot: Any, row: Any) -> None:
    same, value = layout[occurrence + SAME], _value(rows, layout, occurrence, row)
    position = _find(rows, layout, occurrence, slot, value)
    before, after = NIL, NIL
    if position == table.EMPTY:
        table.insert(rows.heap, layout[occurrence + VALUE_TABLE], table.hash_of(value, slot), row)
    else:
        before = table.name_in(table.entry_at(rows.heap, layout[occurrence + VALUE_TABLE], position))
        neighbour = preceding(rows, row)
        if neighbour != NIL and is_after(rows, before, row) and _has(rows, layout, occurrence, neighbour, value):
            # Of what all rows have the same value, not all later ones are passed by.
            before, after = neighbour, link(rows, neighbour, same + 1)
        while before != NIL and is_after(rows, before, row):
            after = before
            before = link(rows, before, same)
        if after == NIL:
            table.set_name(rows.heap, layout[occurrence + VALUE_TABLE], position, row)
    set_link(rows, row, same, before)
    set_link(rows, row, same + 1, after)
    if before != NIL:
        set_link(rows, before, same + 1, row)
    if after != NIL:
        set_link(rows, after, same, row)


@compiled
def _unlink_row(rows: Any, layout: Any, occurrence: Any, slot: Any, row: Any) -> None:
    same = layout[occurrence + SAME]
    before, after = link(rows, row, same), link(rows, row, same + 1)
    if before != NIL:
        set_link(rows, before, same + 1, after)
    if after != NIL:
        set_link(rows, after, same, before)
        return
    at = layout[occurrence + VALUE_TABLE]
    h = table.hash_of(_value(rows, layout, occurrence, row), slot)
    position = table.find_name(rows.heap, at, h, row)
    if before == NIL:
        table.remove(rows.heap, at, position)
    else:
        table.set_name(rows.heap, at, position, before)


@compiled
def link_all(rows: Any, layout: Any, entity: Any, slot: Any, row: Any) -> None:
    """Link a row to those of the same values. It is in its key's list, or was."""
    for occurrence in range(layout[entity + OCCURRENCES], layout[entity + OCCURRENCES_END], OCCURRENCE_WORDS):
        if _is_valid(rows, layout, occurrence, row):
            _link_row(rows, layout, occurrence, slot, row)


@compiled
def unlink_all(rows: Any, layout: Any, entity: Any, slot: Any, row: Any) -> None:
    for occurrence in range(layout[entity + OCCURRENCES], layout[entity + OCCURRENCES_END], OCCURRENCE_WORDS):
        if _is_valid(rows, layout, occurrence, row):
            _unlink_row(rows, layout, occurrence, slot, row)


@inlined
def _differs(layout: Any, occurrence: Any, verdict: Any, other: Any) -> Any:
    """Whether a row counts otherwise by one verdict than by another."""
    bits, values = layout[occurrence + SAME_BITS + verdict], layout[occurrence + SAME_VALUES + verdict]
    return bits != layout[occurrence + SAME_BITS + other] or values != layout[occurrence + SAME_VALUES + other]


@compiled
def link_labelled(rows: Any, layout: Any, entity: Any, slot: Any, row: Any, other: Any) -> None:
    """Link a row where it would not be linked by another verdict than its own."""
    verdict = verdict_of_row(rows, row)
    for occurrence in range(layout[entity + OCCURRENCES], layout[entity + OCCURRENCES_END], OCCURRENCE_WORDS):
        if _differs(layout, occurrence, verdict, other) and _is_valid(rows, layout, occurrence, row):
            _link_row(rows, layout, occurrence, slot, row)


@compiled
def unlink_labelled(rows: Any, layout: Any, entity: Any, slot: Any, row: Any, other: Any) -> None:
    """Take a row out where it would not be linked by another verdict than its own."""
    verdict = verdict_of_row(rows, row)
    for occurrence in range(layout[entity + OCCURRENCES], layout[entity + OCCURRENCES_END], OCCURRENCE_WORDS):
        if _differs(layout, occurrence, verdict, other) and _is_valid(rows, layout, occurrence, row):
            _unlink_row(rows, layout, occurrence, slot, row)
