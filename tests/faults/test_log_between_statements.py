"""A poll is more than one statement: what is appended between two of them must not fall through."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.ports.log import Entry

PARTITIONS = 4
ENTRIES = 40
ENTRIES_OF_ALL_PARTITIONS = [Entry("in", f"key-{n}", b"", 0, f"id-{n}") for n in range(ENTRIES)]


@pytest.mark.parametrize("statement", range(1, 12))
def test_records_appended_in_the_middle_of_a_poll_are_read_once(tmp_path: Path, statement: int) -> None:
    path = tmp_path / "log.sqlite"
    log, door = EmbeddedLog(path), EmbeddedLog(path)
    log.create("in", partitions=PARTITIONS)
    consumer = log.consumer("engine", ["in"])
    executed = 0

    def slip_in(_sql: str) -> None:
        nonlocal executed
        executed += 1
        if executed == statement:
            door.append(ENTRIES_OF_ALL_PARTITIONS)

    consumer._connection.set_trace_callback(slip_in)
    seen = consumer.poll(1000, 0)
    consumer._connection.set_trace_callback(None)
    if executed < statement:
        door.append(ENTRIES_OF_ALL_PARTITIONS)
    seen += consumer.poll(1000, 0)
    assert sorted(record.id or "" for record in seen) == sorted(f"id-{n}" for n in range(ENTRIES))
