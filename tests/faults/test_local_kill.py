"""kill -9 of the engine, over a log that grows: each event is decided once, as if nothing had been."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from pathlib import Path

import pytest
from tests.hosts.stream import decisions, detector, everything, open_log, stream

from tidegate.adapters.embedded.clock import SystemClock
from tidegate.adapters.embedded.snapshots import EmbeddedSnapshots
from tidegate.hosts.local import LocalHost
from tidegate.streams.decision import ALERTS, DECISIONS

EVENTS = 3000
KILLS = 6
#: So short that kills meet snapshots being written.
SNAPSHOT_EVERY_MS = 20
#: A process that does nothing for so long hangs.
TIMEOUT_S = 60


def host(folder: Path) -> LocalHost:
    return LocalHost(
        open_log(folder),
        EmbeddedSnapshots(folder / "snapshots"),
        [detector()],
        SystemClock(),
        snapshot_every_ms=SNAPSHOT_EVERY_MS,
    )


def _run(folder: Path) -> None:
    host(folder).run(threading.Event())


@pytest.fixture(scope="module")
def forkserver() -> multiprocessing.context.ForkServerContext:
    """Processes that have the engine loaded, from a process that never ran it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def test_a_killed_engine_decides_as_one_that_never_was(
    tmp_path: Path, forkserver: multiprocessing.context.ForkServerContext
) -> None:
    entries = stream(EVENTS, seed=11)
    undisturbed = open_log(tmp_path / "undisturbed")
    undisturbed.append(entries)
    alone = host(tmp_path / "undisturbed")
    while alone.step(0):
        pass

    log = open_log(tmp_path / "killed")
    seen = log.consumer("test", [DECISIONS])
    decided = 0
    for kill in range(KILLS + 1):
        process = forkserver.Process(target=_run, args=(tmp_path / "killed",))
        process.start()
        share = entries[len(entries) * kill // (KILLS + 1) : len(entries) * (kill + 1) // (KILLS + 1)]
        # In pieces, so that the engine commits many times; the first piece shows that it lives.
        for start in range(0, len(share), 20):
            log.append(share[start : start + 20])
            if start == 0 or kill == KILLS:
                got = seen.poll(10**6, TIMEOUT_S * 1000)
                assert got, "the engine decides nothing"
                decided += len(got)
        if kill == KILLS:
            while decided < EVENTS:
                got = seen.poll(10**6, TIMEOUT_S * 1000)
                assert got, "the engine stands still"
                decided += len(got)
        else:
            threading.Event().wait(random.uniform(0, 0.2))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(TIMEOUT_S)

    assert decisions(log) == decisions(undisturbed)
    assert [r.id for r in everything(log, ALERTS)] == [r.id for r in everything(undisturbed, ALERTS)]
    assert len(list((tmp_path / "killed" / "snapshots").glob("*.snapshot"))) >= 1
