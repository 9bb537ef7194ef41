"""What every place for snapshots does: whole or not at all, the newest sound one, and one before it."""

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


def big(number: int, *, keys: int = 400_000) -> dict[str, np.ndarray]:
    """State of which little changes from one number to the next: here and there, and it grows."""
    heap = np.zeros(keys + 1000 * number, np.int64)
    heap[: keys // 2] = np.arange(keys // 2)
    for each in range(number + 1):
        heap[[each * 7919 % keys, each * 104729 % (keys // 2), len(heap) - 1 - each]] = -each
    return {"heap": heap, "texts": np.frombuffer(f"{number:9}".encode() * 3000, np.uint8), "clock": np.array([number])}


def is_big(snapshot: Snapshot | None, number: int) -> bool:
    assert snapshot is not None
    assert snapshot.positions == {TopicPartition("in", 0): number}
    same = [np.array_equal(snapshot.arrays[name], array) for name, array in big(number).items()]
    return all(same) and len(same) == len(snapshot.arrays)


def save_big(snapshots: Snapshots, number: int) -> None:
    snapshots.save("detector", big(number), {TopicPartition("in", 0): number}, {"number": str(number)})


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


def test_each_comes_back_as_it_was_however_many_were_before(
    snapshots: Snapshots, opener: Opener, tmp_path: Path
) -> None:
    for number in range(12):
        save_big(snapshots, number)
        assert is_big(opener(tmp_path / "snapshots").newest("detector"), number)


def test_arrays_may_come_go_shrink_and_change_their_kind(snapshots: Snapshots) -> None:
    still = np.arange(100_000)
    for arrays in (
        {"still": still, "a": np.arange(5000), "b": np.ones(2000)},
        {"a": np.arange(600), "still": still},
        {"a": np.arange(9000), "still": still, "c": np.zeros(0)},
        {"b": np.ones(2000, np.float32), "still": still, "a": np.zeros((40, 50), np.int8)},
    ):
        snapshots.save("detector", arrays, {}, {})
        found = snapshots.newest("detector")
        assert found is not None
        assert list(found.arrays) == list(arrays)
        for name, array in arrays.items():
            assert (found.arrays[name].dtype, found.arrays[name].shape) == (array.dtype, array.shape)
            assert found.arrays[name].tobytes() == array.tobytes()


def test_what_is_written_to_one_that_came_back_changes_nothing(snapshots: Snapshots) -> None:
    for number in range(3):
        save_big(snapshots, number)
    found = snapshots.newest("detector")
    assert found is not None
    for array in found.arrays.values():
        if array.flags.writeable:
            array[...] = 77
    assert found.arrays["heap"].flags.writeable
    assert is_big(snapshots.newest("detector"), 2)


def test_it_is_told_how_far_a_damaged_one_may_throw_back(snapshots: Snapshots) -> None:
    assert snapshots.fallback("detector") == {}
    back: list[int] = []
    for number in range(1, 60):
        save_big(snapshots, number)
        back += snapshots.fallback("detector").values() or [0]
    assert back[0] == 0
    assert back == sorted(back)
    assert 0 < back[-1] < 59


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


def test_of_what_changes_altogether_the_last_two_are_kept(snapshots: Snapshots, tmp_path: Path) -> None:
    for number in range(1, 6):
        save(snapshots, number)
    assert [path.name for path in files(tmp_path)] == [
        "detector.000000000004.snapshot",
        "detector.000000000005.snapshot",
    ]
    assert number_of(snapshots.newest("detector")) == 5


def test_only_what_changed_is_written_and_a_full_one_now_and_then(snapshots: Snapshots, tmp_path: Path) -> None:
    sizes: list[int] = []
    for number in range(100):
        save_big(snapshots, number)
        sizes.append(files(tmp_path)[-1].stat().st_blocks * 512)
    full = [number for number, size in enumerate(sizes) if size > sizes[0] * 0.9]
    assert full[0] == 0
    assert 3 <= len(full) <= 10
    assert max(size for number, size in enumerate(sizes) if number not in full) < sizes[0] / 10
    # Two full ones, each with changes of half of it, and their heads.
    assert sum(path.stat().st_blocks * 512 for path in files(tmp_path)) < 3.5 * sizes[0]


def test_zeros_take_no_room(snapshots: Snapshots, tmp_path: Path) -> None:
    snapshots.save("detector", {"ring": np.zeros(10**7, np.int64)}, {}, {})
    assert files(tmp_path)[-1].stat().st_blocks * 512 < 10**6
    snapshots.save("detector", {"ring": np.zeros(2 * 10**7, np.int64)}, {}, {})
    assert files(tmp_path)[-1].stat().st_blocks * 512 < 2 * 10**6
    found = snapshots.newest("detector")
    assert found is not None
    assert not found.arrays["ring"].any()


def test_another_writer_does_not_build_upon_what_it_finds(snapshots: Snapshots, opener: Opener, tmp_path: Path) -> None:
    for number in range(4):
        save_big(snapshots, number)
    first = files(tmp_path)[0]
    other = opener(tmp_path / "snapshots")
    save_big(other, 4)
    first.write_bytes(b"")
    assert is_big(snapshots.newest("detector"), 4)
    save_big(snapshots, 5)
    files(tmp_path)[-2].write_bytes(b"")
    assert is_big(other.newest("detector"), 5)


def parts(path: Path) -> dict[str, tuple[int, int]]:
    """From where to where each part of a file is."""
    content = path.read_bytes()
    mark = content.index(b"\n") + 1
    head, digests = (int.from_bytes(content[mark + 8 * n : mark + 8 * n + 8], "little") for n in range(2))
    start = mark + 32
    which = -(-digests // 16 // 8)
    blocks = -(-(start + head + digests + which) // 4096) * 4096
    return {
        "mark": (0, mark),
        "lengths": (mark, mark + 16),
        "seal": (mark + 16, start),
        "head": (start, start + head),
        "digests": (start + head, start + head + digests),
        "which": (start + head + digests, start + head + digests + which),
        "blocks": (blocks, len(content)),
        "last block": (len(content) - 4096, len(content) - 4088),
    }


@pytest.mark.parametrize("file", ["newest", "full"])
@pytest.mark.parametrize(
    "part", ["mark", "lengths", "seal", "head", "digests", "which", "blocks", "last block", "cut", "empty", "gone"]
)
def test_a_damaged_one_is_named_and_passed_over(
    opener: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture, part: str, file: str
) -> None:
    save_big(opener(tmp_path / "snapshots"), 1)
    snapshots = opener(tmp_path / "snapshots")
    for number in range(2, 6):
        save_big(snapshots, number)
    assert len(files(tmp_path)) == 5
    struck = files(tmp_path)[-1 if file == "newest" else 1]
    if part == "gone":
        struck.unlink()
    elif part in {"cut", "empty"}:
        os.truncate(struck, struck.stat().st_size - 100 if part == "cut" else 0)
    else:
        start, end = parts(struck)[part]
        with struck.open("r+b") as content:
            content.seek((start + end) // 2)
            (byte,) = content.read(1)
            content.seek(-1, os.SEEK_CUR)
            content.write(bytes([byte ^ 4]))
    before = 4 if file == "newest" else 1
    # The last block of the full one is in every change to it too.
    sound = file == "full" and part == "last block"
    assert is_big(snapshots.newest("detector"), 5 if sound else before)
    assert (struck.name in caplog.text) == (not sound and (file == "full" or part != "gone"))
    for path in files(tmp_path):
        path.write_bytes(b"")
    assert snapshots.newest("detector") is None


def test_every_bit_counts(snapshots: Snapshots, tmp_path: Path) -> None:
    snapshots.save("detector", {"few": np.arange(40)}, {}, {"number": "1"})
    snapshots.save("detector", {"few": np.arange(40) + 1}, {}, {"number": "2"})
    content = files(tmp_path)[-1].read_bytes()
    end = parts(files(tmp_path)[-1])["which"][1]
    start = parts(files(tmp_path)[-1])["blocks"][0]
    for byte in [*range(0, end, 7), *range(start, start + 8 * 40, 3)]:
        struck = bytearray(content)
        struck[byte] ^= 1 << byte % 8
        files(tmp_path)[-1].write_bytes(struck)
        found = snapshots.newest("detector")
        assert found is not None
        assert found.meta == {"number": "1"}, f"byte {byte}"


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
        save_big(snapshots, saved)
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
        newest = snapshots.newest("detector")
        assert newest is not None
        found = int(newest.meta["number"])
        assert is_big(newest, found)
        assert saved <= found <= saved + 1
        saved = found
