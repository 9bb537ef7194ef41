"""The order in which a group took the records of several partitions.

Kafka keeps none across partitions, and what a poll finds depends on the moment. So each commit writes, in its own
transaction, how far each of its polls had read. Between two such places the records have one order (log_records.py):
who has the places has the order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from tidegate.ports.log import Positions, Record, TopicPartition

#: The topic of the places, of one partition.
ORDER = "order"
PLACE = TopicPartition(ORDER, 0)

#: Records read at once.
_STEP = 1000

#: Offsets looked through for a group's last place: a group that is new is not there, and must not look for long.
_LOOKED_THROUGH = 100_000

Reading = Callable[[Positions, int], list[Record]]


class _Polls(msgspec.Struct, frozen=True):
    """The places after each poll since the commit before; each as next offsets by topic and partition."""

    ends: list[dict[str, list[int]]]


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(_Polls)


def encoded(polls: Sequence[Positions]) -> bytes:
    ends: list[dict[str, list[int]]] = []
    for positions in polls:
        by_topic: dict[str, list[int]] = {}
        for place in sorted(positions):
            by_topic.setdefault(place.topic, []).append(positions[place])
        ends.append(by_topic)
    return _encode(_Polls(ends))


def _decoded(record: Record) -> Iterator[Positions]:
    for by_topic in _decoder.decode(record.value).ends:
        yield {
            TopicPartition(topic, partition): offset
            for topic, offsets in by_topic.items()
            for partition, offset in enumerate(offsets)
        }


def places(read: Reading, group: str, start: Mapping[TopicPartition, int], first: int, end: int) -> Iterator[Positions]:
    """The places of a group's polls from the first one that is not before `start` on, by the partitions that `start`
    names. The topic ORDER has the offsets from `first` to `end`.
    """
    low, high = first, end
    # The last record of the group that is wholly before `start` stands at `low` or beyond it.
    while any(start.values()) and high - low > _STEP:
        middle = (low + high) // 2
        found = next(_of_group(read, group, middle, high), None)
        if found is not None and all(_is_before(positions, start) for positions in _decoded(found)):
            low = found.offset
        else:
            high = middle
    for record in _of_group(read, group, low, end):
        yield from (positions for positions in _decoded(record) if not _is_before(positions, start))


def last(read: Reading, group: str, first: int, end: int) -> Positions:
    """How far the group had read at its last poll, if that is among the newest of ORDER; else empty."""
    first = max(first, end - _LOOKED_THROUGH)
    while first < end:
        start = max(first, end - _STEP)
        found = list(_of_group(read, group, start, end))
        if found:
            return list(_decoded(found[-1]))[-1]
        end = start
    return {}


def _of_group(read: Reading, group: str, offset: int, end: int) -> Iterator[Record]:
    while offset < end and (records := read({PLACE: offset}, _STEP)):
        yield from (record for record in records if record.key == group and record.offset < end)
        offset = records[-1].offset + 1


def _is_before(positions: Positions, start: Mapping[TopicPartition, int]) -> bool:
    """Whether all that was read then lies before `start`."""
    return all(offset <= start[place] for place, offset in positions.items() if place in start)
