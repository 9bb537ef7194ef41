
from __future__ import annotations
from typing import Any
from tidegate.kernel.machine import table
from tidegate.kernel.machine.compiled import compiled, inlined
from tidegate.kernel.machine.memory import bring_near
from tidegate.kernel.machine.table import TABLE_AT
from tidegate.kernel.windows.layout import *

from tidegate.kernel.windows.rowlog import *

_LINE_WORDS = 8


@inlined
def _entry_of(heap: Any, at: Any, h: Any) -> Any:
    """The word where the search for a hash begins in a table, `at` being its registers."""
    return heap[at + TABLE_AT] + table.first_of(heap, at, h)


@inlined
def _hash_of(layout: Any, entity: Any, arrivals: Any, i: Any) -> Any:
    at = 2 * (layout[entity + ENTITY_NUMBER] * arrivals.count + i)
    return table.hash_of(arrivals.keys[at], arrivals.keys[at + 1])


@compiled
def _likely_slot(heap: Any, layout: Any, entity: Any, arrivals: Any, i: Any) -> Any:
    """The slot of a row's key by the hash alone, without a look at the slot; NIL if there is none."""
    at = layout[entity + REGISTERS] + SLOT_TABLE
    h = _hash_of(layout, entity, arrivals, i)
    position = table.first_of(heap, at, h)
    while True:
        entry = table.entry_at(heap, at, position)
        if entry == table.EMPTY:
            return NIL
        if table.hash_in(entry) == h:
            return table.name_in(entry)
        position = table.after(heap, at, position)


@compiled
def bring_slot(heap: Any, layout: Any, entity: Any, slot: Any) -> None:
    for word in range(slot, slot + layout[entity + SLOT_SIZE], _LINE_WORDS):
        bring_near(heap, word)
    bring_near(heap, slot + layout[entity + SLOT_SIZE] - 1)


@compiled
def bring_row(rows: Any, row: Any) -> None:
    at = place(rows, row)
    bring_near(rows.heap, at)
    bring_near(rows.heap, at + rows.words - 1)


@compiled
def bring_all(log: Any, rows: Any, layout: Any, entity: Any, arrivals: Any, start: Any, end: Any) -> None:
    heap = rows.heap
    number = layout[entity + ENTITY_NUMBER]
    at = layout[entity + REGISTERS] + SLOT_TABLE
    retiring = min(end - start, rows.count)
    for i in range(start, end):
        bring_near(heap, _entry_of(heap, at, _hash_of(layout, entity, arrivals, i)))
    for k in range(retiring):
        row = rows.first + k
        bring_slot(heap, layout, entity, link(rows, row, SLOT))
    for i in range(start, end):
        slot = _likely_slot(heap, layout, entity, arrivals, i)
        arrivals.slots[i] = slot
        if slot != NIL:
            bring_slot(heap, layout, entity, slot)
    for k in range(retiring):
        row = rows.first + k
        after = link(rows, row, NEXT)
        if after != NIL:
            bring_row(rows, after)
        slot = link(rows, row, SLOT)
        for occurrence in range(layout[entity + OCCURRENCES], layout[entity + OCCURRENCES_END], OCCURRENCE_WORDS):
            after = link(rows, row, layout[occurrence + SAME] + 1)
            if after != NIL:
                bring_row(rows, after)
    for i in range(start, end):
        slot = arrivals.slots[i]
        if slot != NIL:
            tail = of_slot(rows, slot, TAIL)
            bring_row(rows, tail)
            time = arrivals.times[i]
            for occurrence in range(layout[entity + OCCURRENCES], layout[entity + OCCURRENCES_END], OCCURRENCE_WORDS):
                value = arrivals.values[layout[occurrence + OCCURRENCE_WORDS - 1] * arrivals.count + i]
                bring_near(heap, _entry_of(heap, layout[occurrence + VALUE_TABLE], table.hash_of(value, slot)))
            for front in range(layout[entity + FRONTS], layout[entity + FRONTS_END], FRONT_WORDS):
                for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
                    if heap[slot + layout[window + LOW_TIME]] < time - layout[window + LOWER]:
                        bring_row(rows, of_slot(rows, slot, layout[window + LOW]))
                for chain in range(layout[front + CHAINS], layout[front + CHAINS_END], CHAIN_WORDS):
                    for cursor in range(layout[chain + ENDS], layout[chain + CURSORS_END]):
                        row = of_slot(rows, slot, cursor)
                        if row != NIL:
                            bring_row(rows, row)
    for i in range(start, end):
        slot = arrivals.slots[i]
        if slot != NIL:
            time = arrivals.times[i]
            for occurrence in range(layout[entity + OCCURRENCES], layout[entity + OCCURRENCES_END], OCCURRENCE_WORDS):
                value = arrivals.values[layout[occurrence + OCCURRENCE_WORDS - 1] * arrivals.count + i]
                table_at = layout[occurrence + VALUE_TABLE]
                h = table.hash_of(value, slot)
                position = table.first_of(heap, table_at, h)
                while True:
                    entry = table.entry_at(heap, table_at, position)
                    if entry == table.EMPTY:
                        break
                    if table.hash_in(entry) == h:
                        bring_row(rows, table.name_in(entry))
                        break
                    position = table.after(heap, table_at, position)
            for front in range(layout[entity + FRONTS], layout[entity + FRONTS_END], FRONT_WORDS):
                for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
                    if heap[slot + layout[window + LOW_TIME]] < time - layout[window + LOWER]:
                        after = following(rows, of_slot(rows, slot, layout[window + LOW]))
                        if after != NIL:
                            bring_row(rows, after)
