"""kill -9 of the whole company, ten times, while sources send: what was accepted is decided once and kept once."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import msgspec
from tests.e2e.running import ROOT, TIDEGATE, Up

from tidegate.settings import Settings
from tidegate.streams.decision import Decision
from tidegate.wiring import open_identity, open_lake, open_log

KILLS = 10
SENDERS = 4
EVENTS_PER_REQUEST = 5
DRAIN_TIMEOUT_S = 60


class Sender(threading.Thread):
    """A source that sends, again and again until it is told that an event was taken, as a good source does."""

    def __init__(self, number: int, up: Up, api_key: str, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.accepted: list[str] = []
        self._number, self._up, self._over = number, up, over
        self._headers = {"Authorization": f"Bearer {api_key}"}

    def run(self) -> None:
        sent = 0
        while not self._over.is_set():
            events = [_transaction(f"s{self._number}-{sent + i}", self._number) for i in range(EVENTS_PER_REQUEST)]
            sent += EVENTS_PER_REQUEST
            while not self._over.is_set():
                try:
                    url = f"{self._up.door}/v1/streams/transactions/events"
                    answer = httpx.post(url, json=events, headers=self._headers, timeout=5)
                except httpx.HTTPError:
                    self._over.wait(0.05)
                    continue
                assert answer.status_code == 202, answer.text
                self.accepted += [result["event_id"] for result in answer.json()["results"]]
                break


def _transaction(event_id: str, number: int) -> dict[str, object]:
    return {
        "event_id": event_id,
        "event_time": time.time_ns() // 1000,
        "transaction_type": "purchase",
        "channel": "ecommerce",
        "card_present": False,
        "authorisation": "approved",
        "customer_id": f"customer-{number}",
        "pan": "4111111111111111",
        "ip": f"192.0.2.{number}",
        "amount_minor": random.randrange(100, 90_000),
        "currency": "EUR",
    }


def test_kill_of_all_processes_loses_and_doubles_nothing(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    api_key = open_identity(settings).add_source("pos", frozenset({"transactions"}))
    up, over, dice = Up(tmp_path), threading.Event(), random.Random(20260101)
    up.start()
    senders = [Sender(number, up, api_key, over) for number in range(SENDERS)]
    for sender in senders:
        sender.start()
    for _ in range(KILLS):
        over.wait(dice.uniform(0.2, 3.0))
        up.kill()
        up.start()
    over.wait(1)
    over.set()
    for sender in senders:
        sender.join()
    accepted = Counter(event_id for sender in senders for event_id in sender.accepted)
    assert len(accepted) > KILLS * EVENTS_PER_REQUEST, "the sources were kept from sending"

    log = open_log(settings)
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    while log.lag("engine")["transactions"]:
        assert time.monotonic() < deadline, "the engine did not catch up"
        time.sleep(0.1)
    assert up.stop() == 0

    decided = Counter(
        msgspec.json.decode(record.value, type=Decision).event_id
        for record in log.read(dict.fromkeys(log.ends(["decisions"]), 0), limit=1_000_000)
    )
    assert {event_id: decided[event_id] for event_id in accepted} == dict.fromkeys(accepted, 1)
    verified = subprocess.run([*TIDEGATE, "verify", "--all", "--data", str(tmp_path)], cwd=ROOT, check=False)
    assert verified.returncode == 0, "a decision is another than the log says"
    lake = open_lake(settings)
    for table in ("raw.transactions", "curated.transactions", "curated.decisions"):
        kept = Counter(lake.query(f"SELECT event_id FROM {table}").column("event_id").to_pylist())
        assert kept == decided, table
