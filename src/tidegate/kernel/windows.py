"""Exact sliding windows by event time.

A row is kept while its time is not older than the newest row's by more than the plan's horizon: the widest frame and
the lateness, or the dedupe span if that is longer. What a row is answered depends on the arrivals before it and on
nothing else:

    it sees the rows that came before it, itself, and of the others those that are kept as of the newest row so far
    a row counts with the label that has the newest time not after the seeing row's (of equal times, the last to come)
    a row whose id is that of a row that is kept is a duplicate: it changes nothing
    a row that would not be kept is answered from itself alone, and changes nothing
    a label whose transaction is not kept waits for it, as long as a row of the label's time would be kept
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tidegate.errors import StateError
from tidegate.kernel import rowlog
from tidegate.kernel.layout import HORIZON, lay_out
from tidegate.kernel.loop import ROW, Columns, run
from tidegate.kernel.plan import WindowPlan
from tidegate.kernel.rowlog import FRAUD, GENUINE, Log
from tidegate.kernel.storage import ENOUGH, STATE_VERSION, empty_log, with_more

__all__ = ["FRAUD", "GENUINE", "ROW", "Answers", "Arrivals", "Windows"]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """n rows and labels in the order in which they arrived; e entities and l lanes of the plan."""

    times: np.ndarray
    """int64[n], microseconds since 1970."""
    ids: np.ndarray
    """uint64[n, 2]: the hash of the row's own event id, or of the id of the transaction that a label labels."""
    kinds: np.ndarray
    """int8[n]: ROW, GENUINE or FRAUD."""
    keys: np.ndarray
    """uint64[e, n, 2]: the hash of the row's key by entity. Of a label, anything."""
    lanes: np.ndarray
    """int64[l, n]. Of a label, anything."""
    valid: np.ndarray
    """uint64[n]: bit i says that lane i is valid."""


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


def _columns(arrivals: Arrivals) -> Columns:
    def words(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array).view(np.int64)

    return Columns(
        times=words(arrivals.times),
        ids=words(arrivals.ids),
        kinds=np.ascontiguousarray(arrivals.kinds, np.int8),
        keys=words(arrivals.keys),
        lanes=words(arrivals.lanes),
        valid=words(arrivals.valid),
    )


class Windows:
    """The windows of one plan, and all rows that they need. One thread at a time."""

    def __init__(self, plan: WindowPlan) -> None:
        """
        Raises:
            UsageError: the plan asks for what cannot be answered.
        """
        self._plan = plan
        self._layout = lay_out(plan)
        self._log = empty_log(plan)

    def apply(self, arrivals: Arrivals) -> Answers:
        """Take rows and labels in, and answer the rows. The same arrivals, cut into calls in whatever way, give the
        same answers.

        Raises:
            StateError: more rows would be kept than a log can hold. Arrivals before the one that was too many are in.
        """
        columns = _columns(arrivals)
        count = len(columns.times)
        shape = (count, len(self._plan.aggregates))
        # A row's answers lie side by side while they are written.
        answers = Answers(
            values=np.zeros(shape, np.int64),
            valid=np.zeros(shape, np.bool_),
            duplicate=np.zeros(count, np.bool_),
            late=np.zeros(count, np.bool_),
        )
        # No arrivals at all are run too: that is how a host has the loop compiled before the first event comes.
        done, short = run(self._log, self._layout, columns, 0, answers)
        while short != ENOUGH:
            floor = int(self._log.heap[rowlog.NEWEST] - self._layout[HORIZON])
            self._log = with_more(self._log, short, floor)
            done, short = run(self._log, self._layout, columns, done, answers)
        return answers._replace(
            values=np.ascontiguousarray(answers.values.T), valid=np.ascontiguousarray(answers.valid.T)
        )

    def snapshot(self) -> dict[str, np.ndarray]:
        """All state, as a copy: arrays by name."""
        return {name: array.copy() for name, array in self._log._asdict().items()} | {"plan": self._fingerprint()}

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
        missing = [name for name in Log._fields if name not in arrays]
        if missing:
            raise StateError(f"window engine: the snapshot lacks {', '.join(missing)}; restore an older snapshot")
        self._log = Log(*(np.array(arrays[name]) for name in Log._fields))

    def sizes(self) -> dict[str, int]:
        """Bytes by part of the state."""
        return {name: array.nbytes for name, array in self._log._asdict().items()}

    def _fingerprint(self) -> np.ndarray:
        """uint8[32]: of the plan and of how its state is laid out."""
        return np.frombuffer(hashlib.sha256(f"{STATE_VERSION} {self._plan!r}".encode()).digest(), np.uint8)
