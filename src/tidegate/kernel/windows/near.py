"""Memory is brought near before it is needed.

A row touches a few dozen lines of memory all over the heap, and each name that it follows is known only once the one
before is read: row after row would wait for memory most of the time. Here some rows take each step together, and none
waits: what could not be brought near in time is only slower.
"""

from __future__ import annotations

from typing import Any

from tidegate.kernel.machine import table
from tidegate.kernel.machine.compiled import compiled
from tidegate.kernel.machine.memory import bring_near
from tidegate.kernel.windows.columns import cell, id_of, key_of
from tidegate.kernel.windows.layout import (
    CHAIN,
    CHAIN_WORDS,
    CHAINS,
    CHAINS_END,
    CURSORS,
    CURSORS_END,
    ENDS,
    ENTITY_NUMBER,
    FRONT_WORDS,
    FRONTS,
    FRONTS_END,
    HORIZON,
    LAST_IN_CHAIN,
    LOW,
    LOW_TIME,
    LOWER,
    OCCURRENCE_WORDS,
    OCCURRENCES,
    OCCURRENCES_END,
    REGISTERS,
    SAME,
    SAME_COLUMN,
    SAME_VALUES,
    SLOT_SIZE,
    VALUE_TABLE,
    WINDOW_WORDS,
    WINDOWS,
    WINDOWS_END,
)
from tidegate.kernel.windows.rowlog import (
    CLOCK_REGISTER,
    EVENT_TABLE,
    NIL,
    SLOT,
    SLOT_TABLE,
    TAIL,
    following,
    link,
    of_slot,
    place,
    time_of,
    verdict_of_row,
)

# Words that come at once, on all processors of today.
_LINE_WORDS = 8

# Rows that windows will lose are walked along by so many windows at most, each so many steps: they must stay in the
# processor's own memory.
MOST_LEAVING, _MOST_STEPS = 256, 16


@compiled
def events_near(log: Any, arrivals: Any, start: Any, end: Any) -> None:
    """Bring near where the ids of the arrivals from `start` to `end` are looked up."""
    for i in range(start, end):
        id0, id1 = id_of(arrivals, i)
        bring_near(log.heap, table.home_in(log.heap, EVENT_TABLE, table.hash_of(id0, id1)))


@compiled
def _end_of_old(rows: Any, floor: Any, most: Any) -> Any:
    """After the first rows that are older than `floor`, at most so many."""
    row, end = rows.first, rows.first + min(most, rows.count)
    while row < end and time_of(rows, row) < floor:
        row += 1
    return row


@compiled
def rows_near(rows: Any, layout: Any, entity: Any, arrivals: Any, start: Any, end: Any) -> None:
    """Bring near what an entity needs to take the rows from `start` to `end`, and to let go what is too old by then."""
    heap, slots = rows.heap, layout[entity + REGISTERS] + SLOT_TABLE
    clock = heap[CLOCK_REGISTER]
    first, after_last = rows.first, _end_of_old(rows, clock - layout[entity + HORIZON], 2 * (end - start))
    for i in range(start, end):
        key0, key1 = key_of(arrivals, layout[entity + ENTITY_NUMBER], i)
        bring_near(heap, table.home_in(heap, slots, table.hash_of(key0, key1)))
    for row in range(first, after_last):
        _bring_slot(heap, layout, entity, link(rows, row, SLOT))
    for i in range(start, end):
        key0, key1 = key_of(arrivals, layout[entity + ENTITY_NUMBER], i)
        arrivals.slots[i] = table.likely_name(heap, slots, table.hash_of(key0, key1))
        _bring_slot(heap, layout, entity, arrivals.slots[i])
    for row in range(first, after_last):
        _bring_neighbours(rows, layout, entity, row)
    leaving = 0
    for i in range(start, end):
        leaving = _bring_ends(rows, layout, entity, arrivals, i, leaving)
    for i in range(start, end):
        _bring_next(rows, layout, entity, arrivals, i)
    _bring_leaving(rows, arrivals, leaving)


@compiled
def _bring_slot(heap: Any, layout: Any, entity: Any, slot: Any) -> None:
    if slot == NIL:
        return
    end = slot + layout[entity + SLOT_SIZE]
    for word in range(slot, end, _LINE_WORDS):
        bring_near(heap, word)
    bring_near(heap, end - 1)


