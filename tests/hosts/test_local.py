"""The local host: what it writes, and that batches, restarts, snapshots and rivals change nothing of it."""

from __future__ import annotations

import base64
import os
import random
import re
import shutil
import signal
import sqlite3
import threading
from collections.abc import Generator, Mapping
from pathlib import Path

import msgspec
import pytest
from prometheus_client import generate_latest
from tests.hosts.stream import (
    RULES,
    START,
    decisions,
    detector,
    entry,
    everything,
    label,
    open_log,
    stream,
    transaction,
)

from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.adapters.embedded.snapshots import EmbeddedSnapshots
from tidegate.errors import FencedError, StateError
from tidegate.hosts import local
from tidegate.hosts.arrivals import GROUP
from tidegate.hosts.local import LocalHost
from tidegate.kernel.detector import Detector
from tidegate.ports.log import Entry, Positions
from tidegate.ports.snapshots import Arrays
from tidegate.streams.decision import ALERTS, DECISIONS, REJECTED, Alert, Decision, decision_hash
from tidegate.streams.rejected import Rejected

JOIN_TIMEOUT_S = 60
NEVER_MS = 10**12
SMALL = detector()


class HandClock:
    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.ms


class Engine:
    """A log and snapshots in a folder, and hosts that come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = HandClock()
        self.log: EmbeddedLog = open_log(folder)
        self.snapshots = EmbeddedSnapshots(folder / "snapshots")

    def host(self, *detectors: Detector, snapshot_every_ms: int = NEVER_MS) -> LocalHost:
        return LocalHost(
            self.log, self.snapshots, detectors or [SMALL], self.clock, snapshot_every_ms=snapshot_every_ms
        )

    def files(self) -> list[Path]:
        return sorted((self.folder / "snapshots").glob("*.snapshot"))


@pytest.fixture
def engine(tmp_path: Path) -> Generator[Engine]:
    engine = Engine(tmp_path / "engine")
    yield engine
    engine.log.close()


def drain(host: LocalHost) -> int:
    read = 0
    while got := host.step(0):
        read += got
    return read


def leave(host: LocalHost) -> None:
    """Stop a host as a running one is stopped, with a snapshot."""
    stop = threading.Event()
    stop.set()
    host.run(stop)


def written(host: LocalHost) -> None:
    """Wait until the snapshot that was taken is written."""
    host._recovery.settle()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Decision]:
    """The decisions of one host that sees the whole stream at once."""
    engine = Engine(tmp_path_factory.mktemp("undisturbed"))
    engine.log.append(stream(400, seed=7))
    drain(engine.host())
    found = decisions(engine.log)
    engine.log.close()
    assert len(found) == 400
    assert len({decision.outcome for decision in found}) == 3
    assert any(decision.features["frauds"] for decision in found)
    return found


# --- what it writes


def test_a_decision_says_what_decided_it_and_where(engine: Engine) -> None:
    engine.log.append([entry("transactions", transaction(n)) for n in range(2)])
    engine.log.append([entry("labels", label(2, "tx-0", is_fraud=True))])
    engine.log.append([entry("transactions", transaction(2))])
    engine.clock.ms += 7
    assert drain(engine.host()) == 4
    written = everything(engine.log, DECISIONS)
    assert [(r.id, r.key, r.timestamp_ms) for r in written] == [
        (f"small:tx-{n}", f"tx-{n}", engine.clock.ms) for n in range(3)
    ]
    last = msgspec.json.decode(written[2].value, type=Decision)
    assert (last.event_id, last.stream, last.detector, last.outcome) == ("tx-2", "transactions", "small", "approve")
    joined = {"segment": None, "is_denied": False, "new_customers": 0}
    assert last.features == joined | {"amount": 10.0, "payments": 3, "spent": 3000, "merchants": 1, "frauds": 1}
    assert last.hash == decision_hash(last)
    assert set(last.stages_us) == {"queue", "decode", "decide"}
    # What had been read when each was decided: its own record last.
    reads = [sum(msgspec.json.decode(r.value, type=Decision).inputs.values()) for r in written]
    assert reads == [1, 2, 4]
    streams = {f"{topic}/{p}" for topic in SMALL.streams for p in range(3)}
    assert set(last.inputs) == {*streams, "detectors/0"}


def test_an_alert_is_written_for_what_is_not_approved(engine: Engine) -> None:
    engine.log.append([entry("transactions", transaction(n)) for n in range(5)])
    engine.clock.ms += 9
    drain(engine.host())
    [alert] = [msgspec.json.decode(r.value, type=Alert) for r in everything(engine.log, ALERTS)][:1]
    assert alert == Alert(
        event_id="tx-3",
        event_time=transaction(3)["event_time"],
        detector="small",
        detector_version=SMALL.version,
        outcome="review",
        score=50,
        reasons=["4 payments"],
        customer_id="customer_a",
        pan="pan_a",
        pan_bin="411111",
        pan_last4="1111",
        amount_minor=1000,
        currency="EUR",
        channel="pos",
        merchant_id="m1",
        accepted_ms=entry("transactions", transaction(3)).timestamp_ms,
        decided_ms=engine.clock.ms,
    )
    assert [r.id for r in everything(engine.log, ALERTS)] == ["small:tx-3", "small:tx-4"]


def test_labels_alone_decide_nothing(engine: Engine) -> None:
    engine.log.append([entry("labels", label(1, "tx-0", is_fraud=True))])
    host = engine.host()
    assert drain(host) == 1
    assert decisions(engine.log) == []
    assert set(engine.log.lag(GROUP).values()) == {0}


def test_a_version_that_is_joined_is_an_input_of_the_decision(engine: Engine) -> None:
    for n, segment in enumerate(("new", "regular")):
        event = {"event_id": f"customer-{n}", "event_time": START + n, "customer_id": "customer_a", "segment": segment}
        engine.log.append([entry("customers", event), entry("transactions", transaction(n))])
    drain(engine.host())
    found = decisions(engine.log)
    assert [(d.features["segment"], d.versions) for d in found] == [
        ("new", {"customer": START}),
        ("regular", {"customer": START + 1}),
    ]
    read = [sum(offset for place, offset in d.inputs.items() if place.startswith("customers/")) for d in found]
    assert read == [1, 2]


def test_each_detector_decides(engine: Engine) -> None:
    engine.log.append(stream(30, seed=1))
    drain(engine.host(SMALL, detector("other", RULES.replace("> 3", "> 1"))))
    found = decisions(engine.log)
    assert sorted(d.event_id for d in found if d.detector == "small") == sorted(
        d.event_id for d in found if d.detector == "other"
    )
    assert len(found) == 60


def test_what_is_no_event_goes_to_rejected_and_stops_nothing(engine: Engine) -> None:
    whole = transaction(1)
    secret = "4111111111111111"
    bad = {
        "bytes": b"\xff\x00" + secret.encode(),
        "nothing": b"",
        "list": b"[]",
        "empty": b"{}",
        "cut": msgspec.json.encode(whole)[:-10],
        "type": msgspec.json.encode(whole | {"event_id": "type", "amount_minor": secret}),
        "time": msgspec.json.encode(whole | {"event_id": "time", "event_time": 2**70}),
        "null": msgspec.json.encode(whole | {"event_id": "null", "customer_id": None}),
        "other": msgspec.json.encode(whole),
        "twice": msgspec.json.encode(transaction(2)) * 2,
    }
    engine.log.append([entry("transactions", transaction(100))])
    engine.log.append([Entry("transactions", "k", value, 5, record_id) for record_id, value in bad.items()])
    engine.log.append([Entry("labels", "k", b"{}", 6, "label")])
    engine.log.append([entry("transactions", transaction(101))])
    host = engine.host()
    assert drain(host) == 13
    assert [decision.event_id for decision in decisions(engine.log)] == ["tx-100", "tx-101"]
    rejected = [msgspec.json.decode(r.value, type=Rejected) for r in everything(engine.log, REJECTED)]
    assert [(r.stream, r.step, r.accepted_ms, r.sealed) for r in rejected] == [
        *[("transactions", "engine", 5, None)] * 10,
        ("labels", "engine", 6, None),
    ]
    assert len({r.reason for r in rejected}) == 11
    written = b"".join(r.value for r in everything(engine.log, REJECTED))
    assert secret.encode() not in written
    assert base64.b64encode(secret.encode()) not in written
    assert decisions(engine.log)[1].features["payments"] == 2


# --- what must not matter


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_how_the_log_falls_into_batches_does_not_matter(
    engine: Engine, undisturbed: list[Decision], monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(local, "_BATCH_RECORDS", batch)
    engine.log.append(stream(400, seed=7))
    drain(engine.host())
    assert decisions(engine.log) == undisturbed


@pytest.mark.parametrize("snapshots", ["none", "some", "damaged"])
def test_restarts_do_not_matter(engine: Engine, undisturbed: list[Decision], snapshots: str) -> None:
    chance = random.Random(snapshots)
    entries = stream(400, seed=7)
    while entries:
        cut = chance.randrange(1, 60)
        engine.log.append(entries[:cut])
        entries = entries[cut:]
        host = engine.host()
        drain(host)
        if snapshots != "none" and chance.random() < 0.6:
            leave(host)
        if snapshots == "damaged" and engine.files() and chance.random() < 0.5:
            engine.files()[-1].write_bytes(b"damaged")
    assert decisions(engine.log) == undisturbed
    assert bool(engine.files()) == (snapshots != "none")


def test_a_batch_that_was_not_committed_is_decided_again(
    engine: Engine, undisturbed: list[Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = stream(400, seed=7)
    engine.log.append(entries[:200])
    host = engine.host()
    drain(host)
    leave(host)
    engine.log.append(entries[200:])
    host = engine.host()
    with monkeypatch.context() as patched:
        patched.setattr(host._consumer, "commit", lambda _produced: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            host.step(0)
    drain(engine.host())
    assert decisions(engine.log) == undisturbed


def test_a_host_that_was_fenced_writes_nothing_and_ends(engine: Engine, undisturbed: list[Decision]) -> None:
    entries = stream(400, seed=7)
    engine.log.append(entries[:200])
    older = engine.host()
    older.step(0)
    newer = engine.host()
    engine.log.append(entries[200:300])
    with pytest.raises(FencedError):
        older.step(0)
    engine.log.append(entries[300:])
    older.run(threading.Event())
    drain(newer)
    assert decisions(engine.log) == undisturbed


# --- snapshots


def test_snapshots_are_taken_by_the_clock_and_save_reading_the_log_again(
    engine: Engine, undisturbed: list[Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = stream(400, seed=7)
    host = engine.host(snapshot_every_ms=30_000)
    for start in range(0, len(entries), 100):
        engine.log.append(entries[start : start + 100])
        engine.clock.ms += 30_000
        drain(host)
        written(host)
    host._recovery.close()
    assert len(engine.files()) == 2
    read: list[int] = []
    reading = engine.log.read
    monkeypatch.setattr(engine.log, "read", lambda *asked: read.append(1) or reading(*asked))
    engine.host()
    assert read == []
    assert decisions(engine.log) == undisturbed


def test_a_new_version_of_a_detector_starts_warm(engine: Engine) -> None:
    engine.log.append([entry("transactions", transaction(n)) for n in range(10)])
    host = engine.host()
    drain(host)
    leave(host)
    engine.log.append([entry("transactions", transaction(10))])
    drain(engine.host(detector("small", RULES.replace("> 3", "> 10"))))
    found = decisions(engine.log)
    assert len(found) == 11
    assert found[-1].features["payments"] == 11
    assert found[-1].rules["often"] is True
    assert found[-1].detector_version != found[0].detector_version


def test_a_snapshot_of_another_log_is_not_taken(engine: Engine, tmp_path: Path) -> None:
    engine.log.append(stream(50, seed=1))
    host = engine.host()
    drain(host)
    leave(host)
    other = Engine(tmp_path / "other")
    other.snapshots = engine.snapshots
    other.log.append([entry("transactions", transaction(1))])
    drain(other.host())
    assert [decision.features["payments"] for decision in decisions(other.log)] == [1]
    other.log.close()


def test_what_a_restart_may_read_again_does_not_expire(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "engine")
    engine.log.close()
    (tmp_path / "short").mkdir()
    engine.log = EmbeddedLog(tmp_path / "short" / "log.sqlite")
    for topic in SMALL.streams:
        engine.log.create(topic, partitions=3, retention_ms=1)
    engine.log.close()
    engine.log = open_log(tmp_path / "short")
    host = engine.host(snapshot_every_ms=1)
    left: list[int] = []
    for n in range(30):
        engine.log.append([entry("transactions", transaction(10 * n + m)) for m in range(10)])
        drain(host)
        engine.log.expire(NEVER_MS * 10)
        engine.clock.ms += 1
        host.step(0)
        written(host)
        left.append(len(everything(engine.log, "transactions")))
    assert left[:2] == [10, 20]
    assert left[-1] < 300
    host._recovery.close()
    # All but the oldest snapshot are damaged: that and the log after it are enough.
    for file in engine.files()[1:]:
        file.write_bytes(b"")
    engine.log.append([entry("transactions", transaction(300))])
    drain(engine.host())
    assert decisions(engine.log)[-1].features["payments"] == 301
    engine.log.close()


class _Killed(EmbeddedSnapshots):
    """What writes a snapshot is killed before it is whole."""

    def save(self, name: str, arrays: Arrays, positions: Positions, meta: Mapping[str, str]) -> None:
        (self._folder / f"{name}.temporary").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_engine_outlives_what_writes_its_snapshots(engine: Engine, undisturbed: list[Decision]) -> None:
    entries, sound = stream(400, seed=7), engine.snapshots
    engine.log.append(entries[:200])
    drain(engine.host())
    engine.snapshots = _Killed(engine.folder / "snapshots")
    host = engine.host(snapshot_every_ms=1)
    for start in range(200, 300, 20):
        engine.log.append(entries[start : start + 20])
        engine.clock.ms += 1
        drain(host)
        written(host)
    host._recovery.close()
    assert engine.files() == []
    engine.snapshots = sound
    host = engine.host()
    engine.log.append(entries[300:])
    drain(host)
    leave(host)
    assert len(engine.files()) == 1
    assert decisions(engine.log) == undisturbed


# --- metrics


def test_what_the_state_takes_is_told(engine: Engine) -> None:
    engine.log.append([entry("transactions", transaction(n)) for n in range(10)])
    host = engine.host()
    drain(host)
    engine.clock.ms += 60_000
    host.step(0)
    told = generate_latest(host.metrics.registry).decode()
    labels = '{detector="small",of="customer_id",part="windows"}'
    assert f"tidegate_engine_state_rows{labels} 10.0" in told
    assert f"tidegate_engine_state_keys{labels} 1.0" in told
    (size,) = re.findall(rf"tidegate_engine_state_bytes{re.escape(labels)} (\S+)", told)
    assert 10_000 < float(size) < 100_000


# --- running


def test_it_runs_until_it_is_stopped_and_leaves_a_snapshot(engine: Engine, undisturbed: list[Decision]) -> None:
    stop = threading.Event()
    running = threading.Thread(target=engine.host().run, args=(stop,))
    running.start()
    entries = stream(400, seed=7)
    for start in range(0, len(entries), 23):
        engine.log.append(entries[start : start + 23])
    reader = engine.log.consumer("test", [DECISIONS])
    seen = 0
    while seen < 400 and running.is_alive():
        seen += len(reader.poll(1000, 1000))
    stop.set()
    running.join(JOIN_TIMEOUT_S)
    reader.close()
    assert not running.is_alive()
    assert decisions(engine.log) == undisturbed
    assert len(engine.files()) == 1


def test_a_log_that_has_forgotten_how_far_it_was_decided_is_not_decided_twice(engine: Engine) -> None:
    engine.log.append(stream(50, seed=7))
    host = engine.host()
    drain(host)
    leave(host)
    with sqlite3.connect(engine.folder / "log.sqlite") as connection:
        connection.execute("UPDATE position SET next_offset = 0 WHERE group_name = 'engine'")
    connection.close()
    with pytest.raises(StateError, match="decided twice"):
        engine.host()
    shutil.rmtree(engine.folder / "snapshots")
    engine.snapshots = EmbeddedSnapshots(engine.folder / "snapshots")
    drain(engine.host())
    assert len(decisions(engine.log)) == 50


def test_its_metrics_tell_what_it_reads_and_writes_and_what_waits(engine: Engine) -> None:
    engine.log.append([entry("transactions", transaction(n)) for n in range(3)])
    host = engine.host()

    def told(name: str, topic: str) -> float:
        samples = [sample for metric in host.metrics.registry.collect() for sample in metric.samples]
        return sum(s.value for s in samples if s.name == f"tidegate_engine_{name}" and s.labels["topic"] == topic)

    assert told("lag_records", "transactions") == 3
    drain(host)
    engine.clock.ms += 5_000
    host.step(0)
    assert told("records_read_total", "transactions") == told("records_written_total", DECISIONS) == 3
    assert told("bytes_read_total", "transactions") == sum(len(r.value) for r in everything(engine.log, "transactions"))
    assert told("lag_records", "transactions") == 0
