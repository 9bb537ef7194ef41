"""The tables of the embedded log, and how records are written to and read from them.

topic      its partitions and retention
partition  the next offset of each
record     `sequence` is the order of append across all topics, which is what a poll follows
member     the epoch of each group's newest member: whoever holds an older one is fenced
position   the next offset each group will read; a row for every partition from the moment the group is joined
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import NamedTuple
from zlib import crc32

from tidegate.adapters.embedded._sqlite import one_view
from tidegate.errors import NotFoundError
from tidegate.ports.log import Appended, Entry, Positions, Record, TopicPartition

#: Raised when the tables change.
LAYOUT = 1

TABLES = """
CREATE TABLE topic (
    topic_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, partitions INTEGER NOT NULL, retention_ms INTEGER
);
CREATE TABLE partition (
    topic_id INTEGER NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic_id, partition)
) WITHOUT ROWID;
CREATE TABLE record (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, topic_id INTEGER NOT NULL, partition INTEGER NOT NULL,
    offset INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, timestamp_ms INTEGER NOT NULL, id TEXT
);
CREATE UNIQUE INDEX record_place ON record (topic_id, partition, offset);
CREATE UNIQUE INDEX record_id ON record (topic_id, id) WHERE id IS NOT NULL;
CREATE TABLE member (group_name TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE position (
    group_name TEXT NOT NULL, topic_id INTEGER NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (group_name, topic_id, partition)
) WITHOUT ROWID
"""

#: Ids looked up by one statement: its text stays the same for every batch, so that SQLite need not parse it again.
_IDS_ASKED = 64

_FIND_IDS = (
    "SELECT id, partition, offset FROM record WHERE topic_id = ? "  # noqa: S608 (question marks only)
    f"AND id IN ({', '.join('?' * _IDS_ASKED)})"
)


class Topic(NamedTuple):
    topic_id: int
    name: str
    partitions: int


class Topics:
    """The topics by name and by number, read again when one is asked for that is not known yet."""

    def __init__(self) -> None:
        self._by_name: dict[str, Topic] = {}

    def read(self, connection: sqlite3.Connection) -> dict[str, Topic]:
        rows = connection.execute("SELECT topic_id, name, partitions FROM topic ORDER BY name")
        self._by_name = {name: Topic(topic_id, name, partitions) for topic_id, name, partitions in rows}
        return self._by_name

    def get(self, connection: sqlite3.Connection, name: str) -> Topic:
        topic = self._by_name.get(name) or self.read(connection).get(name)
        if topic is None:
            known = ", ".join(self._by_name) or "none yet"
            raise NotFoundError(f"log: no topic {name!r}; create it first (topics: {known})")
        return topic


def write(connection: sqlite3.Connection, topics: Topics, entries: Sequence[Entry]) -> list[Appended]:
    """Write entries within an open transaction. An id that is there already, or comes twice here, is written once."""
    appended: list[Appended] = []
    known = _known_ids(connection, topics, entries)
    next_offsets: dict[tuple[int, int], int] = {}
    rows: list[tuple[int, int, int, str, bytes, int, str | None]] = []
    for entry in entries:
        topic_id, _, partitions = topics.get(connection, entry.topic)
        there = known.get((topic_id, entry.id)) if entry.id is not None else None
        if there is not None:
            appended.append(Appended(*there, duplicate=True))
            continue
        partition = crc32(entry.key.encode()) % partitions
        place = (topic_id, partition)
        offset = next_offsets.get(place)
        if offset is None:
            (offset,) = connection.execute(
                "SELECT next_offset FROM partition WHERE topic_id = ? AND partition = ?", place
            ).fetchone()
        next_offsets[place] = offset + 1
        if entry.id is not None:
            known[topic_id, entry.id] = (partition, offset)
        rows.append((topic_id, partition, offset, entry.key, entry.value, entry.timestamp_ms, entry.id))
        appended.append(Appended(partition, offset, duplicate=False))
    connection.executemany(
        "INSERT INTO record (topic_id, partition, offset, key, value, timestamp_ms, id) VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    connection.executemany(
        "UPDATE partition SET next_offset = ? WHERE topic_id = ? AND partition = ?",
        [(next_offset, *place) for place, next_offset in next_offsets.items()],
    )
    return appended


def _known_ids(
    connection: sqlite3.Connection, topics: Topics, entries: Sequence[Entry]
) -> dict[tuple[int, str], tuple[int, int]]:
    """Where the entries' ids stand that the log holds already: (topic_id, id) -> (partition, offset)."""
    ids: dict[int, list[str]] = {}
    for entry in entries:
        if entry.id is not None:
            ids.setdefault(topics.get(connection, entry.topic).topic_id, []).append(entry.id)
    known: dict[tuple[int, str], tuple[int, int]] = {}
    for topic_id, of_topic in ids.items():
        for start in range(0, len(of_topic), _IDS_ASKED):
            asked: list[str | None] = [*of_topic[start : start + _IDS_ASKED]]
            asked += [None] * (_IDS_ASKED - len(asked))
            for known_id, partition, offset in connection.execute(_FIND_IDS, (topic_id, *asked)):
                known[topic_id, known_id] = (partition, offset)
    return known


def read(
    connection: sqlite3.Connection, topics: Topics, positions: Mapping[TopicPartition, int], limit: int
) -> list[Record]:
    """Records at or after the positions, in order of append.

    Within a partition offsets grow with the sequence: the first record wanted is found by the index, and from there
    the log is read in its own order, passing over what is not wanted. What is passed over lies before the next start.
    All in one view of the file: a record that is committed after its partition's first was looked for would otherwise
    be missed, and one behind it in the same partition be read, and the position move past both.
    """
    with one_view(connection):
        return _read(connection, topics, positions, limit)


def _read(
    connection: sqlite3.Connection, topics: Topics, positions: Mapping[TopicPartition, int], limit: int
) -> list[Record]:
    wanted = {(topics.get(connection, at.topic).topic_id, at.partition): offset for at, offset in positions.items()}
    starts = [
        start
        for (topic_id, partition), offset in wanted.items()
        for (start,) in connection.execute(
            "SELECT sequence FROM record WHERE topic_id = ? AND partition = ? AND offset >= ? ORDER BY offset LIMIT 1",
            (topic_id, partition, offset),
        )
    ]
    if not starts or limit <= 0:
        return []
    names = {topics.get(connection, at.topic).topic_id: at.topic for at in positions}
    records: list[Record] = []
    # NOT INDEXED: along the sequence, where SQLite would rather gather all of a topic by its index and sort it. Topic
    # numbers are integers of our own making: they are safe in the text.
    of_topics = ", ".join(str(topic_id) for topic_id in names)
    rows = connection.execute(
        "SELECT topic_id, partition, offset, key, value, timestamp_ms, id FROM record NOT INDEXED "  # noqa: S608
        f"WHERE sequence >= ? AND topic_id IN ({of_topics}) ORDER BY sequence",
        (min(starts),),
    )
    with closing(rows):
        for topic_id, partition, offset, key, value, timestamp_ms, record_id in rows:
            first = wanted.get((topic_id, partition))
            if first is not None and offset >= first:
                records.append(Record(names[topic_id], partition, offset, key, value, timestamp_ms, record_id))
                if len(records) == limit:
                    break
    return records


def newest(connection: sqlite3.Connection) -> int:
    """The sequence of the newest record ever appended; 0 for none."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'record'").fetchone()
    return row[0] if row else 0


def committed(connection: sqlite3.Connection, group: str) -> Positions:
    rows = connection.execute(
        "SELECT name, partition, next_offset FROM position JOIN topic USING (topic_id) WHERE group_name = ?", (group,)
    )
    return {TopicPartition(name, partition): offset for name, partition, offset in rows}
