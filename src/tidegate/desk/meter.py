"""The meter: how fast the stream flows, how far its readers are behind, how long an alert takes from door to desk."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from threading import Lock
from typing import Any

import msgspec

from tidegate.desk.latency import Latencies, nearest_rank
from tidegate.ports.clock import Clock
from tidegate.ports.log import Log
from tidegate.streams.decision import Alert

#: How often the topics are counted.
_COUNT_EVERY_MS = 500

#: How often a point of the charts is made, and how many are kept: five minutes.
SAMPLE_EVERY_MS = 2000
SAMPLES_KEPT = 150

#: The latency in a chart's point is over alerts of this long: with few alerts a shorter span would only flicker.
_LATENCY_SPAN_MS = 10_000

#: Latencies kept for that span: 1,000 alerts a second.
_LATENCIES_KEPT = 10_000


class Sample(msgspec.Struct, frozen=True):
    """One point of the charts: records a second by topic, latency in milliseconds (None: no alert came)."""

    time_ms: int
    per_second: dict[str, float]
    p50_ms: int | None
    p99_ms: int | None


class Meter:
    """Counts all topics of the log and the lag of the consumer groups `groups`. One thread feeds it, any may ask."""

    def __init__(self, log: Log, clock: Clock, groups: Sequence[str]) -> None:
        self._log, self._clock, self._groups = log, clock, tuple(groups)
        self._lock = Lock()
        self._latencies = Latencies()
        self._recent: deque[tuple[int, int]] = deque(maxlen=_LATENCIES_KEPT)
        self._counts: dict[str, int] = {}
        self._lag: dict[str, int] = {}
        self._samples: deque[Sample] = deque(maxlen=SAMPLES_KEPT)
        self._sampled: tuple[int, dict[str, int]] | None = None
        self._counted_ms = 0

    def readable(self, alerts: Sequence[Alert]) -> None:
        """These alerts can be read by the pages from now on. Those of revisions wait for what comes late: how long they
        take says nothing of the way.
        """
        now_ms = self._clock.now_ms()
        with self._lock:
            for alert in alerts:
                if alert.revision is not None:
                    continue
                self._latencies.add(now_ms - alert.accepted_ms)
                self._recent.append((now_ms, now_ms - alert.accepted_ms))

    def count(self) -> None:
        """Count, if it is time to."""
        now_ms = self._clock.now_ms()
        if 0 <= now_ms - self._counted_ms < _COUNT_EVERY_MS:
            return
        counts: dict[str, int] = {}
        for at, end in self._log.ends(self._log.topics()).items():
            counts[at.topic] = counts.get(at.topic, 0) + end
        lag = {group: sum(self._log.lag(group).values()) for group in self._groups}
        with self._lock:
            self._counted_ms, self._counts, self._lag = now_ms, counts, lag
            self._sample(now_ms)

    def _sample(self, now_ms: int) -> None:
        if self._sampled is None:
            self._sampled = (now_ms, self._counts)
            return
        before_ms, before = self._sampled
        if now_ms - before_ms < SAMPLE_EVERY_MS:
            return
        elapsed_s = (now_ms - before_ms) / 1000
        latencies = [took for at, took in self._recent if at > now_ms - _LATENCY_SPAN_MS]
        self._samples.append(
            Sample(
                time_ms=now_ms,
                per_second={topic: (end - before.get(topic, 0)) / elapsed_s for topic, end in self._counts.items()},
                p50_ms=nearest_rank(latencies, 0.5),
                p99_ms=nearest_rank(latencies, 0.99),
            )
        )
        self._sampled = (now_ms, self._counts)

    def samples(self) -> list[Sample]:
        """The points of the charts, the oldest first."""
        with self._lock:
            return list(self._samples)

    def lag(self) -> dict[str, int]:
        """Records that each consumer group has still to read."""
        with self._lock:
            return dict(self._lag)

    def pulse(self) -> dict[str, Any]:
        """How the desk is doing, without any personal data.

        `alerts` is how many alerts came since the desk started; `latency_ms` is over all of them, from the moment the
        door accepted the event until the alert could be read here. `streams` are records by topic since ever, `lag`
        records still to be read by consumer group.
        """
        with self._lock:
            return {
                "alerts": self._latencies.count,
                "latency_ms": {
                    "p50": self._latencies.percentile_ms(0.5),
                    "p99": self._latencies.percentile_ms(0.99),
                    "max": self._latencies.max_ms if self._latencies.count else None,
                },
                "streams": dict(self._counts),
                "lag": dict(self._lag),
            }
