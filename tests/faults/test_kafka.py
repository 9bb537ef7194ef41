"""Faults with a real Kafka: each event is decided once, as if nothing had been, whatever dies and whenever."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka.admin import AdminClient
from infra.stack.kafka import Kafka
from tests.hosts.stream import PARTITIONS, TOPICS, detector, stream

from tidegate.adapters.embedded.clock import SystemClock
from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.adapters.embedded.snapshots import EmbeddedSnapshots
from tidegate.adapters.kafka import log_consumer
from tidegate.adapters.kafka.log import KafkaLog
from tidegate.adapters.kafka.log_connection import Connection
from tidegate.adapters.kafka.log_writer import Addressed
from tidegate.errors import FencedError, OverloadError
from tidegate.hosts import local
from tidegate.hosts.arrivals import GROUP, batches
from tidegate.hosts.local import LocalHost
from tidegate.ports.log import Appended, Entry, Log, TopicPartition
from tidegate.streams.control import DETECTORS
from tidegate.streams.decision import ALERTS, DECISIONS, Decision

EVENTS = 1500
#: `make faults` asks for 500.
KILLS = int(os.environ.get("TIDEGATE_KILLS", "2"))
#: So short that kills meet snapshots being written.
SNAPSHOT_EVERY_MS = 50
#: What does nothing for so long hangs.
TIMEOUT_S = 120

Spawner = multiprocessing.context.ForkServerContext


def opened(servers: str, prefix: str, instance: str = "") -> KafkaLog:
    log = KafkaLog(Connection(servers=servers, prefix=prefix, instance=instance))
    make(log)
    return log


def make(log: Log) -> None:
    for topic in TOPICS:
        log.create(topic, partitions=PARTITIONS)
    log.create(DETECTORS, partitions=1)


def host(log: Log, folder: Path) -> LocalHost:
    snapshots = EmbeddedSnapshots(folder / "snapshots")
    return LocalHost(log, snapshots, [detector()], SystemClock(), snapshot_every_ms=SNAPSHOT_EVERY_MS)


def _run(servers: str, prefix: str, folder: Path, instance: str) -> None:
    """An engine as its service starts one, and again whenever Kafka was not there for it. Many small commits."""
    local._BATCH_RECORDS = 20
    stop = threading.Event()
    while True:
        try:
            log = opened(servers, prefix, instance)
            assert log.stand_by(GROUP, stop, lambda: None)
            host(log, folder).run(stop)
        except OverloadError:
            time.sleep(0.2)
        else:
            return


@pytest.fixture(scope="module")
def broker(java: None, tmp_path_factory: pytest.TempPathFactory) -> Generator[Kafka]:
    """One that may be killed, and that soon ends transactions whose time is out."""
    settings = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "200"}
    broker = Kafka(tmp_path_factory.mktemp("kafka"), settings=settings).start()
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def forkserver() -> Spawner:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an engine decides on the embedded log that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    log = EmbeddedLog(folder / "log.sqlite")
    make(log)
    log.append(accepted())
    undisturbed = host(log, folder)
    while undisturbed.step(0):
        pass
    undisturbed.close()
    made = decided(log)
    log.close()
    return dict(made)


def accepted() -> list[Entry]:
    """A second apart from one another, so that every log takes them in one order."""
    return [
        Entry(entry.topic, entry.key, entry.value, 1_000 * number, entry.id)
        for number, entry in enumerate(stream(EVENTS, seed=11), start=1)
    ]


def decided(log: Log) -> list[tuple[str, str]]:
    """Event and hash of each decision that readers see."""

    found = (
        msgspec.json.decode(record.value, type=Decision)
        for batch in batches(log, {}, log.ends([DECISIONS]))
        for record in batch
    )
    return [(decision.event_id, decision.hash) for decision in found]


class Watcher:
    """Reads decisions as they can be read."""

    def __init__(self, log: Log) -> None:
        self._log, self.seen = log, 0
        self._at = dict.fromkeys((TopicPartition(DECISIONS, p) for p in range(PARTITIONS)), 0)

    def wait(self, count: int) -> None:
        """Until there are so many."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.seen < count:
            assert time.monotonic() < deadline, f"only {self.seen} of {count} decisions came"
            try:
                records = self._log.read(self._at, 10_000)
            except OverloadError:
                continue
            self.seen += len(records)
            self._at |= {TopicPartition(record.topic, record.partition): record.offset + 1 for record in records}
            if not records:
                time.sleep(0.01)


def once_each(log: Log, expected: dict[str, str]) -> None:
    made = decided(log)
    assert len(made) == len(dict(made)) == len(expected)
    assert dict(made) == expected
    alerts = [record.id for batch in batches(log, {}, log.ends([ALERTS])) for record in batch]
    assert len(alerts) == len(set(alerts))


