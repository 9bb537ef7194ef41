"""How a record of the port is a message of Kafka, and the order in which messages of several partitions are taken.

    key, value, timestamp   the record's
    header `id`             the record's id
    header `n`              its number in the call that wrote it

Kafka has an order only within a partition. Across partitions the record with the smallest (timestamp, n, topic,
partition) at the head of its partition is next: what one call wrote is read as it was written, what the door accepted
earlier is read first, and the same records always give the same order.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any
from zlib import crc32

from confluent_kafka import Message

from tidegate.ports.log import Entry, Placed, Record

_ID, _NUMBER = "id", "n"


def partition_of(key: str, partitions: int) -> int:
    """A key finds the same partition in every process, and in every log."""
    return crc32(key.encode()) % partitions


def headers(entry: Entry, number: int) -> list[tuple[str, str | bytes | None]]:
    own: list[tuple[str, str | bytes | None]] = [(_NUMBER, number.to_bytes(4, "big"))]
    return own if entry.id is None else [*own, (_ID, entry.id.encode())]


def placed(message: Message, topic: str) -> Placed:
    """A message that the cluster knows under another topic's name."""
    said: dict[str, Any] = dict(message.headers() or ())
    partition, timestamp_ms = message.partition() or 0, message.timestamp()[1]
    record_id: bytes | None = said.get(_ID)
    record = Record(
        topic,
        partition,
        message.offset() or 0,
        (message.key() or b"").decode("utf-8", "replace"),
        message.value() or b"",
        timestamp_ms,
        None if record_id is None else record_id.decode("utf-8", "replace"),
    )
    return Placed(timestamp_ms, int.from_bytes(said.get(_NUMBER, b""), "big"), topic, partition, record)


def merged(partitions: Iterable[Iterable[Placed]]) -> Iterable[Placed]:
    """In the one order of all; each partition's records stay in theirs."""
    return heapq.merge(*partitions, key=lambda placed: placed[:4])
