"""States of a settled pass that are kept, so that it can go on after a restart and go back for what comes late.

The newest is kept under a name of its own. Beside it, for some spans of event time, two that are a span apart: once the
newer is a span old, the next takes the older's place. So there is always one that is at least a span old, and two at
most: to go back for an event costs some times what has passed since its time, and not all that was ever read.

A state serves to go back to if all that came late after it belongs behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from tidegate.errors import StateError
from tidegate.hosts.settled import SettledPass, State
from tidegate.hosts.time_order import Item
from tidegate.kernel.decide import Kernel
from tidegate.kernel.plan import NEVER
from tidegate.ports.log import Positions
from tidegate.ports.snapshots import Snapshot, Snapshots

_MINUTE_US = 60_000_000

#: The spans. The longest is how far back what comes late can be gone back for.
SPANS_US = (_MINUTE_US, 10 * _MINUTE_US, 100 * _MINUTE_US, 24 * 60 * _MINUTE_US)

#: Before any state's time.
_NOTHING = 2 * NEVER

#: The name of the pass's own state among the kernel's arrays.
_OWN = "settled"

_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(State).decode

_log = logging.getLogger(__name__)


class _Kept(NamedTuple):
    name: str
    settled: int
    positions: Positions


class SettledStates:
    """Those of one detector."""

    def __init__(self, snapshots: Snapshots, detector: str) -> None:
        self._snapshots, self._newest = snapshots, f"{detector}-settled"
        self._names = [[f"{self._newest}-{span}-{turn}" for turn in range(2)] for span in range(len(SPANS_US))]
        self._kept: dict[str, _Kept] = {}

    def newest(self) -> tuple[State, Positions] | None:
        """Where the pass was last, without its kernel."""
        snapshot = self._snapshots.newest(self._newest)
        return None if snapshot is None else (_state(snapshot), snapshot.positions)

    def open(self, version: str) -> None:
        """Know the states that are kept of a version; those of others serve nobody."""
        self._kept = {}
        for name in (self._newest, *(name for names in self._names for name in names)):
            snapshot = self._snapshots.newest(name)
            if snapshot is None or snapshot.meta["version"] != version:
                continue
            # What had come late by then is not in its place in it: it was gone back for since.
            if name == self._newest or not _state(snapshot).behind:
                self._kept[name] = _Kept(name, int(snapshot.meta["settled"]), snapshot.positions)

    def restore(self, kernel: Kernel, name: str = "") -> tuple[State, Positions]:
        """Put a kernel where it was in a state that is kept, the newest if no name is given.

        Raises:
            StateError: it is not there any more, or of another version.
        """
        snapshot = self._snapshots.newest(name or self._newest)
        if snapshot is None or snapshot.meta["version"] != kernel.detector.version:
            raise StateError(f"revisions: the state {name or self._newest} is gone; its detector's pass begins anew")
        arrays = dict(snapshot.arrays)
        arrays.pop(_OWN)
        kernel.restore(arrays)
        return _state(snapshot), snapshot.positions

    def keep(self, of: SettledPass) -> None:
        """Keep the state of a pass that has settled what it read."""
        state = of.snapshot()
        state.lates = [late for late in state.lates if self._is_new(late)]
        arrays = of.kernel.state() | {_OWN: np.frombuffer(_encode(state), np.uint8)}
        settled = state.order.settled
        names = [self._newest]
        for span_us, pair in zip(SPANS_US, self._names, strict=True):
            older, newer = sorted(pair, key=self._settled)
            if settled - self._settled(newer) >= span_us:
                names.append(older)
        for name in names:
            self._snapshots.save(name, arrays, of.at, {"version": state.version, "settled": str(settled)})
            self._kept[name] = _Kept(name, settled, dict(of.at))

    def _settled(self, name: str) -> int:
        return self._kept[name].settled if name in self._kept else _NOTHING

    def _is_new(self, late: Item) -> bool:
        """Whether a state is kept from before it came."""
        return any(late.record.offset >= kept.positions.get(late.record.place, 0) for kept in self._kept.values())

    def went_back(self, settled: int) -> None:
        """The pass has gone back to a state: later ones serve no more."""
        self._kept = {name: kept for name, kept in self._kept.items() if kept.settled <= settled}

    def reaches(self, time: int) -> bool:
        """Whether a state is kept from before a time."""
        return any(kept.settled <= time for kept in self._kept.values())

    def before(self, time: int, lates: Sequence[Item]) -> str | None:
        """The name of the last state from before a time that serves, given all that came late."""
        serving = [
            kept
            for kept in self._kept.values()
            if kept.settled <= time
            and all(
                late.time >= kept.settled
                for late in lates
                if late.record.offset >= kept.positions.get(late.record.place, 0)
            )
        ]
        return max(serving, key=lambda kept: kept.settled).name if serving else None

    def positions(self) -> list[Positions]:
        """From where on the log is needed still."""
        return [kept.positions for kept in self._kept.values()]


def _state(snapshot: Snapshot) -> State:
    return _decode(snapshot.arrays[_OWN].tobytes())
