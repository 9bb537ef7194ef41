"""A desk in a process of its own, as it runs in the company, with a real door and a real reader of the hot store."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn
from playwright.sync_api import Page
from tests.desk.stream import PASSWORD, Ports, Stream

from tidegate.adapters.embedded.claims import EmbeddedClaims
from tidegate.adapters.embedded.keys import EmbeddedKeys
from tidegate.adapters.embedded.schemas import EmbeddedSchemas
from tidegate.intake.http import create_app
from tidegate.ports.log import TopicPartition
from tidegate.readers.hotstore import HotStoreReader

ROOT = Path(__file__).resolve().parents[2]


class Company:
    """What an analyst's screen stands on. The engine's part is played by `stream`."""

    def __init__(self, data: Path) -> None:
        self.ports = Ports(data)
        self.stream = Stream(self.ports)
        for name, role in (("mara", "fraud_ops"), ("audrey", "auditor"), ("dana", "data_scientist")):
            self.ports.identity.add_user(name, PASSWORD, frozenset({role}))
        self._api_key = self.ports.identity.add_source("shop", frozenset({"transactions"}))
        self.keys = EmbeddedKeys(data / "keys")
        door = create_app(
            log=self.ports.log,
            keys=self.keys,
            claims=EmbeddedClaims(data / "claims"),
            identity=self.ports.identity,
            hotstore=self.ports.hotstore,
            schemas=EmbeddedSchemas(data / "schemas.sqlite"),
            audit=self.ports.audit,
            clock=self.ports.clock,
            detector="card_fraud",
        )
        self._server = uvicorn.Server(uvicorn.Config(door, port=0, log_config=None))
        self._stop = threading.Event()
        reader = HotStoreReader(self.ports.log, self.ports.hotstore, self.ports.clock)
        self._threads = [
            threading.Thread(target=self._server.run),
            threading.Thread(target=reader.run, args=[self._stop]),
        ]
        for thread in self._threads:
            thread.start()
        while not self._server.started:
            assert self._threads[0].is_alive()
            time.sleep(0.01)
        self.door = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
        self._desk = subprocess.Popen(
            [sys.executable, "-m", "tests.desk.serve", str(data), self.door], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert self._desk.stdout
        line = self._desk.stdout.readline()
        assert line, f"the desk ended with code {self._desk.wait()}"
        self.desk = f"http://127.0.0.1:{json.loads(line)['port']}"

    def take(self, event: dict[str, Any]) -> dict[str, Any]:
        """Send a transaction to the door; returns it as it stands in the log, protected."""
        headers = {"Authorization": f"Bearer {self._api_key}", "Content-Type": "application/json"}
        response = httpx.post(f"{self.door}/v1/streams/transactions/events", json=event, headers=headers)
        assert response.status_code == 202, response.text
        (answer,) = response.json()["results"]
        place = TopicPartition("transactions", answer["partition"])
        (record,) = self.ports.log.read({place: answer["offset"]}, 1)
        return msgspec.json.decode(record.value)

    def labels(self) -> list[dict[str, Any]]:
        """All labels in the log, in the order they came."""
        places = dict.fromkeys(self.ports.log.ends(["labels"]), 0)
        return [msgspec.json.decode(record.value) for record in self.ports.log.read(places, 10_000)]

    def close(self) -> None:
        self._desk.terminate()
        code = self._desk.wait(20)
        self._server.should_exit = True
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert code in (0, -15)


def sign_in(page: Page, name: str = "mara", password: str = PASSWORD) -> None:
    page.goto("/sign-in")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
