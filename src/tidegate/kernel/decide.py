"""The kernel: a batch of events in, a batch of decisions out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.kernel.detector import Detector
from tidegate.streams.decision import Decision


@dataclass(frozen=True)
class Decisions:
    """One row a decision, in order of arrival; a duplicate event has none."""

    index: npt.NDArray[np.int64]
    """Row of the batch of events that each decision is about."""
    events: pa.RecordBatch
    features: pa.RecordBatch
    rules: pa.RecordBatch
    """A boolean column a rule."""
    late: npt.NDArray[np.bool_]
    score: npt.NDArray[np.int64]
    outcome: pa.Array

    def table(self) -> pa.Table:
        """event_id, event_time, every feature by name, rules (list<string>: those that fired), score, outcome, late."""
        raise NotImplementedError

    def records(self) -> list[Decision]:
        """With reasons in words and the hash."""
        raise NotImplementedError


class Kernel:
    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    def decide(
        self, events: pa.RecordBatch, labels: pa.RecordBatch | None = None, before: npt.NDArray[np.int64] | None = None
    ) -> Decisions:
        """`before[j]` is the index of the event before which label j arrived (the number of events: after all)."""
        raise NotImplementedError

    def snapshot(self) -> dict[str, npt.NDArray[np.generic]]:
        raise NotImplementedError

    def restore(self, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
        raise NotImplementedError
