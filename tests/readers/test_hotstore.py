"""The reader that keeps the hot store: from any point, once or again, the hot store is what the log says."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest
from tests.contracts.test_hotstore import decision, everything, label, revision, session_event, transaction

from tidegate.adapters.embedded.hotstore import EmbeddedHotStore
from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.errors import FencedError
from tidegate.ports.hotstore import RECENT_KEPT, SESSION_KEPT_MS
from tidegate.ports.log import Entry
from tidegate.readers.hotstore import GROUP, HotStoreReader

JOIN_TIMEOUT_S = 60


class HandClock:
    def __init__(self) -> None:
        self.ms = 0

    def now_ms(self) -> int:
        return self.ms


class Company:
    """A log, a hot store and a clock moved by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = HandClock()
        self.log = EmbeddedLog(folder / "log.sqlite")
        for topic in ("transactions", "labels", "sessions", "decisions", "revisions"):
            self.log.create(topic, partitions=2)
        self.hotstore = self.open("hotstore")

    def open(self, name: str) -> EmbeddedHotStore:
        return EmbeddedHotStore(self.folder / f"{name}.sqlite")

    def reader(self, hotstore: EmbeddedHotStore | None = None) -> HotStoreReader:
        return HotStoreReader(self.log, hotstore or self.hotstore, self.clock)

    def write(self, start: int, end: int) -> None:
        """Five records for each number, some of them before what they are about."""
        entries: list[Entry] = []
        for n in range(start, end):
            rows = [
                ("revisions", revision(1, n)),
                ("decisions", decision(n)),
                ("transactions", transaction(n, customer=f"customer_{'AB'[n % 2]}") | {"card_present": True}),
                ("labels", label(n, is_fraud=n % 2 == 0) | {"event_time": n, "source": "analyst"}),
                ("sessions", session_event(n, "view", session=f"s{n % 2}")),
            ]
            entries += [Entry(topic, f"k{n}", msgspec.json.encode(row), n, f"{topic}-{n}") for topic, row in rows]
        self.log.append(entries)


@pytest.fixture
def company(tmp_path: Path) -> Generator[Company]:
    company = Company(tmp_path)
    yield company
    company.hotstore.close()
    company.log.close()


def test_it_projects_what_the_log_holds(company: Company) -> None:
    company.write(0, 8)
    reader = company.reader()
    assert reader.step(0) == 40
    assert reader.step(0) == 0
    seen = company.hotstore.recent("customer_id", "customer_A", 10)
    assert [(s.event_id, s.outcome, s.is_fraud) for s in seen] == [(f"tx-{n}", "review", True) for n in (6, 4, 2, 0)]
    session = company.hotstore.session("s1")
    assert session is not None
    assert session.actions == {"view": 4}


def test_it_goes_on_from_the_hot_stores_own_positions(company: Company) -> None:
    company.write(0, 3)
    company.reader().step(0)
    company.write(3, 8)
    # Nothing was committed in the log: the hot store alone knows.
    assert company.log.lag(GROUP) == {"transactions": 8, "labels": 8, "sessions": 8, "decisions": 8, "revisions": 8}
    assert company.reader().step(0) == 25


def test_a_hot_store_thrown_away_is_made_anew(company: Company) -> None:
    company.write(0, 8)
    company.clock.ms = 10_000
    reader = company.reader()
    reader.step(0)
    company.clock.ms += 10_000
    reader.step(0)
    assert company.log.lag(GROUP) == {"transactions": 0, "labels": 0, "sessions": 0, "decisions": 0, "revisions": 0}
    anew = company.open("anew")
    assert company.reader(anew).step(0) == 40
    assert everything(anew) == everything(company.hotstore)
    anew.close()


def test_what_does_not_fit_is_passed_over_and_told(company: Company, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    company.write(0, 1)
    secret = b"4111111111111111"
    for topic in ("transactions", "labels", "sessions", "decisions", "revisions"):
        for value in (b"\xff" + secret, b"[]", b'{"event_id": "' + secret + b'"}'):
            company.log.append([Entry(topic, "k", value, 0)])
    company.write(1, 2)
    assert company.reader().step(0) == 25
    assert company.hotstore.transaction("tx-1") is not None
    assert len(caplog.records) == 15
    assert "transactions/" in caplog.text
    assert secret.decode() not in caplog.text


def test_it_drops_what_is_past_its_keeping(company: Company) -> None:
    company.write(0, 2 * RECENT_KEPT + 20)
    reader = company.reader()
    reader.step(0)
    assert company.hotstore.transaction("tx-0") is not None
    company.clock.ms = 3600_000 + SESSION_KEPT_MS
    reader.step(0)
    assert company.hotstore.transaction("tx-0") is None
    assert company.hotstore.session("s0") is None


def test_a_newer_reader_ends_the_one_before(company: Company) -> None:
    older = company.reader()
    company.reader()
    company.clock.ms = 10_000
    with pytest.raises(FencedError):
        older.step(0)
    older.run(threading.Event())


def test_it_runs_until_it_is_stopped(company: Company) -> None:
    stop = threading.Event()
    running = threading.Thread(target=company.reader().run, args=(stop,))
    running.start()
    company.write(0, 8)
    while company.hotstore.decision("tx-7") is None:
        assert running.is_alive()
        stop.wait(0.01)
    stop.set()
    running.join(JOIN_TIMEOUT_S)
    assert not running.is_alive()
    assert sum(company.log.lag(GROUP).values()) == 0
