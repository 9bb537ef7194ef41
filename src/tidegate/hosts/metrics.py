"""The engine's metrics, in Prometheus' text format: what it reads and writes, by topic and partition, how far it is
behind, and what its state takes, by detector and part. Labels are names of topics, detectors, streams, columns and
sequences: never a value.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tidegate.kernel.decide import Kernel
from tidegate.ports.log import Appended, Entry, Record

_LABELS = ("detector", "part", "of")


class Metrics(Collector):
    """`registry` is what is served. One registry for each host, so that two in one process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._sizes: Sequence[tuple[tuple[str, str, str], tuple[int, int, int]]] = ()
        self._lag: Mapping[str, int] = {}
        self._read, self._read_bytes, self._written = (
            Counter(f"tidegate_engine_{name}", says, labels, registry=self.registry)
            for name, says, labels in (
                ("records_read", "Records read and committed.", ("topic", "partition")),
                ("bytes_read", "Bytes of their values.", ("topic",)),
                ("records_written", "Decisions, alerts and rejected records written.", ("topic", "partition")),
            )
        )
        self._commits = Counter("tidegate_engine_commits", "Transactions committed.", registry=self.registry)
        self.registry.register(self)

    def committed(self, records: Sequence[Record], entries: Sequence[Entry], appended: Sequence[Appended]) -> None:
        """Count a transaction: what was read, and what was written where."""
        self._commits.inc()
        for place, count in Tally(record.place for record in records).items():
            self._read.labels(*place).inc(count)
        for topic in {record.topic for record in records}:
            size = sum(len(record.value) for record in records if record.topic == topic)
            self._read_bytes.labels(topic).inc(size)
        new = [(entry.topic, at.partition) for entry, at in zip(entries, appended, strict=True) if not at.duplicate]
        for place, count in Tally(new).items():
            self._written.labels(*place).inc(count)

    def measure(self, kernels: Iterable[Kernel], lag: Mapping[str, int]) -> None:
        """From now on the state of these kernels is told, as it is now: to be called in their thread. `lag` is the
        records that wait, by topic.
        """
        self._lag = lag
        self._sizes = [
            ((kernel.detector.name, part, of), size) for kernel in kernels for part, of, size in kernel.sizes()
        ]

    def collect(self) -> Iterator[Metric]:
        sizes = self._sizes
        for place, (name, says) in enumerate((
            ("rows", "Rows of windows and sequences, and versions of joined tables, that are kept."),
            ("keys", "Keys that have any."),
            ("bytes", "Memory that these take, with the tables that find them."),
        )):  # fmt: skip
            metric = GaugeMetricFamily(f"tidegate_engine_state_{name}", says, labels=_LABELS)
            for labels, size in sizes:
                metric.add_metric(labels, size[place])
            yield metric
        lag = GaugeMetricFamily("tidegate_engine_lag_records", "Records that wait to be read.", labels=("topic",))
        for topic, waiting in self._lag.items():
            lag.add_metric((topic,), waiting)
        yield lag
