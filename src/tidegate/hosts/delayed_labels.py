"""Labels of a file's own rows, which reach the stream when its time has come to them."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidegate.streams.schema import load_schema

#: A label on its way: `due_us` is when it becomes known, `after` how many events had come when its own had.
_PENDING = pa.schema(
    [("transaction_id", pa.string()), ("is_fraud", pa.bool_()), ("due_us", pa.int64()), ("after", pa.int64())]
)


class Due(NamedTuple):
    """Events of another stream, in the order of their times, and before which event of the first each arrives."""

    events: pa.RecordBatch
    before: npt.NDArray[np.int64]
    """int64[m]: its index; the number of events: after all."""


class DelayedLabels:
    """A label becomes known a fixed time after its event, by the clock of the stream: the highest event time so far.

    It goes before the first event, in order of arrival, at which that clock has reached its time, and never before its
    own event. Where a label goes does not depend on how events are cut into batches.
    """

    def __init__(self, known_after_us: int) -> None:
        self.clock_us = np.iinfo(np.int64).min
        self._known_after_us = known_after_us
        self._events = 0
        #: One table a batch of events, each in order of due time.
        self._pending: deque[pa.Table] = deque()

    def arrive(self, events: pa.RecordBatch, is_fraud: pa.Array[Any]) -> Due:
        """Take in the labels of these events (NULL: none), of which there is at least one, and give the labels that
        arrive among them.
        """
        time_us = _int64(events.column("event_time").cast(pa.int64()))
        clock_us = np.maximum.accumulate(np.maximum(time_us, self.clock_us))
        self.clock_us = int(clock_us[-1])
        due_us = time_us + self._known_after_us
        after = self._events + np.arange(1, events.num_rows + 1)
        columns = [events.column("event_id"), is_fraud, pa.array(due_us), pa.array(after)]
        known = pa.Table.from_arrays(columns, schema=_PENDING).filter(pc.is_valid(is_fraud))
        self._pending.append(known.take(np.argsort(_int64(known["due_us"]), kind="stable")))

        arrived = self._due()
        arrived_us = _int64(arrived["due_us"])
        before = np.searchsorted(clock_us, arrived_us, side="left")
        before = np.maximum(before, _int64(arrived["after"]) - self._events)
        order = np.lexsort((arrived_us, before))
        self._events += events.num_rows
        return Due(_labels(arrived.take(order)), before[order])

    def _due(self) -> pa.Table:
        """Take out what the clock has reached."""
        due: list[pa.Table] = []
        for _ in range(len(self._pending)):
            pending = self._pending.popleft()
            count = int(np.searchsorted(_int64(pending["due_us"]), self.clock_us, side="right"))
            due.append(pending.slice(0, count))
            if count < pending.num_rows:
                self._pending.append(pending.slice(count))
        return pa.concat_tables(due)

    def snapshot(self) -> pa.Table:
        """Labels that have not arrived yet. The clock is not in it."""
        return pa.concat_tables([_PENDING.empty_table(), *self._pending])

    def restore(self, pending: pa.Table, clock_us: int, events: int) -> None:
        """Go on from a snapshot, taken when the clock stood at `clock_us`, after so many events."""
        self.clock_us, self._events = clock_us, events
        self._pending = deque([pending.take(np.argsort(_int64(pending["due_us"]), kind="stable"))])


def _labels(arrived: pa.Table) -> pa.RecordBatch:
    columns: dict[str, Any] = {
        "event_id": arrived["transaction_id"],
        "event_time": arrived["due_us"].cast(pa.timestamp("us")),
        "transaction_id": arrived["transaction_id"],
        "is_fraud": arrived["is_fraud"],
        "source": pa.repeat("chargeback", arrived.num_rows),
        "reason": pa.nulls(arrived.num_rows, pa.string()),
    }
    schema = load_schema("labels").arrow
    batches = pa.table([columns[name] for name in schema.names], schema=schema).combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema)


def _int64(values: Any) -> npt.NDArray[np.int64]:
    """An Arrow column without NULLs, as numpy."""
    return values.to_numpy()
