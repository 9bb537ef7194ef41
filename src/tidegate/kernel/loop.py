"""The loop over arrivals: each finds its keys' slots, is placed, counted and answered; what has grown old is let go."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tidegate.kernel import frames, labels, rowlog, table
from tidegate.kernel.answers import answer_alone, answer_row
from tidegate.kernel.compiled import compiled, entry
from tidegate.kernel.layout import (
    CURSOR_WORDS,
    DISTINCTS,
    EDGES,
    ENTITIES,
    ENTITIES_END,
    ENTITY_NUMBER,
    ENTITY_WORDS,
    HORIZON,
    LABELLED,
    LATENESS,
    LOWER,
    SLOT_WORDS,
    WINDOW_WORDS,
    WINDOWS,
    WINDOWS_END,
)
from tidegate.kernel.rowlog import END_OF_TIME, NIL
from tidegate.kernel.storage import ENOUGH, MORE_HEAP, MORE_ROWS, MORE_SLOTS, MORE_VALUES, MORE_WAITING

#: The kind of an arrival that is a row; those of labels are their verdicts.
ROW = 0

#: How many arrivals' memory is fetched at once: more would push each other out of the nearest cache.
_FETCHED_AHEAD = 16

#: Words that memory hands out at once, on all processors of today.
_LINE_WORDS = 8


class Columns(NamedTuple):
    """Arrivals as the loop takes them: `windows.Arrivals` with all words signed."""

    times: np.ndarray
    ids: np.ndarray
    kinds: np.ndarray
    keys: np.ndarray
    lanes: np.ndarray
    valid: np.ndarray


@compiled
def _open_slot(log: Any, layout: Any, entity: Any, arrivals: Any, i: Any) -> Any:
    """A slot for a row's key, which has none: nothing counted, no cursor set."""
    number = layout[entity + ENTITY_NUMBER]
    key0, key1 = arrivals.keys[number, i, 0] + number, arrivals.keys[number, i, 1]
    slot = rowlog.take(log, rowlog.FREE_SLOT, layout[SLOT_WORDS])
    rowlog.enter(log, rowlog.SLOT_TABLE, key0, key1, slot)
    log.heap[slot + rowlog.HEAD : slot + layout[CURSOR_WORDS]] = NIL
    log.heap[slot + layout[CURSOR_WORDS] : slot + layout[SLOT_WORDS]] = 0
    for window in range(layout[entity + WINDOWS], layout[entity + WINDOWS_END], WINDOW_WORDS):
        log.heap[slot + layout[window + EDGES] + rowlog.LOW_TIME] = END_OF_TIME
    log.heap[slot + rowlog.CLOCK] = arrivals.times[i]
    return slot


@compiled
def _slot_of(log: Any, layout: Any, entity: Any, arrivals: Any, i: Any) -> Any:
    """The slot of a row's key, NIL if it has none. A slot's key is the key's hash moved by the entity's number."""
    number = layout[entity + ENTITY_NUMBER]
    at = rowlog.find(log, rowlog.SLOT_TABLE, arrivals.keys[number, i, 0] + number, arrivals.keys[number, i, 1])
    return NIL if at == table.EMPTY else rowlog.named(log, rowlog.SLOT_TABLE, at)


@compiled
def _place_out_of_order(
    log: Any, layout: Any, entity: Any, slot: Any, row: Any, floor: Any, answers: Any, i: Any
) -> None:
    time, clock = rowlog.time_of(log, row), log.heap[slot + rowlog.CLOCK]
    frames.move_forward(log, layout, entity, slot, clock, floor, True)
    unlabelled = frames.take_back_labels(log, layout, entity, slot, time)
    frames.move_back(log, layout, entity, slot, time, floor)
    answer_row(log, layout, entity, slot, row, False, clock, floor, unlabelled, answers, i)
    _enlist(log, layout, entity, slot, row)
    frames.count_in(log, layout, entity, slot, row, False)
    answer_row(log, layout, entity, slot, row, True, clock, floor, unlabelled, answers, i)
    frames.apply_labels(log, layout, entity, slot, clock)
    frames.move_forward(log, layout, entity, slot, clock, floor, False)
    frames.chain_in(log, layout, entity, slot, row, clock)


@compiled
def _place(log: Any, layout: Any, entity: Any, slot: Any, row: Any, floor: Any, answers: Any, i: Any) -> None:
    """Put a row that is not older than its key's clock into the key's list, count it and answer it."""
    time = rowlog.time_of(log, row)
    if frames.apply_labels(log, layout, entity, slot, time):
        frames.chain_labelled(log, layout, entity, slot, time)
    frames.move_forward(log, layout, entity, slot, time, floor, True)
    answer_row(log, layout, entity, slot, row, False, time, floor, False, answers, i)
    _enlist(log, layout, entity, slot, row)
    frames.count_in(log, layout, entity, slot, row, True)
    answer_row(log, layout, entity, slot, row, True, time, floor, False, answers, i)


