"""Kafka in, decisions out: the engine beside a copy, which does the same with Kafka and nothing else.

    python -m benchmarks.kafka

A worker in a process of its own takes `transactions` from a real broker on this machine, batch by batch, and writes one
record for each in one transaction with its position. `copy` writes what it read, `engine` what card_fraud decides.
First all events lie there and the worker takes them as fast as it can; then they come at half of the engine's rate, and
the time from before an event is sent until a reader of committed records has what came of it is measured. Sender and
reader are in another process, beside the broker: on two cores they take from the worker.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from confluent_kafka import Consumer, Producer, TopicPartition
from infra.stack.kafka import Kafka

from benchmarks.events import QUICK, ROOT, company_records

FILLED, MEASURED, TIMED = (2_000, 5_500, 2_000) if QUICK else (5_000, 24_000, 10_000)
PARTITIONS = 3
_BATCH = 4096
_OUT = {"copy": "copied", "engine": "decisions"}
#: A worker that has not taken all by then hangs.
_TIMEOUT_S = 600


def _copy(servers: str, prefix: str, _folder: Path) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"{prefix}copy",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 50,
        }
    )
    topic = f"{prefix}transactions"
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    producer = Producer({"bootstrap.servers": servers, "transactional.id": f"{prefix}copy", "linger.ms": 0})
    producer.init_transactions()
    while True:
        messages = consumer.consume(1, 1.0)
        messages += consumer.consume(_BATCH, 0) if messages else []
        if not messages:
            continue
        producer.begin_transaction()
        for message in messages:
            producer.produce(f"{prefix}{_OUT['copy']}", message.value(), message.key(), headers=message.headers())
        positions = consumer.position([TopicPartition(topic, partition) for partition in range(PARTITIONS)])
        producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata())
        producer.commit_transaction()


def _engine(servers: str, prefix: str, folder: Path) -> None:
    from tidegate.adapters.embedded.clock import SystemClock
    from tidegate.adapters.embedded.snapshots import EmbeddedSnapshots
    from tidegate.hosts.local import LocalHost
    from tidegate.wiring import read_detector

    snapshots = EmbeddedSnapshots(folder / "snapshots")
    detector = read_detector(ROOT / "detectors" / "card_fraud")
    host = LocalHost(_log(servers, prefix), snapshots, [detector], SystemClock(), snapshot_every_ms=30_000)
    host.run(threading.Event())


_WORKERS: dict[str, Callable[[str, str, Path], None]] = {"copy": _copy, "engine": _engine}


def _log(servers: str, prefix: str) -> Any:
    from tidegate.adapters.kafka.log import KafkaLog
    from tidegate.adapters.kafka.log_connection import Connection
    from tidegate.streams.control import DETECTORS
    from tidegate.streams.topics import TOPICS

    log = KafkaLog(Connection(servers=servers, prefix=prefix))
    for topic in (*TOPICS, "copied"):
        log.create(topic, partitions=PARTITIONS)
    log.create(DETECTORS, partitions=1)
    return log


class _Reader:
    """What came out of these events, and when it was seen."""

    def __init__(self, servers: str, topic: str, events: set[str]) -> None:
        self._left = set(events)
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "bench.reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
            }
        )
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        self.count = 0

    def wait(self, count: int, seen: Callable[[str, float], None] = lambda _id, _at: None) -> float:
        """Until there are so many; when that was."""
        deadline = time.monotonic() + _TIMEOUT_S
        while self.count < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {self.count} of {count} came")
            for message in self._consumer.consume(_BATCH, 0.005):
                at, event_id = time.perf_counter(), dict(message.headers() or ())["id"].decode().rpartition(":")[2]
                # A sequence may tell of an event once more.
                if event_id in self._left:
                    self._left.remove(event_id)
                    self.count += 1
                    seen(event_id, at)
        return time.perf_counter()


def _measured(name: str, servers: str, records: list[bytes], rate: float | None) -> dict[str, float]:
    """`rate` is that of the second part, in events/s; None: half of what the first part showed."""
    from tidegate.ports.log import Entry

    prefix = f"{name}."
    log = _log(servers, prefix)
    by_id: dict[str, Entry] = {}
    for record in records:
        event, now_ms = json.loads(record), int(time.time() * 1000)
        by_id[event["event_id"]] = Entry("transactions", event["customer_id"], record, now_ms, event["event_id"])
    entries = list(by_id.values())
    filling, lying, coming = entries[:FILLED], entries[FILLED:][:MEASURED], entries[FILLED + MEASURED :][:TIMED]
    log.append(filling)
    reader = _Reader(servers, f"{prefix}{_OUT[name]}", {str(entry.id) for entry in entries})
    with tempfile.TemporaryDirectory() as folder:
        worker = multiprocessing.get_context("spawn").Process(
            target=_WORKERS[name], args=(servers, prefix, Path(folder)), daemon=True
        )
        worker.start()
        process = psutil.Process(worker.pid)
        try:
            reader.wait(len(filling))
            # It shall find all there at once.
            process.suspend()
            for first in range(0, len(lying), 1000):
                log.append(lying[first : first + 1000])
            cpu_s, began = sum(process.cpu_times()[:2]), time.perf_counter()
            process.resume()
            took = reader.wait(len(filling) + len(lying)) - began
            cpu_s = sum(process.cpu_times()[:2]) - cpu_s
            found = {"events_per_s": len(lying) / took, "events_per_cpu_s": len(lying) / cpu_s}
            rate = rate or found["events_per_s"] / 2
            sent: dict[str, float] = {}
            spent: list[float] = []
            sender = threading.Thread(target=_send, args=(log, coming, rate, sent), daemon=True)
            sender.start()
            reader.wait(len(filling) + len(lying) + len(coming), lambda event_id, at: spent.append(at - sent[event_id]))
            sender.join()
        finally:
            worker.kill()
            worker.join()
            log.close()
    p50, p99 = (float(value) * 1000 for value in np.percentile(spent, [50, 99]))
    return found | {"rate": rate, "p50_ms": p50, "p99_ms": p99}


def _send(log: Any, entries: list[Any], rate: float, sent: dict[str, float]) -> None:
    """At random times. Those that are due at once go in one call."""
    chance, due, waiting = random.Random(7), time.perf_counter(), list[Any]()
    for entry in entries:
        due += chance.expovariate(rate)
        if waiting and due > time.perf_counter():
            log.append(waiting)
            waiting = []
        time.sleep(max(0.0, due - time.perf_counter()))
        sent[entry.id] = due
        waiting.append(entry)
    log.append(waiting)


def main() -> None:
    # Some of them come twice.
    records = company_records()
    with tempfile.TemporaryDirectory() as folder:
        broker = Kafka(Path(folder)).start()
        try:
            engine = _measured("engine", broker.servers, records, None)
            copy = _measured("copy", broker.servers, records, engine["rate"])
        finally:
            broker.stop()
    size = sum(map(len, records)) / len(records)
    found = {"bytes": size, "engine": engine, "copy": copy, "ratio": engine["events_per_s"] / copy["events_per_s"]}
    print(json.dumps(found, indent=2, default=float))


if __name__ == "__main__":
    main()
