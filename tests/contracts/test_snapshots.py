"""What every place for snapshots does: whole or not at all, the newest sound one, two kept."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tidegate.adapters.embedded.snapshots import EmbeddedSnapshots
from tidegate.errors import OverloadError, UsageError
from tidegate.ports.log import TopicPartition
from tidegate.ports.snapshots import Snapshot, Snapshots

Opener = Callable[[Path], Snapshots]

ARRAYS = {
    "file": np.arange(10, dtype=np.int64),
    "with / any name": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "": np.array([True, False]),
    "strided": np.arange(10)[::3],
    "nothing": np.zeros((0, 3), np.uint8),
    "scalar": np.array(np.nan),
    "rows": np.array([(1, 2.5), (3, -0.0)], dtype=[("a", "<i8"), ("b", "<f8")]),
    "text": np.array(["ä", "bc"]),
}
POSITIONS = {TopicPartition("transactions", 0): 7, TopicPartition("labels", 3): 2**40}

KILLS = 4
JOIN_TIMEOUT_S = 60


@pytest.fixture(params=[EmbeddedSnapshots], ids=["embedded"])
def opener(request: pytest.FixtureRequest) -> Opener:
    return request.param


@pytest.fixture
def snapshots(opener: Opener, tmp_path: Path) -> Snapshots:
    return opener(tmp_path / "snapshots")


def save(snapshots: Snapshots, number: int, name: str = "detector") -> None:
    snapshots.save(name, {"number": np.full(1000, number)}, {TopicPartition("in", 0): number}, {"number": str(number)})


def number_of(snapshot: Snapshot | None) -> int:
    assert snapshot is not None
    number = int(snapshot.meta["number"])
    assert (snapshot.arrays["number"] == np.full(1000, number)).all()
    assert snapshot.positions == {TopicPartition("in", 0): number}
    return number


def test_before_the_first_there_is_none(snapshots: Snapshots) -> None:
    assert snapshots.newest("detector") is None


def test_what_is_saved_comes_back_bit_for_bit(snapshots: Snapshots, opener: Opener, tmp_path: Path) -> None:
    snapshots.save("detector", ARRAYS, POSITIONS, {"version": "ü1"})
    snapshot = opener(tmp_path / "snapshots").newest("detector")
    assert snapshot is not None
    assert list(snapshot.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert snapshot.arrays[name].dtype == array.dtype
        assert snapshot.arrays[name].shape == array.shape
        assert snapshot.arrays[name].tobytes() == array.tobytes()
    assert (snapshot.positions, snapshot.meta) == (POSITIONS, {"version": "ü1"})


def test_names_do_not_mix(snapshots: Snapshots) -> None:
    save(snapshots, 1, "a")
    save(snapshots, 2, "a-b")
    assert number_of(snapshots.newest("a")) == 1
    assert number_of(snapshots.newest("a-b")) == 2


@pytest.mark.parametrize("name", ["", "../up", "a/b", "a.b", "a\n"])
def test_a_name_that_is_no_name_is_refused(snapshots: Snapshots, name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        save(snapshots, 1, name)


def test_python_objects_are_refused_and_the_one_before_stays(snapshots: Snapshots) -> None:
    save(snapshots, 1)
    with pytest.raises(UsageError, match="things"):
        snapshots.save("detector", {"things": np.array([object()])}, {}, {})
    assert number_of(snapshots.newest("detector")) == 1


# --- the embedded place: files


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "snapshots").glob("*.snapshot"))


def test_the_last_two_are_kept(snapshots: Snapshots, tmp_path: Path) -> None:
    for number in range(1, 6):
        save(snapshots, number)
    assert [path.name for path in files(tmp_path)] == [
        "detector.000000000004.snapshot",
        "detector.000000000005.snapshot",
    ]
    assert number_of(snapshots.newest("detector")) == 5


@pytest.mark.parametrize("part", ["head", "middle", "digest", "cut", "empty"])
def test_a_damaged_one_is_passed_over(
    snapshots: Snapshots, tmp_path: Path, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    save(snapshots, 1)
    save(snapshots, 2)
    newest = files(tmp_path)[-1]
    content = bytearray(newest.read_bytes())
    if part in {"head", "middle", "digest"}:
        content[{"head": 0, "middle": len(content) // 2, "digest": -1}[part]] ^= 1
    newest.write_bytes(content if part not in {"cut", "empty"} else content[: -100 if part == "cut" else 0])
    assert number_of(snapshots.newest("detector")) == 1
    assert newest.name in caplog.text
    files(tmp_path)[0].write_bytes(b"")
    assert snapshots.newest("detector") is None


def test_a_full_disk_is_told_and_the_one_before_stays(
    snapshots: Snapshots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(snapshots, 1)

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OverloadError, match="No space left"):
        save(snapshots, 2)
    monkeypatch.undo()
    assert number_of(snapshots.newest("detector")) == 1
    assert {path.suffix for path in (tmp_path / "snapshots").iterdir()} == {".snapshot", ""}
    save(snapshots, 3)
    assert number_of(snapshots.newest("detector")) == 3


def _save_for_ever(opener: Opener, folder: Path, saved: int, pipe: int) -> None:
    snapshots = opener(folder)
    while True:
        saved += 1
        save(snapshots, saved)
        os.write(pipe, saved.to_bytes(4, "big"))


def test_a_kill_leaves_the_last_that_was_saved_or_a_newer(snapshots: Snapshots, opener: Opener, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    saved = 0
    for kill in range(KILLS):
        reading, writing = os.pipe()
        process = fork.Process(target=_save_for_ever, args=(opener, tmp_path / "snapshots", saved, writing))
        process.start()
        os.close(writing)
        for _ in range(1 + 3 * kill):
            saved = int.from_bytes(os.read(reading, 4), "big")
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(JOIN_TIMEOUT_S)
        while rest := os.read(reading, 4):
            saved = int.from_bytes(rest, "big")
        os.close(reading)
        found = number_of(snapshots.newest("detector"))
        assert saved <= found <= saved + 1
        saved = found
