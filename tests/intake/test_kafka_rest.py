"""Kafka REST Proxy v2: what producers send goes the way of every event, and is answered as Confluent's proxy does."""

import json
from base64 import b64encode

import pytest
from tests.intake.house import NOW_US, PERSONAL, transaction

from tidegate.intake.limits import MAX_BODY_BYTES, MAX_EVENT_BYTES, MAX_EVENTS
from tidegate.intake.protect import open_rejected
from tidegate.streams.schema import STREAMS

TOPIC = "/topics/transactions"
V2 = "application/vnd.kafka.v2+json"


def embedded(form):
    return {"Content-Type": f"application/vnd.kafka.{form}.v2+json"}


def records(*values, **beside):
    return json.dumps({"records": [{"value": value} for value in values]} | beside).encode()


def produce(door, *values, form="json", topic="transactions", headers=None, **beside):
    headers = embedded(form) | (headers or {})
    return door.post(f"/topics/{topic}", content=records(*values, **beside), headers=headers)


def base64(content):
    return b64encode(content if isinstance(content, bytes) else json.dumps(content).encode()).decode()


def error(answer, status, code):
    assert answer.status_code == status, answer.text
    said = answer.json()
    assert said.keys() == {"error_code", "message"}
    assert said["error_code"] == code, said
    return said["message"]


def test_a_record_is_an_event_and_durable_before_the_answer(house, door):
    answer = produce(door, transaction(), transaction("tx-2"))
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, V2)
    first, second = house.records("transactions")
    assert answer.json() == {
        "key_schema_id": None,
        "value_schema_id": None,
        "offsets": [
            {"partition": record.partition, "offset": record.offset, "error_code": None, "error": None}
            for record in (first, second)
        ],
    }
    assert first.key == house.keys.token("pan", PERSONAL["pan"])
    assert not any(value.encode() in first.value for value in PERSONAL.values())
    assert produce(door, transaction()).json()["offsets"][0]["offset"] == first.offset
    assert len(house.records("transactions")) == 2


def test_key_and_partition_come_from_the_event(house, door):
    body = {"records": [{"key": "another", "partition": number, "value": transaction()} for number in (0, 1, 77)]}
    answer = door.post(TOPIC, json=body, headers=embedded("json"))
    [record] = house.records("transactions")
    assert {(each["partition"], each["offset"]) for each in answer.json()["offsets"]} == {(record.partition, 0)}
    other = 1 - record.partition
    answer = door.post(f"{TOPIC}/partitions/{other}", content=records(transaction()), headers=embedded("json"))
    assert answer.json()["offsets"][0]["partition"] == record.partition
    answer = door.post(f"{TOPIC}/partitions/2", content=records(transaction()), headers=embedded("json"))
    error(answer, 404, 40402)


def test_what_is_refused_has_a_code_in_its_place_and_is_kept(house, door):
    answer = produce(door, transaction("tx-1"), transaction("tx-2", pan="1"), 5, None, transaction("tx-3"))
    assert answer.status_code == 200
    offsets = answer.json()["offsets"]
    assert [each["error_code"] for each in offsets] == [None, 42206, 42206, 42206, None]
    assert "pan" in offsets[1]["error"]
    assert [record.id for record in house.records("transactions")] == ["tx-1", "tx-3"]
    kept = house.rejected()
    assert [(each.stream, each.step, each.source) for each in kept] == [
        ("transactions", step, "shop") for step in ("validate", "decode", "decode")
    ]
    assert json.loads(open_rejected(house.envelopes, kept[0]))["event_id"] == "tx-2"


def test_bytes_are_json(house, door):
    answer = produce(door, base64(transaction()), base64(b"{"), "not base64!", 7, base64(b""), form="binary")
    assert [each["error_code"] for each in answer.json()["offsets"]] == [None, 42206, 42206, 42206, 42206]
    assert len(house.rejected()) == 4
    for media_type in (V2, "application/vnd.kafka+json", "application/json"):
        answer = door.post(TOPIC, content=records(base64(transaction())), headers={"Content-Type": media_type})
        assert answer.json()["offsets"][0]["offset"] == 0


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 100_000, 422),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"records": []}', 422),
        (b'{"records": [5]}', 422),
        (b'{"records": [{"value": {]}]}', 400),
        (b'{"records": [{"value": 1, "partition": "x"}]}', 422),
    ],
)
def test_a_request_that_cannot_be_read_is_kept_whole(house, door, content, code):
    error(door.post(TOPIC, content=content, headers=embedded("json")), code, code)
    [kept] = house.rejected()
    assert kept.step == "decode"
    assert house.records("transactions") == []


