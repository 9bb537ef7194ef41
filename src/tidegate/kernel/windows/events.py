"""The events that are remembered: what tells a duplicate, and where a label finds its transaction."""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.kernel.machine import table
from tidegate.kernel.machine.compiled import compiled, inlined
from tidegate.kernel.windows.layout import EVENT_SIZE
from tidegate.kernel.windows.rowlog import (
    EVENT_LABEL,
    EVENT_TABLE,
    EVENT_TIME,
    EVENT_WORDS,
    EVENTS,
    ID0,
    ID1,
    NIL,
    RING_AT,
    RING_FIRST,
    RING_MASK,
    add_to_ring,
    drop_first,
)


@inlined
def place_of(log: Any, layout: Any, event: Any) -> Any:
    """The word where an event lies."""
    return log.heap[EVENTS + RING_AT] + (event & log.heap[EVENTS + RING_MASK]) * layout[EVENT_SIZE]


@inlined
def newest_label(log: Any, layout: Any, event: Any) -> Any:
    return np.int64(log.links[2 * place_of(log, layout, event) + EVENT_LABEL])


@compiled
def _find(log: Any, layout: Any, id0: Any, id1: Any) -> Any:
    """The position of an id in the table, EMPTY if it is not there."""
    heap = log.heap
    h = table.hash_of(id0, id1)
    position = table.first_of(heap, EVENT_TABLE, h)
    while table.entry_at(heap, EVENT_TABLE, position) != table.EMPTY:
        entry = table.entry_at(heap, EVENT_TABLE, position)
        if table.hash_in(entry) == h:
            at = place_of(log, layout, table.name_in(entry))
            if heap[at + ID0] == id0 and heap[at + ID1] == id1:
                return position
        position = table.after(heap, EVENT_TABLE, position)
    return table.EMPTY


@compiled
def kept_event(log: Any, layout: Any, id0: Any, id1: Any, floor: Any) -> Any:
    """The event of an id, NIL if there is none that is remembered, that is, not older than `floor`."""
    position = _find(log, layout, id0, id1)
    if position != table.EMPTY:
        event = table.name_in(table.entry_at(log.heap, EVENT_TABLE, position))
        if log.heap[place_of(log, layout, event) + EVENT_TIME] >= floor:
            return event
    return NIL


@compiled
def new_event(log: Any, layout: Any, id0: Any, id1: Any, time: Any) -> Any:
    """An event at the ring's end, in no entity yet. An id that an older one has is from now on its own."""
    heap = log.heap
    event = add_to_ring(log, EVENTS)
    position = _find(log, layout, id0, id1)
    if position == table.EMPTY:
        table.insert(heap, EVENT_TABLE, table.hash_of(id0, id1), event)
    else:
        table.set_name(heap, EVENT_TABLE, position, event)
    at = place_of(log, layout, event)
    heap[at + ID0], heap[at + ID1], heap[at + EVENT_TIME] = id0, id1, time
    for word in range(at + EVENT_WORDS, at + layout[EVENT_SIZE]):
        heap[word] = NIL  # in both halves
    return event


@compiled
def drop_first_event(log: Any, layout: Any) -> None:
    """Forget the ring's first event."""
    heap = log.heap
    event = heap[EVENTS + RING_FIRST]
    at = place_of(log, layout, event)
    position = table.find_name(heap, EVENT_TABLE, table.hash_of(heap[at + ID0], heap[at + ID1]), event)
    if position != table.EMPTY:
        table.remove(heap, EVENT_TABLE, position)
    drop_first(log, EVENTS)
