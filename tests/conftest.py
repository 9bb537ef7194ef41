"""Hypothesis's profiles, and the real Kafka that tests share. No test depends on how fast the machine is; `fuzz` is the
long run of `make fuzz`.
"""

import os
import shutil
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from infra.stack.kafka import Kafka

settings.register_profile("plain", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", settings.get_profile("plain"), max_examples=10_000)
settings.load_profile("plain")


@pytest.fixture(scope="session")
def java() -> None:
    """What runs on Java runs: everywhere but on a developer's machine that has none, which says so."""
    if shutil.which("java") is None and not os.environ.get("CI"):
        pytest.skip("no java: what needs a real Kafka is not tested here; install a Java 17 and Maven")


@pytest.fixture(scope="session")
def kafka(java: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker that all tests of a run share: each test takes a prefix of its own for its topics and groups."""
    broker = Kafka(tmp_path_factory.mktemp("kafka")).start()
    yield broker
    broker.stop()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--corruptions", type=int, default=20, help="Damaged files of each format that are tried.")
