"""A version is made ready to go live while the version before goes on deciding."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.hosts.stream import decisions, stream
from tests.hosts.test_rollout import LAX, NEWER, RULES, SMALL, STRICT, Company

from tidegate.hosts import preparation
from tidegate.hosts.controls import controls
from tidegate.hosts.preparation import Preparation
from tidegate.hosts.recovery import restore
from tidegate.hosts.rollout import Rollout
from tidegate.ports.log import Record
from tidegate.streams.control import Candidate, Release, Warm

TIMEOUT_S = 60


@pytest.fixture
def company(tmp_path: Path) -> Generator[Company]:
    company = Company(tmp_path / "company")
    yield company
    company.log.close()


@contextmanager
def running(company: Company) -> Generator[None]:
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        ran = pool.submit(company.host().run, stop)
        yield
        stop.set()
        ran.result(TIMEOUT_S)


def wait(until: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(TIMEOUT_S * 50):
        if until():
            return
        pause.wait(0.02)
    raise AssertionError("it does not come")


def kinds(company: Company) -> list[type]:
    return [type(control) for _, control in controls(company.log)]


def test_what_decided_goes_on_deciding_until_the_next_is_ready(
    company: Company, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entries, may_go_on = stream(300, seed=3), threading.Event()

    def held_back(*given: object) -> object:
        assert may_go_on.wait(TIMEOUT_S)
        return restore(*given)

    monkeypatch.setattr(preparation, "restore", held_back)
    # Only the switch is left to the thread that decides.
    monkeypatch.setattr(Rollout, "_warm_kernel", None)
    company.log.append(entries[:100])
    with running(company), ThreadPoolExecutor(1) as pool:
        released: Future[Release] = pool.submit(company.release, LAX, patience_s=TIMEOUT_S)
        wait(lambda: kinds(company) == [Candidate])
        company.log.append(entries[100:200])
        events = sum(entry.topic == "transactions" for entry in entries[:200])
        wait(lambda: len(decisions(company.log)) == events)
        assert {decision.detector_version for decision in decisions(company.log)} == {SMALL.version}
        may_go_on.set()
        released.result(TIMEOUT_S)
        company.log.append(entries[200:])
        wait(lambda: len(decisions(company.log)) == sum(entry.topic == "transactions" for entry in entries))
    assert kinds(company)[:3] == [Candidate, Warm, Release]
    versions = [decision.detector_version for decision in decisions(company.log)]
    assert versions == [SMALL.version] * events + [NEWER.version] * (len(versions) - events)
    assert company.holds() == {True}
    # It decides as one does that was not made ready.
    monkeypatch.undo()
    other = Company(tmp_path / "other")
    other.log.append(entries[:200])
    other.release(LAX)
    other.log.append(entries[200:])
    other.decide()
    assert [made.features for made in decisions(company.log)] == [made.features for made in decisions(other.log)]
    other.log.close()


def test_one_that_can_not_be_made_ready_goes_live_all_the_same(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Preparation, "_made_ready", lambda _: None)
    entries = stream(60, seed=4)
    company.log.append(entries[:30])
    with running(company):
        wait(lambda: bool(decisions(company.log)))
        company.release(LAX, patience_s=0.1)
        company.log.append(entries[30:])
        wait(lambda: decisions(company.log)[-1].detector_version == NEWER.version)
    assert kinds(company)[:2] == [Candidate, Release]
    assert company.holds() == {True}


def test_another_release_ends_what_is_made_ready(company: Company) -> None:
    company.log.append(stream(30, seed=4))
    host = company.host()
    host.step(0)
    for rules in (LAX, STRICT):
        company.release(rules, patience_s=0.01)
        host.step(0)
        # Once released, nothing is made ready any more.
        assert not [thread for thread in threading.enumerate() if thread.name == "preparation"]
    company.release(RULES, patience_s=0.01)
    company.append_release(RULES, "retired")
    host.step(0)
    assert not [thread for thread in threading.enumerate() if thread.name == "preparation"]


def test_where_no_engine_ever_ran_nothing_is_waited_for(company: Company) -> None:
    company.release(LAX, patience_s=TIMEOUT_S)
    assert kinds(company) == [Release]


def test_a_release_in_the_same_batch_as_its_candidate_is_followed(company: Company) -> None:
    entries = stream(100, seed=5)
    company.log.append(entries[:50])
    company.decide()
    company.release(LAX, patience_s=0.01)
    company.log.append(entries[50:])
    company.decide()
    made: list[str] = [decision.detector_version for decision in decisions(company.log)]
    assert made == sorted(made, key=[SMALL.version, NEWER.version].index)
    assert set(made) == {SMALL.version, NEWER.version}
    assert company.holds() == {True}
    records: list[Record] = [record for record, _ in controls(company.log)]
    assert len(records) >= 2