@compiled
def _enlist(log: Any, layout: Any, entity: Any, slot: Any, row: Any) -> None:
    """Put a row, and the labels that waited for it, into their key's lists. The key's state is as of the row's time."""
    number = layout[entity + ENTITY_NUMBER]
    rowlog.link_row(log, number, slot, row)
    label = rowlog.link(log, row, rowlog.LABEL)
    while label != NIL:
        labels.link_label(log, number, slot, label, rowlog.time_of(log, row))
        label = log.heap[label + rowlog.OLDER]


@compiled
def _retire(log: Any, layout: Any, row: Any, floor: Any) -> None:
    """Free the ring's first row, which is older than `floor`."""
    newest = rowlog.link(log, row, rowlog.LABEL)
    for entity in range(layout[ENTITIES], layout[ENTITIES_END], ENTITY_WORDS):
        number = layout[entity + ENTITY_NUMBER]
        slot = rowlog.link(log, row, rowlog.SLOT + rowlog.LINKS_AN_ENTITY * number)
        frames.leave(log, layout, entity, slot, row, floor)
        rowlog.unlink_row(log, number, slot, row)
        label = newest
        while label != NIL:
            labels.unlink_label(log, number, slot, label)
            label = log.heap[label + rowlog.OLDER]
        if log.heap[slot + rowlog.HEAD] == NIL:
            key0, key1 = log.heap[slot + rowlog.KEY0], log.heap[slot + rowlog.KEY1]
            rowlog.strike(log, rowlog.SLOT_TABLE, rowlog.find(log, rowlog.SLOT_TABLE, key0, key1))
            rowlog.give_back(log, rowlog.FREE_SLOT, slot)
    if newest != NIL:
        labels.free_older(log, newest, END_OF_TIME)
    rowlog.drop_first_row(log)


@compiled
def _label(log: Any, layout: Any, arrivals: Any, i: Any, floor: Any) -> None:
    """A label changes how its row counts from the label's time on."""
    time, id0, id1 = arrivals.times[i], arrivals.ids[i, 0], arrivals.ids[i, 1]
    verdict = np.int64(arrivals.kinds[i])
    entity_count = (layout[ENTITIES_END] - layout[ENTITIES]) // ENTITY_WORDS
    row = rowlog.kept_row(log, id0, id1, floor)
    if row == NIL:
        if time >= floor:
            labels.keep_waiting(log, id0, id1, time, verdict, entity_count)
        return
    history = rowlog.link(log, row, rowlog.LABEL)
    known = rowlog.label_at(log, history, time)
    before = rowlog.verdict_of(log, known)
    newest, label = labels.add_to_history(log, history, time, entity_count)
    log.links[rowlog.place(log, row), rowlog.LABEL] = newest
    log.heap[label + rowlog.VERDICT], log.heap[label + rowlog.LABELLED] = verdict, row
    for entity in range(layout[ENTITIES], layout[ENTITIES_END], ENTITY_WORDS):
        number = layout[entity + ENTITY_NUMBER]
        slot = rowlog.link(log, row, rowlog.SLOT + rowlog.LINKS_AN_ENTITY * number)
        clock = log.heap[slot + rowlog.CLOCK]
        if label != known:
            labels.link_label(log, number, slot, label, clock)
        applies = rowlog.label_at(log, newest, clock) == label
        if applies and frames.swap_verdict(log, layout, entity, slot, row, before, verdict):
            frames.chain_labelled(log, layout, entity, slot, clock)


@compiled
def _short_of(log: Any, layout: Any, arrivals: Any, i: Any, floor: Any) -> Any:
    """What the log must have more of before the arrival can be taken."""
    heap = log.heap
    entity_count = (layout[ENTITIES_END] - layout[ENTITIES]) // ENTITY_WORDS
    slots, waiting, values, words = 0, 0, layout[DISTINCTS], 0
    if arrivals.kinds[i] == ROW:
        if heap[rowlog.ROWS] == len(log.rows):
            return MORE_ROWS
        slots = entity_count
        words = slots * layout[SLOT_WORDS]
        if values:
            for entity in range(layout[ENTITIES], layout[ENTITIES_END], ENTITY_WORDS):
                slot = _slot_of(log, layout, entity, arrivals, i)
                if slot != NIL:
                    values += frames.value_demand(log, layout, entity, slot, arrivals.times[i], floor)
    else:
        waiting = 1
        words = rowlog.WAITING_WORDS + rowlog.LABEL_WORDS + rowlog.LINKS_A_LABEL_AND_ENTITY * entity_count
    if heap[rowlog.HEAP_END] + words + values * rowlog.VALUE_WORDS > len(heap):
        return MORE_HEAP
    if 2 * (heap[rowlog.SLOT_TABLE + rowlog.COUNT] + slots) > heap[rowlog.SLOT_TABLE + rowlog.MASK]:
        return MORE_SLOTS
    if 2 * (heap[rowlog.WAITING_TABLE + rowlog.COUNT] + waiting) > heap[rowlog.WAITING_TABLE + rowlog.MASK]:
        return MORE_WAITING
    if 2 * (heap[rowlog.VALUE_TABLE + rowlog.COUNT] + values) > heap[rowlog.VALUE_TABLE + rowlog.MASK]:
        return MORE_VALUES
    return ENOUGH


