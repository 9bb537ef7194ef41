"""Snapshots as files: `<name>.<number>.snapshot`, a full one and after it the changes to it.

What a file has, `_blocks.py` says. It is written under a temporary name, synced and renamed: a name that ends in
`.snapshot` is a whole file, unless the disk has damaged it since, which the digests show. Only the writer that wrote
the full one adds changes to it: what an earlier process left is read, and never built upon.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tidegate.adapters.embedded import _blocks
from tidegate.adapters.embedded._blocks import BLOCK_BYTES, DamagedFileError, Head, SnapshotFile, State
from tidegate.errors import OverloadError, UsageError
from tidegate.ports.log import Positions, TopicPartition
from tidegate.ports.snapshots import Arrays, Snapshot

#: A full snapshot is taken anew before the changes to the last one are more than this share of it: so much more is read
#: at a restart, and kept on the disk.
_MOST_CHANGES = 0.5

_log = logging.getLogger(__name__)


class EmbeddedSnapshots:
    """Snapshots in `folder`, made if it is not there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        # A process that is forked from this one writes for it.
        self._writer = secrets.token_hex(8)

    def save(self, name: str, arrays: Arrays, positions: Positions, meta: Mapping[str, str]) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise UsageError(f"snapshot: wanted a name of letters, digits, _ and -, got {name!r}")
        if objects := [key for key, array in arrays.items() if array.dtype.hasobject]:
            raise UsageError(f"snapshot {name!r}: arrays of Python objects cannot be kept: {', '.join(objects)}")
        state = State.of(arrays)
        with self._alone():
            numbers = self._numbers(name)
            number = numbers[-1] + 1 if numbers else 1
            before = self._before(name, numbers)
            which = state.changed_since(before.head.arrays, before.digests) if before else state.every
            size = _blocks.index_bytes(len(state.digests)) + BLOCK_BYTES * int((which & state.solid).sum())
            if before and before.head.changed_bytes + size > _MOST_CHANGES * before.head.full_bytes:
                before, which = None, state.every
            head = Head(
                writer=self._writer,
                number=number,
                full=before.head.full if before else number,
                full_bytes=before.head.full_bytes if before else BLOCK_BYTES * int(state.solid.sum()),
                changed_bytes=before.head.changed_bytes + size if before else 0,
                arrays=state.shapes,
                positions=[(at.topic, at.partition, offset) for at, offset in positions.items()],
                meta=dict(meta),
            )
            temporary = self._folder / f"{name}.temporary"
            try:
                _blocks.write(temporary, head, state, which)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                raise OverloadError(f"snapshot {name!r}: not written ({error.strerror})", retry_after_s=60) from error
            temporary.replace(self._path(name, number))
            self._sync()
            kept_from = self._kept_from(name, [old for old in numbers if old < head.full])
            for old in numbers:
                if old < kept_from:
                    self._path(name, old).unlink()

    def newest(self, name: str) -> Snapshot | None:
        numbers = self._numbers(name)
        while numbers:
            try:
                return self._read(name, numbers)
            except DamagedFileError as error:
                _log.warning("%s; the one before it is taken", error)
                # Those after it, up to what was to be read, are changes to what is damaged.
                numbers = [number for number in numbers if number < error.number]
            except FileNotFoundError:  # let go by who has just saved a newer one
                numbers = self._numbers(name)
        return None

    def fallback(self, name: str) -> Positions:
        numbers = self._numbers(name)
        first, last = self._head(name, numbers), self._head(name, numbers[::-1])
        return _positions(first) if first and last and last.full > first.number else {}

    def _head(self, name: str, numbers: Sequence[int]) -> Head | None:
        """That of the first of these files that has a sound one."""
        for number in numbers:
            try:
                return SnapshotFile(self._path(name, number), number).head
            except (DamagedFileError, FileNotFoundError):
                continue
        return None

    def _read(self, name: str, numbers: Sequence[int]) -> Snapshot:
        """That of the last number."""
        last = SnapshotFile(self._path(name, numbers[-1]), numbers[-1])
        head = last.head
        if missing := sorted({*range(head.full, head.number)} - {*numbers}):
            raise last.damaged(f"has changes to {self._path(name, missing[-1]).name}, which is not there")
        before = [SnapshotFile(self._path(name, number), number) for number in range(head.full, head.number)]
        return Snapshot(arrays=_blocks.compose([*before, last]), positions=_positions(head), meta=head.meta)

    def _before(self, name: str, numbers: Sequence[int]) -> SnapshotFile | None:
        """The last file, if changes to it can be added."""
        if not numbers:
            return None
        try:
            last = SnapshotFile(self._path(name, numbers[-1]), numbers[-1])
        except DamagedFileError:
            return None
        return last if last.head.writer == self._writer else None

    def _kept_from(self, name: str, earlier: Sequence[int]) -> int:
        """Of the numbers before the newest full one, from which on files are kept: the full one before."""
        head = self._head(name, earlier[-1:])
        return head.full if head else min(earlier, default=0)

    def _path(self, name: str, number: int) -> Path:
        return self._folder / f"{name}.{number:012d}.snapshot"

    def _numbers(self, name: str) -> list[int]:
        matches = (
            re.fullmatch(rf"{re.escape(name)}\.(\d{{12}})\.snapshot", path.name) for path in self._folder.iterdir()
        )
        return sorted(int(match[1]) for match in matches if match)

    @contextmanager
    def _alone(self) -> Generator[None]:
        """One writer at a time: a host that was fenced may still be writing when the next one starts."""
        with (self._folder / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _sync(self) -> None:
        """The renamed file's name is durable too."""
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _positions(head: Head) -> Positions:
    return {TopicPartition(topic, partition): offset for topic, partition, offset in head.positions}
