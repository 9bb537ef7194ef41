"""`tidegate source`: who sends webhooks is added, given a new secret, paused and removed."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from tests.commands.test_files import Run, run  # noqa: F401  # a fixture
from tests.intake.senders import ORDER, ORDER_MAPPING

from tidegate.intake.decode import Decoded
from tidegate.intake.envelopes import Envelopes
from tidegate.intake.prepare import Origin, Preparer
from tidegate.intake.sources import Sources
from tidegate.settings import Settings
from tidegate.streams.signature import key_of
from tidegate.wiring import open_claims, open_clock, open_keys, open_log


def _secrets(name: str) -> list[str]:
    """As a door that is opened now knows them."""
    clock = open_clock()
    known = Sources(open_log(Settings()), open_keys(Settings()), clock).find(name)
    return known.secrets_at(clock.now_ms()) if known else []


def test_a_source_of_webhooks_lives_and_goes(run: Run) -> None:  # noqa: F811
    add = ("source", "add", "shop", "--stream", "transactions", "--webhook", "standard")
    code, out, err = run(*add)
    assert code == 0, err
    first = out.splitlines()[0]
    assert key_of(first)
    assert _secrets("shop") == [first]
    assert run(*add)[0] == 2, "there is one"

    code, out, _ = run("source", "rotate", "shop", "--keep-hours", "1")
    second = out.splitlines()[0]
    assert (code, _secrets("shop")) == (0, [first, second])
    assert run("source", "rotate", "shop", "--keep-hours", "0", password="whsec_AAAA")[0] == 0
    assert _secrets("shop") == ["whsec_AAAA"]

    assert run("source", "pause", "shop")[0] == 0
    (told,) = json.loads(run("source", "list", "--json")[1])
    assert (told["name"], told["kind"], told["state"]) == ("shop", "standard", "paused")
    assert "secret" not in str(told)
    assert run("source", "resume", "shop")[0] == 0
    assert "active" in run("source", "list")[1]
    assert run("source", "remove", "shop")[0] == 0
    assert _secrets("shop") == []
    assert run("source", "pause", "shop")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "secret"),
    [
        (("--webhook", "stripe"), ""),
        (("--webhook", "standard"), "whsec_!"),
        (("--webhook", "salesforce"), "token"),
        (("--webhook", "salesforce", "--org-id", "12"), "token"),
        (("--webhook", "sap"), '{"keys": []}'),
        (("--webhook", "sap", "--issuer", "i", "--audience", "a"), '{"keys": [{"kty": "oct", "k": "AAAA"}]}'),
        (("--webhook", "standard", "--stream", "labels"), ""),
        (("--webhook", "standard", "--mapping", "nowhere.yaml"), ""),
    ],
)
def test_what_cannot_be_is_refused(run: Run, arguments: tuple[str, ...], secret: str) -> None:  # noqa: F811
    code, _, err = run("source", "add", "shop", "--stream", "transactions", *arguments, password=secret)
    assert code == 2
    assert err.startswith("tidegate: ")
    assert _secrets("shop") == []
    assert run("source", "add", "a/b", "--stream", "transactions", "--webhook", "standard")[0] == 2


def test_a_message_that_was_rejected_goes_through_the_mended_mapping(run: Run, tmp_path: Path) -> None:  # noqa: F811
    from tidegate.wiring import open_identity

    mapping = tmp_path / "orders.yaml"
    mapping.write_text(ORDER_MAPPING)
    add = ("source", "add", "shop", "--stream", "transactions", "--webhook", "standard", "--mapping", str(mapping))
    assert run(*add)[0] == 0
    without = mapping.with_name("without.yaml")
    without.write_text(ORDER_MAPPING.replace("id: string, ", ""))
    assert "Referenced column" in run(*add[:2], "other", *add[3:-1], str(without))[2]

    open_identity(Settings()).add_user("fiona", "correct horse", frozenset({"fraud_ops"}))
    log, preparer = open_log(Settings()), Preparer(Envelopes(open_keys(Settings()), open_claims(Settings())))
    origin = Origin("shop", open_clock().now_ms(), None, "d" * 64)
    (refused,) = preparer.prepare("transactions", [Decoded(dict(ORDER), dict(ORDER), 1)], origin)
    assert isinstance(refused, tuple)
    log.append([refused[1]])
    retry = ("rejected", "retry", "--stream", "transactions", "--as", "fiona", "--json", "--mapping", str(mapping))
    code, out, err = run(*retry, password="correct horse")
    assert (code, json.loads(out or "{}")) == (0, {"taken": 1, "refused": 0, "left": 0}), err
    (record,) = log.read(dict.fromkeys(log.ends(["transactions"]), 0), 10)
    assert msgspec.json.decode(record.value)["amount_minor"] == 1999
