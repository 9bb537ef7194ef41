"""The loop over arrivals: each finds its keys' slots, is placed, counted and answered; what has grown old is let go."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tidegate.kernel.machine import table
from tidegate.kernel.machine.compiled import compiled, entry, inlined
from tidegate.kernel.machine.memory import bring_near, bytes_of, constants_of, halves_of, words_of
from tidegate.kernel.machine.table import TABLE_COUNT, TABLE_SIZE
from tidegate.kernel.plan import NEVER
from tidegate.kernel.windows import events, near, frames, labels, occurrences, rowlog
from tidegate.kernel.windows.answers import answer_alone, answer_row
from tidegate.kernel.windows.layout import (
    AHEAD,
    ENTITIES,
    ENTITIES_END,
    ENTITY_NUMBER,
    ENTITY_WORDS,
    EVENT_HORIZON,
    EVERY,
    FRONT_WORDS,
    FRONTS,
    FRONTS_END,
    HORIZON,
    LABEL_SIZE,
    LABELS,
    LATENESS,
    LOW_TIME,
    NAMES_END,
    OCCURRENCE_WORDS,
    OCCURRENCES,
    OCCURRENCES_END,
    REGISTERS,
    ROW_SIZE,
    SLOT_SIZE,
    VALUE_TABLE,
    VALUES,
    VALUES_END,
    WINDOW_WORDS,
    WINDOWS,
    WINDOWS_END,
)
from tidegate.kernel.windows.rowlog import (
    CLOCK_REGISTER,
    END_OF_TIME,
    EVENT_LABEL,
    EVENT_ROWS,
    EVENT_TABLE,
    EVENT_TIME,
    EVENTS,
    FREE_SLOT,
    NIL,
    RING_COUNT,
    RING_FIRST,
    RING_MASK,
    ROWS_RING,
    SLOT_TABLE,
    VERDICT_SHIFT,
    WAITING_TABLE,
    Log,
    of_slot,
    place,
    rows_of,
)
from tidegate.kernel.windows.near import _entry_of
from tidegate.kernel.windows.storage import ENOUGH, MORE_HEAP

#: The kind of an arrival that is a row; those of labels are their verdicts.
ROW = 0

#: So many events in a row must be too far ahead of the clock to move it. One wrong clock among others' events never
#: gives so many; after a silence of the whole stream they soon come.
WITNESSES = 8


class Columns(NamedTuple):
    """Arrivals as the loop takes them: `windows.Arrivals` with all words signed, and valid bits by entity."""

    count: Any
    times: Any
    ids: Any
    kinds: Any
    keys: Any
    values: Any
    valid: Any
    clocks: Any
    events: Any
    slots: Any


class Out(NamedTuple):
    count: Any
    values: Any
    valid: Any
    duplicate: Any
    late: Any


@inlined
def _entity_rows(log: Any, layout: Any, entity: Any) -> Any:
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
    rows = _entity_rows(log, layout, entity)
    at = place(rows, row)
    rows.heap[at + rowlog.TIME] = time
    rows.heap[at + rowlog.VALID] = arrivals.valid[(layout[entity + ENTITY_NUMBER]) * arrivals.count + i] | (verdict << VERDICT_SHIFT)
    rows.links[2 * at + rowlog.EVENT] = event
    word = at + rowlog.ROW_WORDS
    for value in range(layout[entity + VALUES], layout[entity + VALUES_END]):
        rows.heap[word] = arrivals.values[(layout[value]) * arrivals.count + i]
        word += 1
    return row


@compiled
def _place(log: Any, layout: Any, entity: Any, arrivals: Any, i: Any, floor: Any, answers: Any) -> None:
    """Put an arrival into the log of an entity, count it and answer it."""
    number, time, event = layout[entity + ENTITY_NUMBER], arrivals.times[i], arrivals.events[i]
    key0, key1 = arrivals.keys[2 * (number * arrivals.count + i) + 0], arrivals.keys[2 * (number * arrivals.count + i) + 1]
    counts = layout[entity + EVERY] != 0 or arrivals.valid[(number) * arrivals.count + i] != 0
    slot = _find_slot(log, layout, entity, key0, key1)
    if time < floor or (slot == NIL and not counts):
        answer_alone(layout, entity, arrivals, answers, i)
        return
    if slot == NIL:
        slot = _open_slot(log, layout, entity, key0, key1, time)
    rows = _entity_rows(log, layout, entity)
    frames.move(rows, layout, entity, slot, time, floor)
    answer_row(rows, layout, entity, slot, False, answers, i)
    if counts:
        newest = events.newest_label(log, layout, event) if layout[entity + LABELS] >= 0 else NIL
        verdict = labels.verdict_of(log, labels.label_at(log, newest, time))
        row = _write_row(log, layout, entity, event, time, verdict, arrivals, i)
        rows = _entity_rows(log, layout, entity)
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
def _retire_rows(log: Any, layout: Any, entity: Any, floor: Any) -> None:
    """Let the first rows of an entity go that are too old."""
    ring = layout[entity + REGISTERS] + ROWS_RING
    while log.heap[ring + RING_COUNT]:
        rows, row = _entity_rows(log, layout, entity), log.heap[ring + RING_FIRST]
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


@compiled
def _retire_events(log: Any, layout: Any, floor: Any) -> None:
    """Forget the first events that are too old: no row that reads labels is of one of them any more."""
    heap = log.heap
    while heap[EVENTS + RING_COUNT]:
        event = heap[EVENTS + RING_FIRST]
        if heap[events.place_of(log, layout, event) + EVENT_TIME] >= floor:
            return
        if layout[LABEL_SIZE]:
            labels.free_older(log, events.newest_label(log, layout, event), END_OF_TIME)
        events.drop_first_event(log, layout)


@compiled
def _label(log: Any, layout: Any, arrivals: Any, i: Any, floor: Any) -> None:
    """A label changes how its event's rows count from the label's time on."""
    time, id0, id1 = arrivals.times[i], arrivals.ids[2 * i + 0], arrivals.ids[2 * i + 1]
    verdict = np.int64(arrivals.kinds[i])
    event = events.kept_event(log, layout, id0, id1, floor)
    if event == NIL:
        if time >= floor:
            labels.keep_waiting(log, layout, id0, id1, time, verdict)
        return
    history, half = events.newest_label(log, layout, event), 2 * events.place_of(log, layout, event)
    newest, label = labels.add_to_history(log, layout, history, time)
    is_new = labels.half_of(log, label, rowlog.VERDICT) == NIL
    log.links[half + EVENT_LABEL], log.links[2 * label + rowlog.VERDICT] = newest, verdict
    for entity in range(layout[ENTITIES], layout[ENTITIES_END], ENTITY_WORDS):
        if layout[entity + LABELS] < 0:
            continue
        rows, row = _entity_rows(log, layout, entity), np.int64(log.links[half + EVENT_ROWS + layout[entity + LABELS]])
        if not rowlog.is_kept(rows, row):
            continue
        slot = rowlog.link(rows, row, rowlog.SLOT)
        if is_new:
            labels.link_label(rows, layout[entity + LABELS], slot, label, row)
        frames.relabel(rows, layout, entity, slot, row, newest)


@inlined
def _is_full(heap: Any, at: Any, entries: Any) -> Any:
    """Whether a table with so many entries would have less than a quarter free."""
    return 4 * entries > 3 * heap[at + TABLE_SIZE]


@inlined
def _is_full_ring(heap: Any, ring: Any, more: Any) -> Any:
    return heap[ring + RING_COUNT] + more > heap[ring + RING_MASK] + 1


@compiled
def _short_of(log: Any, layout: Any, more: Any) -> Any:
    """What the log must have more of before so many more arrivals can be taken."""
    heap = log.heap
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


@compiled
def _pass_time(log: Any, layout: Any, time: Any) -> None:
    """Let the clock move on by an event's time. An event too far ahead of it does not move it alone."""
    heap = log.heap
    clock = heap[CLOCK_REGISTER]
    if clock == NEVER or time <= clock + layout[AHEAD]:
        heap[CLOCK_REGISTER] = max(clock, time)
        heap[rowlog.AHEAD_COUNT] = 0
        return
    first = heap[rowlog.AHEAD_COUNT] == 0
    heap[rowlog.AHEAD_TIME] = time if first else min(time, heap[rowlog.AHEAD_TIME])
    heap[rowlog.AHEAD_COUNT] += 1
    if heap[rowlog.AHEAD_COUNT] == WITNESSES:
        heap[CLOCK_REGISTER] = heap[rowlog.AHEAD_TIME]
        heap[rowlog.AHEAD_COUNT] = 0


