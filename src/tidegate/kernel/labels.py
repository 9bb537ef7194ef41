"""Labels in the row log: of rows, and of transactions that have not come."""

from __future__ import annotations

from typing import Any

from tidegate.kernel import rowlog, table
from tidegate.kernel.compiled import compiled, entry
from tidegate.kernel.rowlog import (
    APPLIED,
    EARLIER,
    FREE_LABEL,
    FREE_WAITING,
    HISTORY,
    LABEL_TIME,
    LABEL_WORDS,
    LABELLED,
    LATER,
    LINKS_A_LABEL_AND_ENTITY,
    NIL,
    OLDER,
    PENDING,
    UNKNOWN,
    VERDICT,
    WAITING_TABLE,
    WAITING_WORDS,
)


@compiled
def add_to_history(log: Any, newest: Any, time: Any, entity_count: Any) -> Any:
    """A history with a label of that time: its newest, and the label. There is one label of one time: the last that
    came wins.
    """
    heap = log.heap
    newer, label = NIL, newest
    while label != NIL and heap[label + LABEL_TIME] > time:
        newer = label
        label = heap[label + OLDER]
    if label != NIL and heap[label + LABEL_TIME] == time:
        return newest, label
    added = rowlog.take(log, FREE_LABEL, LABEL_WORDS + LINKS_A_LABEL_AND_ENTITY * entity_count)
    heap[added + LABEL_TIME], heap[added + VERDICT] = time, UNKNOWN
    heap[added + OLDER], heap[added + LABELLED] = label, NIL
    if newer == NIL:
        return added, added
    heap[newer + OLDER] = added
    return newest, added


@compiled
def link_label(log: Any, entity: Any, slot: Any, label: Any, clock: Any) -> None:
    """Put a label into its key's list by its time. `clock` is the time that the key's state is as of: labels up to it
    are applied, later ones pending.
    """
    heap = log.heap
    time, column = heap[label + LABEL_TIME], LINKS_A_LABEL_AND_ENTITY * entity
    earlier, later = heap[slot + APPLIED], heap[slot + PENDING]
    if time <= clock:
        while earlier != NIL and heap[earlier + LABEL_TIME] > time:
            later = earlier
            earlier = heap[earlier + EARLIER + column]
        if later == heap[slot + PENDING]:
            heap[slot + APPLIED] = label
    else:
        while later != NIL and heap[later + LABEL_TIME] <= time:
            earlier = later
            later = heap[later + LATER + column]
        if earlier == heap[slot + APPLIED]:
            heap[slot + PENDING] = label
    heap[label + EARLIER + column] = earlier
    heap[label + LATER + column] = later
    if earlier != NIL:
        heap[earlier + LATER + column] = label
    if later != NIL:
        heap[later + EARLIER + column] = label


@compiled
def unlink_label(log: Any, entity: Any, slot: Any, label: Any) -> None:
    heap = log.heap
    column = LINKS_A_LABEL_AND_ENTITY * entity
    earlier, later = heap[label + EARLIER + column], heap[label + LATER + column]
    if earlier != NIL:
        heap[earlier + LATER + column] = later
    if later != NIL:
        heap[later + EARLIER + column] = earlier
    if heap[slot + APPLIED] == label:
        heap[slot + APPLIED] = earlier
    if heap[slot + PENDING] == label:
        heap[slot + PENDING] = later


@compiled
def keep_waiting(log: Any, id0: Any, id1: Any, time: Any, verdict: Any, entity_count: Any) -> None:
    """A label whose transaction is not kept waits for it."""
    at = rowlog.find(log, WAITING_TABLE, id0, id1)
    if at == table.EMPTY:
        waiting = rowlog.take(log, FREE_WAITING, WAITING_WORDS)
        log.heap[waiting + HISTORY] = NIL
        rowlog.enter(log, WAITING_TABLE, id0, id1, waiting)
    else:
        waiting = rowlog.named(log, WAITING_TABLE, at)
    newest, label = add_to_history(log, log.heap[waiting + HISTORY], time, entity_count)
    log.heap[label + VERDICT] = verdict
    log.heap[waiting + HISTORY] = newest


@compiled
def free_older(log: Any, newest: Any, floor: Any) -> Any:
    """A history without what is older than `floor`."""
    heap = log.heap
    kept, label = NIL, newest
    while label != NIL:
        older = heap[label + OLDER]
        if heap[label + LABEL_TIME] >= floor:
            kept = label
        else:
            rowlog.give_back(log, FREE_LABEL, label)
        label = older
    if kept == NIL:
        return NIL
    heap[kept + OLDER] = NIL
    return newest


@compiled
def end_waiting(log: Any, id0: Any, id1: Any, row: Any, floor: Any) -> None:
    """Give a row the history that waited for it, without what waited too long."""
    at = rowlog.find(log, WAITING_TABLE, id0, id1)
    if at == table.EMPTY:
        return
    waiting = rowlog.named(log, WAITING_TABLE, at)
    rowlog.strike(log, WAITING_TABLE, at)
    newest = free_older(log, log.heap[waiting + HISTORY], floor)
    rowlog.give_back(log, FREE_WAITING, waiting)
    log.links[rowlog.place(log, row), rowlog.LABEL] = newest
    label = newest
    while label != NIL:
        log.heap[label + LABELLED] = row
        label = log.heap[label + OLDER]


@entry
def forget_waiting(log: Any, floor: Any) -> None:
    """Free all labels that waited too long."""
    heap = log.heap
    at = 0
    while at <= heap[WAITING_TABLE + rowlog.MASK]:
        if heap[heap[WAITING_TABLE + rowlog.ENTRIES] + at] != table.EMPTY:
            waiting = rowlog.named(log, WAITING_TABLE, at)
            heap[waiting + HISTORY] = free_older(log, heap[waiting + HISTORY], floor)
            if heap[waiting + HISTORY] == NIL:
                rowlog.strike(log, WAITING_TABLE, at)
                rowlog.give_back(log, FREE_WAITING, waiting)
                continue  # another entry may have moved here
        at += 1
