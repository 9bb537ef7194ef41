"""kill -9 of what writes to the log, at random moments: what was answered is there, once."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.ports.log import Entry, Record, TopicPartition

KILLS = 10
BATCH = 5
INPUTS = 3000
#: A process that does not end within this hangs.
JOIN_TIMEOUT_S = 60


def open_log(folder: Path) -> EmbeddedLog:
    log = EmbeddedLog(folder / "log.sqlite")
    log.create("in", partitions=2)
    log.create("out", partitions=2)
    return log


def everything(log: EmbeddedLog, topic: str) -> list[Record]:
    return log.read({TopicPartition(topic, p): 0 for p in range(2)}, 10**9)


def _append_for_ever(folder: Path, start: int, pipe: int) -> None:
    log = open_log(folder)
    while True:
        log.append([Entry("in", f"k{n}", str(n).encode(), n, f"id-{n}") for n in range(start, start + BATCH)])
        start += BATCH
        os.write(pipe, start.to_bytes(8, "big"))


def _double_for_ever(folder: Path, _start: int, pipe: int) -> None:
    """Consume, produce, commit. What it produces has no id: only the transaction keeps it single."""
    log = open_log(folder)
    consumer = log.consumer("double", ["in"])
    while True:
        records = consumer.poll(7, 1000)
        consumer.commit([Entry("out", r.key, str(2 * int(r.value)).encode(), 0) for r in records])
        os.write(pipe, len(records).to_bytes(8, "big"))


def killed(target: Callable[[Path, int, int], None], folder: Path, start: int, answers: int) -> list[int]:
    """Run `target` in a process, kill it soon after that many answers; all the answers it gave."""
    reading, writing = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=target, args=(folder, start, writing))
    process.start()
    os.close(writing)
    given: list[int] = []
    with os.fdopen(reading, "rb") as pipe:
        given += [int.from_bytes(pipe.read(8), "big") for _ in range(answers)]
        # From here on the kill comes at any moment of the next transactions.
        threading.Event().wait(random.uniform(0, 0.01))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(JOIN_TIMEOUT_S)
        while answer := pipe.read(8):
            given.append(int.from_bytes(answer, "big"))
    return given


def test_what_was_answered_is_there_once(tmp_path: Path) -> None:
    answered = 0
    for kill in range(KILLS):
        # As a source would: what was not answered is sent again.
        given = killed(_append_for_ever, tmp_path, answered, answers=1 + 5 * (kill % 3))
        answered = given[-1]
        log = open_log(tmp_path)
        written = [int(record.value) for record in everything(log, "in")]
        log.close()
        assert written[:answered] == list(range(answered))
        # A batch that was written but not answered is whole, and will be found when it is sent again.
        assert written in (list(range(answered)), list(range(answered + BATCH)))


def test_each_input_gives_one_output(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append([Entry("in", f"k{n % 50}", str(n).encode(), 0) for n in range(INPUTS)])
    log.close()
    moved = 0
    for kill in range(KILLS):
        moved += sum(killed(_double_for_ever, tmp_path, 0, answers=1 + 4 * (kill % 3)))
    log = open_log(tmp_path)
    outputs = everything(log, "out")
    assert moved <= len(outputs) < INPUTS
    consumer = log.consumer("double", ["in"])
    while records := consumer.poll(500, 0):
        consumer.commit([Entry("out", r.key, str(2 * int(r.value)).encode(), 0) for r in records])
    assert [int(record.value) for record in everything(log, "out")] == [2 * n for n in range(INPUTS)]
    consumer.close()
    log.close()
