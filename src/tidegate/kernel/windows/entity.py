"""What an entity does with a row: find its key's slot, place it, count it, answer it; and let go what has grown old."""

from __future__ import annotations

from typing import Any

from tidegate.kernel.machine import table
from tidegate.kernel.machine.compiled import compiled, inlined
from tidegate.kernel.windows import events, frames, labels, occurrences, rowlog
from tidegate.kernel.windows.answers import answer_alone, answer_row
from tidegate.kernel.windows.columns import cell, key_of
from tidegate.kernel.windows.layout import (
    ENTITY_NUMBER,
    EVERY,
    FRONT_WORDS,
    FRONTS,
    FRONTS_END,
    HIGH_TIME,
    LABELS,
    LOW_TIME,
    NAMES_END,
    REGISTERS,
    ROW_SIZE,
    SLOT_SIZE,
    VALUES,
    VALUES_END,
    WINDOW_WORDS,
    WINDOWS,
    WINDOWS_END,
)
from tidegate.kernel.windows.rowlog import (
    BEGIN_OF_TIME,
    END_OF_TIME,
    EVENT_ROWS,
    FREE_SLOT,
    NIL,
    RING_COUNT,
    RING_FIRST,
    ROWS_RING,
    SLOT_TABLE,
    VERDICT_SHIFT,
    of_slot,
    place,
    rows_of,
)


@inlined
def entity_rows(log: Any, layout: Any, entity: Any) -> Any:
    """The rows of an entity."""
    return rows_of(log, layout[entity + REGISTERS] + ROWS_RING, layout[entity + ROW_SIZE])


@compiled
def _find_slot(log: Any, layout: Any, entity: Any, key0: Any, key1: Any) -> Any:
    """The slot of a key, NIL if it has none."""
    at = layout[entity + REGISTERS] + SLOT_TABLE
    position = table.find_key(log.heap, at, key0, key1)
    return NIL if position == table.EMPTY else table.name_in(table.entry_at(log.heap, at, position))


@compiled
def _open_slot(log: Any, layout: Any, entity: Any, key0: Any, key1: Any, time: Any) -> Any:
    """A slot for a key that has none: nothing counted, no cursor set."""
    heap, registers = log.heap, layout[entity + REGISTERS]
    slot = rowlog.take(log, registers + FREE_SLOT, layout[entity + SLOT_SIZE])
    table.insert(heap, registers + SLOT_TABLE, table.hash_of(key0, key1), slot)
    for word in range(slot, slot + layout[entity + SLOT_SIZE]):
        heap[word] = 0
    for half in range(2 * slot + rowlog.HEAD, 2 * slot + layout[entity + NAMES_END]):
        log.links[half] = NIL
    for front in range(layout[entity + FRONTS], layout[entity + FRONTS_END], FRONT_WORDS):
        heap[slot + layout[front + HIGH_TIME]] = BEGIN_OF_TIME
        for window in range(layout[front + WINDOWS], layout[front + WINDOWS_END], WINDOW_WORDS):
            heap[slot + layout[window + LOW_TIME]] = END_OF_TIME
    heap[slot + rowlog.KEY0], heap[slot + rowlog.KEY1], heap[slot + rowlog.KEY_CLOCK] = key0, key1, time
    return slot


@compiled
def _close_slot(log: Any, layout: Any, entity: Any, slot: Any) -> None:
    heap, registers = log.heap, layout[entity + REGISTERS]
    h = table.hash_of(heap[slot + rowlog.KEY0], heap[slot + rowlog.KEY1])
    table.remove(heap, registers + SLOT_TABLE, table.find_name(heap, registers + SLOT_TABLE, h, slot))
    rowlog.give_back(log, registers + FREE_SLOT, slot)


