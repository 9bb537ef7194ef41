"""A snapshot's file: arrays in blocks and the digest of each block, so that only what has changed is written.

    mark      what it is and the format's version, a line
    lengths   of the head and of the digests, 8 bytes each, little endian
    seal      the digest of head, digests and which
    head      JSON: see Head
    digests   16 bytes (XXH3 of 128 bits) for each block of all arrays, one array after the other
    which     a bit for each block: whether this file has it
    blocks    from the next multiple of BLOCK_BYTES on, those that it has, in order

A block is of one array, whose last may be shorter. Blocks of zeros are holes of the file.
"""

from __future__ import annotations

import ast
import mmap
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy
from xxhash import xxh3_128_digest

from tidegate.errors import DamagedError
from tidegate.ports.snapshots import Arrays

#: A page of memory: a row or key that changes is in few of them, and a block can be mapped as it lies in the file.
BLOCK_BYTES = 4096

_MARK = b"tidegate snapshot 2\n"
_LENGTH_BYTES = 8
_DIGEST_BYTES = 16
_PREFIX_BYTES = len(_MARK) + 2 * _LENGTH_BYTES + _DIGEST_BYTES

_Bytes = npt.NDArray[np.uint8]
_Digests = npt.NDArray[np.uint64]
_Bools = npt.NDArray[np.bool_]