@compiled
def _bring_row(rows: Any, row: Any) -> None:
    """A row's first line and its last, which may be the same."""
    if row != NIL:
        word = place(rows, row)
        bring_near(rows.heap, word)
        if rows.words > _LINE_WORDS:
            bring_near(rows.heap, word + rows.words - 1)


@compiled
def _bring_neighbours(rows: Any, layout: Any, entity: Any, row: Any) -> None:
    """The rows after one in its lists; where it is looked up if it is the last of its value."""
    _bring_row(rows, following(rows, row))
    for occurrence in range(layout[entity + OCCURRENCES], layout[entity + OCCURRENCES_END], OCCURRENCE_WORDS):
        after = link(rows, row, layout[occurrence + SAME] + 1)
        _bring_row(rows, after)
        if after == NIL:
            value = rows.heap[place(rows, row) + layout[occurrence + SAME_VALUES + verdict_of_row(rows, row)]]
            h = table.hash_of(value, link(rows, row, SLOT))
            bring_near(rows.heap, table.home_in(rows.heap, layout[occurrence + VALUE_TABLE], h))


@compiled
def _bring_ends(rows: Any, layout: Any, entity: Any, arrivals: Any, i: Any, leaving: Any) -> Any:
    """What an arrival's slot names: the newest row, the first rows of windows that will lose them, the ends of chains;
    and where its values are looked up. `leaving` rows that windows will lose are noted so far; how many then.
    """
    slot, time = arrivals.slots[i], arrivals.times[i]
    if slot == NIL:
        return leaving
    _bring_row(rows, of_slot(rows, slot, TAIL))
    for occurrence in range(layout[entity + OCCURRENCES], layout[entity + OCCURRENCES_END], OCCURRENCE_WORDS):
        h = table.hash_of(arrivals.values[cell(arrivals, layout[occurrence + SAME_COLUMN], i)], slot)
        bring_near(rows.heap, table.home_in(rows.heap, layout[occurrence + VALUE_TABLE], h))
    for front in range(layout[entity + FRONTS], layout[entity + FRONTS_END], FRONT_WORDS):
        for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
            lower = time - layout[window + LOWER]
            if rows.heap[slot + layout[window + LOW_TIME]] < lower and leaving < MOST_LEAVING:
                row = of_slot(rows, slot, layout[window + LOW])
                _bring_row(rows, row)
                arrivals.leaving[2 * leaving], arrivals.leaving[2 * leaving + 1] = row, lower
                leaving += 1
        for chain in range(layout[front + CHAINS], layout[front + CHAINS_END], CHAIN_WORDS):
            _bring_row(rows, of_slot(rows, slot, layout[chain + ENDS] + LAST_IN_CHAIN))
            for half in range(layout[chain + ENDS] + CURSORS, layout[chain + CURSORS_END]):
                _bring_row(rows, of_slot(rows, slot, half))
    return leaving


@compiled
def _bring_next(rows: Any, layout: Any, entity: Any, arrivals: Any, i: Any) -> None:
    """The newest rows of an arrival's values, and what its value is compared with at the ends of chains."""
    slot = arrivals.slots[i]
    if slot == NIL:
        return
    for occurrence in range(layout[entity + OCCURRENCES], layout[entity + OCCURRENCES_END], OCCURRENCE_WORDS):
        h = table.hash_of(arrivals.values[cell(arrivals, layout[occurrence + SAME_COLUMN], i)], slot)
        _bring_row(rows, table.likely_name(rows.heap, layout[occurrence + VALUE_TABLE], h))
    for front in range(layout[entity + FRONTS], layout[entity + FRONTS_END], FRONT_WORDS):
        for chain in range(layout[front + CHAINS], layout[front + CHAINS_END], CHAIN_WORDS):
            last = of_slot(rows, slot, layout[chain + ENDS] + LAST_IN_CHAIN)
            if last != NIL:
                _bring_row(rows, link(rows, last, layout[chain + CHAIN] + 1))


@compiled
def _bring_leaving(rows: Any, arrivals: Any, count: Any) -> None:
    """All rows that windows will lose: of each list of them the next, until there is none any more."""
    noted = arrivals.leaving
    for _ in range(_MOST_STEPS):
        kept = 0
        for at in range(count):
            row, lower = noted[2 * at], noted[2 * at + 1]
            if time_of(rows, row) < lower and following(rows, row) != NIL:
                row = following(rows, row)
                _bring_row(rows, row)
                noted[2 * kept], noted[2 * kept + 1] = row, lower
                kept += 1
        count = kept
        if count == 0:
            return
