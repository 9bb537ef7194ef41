"""The schema registry over REST, and producers that write Avro by it: an old version goes on, a new one must fit."""

import io
import json
from base64 import b64encode

import fastavro
import pytest
from tests.intake.house import NOW_US
from tests.intake.test_kafka_rest import error, produce

from tidegate.files.avro import crc64
from tidegate.files.evolution import parse
from tidegate.streams.schema import STREAMS, load_schema

REGISTRY = "application/vnd.schemaregistry.v1+json"
WEATHER = "/subjects/weather-value"

#: What the sensors write: the first version, one that adds a field, and one that old messages cannot be read by.
FIELDS = [
    {"name": "event_id", "type": "string"},
    {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "shop_id", "type": "string"},
]
FIRST = {"type": "record", "name": "transactions", "namespace": "tidegate", "fields": FIELDS}
FIRST = FIRST | {"name": "weather"}
SECOND = FIRST | {"fields": [*FIELDS, {"name": "colour", "type": ["null", "string"], "default": None}]}
WRONG = FIRST | {"fields": [*FIELDS, {"name": "colour", "type": "string"}]}


def event(number=1, **given):
    return {"event_id": f"w-{number}", "event_time": NOW_US // 1000, "shop_id": "m-1"} | given


def register(door, schema, subject="weather-value", **given):
    return door.post(f"/subjects/{subject}/versions", json={"schema": json.dumps(schema)}, **given)


def framed(schema_id, schema, value, frame=b"\x00"):
    """A message as a Kafka producer writes it."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), value)
    head = schema_id.to_bytes(4, "big") if frame == b"\x00" else schema_id
    return b64encode(frame + head + stream.getvalue()).decode()


def codes(answer):
    assert answer.status_code == 200, answer.text
    return [each["error_code"] for each in answer.json()["offsets"]]


def test_the_streams_own_schemas_are_there(door):
    assert door.get("/subjects").json() == sorted(f"{stream}-value" for stream in STREAMS)
    newest = door.get("/subjects/transactions-value/versions/latest").json()
    assert (newest["version"], json.loads(newest["schema"])) == (1, load_schema("transactions").avro)
    assert door.get("/subjects/transactions-value/versions/1/schema").json() == load_schema("transactions").avro
    answer = door.get(f"/schemas/ids/{newest['id']}")
    assert answer.headers["Content-Type"] == REGISTRY
    assert answer.json() == {"schema": newest["schema"]}
    assert door.get(f"/schemas/ids/{newest['id']}/versions").json() == [{"subject": "transactions-value", "version": 1}]
    assert door.get("/schemas/types").json() == ["AVRO"]


def test_a_schema_is_registered_once(door):
    first = register(door, FIRST)
    assert (first.status_code, first.headers["Content-Type"]) == (200, REGISTRY)
    assert register(door, FIRST).json() == first.json()
    assert door.get(f"{WEATHER}/versions").json() == [1, 2]
    found = door.post(WEATHER, json={"schema": json.dumps(FIRST, indent=1)}).json()
    assert (found["subject"], found["version"], found["id"]) == ("weather-value", 2, first.json()["id"])
    error(door.post(WEATHER, json={"schema": json.dumps(SECOND)}), 404, 40403)


def test_a_version_must_be_compatible(door, house):
    register(door, FIRST)
    assert "colour" in error(register(door, WRONG), 409, 409)
    check = f"/compatibility{WEATHER}/versions/latest"
    assert door.post(check, json={"schema": json.dumps(SECOND)}).json() == {"is_compatible": True, "messages": []}
    told = door.post(check, json={"schema": json.dumps(WRONG)}).json()
    assert (told["is_compatible"], len(told["messages"])) == (False, 1)
    assert door.get("/config").json() == {"compatibilityLevel": "BACKWARD"}
    error(door.get("/config/weather-value"), 404, 40408)
    error(door.put("/config/weather-value", json={"compatibility": "NONE"}), 403, 40301)
    admin = house.person("admin")
    error(door.put("/config/weather-value", json={"compatibility": "SOME"}, headers=admin), 422, 42203)
    answer = door.put("/config/weather-value", json={"compatibility": "NONE"}, headers=admin)
    assert answer.json() == {"compatibility": "NONE"}
    assert door.get("/config/weather-value").json() == {"compatibilityLevel": "NONE"}
    assert register(door, WRONG).status_code == 200
    assert door.put("/config", json={"compatibility": "FULL"}, headers=admin).status_code == 200
    error(register(door, WRONG, "stock-value"), 409, 409)


def test_what_is_not_there_or_not_allowed(door, house):
    error(door.get("/subjects/nothing-value/versions"), 404, 40401)
    error(door.get("/subjects/weather-key/versions"), 404, 40401)
    error(door.get(f"{WEATHER}/versions/9"), 404, 40402)
    error(door.get("/schemas/ids/999"), 404, 40403)
    error(register(door, FIRST, "nothing-value"), 404, 40401)
    error(door.post(f"{WEATHER}/versions", json={"schema": "{"}), 422, 42201)
    error(door.post(f"{WEATHER}/versions", json={"schema": '"string"', "schemaType": "PROTOBUF"}), 422, 42201)
    error(door.post(f"{WEATHER}/versions", content=b"{"), 415, 415)
    error(register(door, FIRST, headers=house.person("analyst")), 403, 40301)
    other = house.identity.add_source("terminal", frozenset({"stock"}))
    error(register(door, FIRST, auth=("terminal", other), headers={"Authorization": ""}), 403, 40301)
    error(door.get("/subjects", headers={"Authorization": ""}), 401, 40101)
    error(door.get("/subjects", headers={"Accept": "text/html"}), 406, 406)


def test_a_producer_on_the_old_version_goes_on(door, house):
    """Both versions are written at the same time, as JSON with a schema and as framed bytes; all are events."""
    first = produce(door, event(1), form="avro", topic="weather", value_schema=json.dumps(FIRST))
    first_id = first.json()["value_schema_id"]
    second_id = register(door, SECOND).json()["id"]
    assert second_id != first_id
    newer = event(2, colour={"string": "red"})
    assert codes(produce(door, newer, form="avro", topic="weather", value_schema_id=second_id)) == [None]
    assert codes(produce(door, event(3), form="avro", topic="weather", value_schema_id=first_id)) == [None]
    old, new = framed(first_id, FIRST, event(4)), framed(second_id, SECOND, event(5, colour="blue"))
    assert codes(produce(door, old, new, form="binary", topic="weather")) == [None, None]
    single = framed(bytes.fromhex(crc64(parse(json.dumps(FIRST))))[::-1], FIRST, event(6), b"\xc3\x01")
    assert codes(produce(door, single, form="binary", topic="weather")) == [None]
    kept = house.values("weather")
    assert sorted(each["event_id"] for each in kept) == [f"w-{number}" for number in range(1, 7)]
    assert {each["event_time"] for each in kept} == {NOW_US}


def test_what_a_schema_did_not_write_is_refused_and_kept(door, house):
    schema_id = register(door, SECOND).json()["id"]
    values = [
        event(colour="red"),
        event(shop_id=5),
        event(event_time="now"),
        event(event_time=2**63),
        {"event_id": "w-1"},
        event(size=5),
        5,
        None,
    ]
    answer = produce(door, *values, form="avro", topic="weather", value_schema_id=schema_id)
    assert codes(answer) == [42203] * 6 + [42206] * 2
    good = framed(schema_id, SECOND, event())
    messages = [
        framed(999, SECOND, event()),
        good[:-8],
        b64encode(b"\x00\x00").decode(),
        framed(b"\0" * 17, SECOND, event(), b"\x03"),
        framed(b"\0" * 8, SECOND, event(), b"\xc3\x01"),
    ]
    answer = produce(door, *messages, form="binary", topic="weather")
    assert codes(answer) == [42207, 42206, 42206, 42207, 42207]
    assert house.records("weather") == []
    assert len(house.rejected()) == len(values) + len(messages)


def test_only_flat_columns_are_read(door, house):
    """What an array of nothing unpacks to is told by four bytes."""
    bomb = FIRST | {"fields": [{"name": "note", "type": {"type": "array", "items": "null"}}]}
    house.schemas.set_compatibility("NONE")
    schema_id = register(door, bomb).json()["id"]
    message = b"\x00" + schema_id.to_bytes(4, "big") + b"\xfe\xff\xff\xff\x0f" + b"\x00"
    assert codes(produce(door, b64encode(message).decode(), form="binary", topic="weather")) == [42206]
    assert codes(produce(door, {"note": []}, form="avro", topic="weather", value_schema_id=schema_id)) == [42203]
    for schema in ("string", {"type": "array", "items": "int"}):
        schema_id = register(door, schema).json()["id"]
        assert codes(produce(door, "x", form="avro", topic="weather", value_schema_id=schema_id)) == [42206]


@pytest.mark.parametrize(
    ("beside", "status", "code"),
    [
        ({}, 422, 42202),
        ({"value_schema": "{"}, 422, 42205),
        ({"value_schema": json.dumps(WRONG)}, 422, 42207),
        ({"value_schema_id": 999}, 422, 42207),
        ({"value_schema": json.dumps(FIRST), "key_schema_id": 999}, 422, 42207),
    ],
)
def test_a_request_without_a_schema_that_can_be_had(door, house, beside, status, code):
    register(door, FIRST)
    error(produce(door, event(), form="avro", topic="weather", **beside), status, code)
    assert len(house.rejected()) == 1


def test_keys_have_schemas_of_their_own(door):
    body = {"records": [{"key": "k", "value": event()}], "value_schema": json.dumps(FIRST)}
    avro = {"Content-Type": "application/vnd.kafka.avro.v2+json"}
    error(door.post("/topics/weather", json=body, headers=avro), 422, 42201)
    answer = door.post("/topics/weather", json=body | {"key_schema": '"string"'}, headers=avro)
    assert codes(answer) == [None]
    assert door.get("/subjects/weather-key/versions/1/schema").json() == "string"
    key_id = answer.json()["key_schema_id"]
    assert codes(door.post("/topics/weather", json=body | {"key_schema_id": key_id}, headers=avro)) == [None]


def test_v3_takes_avro_by_id_by_version_as_it_is_and_by_the_newest(door, house):
    schema_id = register(door, FIRST).json()["id"]
    records = "/v3/clusters/tidegate/topics/weather/records"
    for number, given in enumerate(
        [
            {"schema_id": schema_id},
            {"schema_version": 2, "subject_name_strategy": "TOPIC_NAME"},
            {"type": "AVRO", "schema": json.dumps(FIRST), "subject": "weather-value"},
            {},
        ]
    ):
        report = door.post(records, json={"value": {"data": event(number)} | given}).json()
        assert report["error_code"] == 200, report
        assert report["value"]["schema_id"] == schema_id
    for given, code in [
        ({"schema_id": 999}, 42207),
        ({"schema_version": 9}, 42207),
        ({"subject": "stock-value"}, 42207),
        ({"subject_name_strategy": "RECORD_NAME"}, 42207),
        ({"schema": "{"}, 42205),
        ({"data": 5}, 42206),
        ({"data": {}}, 42203),
    ]:
        assert door.post(records, json={"value": {"data": event()} | given}).json()["error_code"] == code, given
    assert len(house.records("weather")) == 4


def test_a_stream_s_schema_that_cannot_follow_its_producers_does_not_keep_the_door_shut(house):
    house.schemas.register("stock-value", json.dumps({"type": "record", "name": "other", "fields": []}))
    with house.open_door() as door:
        assert door.get("/subjects/stock-value/versions").json() == [1]
        assert door.get("/readyz").status_code == 200
