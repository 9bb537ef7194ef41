"""Room for the row logs: their first heap, and more when something in it is full."""

from __future__ import annotations

import numpy as np

from tidegate.errors import StateError
from tidegate.kernel.machine import table
from tidegate.kernel.machine.table import TABLE_AT, TABLE_COUNT, TABLE_REGISTERS, TABLE_SIZE
from tidegate.kernel.plan import NEVER
from tidegate.kernel.windows import labels, rowlog
from tidegate.kernel.windows.layout import (
    ENTITIES,
    ENTITIES_END,
    ENTITY_WORDS,
    EVENT_SIZE,
    OCCURRENCE_WORDS,
    OCCURRENCES,
    OCCURRENCES_END,
    REGISTERS,
    ROW_SIZE,
    SLOT_SIZE,
    VALUE_TABLE,
)
from tidegate.kernel.windows.rowlog import (
    BUMP,
    BUMP_END,
    CHUNK,
    ENTITY_REGISTERS,
    ENTITY_REGISTERS_AT,
    EVENT_TABLE,
    EVENTS,
    FREE_SLOT,
    HEAP_END,
    NIL,
    RING_AT,
    RING_FIRST,
    RING_MASK,
    ROWS_RING,
    SLOT_TABLE,
    WAITING_TABLE,
    Log,
)

#: Counts up when a snapshot's arrays change their meaning.
STATE_VERSION = 4

#: What there may be too little of: room in the heap, or that of a ring or a table, which is said by its registers.
ENOUGH, MORE_HEAP = 0, 1

# Powers of two, small: a log that few rows enter stays small, and growing is soon done. What is small grows fourfold:
# for the few rows that it has room for, to grow is most of the work.
_FIRST_ROWS = 256
_FIRST_ENTRIES = 256
_SMALL = 1 << 14

# What is free elsewhere in the heap: its length, and the next such.
_CHUNK_LENGTH, _CHUNK_NEXT, _CHUNK_WORDS = 0, 1, 2

# The heap grows by an eighth, and by no less than this: small steps, as more of it is asked for than copied.
_HEAP_STEP_WORDS = 1 << 13
_HEAP_SHARE = 8

# What is in the heap begins with a line of the processor's caches, so that a row of 64 bytes is one line and not two.
# Large blocks begin 16 bytes after a page where glibc gives them out; elsewhere this is only slower.
_LINE_WORDS = 8
_FIRST_LINE = 6

# From this size on NumPy asks the system for pages of 2 MiB: in small ones each random place costs a walk through the
# tables of pages. A heap that grew in place would never get them, so it is copied once, when it becomes so large.
_LARGE_WORDS = 1 << 19


def rings(layout: np.ndarray) -> dict[int, int]:
    """The words of each in a ring, by the ring's registers."""
    return {EVENTS: int(layout[EVENT_SIZE])} | {
        int(layout[entity + REGISTERS]) + ROWS_RING: int(layout[entity + ROW_SIZE]) for entity in entities(layout)
    }


def tables(layout: np.ndarray) -> list[int]:
    """The registers of each table."""
    return [EVENT_TABLE, WAITING_TABLE] + [
        register for entity in entities(layout) for register in tables_of(layout, entity)
    ]


def entities(layout: np.ndarray) -> range:
    """Where the records of the entities are."""
    return range(int(layout[ENTITIES]), int(layout[ENTITIES_END]), ENTITY_WORDS)


def tables_of(layout: np.ndarray, entity: int) -> list[int]:
    """The registers of an entity's tables, that of its slots first."""
    occurrences = range(int(layout[entity + OCCURRENCES]), int(layout[entity + OCCURRENCES_END]), OCCURRENCE_WORDS)
    return [
        int(layout[entity + REGISTERS]) + SLOT_TABLE,
        *(int(layout[occurrence + VALUE_TABLE]) for occurrence in occurrences),
    ]


def log_of(heap: np.ndarray) -> Log:
    return Log(heap=heap, links=heap.view(np.int32))


def empty_log(layout: np.ndarray) -> Log:
    registers = ENTITY_REGISTERS_AT + sum(
        ENTITY_REGISTERS + TABLE_REGISTERS * (len(tables_of(layout, entity)) - 1) for entity in entities(layout)
    )
    registers = _FIRST_LINE + _whole_lines(registers - _FIRST_LINE)
    heap = np.zeros(registers, np.int64)
    heap[rowlog.CLOCK_REGISTER] = NEVER
    heap[[rowlog.FREE_LABEL, rowlog.FREE_WAITING, CHUNK]] = NIL
    heap[[HEAP_END, BUMP, BUMP_END]] = registers
    for entity in entities(layout):
        heap[layout[entity + REGISTERS] + FREE_SLOT] = NIL
    log = log_of(heap)
    for ring, words in rings(layout).items():
        log = _with_ring(log, ring, _FIRST_ROWS, words)
    for register in tables(layout):
        log = _with_table(log, register, _FIRST_ENTRIES)
    return log


def _chunks(heap: np.ndarray) -> list[tuple[int, int]]:
    """What is free elsewhere in the heap, from its start on: where, and how many words."""
    chunks: list[tuple[int, int]] = []
    at = int(heap[CHUNK])
    while at != NIL:
        chunks.append((at, int(heap[at + _CHUNK_LENGTH])))
        at = int(heap[at + _CHUNK_NEXT])
    return chunks


