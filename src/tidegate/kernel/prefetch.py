"""Memory is brought near before it is needed.

An arrival touches a few dozen lines of memory all over the log, and each name that it follows is known only when the
one before is read: arrival after arrival would wait for memory most of the time. Here some of them take each step
together, and none waits.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from tidegate.kernel import rowlog, table
from tidegate.kernel.compiled import compiled
from tidegate.kernel.layout import (
    EDGES,
    ENTITIES,
    ENTITIES_END,
    ENTITY_NUMBER,
    ENTITY_WORDS,
    LOWER,
    SLOT_WORDS,
    WINDOW_WORDS,
    WINDOWS,
    WINDOWS_END,
)
from tidegate.kernel.rowlog import ENTRIES, FIRST, LINKS_AN_ENTITY, LOW, LOW_TIME, MASK, NIL, SLOT, SLOT_TABLE, TAIL

#: How many arrivals take each step together: more would push each other out of the nearest cache.
AT_ONCE = 16

#: Words that come at once, on all processors of today.
_LINE_WORDS = 8


def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Emit LLVM's `prefetch` of where array[index] begins."""
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    byte_pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
    offset = builder.mul(arguments[1], builder.extract_value(array.strides, 0))
    address = builder.gep(builder.bitcast(array.data, byte_pointer), (offset,))
    function = builder.module.declare_intrinsic(
        "llvm.prefetch", (byte_pointer,), ir.FunctionType(ir.VoidType(), (byte_pointer, word, word, word))
    )
    # For reading; into all caches; data, not code.
    builder.call(function, (address, word(0), word(3), word(1)))
    return context.get_dummy_value()


def _prefetch(_typing: Any, array: Any, index: Any) -> Any:
    return types.void(array, index), _generate


#: prefetch(array, index) has the processor bring array[index], or the start of that row, near, and does not wait.
prefetch: Any = intrinsic(_prefetch)


@compiled
def bring_near(log: Any, layout: Any, arrivals: Any, start: Any, end: Any) -> None:
    """Bring near what the arrivals from `start` to `end`, and the rows that they may make go, will need."""
    first = log.heap[FIRST]
    last = first + min(end - start, log.heap[rowlog.ROWS])
    _tables(log, arrivals, start, end)
    _first_rows(log, first, last)
    _slots(log, layout, arrivals, start, end)
    _slots_of_rows(log, layout, first, last, len(arrivals.keys))
    _rows(log, layout, arrivals, start, end, False)
    _rows(log, layout, arrivals, start, end, True)


@compiled
def _hash_of(arrivals: Any, number: Any, i: Any) -> Any:
    return table.hash_of(arrivals.keys[number, i, 0] + number, arrivals.keys[number, i, 1])


@compiled
def _tables(log: Any, arrivals: Any, start: Any, end: Any) -> None:
    entries, mask = log.heap[SLOT_TABLE + ENTRIES], log.heap[SLOT_TABLE + MASK]
    for i in range(start, end):
        prefetch(log.row_table, table.hash_of(arrivals.ids[i, 0], arrivals.ids[i, 1]) & (len(log.row_table) - 1))
        for number in range(len(arrivals.keys)):
            prefetch(log.heap, entries + (_hash_of(arrivals, number, i) & mask))


@compiled
def _first_rows(log: Any, first: Any, last: Any) -> None:
    for row in range(first, last):
        prefetch(log.rows, rowlog.place(log, row))
        prefetch(log.links, rowlog.place(log, row))


@compiled
def _likely_slot(log: Any, arrivals: Any, number: Any, i: Any) -> Any:
    """The slot of a row's key by the hash alone, without a look at the slot; NIL if there is none."""
    entries, mask = log.heap[SLOT_TABLE + ENTRIES], log.heap[SLOT_TABLE + MASK]
    h = _hash_of(arrivals, number, i)
    at = h & mask
    while log.heap[entries + at] != table.EMPTY:
        if log.heap[entries + at] >> 32 == h:
            return table.name_in(log.heap[entries + at])
        at = (at + 1) & mask
    return NIL


@compiled
def _slot(log: Any, layout: Any, slot: Any) -> None:
    if slot != NIL:
        for word in range(slot, slot + layout[SLOT_WORDS], _LINE_WORDS):
            prefetch(log.heap, word)


@compiled
def _slots(log: Any, layout: Any, arrivals: Any, start: Any, end: Any) -> None:
    for i in range(start, end):
        for number in range(len(arrivals.keys)):
            _slot(log, layout, _likely_slot(log, arrivals, number, i))


@compiled
def _slots_of_rows(log: Any, layout: Any, first: Any, last: Any, entity_count: Any) -> None:
    for row in range(first, last):
        for number in range(entity_count):
            _slot(log, layout, rowlog.link(log, row, SLOT + LINKS_AN_ENTITY * number))


@compiled
def _rows(log: Any, layout: Any, arrivals: Any, start: Any, end: Any, following: Any) -> None:
    """The newest row of each key, which will be linked to, and the first to leave each frame; or those that follow."""
    for i in range(start, end):
        for entity in range(layout[ENTITIES], layout[ENTITIES_END], ENTITY_WORDS):
            slot = _likely_slot(log, arrivals, layout[entity + ENTITY_NUMBER], i)
            if slot == NIL:
                continue
            if log.heap[slot + TAIL] != NIL and not following:
                prefetch(log.links, rowlog.place(log, log.heap[slot + TAIL]))
            _leaving(log, layout, entity, slot, arrivals.times[i], following)


@compiled
def _leaving(log: Any, layout: Any, entity: Any, slot: Any, time: Any, following: Any) -> None:
    for window in range(layout[entity + WINDOWS], layout[entity + WINDOWS_END], WINDOW_WORDS):
        edges = slot + layout[window + EDGES]
        if log.heap[edges + LOW_TIME] < time - layout[window + LOWER]:
            row = log.heap[edges + LOW]
            if following:
                row = rowlog.following(log, layout[entity + ENTITY_NUMBER], row)
            if row != NIL:
                prefetch(log.rows, rowlog.place(log, row))
                prefetch(log.links, rowlog.place(log, row))
