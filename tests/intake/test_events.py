import json
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from tests.intake.house import NOW_MS, NOW_US, PERSONAL, bearer, transaction

from tidegate.intake.envelopes import CLAIM_BYTES
from tidegate.intake.limits import MAX_BODY_BYTES, MAX_EVENT_BYTES, MAX_EVENTS
from tidegate.intake.protect import open_rejected, reveal
from tidegate.streams.schema import STREAMS, load_schema

EVENTS = "/v1/streams/transactions/events"
NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}


def problem(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    said = answer.json()
    assert said["status"] == status
    assert said["type"].startswith("/problems/")
    assert said["title"]
    assert said["detail"]
    assert said["instance"].startswith("urn:uuid:")
    return said


def test_one_event_is_taken_and_durable_before_the_answer(house, door):
    answer = door.post(EVENTS, json=transaction())
    assert answer.status_code == 202
    [result] = answer.json()["results"]
    [record] = house.records("transactions")
    assert result == {
        "status": 202,
        "event_id": "tx-1",
        "partition": record.partition,
        "offset": record.offset,
        "duplicate": False,
    }
    assert (record.id, record.timestamp_ms) == ("tx-1", NOW_MS)


def test_a_record_holds_the_protected_columns_and_its_key(house, door):
    door.post(EVENTS, json=transaction())
    [record], schema = house.records("transactions"), load_schema("transactions")
    value = msgspec.json.decode(record.value)
    assert value.keys() == {*schema.protected_columns, "sealed", "claim"}
    assert (value["pan_bin"], value["pan_last4"]) == ("411111", "1111")
    assert value["event_time"] == NOW_US
    assert record.key == value["pan"] == house.keys.token("pan", PERSONAL["pan"])
    for field, personal in schema.personal.items():
        assert value[field] == house.keys.token(personal, PERSONAL[field])


def test_without_its_key_field_the_event_id_is_the_key(house, door):
    door.post(EVENTS, json=transaction(pan=None))
    [record] = house.records("transactions")
    assert record.key == "tx-1"
    value = msgspec.json.decode(record.value)
    assert value["pan"] is value["pan_bin"] is value["pan_last4"] is None


def test_every_stream_takes_its_events(house, door):
    for stream in STREAMS:
        _takes(house, door, stream)


def _takes(house, door, stream):
    samples = {"string": "x-1", "long": 1, "double": 1.0, "boolean": True, "timestamp": NOW_US}
    event = {
        field.name: field.symbols[0] if field.kind == "enum" else samples[field.kind]
        for field in load_schema(stream).fields
        if not field.nullable
    } | ({"currency": "EUR"} if stream in ("transactions", "prices", "carts") else {})
    assert door.post(f"/v1/streams/{stream}/events", json=event).status_code == 202
    [value] = house.values(stream)
    assert value.keys() == {*load_schema(stream).protected_columns, "sealed", "claim"}
    has_personal = any(event.get(field) for field in load_schema(stream).personal)
    assert (value["sealed"] is not None) == has_personal


def test_an_unknown_person_s_event_is_sealed_under_its_own_key(house, door):
    event = {"event_id": "s-1", "event_time": NOW_US, "session_id": "v-1", "action": "view", "ip": "203.0.113.77"}
    assert door.post("/v1/streams/sessions/events", json=event).status_code == 202
    [value] = house.values("sessions")
    assert value["customer_id"] is None
    assert value["sealed"]
    assert "203.0.113.77" not in json.dumps(value)


@pytest.mark.parametrize("as_lines", [False, True])
def test_many_events_are_taken_in_order(house, door, as_lines):
    events = [transaction(f"tx-{i}", customer_id=f"c-{i}") for i in range(50)]
    if as_lines:
        content = "\r\n".join(json.dumps(event) for event in events) + "\n\n"
        answer = door.post(EVENTS, content=content, headers=NDJSON)
    else:
        answer = door.post(EVENTS, json=events)
    assert answer.status_code == 202
    results = answer.json()["results"]
    assert [result["event_id"] for result in results] == [event["event_id"] for event in events]
    places = {record.id: (record.partition, record.offset) for record in house.records("transactions")}
    assert {result["event_id"]: (result["partition"], result["offset"]) for result in results} == places


def test_the_same_id_is_one_event_with_one_place(house, door):
    first = door.post(EVENTS, json=transaction()).json()["results"][0]
    again = door.post(EVENTS, json=[transaction(amount_minor=1), transaction("tx-2"), transaction("tx-2")])
    assert again.status_code == 202
    same, new, newer = again.json()["results"]
    assert same == first | {"duplicate": True}
    assert newer == new | {"duplicate": True}
    assert len(house.records("transactions")) == 2


def test_concurrent_identical_requests_are_one_event(house, door):
    together = threading.Barrier(8)

    def send(_):
        together.wait()
        return [door.post(EVENTS, json=transaction(f"tx-{i}")).json()["results"][0] for i in range(10)]

    with ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(send, range(8)))
    for same in zip(*answers, strict=True):
        assert sorted(result.pop("duplicate") for result in same) == [False] + [True] * 7
        assert all(result == same[0] for result in same)
    assert len(house.records("transactions")) == 10


