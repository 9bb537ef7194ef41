"""The engine on a real Flink decides what the local host decides, whatever becomes of its task managers and slots."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from infra.stack.flink import FLINK, Flink
from infra.stack.kafka import Kafka
from tests.hosts.simulated import simulated
from typer.testing import CliRunner

from tidegate.adapters.kafka.log import KafkaLog
from tidegate.cli import app
from tidegate.files.mapping import read_mapping
from tidegate.hosts.arrivals import GROUP, arrivals, batches, runs, schemas_of
from tidegate.hosts.parity import append_events
from tidegate.kernel.decide import Kernel
from tidegate.ports.log import Entry, Positions, after
from tidegate.settings import read_settings
from tidegate.streams.control import DETECTORS
from tidegate.streams.decision import DECISIONS, Decision
from tidegate.wiring import open_log, read_detector

ROOT = Path(__file__).resolve().parents[2]
RAW = ROOT.parent / "shared" / "data" / "fdh_raw.parquet"
HANDBOOK = ROOT / "detectors" / "handbook"
MAPPING = ROOT / "mappings" / "handbook.yaml"

ROWS = 3000
LOOK_S = 0.3
DEADLINE_S = 600


@pytest.fixture(scope="module")
def env(kafka: Kafka, flink: Flink) -> dict[str, str]:
    return {
        "TIDEGATE_LOG": f"kafka://{kafka.servers}/flink",
        "TIDEGATE_FLINK": flink.url,
        "TIDEGATE_FLINK_PYTHON": str(FLINK / "bin" / "python"),
        "TIDEGATE_DETECTORS": str(HANDBOOK.parent),
        "TIDEGATE_LIVE": '["handbook"]',
    }


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the handbook's customers, so that windows fill and labels arrive."""
    table = pq.read_table(RAW)
    few = table.filter(pc.less(table["CUSTOMER_ID"], 20)).slice(0, ROWS)
    path = tmp_path_factory.mktemp("handbook") / "raw.parquet"
    pq.write_table(few, path)
    return path


def run(*arguments: object, env: Mapping[str, str]) -> dict:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], env=dict(env))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in {0, 1}, result.output
    return json.loads(result.stdout)


def test_the_simulated_company_whose_events_come_late_and_twice_and_out_of_order(
    env: dict[str, str], tmp_path: Path
) -> None:
    source, mapping, events = simulated(tmp_path)
    detector = ROOT / "detectors" / "card_fraud"
    arguments = (source, "--mapping", mapping, "--detector", detector, "--order", "file")
    found = run("parity", *arguments, "--hosts", "local,flink", env=env)
    assert found["mismatches"] == {"flink": {}}
    assert found["rows"]["flink"] == found["rows"]["local"] >= events


def test_killed_and_rescaled_it_writes_each_decision_once(
    env: dict[str, str], raw: Path, flink: Flink, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env = env | {"TIDEGATE_LOG": env["TIDEGATE_LOG"].replace("/flink", "/killed")}
    source = open_log(read_settings(data=tmp_path))
    append_events(source, raw, read_mapping(MAPPING), order="time", progress=lambda *_: None)
    detector = read_detector(HANDBOOK)
    topics = [*detector.streams, DETECTORS]
    records = [record for batch in batches(source, {}, source.ends(topics)) for record in batch]
    entries = [Entry(each.topic, each.key, each.value, each.timestamp_ms, each.id) for each in records]
    source.close()
    fifth = len(entries) // 5

    for name, value in env.items():
        monkeypatch.setenv(name, value)
    log = open_log(read_settings())
    assert isinstance(log, KafkaLog)
    log.append(entries[:fifth])
    assert run("flink", "submit", env=env)["slots"] == 1
    _until_taken(log, topics)

    log.append(entries[fifth : 2 * fifth])
    flink.kill_manager()
    log.append(entries[2 * fifth : 3 * fifth])
    flink.start_manager()
    _until_taken(log, topics)

    log.append(entries[3 * fifth : 4 * fifth])
    assert run("flink", "rescale", 4, env=env)["slots"] == 4
    log.append(entries[4 * fifth :])
    _until_taken(log, topics)
    assert run("flink", "rescale", 1, env=env)["slots"] == 1
    savepoint = run("flink", "savepoint", "--stop", env=env)["savepoint"]
    assert savepoint.startswith("file:")
    assert run("flink", "status", env=env)["state"] == "FINISHED"

    taken = list(log.history(GROUP, {}, topics))
    ids = [record.id for batch in taken for record in batch]
    assert Counter(ids) == Counter(entry.id for entry in entries)
    decode = msgspec.json.Decoder(Decision).decode
    ends = log.ends([DECISIONS])
    found = [decode(record.value) for batch in batches(log, {}, ends) for record in batch]
    expected = dict(_expected(Kernel(detector), taken))
    assert len(found) == len(expected) == ROWS
    assert {decision.event_id: decision.hash for decision in found} == expected
    log.close()


def _until_taken(log: KafkaLog, topics: list[str]) -> None:
    """Wait until the job has committed all that is in the log."""
    read: Positions = {}
    deadline = time.monotonic() + DEADLINE_S
    ends = {place: end for place, end in log.ends(topics).items() if end}
    while any(read.get(place, 0) < end for place, end in ends.items()):
        assert time.monotonic() < deadline, (read, ends)
        time.sleep(LOOK_S)
        for batch in log.history(GROUP, read, topics):
            read |= after(batch)


def _expected(kernel: Kernel, taken: list) -> Iterator[tuple[str, str]]:
    """What one kernel decides that is given the records in the order in which the job took them."""
    schemas = schemas_of(kernel.detector.streams)
    for batch in taken:
        for part, _ in runs(batch):
            for decision in kernel.decide(arrivals(part, schemas).by_stream).records():
                yield decision.event_id, decision.hash
