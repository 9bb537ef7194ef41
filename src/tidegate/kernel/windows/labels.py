"""Labels in the row logs: of events, and of transactions that have not come."""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.kernel.machine import table
from tidegate.kernel.machine.compiled import compiled, entry, inlined
from tidegate.kernel.machine.table import TABLE_SIZE
from tidegate.kernel.windows.layout import LABEL_SIZE
from tidegate.kernel.windows.rowlog import (
    APPLIED,
    EARLIER,
    FREE_LABEL,
    FREE_WAITING,
    HISTORY,
    ID0,
    ID1,
    KEY_CLOCK,
    LABEL_TIME,
    LABELLED,
    LATER,
    LINKS_A_LABEL,
    NIL,
    OLDER,
    PENDING,
    UNKNOWN,
    VERDICT,
    WAITING_TABLE,
    WAITING_WORDS,
    give_back,
    near_log,
    of_slot,
    set_of_slot,
    take,
)


@inlined
def half_of(log: Any, label: Any, half: Any) -> Any:
    """A half of the words of a label, or of what waits."""
    return np.int64(log.links[2 * label + half])


@inlined
def verdict_of(log: Any, label: Any) -> Any:
    return np.int64(UNKNOWN) if label == NIL else half_of(log, label, VERDICT)


@compiled
def label_at(log: Any, newest: Any, time: Any) -> Any:
    """The newest label of a history, given by its newest, that is not newer than `time`."""
    label = newest
    while label != NIL and log.heap[label + LABEL_TIME] > time:
        label = half_of(log, label, OLDER)
    return label


@compiled
def add_to_history(log: Any, layout: Any, newest: Any, time: Any) -> Any:
    """A history with a label of that time: its newest, and the label, whose verdict is NIL if it is new. There is one
    label of one time: the last that came wins.
    """
    newer, label = NIL, newest
    while label != NIL and log.heap[label + LABEL_TIME] > time:
        newer = label
        label = half_of(log, label, OLDER)
    if label != NIL and log.heap[label + LABEL_TIME] == time:
        return newest, label
    added = take(log, FREE_LABEL, layout[LABEL_SIZE])
    log.heap[added + LABEL_TIME] = time
    for word in range(added + 1, added + layout[LABEL_SIZE]):
        log.heap[word] = NIL  # in both halves
    log.links[2 * added + OLDER] = label
    if newer == NIL:
        return added, added
    log.links[2 * newer + OLDER] = added
    return newest, added


@compiled
def link_label(rows: Any, labels: Any, slot: Any, label: Any, row: Any) -> None:
    """Put a label of a row into its key's list by its time: up to the key's clock labels are applied, later ones
    pending. `labels`: which of the entities that read labels it is.
    """
    time = rows.heap[label + LABEL_TIME]
    earlier_half, later_half = EARLIER + LINKS_A_LABEL * labels, LATER + LINKS_A_LABEL * labels
    earlier, later = of_slot(rows, slot, APPLIED), of_slot(rows, slot, PENDING)
    if time <= rows.heap[slot + KEY_CLOCK]:
        while earlier != NIL and rows.heap[earlier + LABEL_TIME] > time:
            later = earlier
            earlier = half_of(rows, earlier, earlier_half)
        if later == of_slot(rows, slot, PENDING):
            set_of_slot(rows, slot, APPLIED, label)
    else:
        while later != NIL and rows.heap[later + LABEL_TIME] <= time:
            earlier = later
            later = half_of(rows, later, later_half)
        if earlier == of_slot(rows, slot, APPLIED):
            set_of_slot(rows, slot, PENDING, label)
    at = 2 * label
    rows.links[at + earlier_half], rows.links[at + later_half] = earlier, later
    rows.links[at + LABELLED + LINKS_A_LABEL * labels] = row
    if earlier != NIL:
        rows.links[2 * earlier + later_half] = label
    if later != NIL:
        rows.links[2 * later + earlier_half] = label


@compiled
def unlink_label(rows: Any, labels: Any, slot: Any, label: Any) -> None:
    earlier_half, later_half = EARLIER + LINKS_A_LABEL * labels, LATER + LINKS_A_LABEL * labels
    earlier, later = half_of(rows, label, earlier_half), half_of(rows, label, later_half)
    if earlier != NIL:
        rows.links[2 * earlier + later_half] = later
    if later != NIL:
        rows.links[2 * later + earlier_half] = earlier
    if of_slot(rows, slot, APPLIED) == label:
        set_of_slot(rows, slot, APPLIED, earlier)
    if of_slot(rows, slot, PENDING) == label:
        set_of_slot(rows, slot, PENDING, later)


@compiled
def keep_waiting(log: Any, layout: Any, id0: Any, id1: Any, time: Any, verdict: Any) -> None:
    """A label whose transaction is not remembered waits for it."""
    position = table.find_key(log.heap, WAITING_TABLE, id0, id1)
    if position == table.EMPTY:
        waiting = take(log, FREE_WAITING, WAITING_WORDS)
        log.heap[waiting + ID0], log.heap[waiting + ID1] = id0, id1
        log.links[2 * waiting + HISTORY] = NIL
        table.insert(log.heap, WAITING_TABLE, table.hash_of(id0, id1), waiting)
    else:
        waiting = table.name_in(table.entry_at(log.heap, WAITING_TABLE, position))
    newest, label = add_to_history(log, layout, half_of(log, waiting, HISTORY), time)
    log.links[2 * label + VERDICT] = verdict
    log.links[2 * waiting + HISTORY] = newest


@compiled
def free_older(log: Any, newest: Any, floor: Any) -> Any:
    """A history without what is older than `floor`."""
    kept, label = NIL, newest
    while label != NIL:
        older = half_of(log, label, OLDER)
        if log.heap[label + LABEL_TIME] >= floor:
            kept = label
        else:
            give_back(log, FREE_LABEL, label)
        label = older
    if kept == NIL:
        return NIL
    log.links[2 * kept + OLDER] = NIL
    return newest


@compiled
def end_waiting(log: Any, id0: Any, id1: Any, floor: Any) -> Any:
    """The newest label of the history that waited for a transaction, without what waited too long."""
    position = table.find_key(log.heap, WAITING_TABLE, id0, id1)
    if position == table.EMPTY:
        return NIL
    waiting = table.name_in(table.entry_at(log.heap, WAITING_TABLE, position))
    table.remove(log.heap, WAITING_TABLE, position)
    newest = free_older(log, half_of(log, waiting, HISTORY), floor)
    give_back(log, FREE_WAITING, waiting)
    return newest


@entry
def forget_waiting(arrays: Any, floor: Any) -> None:
    """Free all labels that waited too long."""
    log = near_log(arrays)
    heap = log.heap
    position = 0
    while position < heap[WAITING_TABLE + TABLE_SIZE]:
        if table.entry_at(heap, WAITING_TABLE, position) != table.EMPTY:
            waiting = table.name_in(table.entry_at(heap, WAITING_TABLE, position))
            newest = free_older(log, half_of(log, waiting, HISTORY), floor)
            log.links[2 * waiting + HISTORY] = newest
            if newest == NIL:
                table.remove(heap, WAITING_TABLE, position)
                give_back(log, FREE_WAITING, waiting)
                continue  # another entry may have moved here
        position += 1