def test_a_part_that_fails_is_told_apart_and_kept(house, door):
    body = [transaction("tx-1"), transaction("tx-2", pan="4111111111111112"), [], transaction("tx-3", channel="fax")]
    answer = door.post(EVENTS, json=body)
    assert answer.status_code == 207
    taken, no_pan, no_object, no_channel = answer.json()["results"]
    assert (taken["status"], taken["event_id"]) == (202, "tx-1")
    said = [
        (each["status"], each["problem"]["step"], each["problem"].get("field"))
        for each in (no_pan, no_object, no_channel)
    ]
    assert said == [(422, "validate", "pan"), (422, "decode", None), (422, "validate", "channel")]
    assert "wanted one of pos, ecommerce, mobile, got a text of 3 characters" in no_channel["problem"]["detail"]
    assert [record.id for record in house.records("transactions")] == ["tx-1"]
    kept = house.rejected()
    assert sorted((each.step, each.field or "") for each in kept) == [
        ("decode", ""),
        ("validate", "channel"),
        ("validate", "pan"),
    ]
    assert {(each.stream, each.source, each.accepted_ms) for each in kept} == {("transactions", "shop", NOW_MS)}


def test_one_that_fails_is_a_problem(house, door):
    said = problem(door.post(EVENTS, json=transaction(amount_minor=-1)), 422)
    assert (said["type"], said["step"], said["field"]) == ("/problems/schema", "validate", "amount_minor")
    assert not house.records("transactions")


def test_if_all_fail_the_problem_holds_each(house, door):
    said = problem(door.post(EVENTS, json=[transaction(amount_minor=-1), 7]), 422)
    assert [result["problem"]["step"] for result in said["results"]] == ["validate", "decode"]
    assert len(house.rejected()) == 2


def test_what_cannot_be_read_is_a_problem_and_kept(house, door):
    reasons = []
    for headers in (JSON, NDJSON):
        for content in (b"", b" \n ", b'{"event_id":', b"[1,", b"nonsense", b"[]", b"\xff"):
            said = problem(door.post(EVENTS, content=content, headers=headers), 422)
            assert (said["type"], said["step"]) == ("/problems/decode", "decode")
            reasons.append(said["detail"])
    kept = house.rejected()
    assert {each.step for each in kept} == {"decode"}
    assert sorted(each.reason for each in kept) == sorted(reasons)


def test_a_refused_event_s_original_opens_without_what_may_not_be_kept(house, door):
    secret = {"cvv": "987", "card": {"Track2": "4111111111111111=28121010000", "colour": "blue"}, "note": "PIN: 4321"}
    door.post(EVENTS, json=transaction(amount_minor=-1, **secret))
    [kept] = house.rejected()
    opened = json.loads(open_rejected(house.envelopes, kept))
    assert opened == transaction(amount_minor=-1, card={"colour": "blue"}, note="[removed]")


def test_undecodable_bytes_are_kept_with_masked_digits(house, door):
    content = b'{"event_id": "tx-1", "cvv": "987", "pan": "4111111111111111" "x": '
    problem(door.post(EVENTS, content=content, headers=JSON), 422)
    [kept] = house.rejected()
    assert open_rejected(house.envelopes, kept) == b'{"event_id": "tx-#", "cvv": "###", "pan": "################" "x": '


def test_other_content_types_are_refused(house, door):
    for headers in (
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": ""},
    ):
        answer = door.post(EVENTS, content=json.dumps(transaction()), headers=headers)
        assert "application/x-ndjson" in problem(answer, 415)["detail"]
        assert answer.headers["Accept-Post"] == "application/json, application/x-ndjson, text/csv, application/avro"
    assert not house.records("transactions")
    assert not house.rejected()


def test_utf_8_may_be_said(door):
    for name in ("application/json; charset=utf-8", "Application/JSON", 'application/json;charset="UTF-8"'):
        assert door.post(EVENTS, content=json.dumps(transaction()), headers={"Content-Type": name}).status_code == 202


