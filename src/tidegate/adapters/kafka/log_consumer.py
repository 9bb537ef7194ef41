"""One member of a consumer group on Kafka: reads all partitions, and commits what it wrote and how far it read in one
transaction.

The transactional id is the group's: a new member's first word to the cluster ends what the one before had begun, and
fences it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from tidegate.adapters.kafka.log_cluster import Cluster
from tidegate.adapters.kafka.log_connection import REQUEST_TIMEOUT_S, translated
from tidegate.adapters.kafka.log_ids import Ids
from tidegate.adapters.kafka.log_order import ORDER, encoded
from tidegate.adapters.kafka.log_partitions import Known, Partitions
from tidegate.adapters.kafka.log_writer import PRODUCER, Writer
from tidegate.errors import NotFoundError, TidegateError
from tidegate.ports.log import Appended, Entry, Positions, Record, TopicPartition, check_sizes

#: After this the cluster ends a transaction whose writer says nothing: longer than any batch takes to decide and write.
TRANSACTION_TIMEOUT_MS = 20_000

_CONFIG = PRODUCER | {
    "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
    # The transaction before may still be marking its partitions: it takes some milliseconds.
    "retry.backoff.ms": 5,
    "retry.backoff.max.ms": 200,
}


class KafkaConsumer:
    """Made by `KafkaLog.consumer`. Belongs to one thread at a time."""

    def __init__(
        self,
        cluster: Cluster,
        ids: Ids,
        known: Known,
        group: str,
        topics: Sequence[str],
        *,
        last: Callable[[str], Positions],
    ) -> None:
        """`last` tells how far the group had read at its last poll."""
        connection = cluster.connection
        self._cluster, self._group, self._name = cluster, group, connection.name
        places = cluster.places(topics)
        name = connection.name(group)
        self._producer = Producer(connection.config() | _CONFIG | {"transactional.id": name})
        self._writer = Writer(cluster, ids, self._producer, known)
        try:
            self._producer.init_transactions(REQUEST_TIMEOUT_S)
        except KafkaException as error:
            raise translated(f"join group {group!r}", error) from None
        committed = cluster.committed(group, places)
        # Kafka forgets a group that has not committed for a week; the order that it took has not.
        before = {place: offset for place, (offset, _) in committed.items()} or last(group)
        positions = {place: before.get(place, 0) for place in places}
        self._partitions = Partitions(connection, positions, group, known)
        #: The places after the polls since the last commit.
        self._polls: list[Positions] = []
        for place, end in cluster.ends(places).items():
            known.reaches(place, end)
        if any(place not in committed for place in places):
            # From now on nothing is deleted that this group has not read.
            self.commit()

    def poll(self, limit: int, timeout_ms: int) -> list[Record]:
        records = self._partitions.take(limit, timeout_ms)
        if records:
            self._polls.append(dict(self._partitions.position))
        return records

    def position(self) -> Positions:
        return dict(self._partitions.position)

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """
        Raises:
            NotFoundError: a partition is not one of this member's. Nothing has moved.
        """
        position = self._partitions.position
        for place in positions:
            if place not in position:
                raise NotFoundError(f"log: group {self._group!r} does not read {place.name}")
        if any(position[place] != offset for place, offset in positions.items()):
            self._partitions.seek(position | dict(positions))

    def committed(self) -> Positions:
        committed = self._cluster.committed(self._group, self._partitions.position)
        return {place: offset for place, (offset, _) in committed.items()}

    def commit(self, produced: Sequence[Entry] = ()) -> list[Appended]:
        """As the port says; also raises NotFoundError and UsageError as `KafkaLog.append` does, and OverloadError where
        the cluster can't be reached: nothing was written then, and it may be tried again.
        """
        check_sizes(produced)
        entries = list(produced)
        if self._polls:
            entries.append(Entry(ORDER, self._group, encoded(self._polls), time.time_ns() // 1_000_000))
        addressed = self._writer.address(entries)
        try:
            self._producer.begin_transaction()
        except KafkaException as error:
            raise translated("commit", error) from None
        try:
            appended = self._writer.write(addressed)
            self._producer.send_offsets_to_transaction(
                self._offsets(), self._partitions.consumer.consumer_group_metadata(), REQUEST_TIMEOUT_S
            )
            self._producer.commit_transaction(REQUEST_TIMEOUT_S)
        except (KafkaException, TidegateError) as error:
            ended = self._abort()
            # A client that can go on no more says so, but not why, to whoever produces: leaving tells.
            if ended is not None and ended.args[0].fatal():
                raise translated("commit", ended) from None
            if isinstance(error, TidegateError):
                raise
            raise translated("commit", error) from None
        self._polls.clear()
        self._writer.remember(addressed)
        return appended[: len(produced)]

    def _offsets(self) -> list[KafkaPartition]:
        """The position; beside it, how far it was looked at: nothing but the marks of commits lies between."""
        return [
            KafkaPartition(self._name(place.topic), place.partition, offset, str(self._partitions.end_seen(place)))
            for place, offset in self._partitions.position.items()
        ]

    def _abort(self) -> KafkaException | None:
        """Leave the transaction; where even that fails, this member is at its end, for the reason that is given."""
        try:
            self._producer.abort_transaction(REQUEST_TIMEOUT_S)
        except KafkaException as error:
            return error
        return None

    def close(self) -> None:
        self._partitions.close()
