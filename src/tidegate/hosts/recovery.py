"""How an engine comes back: the kernels' snapshots, and the part of the log that must stay with them."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn

import msgspec

from tidegate.errors import StateError, TidegateError
from tidegate.hosts.forecast import Counts
from tidegate.kernel.decide import Kernel
from tidegate.ports.log import Log, Positions
from tidegate.ports.snapshots import Snapshots

_STDERR = 2

#: A process that writes for so long hangs; the system ends it, and the next snapshot is tried.
_WRITING_LIMIT_S = 600

#: Writing leaves the processor to deciding.
_NICE = 10

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


def refuse_forgotten(snapshots: Snapshots, names: Iterable[str], committed: Positions, ends: Positions) -> None:
    """
    Raises:
        StateError: nothing is committed, but a snapshot is of what this log holds: the log has forgotten how far its
            group was, and whoever went on would decide twice.
    """
    if any(committed.values()):
        return
    for name in names:
        snapshot = snapshots.newest(name)
        at = snapshot.positions if snapshot else {}
        if any(at.values()) and all(offset <= ends.get(place, 0) for place, offset in at.items()):
            raise StateError(
                f"engine: a snapshot of detector {name!r} has seen this log, but the log no longer knows how far it "
                "was decided; from its start on it would be decided twice. Set the offsets of the group `engine` to "
                "where it was, or, if the log is a new one, move the folder `snapshots` away"
            )


def keep_next(snapshots: Snapshots, kernel: Kernel, positions: Positions) -> None:
    """Leave a snapshot of a kernel that has seen the log up to `positions` and is to decide from a later place on."""
    snapshots.save(next_of(kernel.detector.name), kernel.state(), positions, {"version": kernel.detector.version})


class Recovery:
    """Snapshots are written by a process forked for each: it has the state as it was at that moment, and the engine
    decides on at once. What that costs the engine is the fork, some ten milliseconds a GB, and the copy that the system
    makes of each page that is changed while the snapshot is written.

    A group of its own holds the log back: it is committed at the oldest snapshot that is kept, so that nothing expires
    that a restart may have to read again.
    """

    def __init__(self, log: Log, snapshots: Snapshots, group: str, topics: Sequence[str]) -> None:
        self._snapshots = snapshots
        self._holding = log.consumer(f"{group}.snapshots", topics)
        self._thread = ThreadPoolExecutor(1, "snapshots")
        self._saving: Future[bool] | None = None
        self._saved: Positions | None = None

    def keep(self, kernels: Sequence[tuple[Kernel, Counts]], positions: Positions) -> None:
        """Take a snapshot of all kernels now, to be written meanwhile; `positions` is what they have decided and
        committed, with the counts of their watches. Does nothing while the one before is still being written, or if
        nothing has come since.
        """
        if self._saving is not None and not self._saving.done():
            return
        if self._saving is not None and self._saving.result() and positions == self._saved:
            return
        try:
            child = os.fork()
        except OSError as error:
            _log.warning("no snapshot this time: no process to write it (%s)", error.strerror)
            return
        if child == 0:
            self._write(kernels, positions)
        self._saved = positions
        self._saving = self._thread.submit(self._see_to, child, [kernel.detector.name for kernel, _ in kernels])

    def _write(self, kernels: Sequence[tuple[Kernel, Counts]], positions: Positions) -> NoReturn:
        """In the child: it must touch nothing that other threads of the engine had in hand, and end without cleaning
        up what is the engine's.
        """
        gc.disable()
        code = 1
        try:
            # Neither who reads what the engine says nor an engine that starts in its place waits for this process.
            os.closerange(0, _STDERR)
            os.closerange(_STDERR + 1, os.sysconf("SC_OPEN_MAX"))
            signal.alarm(_WRITING_LIMIT_S)
            os.nice(_NICE)
            for kernel, counts in kernels:
                meta = {"version": kernel.detector.version, "counts": msgspec.json.encode(counts).decode()}
                self._snapshots.save(kernel.detector.name, kernel.state(), positions, meta)
            code = 0
        except Exception as error:  # noqa: BLE001 - nobody is above this
            # The engine goes on: a restart will take an older snapshot and read more of the log.
            _log.warning("no snapshot this time: %s", error, exc_info=not isinstance(error, TidegateError))
        finally:
            os._exit(code)

    def _see_to(self, child: int, names: Sequence[str]) -> bool:
        """Wait for a child, and let go of what of the log only older snapshots needed. Whether the child was well."""
        _, status = os.waitpid(child, 0)
        if status != 0:
            return False
        fallbacks = [self._snapshots.fallback(name) for name in names]
        try:
            if fallbacks and all(fallbacks):
                self._holding.seek({place: min(at.get(place, 0) for at in fallbacks) for place in fallbacks[0]})
                self._holding.commit()
        except TidegateError as error:
            _log.warning("the log is held back where it was: %s", error)
        return True

    def settle(self) -> None:
        """Wait until the snapshot that was taken is written."""
        if self._saving is not None:
            self._saving.result()

    def close(self) -> None:
        """When the snapshot that is being written is written."""
        self._thread.shutdown()
        self._holding.close()
