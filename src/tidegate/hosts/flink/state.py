"""What Flink keeps of a shard: a snapshot, now and then, and what changed since.

Flink's own kinds of keyed state keep it, so that it goes where the key goes: into checkpoints and savepoints, and from
slot to slot. A snapshot stands in blocks, of which only those are written that have changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from tidegate.hosts.forecast import Counts
from tidegate.streams.control import Release, Standing

#: Of a block a few bytes may have changed: smaller ones would be written less often, and each costs a call to Flink.
_BLOCK_BYTES = 1 << 20

#: So much may change before a snapshot is taken, or as much as the snapshot has: then writing it costs no more than
#: writing the changes did, and a restart reads at most twice the state.
_LEAST_CHANGED_BYTES = 16 << 20

Arrays = dict[str, npt.NDArray[Any]]


class ValueState(Protocol):
    def value(self) -> bytes | None: ...
    def update(self, value: bytes) -> None: ...


class ListState(Protocol):
    def get(self) -> Iterable[str]: ...
    def add(self, value: str) -> None: ...
    def clear(self) -> None: ...


class MapState(Protocol):
    def get(self, key: str) -> bytes: ...
    def put(self, key: str, value: bytes) -> None: ...
    def remove(self, key: str) -> None: ...


class Change(msgspec.Struct, frozen=True, array_like=True):
    """What arrived, as it came, and how many records were then taken in their order."""

    taken: int
    arrived: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All that a shard goes on from but the kernel's arrays."""

    read: dict[str, int]
    """How far partitions were read, by their names."""
    waiting: str
    """Records that had arrived and were not taken."""
    release: Release
    standing: Standing
    counts: Counts
    arrays: dict[str, tuple[str, list[int]]] = {}
    """dtype and shape of the kernel's arrays, by name."""


_encode_change = msgspec.json.Encoder().encode
_decode_change = msgspec.json.Decoder(Change).decode
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Snapshot).decode


class State:
    """One shard's, in Flink's keyed state."""

    def __init__(self, head: ValueState, blocks: MapState, changes: ListState) -> None:
        self._head, self._blocks, self._changes = head, blocks, changes
        self._digests: dict[str, bytes] = {}
        self._changed_bytes = self._bytes = 0

    def snapshot(self) -> tuple[Snapshot, Arrays] | None:
        """The newest snapshot; None: there is none yet."""
        head = self._head.value()
        if head is None:
            return None
        snapshot, arrays = _decode(head), Arrays()
        for name, (dtype, shape) in snapshot.arrays.items():
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            parts = [self._block(f"{name}/{at}") for at in range(0, size, _BLOCK_BYTES)]
            arrays[name] = np.frombuffer(b"".join(parts), dtype).reshape(shape)
            self._bytes += size
        return snapshot, arrays

    def _block(self, key: str) -> bytes:
        block = self._blocks.get(key)
        self._digests[key] = _digest(block)
        return block

    def changes(self) -> Iterator[Change]:
        """What has changed since the snapshot, in order."""
        for text in self._changes.get():
            self._changed_bytes += len(text)
            yield _decode_change(text)

    def change(self, change: Change) -> bool:
        """Keep a change; whether it is time for a snapshot."""
        text = _encode_change(change).decode()
        self._changes.add(text)
        self._changed_bytes += len(text)
        return self._changed_bytes > max(_LEAST_CHANGED_BYTES, self._bytes)

    def keep(self, snapshot: Snapshot, arrays: Arrays) -> None:
        """Keep a snapshot in place of the one before and all changes."""
        kept: dict[str, bytes] = {}
        for name, array in arrays.items():
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            for at in range(0, len(content), _BLOCK_BYTES):
                key, block = f"{name}/{at}", content[at : at + _BLOCK_BYTES].tobytes()
                kept[key] = _digest(block)
                if self._digests.get(key) != kept[key]:
                    self._blocks.put(key, block)
        for key in self._digests.keys() - kept.keys():
            self._blocks.remove(key)
        shapes = {name: (array.dtype.str, list(array.shape)) for name, array in arrays.items()}
        self._head.update(_encode(msgspec.structs.replace(snapshot, arrays=shapes)))
        self._changes.clear()
        self._digests, self._changed_bytes = kept, 0
        self._bytes = sum(array.nbytes for array in arrays.values())


def _digest(block: bytes) -> bytes:
    return hashlib.blake2b(block, digest_size=16).digest()
