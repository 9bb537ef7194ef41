"""Webhooks: what a registered source signed is taken like any event, what nobody signed is not even kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.intake.house import NOW_MS, NOW_US, PERSONAL, House, transaction
from tests.intake.senders import SENDERS, Sender, standard

from tidegate.errors import AccessError
from tidegate.governance.registry import Registry
from tidegate.governance.secrets import seal_secret
from tidegate.intake.limits import MAX_BODY_BYTES, MAX_EVENT_BYTES, MAX_XML_BYTES
from tidegate.intake.verifiers import Sent, verify
from tidegate.streams.signature import new_secret
from tidegate.streams.webhooks import SOURCES, Source

VECTORS = Path(__file__).resolve().parents[2].parent / "shared" / "conformance" / "standard-webhooks"
MORE: dict[str, Any] = json.loads((VECTORS / "more.json").read_text())

Register = Callable[..., None]


@pytest.fixture
def register(house: House) -> Register:
    registry = Registry(house.log, SOURCES, Source)

    def register(name: str, kind: str, *secrets: str, stream: str = "transactions", **given: Any) -> None:
        source = Source(name=name, kind=kind, stream=stream, secrets=[], at_ms=house.clock.ms, **given)  # pyright: ignore[reportArgumentType]
        sealed = [seal_secret(house.keys, source.owner, secret) for secret in secrets]
        registry.put(msgspec.structs.replace(source, secrets=sealed))
        house.clock.ms += 1000

    return register


@pytest.mark.parametrize("case", MORE["verify"], ids=[case["case"] for case in MORE["verify"]])
def test_the_standards_vectors(case: dict[str, Any]) -> None:
    base = MORE["sign"][case["base"]]
    headers = {
        "webhook-id": base["id"],
        "webhook-timestamp": str(base["timestamp"]),
        "webhook-signature": case["signature_header"],
    }
    headers.pop(case.get("omit"), None)
    source = Source(name="s", kind="standard", stream="transactions", secrets=[], at_ms=0)
    sent = Sent(headers, "", base["body"].encode())
    try:
        verify(source, [case.get("secret", base["secret"])], sent, case["now"])
    except AccessError:
        assert not case["accept"]
    else:
        assert case["accept"]


@pytest.mark.parametrize("sender", SENDERS, ids=[sender.name for sender in SENDERS])
def test_each_kind_is_taken_protected_and_once(
    house: House, door: httpx.Client, register: Register, sender: Sender
) -> None:
    register("shop", sender.kind, sender.old_secret, sender.secret, mapping=sender.mapping, **sender.settings)
    for secret in (sender.secret, sender.old_secret, sender.secret):
        answer = door.send(sender.request(door, "shop", secret, house.clock.ms))
        assert answer.status_code == sender.status, answer.text
    if sender.status == 200:
        assert "<Ack>true</Ack>" in answer.text
    else:
        assert [result["duplicate"] for result in answer.json()["results"]] == [True] * sender.events
    records = house.records("transactions")
    assert len(records) == sender.events, house.rejected()
    assert not house.rejected()
    event = msgspec.json.decode(records[0].value)
    assert event["amount_minor"] == 1999
    assert event["customer_id"].startswith("customer_")
    assert PERSONAL["customer_id"].encode() not in records[0].value
    assert b'result="verified",source="shop"} 3.0' in door.get("/metrics").content


@pytest.mark.parametrize("sender", SENDERS, ids=[sender.name for sender in SENDERS])
def test_what_the_source_did_not_sign_is_refused_counted_and_not_kept(
    house: House, door: httpx.Client, register: Register, sender: Sender
) -> None:
    register("shop", sender.kind, sender.secret, mapping=sender.mapping, **sender.settings)
    good = sender.request(door, "shop", sender.secret, house.clock.ms)
    forged = [sender.request(door, "shop", sender.old_secret, house.clock.ms), *sender.forged(door, good)]
    if sender.is_timed:
        forged.append(sender.request(door, "shop", sender.secret, house.clock.ms - 301_000))
        forged.append(sender.request(door, "shop", sender.secret, house.clock.ms + 301_000))
    for request in forged:
        answer = door.send(request)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert not house.records("transactions")
    assert not house.rejected()
    assert f'result="refused",source="shop"}} {len(forged)}.0'.encode() in door.get("/metrics").content


def test_a_message_that_does_not_fit_is_kept_once_and_answered_as_taken(
    house: House, door: httpx.Client, register: Register
) -> None:
    secret = new_secret()
    register("shop", "standard", secret)
    for body in (transaction(currency="EURO"), b"not JSON", [transaction()]):
        for _ in range(2):
            answer = door.send(standard(door, "shop", secret, house.clock.ms, body, message=f"msg_{hash(str(body))}"))
            assert answer.status_code == 202
            assert "problem" in answer.json()["results"][0]
    assert [(told.step, told.source) for told in house.rejected()] == [
        ("validate", "shop"),
        ("decode", "shop"),
        ("decode", "shop"),
    ]


def test_what_has_no_id_is_named_by_the_message(house: House, door: httpx.Client, register: Register) -> None:
    secret = new_secret()
    register("shop", "standard", secret)
    body = transaction()
    del body["event_id"]
    for message in ("msg_1", "msg_1", "msg_2"):
        assert door.send(standard(door, "shop", secret, house.clock.ms, body, message=message)).status_code == 202
    names = {event["event_id"] for event in house.values("transactions")}
    assert len(house.records("transactions")) == len(names) == 2


def test_a_replay_after_a_restart_is_known(house: House, register: Register) -> None:
    secret = new_secret()
    register("shop", "standard", secret)
    for duplicate in (False, True):
        with house.open_door() as door:
            request = standard(door, "shop", secret, house.clock.ms, transaction())
            assert door.send(request).json()["results"][0]["duplicate"] is duplicate


def test_a_paused_source_waits_and_goes_on(house: House, door: httpx.Client, register: Register) -> None:
    secret = new_secret()
    statuses: list[int] = []
    for state in ("active", "paused", "active", "removed"):
        register("shop", "standard", secret, state=state)
        answer = door.send(standard(door, "shop", secret, house.clock.ms, transaction()))
        assert ("retry-after" in answer.headers) == (state == "paused")
        statuses.append(answer.status_code)
    assert statuses == [202, 503, 202, 404]


def test_secrets_end_and_stand_nowhere_in_clear(house: House, door: httpx.Client, register: Register) -> None:
    old, new = new_secret(), new_secret()
    register("shop", "standard", old, new)
    registry = Registry(house.log, SOURCES, Source)
    registry.refresh()
    source = registry.named("shop")
    ending = msgspec.structs.replace(source.secrets[0], until_ms=house.clock.ms + 5000)
    registry.put(msgspec.structs.replace(source, secrets=[ending, source.secrets[1]]))
    house.clock.ms += 1000
    assert door.send(standard(door, "shop", old, house.clock.ms, transaction())).status_code == 202
    house.clock.ms += 5000
    assert door.send(standard(door, "shop", old, house.clock.ms, transaction())).status_code == 401
    assert door.send(standard(door, "shop", new, house.clock.ms, transaction())).status_code == 202
    kept = b"".join(path.read_bytes() for path in house.folder.rglob("*") if path.is_file())
    for secret in (old, new):
        assert secret.removeprefix("whsec_").encode() not in kept


def test_bodies_are_bounded_and_of_the_sources_kind(house: House, door: httpx.Client, register: Register) -> None:
    secret = new_secret()
    register("shop", "standard", secret)

    def status(body: Any, **headers: str) -> int:
        request = standard(door, "shop", secret, house.clock.ms, body)
        request.headers.update(headers)
        return door.send(request).status_code

    assert status(b" " * (MAX_BODY_BYTES + 1)) == 413
    assert status(b'{"a": "' + b"x" * MAX_EVENT_BYTES + b'"}') == 413
    assert status({}, **{"content-type": "text/xml"}) == 415
    assert status({}, **{"content-encoding": "gzip"}) == 415
    register("crm", "salesforce", "a token", org_id="00D5g0000004CX9")
    xml = {"content-type": "text/xml"}
    assert (
        door.post("/v1/webhooks/crm?token=a token", content=b" " * (MAX_XML_BYTES + 1), headers=xml).status_code == 413
    )
    assert door.post("/v1/webhooks/nobody", json={}).status_code == 404
    assert door.post("/v1/webhooks/%2e%2e", json={}).status_code in (404, 422)
    assert not house.rejected()


def test_the_event_mesh_is_agreed_to(door: httpx.Client, register: Register) -> None:
    register("mesh", "sap", "a token of the mesh")
    register("shop", "standard", new_secret())
    asked = {"WebHook-Request-Origin": "eventmesh.example"}
    assert door.options("/v1/webhooks/mesh", headers=asked).headers["webhook-allowed-origin"] == "*"
    assert "webhook-allowed-origin" not in door.options("/v1/webhooks/shop", headers=asked).headers


def test_a_mapping_of_a_source_that_does_not_fit_any_more_holds_no_other_source_up(
    house: House, door: httpx.Client, register: Register
) -> None:
    secret = new_secret()
    register("odd", "standard", secret, mapping="stream: transactions\nfields: {}\n")
    register("shop", "standard", secret)
    assert door.send(standard(door, "odd", secret, house.clock.ms, transaction())).status_code == 202
    assert door.send(standard(door, "shop", secret, house.clock.ms, transaction())).status_code == 202
    assert [told.step for told in house.rejected()] == ["map"]
    assert len(house.records("transactions")) == 1


XML = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">%s]><x>&b;</x>'
HOSTILE = [
    XML % b"",
    XML % b'<!ENTITY c SYSTEM "file:///etc/passwd">',
    b"<a>" * 20_000,
    b"<a>" * 20_000 + b"</a>" * 20_000,
    b"\xff\xfe<\x00",
    b"",
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_xml_is_refused(house: House, door: httpx.Client, register: Register, body: bytes) -> None:
    register("crm", "salesforce", "a token in the address", org_id="00D5g0000004CX9")
    answer = door.post(
        "/v1/webhooks/crm?token=a token in the address", content=body, headers={"content-type": "text/xml"}
    )
    assert answer.status_code == 401
    assert not house.rejected()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    headers=st.dictionaries(
        st.sampled_from(
            [
                *("webhook-id", "webhook-timestamp", "webhook-signature", "stripe-signature"),
                *("x-shopify-hmac-sha256", "authorization", "content-type"),
            ]
        ),
        st.one_of(
            st.text(max_size=40), st.sampled_from([str(NOW_MS // 1000), "v1,", "Bearer ", "t=1,v1=", "text/xml"])
        ),
    ),
    body=st.binary(max_size=60),
    kind=st.sampled_from(["standard", "stripe", "shopify", "salesforce", "sap"]),
)
def test_whatever_comes_unsigned_is_refused_and_nothing_else_happens(
    headers: dict[str, str], body: bytes, kind: Any
) -> None:
    source = Source(name="s", kind=kind, stream="transactions", secrets=[], org_id="00D5g0000004CX9", at_ms=0)
    with pytest.raises(AccessError):
        verify(source, ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], Sent(headers, "", body), NOW_US // 1_000_000)