def _set_chunks(heap: np.ndarray, chunks: list[tuple[int, int]]) -> None:
    """Chain what is free: neighbours become one, and what is too small for the chain is left."""
    joined: list[tuple[int, int]] = []
    for at, words in sorted(chunks):
        if joined and sum(joined[-1]) == at:
            joined[-1] = (joined[-1][0], joined[-1][1] + words)
        else:
            joined.append((at, words))
    heap[CHUNK] = NIL
    for at, words in reversed(joined):
        if words >= _CHUNK_WORDS:
            heap[at + _CHUNK_LENGTH], heap[at + _CHUNK_NEXT] = words, heap[CHUNK]
            heap[CHUNK] = at


def _whole_lines(words: int) -> int:
    return -(-words // _LINE_WORDS) * _LINE_WORDS


def _with_room(log: Log, words: int) -> tuple[Log, int]:
    """A log with so many words for a new use, zeroed, and where they begin."""
    heap, words = log.heap, _whole_lines(words)
    chunks = _chunks(heap)
    for chunk in chunks:
        at, length = chunk
        if length >= words:
            chunks.remove(chunk)
            _set_chunks(heap, [*chunks, (at + words, length - words)])
            heap[at : at + words] = 0
            return log, at
    at = int(heap[HEAP_END])
    wanted = max(at + words, len(heap) + max(_HEAP_STEP_WORDS, len(heap) // _HEAP_SHARE))
    if at + words > len(heap) and len(heap) < _LARGE_WORDS <= wanted:
        larger = np.empty(wanted, np.int64)
        larger[: len(heap)], larger[len(heap) :] = heap, 0
        heap = larger
    elif at + words > len(heap):
        # In place: where the system moves memory by its pages (Linux), nothing is copied. No array but those of `log`,
        # which is done with, looks at the heap.
        heap.resize(wanted, refcheck=False)
    heap[HEAP_END] += words
    return log_of(heap), at


def _set_free(heap: np.ndarray, at: int, words: int) -> None:
    """A part of the heap is used no more."""
    line = _FIRST_LINE + _whole_lines(at - _FIRST_LINE)
    _set_chunks(heap, [*_chunks(heap), (line, max(at + words - line, 0))])


def _with_ring(log: Log, ring: int, count: int, words: int) -> Log:
    log, at = _with_room(log, count * words)
    log.heap[[ring + RING_AT, ring + RING_MASK]] = at, count - 1
    return log


def _with_table(log: Log, register: int, size: int) -> Log:
    log, at = _with_room(log, size)
    log.heap[at : at + size] = table.EMPTY
    log.heap[[register + TABLE_AT, register + TABLE_SIZE]] = at, size
    return log


def _larger(size: int) -> int:
    return 4 * size if size < _SMALL else 2 * size


def _with_more_of_ring(log: Log, ring: int, words: int) -> Log:
    """A ring of more room. Each in it keeps its name: only where it lies changes."""
    count, at, first = (int(log.heap[ring + register]) for register in (RING_MASK, RING_AT, RING_FIRST))
    count += 1
    more = min(_larger(count), rowlog.MAX_NAMES)
    if more == count:
        raise StateError(
            f"row log: {count} rows are kept and more than {rowlog.MAX_NAMES} cannot be; shorten the widest frame, the "
            "lateness or the dedupe span, or split the stream by key"
        )
    log = _with_ring(log, ring, more, words)
    heap, larger = log.heap, int(log.heap[ring + RING_AT])
    # The ring is full: from its first to its end, then from its start.
    before, after = first % count, first % more
    for start, end in ((before, count), (0, before)):
        heap[larger + after * words : larger + (after + end - start) * words] = heap[
            at + start * words : at + end * words
        ]
        after = (after + end - start) % more
    _set_free(heap, at, count * words)
    return log


def _with_more_of_table(log: Log, register: int) -> Log:
    at, size = int(log.heap[register + TABLE_AT]), int(log.heap[register + TABLE_SIZE])
    log = _with_table(log, register, _larger(size))
    heap, larger = log.heap, int(log.heap[register + TABLE_AT])
    table.copy(heap[at : at + size], heap[larger : larger + _larger(size)])
    _set_free(heap, at, size)
    return log


def _with_more_heap(log: Log, words: int) -> Log:
    """More room for slots and labels."""
    heap = log.heap
    step = _whole_lines(words + max(_HEAP_STEP_WORDS, len(heap) // (2 * _HEAP_SHARE)))
    if int(heap[HEAP_END]) + step > rowlog.MAX_NAMES:
        raise StateError(
            f"row log: keys and labels need more than the {rowlog.MAX_NAMES} words that can be named; shorten the "
            "frames or split the stream by key"
        )
    rest = int(heap[BUMP]), int(heap[BUMP_END] - heap[BUMP])
    log, at = _with_room(log, step)
    heap = log.heap
    if at == heap[BUMP_END]:
        heap[BUMP_END] = at + step
        return log
    heap[[BUMP, BUMP_END]] = at, at + step
    _set_free(heap, *rest)
    return log


def with_more(log: Log, layout: np.ndarray, short: int, floor: int) -> Log:
    """A log with more room of what was short. Labels that waited too long, before `floor`, are forgotten.

    Raises:
        StateError: the log holds as much as can be named.
    """
    if short == MORE_HEAP:
        labels.forget_waiting(log, floor)
        return _with_more_heap(log, sum(int(layout[entity + SLOT_SIZE]) for entity in entities(layout)))
    words = rings(layout).get(short)
    if words is not None:
        return _with_more_of_ring(log, short, words)
    if short == WAITING_TABLE:
        labels.forget_waiting(log, floor)
        if 4 * log.heap[short + TABLE_COUNT] < log.heap[short + TABLE_SIZE]:  # forgetting was enough
            return log
    return _with_more_of_table(log, short)