@compiled
def _remember(log: Any, layout: Any, arrivals: Any, i: Any, answers: Any) -> None:
    """Tell a row from duplicates and from late ones, let the clock move on by it, and remember its id."""
    time, id0, id1 = arrivals.times[i], arrivals.ids[2 * i], arrivals.ids[2 * i + 1]
    clock = log.heap[CLOCK_REGISTER]
    if events.kept_event(log, layout, id0, id1, max(clock, time) - layout[EVENT_HORIZON]) != NIL:
        answers.duplicate[i] = True
        return
    answers.late[i] = time < clock - layout[LATENESS]
    _pass_time(log, layout, time)
    clock = log.heap[CLOCK_REGISTER]
    floor = clock - layout[EVENT_HORIZON]
    event = NIL
    if time >= floor:
        event = events.new_event(log, layout, id0, id1, time)
        if log.heap[WAITING_TABLE + TABLE_COUNT]:
            newest = labels.end_waiting(log, id0, id1, floor)
            log.links[2 * events.place_of(log, layout, event) + EVENT_LABEL] = newest
    arrivals.clocks[i], arrivals.events[i] = clock, event


@compiled
def _take_rows(log: Any, layout: Any, arrivals: Any, start: Any, end: Any, answers: Any) -> None:
    for i in range(start, end):
        bring_near(log.heap, _entry_of(log.heap, EVENT_TABLE, table.hash_of(arrivals.ids[2 * i], arrivals.ids[2 * i + 1])))
    for i in range(start, end):
        _remember(log, layout, arrivals, i, answers)
    for entity in range(layout[ENTITIES], layout[ENTITIES_END], ENTITY_WORDS):
        if end > start + 1:
            near.bring_all(log, _entity_rows(log, layout, entity), layout, entity, arrivals, start, end)
        for i in range(start, end):
            if not answers.duplicate[i]:
                floor = arrivals.clocks[i] - layout[entity + HORIZON]
                _retire_rows(log, layout, entity, floor)
                _place(log, layout, entity, arrivals, i, floor, answers)
    _retire_events(log, layout, log.heap[CLOCK_REGISTER] - layout[EVENT_HORIZON])


