"""The engine's metrics, in Prometheus' text format: what the state takes, by detector and part. Labels are names of
detectors, streams, columns and sequences: never a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tidegate.kernel.decide import Kernel

_LABELS = ("detector", "part", "of")


class Metrics(Collector):
    """`registry` is what is served. One registry for each host, so that two in one process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._sizes: Sequence[tuple[tuple[str, str, str], tuple[int, int, int]]] = ()
        self.registry.register(self)

    def measure(self, kernels: Iterable[Kernel]) -> None:
        """From now on the state of these kernels is told, as it is now: to be called in their thread."""
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
