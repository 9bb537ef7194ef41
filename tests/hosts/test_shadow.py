"""Shadow versions: they decide beside the live ones, and nothing that becomes of them touches what live decides."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.hosts.stream import decisions, detector, open_log, stream
from tests.hosts.test_rollout import LAX, NEWER, STRICT, Company, HandClock

from tidegate.adapters.embedded import log as embedded
from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.adapters.embedded.snapshots import EmbeddedSnapshots
from tidegate.errors import NotFoundError
from tidegate.hosts import shadow
from tidegate.hosts.diff import shadow_diff
from tidegate.hosts.shadow import SHADOW_TOPICS, ShadowHost
from tidegate.ports.log import TopicPartition
from tidegate.services import limit_memory
from tidegate.streams.decision import DECISIONS, Decision

TIMEOUT_S = 60


def own_log(folder: Path) -> EmbeddedLog:
    log = EmbeddedLog(folder / "shadow.sqlite")
    for topic in SHADOW_TOPICS:
        log.create(topic, partitions=1)
    return log


def host(folder: Path) -> ShadowHost:
    return ShadowHost(open_log(folder), own_log(folder), EmbeddedSnapshots(folder / "snapshots"), HandClock())


def made_by(own: EmbeddedLog) -> list[Decision]:
    records = own.read({TopicPartition(DECISIONS, 0): 0}, 10**6)
    return [msgspec.json.decode(record.value, type=Decision) for record in records]


@pytest.fixture
def company(tmp_path: Path) -> Generator[Company]:
    company = Company(tmp_path)
    yield company
    company.log.close()


def test_a_shadow_decides_from_its_place_what_it_would_decide_live(
    company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = stream(300, seed=3)
    company.log.append(entries[:150])
    company.release(LAX, "shadow")
    company.log.append(entries[150:])
    company.append_release(LAX, "retired")
    company.decide()
    before = (company.log.topics(), company.log.ends(company.log.topics()))
    # Killed again and again between two writes, in batches of all sizes.
    for limit in (1, 70, 7, 4096):
        monkeypatch.setattr(embedded, "_HISTORY_STEP", limit)
        killed = host(tmp_path)
        for _ in range(9):
            killed.step()
    assert (company.log.topics(), company.log.ends(company.log.topics())) == before
    made = made_by(own_log(tmp_path))
    live = Company(tmp_path / "live")
    live.log.append(entries[:150])
    live.append_release(LAX)
    live.log.append(entries[150:])
    live.decide()
    expected = [d for d in decisions(live.log) if d.detector_version == NEWER.version]
    live.log.close()
    assert [d.event_id for d in made] == [d.event_id for d in expected]
    assert [(d.features, d.rules, d.score, d.hash) for d in made] == [
        (d.features, d.rules, d.score, d.hash) for d in expected
    ]


def test_the_difference_is_of_events_that_both_decided(company: Company, tmp_path: Path) -> None:
    own = own_log(tmp_path)
    with pytest.raises(NotFoundError, match="no shadow"):
        shadow_diff(company.log, own, "small")
    entries = stream(200, seed=3)
    company.log.append(entries[:50])
    company.release(STRICT, "shadow")
    company.log.append(entries[50:])
    company.decide()
    while host(tmp_path).step():
        pass
    made = {decision.event_id: decision for decision in made_by(own)}
    found = shadow_diff(company.log, own, "small")
    assert (found.before, found.after) == ("small live", f"small {detector('small', STRICT).version}")
    assert found.events == len(made) > 100
    live = {d.event_id: d for d in decisions(company.log) if d.event_id in made}
    assert found.changed == sum(made[each].outcome != live[each].outcome for each in made) > 0
    assert found.rules["often"].gained == sum(made[e].rules["often"] > live[e].rules["often"] for e in made)


# --- what becomes of its process


def _run(folder: Path, how: str) -> None:
    """A shadow host whose version is what no version should be."""
    if how == "bloats":
        limit_memory(600)
        kept: list[np.ndarray] = []
        stepping = ShadowHost.step

        def step(self: ShadowHost) -> int:
            kept.append(np.ones(4_000_000))
            return stepping(self)

        ShadowHost.step = step  # type: ignore[method-assign]
    if how == "panics":
        shadow.arrivals = lambda *_: (_ for _ in ()).throw(RuntimeError("panic"))  # type: ignore[assignment]
    host(folder).run(threading.Event())


@pytest.fixture(scope="module")
def forkserver() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@pytest.mark.parametrize("how", ["is killed", "stands still", "bloats", "panics"])
def test_what_becomes_of_a_shadow_does_not_touch_what_live_decides(
    company: Company, tmp_path: Path, forkserver: multiprocessing.context.ForkServerContext, how: str
) -> None:
    entries = stream(1200, seed=11)
    undisturbed = Company(tmp_path / "undisturbed")
    for each in (undisturbed, company):
        each.append_release(STRICT, "shadow")
        each.log.append(entries[:400])
    undisturbed.log.append(entries[400:])
    undisturbed.decide()
    company.decide()

    process = forkserver.Process(target=_run, args=(tmp_path, how))
    process.start()
    own = own_log(tmp_path)
    if how in {"is killed", "stands still"}:
        _wait(lambda: bool(made_by(own)))
        os.kill(process.pid or 0, signal.SIGKILL if how == "is killed" else signal.SIGSTOP)
    live = company.host()
    for start in range(400, len(entries), 20):
        company.log.append(entries[start : start + 20])
        live.step(0)
    while live.step(0):
        pass
    if how == "stands still":
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join(TIMEOUT_S)
    assert process.exitcode not in {0, None}
    assert decisions(company.log) == decisions(undisturbed.log)
    # No group of the log is the shadow's: nothing is kept for it.
    assert company.holds() == {True}
    undisturbed.log.close()
    # A sound process goes on from where that one wrote last, and decides each event once.
    while host(tmp_path).step():
        pass
    ids = [decision.event_id for decision in made_by(own)]
    assert sorted(ids) == sorted(decision.event_id for decision in decisions(company.log))


def _wait(until: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(TIMEOUT_S * 50):
        if until():
            return
        pause.wait(0.02)
    raise AssertionError("the shadow decides nothing")
