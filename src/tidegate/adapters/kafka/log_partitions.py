"""Some partitions of Kafka, read in the order that log_records.py tells, from a position on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from tidegate.adapters.kafka.log_connection import REQUEST_TIMEOUT_S, Connection, translated
from tidegate.adapters.kafka.log_records import merged, placed
from tidegate.errors import OverloadError
from tidegate.ports.log import Placed, Positions, Record, TopicPartition, after

#: How long a broker holds a fetch that finds nothing. It says only then that a partition has ended, so this is what a
#: first look takes; a record that comes is sent at once.
_FETCH_WAIT_MS = 50

#: How long records wait for those of other partitions that are said to be there: they may be older and then come first.
_ALIGN_S = 1.0

#: A commit leaves a mark in each partition that it wrote to, which takes an offset and is never read.
_MARK = 1

#: Messages taken over from the client at once.
_TAKEN_AT_ONCE = 2000

_CONFIG = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    "fetch.wait.max.ms": _FETCH_WAIT_MS,
    "fetch.error.backoff.ms": 50,
    # What is fetched ahead is bounded: a reader that falls behind holds nobody up but itself.
    "queued.min.messages": 10_000,
    "queued.max.messages.kbytes": 64 * 1024,
}


@dataclass(frozen=True, slots=True)
class Known:
    """What one log object was told of its partitions; the cluster may be further by now."""

    ends: Positions = field(default_factory=dict[TopicPartition, int])
    firsts: Positions = field(default_factory=dict[TopicPartition, int])
    """What stands before is deleted."""

    def reaches(self, place: TopicPartition, end: int) -> None:
        self.ends[place] = max(self.ends.get(place, 0), end)


class Partitions:
    """Belongs to one thread at a time. `group` is whose offsets it may look up and commit. What is `known` to be there
    is waited for, and what is known to be deleted is not given, though it may have been fetched before.
    """

    def __init__(
        self, connection: Connection, positions: Mapping[TopicPartition, int], group: str, known: Known
    ) -> None:
        self._name, self._known = connection.name, known
        self._topics = {connection.name(place.topic): place.topic for place in positions}
        self.consumer = Consumer(connection.config() | _CONFIG | {"group.id": connection.name(group)})
        self.seek(positions)

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read on from here, all partitions."""
        #: The next offset to be given, by partition.
        self.position: Positions = dict(positions)
        # All before is fetched.
        self._reached: Positions = dict(positions)
        self._fetched: dict[TopicPartition, deque[Placed]] = {place: deque() for place in positions}
        self._ended: set[TopicPartition] = set()
        self.consumer.assign([self._kafka(place, offset) for place, offset in positions.items()])

    def end_seen(self, place: TopicPartition) -> int:
        """How far the partition was looked at, marks of commits included, if all records up to there were given."""
        return self.position[place] if self._fetched[place] else max(self._reached[place], self.position[place])

    def take(self, limit: int, timeout_ms: int) -> list[Record]:
        """Up to `limit` records in order. Waits up to `timeout_ms` for the first, and in any case for what is known to
        be there.

        Raises:
            OverloadError: what is known to be there does not come.
        """
        if limit <= 0 or not self.position:
            return []
        started = time.monotonic()
        self._fetch(0)
        while not self._is_ready(limit):
            waited = time.monotonic() - started
            complete = not any(map(self._is_short, self.position))
            if complete and waited >= _ALIGN_S and (any(self._fetched.values()) or waited * 1000 >= timeout_ms):
                break
            if not complete and waited >= REQUEST_TIMEOUT_S:
                raise OverloadError("log: records that are there do not come; see whether Kafka is up", retry_after_s=1)
            self._fetch(0.01)
        while not any(self._fetched.values()) and (left := timeout_ms / 1000 - (time.monotonic() - started)) > 0:
            self._fetch(min(left, 0.1))
        return self._give(limit)

    def until(self, ends: Mapping[TopicPartition, int]) -> list[Record]:
        """All records before `ends`, in order.

        Raises:
            OverloadError: they don't come.
        """
        started = time.monotonic()
        self._fetch(0)
        while any(self._reached[place] < end for place, end in ends.items() if place in self._reached):
            if time.monotonic() - started >= REQUEST_TIMEOUT_S:
                raise OverloadError("log: records that are there do not come; see whether Kafka is up", retry_after_s=1)
            self._fetch(0.1)
        found: list[list[Placed]] = []
        for place, fetched in self._fetched.items():
            found.append([])
            while fetched and fetched[0].record.offset < ends.get(place, 0):
                found[-1].append(fetched.popleft())
        return self._given(merged(found))

    def close(self) -> None:
        self.consumer.close()

    def _is_short(self, place: TopicPartition) -> bool:
        """Whether it is known to have more than was fetched."""
        return self._reached[place] < self._known.ends.get(place, 0)

    def _is_ready(self, limit: int) -> bool:
        """Whether what comes first is here: of every partition a record, or the word that there is none."""
        enough = sum(map(len, self._fetched.values())) >= limit
        for place, fetched in self._fetched.items():
            if fetched and enough:
                continue
            if self._is_short(place) or not (fetched or self._is_at_end(place)):
                return False
        return True

    def _is_at_end(self, place: TopicPartition) -> bool:
        if place in self._ended:
            return True
        _, high = self.consumer.get_watermark_offsets(self._kafka(place), cached=True)
        return 0 <= high <= self._reached[place] + _MARK

    def _give(self, limit: int) -> list[Record]:
        """The first records, up to the last one fetched of a partition that is known to have more."""
        heads: list[Placed] = []
        left = {place: len(fetched) for place, fetched in self._fetched.items() if self._is_short(place)}
        if not all(left.values()):
            return []
        for each in merged(self._fetched.values()):
            heads.append(each)
            place = TopicPartition(each.topic, each.partition)
            if place in left:
                left[place] -= 1
            if len(heads) == limit or left.get(place) == 0:
                break
        for each in heads:
            self._fetched[TopicPartition(each.topic, each.partition)].popleft()
        return self._given(heads)

    def _given(self, found: Iterable[Placed]) -> list[Record]:
        records = [each.record for each in found]
        self.position |= after(records)
        return records

    def _fetch(self, timeout_s: float) -> None:
        """Take over what the client has fetched, waiting for the first."""
        try:
            first = self.consumer.poll(timeout_s)
            if first is not None:
                for message in chain([first], self.consumer.consume(_TAKEN_AT_ONCE, 0)):
                    self._take_over(message)
        except KafkaException as error:
            raise translated("read", error) from None
        for place, fetched in self._fetched.items():
            while fetched and fetched[0].record.offset < self._known.firsts.get(place, 0):
                fetched.popleft()

    def _take_over(self, message: Message) -> None:
        error, topic = message.error(), self._topics.get(message.topic() or "")
        if topic is None:
            if error is not None and not error.retriable():
                raise translated("read", error)
            return
        place = TopicPartition(topic, message.partition() or 0)
        if error is None:
            self._fetched[place].append(placed(message, topic))
            self._reached[place] = (message.offset() or 0) + 1
            self._ended.discard(place)
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the library's name of it
            self._reached[place] = max(self._reached[place], message.offset() or 0)
            self._ended.add(place)
        elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED or error.fatal():
            raise translated("read", error)
        # Others pass: the client tries again by itself.

    def _kafka(self, place: TopicPartition, offset: int | None = None) -> KafkaPartition:
        name = self._name(place.topic)
        return (
            KafkaPartition(name, place.partition) if offset is None else KafkaPartition(name, place.partition, offset)
        )