@compiled
def _take_row(log: Any, layout: Any, arrivals: Any, i: Any, floor: Any, answers: Any) -> None:
    time, id0, id1 = arrivals.times[i], arrivals.ids[i, 0], arrivals.ids[i, 1]
    newest = log.heap[rowlog.NEWEST]
    if rowlog.kept_row(log, id0, id1, floor) != NIL:
        answers.duplicate[i] = True
        return
    answers.late[i] = time < newest - layout[LATENESS]
    if time < floor:
        answer_alone(layout, arrivals, answers, i)
        return
    log.heap[rowlog.NEWEST] = max(newest, time)
    while log.heap[rowlog.ROWS] and rowlog.time_of(log, log.heap[rowlog.FIRST]) < floor:
        _retire(log, layout, log.heap[rowlog.FIRST], floor)
    row = rowlog.new_row(log, id0, id1, time, arrivals.valid[i])
    for lane in range(len(arrivals.lanes)):
        log.rows[rowlog.place(log, row), rowlog.LANES + lane] = arrivals.lanes[lane, i]
    if log.heap[rowlog.WAITING_TABLE + rowlog.COUNT]:
        labels.end_waiting(log, id0, id1, row, floor)
    for entity in range(layout[ENTITIES], layout[ENTITIES_END], ENTITY_WORDS):
        slot = _slot_of(log, layout, entity, arrivals, i)
        if slot == NIL:
            slot = _open_slot(log, layout, entity, arrivals, i)
        elif time < log.heap[slot + rowlog.CLOCK]:
            _place_out_of_order(log, layout, entity, slot, row, floor, answers, i)
            continue
        _place(log, layout, entity, slot, row, floor, answers, i)


@compiled
def _fetch(log: Any, layout: Any, arrivals: Any, start: Any) -> Any:
    """Read what the next arrivals, and the rows that they may make go, are about to need. One after another each would
    wait for memory; here nothing waits for anything else, so that the processor fetches it all at once. The sum means
    nothing: it is there so that the reads are not left out.
    """
    heap, total = log.heap, 0
    end = min(start + _FETCHED_AHEAD, len(arrivals.times))
    for i in range(start, end):
        total += log.row_table[table.hash_of(arrivals.ids[i, 0], arrivals.ids[i, 1]) & (len(log.row_table) - 1)]
        for entity in range(layout[ENTITIES], layout[ENTITIES_END], ENTITY_WORDS):
            total += _fetch_slot(log, layout, _slot_of(log, layout, entity, arrivals, i))
            if i - start < heap[rowlog.ROWS]:
                column = rowlog.SLOT + rowlog.LINKS_AN_ENTITY * layout[entity + ENTITY_NUMBER]
                total += _fetch_slot(log, layout, rowlog.link(log, heap[rowlog.FIRST] + i - start, column))
    # The slots are near now; what their cursors name is next.
    for i in range(start, end):
        for entity in range(layout[ENTITIES], layout[ENTITIES_END], ENTITY_WORDS):
            slot = _slot_of(log, layout, entity, arrivals, i)
            if slot != NIL:
                total += _fetch_leaving(log, layout, entity, slot, arrivals.times[i])
    return total


@compiled
def _fetch_slot(log: Any, layout: Any, slot: Any) -> Any:
    total = 0
    if slot != NIL:
        for word in range(0, layout[SLOT_WORDS], _LINE_WORDS):
            total += log.heap[slot + word]
    return total


@compiled
def _fetch_leaving(log: Any, layout: Any, entity: Any, slot: Any, time: Any) -> Any:
    """The rows that leave the frames at `time`, and those that are the oldest then: the first of each, that is."""
    total = 0
    for window in range(layout[entity + WINDOWS], layout[entity + WINDOWS_END], WINDOW_WORDS):
        edges = slot + layout[window + EDGES]
        if log.heap[edges + rowlog.LOW_TIME] < time - layout[window + LOWER]:
            low = log.heap[edges + rowlog.LOW]
            total += log.rows[rowlog.place(log, low), rowlog.VALID]
            row = rowlog.following(log, layout[entity + ENTITY_NUMBER], low)
            if row != NIL:
                total += rowlog.time_of(log, row)
    return total


@entry
def run(log: Any, layout: Any, arrivals: Any, start: Any, answers: Any) -> Any:
    """Take arrivals from `start` on until one finds no room: how many are taken now, and what is short."""
    for i in range(start, len(arrivals.times)):
        if (i - start) % _FETCHED_AHEAD == 0:
            _fetch(log, layout, arrivals, i)
        floor = log.heap[rowlog.NEWEST]
        if arrivals.kinds[i] == ROW:
            floor = max(floor, arrivals.times[i])
        floor -= layout[HORIZON]
        short = _short_of(log, layout, arrivals, i, floor)
        if short != ENOUGH:
            return i, short
        if arrivals.kinds[i] == ROW:
            _take_row(log, layout, arrivals, i, floor, answers)
        elif layout[LABELLED]:
            _label(log, layout, arrivals, i, floor)
    return len(arrivals.times), ENOUGH
