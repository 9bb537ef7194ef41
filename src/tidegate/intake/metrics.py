"""The door's metrics, in Prometheus' text format. Labels are names of streams, steps and routes: never a value."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

#: Seconds. The door promises milliseconds; a decision may wait up to a second.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """One registry for each door, so that two in one process do not meet."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.events = Counter(
            "tidegate_door_events", "Events by stream and what became of them.", ["stream", "result"], registry=registry
        )
        self.rejected = Counter(
            "tidegate_door_rejected", "Events refused, by stream and step.", ["stream", "step"], registry=registry
        )
        self.webhooks = Counter(
            "tidegate_door_webhooks",
            "Webhooks by source and whether their signature was verified or refused.",
            ["source", "result"],
            registry=registry,
        )
        self.answers = Counter(
            "tidegate_door_answers", "Answers by route and status.", ["route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "tidegate_door_request_seconds", "From request to answer.", ["route"], buckets=_BUCKETS, registry=registry
        )
        self.append_seconds = Histogram(
            "tidegate_door_append_seconds", "One commit of the log.", buckets=_BUCKETS, registry=registry
        )
        self.group_events = Histogram(
            "tidegate_door_group_events",
            "Events in one commit.",
            buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000),
            registry=registry,
        )
        self.queued = Gauge("tidegate_door_queued_events", "Events that wait to be written.", registry=registry)
        self.bytes_in_flight = Gauge(
            "tidegate_door_bytes_in_flight", "Bodies being read, checked or written.", registry=registry
        )
        self.decision_seconds = Histogram(
            "tidegate_door_decision_seconds", "From append to decision.", buckets=_BUCKETS, registry=registry
        )
        self.decisions_pending = Counter(
            "tidegate_door_decisions_pending", "Decisions answered as pending.", registry=registry
        )

    def text(self) -> bytes:
        return generate_latest(self._registry)
