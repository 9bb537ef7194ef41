"""Checkpoints of a replay, in a folder: what it has decided so far, and all that it needs to go on from there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.errors import DamagedError, FencedError, TidegateError, UsageError

_MARK = "checkpoint.json"


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted up to a checkpoint."""

    events: int = 0
    labels: int = 0
    decisions: int = 0
    late: int = 0
    outcomes: dict[str, int] = {}
    rules: dict[str, int] = {}


class Position(NamedTuple):
    """Event time and source row of the last event decided."""

    time_us: int
    row: int


class State(NamedTuple):
    """All that a replay needs to go on after an event: the last row of each further file that arrived, by stream, the
    kernel's arrays, the labels that have not arrived, and the stream's clock, which is the highest event time so far.
    """

    after: Position
    further: dict[str, Position]
    clock_us: int
    tally: Tally
    kernel: dict[str, npt.NDArray[np.generic]]
    labels: pa.Table


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What checkpoint.json says: the small parts of the state, and the number that the files of the others have."""

    replay: str
    number: int
    after: Position
    further: dict[str, Position]
    clock_us: int
    tally: Tally


class Checkpoints:
    """One replay's folder. Part k holds what was decided between the checkpoints k - 1 and k; `checkpoint.json` is
    replaced last, so that it always names files that are complete.
    """

    def __init__(self, folder: Path, replay: str, schema: pa.Schema) -> None:
        """Open the folder, make it if need be, and hold it until `close`. `replay` names the replay: a hash of all
        that its result depends on. `schema` is that of what is decided.

        Raises:
            FencedError: another process has the folder open.
            UsageError: the folder belongs to another replay.
            DamagedError: checkpoint.json is not what was written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._replay = replay
        self._schema = schema
        self._lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise FencedError(
                f"state {folder}: another replay is using it; wait for it or choose another folder"
            ) from None
        try:
            self.last = self._read_mark()
        except TidegateError:
            os.close(self._lock)
            raise
        self._part = self._new_part()

    def _read_mark(self) -> Checkpoint | None:
        mark = self.folder / _MARK
        if not mark.exists():
            return None
        try:
            checkpoint = msgspec.json.decode(mark.read_bytes(), type=Checkpoint)
        except msgspec.DecodeError:
            raise DamagedError(f"state {self.folder}: {_MARK} is not a checkpoint; delete the folder") from None
        if checkpoint.replay != self._replay:
            raise UsageError(
                f"state {self.folder}: belongs to another replay (files, mappings, detector, times or order differ); "
                "choose another folder or delete this one"
            )
        return checkpoint

    def decided(self) -> Iterator[pa.RecordBatch]:
        """What was decided up to the last checkpoint, batch by batch as it was added."""
        for number in range(1, self.last.number + 1 if self.last else 1):
            with pa.memory_map(str(self._path("decided", number))) as file:
                reader = pa.ipc.open_file(file)
                for index in range(reader.num_record_batches):
                    yield reader.get_batch(index)

    def state(self) -> State | None:
        """The state at the last checkpoint, if there is one."""
        last = self.last
        if last is None:
            return None
        with np.load(self._path("kernel", last.number), allow_pickle=False) as arrays:
            kernel = dict(arrays)
        with pa.memory_map(str(self._path("labels", last.number))) as file:
            labels = pa.ipc.open_file(file).read_all()
        return State(last.after, last.further, last.clock_us, last.tally, kernel, labels)

    def add(self, decided: pa.RecordBatch) -> None:
        """Keep what was decided, for the next checkpoint."""
        self._part.write_batch(decided)

    def commit(self, state: State) -> None:
        """Make what was added since the last checkpoint, and the state after it, durable in one step."""
        number = self._number + 1
        self._part.close()
        with self._path("kernel", number).open("wb") as file:
            np.savez(file, allow_pickle=False, **state.kernel)
        with pa.ipc.new_file(str(self._path("labels", number)), state.labels.schema) as writer:
            writer.write_table(state.labels)
        for kind in ("decided", "kernel", "labels"):
            sync(self._path(kind, number))
        self.last = Checkpoint(
            replay=self._replay,
            number=number,
            after=state.after,
            further=state.further,
            clock_us=state.clock_us,
            tally=state.tally,
        )
        written = self.folder / f"{_MARK}.new"
        written.write_bytes(msgspec.json.encode(self.last))
        sync(written)
        written.replace(self.folder / _MARK)
        for kind in ("kernel", "labels"):
            self._path(kind, number - 1).unlink(missing_ok=True)
        self._part = self._new_part()

    def clear(self) -> None:
        """Delete what the folder holds: the replay is complete."""
        self._part.close()
        (self.folder / _MARK).unlink(missing_ok=True)
        for kind in ("decided", "kernel", "labels"):
            for path in self.folder.glob(f"{kind}-*"):
                path.unlink()

    def close(self) -> None:
        self._part.close()
        os.close(self._lock)

    @property
    def _number(self) -> int:
        return self.last.number if self.last else 0

    def _path(self, kind: str, number: int) -> Path:
        return self.folder / f"{kind}-{number:06}"

    def _new_part(self) -> pa.RecordBatchFileWriter:
        return pa.ipc.new_file(str(self._path("decided", self._number + 1)), self._schema)


def sync(path: Path) -> None:
    """Have what was written to a file on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
