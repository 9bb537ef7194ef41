"""One Flink cluster for all tests of a run: `make flink` makes its environment."""

from collections.abc import Iterator

import pytest
from infra.stack.flink import Flink


@pytest.fixture(scope="session")
def flink(java: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flink]:
    cluster = Flink(tmp_path_factory.mktemp("flink")).start()
    yield cluster
    cluster.stop()
