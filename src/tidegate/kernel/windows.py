"""Exact sliding windows by event time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tidegate.kernel.plan import WindowPlan

#: What arrives: a row, or a label for one.
ROW, GENUINE, FRAUD = 0, 1, 2


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


@dataclass(frozen=True, slots=True)
class Answers:
    """One answer to each arrival, a aggregates. A label's and a duplicate's values mean nothing."""

    values: np.ndarray
    """int64[a, n]"""
    valid: np.ndarray
    """bool[a, n]: SUM, MIN and MAX over no valid row are NULL, counts never are."""
    duplicate: np.ndarray
    """bool[n]: the id is that of a row that is kept; it was neither placed nor answered."""
    late: np.ndarray
    """bool[n]: older than the newest row by more than the plan's lateness."""


class Windows:
    def __init__(self, plan: WindowPlan) -> None:
        raise NotImplementedError

    def apply(self, arrivals: Arrivals) -> Answers:
        raise NotImplementedError

    def snapshot(self) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        raise NotImplementedError

    def sizes(self) -> dict[str, int]:
        raise NotImplementedError
