"""How an engine comes back: the kernels' snapshots, and the part of the log that must stay with them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from tidegate.errors import StateError, TidegateError
from tidegate.kernel.decide import Kernel
from tidegate.ports.log import Log, Positions
from tidegate.ports.snapshots import Arrays, Snapshots

_log = logging.getLogger(__name__)


class Recovery:
    """Snapshots are written by one thread of its own, off the way of the decisions.

    A group of its own holds the log back: it is committed at the older of the two snapshots that are kept, so that
    nothing expires that a restart may have to read again.
    """

    def __init__(self, log: Log, snapshots: Snapshots, group: str, topics: Sequence[str]) -> None:
        self._snapshots = snapshots
        self._holding = log.consumer(f"{group}.snapshots", topics)
        self._thread = ThreadPoolExecutor(1, "snapshots")
        self._saving: Future[None] | None = None
        self._before: Positions | None = None

    def restore(self, kernel: Kernel, committed: Positions) -> Positions:
        """Put the kernel where its newest snapshot left it, if that is of its detector's version and of this log; where
        that was. Empty: there is none, the kernel is new.
        """
        detector = kernel.detector
        snapshot = self._snapshots.newest(detector.name)
        if snapshot is None:
            return {}
        if snapshot.meta["version"] != detector.version:
            _log.info("detector %s %s has no snapshot yet; the log is read anew", detector.name, detector.version)
            return {}
        if any(offset > committed.get(place, 0) for place, offset in snapshot.positions.items()):
            _log.warning("snapshot of detector %s is of another log; the log is read anew", detector.name)
            return {}
        try:
            kernel.restore(snapshot.arrays)
        except StateError as error:
            _log.warning("snapshot of detector %s: %s; the log is read anew", detector.name, error)
            return {}
        return snapshot.positions

    def keep(self, kernels: Sequence[Kernel], positions: Positions) -> None:
        """Take a snapshot of all kernels now and write it later; `positions` is what they have decided and committed.
        Does nothing while the one before is still being written.
        """
        if self._saving is not None:
            if not self._saving.done():
                return
            self._saving.result()
        arrays = [(kernel.detector.name, kernel.detector.version, kernel.snapshot()) for kernel in kernels]
        self._saving = self._thread.submit(self._save, arrays, positions)

    def _save(self, kernels: Sequence[tuple[str, str, Arrays]], positions: Positions) -> None:
        try:
            for name, version, arrays in kernels:
                self._snapshots.save(name, arrays, positions, {"version": version})
            if self._before is not None:
                self._holding.seek(self._before)
                self._holding.commit()
            self._before = positions
        except TidegateError as error:
            # The engine goes on: a restart will take an older snapshot and read more of the log.
            _log.warning("no snapshot this time: %s", error)

    def close(self) -> None:
        """When the snapshot that is being written is written."""
        self._thread.shutdown()
        self._holding.close()
