"""What is read: customers, sessions, clear values, and what the audit trail says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.intake.house import NOW_MS, NOW_US, PASSWORD, PERSONAL, bearer, transaction
from tests.intake.test_events import EVENTS, JSON, problem

from tidegate.errors import DamagedError
from tidegate.intake.limits import SIGN_IN_BURST
from tidegate.intake.protect import reveal
from tidegate.ports.audit import AuditEntry
from tidegate.streams.schema import load_schema

BLNS = Path(__file__).resolve().parents[2].parent / "shared" / "conformance" / "blns" / "blns.json"
REVEAL = "/v1/transactions/tx-1/reveal"


def trail(house):
    return [(entry.who, entry.what, entry.on, entry.outcome) for entry in house.audit.entries()]


def test_a_customer_s_newest_transactions(house, door):
    door.post(EVENTS, json=[transaction(f"tx-{i}", event_time=NOW_US + i) for i in range(5)])
    house.project()
    token, analyst = house.keys.token("customer", PERSONAL["customer_id"]), house.person("analyst")
    listed = door.get(f"/v1/customers/{token}/recent", headers=analyst).json()["transactions"]
    assert [each["event_id"] for each in listed] == ["tx-4", "tx-3", "tx-2", "tx-1", "tx-0"]
    assert listed[0]["customer_id"] == token
    few = door.get(f"/v1/customers/{token}/recent", params={"limit": 2}, headers=analyst).json()["transactions"]
    assert few == listed[:2]
    unknown = house.keys.token("customer", "nobody")
    assert door.get(f"/v1/customers/{unknown}/recent", headers=analyst).json() == {"transactions": []}
    for limit in ("0", "101", "x", "-1"):
        said = problem(door.get(f"/v1/customers/{token}/recent", params={"limit": limit}, headers=analyst), 422)
        assert "query.limit" in said["detail"]
    problem(door.get(f"/v1/customers/{token}/recent"), 403)


def test_a_clear_value_in_an_address_is_refused_and_not_repeated(house, door):
    analyst = house.person("analyst")
    for clear in ("4111111111111111", "cust-000815", "zoe.quixotic@example.org"):
        answer = door.get(f"/v1/customers/{clear}/recent", headers=analyst)
        problem(answer, 422)
        assert clear not in answer.text
        answer = door.get(f"/v1/nothing/{clear}")
        problem(answer, 404)
        assert clear not in answer.text


def test_a_session(house, door):
    analyst = house.person("analyst")
    event = {"event_time": NOW_US, "session_id": "s/ä 1", "customer_id": "cust-1"}
    url = "/v1/streams/sessions/events"
    door.post(url, json=[event | {"event_id": f"e-{i}", "action": "view", "event_time": NOW_US + i} for i in range(3)])
    house.project()
    session = door.get("/v1/sessions/s%2F%C3%A4%201", headers=analyst)
    assert session.json() == {
        "session_id": "s/ä 1",
        "customer_id": house.keys.token("customer", "cust-1"),
        "started": NOW_US,
        "last_seen": NOW_US + 2,
        "actions": {"view": 3},
    }
    problem(door.get("/v1/sessions/none", headers=analyst), 404)
    problem(door.get("/v1/sessions/none"), 403)


def test_signing_in_gives_a_token_and_is_put_on_record(house, door):
    house.identity.add_user("ada", PASSWORD, frozenset({"analyst"}))
    answer = door.post("/v1/sign-in", json={"name": "ada", "password": PASSWORD}, headers={"Authorization": ""})
    assert answer.status_code == 200
    assert door.get("/v1/sessions/none", headers=bearer(answer.json()["token"])).status_code == 404
    wrong = door.post("/v1/sign-in", json={"name": "ada", "password": "not it"})
    nobody = door.post("/v1/sign-in", json={"name": "bob", "password": "not it"})
    assert problem(wrong, 401)["detail"] == problem(nobody, 401)["detail"]
    assert trail(house) == [
        ("ada", "sign_in", "ada", "done"),
        ("ada", "sign_in", "ada", "refused"),
        ("bob", "sign_in", "bob", "refused"),
    ]
    assert {(entry.where, entry.time_ms) for entry in house.audit.entries()} == {("127.0.0.1", NOW_MS)}


def test_signing_in_wants_a_name_and_a_password(house, door):
    for content in (
        b"",
        b"[]",
        b"{",
        b'{"name":"ada"}',
        b'{"name":"ada","password":7}',
        b'{"name":"\xff","password":""}',
        b"[" * 5000,
    ):
        assert "ada" not in problem(door.post("/v1/sign-in", content=content, headers=JSON), 422)["detail"]
    problem(door.post("/v1/sign-in", content=b"name=ada"), 415)
    assert not trail(house)


def test_passwords_cannot_be_tried_out(house, door):
    for _ in range(SIGN_IN_BURST):
        problem(door.post("/v1/sign-in", content=b"{}", headers=JSON), 422)
    answer = door.post("/v1/sign-in", json={"name": "ada", "password": PASSWORD})
    problem(answer, 429)
    assert int(answer.headers["Retry-After"]) >= 1
    house.clock.ms += 3_600_000
    house.identity.add_user("ada", PASSWORD, frozenset({"analyst"}))
    tried = [door.post("/v1/sign-in", json={"name": "ada", "password": "no"}).status_code for _ in range(6)]
    assert tried == [401] * 5 + [429]
    problem(door.post("/v1/sign-in", json={"name": "ada", "password": PASSWORD}), 429)


def test_clear_values_are_revealed_to_who_may_and_it_is_put_on_record(house, door):
    door.post(EVENTS, json=transaction(cvv="987", note={"free": "call 4111111111111111"}))
    house.project()
    ops = house.person("fraud_ops")
    answer = door.post(REVEAL, headers=ops)
    assert answer.status_code == 200
    assert answer.json() == PERSONAL | {"note": {"free": "call 4111111111111111"}}
    assert answer.headers["Cache-Control"] == "no-store"
    for role in ("analyst", "admin", "auditor"):
        problem(door.post(REVEAL, headers=house.person(role)), 403)
    problem(door.post(REVEAL), 403)
    problem(door.post("/v1/transactions/tx-2/reveal", headers=ops), 404)
    assert trail(house) == [
        ("fraud_ops", "reveal", "tx-1", "done"),
        ("analyst", "reveal", "tx-1", "refused"),
        ("admin", "reveal", "tx-1", "refused"),
        ("auditor", "reveal", "tx-1", "refused"),
        ("shop", "reveal", "tx-1", "refused"),
        ("fraud_ops", "reveal", "tx-2", "refused"),
    ]


def test_a_person_who_was_erased_cannot_be_revealed(house, door):
    door.post(EVENTS, json=transaction())
    house.project()
    house.keys.destroy(house.keys.token("customer", PERSONAL["customer_id"]))
    assert problem(door.post(REVEAL, headers=house.person("fraud_ops")), 410)["type"] == "/problems/erased"
    assert trail(house) == [("fraud_ops", "reveal", "tx-1", "refused")]


def test_what_cannot_be_put_on_record_is_not_revealed(house):
    class FullAudit:
        def write(self, entry: AuditEntry) -> None:
            raise DamagedError("audit: the end of the trail is missing")

    house.audit = FullAudit()
    with house.open_door() as door:
        door.post(EVENTS, json=transaction())
        house.project()
        answer = door.post(REVEAL, headers=house.person("fraud_ops"))
        problem(answer, 500)
        assert PERSONAL["email"] not in answer.text
        assert "trail" not in answer.text


def test_every_naughty_string_comes_back_as_it_was_sent(house, door):
    """In a field of its own and in one that the schema does not know; only what is blank is no address."""
    strings = json.loads(BLNS.read_text("utf-8"))
    events = [transaction(f"n-{i}", billing_address=text, unknown={"text": text}) for i, text in enumerate(strings)]
    results = door.post(EVENTS, json=events).json()["results"]
    house.project()
    ops, schema, taken = house.person("fraud_ops"), load_schema("transactions"), 0
    for i, (text, result) in enumerate(zip(strings, results, strict=True)):
        if result["status"] == 422:
            assert not text.strip(), result
            continue
        record = house.hotstore.transaction(f"n-{i}")
        revealed = reveal(house.envelopes, schema, record)
        assert (revealed["billing_address"], revealed["unknown"]) == (text, {"text": text})
        if i % 20 == 0:
            assert door.post(f"/v1/transactions/n-{i}/reveal", headers=ops).json() == revealed
        taken += 1
    assert taken > 450


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
def test_operators_need_no_key(door, path):
    door.headers.pop("Authorization")
    assert door.get(path).status_code == 200
