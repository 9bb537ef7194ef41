"""Room for the row log: its first arrays, and more of them when they are full."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from tidegate.errors import StateError
from tidegate.kernel import rowlog, table
from tidegate.kernel.layout import Layout
from tidegate.kernel.rowlog import NIL, Log

#: Counts up when the arrays of a snapshot change their meaning.
LAYOUT_VERSION = 1

#: What a full array group is called.
ENOUGH, MORE_ROWS, MORE_SLOTS, MORE_LABELS, MORE_WAITING, MORE_BAG = 0, 1, 2, 3, 4, 5

#: Links between rows are 32 bits wide.
MAX_ROWS = 2**31

# Powers of two, small: a log that few rows enter stays small, and doubling is soon done.
_FIRST_ROWS = 1024
_FIRST_OTHERS = 256


def _stack(first: int, end: int) -> np.ndarray:
    """Free numbers, the lowest on top."""
    return np.arange(end - 1, first - 1, -1, dtype=np.int32)


def empty_log(layout: Layout, lane_count: int) -> Log:
    entity_count = len(layout.windows_of_entity) - 1
    record_count = _FIRST_OTHERS
    while record_count < 2 * entity_count:
        record_count *= 2
    last_column = np.max(layout.column, initial=rowlog.ACCUMULATORS)
    last_cursor = max(np.max(layout.edges, initial=rowlog.EDGES), np.max(layout.ends, initial=0))
    registers = np.zeros(rowlog.REGISTERS, np.int64)
    registers[rowlog.NEWEST] = rowlog.NEVER
    registers[rowlog.FREE_SLOTS :] = record_count
    return Log(
        registers=registers,
        rows=np.zeros((_FIRST_ROWS, rowlog.LANES + lane_count), np.int64),
        links=np.full((_FIRST_ROWS, 1 + rowlog.LINKS_AN_ENTITY * entity_count + 2 * len(layout.chain)), NIL, np.int32),
        row_table=np.full(2 * _FIRST_ROWS, table.EMPTY, np.int64),
        slots=np.zeros((record_count, last_column + 2), np.int64),
        cursors=np.full((record_count, last_cursor + 2), NIL, np.int32),
        slot_table=np.full(2 * record_count, table.EMPTY, np.int64),
        free_slots=_stack(0, record_count),
        labels=np.zeros((record_count, 2), np.int64),
        label_links=np.full((record_count, 2 + rowlog.LINKS_A_LABEL_AND_ENTITY * entity_count), NIL, np.int32),
        free_labels=_stack(0, record_count),
        waiting=np.zeros((record_count, 3), np.int64),
        waiting_table=np.full(2 * record_count, table.EMPTY, np.int64),
        free_waiting=_stack(0, record_count),
        bag=np.zeros((record_count, 3), np.int64),
        bag_table=np.full(2 * record_count, table.EMPTY, np.int64),
        free_bag=_stack(0, record_count),
    )


def _doubled(array: np.ndarray, fill: int) -> np.ndarray:
    return np.concatenate([array, np.full_like(array, fill)])


def _doubled_table(entries: np.ndarray) -> np.ndarray:
    larger = np.full(2 * len(entries), table.EMPTY, np.int64)
    table.enlarge(entries, larger)
    return larger


def _doubled_stack(log: Log, stack: np.ndarray, register: int) -> np.ndarray:
    """The new numbers go under the ones that are still free."""
    count, free = len(stack), int(log.registers[register])
    log.registers[register] += count
    return np.concatenate([_stack(count, 2 * count), stack[:free], np.zeros(count - free, np.int32)])


def _with_more_rows(log: Log) -> Log:
    """The rows at the ring's start that came after those at its end move behind them: all that names them is changed.

    Raises:
        StateError: the log holds as many rows as can be told apart.
    """
    count, first = len(log.rows), int(log.registers[rowlog.FIRST])
    if 2 * count > MAX_ROWS:
        raise StateError(
            f"row log: {count} rows are kept and more than {MAX_ROWS} cannot be; shorten the widest frame, the lateness "
            "or the dedupe span, or split the stream by key"
        )

    def moved(names: np.ndarray) -> np.ndarray:
        return names + np.where((names >= 0) & (names < first), count, 0).astype(names.dtype)

    rows, links = _doubled(log.rows, 0), _doubled(log.links, NIL)
    rows[count : count + first], links[count : count + first] = rows[:first], links[:first]
    labels_column, slot_columns = 0, _slot_columns(log)
    kept = [labels_column, *slot_columns]
    untouched = links[:, kept].copy()
    links = moved(links)
    links[:, kept] = untouched
    cursors = moved(log.cursors)
    cursors[:, [rowlog.APPLIED, rowlog.PENDING]] = log.cursors[:, [rowlog.APPLIED, rowlog.PENDING]]
    label_links = log.label_links.copy()
    label_links[:, rowlog.LABELLED] = moved(label_links[:, rowlog.LABELLED])
    renamed = log.row_table + np.where((log.row_table != table.EMPTY) & (log.row_table & 0xFFFFFFFF < first), count, 0)
    return log._replace(
        rows=rows, links=links, row_table=_doubled_table(renamed), cursors=cursors, label_links=label_links
    )


def _slot_columns(log: Log) -> list[int]:
    entity_count = (log.label_links.shape[1] - 2) // rowlog.LINKS_A_LABEL_AND_ENTITY
    return [rowlog.SLOT + rowlog.LINKS_AN_ENTITY * entity for entity in range(entity_count)]


def with_more(log: Log, group: int, floor: int) -> Log:
    """A log with twice the room in a group. Labels that waited too long, before `floor`, are forgotten first, and if
    that makes room enough it stays as it is.

    Raises:
        StateError: the log holds as many rows as can be told apart.
    """
    if group == MORE_ROWS:
        return _with_more_rows(log)
    if group == MORE_SLOTS:
        return log._replace(
            slots=_doubled(log.slots, 0),
            cursors=_doubled(log.cursors, NIL),
            slot_table=_doubled_table(log.slot_table),
            free_slots=_doubled_stack(log, log.free_slots, rowlog.FREE_SLOTS),
        )
    if group == MORE_BAG:
        return log._replace(
            bag=_doubled(log.bag, 0),
            bag_table=_doubled_table(log.bag_table),
            free_bag=_doubled_stack(log, log.free_bag, rowlog.FREE_BAG),
        )
    rowlog.forget_waiting(log, floor)
    if group == MORE_LABELS:
        if 2 * log.registers[rowlog.FREE_LABELS] >= len(log.labels):
            return log
        return log._replace(
            labels=_doubled(log.labels, 0),
            label_links=_doubled(log.label_links, NIL),
            free_labels=_doubled_stack(log, log.free_labels, rowlog.FREE_LABELS),
        )
    if 2 * log.registers[rowlog.FREE_WAITING] >= len(log.waiting):
        return log
    return log._replace(
        waiting=_doubled(log.waiting, 0),
        waiting_table=_doubled_table(log.waiting_table),
        free_waiting=_doubled_stack(log, log.free_waiting, rowlog.FREE_WAITING),
    )


def arrays_of(log: Log) -> dict[str, np.ndarray]:
    return cast("dict[str, np.ndarray]", log._asdict())
