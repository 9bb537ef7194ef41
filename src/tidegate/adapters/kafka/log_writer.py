"""Writes entries to Kafka: each to its key's partition, none whose id is known to be there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from tidegate.adapters.kafka.log_cluster import MAX_MESSAGE_BYTES, Cluster
from tidegate.adapters.kafka.log_connection import REQUEST_TIMEOUT_S, translated
from tidegate.adapters.kafka.log_ids import Ids, Place
from tidegate.adapters.kafka.log_partitions import Known
from tidegate.adapters.kafka.log_records import headers, partition_of
from tidegate.errors import OverloadError
from tidegate.ports.log import Appended, Entry, TopicPartition

#: A producer whose queue is full makes whoever writes wait, this long at a time.
_FULL_WAIT_S = 0.05

#: What every producer is told.
PRODUCER = {
    "enable.idempotence": True,
    "acks": "all",
    "compression.type": "lz4",
    "linger.ms": 0,
    "message.max.bytes": MAX_MESSAGE_BYTES,
}


class Addressed(NamedTuple):
    """An entry and its partition. One that is not to be written says where its id stands: `there`, or with its `twin`,
    the number of an entry of the same call.
    """

    entry: Entry
    partition: int
    there: Place | None = None
    twin: int | None = None


class Writer:
    """By one producer, in one thread at a time. `known` is told how far topics reach."""

    def __init__(self, cluster: Cluster, ids: Ids, producer: Producer, known: Known) -> None:
        self._cluster, self._ids, self._producer, self._known = cluster, ids, producer, known
        # By the number of an entry in the last call: where it stands.
        self._offsets: dict[int, int] = {}

    def address(self, entries: Sequence[Entry]) -> list[Addressed]:
        """
        Raises:
            NotFoundError: a topic does not exist.
        """
        counts = {topic: self._cluster.partitions(topic) for topic in {entry.topic for entry in entries}}
        first: dict[tuple[str, str], int] = {}
        addressed: list[Addressed] = []
        for number, entry in enumerate(entries):
            partition, there, twin = partition_of(entry.key, counts[entry.topic]), None, number
            if entry.id is not None:
                there = self._ids.find(entry.topic, entry.id)
                twin = first.setdefault((entry.topic, entry.id), number)
            addressed.append(Addressed(entry, partition, there, None if twin == number else twin))
        return addressed

    def write(self, addressed: Sequence[Addressed]) -> list[Appended]:
        """Returns when all is on as many disks as the topics want.

        Raises:
            OverloadError: some of it is not, or may not be.
            KafkaException: the producer takes nothing any more.
        """
        deadline = time.monotonic() + REQUEST_TIMEOUT_S
        offsets = self._offsets = {}
        errors: list[KafkaError] = []

        def delivered(number: int, error: KafkaError | None, message: Message) -> None:
            if error is None:
                offsets[number] = message.offset() or 0
            else:
                errors.append(error)

        new = [number for number, each in enumerate(addressed) if each.there is None and each.twin is None]
        for number in new:
            self._produce(addressed[number], number, partial(delivered, number), deadline)
        try:
            self._producer.flush(max(_FULL_WAIT_S, deadline - time.monotonic()))
        except SystemError as error:
            # The client calls `delivered` while it raises an error of its own: that one is meant.
            raise error.__cause__ or error from None
        if errors:
            raise translated("write", errors[0])
        if len(offsets) < len(new):
            raise OverloadError("log: write: no word from Kafka; try again", retry_after_s=1)
        appended: list[Appended] = []
        for number, each in enumerate(addressed):
            if each.there is not None:
                appended.append(Appended(*each.there, duplicate=True))
            elif each.twin is not None:
                appended.append(msgspec.structs.replace(appended[each.twin], duplicate=True))
            else:
                appended.append(Appended(each.partition, offsets[number], duplicate=False))
        return appended

    def remember(self, addressed: Sequence[Addressed]) -> None:
        """What the last call wrote is there for good."""
        for number, offset in self._offsets.items():
            entry, partition = addressed[number].entry, addressed[number].partition
            self._known.reaches(TopicPartition(entry.topic, partition), offset + 1)
            if entry.id is not None:
                self._ids.add(entry.topic, entry.id, (partition, offset))

    def _produce(self, each: Addressed, number: int, delivered: partial[None], deadline: float) -> None:
        entry = each.entry
        while True:
            try:
                self._producer.produce(
                    self._cluster.connection.name(entry.topic),
                    entry.value,
                    entry.key.encode(),
                    each.partition,
                    on_delivery=delivered,
                    # To the client 0 is the present time.
                    timestamp=max(1, entry.timestamp_ms),
                    headers=headers(entry, number),
                )
            except BufferError:
                if time.monotonic() > deadline:
                    raise OverloadError("log: write: the queue to Kafka is full; try again", retry_after_s=1) from None
                self._producer.poll(_FULL_WAIT_S)
            else:
                return