@entry
def run(heap: Any, layout: Any, columns: Any, start: Any, answers: Any) -> Any:
    """Take arrivals from `start` on until one finds no room: how many are taken now, and what is short."""
    times, ids, kinds, keys, values, valid, clocks, events, slots = columns
    a, b, c, d = answers
    n = len(times)
    return take_all(
        Log(words_of(heap), halves_of(heap)), constants_of(layout),
        Columns(n, constants_of(times), constants_of(ids), bytes_of(kinds), constants_of(keys), constants_of(values),
        constants_of(valid), words_of(clocks), words_of(events), words_of(slots)), start, Out(n, words_of(a), bytes_of(b), bytes_of(c), bytes_of(d)))


AT_ONCE = 32

@compiled
def take_all(log: Any, layout: Any, arrivals: Any, start: Any, answers: Any) -> Any:
    i = start
    while i < arrivals.count:
        if arrivals.kinds[i] != ROW:
            if layout[LABEL_SIZE]:
                short = _short_of(log, layout, 1)
                if short != ENOUGH:
                    return i, short
                _label(log, layout, arrivals, i, log.heap[CLOCK_REGISTER] - layout[EVENT_HORIZON])
            i += 1
            continue
        end = i + 1
        last = min(i + AT_ONCE, arrivals.count)
        while end < last and arrivals.kinds[end] == ROW:
            end += 1
        short = _short_of(log, layout, end - i)
        if short != ENOUGH:
            return i, short
        _take_rows(log, layout, arrivals, i, end, answers)
        i = end
    return arrivals.count, ENOUGH
