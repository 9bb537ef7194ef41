"""Kafka REST Proxy v3: its answers are those of Confluent's own description, records come one after another."""

import asyncio
import json
from base64 import b64encode
from pathlib import Path

import aiohttp
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator
from tests.intake.house import NOW_MS, transaction
from tests.intake.test_kafka_rest import error

from tidegate.intake.kafka_rest_documents import MAX_DOCUMENT_BYTES, Documents
from tidegate.intake.kafka_rest_errors import RestError
from tidegate.intake.limits import MAX_EVENTS

CLUSTER = "/v3/clusters/tidegate"
RECORDS = f"{CLUSTER}/topics/transactions/records"
BATCH = f"{RECORDS}:batch"
JSON = {"Content-Type": "application/json"}

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "conformance" / "kafka-rest"
SPEC = yaml.safe_load((SHARED / "openapi.yaml").read_text("utf-8"))


def conforms(answer, path):
    """Whether Confluent's description has this answer for this route."""
    operation = SPEC["paths"][path][answer.request.method.lower()]
    described = operation["responses"].get(str(answer.status_code)) or operation["responses"]["5XX"]
    response = SPEC["components"]["responses"][described["$ref"].rpartition("/")[2]]
    schema = response["content"]["application/json"]["schema"]
    for document in documents(answer):
        # "int64" stands where a type should: the file's own slip.
        components = json.loads(json.dumps(SPEC["components"]).replace('"type": "int64"', '"type": "integer"'))
        Draft4Validator(_nullable(schema | {"components": components})).validate(document)
    return answer