def test_limits_are_those_of_the_door(house, door):
    error(produce(door, *[5] * (MAX_EVENTS + 1)), 413, 413)
    answer = produce(door, transaction(note="x" * MAX_EVENT_BYTES), transaction())
    assert [each["error_code"] for each in answer.json()["offsets"]] == [42206, None]
    error(door.post(TOPIC, content=b" " * (MAX_BODY_BYTES + 1), headers=embedded("json")), 413, 413)
    with house.open_door(rate_limit_per_s=1) as slow:
        slow.get("/topics")
        answer = slow.get("/topics")
    error(answer, 429, 429)
    assert answer.headers["Retry-After"] == "1"


def test_who_may_send_what(house, door):
    key = house.identity.add_source("terminal", frozenset({"stock"}))
    for name in ("", "anything"):
        answer = door.get("/topics", auth=(name, key), headers={"Authorization": ""})
        assert (answer.status_code, answer.json()) == (200, ["stock"])
    basic = {"Authorization": f"Basic {base64(f'x:{key}'.encode())}"}
    error(produce(door, transaction(), headers=basic), 403, 40301)
    for credential in ("", "Basic", "Basic !", f"Basic {base64(b'x')}", f"Basic {base64(b'x:tg_no')}", "Bearer nobody"):
        answer = door.get("/topics", headers={"Authorization": credential})
        error(answer, 401, 40101)
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="tidegate", Bearer realm="tidegate"'
    error(produce(door, 1, topic="nothing"), 404, 40401)
    error(produce(door, 1, topic="rejected"), 404, 40401)
    error(produce(door, 1, topic="decisions"), 403, 40301)


def test_formats_are_negotiated(door):
    for accept, given in [
        ("application/vnd.kafka.v2+json", V2),
        ("application/json", "application/json"),
        ("application/json;q=0.5, application/vnd.kafka+json", "application/vnd.kafka+json"),
        ("application/*", V2),
        ("text/html, */*;q=0.1", V2),
    ]:
        answer = door.get("/topics", headers={"Accept": accept})
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, given)
    for accept in ("text/html", "application/vnd.kafka.v2+json;q=0", "application/json;q=x"):
        error(door.get("/topics", headers={"Accept": accept}), 406, 406)
    for form in ("protobuf", "jsonschema", "xml"):
        error(produce(door, transaction(), form=form), 415, 415)


def test_topics_and_partitions(house, door):
    assert door.get("/topics").json() == sorted(STREAMS)
    state = {"partition": 1, "leader": 0, "replicas": [{"broker": 0, "leader": True, "in_sync": True}]}
    topic = door.get(TOPIC).json()
    assert (topic["name"], topic["partitions"]) == ("transactions", [state | {"partition": 0}, state])
    assert topic["configs"]["cleanup.policy"] == "delete"
    assert door.get(f"{TOPIC}/partitions").json() == topic["partitions"]
    assert door.get(f"{TOPIC}/partitions/1").json() == state
    error(door.get(f"{TOPIC}/partitions/2"), 404, 40402)
    error(door.get("/topics/nothing"), 404, 40401)
    error(door.get("/topics/alerts"), 403, 40301)
    error(door.get(f"{TOPIC}/partitions/0/offsets"), 403, 40301)
    error(door.get(f"{TOPIC}/partitions/-1"), 422, 422)
    produce(door, transaction(), transaction("tx-2"))
    analyst = house.person("analyst")
    place = house.records("transactions")[0].place
    answer = door.get(f"{TOPIC}/partitions/{place.partition}/offsets", headers=analyst)
    assert answer.json() == {"beginning_offset": 0, "end_offset": 2}
    answer = door.get(f"{TOPIC}/partitions/{1 - place.partition}/offsets", headers=analyst)
    assert answer.json() == {"beginning_offset": 0, "end_offset": 0}
    assert {"alerts", "decisions", "transactions"} <= set(door.get("/topics", headers=analyst).json())


def test_a_failure_of_the_log_is_one_to_try_again(house, door):
    house.log.close()
    answer = produce(door, transaction())
    error(answer, 503, 50003)
    assert answer.headers["Retry-After"]


def test_no_value_is_told(door):
    answer = produce(door, transaction(pan="4111 1111 1111 1112", event_time=NOW_US, email=5))
    assert answer.json()["offsets"][0]["error_code"] == 42206
    assert "1112" not in answer.text