def test_a_killed_engine_decides_as_one_that_never_was(
    broker: Kafka, tmp_path: Path, forkserver: Spawner, expected: dict[str, str]
) -> None:
    log = opened(broker.servers, "killed.")
    log.append(accepted())
    watcher = Watcher(log)
    for kill in range(1, KILLS + 2):
        process = forkserver.Process(target=_run, args=(broker.servers, "killed.", tmp_path, "one"))
        process.start()
        # From here on the kill comes at any moment of the next transactions.
        watcher.wait(len(expected) if kill > KILLS else max(watcher.seen, len(expected) * kill // (KILLS + 2)))
        time.sleep(random.uniform(0, 0.1))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(TIMEOUT_S)
    once_each(log, expected)
    log.close()


def test_a_broker_that_is_killed_loses_and_doubles_nothing(
    broker: Kafka, tmp_path: Path, forkserver: Spawner, expected: dict[str, str]
) -> None:
    log = opened(broker.servers, "broker.")
    log.append(accepted())
    watcher = Watcher(log)
    process = forkserver.Process(target=_run, args=(broker.servers, "broker.", tmp_path, "one"))
    process.start()
    watcher.wait(len(expected) // 4)
    broker.kill()
    broker.start()
    watcher.wait(len(expected))
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(TIMEOUT_S)
    once_each(log, expected)
    log.close()


def test_one_that_was_paused_beyond_its_session_writes_nothing_when_it_wakes(
    broker: Kafka, tmp_path: Path, forkserver: Spawner, expected: dict[str, str]
) -> None:
    log = opened(broker.servers, "zombie.")
    entries = accepted()
    log.append(entries[: len(entries) // 2])
    watcher = Watcher(log)
    arguments = [(broker.servers, "zombie.", tmp_path / name, name) for name in ("first", "second")]
    first, second = (forkserver.Process(target=_run, args=given) for given in arguments)
    first.start()
    watcher.wait(len(expected) // 8)
    # It stands by until the first one is not heard of any more.
    second.start()
    os.kill(first.pid or 0, signal.SIGSTOP)
    log.append(entries[len(entries) // 2 :])
    watcher.wait(len(expected))
    os.kill(first.pid or 0, signal.SIGCONT)
    first.join(TIMEOUT_S)
    assert first.exitcode == 0, "it goes on, or ended by an error"
    os.kill(second.pid or 0, signal.SIGKILL)
    second.join(TIMEOUT_S)
    once_each(log, expected)
    log.close()


def test_a_transaction_whose_time_is_out_leaves_nothing(broker: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(broker.servers, "late.")
    log.append([Entry("labels", f"k{n}", str(n).encode(), n) for n in range(1, 21)])
    monkeypatch.setitem(log_consumer._CONFIG, "transaction.timeout.ms", 1000)
    slow = log.consumer("copy", ["labels"])
    written = slow._writer.write

    def sleepy(addressed: list[Addressed]) -> list[Appended]:
        appended = written(addressed)
        # What stands behind it in the partition can be read once Kafka has ended the transaction.
        log.append([Entry(DECISIONS, "k1", b"0", 1)])
        Watcher(log).wait(1)
        return appended

    monkeypatch.setattr(slow._writer, "write", sleepy)
    with pytest.raises(FencedError):
        slow.commit([Entry(DECISIONS, r.key, r.value, r.timestamp_ms) for r in slow.poll(20, 0)])
    slow.close()
    quick = log.consumer("copy", ["labels"])
    quick.commit([Entry(DECISIONS, r.key, r.value, r.timestamp_ms) for r in quick.poll(20, 0)])
    quick.close()
    seen = [int(record.value) for batch in batches(log, {}, log.ends([DECISIONS])) for record in batch]
    assert sorted(seen) == list(range(21))
    log.close()


def test_a_group_that_kafka_has_forgotten_goes_on_where_it_was(kafka: Kafka) -> None:
    log = opened(kafka.servers, "forgotten.")
    log.append([Entry("labels", f"k{n}", str(n).encode(), n) for n in range(1, 21)])
    member = log.consumer("copy", ["labels"])
    taken = member.poll(12, 0)
    member.commit()
    member.close()
    # As after a week in which it has committed nothing.
    admin = AdminClient({"bootstrap.servers": kafka.servers})
    admin.delete_consumer_groups(["forgotten.copy"])["forgotten.copy"].result()
    again = log.consumer("copy", ["labels"])
    rest = again.poll(20, 0)
    again.close()
    assert sorted(int(record.value) for record in [*taken, *rest]) == list(range(1, 21))
    assert log.lag("copy") == {"labels": 8}
    log.close()
