"""Room for the row log: its first arrays, and more when they are full."""

from __future__ import annotations

import numpy as np

from tidegate.errors import StateError
from tidegate.kernel import labels, layout, rowlog, table
from tidegate.kernel.plan import WindowPlan
from tidegate.kernel.rowlog import ENTRIES, MASK, NIL, Log

#: Counts up when the arrays of a snapshot change their meaning.
STATE_VERSION = 2

#: What there may be too little of.
ENOUGH, MORE_ROWS, MORE_SLOTS, MORE_WAITING, MORE_VALUES, MORE_HEAP = 0, 1, 2, 3, 4, 5

_TABLES = {
    MORE_SLOTS: rowlog.SLOT_TABLE,
    MORE_WAITING: rowlog.WAITING_TABLE,
    MORE_VALUES: rowlog.VALUE_TABLE,
}

# Powers of two, small: a log that few rows enter stays small, and doubling is soon done.
_FIRST_ROWS = 1024
_FIRST_ENTRIES = 1024


def empty_log(plan: WindowPlan) -> Log:
    heap = np.zeros(8 * _FIRST_ENTRIES, np.int64)
    heap[rowlog.NEWEST] = rowlog.NEVER
    heap[rowlog.FREE_SLOT : rowlog.FREE_VALUE + 1] = NIL
    heap[rowlog.HEAP_END] = rowlog.REGISTERS
    for register in _TABLES.values():
        _put_table(heap, register, np.full(_FIRST_ENTRIES, table.EMPTY, np.int64))
    return Log(
        rows=np.zeros((_FIRST_ROWS, rowlog.LANES + plan.lane_count), np.int64),
        links=np.zeros((_FIRST_ROWS, layout.link_count(plan)), np.int32),
        row_table=np.full(2 * _FIRST_ROWS, table.EMPTY, np.int64),
        heap=heap,
    )


def _put_table(heap: np.ndarray, register: int, entries: np.ndarray) -> None:
    """Lay a table at the heap's end."""
    first = int(heap[rowlog.HEAP_END])
    heap[first : first + len(entries)] = entries
    heap[register + ENTRIES], heap[register + MASK] = first, len(entries) - 1
    heap[rowlog.HEAP_END] += len(entries)


def _larger_table(entries: np.ndarray) -> np.ndarray:
    larger = np.full(2 * len(entries), table.EMPTY, np.int64)
    table.copy(entries, larger)
    return larger


def _with_more_rows(log: Log) -> Log:
    """A row keeps its name: only where it lies in the ring changes."""
    count = len(log.rows)
    if 2 * count > rowlog.MAX_NAMES:
        raise StateError(
            f"row log: {count} rows are kept and more than {rowlog.MAX_NAMES} cannot be; shorten the widest frame, the "
            "lateness or the dedupe span, or split the stream by key"
        )
    # Untouched zeros take no memory, so that doubling costs only what is used.
    rows = np.zeros((2 * count, log.rows.shape[1]), np.int64)
    links = np.zeros((2 * count, log.links.shape[1]), np.int32)
    first = int(log.heap[rowlog.FIRST])
    before, after = first % count, first % (2 * count)
    # The ring is full: from its first row to the array's end, then from the array's start.
    for start, end in ((before, count), (0, before)):
        rows[after : after + end - start] = log.rows[start:end]
        links[after : after + end - start] = log.links[start:end]
        after = (after + end - start) % (2 * count)
    return log._replace(rows=rows, links=links, row_table=_larger_table(log.row_table))


def _with_more_heap(log: Log, words: int) -> Log:
    if words > rowlog.MAX_NAMES:
        raise StateError(
            f"row log: keys, labels and distinct values need {words} words and more than {rowlog.MAX_NAMES} cannot be "
            "named; shorten the frames or split the stream by key"
        )
    heap = np.zeros(words, np.int64)
    heap[: len(log.heap)] = log.heap
    return log._replace(heap=heap)


def with_more(log: Log, short: int, floor: int) -> Log:
    """A log with about twice the room of what was short. Labels that waited too long, before `floor`, are forgotten.

    Raises:
        StateError: the log holds as much as can be named.
    """
    if short == MORE_ROWS:
        return _with_more_rows(log)
    labels.forget_waiting(log, floor)
    if short == MORE_HEAP:
        return _with_more_heap(log, 2 * len(log.heap))
    register = _TABLES[short]
    first, count = int(log.heap[register + ENTRIES]), int(log.heap[register + MASK]) + 1
    if short == MORE_WAITING and 4 * log.heap[register + rowlog.COUNT] < count:  # forgetting was enough
        return log
    entries = _larger_table(log.heap[first : first + count])
    while log.heap[rowlog.HEAP_END] + len(entries) > len(log.heap):
        log = _with_more_heap(log, 2 * len(log.heap))
    _put_table(log.heap, register, entries)
    return log
