"""What is asked of a Kafka cluster besides records: its topics, where they begin and end, what groups committed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import (
    AdminClient,
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]  # the library's documented place
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage]
)

from tidegate.adapters.kafka.log_connection import REQUEST_TIMEOUT_S, Connection, translated
from tidegate.errors import NotFoundError, OverloadError, UsageError
from tidegate.ports.log import MAX_RECORD_BYTES, Positions, TopicPartition

#: Copies of each record, as far as there are brokers; two of three must have it before it counts as written.
_COPIES = 3

#: What a record's key, id and headers may take beside its value.
_OVERHEAD_BYTES = 65_536
MAX_MESSAGE_BYTES = MAX_RECORD_BYTES + _OVERHEAD_BYTES

#: Kafka's own retention is off: a record goes when it is old and every group has read it (`expire`).
_TOPIC = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "max.message.bytes": str(MAX_MESSAGE_BYTES),
    # The door's clock may be ahead of the broker's.
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(2**63 - 1),
}

#: What a cluster answers while it starts, moves a coordinator, or ends a transaction.
_PASSING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
    }
)
_AGAIN_S = 0.02

_T = TypeVar("_T")

_COMMITTED = IsolationLevel.READ_COMMITTED


class Cluster:
    """Any thread may ask. What is known of the topics is kept, and asked again when one is missing."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._admin = AdminClient(connection.config())
        self._lock = threading.Lock()
        self._topics: dict[str, int] = {}
        self._members: dict[str, Consumer] = {}

    def create(self, topic: str, partitions: int) -> None:
        if partitions < 1:
            raise UsageError(f"log: topic {topic!r} wants at least 1 partition, got {partitions}")
        if topic in self._topics or topic in self.topics():
            return
        try:
            brokers = len(self._admin.list_topics(timeout=REQUEST_TIMEOUT_S).brokers)
            copies = min(_COPIES, brokers)
            config = {**_TOPIC, "min.insync.replicas": str(max(1, copies - 1))}
            new = NewTopic(self.connection.name(topic), partitions, copies, config=config)
            self._asked(f"create topic {topic!r}", self._admin.create_topics, [new])
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise translated(f"create topic {topic!r}", error) from None
        deadline = time.monotonic() + REQUEST_TIMEOUT_S
        while topic not in self.topics():
            if time.monotonic() > deadline:
                raise OverloadError(f"log: topic {topic!r} is made but does not show yet", retry_after_s=1)
            time.sleep(0.01)

    def topics(self) -> dict[str, int]:
        """Asked anew."""
        try:
            found = self._admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        except KafkaException as error:
            raise translated("topics", error) from None
        prefix = self.connection.prefix
        topics = {
            name.removeprefix(prefix): len(topic.partitions)
            for name, topic in sorted(found.items())
            if name.startswith(prefix) and not name.startswith("__") and topic.error is None
            if topic.partitions and all(partition.leader >= 0 for partition in topic.partitions.values())
        }
        with self._lock:
            self._topics = topics
        return topics

    def partitions(self, topic: str) -> int:
        """
        Raises:
            NotFoundError: there is no such topic.
        """
        count = self._topics.get(topic) or self.topics().get(topic)
        if count is None:
            known = ", ".join(self._topics) or "none yet"
            raise NotFoundError(f"log: no topic {topic!r}; create it first (topics: {known})")
        return count

    def places(self, topics: Iterable[str]) -> list[TopicPartition]:
        return [TopicPartition(topic, partition) for topic in topics for partition in range(self.partitions(topic))]

    def ends(self, places: Iterable[TopicPartition]) -> Positions:
        """Up to where everything is committed."""
        return self._offsets({place: OffsetSpec.latest() for place in places})

    def firsts(self, places: Iterable[TopicPartition]) -> Positions:
        return self._offsets({place: OffsetSpec.earliest() for place in places})

    def since(self, times_ms: Mapping[TopicPartition, int]) -> Positions:
        """The first offset of a record not older than that; missing: there is none."""
        found = self._offsets({place: OffsetSpec.for_timestamp(max(0, at)) for place, at in times_ms.items()})
        return {place: offset for place, offset in found.items() if offset >= 0}

    def groups(self) -> list[str]:
        def ask(**how: Any) -> dict[str, Any]:
            return {"groups": self._admin.list_consumer_groups(**how)}

        prefix, found = self.connection.prefix, self._asked("groups", ask, request_timeout=REQUEST_TIMEOUT_S)["groups"]
        return [each.group_id.removeprefix(prefix) for each in found.valid if each.group_id.startswith(prefix)]

    def committed(
        self, group: str, places: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, tuple[int, int]]:
        """What the group has committed of these partitions (None: all): the next offset, and how far it had looked."""
        places = self.places(self.topics()) if places is None else places
        wanted = [KafkaPartition(self.connection.name(place.topic), place.partition) for place in places]

        def ask() -> list[KafkaPartition]:
            found = self._member(group).committed(wanted, REQUEST_TIMEOUT_S)
            for error in (each.error for each in found if each.error is not None):
                raise KafkaException(error)
            return found

        found = self._again(f"positions of group {group!r}", ask)
        prefix = self.connection.prefix
        return {
            TopicPartition(each.topic.removeprefix(prefix), each.partition): (
                each.offset,
                int(each.metadata) if each.metadata else each.offset,
            )
            for each in found
            if each.offset >= 0
        }

    def delete(self, ends: Positions) -> None:
        """Delete what stands before these offsets."""
        if ends:
            before = [KafkaPartition(self.connection.name(at.topic), at.partition, end) for at, end in ends.items()]
            self._asked("expire", self._admin.delete_records, before, request_timeout=REQUEST_TIMEOUT_S)

    def drop(self) -> None:
        """Delete all topics and groups."""
        groups = [self.connection.name(group) for group in self.groups()]
        if groups:
            self._asked("drop", self._admin.delete_consumer_groups, groups, request_timeout=REQUEST_TIMEOUT_S)
        topics = [self.connection.name(topic) for topic in self.topics()]
        if topics:
            self._asked("drop", self._admin.delete_topics, topics)

    def _offsets(self, wanted: Mapping[TopicPartition, OffsetSpec | None]) -> Positions:
        if not wanted:
            return {}
        asked: Any = {KafkaPartition(self.connection.name(at.topic), at.partition): spec for at, spec in wanted.items()}
        results = self._asked(
            "offsets",
            self._admin.list_offsets,
            asked,
            isolation_level=_COMMITTED,
            request_timeout=REQUEST_TIMEOUT_S,
        )
        by_name = {(at.topic, at.partition): result.offset for at, result in results.items()}
        return {place: by_name[self.connection.name(place.topic), place.partition] for place in wanted}

    def _member(self, group: str) -> Consumer:
        """A client by which to ask for what a group has committed; it reads nothing. An admin client crashes where the
        group's coordinator has moved.
        """
        with self._lock:
            if group not in self._members:
                config = {
                    "group.id": self.connection.name(group),
                    "enable.auto.commit": False,
                    # So it waits for a transaction that is about to end.
                    "isolation.level": "read_committed",
                }
                self._members[group] = Consumer(self.connection.config() | config)
            return self._members[group]

    def close(self) -> None:
        with self._lock:
            for member in self._members.values():
                member.close()
            self._members.clear()

    def _asked(self, step: str, ask: Callable[..., Any], *what: Any, **how: Any) -> dict[Any, Any]:
        """The answers, asked for again while the cluster is busy with itself.

        Raises:
            KafkaException: a topic is there already; translated: any other.
        """

        def answers() -> dict[Any, Any]:
            found = {key: future.result(REQUEST_TIMEOUT_S) for key, future in ask(*what, **how).items()}
            # A group that is left out would lose what it has not read.
            for error in (error for answer in found.values() for error in getattr(answer, "errors", ())):
                raise error
            return found

        return self._again(step, answers)

    def _again(self, step: str, ask: Callable[[], _T]) -> _T:
        deadline = time.monotonic() + REQUEST_TIMEOUT_S
        while True:
            try:
                return ask()
            except KafkaException as error:
                code = error.args[0].code()
                if code == KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
                if code not in _PASSING or time.monotonic() > deadline:
                    raise translated(step, error) from None
                time.sleep(_AGAIN_S)
                # What the client believes of the partitions' leaders may be of before a broker's restart.
                self._admin.list_topics(timeout=REQUEST_TIMEOUT_S)
            except TimeoutError:
                servers = self.connection.servers
                raise OverloadError(
                    f"log: {step}: no word from Kafka at {servers} for {REQUEST_TIMEOUT_S} s; is it up, and do the "
                    "settings TIDEGATE_KAFKA_* fit it?",
                    retry_after_s=1,
                ) from None
