"""The log in one SQLite file, for many processes at once: the door appends, the engine commits, readers poll.

The file is in write-ahead mode with synchronous=FULL: what was answered survives a power cut. No read transaction
stays open between two polls, so the write-ahead log can always start over.

Threads may share one log: its appends take turns on one connection, its reads on another. A consumer has a connection
of its own and belongs to one thread at a time.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from tidegate.adapters.embedded._sqlite import open_database, transaction, translated
from tidegate.adapters.embedded.log_records import LAYOUT, TABLES, Topics, committed, newest, read, write
from tidegate.errors import FencedError, NotFoundError, UsageError
from tidegate.ports.log import Appended, Entry, Positions, Record, TopicPartition, after, check_sizes

#: "TGLG": tells the file from other programs' SQLite files.
_APPLICATION_ID = 0x54474C47

#: Pause between two looks for a new record: short against the time a decision may take, long against the look (5 us).
_POLL_STEP_S = 0.002

#: Records deleted in one transaction, so that no writer waits long for `expire`.
_EXPIRE_STEP = 2000

#: Records of a group's history read at once.
_HISTORY_STEP = 4096

Result = TypeVar("Result")


class EmbeddedConsumer:
    """One member of a consumer group; made by `EmbeddedLog.consumer`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, group: str, topics: Sequence[str]) -> None:
        self._path, self._connection, self._group = path, connection, group
        self._topics = Topics()
        joined = [self._topics.get(connection, name) for name in topics]
        partitions = [(topic, partition) for topic in joined for partition in range(topic.partitions)]
        with transaction(connection, path):
            (self._epoch,) = connection.execute(
                "INSERT INTO member VALUES (?, 1) ON CONFLICT DO UPDATE SET epoch = epoch + 1 RETURNING epoch", (group,)
            ).fetchone()
            connection.executemany(
                "INSERT INTO position VALUES (?, ?, ?, 0) ON CONFLICT DO NOTHING",
                [(group, topic.topic_id, partition) for topic, partition in partitions],
            )
            offsets = committed(connection, group)
        self._position = {
            place: offsets[place]
            for place in (TopicPartition(topic.name, partition) for topic, partition in partitions)
        }
        self._saved = dict(self._position)
        # The newest sequence when the last poll found all it wanted: until there is a newer one, nothing is new.
        self._exhausted_at = -1

    def poll(self, limit: int, timeout_ms: int) -> list[Record]:
        deadline = time.monotonic() + timeout_ms / 1000
        with translated(self._path):
            while True:
                latest = newest(self._connection)
                if latest != self._exhausted_at:
                    records = read(self._connection, self._topics, self._position, limit)
                    if records:
                        self._position |= after(records)
                        return records
                    self._exhausted_at = latest
                pause_s = min(_POLL_STEP_S, deadline - time.monotonic())
                if pause_s <= 0:
                    return []
                time.sleep(pause_s)

    def position(self) -> Positions:
        return dict(self._position)

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """
        Raises:
            NotFoundError: a partition is not one of this member's. Nothing has moved.
        """
        for place in positions:
            if place not in self._position:
                raise NotFoundError(f"log: group {self._group!r} does not read {place.name}")
        self._position.update(positions)
        self._exhausted_at = -1

    def committed(self) -> Positions:
        with translated(self._path):
            offsets = committed(self._connection, self._group)
        return {place: offset for place, offset in offsets.items() if place in self._position}

    def commit(self, produced: Sequence[Entry] = ()) -> list[Appended]:
        """As the port says; also raises NotFoundError and UsageError as `EmbeddedLog.append` does."""
        check_sizes(produced)
        with transaction(self._connection, self._path):
            (epoch,) = self._connection.execute(
                "SELECT epoch FROM member WHERE group_name = ?", (self._group,)
            ).fetchone()
            if epoch != self._epoch:
                raise FencedError(
                    f"log: group {self._group!r} is owned by member {epoch}, this is member {self._epoch}; "
                    "it stops, the newer one goes on from the last commit"
                )
            appended = write(self._connection, self._topics, produced)
            self._connection.executemany(
                "UPDATE position SET next_offset = ? WHERE group_name = ? AND partition = ? AND topic_id = ?",
                [
                    (offset, self._group, place.partition, self._topics.get(self._connection, place.topic).topic_id)
                    for place, offset in self._position.items()
                    if offset != self._saved[place]
                ],
            )
        self._saved = dict(self._position)
        return appended

    def close(self) -> None:
        self._connection.close()


