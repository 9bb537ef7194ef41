"""Snapshots of the engine's state: named arrays, and how far the log was read when they were taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from tidegate.ports.log import Positions

#: How many snapshots of a name are kept: the newest, and the one before should the newest be damaged.
SNAPSHOTS_KEPT = 2

Arrays = Mapping[str, npt.NDArray[Any]]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    arrays: dict[str, npt.NDArray[np.generic]]
    positions: Positions
    meta: dict[str, str]


class Snapshots(Protocol):
    def save(self, name: str, arrays: Arrays, positions: Positions, meta: Mapping[str, str]) -> None:
        """Keep a snapshot, durable when it returns: all of it is there, or it is as if it had never been taken. Those
        of the name before the last SNAPSHOTS_KEPT go. Arrays may be of any shape and any dtype but objects.

        Raises:
            UsageError: the name holds other characters than letters, digits, `_` and `-`, or an array holds
                Python objects.
        """
        ...

    def newest(self, name: str) -> Snapshot | None:
        """The newest snapshot that is sound; a damaged one is passed over. None if there is none."""
        ...