@compiled
def _write_row(
    log: Any, layout: Any, entity: Any, event: Any, time: Any, verdict: Any, arrivals: Any, i: Any
) -> Any:  # fmt: skip
    """A row at the end of an entity's ring, in no list yet."""
    row = rowlog.add_to_ring(log, layout[entity + REGISTERS] + ROWS_RING)
    rows = entity_rows(log, layout, entity)
    at = place(rows, row)
    rows.heap[at + rowlog.TIME] = time
    valid = arrivals.valid[cell(arrivals, layout[entity + ENTITY_NUMBER], i)]
    rows.heap[at + rowlog.VALID] = valid | (verdict << VERDICT_SHIFT)
    rows.links[2 * at + rowlog.EVENT] = event
    word = at + rowlog.ROW_WORDS
    for value in range(layout[entity + VALUES], layout[entity + VALUES_END]):
        rows.heap[word] = arrivals.values[cell(arrivals, layout[value], i)]
        word += 1
    return row


@compiled
def take_row(log: Any, layout: Any, entity: Any, arrivals: Any, i: Any, floor: Any, answers: Any) -> None:
    """Put an arrival into the log of an entity, count it and answer it."""
    number, time, event = layout[entity + ENTITY_NUMBER], arrivals.times[i], arrivals.events[i]
    key0, key1 = key_of(arrivals, number, i)
    counts = layout[entity + EVERY] != 0 or arrivals.valid[cell(arrivals, number, i)] != 0
    slot = _find_slot(log, layout, entity, key0, key1)
    if time < floor or (slot == NIL and not counts):
        answer_alone(layout, entity, arrivals, answers, i)
        return
    if slot == NIL:
        slot = _open_slot(log, layout, entity, key0, key1, time)
    rows = entity_rows(log, layout, entity)
    frames.move(rows, layout, entity, slot, time, floor)
    answer_row(rows, layout, entity, slot, False, answers, i)
    if counts:
        newest = events.newest_label(log, layout, event) if layout[entity + LABELS] >= 0 else NIL
        verdict = labels.verdict_of(log, labels.label_at(log, newest, time))
        row = _write_row(log, layout, entity, event, time, verdict, arrivals, i)
        rows = entity_rows(log, layout, entity)
        rowlog.link_row(rows, slot, row, time)
        occurrences.link_all(rows, layout, entity, slot, row)
        if layout[entity + LABELS] >= 0:
            _link_labels(log, rows, layout, entity, slot, event, row)
        frames.count_in(rows, layout, entity, slot, row, time, floor)
    answer_row(rows, layout, entity, slot, True, answers, i)


@compiled
def _link_labels(log: Any, rows: Any, layout: Any, entity: Any, slot: Any, event: Any, row: Any) -> None:
    """Put the labels that waited for an event into its key's list."""
    log.links[2 * events.place_of(log, layout, event) + EVENT_ROWS + layout[entity + LABELS]] = row
    label = events.newest_label(log, layout, event)
    while label != NIL:
        labels.link_label(rows, layout[entity + LABELS], slot, label, row)
        label = labels.half_of(log, label, rowlog.OLDER)


@compiled
def retire_rows(log: Any, layout: Any, entity: Any, floor: Any) -> None:
    """Let the first rows of an entity go that are too old."""
    ring = layout[entity + REGISTERS] + ROWS_RING
    while log.heap[ring + RING_COUNT]:
        rows, row = entity_rows(log, layout, entity), log.heap[ring + RING_FIRST]
        if rowlog.time_of(rows, row) >= floor:
            return
        slot = rowlog.link(rows, row, rowlog.SLOT)
        frames.leave(rows, layout, entity, slot, row, floor)
        occurrences.unlink_all(rows, layout, entity, slot, row)
        if layout[entity + LABELS] >= 0:
            label = events.newest_label(log, layout, rowlog.link(rows, row, rowlog.EVENT))
            while label != NIL:
                labels.unlink_label(rows, layout[entity + LABELS], slot, label)
                label = labels.half_of(log, label, rowlog.OLDER)
        rowlog.unlink_row(rows, slot, row)
        if of_slot(rows, slot, rowlog.HEAD) == NIL:
            _close_slot(log, layout, entity, slot)
        rowlog.drop_first(log, ring)
