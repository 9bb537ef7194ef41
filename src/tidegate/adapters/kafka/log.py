"""The log in a Kafka cluster.

Threads may share one log: its appends take turns on one producer. A consumer
has clients of its own and belongs to one thread at a time.

What this log object was told of (by its own appends and commits, and by `ends`) it reads before it says that nothing is
there; what other processes write shows within milliseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from confluent_kafka import KafkaException, Producer

from tidegate.adapters.kafka.log_cluster import Cluster
from tidegate.adapters.kafka.log_connection import REQUEST_TIMEOUT_S, Connection, translated
from tidegate.adapters.kafka.log_consumer import KafkaConsumer
from tidegate.adapters.kafka.log_ids import Ids
from tidegate.adapters.kafka.log_order import ORDER, PLACE, last, places
from tidegate.adapters.kafka.log_partitions import Known, Partitions
from tidegate.adapters.kafka.log_turn import Turn
from tidegate.adapters.kafka.log_writer import PRODUCER, Writer
from tidegate.ports.log import Appended, Entry, Positions, Record, TopicPartition, check_sizes

#: Records of each partition that are looked through for their ids when a topic is first written to.
_IDS_READ = 2500

#: Clients kept when nobody reads by them: whoever reads on goes on with the one that has read up to there.
_KEPT_IDLE = 4

#: Records of a group's history given at once.
_HISTORY_STEP = 4096

#: The group under whose name partitions are read that no group commits.
_READERS = "readers"

_CONFIG = PRODUCER | {
    "delivery.timeout.ms": REQUEST_TIMEOUT_S * 1000,
    "request.timeout.ms": REQUEST_TIMEOUT_S * 1000 // 2,
}


class KafkaLog:
    """The log in the cluster that `connection` names.

    Raises:
        OverloadError: the cluster can't be reached. Any later call may raise it too.
        AccessError: the cluster doesn't know who asks, or does not allow it. Any later call may raise it too.
        SettingError: what the sign-in needs is missing.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cluster = Cluster(connection)
        self._cluster.create(ORDER, 1)
        self._retention_ms: dict[str, int | None] = {}
        self._known = Known()
        self._ids = Ids(self._newest)
        self._producer = Producer(connection.config() | _CONFIG)
        self._writer, self._writing = Writer(self._cluster, self._ids, self._producer, self._known), threading.Lock()
        self._idle: list[Partitions] = []
        self._reading = threading.Lock()
        self._turns: dict[str, Turn] = {}

    def create(self, topic: str, *, partitions: int, retention_ms: int | None = None) -> None:
        """
        Raises:
            UsageError: fewer than one partition.
        """
        self._cluster.create(topic, partitions)
        self._retention_ms[topic] = retention_ms

    def topics(self) -> dict[str, int]:
        return {topic: count for topic, count in self._cluster.topics().items() if topic != ORDER}

    def append(self, entries: Sequence[Entry]) -> list[Appended]:
        check_sizes(entries)
        with self._writing:
            addressed = self._writer.address(entries)
            try:
                return self._writer.write(addressed)
            except KafkaException as error:
                raise translated("append", error) from None
            finally:
                self._writer.remember(addressed)

    def read(self, positions: Mapping[TopicPartition, int], limit: int) -> list[Record]:
        """
        Raises:
            NotFoundError: a topic does not exist.
        """
        self._cluster.places({place.topic for place in positions})
        with self._following(positions) as partitions:
            return partitions.take(limit, 0)

    @contextmanager
    def _following(self, positions: Mapping[TopicPartition, int]) -> Generator[Partitions]:
        """A client that reads these partitions from there on; the one that has read up to there, if there is one."""
        places = frozenset(positions)
        with self._reading:
            partitions = next((each for each in self._idle if each.position == positions), None)
            if partitions is None:
                partitions = next((each for each in self._idle if each.position.keys() == places), None)
            if partitions is not None:
                self._idle.remove(partitions)
        if partitions is None:
            partitions = Partitions(self._connection, positions, _READERS, self._known)
        elif partitions.position != positions:
            partitions.seek(positions)
        try:
            yield partitions
        finally:
            with self._reading:
                self._idle.append(partitions)
                unused = self._idle.pop(0) if len(self._idle) > _KEPT_IDLE else None
            if unused is not None:
                unused.close()

    def history(self, group: str, start: Mapping[TopicPartition, int], topics: Sequence[str]) -> Iterator[list[Record]]:
        """
        Raises:
            NotFoundError: a topic does not exist.
        """
        at = {place: start.get(place, 0) for place in self._cluster.places(topics)}
        first, end = self._cluster.firsts([PLACE])[PLACE], self.ends([ORDER])[PLACE]
        following: Partitions | None = None
        with ExitStack() as stack:
            batch: list[Record] = []
            for ends in places(self.read, group, at, first, end):
                following = following or stack.enter_context(self._following(at))
                batch += following.until({place: offset for place, offset in ends.items() if place in at})
                if len(batch) >= _HISTORY_STEP:
                    yield batch
                    batch = []
            if batch:
                yield batch

    def ends(self, topics: Iterable[str]) -> Positions:
        """
        Raises:
            NotFoundError: a topic does not exist.
        """
        ends = self._cluster.ends(self._cluster.places(topics))
        for place, end in ends.items():
            # Its last transaction may still be marking its partitions.
            self._known.reaches(place, end)
            ends[place] = self._known.ends[place]
        return ends

    def consumer(self, group: str, topics: Sequence[str]) -> KafkaConsumer:
        """
        Raises:
            NotFoundError: a topic does not exist.
        """
        return KafkaConsumer(self._cluster, self._ids, self._known, group, topics, last=self._last)

    def stand_by(self, group: str, stop: threading.Event, waiting: Callable[[], None]) -> bool:
        if group not in self._turns:
            self._turns[group] = Turn(self._connection, group)
        return self._turns[group].wait(stop, waiting)

    def lag(self, group: str) -> dict[str, int]:
        """The marks that commits leave behind the last record are not counted once the group has seen them."""
        committed = self._cluster.committed(group)
        ends, firsts = self.ends({place.topic for place in committed}), self._cluster.firsts(committed)
        lag: dict[str, int] = {}
        for place, (offset, seen) in committed.items():
            behind = max(0, ends[place] - max(offset, seen, firsts[place]))
            lag[place.topic] = lag.get(place.topic, 0) + behind
        return lag

    def expire(self, now_ms: int) -> int:
        """From the start of each partition up to the first record that is younger or still unread."""
        kept_ms = {topic: kept for topic, kept in self._retention_ms.items() if kept is not None}
        if not kept_ms:
            return 0
        # The order is kept as long as what it orders.
        kept_ms[ORDER] = max(kept_ms.values())
        times = {place: now_ms - kept_ms[place.topic] for place in self._cluster.places(kept_ms)}
        ends = self.ends(kept_ms) | self._cluster.since(times)
        for group in self._cluster.groups():
            for place, (offset, _) in self._cluster.committed(group).items():
                ends[place] = min(ends.get(place, 0), offset)
        firsts = self._cluster.firsts(times)
        old = {place: ends[place] for place in times if ends[place] > firsts[place]}
        self._cluster.delete(old)
        self._known.firsts.update(old)
        with self._writing:
            for place, end in old.items():
                self._ids.forget(place.topic, place.partition, end)
        return sum(end - firsts[place] for place, end in old.items() if place.topic != ORDER)

    def close(self) -> None:
        for turn in self._turns.values():
            turn.close()
        with self._writing, self._reading:
            self._producer.flush(REQUEST_TIMEOUT_S)
            for partitions in self._idle:
                partitions.close()
            self._idle.clear()
        self._cluster.close()

    def _last(self, group: str) -> Positions:
        return last(self.read, group, self._cluster.firsts([PLACE])[PLACE], self.ends([ORDER])[PLACE])

    def _newest(self, topic: str) -> Iterator[Record]:
        ends = self.ends([topic])
        with self._following({place: max(0, end - _IDS_READ) for place, end in ends.items()}) as partitions:
            yield from partitions.until(ends)


def drop(connection: Connection) -> None:
    """Delete all topics and groups whose names begin with the connection's prefix, of which there must be one."""
    if connection.prefix:
        Cluster(connection).drop()
