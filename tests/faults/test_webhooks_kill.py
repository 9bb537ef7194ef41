"""kill -9 of what sends webhooks, over and over: every alert arrives, and what arrives twice has one id."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from ipaddress import ip_network
from pathlib import Path

from tests.readers.receiver import Receiver
from tests.readers.test_webhooks import Company

from tidegate.adapters.embedded.clock import SystemClock
from tidegate.adapters.embedded.keys import EmbeddedKeys
from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.readers import delivering, webhooks
from tidegate.readers.posting import Poster
from tidegate.readers.webhooks import WebhookReader

KILLS = 4
ALERTS_A_LIFE = 40


def _run(folder: Path) -> None:
    # Short waits, so that kills meet messages that wait to be sent again.
    webhooks.COMMIT_EVERY_S, delivering.FIRST_WAIT_MS = 0.02, 20
    log, keys = EmbeddedLog(folder / "log.sqlite"), EmbeddedKeys(folder / "keys")
    WebhookReader(log, keys, SystemClock(), Poster([ip_network("127.0.0.0/8"), ip_network("::1/128")])).run(
        threading.Event()
    )


def test_a_killed_sender_loses_nothing(tmp_path: Path) -> None:
    company = Company(tmp_path)
    # Every third request is refused.
    receiver = Receiver(lambda number, message: 503 if number % 3 == 0 else 200)
    receiver.secrets.append(company.subscribe("soc", receiver.url))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    names: set[str] = set()
    for life in range(KILLS + 1):
        process = context.Process(target=_run, args=(tmp_path,))
        process.start()
        names |= set(company.alert(ALERTS_A_LIFE))
        wanted = len(names) if life == KILLS else len(names) - ALERTS_A_LIFE // 2
        receiver.wait(lambda wanted=wanted: len({name for name, _ in receiver.got}) >= wanted)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    ids = {name: message["data"]["event_id"] for name, message in receiver.got}
    assert set(ids.values()) == names
    assert len(ids) == len(names)
    receiver.close()
    company.close()