def test_a_request_holds_so_many_events_and_no_more(house, door):
    label = {"event_time": NOW_US, "transaction_id": "t", "is_fraud": True, "source": "analyst"}
    labels = [label | {"event_id": str(i)} for i in range(MAX_EVENTS + 1)]
    url = "/v1/streams/labels/events"
    assert str(MAX_EVENTS) in problem(door.post(url, json=labels), 413)["detail"]
    assert not house.records("labels")
    assert door.post(url, json=labels[1:]).status_code == 202
    assert len(house.records("labels")) == MAX_EVENTS


def test_a_large_event_is_claimed_and_a_larger_one_refused(house, door):
    room = MAX_EVENT_BYTES - len(json.dumps(transaction(many=[]), separators=(",", ":")).encode())
    numbers = ",".join(["1e15"] * (room // 5 - 1))
    event = json.dumps(transaction(many=[0]), separators=(",", ":")).replace("[0]", f"[{numbers}]")
    assert door.post(EVENTS, content=event, headers=JSON).status_code == 202
    assert door.post(EVENTS, content=event.replace('"EUR"', '"XXX"'), headers=JSON).status_code == 422
    [taken], [kept] = house.values("transactions"), house.rejected()
    assert len(house.records("transactions")[0].value) < CLAIM_BYTES > len(house.records("rejected")[0].value)
    assert taken["sealed"] is None is kept.sealed
    revealed = reveal(house.envelopes, load_schema("transactions"), taken)
    assert revealed == PERSONAL | {"many": [1e15] * (room // 5 - 1)}
    assert json.loads(open_rejected(house.envelopes, kept)) == json.loads(event) | {"currency": "XXX"}
    assert str(MAX_EVENT_BYTES) in problem(door.post(EVENTS, content=event + " " * 20, headers=JSON), 413)["detail"]
    assert len(house.records("transactions")) == 1


def test_a_large_event_is_not_taken_when_it_cannot_be_claimed(house, door, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as failing:
        failing.setattr("os.pwrite", full)
        refused = door.post(EVENTS, json=transaction(many=["x" * CLAIM_BYTES]))
        assert problem(refused, 503)["detail"].startswith("claims")
        assert int(refused.headers["Retry-After"]) > 0
        assert door.post(EVENTS, json=transaction("tx-2")).status_code == 202
    assert door.post(EVENTS, json=transaction(many=["x" * CLAIM_BYTES])).status_code == 202
    assert len(house.records("transactions")) == 2


def test_a_large_undecodable_body_is_kept(house, door):
    body = b"[" + b"x" * (MAX_BODY_BYTES - 1)
    problem(door.post(EVENTS, content=body, headers=JSON), 422)
    [kept] = house.rejected()
    assert open_rejected(house.envelopes, kept) == body


def test_who_is_not_known_is_asked_to_sign_in(house, door):
    door.headers.pop("Authorization")
    for headers in (
        {},
        bearer("tg_shop_wrong"),
        bearer("e.y.J"),
        {"Authorization": "Bearer"},
        {b"Authorization": "Bearer é".encode()},
    ):
        answer = door.post(EVENTS, json=transaction(), headers=headers)
        assert problem(answer, 401)["type"] == "/problems/unauthenticated"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert not house.records("transactions")


def test_a_source_writes_its_own_streams_only(house, door):
    sensors = bearer(house.identity.add_source("sensors", frozenset({"stock"})))
    assert "sensors" in problem(door.post(EVENTS, json=transaction(), headers=sensors), 403)["detail"]
    problem(door.post("/v1/decisions", json=transaction(), headers=sensors), 403)
    analyst = house.person("analyst")
    problem(door.post(EVENTS, json=transaction(), headers=analyst), 403)
    problem(door.post("/v1/decisions", json=transaction(), headers=analyst), 403)
    assert not house.records("transactions")


def test_people_give_verdicts(house, door):
    label = {"event_id": "v-1", "event_time": NOW_US, "transaction_id": "tx-1", "is_fraud": True, "source": "analyst"}
    url = "/v1/streams/labels/events"
    assert door.post(url, json=label, headers=house.person("fraud_ops")).status_code == 202
    said = problem(
        door.post(url, json=label | {"reason": "ask 4111 1111 1111 1111"}, headers=house.person("fraud_ops")), 422
    )
    assert said["field"] == "reason"


def test_unknown_streams_addresses_and_methods_are_problems(door):
    assert "wanted one of transactions" in problem(door.post("/v1/streams/nothing/events", json={}), 404)["detail"]
    problem(door.get("/v2"), 404)
    answer = door.get(EVENTS)
    problem(answer, 405)
    assert answer.headers["Allow"] == "POST"


def test_answers_are_for_nobody_else(door):
    for answer in (door.post(EVENTS, json=transaction()), door.get("/v2"), door.get("/healthz")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "Server" not in answer.headers
