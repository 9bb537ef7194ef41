"""Whose turn it is: of all processes that stand by in a group, the one that Kafka gives the group's only partition to.

The partition is that of the topic ORDER, and nothing is read of it here. When the process whose turn it is dies, or
is not heard of for SESSION_TIMEOUT_MS, the next one's turn begins. What the former does in spite of that is fenced at
its next commit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from tidegate.adapters.kafka.log_connection import Connection, translated
from tidegate.adapters.kafka.log_order import ORDER

#: A process that is not heard of for so long has lost its turn: Kafka's least by default.
SESSION_TIMEOUT_MS = 6000

_POLL_S = 0.1


class Turn:
    """One process's place in the row. A thread of its own tells Kafka that the process lives."""

    def __init__(self, connection: Connection, group: str) -> None:
        config = connection.config() | {
            "group.id": connection.name(f"{group}.turn"),
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": SESSION_TIMEOUT_MS // 4,
            "enable.auto.commit": False,
        }
        if connection.instance:
            # A process that starts again under its name has its turn at once, as if it had not been away.
            config["group.instance.id"] = connection.instance
        self._group = group
        self._mine, self._others, self._over = threading.Event(), threading.Event(), threading.Event()
        self._error: KafkaException | None = None
        self._consumer = Consumer(config)
        self._consumer.subscribe([connection.name(ORDER)], on_assign=self._given, on_revoke=self._taken)
        self._thread = threading.Thread(target=self._live, name=f"turn-{group}", daemon=True)
        self._thread.start()

    def wait(self, stop: threading.Event, waiting: Callable[[], None]) -> bool:
        """Until it is this process's turn (True), or `stop` is set. `waiting` is called once if it is another's.

        Raises:
            FencedError: another process stands by under the same name.
        """
        told = False
        while not stop.is_set():
            if self._error is not None:
                raise translated(f"stand by in group {self._group!r}", self._error)
            if self._mine.wait(_POLL_S):
                return True
            if self._others.is_set() and not told:
                waiting()
                told = True
        return False

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._consumer.close()

    def _live(self) -> None:
        try:
            while not self._over.is_set():
                message = self._consumer.poll(_POLL_S)
                if message is not None and (error := message.error()) is not None and error.fatal():
                    raise KafkaException(error)
        except KafkaException as error:
            self._error = error

    def _given(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        if partitions:
            consumer.incremental_assign(partitions)
            consumer.pause(partitions)
            self._mine.set()
        else:
            self._others.set()

    def _taken(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        self._mine.clear()
        consumer.incremental_unassign(partitions)
