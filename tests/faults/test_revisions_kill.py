"""kill -9 of what revises, over a log that grows: each revision is written once, as if nothing had been."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from pathlib import Path

from tests.hosts.stream import stream
from tests.hosts.test_revisions import SMALL, WAIT_MS, Company, end

from tidegate.adapters.embedded.clock import SystemClock
from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.adapters.embedded.snapshots import EmbeddedSnapshots
from tidegate.hosts import revisions
from tidegate.hosts.revisions import RevisionHost
from tidegate.streams.revision import REVISIONS, Revision, decode_revision

EVENTS = 1500
KILLS = 5
#: So short that kills meet states being kept.
KEEP_EVERY_MS = 20
#: A process that does nothing for so long hangs.
TIMEOUT_S = 60


def _run(folder: Path) -> None:
    revisions._PAUSE_S = 0.01
    log, snapshots = EmbeddedLog(folder / "log.sqlite"), EmbeddedSnapshots(folder / "snapshots")
    host = RevisionHost(log, snapshots, [SMALL], SystemClock(), wait_ms=WAIT_MS, keep_every_ms=KEEP_EVERY_MS)
    host.run(threading.Event())


def test_a_killed_host_revises_as_one_that_never_was(tmp_path: Path) -> None:
    entries = [*stream(EVENTS, seed=11), *end(EVENTS)]
    undisturbed = Company(tmp_path / "undisturbed")
    undisturbed.decide(*entries)
    undisturbed.revise()

    company = Company(tmp_path / "killed")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    written = company.log.consumer("test", [REVISIONS])
    last = undisturbed.revisions()[-1].event_id
    seen: set[str] = set()
    for kill in range(KILLS + 1):
        process = context.Process(target=_run, args=(tmp_path / "killed",))
        process.start()
        share = entries[len(entries) * kill // (KILLS + 1) : len(entries) * (kill + 1) // (KILLS + 1)]
        for start in range(0, len(share), 20):
            company.decide(*share[start : start + 20])
        # Each lives until it has written something, the last until it has written all.
        wanted = {last} if kill == KILLS else set[str]()
        while not seen or not wanted <= seen:
            got = written.poll(10**6, TIMEOUT_S * 1000)
            assert got, "nothing is revised"
            found = (decode_revision(record.value) for record in got)
            seen |= {each.event_id for each in found if isinstance(each, Revision)}
        threading.Event().wait(random.uniform(0, 0.2))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(TIMEOUT_S)

    company.restart()
    company.revise()
    assert company.final() == undisturbed.final()
    numbers: dict[str, int] = {}
    for revision in company.revisions():
        assert revision.number == numbers.get(revision.event_id, 0) + 1
        numbers[revision.event_id] = revision.number
    company.log.close()
    undisturbed.log.close()
