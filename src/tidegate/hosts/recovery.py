"""How an engine comes back: the kernels' snapshots, and the part of the log that must stay with them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from tidegate.errors import StateError, TidegateError
from tidegate.hosts.forecast import Counts
from tidegate.kernel.decide import Kernel
from tidegate.ports.log import Log, Positions
from tidegate.ports.snapshots import Arrays, Snapshots

_log = logging.getLogger(__name__)


def next_of(name: str) -> str:
    """The name of the snapshot that a release leaves for whoever is to decide by it."""
    return f"{name}-next"


def restore(snapshots: Snapshots, kernel: Kernel, read: Positions) -> tuple[Positions, Counts | None]:
    """Put a new kernel where the newest snapshot left it that is of its detector's version and not beyond `read`: where
    that was, and the counts of its watch if it decided then. Empty: there is none, the kernel is new.
    """
    detector = kernel.detector
    for name in (detector.name, next_of(detector.name)):
        snapshot = snapshots.newest(name)
        if snapshot is None or snapshot.meta["version"] != detector.version:
            continue
        if any(offset > read.get(place, 0) for place, offset in snapshot.positions.items()):
            _log.warning("snapshot %s is of another log or of a later place in it; it is not taken", name)
            continue
        try:
            kernel.restore(snapshot.arrays)
        except StateError as error:
            _log.warning("snapshot %s: %s; it is not taken", name, error)
            continue
        counts = snapshot.meta.get("counts")
        return snapshot.positions, msgspec.json.decode(counts, type=Counts) if counts else None
    _log.info("detector %s %s has no snapshot to begin with; the log is read anew", detector.name, detector.version)
    return {}, None


def keep_next(snapshots: Snapshots, kernel: Kernel, positions: Positions) -> None:
    """Leave a snapshot of a kernel that has seen the log up to `positions` and is to decide from a later place on."""
    snapshots.save(next_of(kernel.detector.name), kernel.snapshot(), positions, {"version": kernel.detector.version})


def _meta(kernel: Kernel, counts: Counts) -> dict[str, str]:
    return {"version": kernel.detector.version, "counts": msgspec.json.encode(counts).decode()}


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

    def keep(self, kernels: Sequence[tuple[Kernel, Counts]], positions: Positions) -> None:
        """Take a snapshot of all kernels now and write it later; `positions` is what they have decided and committed,
        with the counts of their watches. Does nothing while the one before is still being written.
        """
        if self._saving is not None:
            if not self._saving.done():
                return
            self._saving.result()
        arrays = [(kernel.detector.name, _meta(kernel, counts), kernel.snapshot()) for kernel, counts in kernels]
        self._saving = self._thread.submit(self._save, arrays, positions)

    def _save(self, kernels: Sequence[tuple[str, dict[str, str], Arrays]], positions: Positions) -> None:
        try:
            for name, meta, arrays in kernels:
                self._snapshots.save(name, arrays, positions, meta)
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
