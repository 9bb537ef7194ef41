"""`tidegate webhook`: who is sent alerts is added, tried, paused and removed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.commands.test_files import Run, run  # noqa: F401  # a fixture
from tests.readers.receiver import Receiver


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("TIDEGATE_WEBHOOK_NETWORKS", '["127.0.0.0/8", "::1/128"]')
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_a_subscriber_lives_and_goes(run: Run, receiver: Receiver) -> None:  # noqa: F811
    code, out, err = run("webhook", "add", "soc", f"{receiver.url}/hook", "--topic", "revisions", "--topic", "alerts")
    assert code == 0, err
    receiver.secrets.append(out.strip())
    assert run("webhook", "add", "soc", receiver.url)[0] == 2, "there is one"
    assert run("webhook", "test", "soc") == (0, "soc: status 204\n", "")
    assert [message["type"] for _, message in receiver.got] == ["webhook.test"]

    receiver.secrets.append(run("webhook", "rotate", "soc")[1].strip())
    assert run("webhook", "test", "soc")[0] == 0, "signed with both"
    assert run("webhook", "pause", "soc")[0] == 0
    (told,) = json.loads(run("webhook", "list", "--json")[1])
    assert (told["topics"], told["state"], told["delivered"]) == (["alerts", "revisions"], "paused", 0)
    assert "whsec" not in str(told)
    assert run("webhook", "resume", "soc")[0] == 0
    assert "active: 0 taken, 0 wait, 0 given up" in run("webhook", "list")[1]

    receiver.answers = lambda number, message: 500
    assert run("webhook", "test", "soc") == (1, "soc: status 500\n", "")
    assert run("webhook", "remove", "soc")[0] == 0
    assert json.loads(run("webhook", "list", "--json")[1]) == []
    assert run("webhook", "test", "soc")[0] == 2


def test_inside_the_company_wants_a_setting(run: Run, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.delenv("TIDEGATE_WEBHOOK_NETWORKS")
    assert run("webhook", "add", "soc", receiver.url)[0] == 2
    assert run("webhook", "add", "soc", receiver.url.replace("http:", "https:"))[0] == 0
    code, out, _ = run("webhook", "test", "soc")
    assert (code, "not public" in out) == (1, True)
    assert not receiver.requests
