"""All hosts over 200,000 rows of the handbook: longer than CI can wait for."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
from infra.stack.flink import FLINK, Flink
from infra.stack.kafka import Kafka
from tests.flink.conftest import flink  # noqa: F401 - a fixture
from tests.flink.test_flink import HANDBOOK, MAPPING, RAW, run

ROWS = 200_000


def test_the_four_hosts_decide_the_same(kafka: Kafka, flink: Flink, tmp_path: Path) -> None:  # noqa: F811
    pq.write_table(pq.read_table(RAW).slice(0, ROWS), tmp_path / "raw.parquet")
    env = {
        "TIDEGATE_LOG": f"kafka://{kafka.servers}/four",
        "TIDEGATE_FLINK": flink.url,
        "TIDEGATE_FLINK_PYTHON": str(FLINK / "bin" / "python"),
    }
    arguments = (tmp_path / "raw.parquet", "--mapping", MAPPING, "--detector", HANDBOOK)
    found = run("parity", *arguments, "--hosts", "local,kafka,flink,replay", env=env)
    hosts = ("local", "kafka", "flink", "replay")
    assert found == {
        "rows": dict.fromkeys(hosts, ROWS),
        "mismatches": {host: {} for host in hosts[1:]},
        "first": None,
    }