class EmbeddedLog:
    """The log in the file at `path`, made if it is not there.

    Raises:
        StateError: the file belongs to another program or to another version of Tidegate.
        DamagedError: the file is damaged. Any later call may raise it too.
        OverloadError: other writers held the file for 10 s, or the disk is full. Any later call may raise it too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._topics = Topics()
        self._writer, self._writing = self._open(), threading.Lock()
        self._reader, self._reading = self._open(), threading.Lock()

    def _open(self) -> sqlite3.Connection:
        return open_database(
            self._path, application_id=_APPLICATION_ID, version=LAYOUT, tables=TABLES, synchronous="FULL"
        )

    def create(self, topic: str, *, partitions: int, retention_ms: int | None = None) -> None:
        """
        Raises:
            UsageError: fewer than one partition.
        """
        if partitions < 1:
            raise UsageError(f"log: topic {topic!r} wants at least 1 partition, got {partitions}")
        with self._writing, transaction(self._writer, self._path):
            made = self._writer.execute(
                "INSERT INTO topic (name, partitions, retention_ms) VALUES (?, ?, ?) "
                "ON CONFLICT DO NOTHING RETURNING topic_id",
                (topic, partitions, retention_ms),
            ).fetchone()
            if made:
                self._writer.executemany(
                    "INSERT INTO partition VALUES (?, ?, 0)", [(made[0], partition) for partition in range(partitions)]
                )

    def topics(self) -> dict[str, int]:
        topics = self._ask(self._topics.read)
        return {topic.name: topic.partitions for topic in topics.values()}

    def append(self, entries: Sequence[Entry]) -> list[Appended]:
        check_sizes(entries)
        with self._writing, transaction(self._writer, self._path):
            return write(self._writer, self._topics, entries)

    def read(self, positions: Mapping[TopicPartition, int], limit: int) -> list[Record]:
        """
        Raises:
            NotFoundError: a topic does not exist.
        """
        return self._ask(lambda reader: read(reader, self._topics, positions, limit))

    def history(self, group: str, start: Mapping[TopicPartition, int], topics: Sequence[str]) -> Iterator[list[Record]]:
        """
        Raises:
            NotFoundError: a topic does not exist.
        """
        done = self._ask(lambda reader: committed(reader, group))
        ends = {place: done.get(place, 0) for place in self.ends(topics)}
        at = {place: start.get(place, 0) for place in ends}
        while behind := {place: offset for place, offset in at.items() if offset < ends[place]}:
            records = self.read(behind, _HISTORY_STEP)
            if not records:
                return
            at |= after(records)
            yield [record for record in records if record.offset < ends[record.place]]

    def stand_by(self, group: str, stop: threading.Event, waiting: Callable[[], None]) -> bool:
        del group, waiting
        return not stop.is_set()

    def ends(self, topics: Iterable[str]) -> Positions:
        """
        Raises:
            NotFoundError: a topic does not exist.
        """

        def ask(reader: sqlite3.Connection) -> Positions:
            return {
                TopicPartition(name, partition): offset
                for name in topics
                for partition, offset in reader.execute(
                    "SELECT partition, next_offset FROM partition WHERE topic_id = ?",
                    (self._topics.get(reader, name).topic_id,),
                )
            }

        return self._ask(ask)

    def consumer(self, group: str, topics: Sequence[str]) -> EmbeddedConsumer:
        """
        Raises:
            NotFoundError: a topic does not exist.
        """
        connection = self._open()
        try:
            return EmbeddedConsumer(self._path, connection, group, topics)
        except BaseException:
            connection.close()
            raise

    def lag(self, group: str) -> dict[str, int]:
        """A partition's records have no gaps, but its first ones may have expired."""
        rows = self._ask(
            lambda reader: reader.execute(
                """
                SELECT name, sum(partition.next_offset - max(position.next_offset, coalesce(
                    (SELECT min(offset) FROM record
                     WHERE record.topic_id = position.topic_id AND record.partition = position.partition),
                    partition.next_offset)))
                FROM position JOIN partition USING (topic_id, partition) JOIN topic USING (topic_id)
                WHERE group_name = ? GROUP BY name
                """,
                (group,),
            ).fetchall()
        )
        return dict(rows)

    def expire(self, now_ms: int) -> int:
        """From the start of each partition up to the first record that is younger or still unread. With its record an
        id is forgotten too.
        """
        return sum(self._expire_partition(*bound) for bound in self._ask(lambda reader: _bounds(reader, now_ms)))

    def _expire_partition(self, topic_id: int, partition: int, end: int) -> int:
        expired = 0
        while True:
            with self._writing, transaction(self._writer, self._path):
                deleted = self._writer.execute(
                    "DELETE FROM record WHERE sequence IN (SELECT sequence FROM record "
                    "WHERE topic_id = ? AND partition = ? AND offset < ? ORDER BY offset LIMIT ?)",
                    (topic_id, partition, end, _EXPIRE_STEP),
                ).rowcount
            expired += deleted
            if deleted < _EXPIRE_STEP:
                return expired

    def _ask(self, question: Callable[[sqlite3.Connection], Result]) -> Result:
        with self._reading, translated(self._path):
            return question(self._reader)

    def close(self) -> None:
        with self._writing, self._reading:
            self._writer.close()
            self._reader.close()


def _bounds(connection: sqlite3.Connection, now_ms: int) -> list[tuple[int, int, int]]:
    """(topic_id, partition, offset below which records may go) of the partitions that have a retention."""
    return connection.execute(
        """
        SELECT topic_id, partition, min(
            coalesce((SELECT min(next_offset) FROM position
                      WHERE position.topic_id = partition.topic_id AND position.partition = partition.partition),
                     next_offset),
            coalesce((SELECT offset FROM record
                      WHERE record.topic_id = partition.topic_id AND record.partition = partition.partition
                      AND timestamp_ms >= :now_ms - retention_ms ORDER BY offset LIMIT 1),
                     next_offset))
        FROM partition JOIN topic USING (topic_id) WHERE retention_ms IS NOT NULL
        """,
        {"now_ms": now_ms},
    ).fetchall()
