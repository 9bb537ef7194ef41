"""The loop over arrivals. Between labels, rows are taken some at a time: all are told from duplicates, then one entity
after the other takes all of them. Entities know nothing of each other, so it does not matter which comes first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.kernel.machine.clock import pass_time_compiled
from tidegate.kernel.machine.compiled import compiled, entry
from tidegate.kernel.machine.memory import constants_of
from tidegate.kernel.machine.table import TABLE_COUNT
from tidegate.kernel.windows import events, frames, labels, near, rowlog
from tidegate.kernel.windows.columns import answered_of, columns_of, id_of
from tidegate.kernel.windows.entity import entity_rows, retire_rows, take_row
from tidegate.kernel.windows.layout import (
    AHEAD,
    ENTITIES,
    ENTITIES_END,
    ENTITY_WORDS,
    EVENT_HORIZON,
    HORIZON,
    LABEL_SIZE,
    LABELS,
    LATENESS,
)
from tidegate.kernel.windows.room import short_of
from tidegate.kernel.windows.rowlog import (
    CLOCK_REGISTER,
    END_OF_TIME,
    EVENT_LABEL,
    EVENT_ROWS,
    EVENT_TIME,
    EVENTS,
    NIL,
    RING_COUNT,
    RING_FIRST,
    WAITING_TABLE,
    near_log,
)
from tidegate.kernel.windows.storage import ENOUGH

#: The kind of an arrival that is a row; those of labels are their verdicts.
ROW = 0

#: Rows that are taken together: what they need of memory stays in the processor's own until they have used it.
AT_ONCE = 32


@compiled
def _remember(log: Any, layout: Any, arrivals: Any, i: Any, answers: Any) -> None:
    """Tell a row from duplicates and from late ones, let the clock move on by it, and remember its id."""
    time, (id0, id1) = arrivals.times[i], id_of(arrivals, i)
    clock = log.heap[CLOCK_REGISTER]
    if events.kept_event(log, layout, id0, id1, max(clock, time) - layout[EVENT_HORIZON]) != NIL:
        answers.duplicate[i] = True
        return
    answers.late[i] = time < clock - layout[LATENESS]
    pass_time_compiled(log.heap, layout[AHEAD], time)
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
def _take_rows(log: Any, layout: Any, arrivals: Any, start: Any, end: Any, answers: Any) -> None:
    """Take the rows from `start` to `end`."""
    is_one = end == start + 1
    if not is_one:
        near.events_near(log, arrivals, start, end)
    for i in range(start, end):
        _remember(log, layout, arrivals, i, answers)
    for entity in range(layout[ENTITIES], layout[ENTITIES_END], ENTITY_WORDS):
        if not is_one:
            near.rows_near(entity_rows(log, layout, entity), layout, entity, arrivals, start, end)
        for i in range(start, end):
            if not answers.duplicate[i]:
                floor = arrivals.clocks[i] - layout[entity + HORIZON]
                retire_rows(log, layout, entity, floor)
                take_row(log, layout, entity, arrivals, i, floor, answers)
    # Last, as rows that were let go knew their events.
    _retire_events(log, layout, log.heap[CLOCK_REGISTER] - layout[EVENT_HORIZON])


@compiled
def _label(log: Any, layout: Any, arrivals: Any, i: Any, floor: Any) -> None:
    """A label changes how its event's rows count from the label's time on."""
    time, (id0, id1) = arrivals.times[i], id_of(arrivals, i)
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
        rows, row = entity_rows(log, layout, entity), np.int64(log.links[half + EVENT_ROWS + layout[entity + LABELS]])
        if not rowlog.is_kept(rows, row):
            continue
        slot = rowlog.link(rows, row, rowlog.SLOT)
        if is_new:
            labels.link_label(rows, layout[entity + LABELS], slot, label, row)
        frames.relabel(rows, layout, entity, slot, row, newest)


@compiled
def _end_of_rows(arrivals: Any, start: Any) -> Any:
    """Where the rows from `start` on end that are taken together."""
    end, last = start, min(start + AT_ONCE, arrivals.count)
    while end < last and arrivals.kinds[end] == ROW:
        end += 1
    return end


@compiled
def _take(log: Any, layout: Any, arrivals: Any, start: Any, answers: Any) -> Any:
    i = start
    while i < arrivals.count:
        end = _end_of_rows(arrivals, i)
        is_label = end == i
        short = short_of(log.heap, layout, max(1, end - i))
        if short != ENOUGH:
            return i, short
        if not is_label:
            _take_rows(log, layout, arrivals, i, end, answers)
        elif layout[LABEL_SIZE]:
            _label(log, layout, arrivals, i, log.heap[CLOCK_REGISTER] - layout[EVENT_HORIZON])
        i = max(end, i + 1)
    return arrivals.count, ENOUGH


@entry
def run(log: Any, layout: Any, arrivals: Any, start: Any, answers: Any) -> Any:
    """Take arrivals from `start` on until some find no room: how many are taken now, and what is short."""
    return _take(near_log(log), constants_of(layout), columns_of(arrivals), start, answered_of(answers))