class Shape(msgspec.Struct, frozen=True):
    """What a head says of an array; `dtype` as .npy says it."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, name: str, array: npt.NDArray[Any]) -> Shape:
        return cls(name, repr(npy.dtype_to_descr(array.dtype)), array.shape)

    @property
    def _dtype(self) -> np.dtype[Any]:
        return npy.descr_to_dtype(ast.literal_eval(self.dtype))

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self._dtype.itemsize

    @property
    def blocks(self) -> int:
        return -(-self.bytes // BLOCK_BYTES)

    def array(self, content: _Bytes) -> npt.NDArray[Any]:
        """What the bytes are."""
        return content.view(self._dtype).reshape(self.shape) if self.bytes else np.empty(self.shape, self._dtype)


class Head(msgspec.Struct, frozen=True):
    """A file has changes to the ones before it, up to that of the number `full`, which has all blocks: perhaps itself.
    `full_bytes` is the size of that one, `changed_bytes` that of all changes to it, this file's included.
    """

    writer: str
    number: int
    full: int
    full_bytes: int
    changed_bytes: int
    arrays: list[Shape]
    positions: list[tuple[str, int, int]]
    meta: dict[str, str]


@dataclass(frozen=True)
class State:
    """Arrays in blocks; b blocks."""

    shapes: list[Shape]
    contents: list[_Bytes]
    digests: _Digests
    """uint64[b, 2]"""

    @classmethod
    def of(cls, arrays: Arrays) -> State:
        shapes = [Shape.of(name, array) for name, array in arrays.items()]
        contents = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays.values()]
        return cls(shapes, contents, _digests(contents))

    @property
    def every(self) -> _Bools:
        """bool[b]"""
        return np.ones(len(self.digests), np.bool_)

    @property
    def solid(self) -> _Bools:
        """bool[b]: which blocks are not zeros."""
        return (self.digests != _ZEROS).any(axis=1)

    def changed_since(self, shapes: Sequence[Shape], digests: _Digests) -> _Bools:
        """bool[b]: which blocks are not what these digests say of those in their place."""
        changed = self.every
        before = {shape.name: (shape.blocks, digests[first:]) for shape, first in _placed(shapes)}
        for shape, first in _placed(self.shapes):
            blocks, old = before.get(shape.name, (0, digests))
            both = min(shape.blocks, blocks)
            changed[first : first + both] = (self.digests[first : first + both] != old[:both]).any(axis=1)
        return changed


def _view(content: _Bytes) -> memoryview:
    plain: Any = content
    return memoryview(plain)


def _digests(contents: Iterable[_Bytes]) -> _Digests:
    parts: list[bytes] = []
    for content in contents:
        whole = _view(content)
        parts += [xxh3_128_digest(whole[at : at + BLOCK_BYTES]) for at in range(0, len(whole), BLOCK_BYTES)]
    return np.frombuffer(b"".join(parts), np.uint64).reshape(-1, 2)


_ZEROS = _digests([np.zeros(BLOCK_BYTES, np.uint8)])


def _placed(shapes: Sequence[Shape]) -> list[tuple[Shape, int]]:
    """Each array and its first block."""
    firsts = np.cumsum([0, *(shape.blocks for shape in shapes)]).tolist()
    return list(zip(shapes, firsts, strict=False))


def index_bytes(blocks: int) -> int:
    """What a file takes beside its blocks, head aside."""
    return blocks * _DIGEST_BYTES + -(-blocks // 8)


def write(path: Path, head: Head, state: State, which: _Bools) -> None:
    """Write a file with these of the blocks, durable when it returns."""
    index = msgspec.json.encode(head), state.digests.tobytes(), np.packbits(which).tobytes()
    with path.open("wb") as file:
        file.write(_MARK)
        for part in index[:2]:
            file.write(len(part).to_bytes(_LENGTH_BYTES, "little"))
        file.write(xxh3_128_digest(b"".join(index)))
        file.writelines(index)
        _write_blocks(file, _up(_PREFIX_BYTES + sum(map(len, index))), state, which)
        file.flush()
        os.fsync(file.fileno())


def _up(length: int) -> int:
    return -(-length // BLOCK_BYTES) * BLOCK_BYTES


def _write_blocks(file: BinaryIO, at: int, state: State, which: _Bools) -> None:
    solid = which & state.solid
    places = at + BLOCK_BYTES * (np.cumsum(which) - which)
    for (shape, first), content in zip(_placed(state.shapes), state.contents, strict=True):
        edges = np.diff(solid[first : first + shape.blocks], prepend=False, append=False)
        # What stands together in the array stands together in the file.
        for start, end in np.flatnonzero(edges).reshape(-1, 2).tolist():
            file.seek(places[first + start])
            file.write(_view(content)[start * BLOCK_BYTES : end * BLOCK_BYTES])
    file.truncate(at + BLOCK_BYTES * int(which.sum()))


class DamagedFileError(DamagedError):
    """What the file of that number has is not what was written."""

    def __init__(self, path: Path, number: int, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.number = number


class SnapshotFile:
    """One file, opened: what it says of itself is sound."""

    def __init__(self, path: Path, number: int) -> None:
        """
        Raises:
            DamagedFileError: the file is not of this format, or its head or digests are not what was written.
            FileNotFoundError: there is no such file.
        """
        self._path, self._number = path, number
        with path.open("rb") as file:
            prefix = file.read(_PREFIX_BYTES)
            if len(prefix) < _PREFIX_BYTES or not prefix.startswith(_MARK):
                raise self.damaged(f"does not begin with {_MARK.decode().strip()!r}")
            lengths = np.frombuffer(prefix, "<u8", 2, len(_MARK)).tolist()
            size = os.fstat(file.fileno()).st_size
            if sum(lengths) > size:
                raise self.damaged("the head is cut off")
            content = file.read(sum(lengths) + -(-lengths[1] // _DIGEST_BYTES // 8))
            if xxh3_128_digest(content) != prefix[-_DIGEST_BYTES:]:
                raise self.damaged("the digest of the head does not hold")
            self.head = msgspec.json.decode(content[: lengths[0]], type=Head)
            self.digests = np.frombuffer(content, np.uint64, lengths[1] // 8, lengths[0]).reshape(-1, 2)
            which = np.frombuffer(content, np.uint8, offset=sum(lengths))
            self.which = np.unpackbits(which, count=len(self.digests)).view(np.bool_)
            start, blocks = _up(_PREFIX_BYTES + len(content)), int(self.which.sum())
            if size != start + BLOCK_BYTES * blocks:
                raise self.damaged(f"has {size} bytes of {start + BLOCK_BYTES * blocks}")
            self.blocks = np.empty((0, BLOCK_BYTES), np.uint8)
            """uint8[blocks, BLOCK_BYTES]: mapped; what is written here changes no file."""
            if blocks:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
                self.blocks = np.frombuffer(mapped, np.uint8, offset=start).reshape(blocks, BLOCK_BYTES)

    def damaged(self, what: str) -> DamagedFileError:
        return DamagedFileError(self._path, self._number, what)


def compose(files: Sequence[SnapshotFile]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of the last file: those of the first, which has all blocks, with the changes that the others have.
    They are mapped; what is written to them changes no file.

    Raises:
        DamagedFileError: a block is not what was written.
    """
    last = files[-1]
    regions = _first_regions(files[0], last.head.arrays)
    for file in files[1:]:
        ends = np.cumsum(file.which)
        for shape, first in _placed(file.head.arrays):
            if shape.name not in regions or not shape.blocks:
                continue
            region, has = regions[shape.name], file.which[first : first + shape.blocks]
            changes = file.blocks[int(ends[first] - file.which[first]) : int(ends[first + shape.blocks - 1])]
            chosen = np.flatnonzero(has)
            count = int(np.searchsorted(chosen, len(region)))
            region[chosen[:count]] = changes[:count]
    contents = [regions[shape.name].reshape(-1)[: shape.bytes] for shape in last.head.arrays]
    wrong = np.flatnonzero((_digests(contents) != last.digests).any(axis=1))
    if len(wrong):
        raise _damage(files, int(wrong[0]))
    return {shape.name: shape.array(content) for shape, content in zip(last.head.arrays, contents, strict=True)}


def _first_regions(full: SnapshotFile, shapes: Sequence[Shape]) -> dict[str, _Bytes]:
    """uint8[blocks, BLOCK_BYTES] by array: what the full file has of it, where that is all of it as it lies there."""
    before = {shape.name: full.blocks[first : first + shape.blocks] for shape, first in _placed(full.head.arrays)}
    regions: dict[str, _Bytes] = {}
    for shape in shapes:
        old = before.get(shape.name, full.blocks[:0])
        if len(old) >= shape.blocks:
            regions[shape.name] = old[: shape.blocks]
        else:
            regions[shape.name] = np.zeros((shape.blocks, BLOCK_BYTES), np.uint8)
            regions[shape.name][: len(old)] = old
    return regions


def _damage(files: Sequence[SnapshotFile], wrong: int) -> DamagedFileError:
    """Names the last file that has a block."""
    shape, first = next(placed for placed in reversed(_placed(files[-1].head.arrays)) if placed[1] <= wrong)
    block = wrong - first
    for file in reversed(files):
        for other, start in _placed(file.head.arrays):
            if other.name == shape.name and block < other.blocks and file.which[start + block]:
                return file.damaged(f"block {block} of array {shape.name!r} is not what was written")
    return files[-1].damaged(f"block {block} of array {shape.name!r} is in no file")
