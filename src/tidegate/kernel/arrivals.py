"""What arrives: the events of several streams, a batch of each, in one order of arrival."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

#: The stream of what becomes known of transactions.
LABELS = "labels"


@dataclass(frozen=True, slots=True)
class Arrived:
    """What arrived of one stream."""

    at: npt.NDArray[np.int64]
    """int64[n], ascending: each event's place in the one order of all streams. No two events share one; places may be
    left out."""
    events: pa.RecordBatch
    """With the columns of the stream's Arrow schema."""

    @classmethod
    def alone(cls, events: pa.RecordBatch) -> Arrived:
        """Events among which nothing of another stream arrived."""
        return cls(np.arange(events.num_rows), events)
