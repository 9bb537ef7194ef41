"""The log: topics of ordered, durable records, consumer groups, and one transaction from input to output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

#: Largest record a log takes, as Kafka's default. What is larger goes to the lake by claim check.
MAX_RECORD_BYTES = 1_048_576


class TopicPartition(NamedTuple):
    topic: str
    partition: int


Positions = dict[TopicPartition, int]
"""The offset of the next record to read, by partition. A partition that is missing is read from its start."""


class Entry(msgspec.Struct, frozen=True):
    """A record to be written. `id` makes the write idempotent within its topic: an id the topic holds already is not
    written again. None: always written.
    """

    topic: str
    key: str
    value: bytes
    timestamp_ms: int
    id: str | None = None


class Record(msgspec.Struct, frozen=True):
    """A record as it stands in the log. Offsets of a partition begin at 0 and grow; they may have gaps."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    timestamp_ms: int
    id: str | None = None


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
        """Up to `limit` records after the position, in the order in which they were appended across all topics and
        partitions; waits up to `timeout_ms` for the first. Moves the position, commits nothing.
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
        """Make a topic; does nothing if it is there. `retention_ms` None keeps records for ever."""
        ...

    def topics(self) -> dict[str, int]:
        """Number of partitions by topic."""
        ...

    def append(self, entries: Sequence[Entry]) -> list[Appended]:
        """Write all entries in one transaction, durable when it returns. The key picks the partition.

        Raises:
            NotFoundError: a topic does not exist. Nothing was written.
            UsageError: a value is larger than MAX_RECORD_BYTES. Nothing was written.
        """
        ...

    def read(self, positions: Mapping[TopicPartition, int], limit: int) -> list[Record]:
        """Up to `limit` records at or after `positions` of just the partitions named, in order of append. No group,
        no commit.
        """
        ...

    def ends(self, topics: Iterable[str]) -> Positions:
        """The offset that the next record of each partition will get."""
        ...

    def consumer(self, group: str, topics: Sequence[str]) -> Consumer:
        """Join a group at its committed position; partitions without one start at the beginning."""
        ...

    def lag(self, group: str) -> dict[str, int]:
        """Records between the group's committed position and the end, by topic."""
        ...

    def expire(self, now_ms: int) -> int:
        """Delete what is older than its topic's retention and has been read by every group; how many records."""
        ...

    def close(self) -> None: ...
