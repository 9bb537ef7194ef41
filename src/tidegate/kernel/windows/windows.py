"""Exact sliding windows by event time.

The clock is the newest event's time, but for events that are too far ahead of it: these move it only if many come in a
row. A row is kept for an entity while its time is not older than the clock by more than the entity's horizon: its
widest frame and the lateness. An event id is remembered for the dedupe span; if windows read labels, as long as their
rows. What a row is answered depends on the arrivals before it and on nothing else:

    it sees the rows that came before it, itself, and of the others those that are kept
    a row counts with the label that has the newest time not after the seeing row's (of equal times, the last to come)
    a row whose id is remembered is a duplicate: it changes nothing
    a row that would not be kept for an entity is answered there from itself alone, and not seen by others
    a label whose transaction is not remembered waits for it, as long as an event of the label's time would be
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidegate.errors import StateError
from tidegate.kernel.machine.hashing import fingerprint
from tidegate.kernel.machine.table import TABLE_COUNT, TABLE_SIZE
from tidegate.kernel.plan import Size, WindowPlan
from tidegate.kernel.windows import rowlog
from tidegate.kernel.windows.check import check_plan
from tidegate.kernel.windows.columns import Answered, Columns
from tidegate.kernel.windows.layout import (
    EVENT_HORIZON,
    REGISTERS,
    ROW_SIZE,
    SLOT_SIZE,
    VALUES,
    VALUES_END,
    lanes_by_entity,
    lay_out,
)
from tidegate.kernel.windows.loop import ROW, run
from tidegate.kernel.windows.near import MOST_LEAVING
from tidegate.kernel.windows.rowlog import FRAUD, GENUINE
from tidegate.kernel.windows.storage import (
    ENOUGH,
    STATE_VERSION,
    empty_log,
    entities,
    log_of,
    tables_of,
    with_more,
)

__all__ = ["FRAUD", "GENUINE", "ROW", "Answers", "Arrivals", "Windows"]

_WORD_BYTES = 8


@dataclass(frozen=True, slots=True)
class Arrivals:
    """n rows and labels in the order in which they arrived; e entities, v values and l lanes of the plan."""

    times: np.ndarray
    """int64[n], microseconds since 1970."""
    ids: np.ndarray
    """uint64[n, 2]: the hash of the row's own event id, or of the id of the transaction that a label labels."""
    kinds: np.ndarray
    """int8[n]: ROW, GENUINE or FRAUD."""
    keys: np.ndarray
    """uint64[e, n, 2]: the hash of the row's key by entity. Of a label, anything."""
    values: np.ndarray
    """int64[v, n]. Of a label, anything."""
    valid: np.ndarray
    """bool[l, n]: whether the lane is valid. Of a label, anything."""


class Answers(NamedTuple):
    """One answer to each arrival, a aggregates. A label's and a duplicate's values mean nothing."""

    values: np.ndarray
    """int64[a, n]. A sum beyond int64 is answered as the nearest that int64 holds."""
    valid: np.ndarray
    """bool[a, n]: SUM, MIN and MAX over no valid row are NULL, counts never are."""
    duplicate: np.ndarray
    """bool[n]: the id is that of a row that is kept; it was neither placed nor answered."""
    late: np.ndarray
    """bool[n]: older than the newest row by more than the plan's lateness."""

    def take(self, which: np.ndarray) -> Answers:
        """Those of some arrivals."""
        return Answers(self.values[:, which], self.valid[:, which], self.duplicate[which], self.late[which])


