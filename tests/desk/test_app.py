"""The desk in a process of its own, asked over HTTP."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.desk.stream import PASSWORD, Ports, Stream

ROOT = Path(__file__).resolve().parents[2]


class Served:
    """A desk that can be killed and started again on the same data."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.ports = Ports(data)
        self.stream = Stream(self.ports)
        for name, role in (("mara", "fraud_ops"), ("dana", "data_scientist")):
            self.ports.identity.add_user(name, PASSWORD, frozenset({role}))
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.desk.serve", str(self.data), "http://127.0.0.1:1"],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, f"the desk ended with code {self._process.wait()}"
        self.url = f"http://127.0.0.1:{json.loads(line)['port']}"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=20)

    @contextmanager
    def sign_in(self, name: str) -> Iterator[httpx.Client]:
        with self.client() as client:
            answer = client.post("/sign-in", data={"name": name, "password": PASSWORD})
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
            yield client


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    desk = Served(tmp_path_factory.mktemp("desk"))
    yield desk
    desk.kill()


def test_every_answer_is_fenced_in(desk):
    with desk.client() as client:
        for path in ("/sign-in", "/", "/pulse", "/static/desk.css", "/nothing-here"):
            headers = client.get(path).headers
            assert "frame-ancestors 'none'" in headers["content-security-policy"], path
            assert headers["x-content-type-options"] == "nosniff", path
        assert client.get("/sign-in").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/alerts/tx-1", "/decisions", "/decisions/tx-1", "/customers/customer_A"])
def test_no_page_is_shown_to_strangers(desk, path):
    with desk.client() as client:
        answer = client.get(path)
        assert answer.status_code == 307
        assert answer.headers["location"].startswith("/sign-in")


def test_the_pulse_tells_how_it_goes_and_nothing_of_anyone(desk):
    alert = desk.stream.decide(desk.stream.transaction())
    with desk.client() as client:
        for _ in range(200):
            pulse = client.get("/pulse")
            if pulse.json()["alerts"] and pulse.json()["streams"].get("alerts"):
                break
            threading.Event().wait(0.02)
        assert set(pulse.json()) == {"alerts", "latency_ms", "streams", "lag"}
        assert set(pulse.json()["latency_ms"]) == {"p50", "p99", "max"}
        assert alert.event_id not in pulse.text
        assert client.get("/healthz").json() == {"feed": True}


def test_roles_are_asked_for_on_the_server(desk):
    alert = desk.stream.decide(desk.stream.transaction())
    with desk.sign_in("dana") as client:
        assert client.get("/").headers["location"] == "/decisions"
        page = client.get(f"/decisions/{alert.event_id}").text
        assert "Features" in page
        assert "Reveal" not in page
        assert "Genuine" not in page


def test_another_site_cannot_send_the_sign_in_form(desk):
    with desk.client() as client:
        answer = client.post(
            "/sign-in", data={"name": "mara", "password": PASSWORD}, headers={"Sec-Fetch-Site": "cross-site"}
        )
        assert answer.status_code == 403


def test_a_session_outlives_a_killed_desk(desk):
    with desk.sign_in("mara") as client:
        assert client.get("/").status_code == 200
        cookies = client.cookies
    for _ in range(200):
        if any("token" in file.read_text() for file in (desk.data / "sessions").glob("storage-user-*.json")):
            break
        threading.Event().wait(0.02)
    desk.kill()
    desk.start()
    with desk.client() as client:
        client.cookies = cookies
        assert client.get("/").status_code == 200


def test_a_token_that_is_worth_nothing_any_more_ends_the_session(desk):
    desk.ports.identity.add_user("rosa", PASSWORD, frozenset({"fraud_ops"}))
    with desk.sign_in("rosa") as client:
        assert client.get("/").status_code == 200
        desk.ports.identity.add_user("rosa", PASSWORD, frozenset({"admin"}))
        assert client.get("/").headers["location"] == "/sign-in"
