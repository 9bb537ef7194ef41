"""The log in Kafka against the plain model of one: longer than CI can wait for."""

from __future__ import annotations

from functools import partial

from infra.stack.kafka import Kafka
from tests.contracts.test_log import open_kafka
from tests.contracts.test_log_model import run


def test_kafka_does_as_the_model_does(kafka: Kafka) -> None:
    run(partial(open_kafka, kafka.servers), one_order=False, examples=20, steps=30)
