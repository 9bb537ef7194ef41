"""A desk that runs in a process of its own, as it does in the company."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page
from tests.browser.door import StandInDoor
from tests.desk.stream import PASSWORD, Ports, Stream

ROOT = Path(__file__).resolve().parents[2]


class Desk:
    """A running desk, and what feeds it."""

    def __init__(self, data: Path) -> None:
        self.ports = Ports(data)
        self.stream = Stream(self.ports)
        for name, role in (("mara", "fraud_ops"), ("audrey", "auditor"), ("dana", "data_scientist")):
            self.ports.identity.add_user(name, PASSWORD, frozenset({role}))
        self.door = StandInDoor(self.ports, self.stream)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.desk.serve", str(data), self.door.start()], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, f"the desk ended with code {self._process.wait()}"
        self.url = f"http://127.0.0.1:{json.loads(line)['port']}"

    def stop(self) -> None:
        self._process.terminate()
        assert self._process.wait(20) in (0, -15)
        self.door.stop()


def sign_in(page: Page, name: str = "mara", password: str = PASSWORD) -> None:
    page.goto("/sign-in")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
