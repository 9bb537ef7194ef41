"""Brings the log into the lake: one committer for all tables, each record once in each of its tables.

How far a table is stands in the table itself, in the same commit as its rows, so a committer that was killed at any
moment goes on from what the tables say. The position of the consumer group only tells the log what may expire, and
people how far behind the lake is.
"""

from __future__ import annotations

import logging
import threading

from tidegate.errors import FencedError
from tidegate.ports.clock import Clock
from tidegate.ports.lake import Lake
from tidegate.ports.log import MAX_RECORD_BYTES, Log, Record, after
from tidegate.readers.lake_tables import TABLES

GROUP = "lake"

#: How long a record waits at most for its commit. Each commit makes a snapshot and files of its own in each table that
#: has new rows, some 30 ms of work: seldom enough to leave the processor to the engine.
COMMIT_EVERY_MS = 10_000

#: Most rows held in memory: a commit of this size takes about a second.
MAX_ROWS = 50_000

#: Most bytes of records held in memory.
MAX_BYTES = 256 * 1024 * 1024

#: Most records of one poll: few enough that they fit beside what is held even if each is as large as a record may be.
_POLL_RECORDS = MAX_BYTES // MAX_RECORD_BYTES // 2

#: Pause once all is read. The lake is not in a hurry, and looking at the log often would take time from the engine.
_PAUSE_MS = 500

_log = logging.getLogger(__name__)


class LakeReader:
    """One at a time: a newer one fences the one before, whose `run` then ends.

    Commits every `commit_every_ms`, and sooner once `max_rows` or MAX_BYTES are held.
    """

    def __init__(
        self, log: Log, lake: Lake, clock: Clock, *, commit_every_ms: int = COMMIT_EVERY_MS, max_rows: int = MAX_ROWS
    ) -> None:
        self._lake, self._clock = lake, clock
        self._commit_every_ms, self._max_rows = commit_every_ms, max_rows
        self._consumer = log.consumer(GROUP, sorted({table.topic for table in TABLES}))
        for table in TABLES:
            lake.ensure(table.name, table.schema)
        self._positions = {table.name: lake.positions(table.name) for table in TABLES}
        self._consumer.seek(
            {
                place: min(self._positions[table.name].get(place, 0) for table in TABLES if table.topic == place.topic)
                for place in self._consumer.position()
            }
        )
        self._held: dict[str, list[Record]] = {table.topic: [] for table in TABLES}
        self._held_rows = self._held_bytes = 0
        self._due_ms = 0

    def step(self, timeout_ms: int) -> int:
        """Read what is there, waiting up to `timeout_ms` for the first record, and commit if it is time; how many
        records were read.

        Raises:
            FencedError: a newer committer has taken over.
        """
        records = self._consumer.poll(min(_POLL_RECORDS, self._max_rows - self._held_rows), timeout_ms)
        now_ms = self._clock.now_ms()
        if records and not self._held_rows:
            self._due_ms = now_ms + self._commit_every_ms
        for record in records:
            self._held[record.topic].append(record)
            self._held_bytes += len(record.value)
        self._held_rows += len(records)
        full = self._held_rows >= self._max_rows or self._held_bytes > MAX_BYTES - _POLL_RECORDS * MAX_RECORD_BYTES
        if self._held_rows and (full or now_ms >= self._due_ms):
            self.commit()
        return len(records)

    def commit(self) -> None:
        """Commit all that is held, table by table, then tell the log.

        Raises:
            FencedError: a newer committer has taken over.
        """
        for table in TABLES:
            start = self._positions[table.name]
            new = [record for record in self._held[table.topic] if record.offset >= start.get(record.place, 0)]
            if new and (rows := table.rows(new)).num_rows:
                end = start | after(new)
                self._lake.append(table.name, rows, start, end)
                self._positions[table.name] = end
        self._consumer.commit()
        for records in self._held.values():
            records.clear()
        self._held_rows = self._held_bytes = 0

    def run(self, stop: threading.Event) -> None:
        """Read and commit until `stop` is set, which commits what is held, or a newer committer has taken over."""
        try:
            while not stop.is_set():
                if not self.step(timeout_ms=0):
                    stop.wait(_PAUSE_MS / 1000)
            self.commit()
        except FencedError as error:
            _log.warning("lake reader ends: %s", error)
        finally:
            self._consumer.close()
