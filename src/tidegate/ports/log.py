"""The log: topics of ordered, durable records, consumer groups, and one transaction from input to output.

Within a partition the order is that of append. Across partitions a log on one machine keeps the order of append too;
one on many machines has none of its own, and goes by the records' times. Either way the order in which a consumer group
took its records is part of what it commits: `history` gives them again in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from threading import Event
from typing import NamedTuple, Protocol

import msgspec

from tidegate.errors import UsageError

#: Records that are read at once where all that is there is read.
_READ_AT_ONCE = 1_000

#: Largest record a log takes, as Kafka's default. What is larger goes to the lake by claim check.
MAX_RECORD_BYTES = 1_048_576


class TopicPartition(NamedTuple):
    topic: str
    partition: int

    @property
    def name(self) -> str:
        """As it is written down: topic/partition."""
        return f"{self.topic}/{self.partition}"

    @classmethod
    def named(cls, name: str) -> TopicPartition:
        """The one that is written down so."""
        topic, _, partition = name.rpartition("/")
        return cls(topic, int(partition))


Positions = dict[TopicPartition, int]
"""The offset of the next record to read, by partition. A partition that is missing is read from its start."""


class Entry(msgspec.Struct, frozen=True):
    """A record to be written. `id` makes the write idempotent within its topic: an id the topic holds already is not
    written again. None: always written. A log on many machines knows only the newest ids of a topic, and not those that
    another process is writing at the same moment: an event may then be there twice, and is decided once.
    """

    topic: str
    key: str
    value: bytes
    timestamp_ms: int
    id: str | None = None


def check_sizes(entries: Iterable[Entry]) -> None:
    """
    Raises:
        UsageError: a value is larger than MAX_RECORD_BYTES.
    """
    for entry in entries:
        if len(entry.value) > MAX_RECORD_BYTES:
            raise UsageError(
                f"log: a record for topic {entry.topic!r} has {len(entry.value)} bytes, at most {MAX_RECORD_BYTES} "
                "fit; put the body into the lake and send its reference"
            )


class Record(msgspec.Struct, frozen=True):
    """A record as it stands in the log. Offsets of a partition begin at 0 and grow; they may have gaps."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    timestamp_ms: int
    id: str | None = None

    @property
    def place(self) -> TopicPartition:
        """The partition that it stands in."""
        return TopicPartition(self.topic, self.partition)

    @property
    def name(self) -> str:
        """Where it stands, as it is written down: topic/partition@offset."""
        return f"{self.place.name}@{self.offset}"


def after(records: Iterable[Record]) -> Positions:
    """How far the partitions of these records are read once they are. Those of a partition come in its order."""
    return {record.place: record.offset + 1 for record in records}


class Placed(NamedTuple):
    """A record and what decides its place among those of other partitions, on a log that has no order of its own."""

    timestamp_ms: int
    number: int
    topic: str
    partition: int
    record: Record


class Appended(msgspec.Struct, frozen=True):
    """Where an entry stands. `duplicate`: its id was there already, and this is where."""

    partition: int
    offset: int
    duplicate: bool


class Consumer(Protocol):
    """One member of a consumer group. The newest member of a group owns all partitions; the one before is fenced: its
    next `commit` raises FencedError and writes nothing.
    """

    def poll(self, limit: int, timeout_ms: int) -> list[Record]:
        """Up to `limit` records after the position, in order; waits up to `timeout_ms` for the first. Moves the
        position, commits nothing.
        """
        ...

    def position(self) -> Positions:
        """The next offset of every partition that this member would read."""
        ...

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read on from here. Partitions not named keep their position."""
        ...

    def committed(self) -> Positions:
        """What the group has committed."""
        ...

    def commit(self, produced: Sequence[Entry] = ()) -> list[Appended]:
        """Write `produced` and the position in one transaction: both or neither.

        Raises:
            FencedError: a newer member owns the group. Nothing was written.
        """
        ...

    def close(self) -> None: ...


class Log(Protocol):
    def create(self, topic: str, *, partitions: int, retention_ms: int | None = None) -> None:
        """Make a topic; does nothing if it is there. `retention_ms` None keeps records for ever. Said at each opening:
        a log may know a topic's retention only for as long as it is open.
        """
        ...

    def topics(self) -> dict[str, int]:
        """Number of partitions by topic."""
        ...

    def append(self, entries: Sequence[Entry]) -> list[Appended]:
        """Write all entries, durable when it returns. The key picks the partition.

        Raises:
            NotFoundError: a topic does not exist. Nothing was written.
            UsageError: a value is larger than MAX_RECORD_BYTES. Nothing was written.
            OverloadError: the log can't be written now. A log on many machines may have written some: all are to be
                sent again, and ids keep them single.
        """
        ...

    def read(self, positions: Mapping[TopicPartition, int], limit: int) -> list[Record]:
        """Up to `limit` records at or after `positions` of just the partitions named, in order; none only if there are
        none. No group, no commit.
        """
        ...

    def history(self, group: str, start: Mapping[TopicPartition, int], topics: Sequence[str]) -> Iterator[list[Record]]:
        """What the group has committed of `topics` from `start` on (a partition that is missing: from its first
        record), batch by batch, in the order in which its members took it. `start` is a place in that order: whoever
        read all before it goes on as the group did.
        """
        ...

    def ends(self, topics: Iterable[str]) -> Positions:
        """The offset that the next record of each partition will get."""
        ...

    def consumer(self, group: str, topics: Sequence[str]) -> Consumer:
        """Join a group at its committed position; partitions without one start at the beginning."""
        ...

    def stand_by(self, group: str, stop: Event, waiting: Callable[[], None]) -> bool:
        """Wait until no other process has its turn in the group, or `stop` is set; whether it is one's turn now. It
        lasts until the log is closed or the process dies. `waiting` is called once if another has it. On one machine it
        is always one's turn: the supervisor starts one process.
        """
        ...

    def lag(self, group: str) -> dict[str, int]:
        """Records between the group's committed position and the end, by topic."""
        ...

    def expire(self, now_ms: int) -> int:
        """Delete what is older than its topic's retention and has been read by every group; how many records."""
        ...

    def close(self) -> None: ...


def read_on(log: Log, at: Positions) -> Iterator[Record]:
    """All records that are there from these places on. `at` is moved behind what was read."""
    while records := log.read(at, _READ_AT_ONCE):
        at |= after(records)
        yield from records
