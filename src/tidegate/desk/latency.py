"""How long it took from the door to the page, all since the start, in bounded memory."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

#: Latencies are counted in buckets of 1 ms up to here: the clock's own grain, so that percentiles are exact. What took
#: longer shares one bucket, whose value is the longest seen.
_BUCKETS_MS = 60_000


class Latencies:
    """Counts of latencies by the millisecond: about 0.5 MB, however many are added."""

    def __init__(self) -> None:
        self._counts = [0] * (_BUCKETS_MS + 1)
        self.count = 0
        self.max_ms = 0

    def add(self, latency_ms: int) -> None:
        """Two clocks may disagree by a little: below nought counts as nought."""
        latency_ms = max(0, latency_ms)
        self._counts[min(latency_ms, _BUCKETS_MS)] += 1
        self.count += 1
        self.max_ms = max(self.max_ms, latency_ms)

    def percentile_ms(self, share: float) -> int | None:
        """The smallest latency that at least `share` (0 to 1) of all do not exceed (nearest rank); None if none is in.

        Exact up to 60 s; beyond that it is the longest seen.
        """
        if not self.count:
            return None
        rank = max(1, -int(-share * self.count // 1))
        bucket = bisect_left(list(accumulate(self._counts)), rank)
        return bucket if bucket < _BUCKETS_MS else self.max_ms


def nearest_rank(values: list[int], share: float) -> int | None:
    """The same percentile over a few values, which need no order; None if there are none."""
    if not values:
        return None
    return sorted(values)[max(1, -int(-share * len(values) // 1)) - 1]
