"""kill -9 of the lake's committer, again and again, most often in mid-commit: each record of the log is there once."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa
from tests.readers.test_lake import ACCEPTED_MS, TOPICS, entry

from tidegate.adapters.embedded.clock import SystemClock
from tidegate.adapters.embedded.lake import EmbeddedLake
from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.ports.log import Positions, TopicPartition
from tidegate.readers.lake import GROUP, LakeReader
from tidegate.readers.lake_tables import TABLES

KILLS = 8
WRITES_A_ROUND = 8
START_TIMEOUT_S = 120


class TellingLake(EmbeddedLake):
    """Says when an append begins, so that the kill comes in the middle of one."""

    def __init__(self, folder: Path, told: Connection) -> None:
        super().__init__(folder)
        self._told = told

    def append(self, table: str, rows: pa.Table, start: Positions, end: Positions) -> None:
        self._told.send(table)
        super().append(table, rows, start, end)


def commit_for_ever(folder: Path, told: Connection) -> None:
    reader = LakeReader(
        EmbeddedLog(folder / "log.sqlite"),
        TellingLake(folder / "lake", told),
        SystemClock(),
        commit_every_ms=0,
        max_rows=25,
    )
    reader.run(threading.Event())


def test_a_committer_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    rng = random.Random(20_261_124)
    log = EmbeddedLog(tmp_path / "log.sqlite")
    for topic in TOPICS:
        log.create(topic, partitions=3)
    # A server that has imported all, and forks committers off: a kill then never hits a start instead of a commit.
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "tidegate.readers.lake", "tidegate.adapters.embedded.lake"])
    written = 0
    for _ in range(KILLS):
        ours, theirs = context.Pipe(duplex=False)
        committer = context.Process(target=commit_for_ever, args=(tmp_path, theirs), daemon=True)
        committer.start()
        theirs.close()
        for _ in range(WRITES_A_ROUND):
            log.append([entry(topic, written) for topic in TOPICS])
            written += 1
        for _ in range(rng.randint(1, 25)):
            assert ours.poll(START_TIMEOUT_S), "the committer commits nothing"
            ours.recv()
        committer.join(rng.uniform(0, 0.06))
        os.kill(committer.pid, signal.SIGKILL)
        committer.join()
        assert committer.exitcode == -signal.SIGKILL

    lake = EmbeddedLake(tmp_path / "lake")
    reader = LakeReader(log, lake, SystemClock())
    while reader.step(timeout_ms=0):
        pass
    reader.commit()
    for table in TABLES:
        places = {TopicPartition(table.topic, partition): 0 for partition in range(3)}
        records = sorted((r.partition, r.offset, r.timestamp_ms - ACCEPTED_MS) for r in log.read(places, 10**9))
        answer = lake.query(
            f'SELECT partition, "offset", epoch_ms(accepted_at) - {ACCEPTED_MS} AS n FROM {table.name} ORDER BY ALL'
        )
        assert [tuple(row.values()) for row in answer.to_pylist()] == records, table.name
        assert len(records) == written
        assert lake.positions(table.name) == {place: end for place, end in log.ends([table.topic]).items() if end}
    assert lake.row_counts() == {table.name: written for table in TABLES}
    assert log.lag(GROUP) == dict.fromkeys(TOPICS, 0)
    log.close()
