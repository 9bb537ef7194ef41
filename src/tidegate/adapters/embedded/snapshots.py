"""Snapshots as files: `<name>.<number>.snapshot`.

    head     length (8 bytes, little endian), then JSON: the arrays' names, positions, meta
    arrays   one after the other, as NumPy's .npy
    digest   SHA-256 of all before it

A file is written under a temporary name, synced and renamed: a name that ends in `.snapshot` is a whole file, unless
the disk has damaged it since, which the digest shows.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import logging
import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt

from tidegate.errors import DamagedError, OverloadError, UsageError
from tidegate.ports.log import Positions, TopicPartition
from tidegate.ports.snapshots import SNAPSHOTS_KEPT, Arrays, Snapshot

_LENGTH_BYTES = 8
_DIGEST_BYTES = 32

_log = logging.getLogger(__name__)


class _Head(msgspec.Struct, frozen=True):
    names: list[str]
    positions: list[tuple[str, int, int]]
    meta: dict[str, str]


class _Digesting:
    """A file that takes the digest of what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self._digest.update(content)
        return self._file.write(content)

    def close_with_digest(self) -> None:
        self._file.write(self._digest.digest())
        self._file.flush()
        os.fsync(self._file.fileno())


class EmbeddedSnapshots:
    """Snapshots in `folder`, made if it is not there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def save(self, name: str, arrays: Arrays, positions: Positions, meta: Mapping[str, str]) -> None:
        """
        Raises:
            OverloadError: the disk is full.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise UsageError(f"snapshot: wanted a name of letters, digits, _ and -, got {name!r}")
        if objects := [key for key, array in arrays.items() if array.dtype.hasobject]:
            raise UsageError(f"snapshot {name!r}: arrays of Python objects cannot be kept: {', '.join(objects)}")
        head = _Head(list(arrays), [(at.topic, at.partition, offset) for at, offset in positions.items()], dict(meta))
        with self._alone():
            numbers = self._numbers(name)
            temporary = self._folder / f"{name}.temporary"
            try:
                _write(temporary, head, arrays)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                raise OverloadError(f"snapshot {name!r}: not written ({error.strerror})", retry_after_s=60) from error
            temporary.replace(self._path(name, numbers[-1] + 1 if numbers else 1))
            self._sync()
            for number in numbers[: -(SNAPSHOTS_KEPT - 1)]:
                self._path(name, number).unlink()

    def newest(self, name: str) -> Snapshot | None:
        for number in reversed(self._numbers(name)):
            path = self._path(name, number)
            try:
                return _read(path)
            except DamagedError as error:
                _log.warning("%s; the one before it is taken", error)
        return None

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


def _write(path: Path, head: _Head, arrays: Arrays) -> None:
    encoded = msgspec.json.encode(head)
    with path.open("wb") as file:
        digesting = _Digesting(file)
        digesting.write(len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded)
        for array in arrays.values():
            np.save(digesting, array, allow_pickle=False)
        digesting.close_with_digest()


def _read(path: Path) -> Snapshot:
    content = memoryview(path.read_bytes())
    body, digest = content[:-_DIGEST_BYTES], bytes(content[-_DIGEST_BYTES:])
    if hashlib.sha256(body).digest() != digest:
        raise DamagedError(f"{path}: the digest does not hold")
    length = int.from_bytes(body[:_LENGTH_BYTES], "little")
    head = msgspec.json.decode(body[_LENGTH_BYTES : _LENGTH_BYTES + length], type=_Head)
    rest = io.BytesIO(body[_LENGTH_BYTES + length :])
    arrays: dict[str, npt.NDArray[Any]] = {name: np.load(rest, allow_pickle=False) for name in head.names}
    positions = {TopicPartition(topic, partition): offset for topic, partition, offset in head.positions}
    return Snapshot(arrays=arrays, positions=positions, meta=head.meta)
