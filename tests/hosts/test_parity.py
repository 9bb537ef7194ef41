"""The same events give the same decisions, to the bit, over the embedded log, over a real Kafka, and out of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from infra.stack.kafka import Kafka
from tests.hosts.simulated import simulated
from typer.testing import CliRunner

from tidegate.cli import app
from tidegate.hosts.parity import compare

ROOT = Path(__file__).resolve().parents[2]
RAW = ROOT.parent / "shared" / "data" / "fdh_raw.parquet"

ROWS = 6000


def run(*arguments: object, env: dict[str, str]) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(app, ["parity", *map(str, arguments), "--json"], env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in {0, 1}, result.output
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture(scope="module")
def env(kafka: Kafka) -> dict[str, str]:
    return {"TIDEGATE_LOG": f"kafka://{kafka.servers}/parity"}


@pytest.fixture(scope="module")
def handbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the handbook's customers, so that windows fill and labels arrive."""
    table = pq.read_table(RAW)
    few = table.filter(pa.compute.less(table["CUSTOMER_ID"], 20)).slice(0, ROWS)
    assert few.num_rows == ROWS
    path = tmp_path_factory.mktemp("handbook") / "raw.parquet"
    pq.write_table(few, path)
    return path


def test_the_handbook(env: dict[str, str], handbook: Path) -> None:
    arguments = (handbook, "--mapping", ROOT / "mappings" / "handbook.yaml", "--detector", ROOT / "detectors/handbook")
    code, found = run(*arguments, "--hosts", "replay,local,kafka", env=env)
    assert found == {
        "rows": {"replay": ROWS, "local": ROWS, "kafka": ROWS},
        "mismatches": {"local": {}, "kafka": {}},
        "first": None,
    }
    assert code == 0


def test_the_simulated_company_whose_events_come_late_and_twice_and_out_of_order(
    env: dict[str, str], tmp_path: Path
) -> None:
    source, mapping, events = simulated(tmp_path)
    arguments = ("--mapping", mapping, "--detector", ROOT / "detectors" / "card_fraud", "--order", "file")
    code, found = run(source, *arguments, "--hosts", "replay,local,kafka", env=env)
    assert found["mismatches"] == {"local": {}, "kafka": {}}
    assert len(set(found["rows"].values())) == 1
    assert found["rows"]["kafka"] >= events
    assert code == 0


def test_what_differs_is_counted_by_column_and_the_first_is_told() -> None:
    row = {"amount": 1.0, "score": 3, "rules": ["often"]}
    expected = {"a": row, "b": row, "c": row}
    found = {"a": row | {"amount": -0.0}, "b": row | {"rules": [], "amount": 2.0}, "d": row}
    parity = compare({"local": expected, "kafka": found, "replay": expected})
    assert parity.rows == {"local": 3, "kafka": 3, "replay": 3}
    assert parity.mismatches == {"kafka": {"amount": 2, "rules": 1, "event_id": 2}, "replay": {}}
    assert parity.first is not None
    assert (parity.first.host, parity.first.event_id, parity.first.column) == ("kafka", "a", "amount")
    assert not parity.holds


def test_a_zero_differs_from_a_negative_zero() -> None:
    assert not compare({"local": {"a": {"x": 0.0}}, "kafka": {"a": {"x": -0.0}}}).holds
    assert compare({"local": {"a": {"x": None}}, "kafka": {"a": {"x": float("nan")}}}).holds


def test_one_host_alone_has_nothing_to_differ_from(tmp_path: Path) -> None:
    arguments = ["parity", "x.parquet", "--mapping", "m.yaml", "--detector", "d", "--hosts"]
    for hosts in ("local", "local,local", "local,storm"):
        result = CliRunner().invoke(app, [*arguments, hosts])
        assert result.exit_code == 2
        assert "two or more" in result.output