def _nullable(schema):
    """OpenAPI 3.0's nullable, as JSON Schema says it."""
    if isinstance(schema, list):
        return [_nullable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("nullable") and "type" in schema:
        return {name: _nullable(each) for name, each in schema.items()} | {"type": [schema["type"], "null"]}
    return {name: _nullable(each) for name, each in schema.items()}


def documents(answer):
    return [json.loads(line) for line in answer.text.splitlines()]


def record(value, kind="JSON"):
    return {"value": {"type": kind, "data": value}}


def send(door, *records):
    content = b"".join(json.dumps(each).encode() for each in records)
    return conforms(
        door.post(RECORDS, content=content, headers=JSON), "/clusters/{cluster_id}/topics/{topic_name}/records"
    )


def test_the_cluster_its_topics_and_partitions(house, door):
    topic = "/clusters/{cluster_id}/topics/{topic_name}"
    for path, url in {
        "/clusters": "/v3/clusters",
        "/clusters/{cluster_id}": CLUSTER,
        "/clusters/{cluster_id}/topics": f"{CLUSTER}/topics",
        topic: f"{CLUSTER}/topics/stock",
        f"{topic}/partitions": f"{CLUSTER}/topics/stock/partitions",
        f"{topic}/partitions/{{partition_id}}": f"{CLUSTER}/topics/stock/partitions/1",
        f"{topic}/configs": f"{CLUSTER}/topics/stock/configs",
        f"{topic}/configs/{{name}}": f"{CLUSTER}/topics/stock/configs/cleanup.policy",
    }.items():
        answer = conforms(door.get(url), path)
        assert answer.status_code == 200, answer.text
        assert answer.json()["metadata"]["self"] == f"{door.base_url}{url}"
    topics = {each["topic_name"]: each for each in door.get(f"{CLUSTER}/topics").json()["data"]}
    assert topics["stock"]["partitions_count"] == 2
    assert door.get(topics["stock"]["partitions"]["related"]).json()["data"][1]["partition_id"] == 1
    configs = {each["name"]: each["value"] for each in door.get(topics["stock"]["configs"]["related"]).json()["data"]}
    assert configs["max.message.bytes"] == "1048576"
    crn = door.get(f"{CLUSTER}/topics/stock/partitions/1").json()["metadata"]["resource_name"]
    assert crn == "crn:///kafka=tidegate/topic=stock/partition=1"


def test_the_offsets_of_a_partition(house, door):
    send(door, record(transaction()), record(transaction("tx-2")))
    partition = house.records("transactions")[0].partition
    url = f"{CLUSTER}/topics/transactions/partitions/{partition}/offset"
    path = "/clusters/{cluster_id}/topics/{topic_name}/partitions/{partition_id}/offset"
    answer = conforms(door.get(url, headers=house.person("data_scientist")), path).json()
    assert (answer["earliest_offset"], answer["latest_offset"]) == (0, 2)
    error(door.get(url), 403, 40301)


def test_what_is_not_there(door):
    topic = "/clusters/{cluster_id}/topics/{topic_name}"
    for path, url, code in [
        ("/clusters/{cluster_id}", "/v3/clusters/another", 404),
        (topic, f"{CLUSTER}/topics/nothing", 40401),
        (topic, f"{CLUSTER}/topics/rejected", 40401),
        (f"{topic}/partitions/{{partition_id}}", f"{CLUSTER}/topics/stock/partitions/2", 40402),
        (f"{topic}/configs/{{name}}", f"{CLUSTER}/topics/stock/configs/nothing", 404),
    ]:
        error(conforms(door.get(url), path), 404, code)
    error(conforms(door.get("/v3/clusters", headers={"Authorization": ""}), "/clusters"), 401, 40101)
    error(conforms(door.get(f"{CLUSTER}/topics/alerts"), topic), 403, 40301)


def test_a_record_is_reported_once_it_is_durable(house, door):
    answer = send(door, record(transaction()))
    assert answer.status_code == 200
    [kept] = house.records("transactions")
    [report] = documents(answer)
    assert report.pop("timestamp") == "2026-05-28T20:26:40.000Z"
    assert report.pop("value") == {"type": "JSON", "size": len(json.dumps(transaction())), "schema_id": None}
    assert report == {
        "error_code": 200,
        "cluster_id": "tidegate",
        "topic_name": "transactions",
        "partition_id": kept.partition,
        "offset": kept.offset,
    }
    assert kept.timestamp_ms == NOW_MS


def test_each_record_has_a_report_of_its_own(house, door):
    text = json.dumps(transaction("tx-2"))
    answer = send(
        door,
        record(transaction("tx-1")),
        record(text, "STRING"),
        record(b64encode(text.encode()).decode(), "BINARY"),
        record("no base64", "BINARY"),
        record(5, "STRING"),
        record(transaction("tx-3"), "PROTOBUF"),
        record(transaction("tx-3", pan="1")),
        {"key": {"type": "STRING", "data": "k"}},
        {"value": None, "partition_id": 1, "headers": [{"name": "a", "value": "Yg=="}], "timestamp": None},
        {"value": 5},
        record(transaction("tx-4")) | {"partition_id": 77},
    )
    assert answer.status_code == 200
    codes = [report["error_code"] for report in documents(answer)]
    assert codes == [200, 200, 200, 42206, 42206, 42206, 42206, 42206, 42206, 400, 200]
    assert [each.id for each in house.records("transactions")] == ["tx-1", "tx-2", "tx-4"]
    assert len(house.rejected()) == 7


@pytest.mark.parametrize(
    ("content", "status"), [(b"", 422), (b"  \n", 422), (b"x", 400), (b'{"value": ', 400), (b'{"value": "}', 400)]
)
def test_a_body_of_no_records(house, door, content, status):
    error(door.post(RECORDS, content=content, headers=JSON), status, status)
    assert house.records("transactions") == []


def test_what_ends_a_stream_is_told_in_its_place(house, door):
    content = json.dumps(record(transaction())).encode()
    answer = door.post(RECORDS, content=content + b"{", headers=JSON)
    assert [report["error_code"] for report in documents(answer)] == [200, 400]
    answer = door.post(RECORDS, content=content + b'{"a": "' + b"x" * MAX_DOCUMENT_BYTES, headers=JSON)
    assert answer.status_code in (200, 413)
    assert documents(answer)[-1]["error_code"] == 413
    answer = door.post(RECORDS, content=b"}]" + content, headers=JSON)
    assert [report["error_code"] for report in documents(answer)] == [400, 400, 200]


def test_who_may_send(house, door):
    path = "/clusters/{cluster_id}/topics/{topic_name}/records"
    content = json.dumps(record(transaction())).encode()
    error(conforms(door.post(RECORDS, content=content, headers=JSON | {"Authorization": ""}), path), 401, 40101)
    error(conforms(door.post(RECORDS, content=content, headers=JSON | house.person("admin")), path), 403, 40301)
    error(conforms(door.post(RECORDS, content=content), path), 415, 415)
    error(conforms(door.post(RECORDS.replace("tidegate", "x"), content=content, headers=JSON), path), 404, 404)
    error(conforms(door.post(RECORDS.replace("transactions", "x"), content=content, headers=JSON), path), 404, 40401)


def test_a_report_comes_while_the_request_is_still_open(house):
    """The second record is sent after the first one's report was read."""

    async def talk(url):
        answered = asyncio.Queue()

        async def body():
            for number in range(3):
                yield json.dumps(record(transaction(f"tx-{number}"))).encode()
                assert await answered.get() == 200

        async with (
            aiohttp.ClientSession(headers=house.source | JSON) as session,
            session.post(f"{url}{RECORDS}", data=body()) as answer,
        ):
            assert answer.status == 200
            async for line in answer.content:
                answered.put_nowait(json.loads(line)["error_code"])

    with house.open_door() as door:
        asyncio.run(talk(str(door.base_url)))
    assert len(house.records("transactions")) == 3


def batch(door, *entries, **beside):
    entries = [{"id": str(number)} | each for number, each in enumerate(entries)]
    answer = door.post(BATCH, json={"entries": entries} | beside)
    return conforms(answer, "/clusters/{cluster_id}/topics/{topic_name}/records:batch")


def test_a_batch_tells_what_was_taken_and_what_not(house, door):
    answer = batch(door, record(transaction()), record(transaction("tx-2", pan="1")), {}, record(transaction("tx-3")))
    assert answer.status_code == 207
    told = answer.json()
    assert [each["id"] for each in told["successes"]] == ["0", "3"]
    assert [each["offset"] for each in told["successes"]] == [0, 1]
    assert [(each["id"], each["error_code"]) for each in told["failures"]] == [("1", 42206), ("2", 42206)]
    assert [each.id for each in house.records("transactions")] == ["tx-1", "tx-3"]


def test_what_is_no_batch(house, door):
    error(batch(door), 422, 422)
    error(batch(door, {"id": "a"}, {"id": "a"}), 422, 42208)
    error(batch(door, {"id": ""}), 422, 422)
    error(door.post(BATCH, content=b"{", headers=JSON), 400, 400)
    error(batch(door, *[{}] * (MAX_EVENTS + 1)), 413, 413)
    assert house.rejected() == []


@given(
    st.lists(st.dictionaries(st.text(), st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.none()))),
    st.sampled_from(["", " ", "\n", "\r\n\t"]),
    st.data(),
)
def test_objects_are_cut_apart_wherever_their_bytes_are(objects, between, data):
    written = [json.dumps(each, ensure_ascii=data.draw(st.booleans())).encode() for each in objects]
    content = between.encode().join(written)
    cut = Documents()
    found = []
    while content:
        size = data.draw(st.integers(1, len(content)))
        found += cut.feed(content[:size])
        content = content[size:]
    assert [json.loads(each) for each in found] == objects
    assert not cut.rest.strip()


def test_an_object_is_not_larger_than_it_may_be():
    cut = Documents()
    cut.feed(b'{"a": "' + b"x" * (MAX_DOCUMENT_BYTES - 7))
    with pytest.raises(RestError, match="larger"):
        cut.feed(b"x")
