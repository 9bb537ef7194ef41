"""Snapshots of the engine's state: named arrays, and how far the log was read when they were taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from tidegate.ports.log import Positions

Arrays = Mapping[str, npt.NDArray[Any]]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    arrays: dict[str, npt.NDArray[np.generic]]
    positions: Positions
    meta: dict[str, str]


class Snapshots(Protocol):
    """Snapshots by name. Of each are kept the newest and at least one that is sound if any part of it is damaged."""

    def save(self, name: str, arrays: Arrays, positions: Positions, meta: Mapping[str, str]) -> None:
        """Keep a snapshot, durable when it returns: all of it is there, or it is as if it had never been taken. Only
        what has changed since the one before need be written. Arrays may be of any shape and any dtype but objects.

        Raises:
            UsageError: the name holds other characters than letters, digits, `_` and `-`, or an array holds
                Python objects.
            OverloadError: there is no room.
        """
        ...

    def newest(self, name: str) -> Snapshot | None:
        """The newest snapshot that is sound; a damaged one is told of and passed over. None if there is none. Its
        arrays may be written to, which changes nothing that is kept; they need not be in memory.
        """
        ...

    def fallback(self, name: str) -> Positions:
        """The positions of the oldest that `newest` may come back with: what the log has from there on must stay. Empty
        as long as a damaged one might leave none.
        """
        ...
