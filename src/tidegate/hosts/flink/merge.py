"""The records of several partitions in one order: of the heads of all partitions the one with the smallest
(timestamp, n, topic, partition) is next, as a log on Kafka takes them.

What has arrived is let go in that order. While a partition is known to have records that have not arrived, nothing goes
that might belong behind them: a job that catches up meets the partitions together, not one after the other.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from tidegate.ports.log import Placed, Positions, Record, TopicPartition


class Merge:
    """`ends`: up to where partitions are known to reach."""

    def __init__(self, ends: Mapping[TopicPartition, int]) -> None:
        self._awaited = {place: end for place, end in ends.items() if end > 0}
        self._waiting: dict[TopicPartition, deque[Placed]] = {}

    def add(self, arrived: Iterable[Placed]) -> None:
        for placed in arrived:
            place = placed.record.place
            self._waiting.setdefault(place, deque()).append(placed)
            if placed.record.offset + 1 >= self._awaited.get(place, 0):
                self._awaited.pop(place, None)

    def start_at(self, positions: Positions) -> None:
        """All before these places has been taken before."""
        for place, offset in positions.items():
            if offset >= self._awaited.get(place, 0):
                self._awaited.pop(place, None)

    @property
    def waiting(self) -> list[Placed]:
        """Each partition's in their order."""
        return [placed for queue in self._waiting.values() for placed in queue]

    def give_up(self) -> None:
        """Wait for no partition any more: what they are known to reach to may be the marks of transactions."""
        self._awaited.clear()

    def take(self) -> list[Record]:
        """What can go now, in order."""
        return self._take(lambda: all(self._waiting.get(place) for place in self._awaited))

    def take_again(self, count: int) -> list[Record]:
        """So many of what has arrived, as they were taken before a restart."""
        left = iter(range(count))
        return self._take(lambda: next(left, None) is not None)

    def _take(self, more: Callable[[], bool]) -> list[Record]:
        heads = [(queue[0][:4], place) for place, queue in self._waiting.items() if queue]
        heapq.heapify(heads)
        taken: list[Record] = []
        while heads and more():
            _, place = heapq.heappop(heads)
            queue = self._waiting[place]
            taken.append(queue.popleft().record)
            if queue:
                heapq.heappush(heads, (queue[0][:4], place))
        return taken
