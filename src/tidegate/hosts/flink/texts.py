"""How records cross between the JVM and Python: many in one text, which Flink's SQL puts together and takes apart.

    record   topic US partition US offset US timestamp_ms US n US id US key US value, ended by RS
    entry    topic US key US id US n US timestamp_ms US value, RS between

`n`, `id` and `key` are base64 (of an entry, `n` is hex): whatever they hold, no separator is in them. In a value that
is JSON there is none either; in one that is not, SQL makes of an RS a US, which is no JSON either.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable

from tidegate.ports.log import Entry, Placed, Record

RS, US = "\x1e", "\x1f"

#: Fields of a record before its value.
_HEAD_FIELDS = 7


def read_records(text: str) -> list[Placed]:
    """The records of a micro-batch."""
    read: list[Placed] = []
    for line in text.split(RS):
        if not line:
            continue
        topic, partition, offset, timestamp_ms, number, record_id, key, value = line.split(US, _HEAD_FIELDS)
        record = Record(
            topic,
            int(partition),
            int(offset),
            b64decode(key).decode(),
            value.encode(),
            int(timestamp_ms),
            b64decode(record_id).decode() or None,
        )
        n = int.from_bytes(b64decode(number))
        read.append(Placed(record.timestamp_ms, n, topic, record.partition, record))
    return read


def write_records(placed: Iterable[Placed]) -> str:
    """As `read_records` reads them."""
    lines: list[str] = []
    for each in placed:
        record = each.record
        at = (record.topic, str(record.partition), str(record.offset), str(record.timestamp_ms))
        names = (b64encode(each.number.to_bytes(4)).decode(), _base64(record.id or ""), _base64(record.key))
        lines.append(US.join((*at, *names, record.value.decode())) + RS)
    return "".join(lines)


def write_entries(entries: Iterable[Entry]) -> str:
    """What Flink's SQL is to write to Kafka, in this order."""
    return RS.join(
        US.join(
            (
                entry.topic,
                _base64(entry.key),
                _base64(entry.id or ""),
                f"{number:08x}",
                str(entry.timestamp_ms),
                entry.value.decode(),
            )
        )
        for number, entry in enumerate(entries)
    )


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()
