"""Whether there is room for what comes: nothing grows while the loop runs."""

from __future__ import annotations

from typing import Any

from tidegate.kernel.machine.compiled import compiled, inlined
from tidegate.kernel.machine.table import TABLE_COUNT, TABLE_SIZE
from tidegate.kernel.windows import rowlog
from tidegate.kernel.windows.layout import (
    ENTITIES,
    ENTITIES_END,
    ENTITY_WORDS,
    LABEL_SIZE,
    LABELS,
    OCCURRENCE_WORDS,
    OCCURRENCES,
    OCCURRENCES_END,
    REGISTERS,
    SLOT_SIZE,
    VALUE_TABLE,
)
from tidegate.kernel.windows.rowlog import (
    EVENT_TABLE,
    EVENTS,
    RING_COUNT,
    RING_MASK,
    ROWS_RING,
    SLOT_TABLE,
    WAITING_TABLE,
)
from tidegate.kernel.windows.storage import ENOUGH, MORE_HEAP


@inlined
def _is_full(heap: Any, at: Any, entries: Any) -> Any:
    """Whether a table with so many entries would have less than a quarter free."""
    return 4 * entries > 3 * heap[at + TABLE_SIZE]


@inlined
def _is_full_ring(heap: Any, ring: Any, more: Any) -> Any:
    return heap[ring + RING_COUNT] + more > heap[ring + RING_MASK] + 1


@compiled
def short_of(heap: Any, layout: Any, more: Any) -> Any:
    """What the log must have more of before so many more arrivals can be taken."""
    words = rowlog.WAITING_WORDS + layout[LABEL_SIZE]
    for entity in range(layout[ENTITIES], layout[ENTITIES_END], ENTITY_WORDS):
        words += more * layout[entity + SLOT_SIZE]
        short = _short_of_entity(heap, layout, entity, more)
        if short != ENOUGH:
            return short
    if heap[rowlog.BUMP] + words > heap[rowlog.BUMP_END]:
        return MORE_HEAP
    if _is_full_ring(heap, EVENTS, more):
        return EVENTS
    if _is_full(heap, EVENT_TABLE, heap[EVENT_TABLE + TABLE_COUNT] + more):
        return EVENT_TABLE
    return WAITING_TABLE if _is_full(heap, WAITING_TABLE, heap[WAITING_TABLE + TABLE_COUNT] + 1) else ENOUGH


@compiled
def _short_of_entity(heap: Any, layout: Any, entity: Any, more: Any) -> Any:
    registers = layout[entity + REGISTERS]
    if _is_full_ring(heap, registers + ROWS_RING, more):
        return registers + ROWS_RING
    if _is_full(heap, registers + SLOT_TABLE, heap[registers + SLOT_TABLE + TABLE_COUNT] + more):
        return registers + SLOT_TABLE
    for occurrence in range(layout[entity + OCCURRENCES], layout[entity + OCCURRENCES_END], OCCURRENCE_WORDS):
        at = layout[occurrence + VALUE_TABLE]
        # A label may let a row count by another value: there can be as many values as rows.
        kept = heap[registers + ROWS_RING + RING_COUNT if layout[entity + LABELS] >= 0 else at + TABLE_COUNT]
        if _is_full(heap, at, kept + more):
            return at
    return ENOUGH
