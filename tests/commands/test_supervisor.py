"""A service that dies again and again: the company says so and ends."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from tidegate import supervisor
from tidegate.errors import StateError
from tidegate.supervisor import Service, Start, Supervisor

#: Serves, and dies at once.
DIES = """
import sys
print('{"ready": {}}', flush=True)
print("out of luck", file=sys.stderr)
sys.exit(3)
"""

PATIENCE_S = 120


def test_what_dies_too_often_ends_the_company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MAX_RESTARTS", 2)
    monkeypatch.setattr(supervisor, "_COMMAND", [sys.executable, "-c", DIES])
    given_up, said = threading.Event(), []
    company = Supervisor([Start("engine", {})], tmp_path, say=said.append, given_up=given_up)
    company.services["engine"].spawn()
    threading.Thread(target=company._watch, daemon=True).start()
    try:
        assert given_up.wait(PATIENCE_S)
        with pytest.raises(StateError, match=r"(?s)engine ended 3 times and is not started again.*out of luck"):
            company.check()
    finally:
        company.stop()
    assert said[-1] == "engine ended 3 times: the company stops"


def test_a_company_that_runs_is_not_given_up(tmp_path: Path) -> None:
    company = Supervisor([Start("engine", {})], tmp_path, say=print, given_up=threading.Event())
    assert isinstance(company.services["engine"], Service)
    company.check()
