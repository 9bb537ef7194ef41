"""Quix Streams: a stateful step an entity, one after the other; each wants its own key, so each reads a topic of its
own. State in its RocksDB store, without changelog topics; the model for each event.

Kafka is its only source: librdkafka's mock broker, within the process, with one partition.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import confluent_kafka
from quixstreams import Application, State
from quixstreams.models.topics import TopicAdmin, TopicConfig, TopicManager

from benchmarks.peers.plain import Judge, roll, tested
from benchmarks.peers.serve import Job, serve
from benchmarks.workload import ENTITIES

Event = dict[str, Any]


def _roller(other: str):
    def add(event: Event, state: State) -> Event:
        rows = state.get("rows") or ([], [], [])
        values = roll(rows, event["event_time"], event["amount_minor"], event[other])
        state.set("rows", rows)
        return event | {"features": [*event["features"], *values]}

    return add


def _tested(event: Event, state: State) -> Event:
    tiny_at, done = tested(state.get("tiny_at"), event["event_time"], event["amount_minor"])
    state.set("tiny_at", tiny_at)
    return event | {"card_tested": done}


class _Broker:
    """librdkafka's mock broker, out of confluent-kafka's own library: only so can a topic have one partition."""

    def __init__(self, topics: Iterable[str]) -> None:
        (library,) = Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka-*")
        kafka = ctypes.CDLL(str(library))
        for name in ("conf_new", "new", "mock_cluster_new"):
            getattr(kafka, f"rd_kafka_{name}").restype = ctypes.c_void_p
        kafka.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        said = ctypes.create_string_buffer(512)
        client = kafka.rd_kafka_new(0, ctypes.c_void_p(kafka.rd_kafka_conf_new()), said, len(said))
        self._cluster = ctypes.c_void_p(kafka.rd_kafka_mock_cluster_new(ctypes.c_void_p(client), 1))
        for topic in topics:
            kafka.rd_kafka_mock_topic_create(self._cluster, topic.encode(), 1, 1)
        self.address = kafka.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self._kafka = kafka

    def close(self) -> None:
        self._kafka.rd_kafka_mock_cluster_destroy(self._cluster)


class _Admin(TopicAdmin):
    """The mock broker can't describe its topics."""

    def inspect_topics(self, topic_names: list[str], timeout: float = 30) -> dict[str, TopicConfig]:  # noqa: ARG002
        return {name: TopicConfig(1, 1, {"retention.ms": "-1", "retention.bytes": "-1"}) for name in topic_names}


def run(job: Job) -> None:
    broker = _Broker(f"by_{entity}" for entity in ENTITIES)
    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            broker_address=broker.address,
            consumer_group="bench",
            auto_offset_reset="earliest",
            state_dir=folder,
            use_changelog_topics=False,
            topic_manager=TopicManager(_Admin(broker.address), "bench", auto_create_topics=False),
            loglevel="WARNING",
        )
        topics = {entity: app.topic(f"by_{entity}", key_serializer="str") for entity in ENTITIES}
        frames = {entity: app.dataframe(topic) for entity, topic in topics.items()}
        frames["card"].update(lambda _: job.entered())
        for entity, (_, other) in ENTITIES.items():
            frames[entity] = frames[entity].apply(_roller(other), stateful=True)
        if job.full:
            frames["card"] = frames["card"].apply(_tested, stateful=True)
        for entity, following in pairwise(ENTITIES):
            key = ENTITIES[following][0]
            frames[entity].to_topic(topics[following], key=lambda event, key=key: event[key])
        *_, last = frames.values()
        last.update(_answer(job, app))
        with app.get_producer() as producer:
            for event in job.events.to_pylist():
                message = topics["card"].serialize(event["pan"], event | {"features": []})
                producer.produce("by_card", message.value, message.key)
        app.run()
    broker.close()


def _answer(job: Job, app: Application):
    judge = Judge(job.model).judge if job.full else None

    def answer(event: Event) -> None:
        row = (event["number"], *event["features"])
        if judge:
            done = event["card_tested"]
            row = (*row, done, *judge([(event["features"], event["amount_minor"], done)])[0])
        job.put(row)
        if job.answers == job.events.num_rows:
            app.stop()

    return answer


if __name__ == "__main__":
    serve(run)