class Windows:
    """The windows of one plan, and all rows that they need. One thread at a time."""

    def __init__(self, plan: WindowPlan) -> None:
        """
        Raises:
            UsageError: the plan asks for what cannot be answered.
        """
        check_plan(plan)
        self._plan = plan
        self._layout = lay_out(plan)
        self._lanes = lanes_by_entity(plan)
        self._log = empty_log(self._layout)
        self._leaving = np.zeros(2 * MOST_LEAVING, np.int64)

    def apply(self, arrivals: Arrivals) -> Answers:
        """Take rows and labels in, and answer the rows. The same arrivals, cut into calls in whatever way, give the
        same answers.

        Raises:
            StateError: more rows would be kept than a log can hold. Arrivals before the one that was too many are in.
        """
        columns = self._columns(arrivals)
        count = columns.count
        shape = (len(self._plan.aggregates), count)
        answers = Answers(
            values=np.zeros(shape, np.int64),
            valid=np.zeros(shape, np.bool_),
            duplicate=np.zeros(count, np.bool_),
            late=np.zeros(count, np.bool_),
        )
        answered = Answered(count, *answers)
        # No arrivals at all are run too: that is how a host has the loop compiled before the first event comes.
        done, short = run(self._log, self._layout, columns, 0, answered)
        while short != ENOUGH:
            floor = int(self._log.heap[rowlog.CLOCK_REGISTER] - self._layout[EVENT_HORIZON])
            self._log = with_more(self._log, self._layout, short, floor)
            done, short = run(self._log, self._layout, columns, done, answered)
        return answers

    def _columns(self, arrivals: Arrivals) -> Columns:
        def words(array: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(array).view(np.int64)

        valid = np.zeros((len(self._lanes), len(arrivals.times)), np.int64)
        for entity, lanes in enumerate(self._lanes):
            for bit, lane in enumerate(lanes):
                valid[entity] |= arrivals.valid[lane].astype(np.int64) << bit
        count = len(arrivals.times)
        return Columns(
            count=count,
            times=words(arrivals.times),
            ids=words(arrivals.ids),
            kinds=np.ascontiguousarray(arrivals.kinds, np.int8),
            keys=words(arrivals.keys),
            values=words(arrivals.values),
            valid=valid,
            clocks=np.zeros(count, np.int64),
            events=np.zeros(count, np.int64),
            slots=np.zeros(count, np.int64),
            leaving=self._leaving,
        )

    def state(self) -> dict[str, np.ndarray]:
        """All state: arrays by name, to be copied or done with before more is taken in."""
        heap = self._log.heap
        return {"heap": heap[: heap[rowlog.HEAP_END]], "plan": self._fingerprint()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from a snapshot, which is copied.

        Raises:
            StateError: the snapshot is not one of windows of this plan.
        """
        if "plan" not in arrays or not np.array_equal(arrays["plan"], self._fingerprint()):
            raise StateError(
                "window engine: the snapshot was taken under another plan than the one it is to be restored to; fill "
                "the windows from the log or the lake instead"
            )
        if "heap" not in arrays:
            raise StateError("window engine: the snapshot lacks the heap; restore an older snapshot")
        self._log = log_of(np.array(arrays["heap"], np.int64))

    def kept_values(self, numbers: Collection[int]) -> npt.NDArray[np.int64]:
        """int64[k], each once: what the rows that are kept have of these values, by their number in the plan."""
        heap, layout = self._log.heap, self._layout
        found = [np.zeros(0, np.int64)]
        for at in entities(layout):
            ring, size = layout[at + REGISTERS] + rowlog.ROWS_RING, layout[at + ROW_SIZE]
            start, mask, first, count = heap[ring : ring + rowlog.RING_REGISTERS]
            rows = heap[start : start + (mask + 1) * size].reshape(-1, size)[(first + np.arange(count)) & mask]
            for word, number in enumerate(layout[layout[at + VALUES] : layout[at + VALUES_END]]):
                if number in numbers:
                    found.append(rows[:, rowlog.ROW_WORDS + word])
        return np.unique(np.concatenate(found))

    def sizes(self) -> dict[str, Size]:
        """What each kind of entity takes, by its columns."""
        heap, layout = self._log.heap, self._layout
        sizes: dict[str, Size] = {}
        for entity, at in zip(self._plan.entities, entities(layout), strict=True):
            tables = tables_of(layout, at)
            ring = layout[at + REGISTERS] + rowlog.ROWS_RING
            keys = int(heap[tables[0] + TABLE_COUNT])
            words = (heap[ring + rowlog.RING_MASK] + 1) * layout[at + ROW_SIZE] + keys * layout[at + SLOT_SIZE]
            words += sum(heap[table + TABLE_SIZE] for table in tables)
            rows = int(heap[ring + rowlog.RING_COUNT])
            sizes[", ".join(entity.columns)] = Size(rows, keys, _WORD_BYTES * int(words))
        return sizes

    def _fingerprint(self) -> np.ndarray:
        """uint8[32]: of the plan and of how its state is laid out."""
        return fingerprint(STATE_VERSION, self._plan)
