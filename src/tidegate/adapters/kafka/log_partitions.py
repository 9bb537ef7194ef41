"""Some partitions of Kafka, read in the order that log_records.py tells, from a position on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import chain

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from tidegate.adapters.kafka.log_connection import REQUEST_TIMEOUT_S, Connection, translated
from tidegate.adapters.kafka.log_records import Placed, merged, placed
from tidegate.errors import OverloadError
from tidegate.ports.log import Positions, Record, TopicPartition, after

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


class Partitions:
    """Belongs to one thread at a time. `group` is whose offsets it may look up and commit."""

    def __init__(self, connection: Connection, positions: Mapping[TopicPartition, int], group: str) -> None:
        self._name = connection.name
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

    def take(self, limit: int, timeout_ms: int, known: Mapping[TopicPartition, int]) -> list[Record]:
        """Up to `limit` records in order. Waits up to `timeout_ms` for the first, and in any case for what lies before
        `known`.

        Raises:
            OverloadError: what is known to be there does not come.
        """
        if limit <= 0 or not self.position:
            return []
        started = time.monotonic()
        self._fetch(0)
        while not self._is_ready(limit, known):
            waited = time.monotonic() - started
            complete = self._is_complete(known)
            if complete and waited >= _ALIGN_S and (any(self._fetched.values()) or waited * 1000 >= timeout_ms):
                break
            if not complete and waited >= REQUEST_TIMEOUT_S:
                raise OverloadError("log: records that are there do not come; see whether Kafka is up", retry_after_s=1)
            self._fetch(0.01)
        while not any(self._fetched.values()) and (left := timeout_ms / 1000 - (time.monotonic() - started)) > 0:
            self._fetch(min(left, 0.1))
        return self._give(limit, lambda place: self._reached[place] >= known.get(place, 0))

    def until(self, ends: Mapping[TopicPartition, int]) -> list[Record]:
        """All records before `ends`, in order.

        Raises:
            OverloadError: they don't come.
        """
        started = time.monotonic()
        while not self._is_complete(ends):
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

    def _is_complete(self, known: Mapping[TopicPartition, int]) -> bool:
        return all(self._reached[place] >= known.get(place, 0) for place in self.position)

    def _is_ready(self, limit: int, known: Mapping[TopicPartition, int]) -> bool:
        """Whether what comes first is here: of every partition a record, or the word that there is none."""
        enough = sum(map(len, self._fetched.values())) >= limit
        for place, fetched in self._fetched.items():
            if fetched and enough:
                continue
            if self._reached[place] < known.get(place, 0) or not (fetched or self._is_at_end(place)):
                return False
        return True

    def _is_at_end(self, place: TopicPartition) -> bool:
        if place in self._ended:
            return True
        _, high = self.consumer.get_watermark_offsets(self._kafka(place), cached=True)
        return 0 <= high <= self._reached[place] + _MARK

    def _give(self, limit: int, is_complete: Callable[[TopicPartition], bool]) -> list[Record]:
        """The first records, up to the last one fetched of a partition that is known to have more."""
        heads: list[Placed] = []
        left = {place: len(fetched) for place, fetched in self._fetched.items() if not is_complete(place)}
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
