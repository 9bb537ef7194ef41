"""`tidegate doctor`: what it says of the version that is live, where the folder has another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.commands.conftest import Run
from tests.hosts.test_rollout import HandClock, texts

from tidegate.hosts.local import LocalHost
from tidegate.hosts.promotion import begin, first_detectors
from tidegate.kernel.detector import version_of
from tidegate.settings import Settings
from tidegate.wiring import open_log, open_snapshots


def test_the_state_is_that_of_the_live_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tidegate: Run) -> None:
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TIDEGATE_DETECTORS", str(tmp_path))
    monkeypatch.setenv("TIDEGATE_LIVE", '["small"]')
    live, changed = texts(), texts() | {"policy.yaml": texts()["policy.yaml"].replace("cap: 100", "cap: 99")}
    assert live != changed
    (tmp_path / "small").mkdir()
    for name, text in changed.items():
        (tmp_path / "small" / name).write_text(text)
    log = open_log(Settings())
    begin(log, "small", live, HandClock())
    host = LocalHost(log, open_snapshots(Settings()), first_detectors(log), HandClock(), snapshot_every_ms=0)
    host._keep()
    host._recovery.close()
    log.close()
    _, out, _ = tidegate("doctor", "--json")
    found = {finding["what"]: finding for finding in json.loads(out)}
    assert f"version {version_of(live)} is live" in found["detector small"]["says"]
    assert f"version {version_of(changed)}, " in found["detector small"]["says"]
    assert found["state of small"]["says"].startswith("windows ")
