"""Kafka REST Proxy v2: consumers and their groups. What they read holds tokens, no personal value."""

import json
from base64 import b64decode
from itertools import chain

import pytest
from tests.intake.house import PERSONAL, transaction
from tests.intake.test_kafka_rest import error, produce

from tidegate.intake import consumer_groups
from tidegate.intake.limits import CONSUMER_IDLE_S
from tidegate.ports.log import Entry

V2 = "application/vnd.kafka.v2+json"
BOTH = [{"topic": "transactions", "partition": number} for number in (0, 1)]


class Reader:
    """A consumer, made over HTTP as an analyst."""

    def __init__(self, door, headers, *, group="g", **asked):
        self.door, self.headers = door, headers
        asked = {"format": "json", "auto.offset.reset": "earliest"} | asked
        answer = self.post(f"/consumers/{group}", asked)
        assert answer.status_code == 200, answer.text
        self.name = answer.json()["instance_id"]
        self.uri = answer.json()["base_uri"]
        assert self.uri == f"{door.base_url}/consumers/{group}/instances/{self.name}"

    def post(self, url, body=None):
        content = b"" if body is None else json.dumps(body).encode()
        return self.door.post(url, content=content, headers=self.headers | {"Content-Type": V2})

    def told(self, path, body=None):
        answer = self.post(f"{self.uri}/{path}", body)
        assert answer.status_code == 204, answer.text

    def subscribe(self, *topics):
        self.told("subscription", {"topics": list(topics)})
        return self

    def get(self, path, **given):
        return self.door.get(f"{self.uri}/{path}", headers=self.headers, **given)

    def poll(self, form="json", **params):
        media_type = f"application/vnd.kafka.{form}.v2+json"
        answer = self.door.get(
            f"{self.uri}/records", params={"timeout": 0} | params, headers=self.headers | {"Accept": media_type}
        )
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"] == media_type
        return answer.json()

    def ids(self, **params):
        return sorted(record["value"]["event_id"] for record in self.poll(**params))

    def committed(self):
        offsets = self.get("offsets").json()["offsets"]
        return {(each["topic"], each["partition"]): each["offset"] for each in offsets}

    def delete(self):
        assert self.door.delete(self.uri, headers=self.headers).status_code == 204


@pytest.fixture
def analyst(house):
    return house.person("analyst")


def send(door, *ids):
    # A key each, so that both partitions have records.
    assert produce(door, *[transaction(each, pan=None) for each in ids]).status_code == 200


def test_what_is_read_holds_no_personal_value(house, door, analyst):
    produce(door, transaction())
    [record] = Reader(door, analyst).subscribe("transactions").poll()
    [kept] = house.records("transactions")
    assert record | {"value": None} == {
        "topic": "transactions",
        "partition": kept.partition,
        "offset": 0,
        "key": kept.key,
        "value": None,
    }
    value = json.loads(kept.value)
    assert value.pop("sealed")
    del value["claim"]
    assert record["value"] == value
    assert not any(personal in json.dumps(record) for personal in PERSONAL.values())
    [binary] = Reader(door, analyst, group="b", format="binary").subscribe("transactions").poll("binary")
    assert b64decode(binary["key"]).decode() == kept.key
    assert json.loads(b64decode(binary["value"])) == value


def test_a_consumer_goes_on_where_its_group_is(door, analyst):
    send(door, "a", "b", "c", "d")
    first = Reader(door, analyst).subscribe("transactions")
    assert first.ids() == ["a", "b", "c", "d"]
    assert first.committed() == {}
    assert first.ids() == []
    first.delete()
    error(first.get("subscription"), 404, 40403)
    send(door, "e")
    assert Reader(door, analyst).subscribe("transactions").ids() == ["e"]
    assert Reader(door, analyst, group="other").subscribe("transactions").ids() == ["a", "b", "c", "d", "e"]


def test_who_commits_by_hand_reads_again_what_was_not_committed(door, analyst):
    send(door, "a", "b")
    reader = Reader(door, analyst, **{"auto.commit.enable": "false"}).subscribe("transactions")
    assert reader.ids() == ["a", "b"]
    assert reader.ids() == []
    reader.delete()
    reader = Reader(door, analyst, **{"auto.commit.enable": "false"}).subscribe("transactions")
    assert reader.ids() == ["a", "b"]
    assert reader.post(f"{reader.uri}/offsets").status_code == 200
    assert sum(reader.committed().values()) == 2
    offsets = [{"topic": "transactions", "partition": 0, "offset": 0}]
    assert reader.post(f"{reader.uri}/offsets", {"offsets": offsets}).status_code == 200
    answer = door.request(
        "GET", f"{reader.uri}/offsets", json={"partitions": BOTH[:1]}, headers=analyst | {"Content-Type": V2}
    )
    assert answer.json() == {"offsets": [offsets[0] | {"metadata": ""}]}


def test_what_was_committed_survives_the_door(house, analyst):
    with house.open_door() as door:
        send(door, "a", "b")
        reader = Reader(door, analyst).subscribe("transactions")
        assert reader.ids() == ["a", "b"]
        reader.delete()
    with house.open_door() as door:
        send(door, "c")
        assert Reader(door, analyst).subscribe("transactions").ids() == ["c"]


def test_latest_begins_at_the_end(door, analyst):
    send(door, "a")
    reader = Reader(door, analyst, **{"auto.offset.reset": "latest"}).subscribe("transactions")
    assert reader.ids() == []
    send(door, "b", "c")
    assert reader.ids() == ["b", "c"]


def test_the_consumers_of_a_group_share_its_partitions(door, analyst):
    readers = [Reader(door, analyst, name=name).subscribe("transactions") for name in ("one", "two", "three")]
    assignments = [reader.get("assignments").json()["partitions"] for reader in readers]
    assert sorted(each["partition"] for each in chain(*assignments)) == [0, 1]
    send(door, *"abcdef")
    parts = [reader.ids() for reader in readers]
    assert sorted(chain(*parts)) == list("abcdef")
    for reader in readers[1:]:
        reader.delete()
    send(door, *"ghij")
    readers[0].poll(max_bytes=1)
    assert len(readers[0].get("assignments").json()["partitions"]) == 2


def test_partitions_can_be_assigned_and_sought(door, analyst):
    send(door, *"abcdef")
    reader = Reader(door, analyst)
    reader.told("assignments", {"partitions": BOTH})
    assert reader.get("assignments").json() == {"partitions": BOTH}
    assert reader.ids() == list("abcdef")
    reader.told("positions/beginning", {"partitions": BOTH[:1]})
    again = reader.ids()
    assert 0 < len(again) < 6
    reader.told("positions", {"offsets": [BOTH[0] | {"offset": 1}]})
    assert len(reader.ids()) == len(again) - 1
    reader.told("positions/beginning", {"partitions": BOTH})
    reader.told("positions/end", {"partitions": BOTH})
    assert reader.ids() == []
    error(reader.post(f"{reader.uri}/subscription", {"topics": ["transactions"]}), 409, 40903)
    assert door.delete(f"{reader.uri}/subscription", headers=analyst).status_code == 204
    reader.subscribe("transactions")
    error(reader.post(f"{reader.uri}/assignments", {"partitions": BOTH}), 409, 40903)
    error(reader.post(f"{reader.uri}/assignments", {"partitions": [BOTH[0] | {"partition": 2}]}), 404, 40402)
    error(
        reader.post(f"{reader.uri}/positions", {"offsets": [{"topic": "none", "partition": 0, "offset": 0}]}),
        404,
        40401,
    )
    error(
        reader.post(f"{reader.uri}/positions", {"offsets": [{"topic": "stock", "partition": 0, "offset": 0}]}),
        409,
        40903,
    )


def test_an_answer_is_as_large_as_asked(door, analyst):
    send(door, *"abcdef")
    reader = Reader(door, analyst).subscribe("transactions")
    assert [len(reader.poll(max_bytes=1)) for _ in range(6)] == [1] * 6
    assert reader.poll(max_bytes=1) == []


def test_a_poll_waits_for_what_comes(house, door, analyst, monkeypatch):
    """It looks once, finds nothing, and by the time it looks again there is something."""
    reader = Reader(door, analyst).subscribe("decisions")
    entry = Entry("decisions", "k", b'{"event_id": "e-1"}', house.clock.ms, "e-1")
    looked = []
    read = consumer_groups.Groups._read

    def look(groups, positions, max_bytes):
        records = read(groups, positions, max_bytes)
        if not looked:
            house.log.append([entry])
        looked.append(records)
        return records

    monkeypatch.setattr(consumer_groups.Groups, "_read", look)
    assert reader.ids(timeout=30_000) == ["e-1"]
    assert [len(records) for records in looked] == [0, 1]


def test_topics_by_pattern_are_those_one_may_read(door, house, analyst):
    reader = Reader(door, analyst)
    reader.told("subscription", {"topic_pattern": "st.*|re.*"})
    assert reader.get("subscription").json() == {"topics": ["stock", "revisions"]}
    ops = Reader(door, house.person("fraud_ops"))
    ops.told("subscription", {"topic_pattern": ".*"})
    assert ops.get("subscription").json() == {"topics": ["decisions", "revisions", "alerts"]}
    error(reader.post(f"{reader.uri}/subscription", {"topic_pattern": "("}), 422, 422)
    error(reader.post(f"{reader.uri}/subscription", {"topics": [], "topic_pattern": "a"}), 409, 40903)


def test_who_may_read_what(house, door, analyst):
    ops = Reader(door, house.person("fraud_ops"))
    error(ops.post(f"{ops.uri}/subscription", {"topics": ["transactions"]}), 403, 40301)
    error(ops.post(f"{ops.uri}/subscription", {"topics": ["rejected"]}), 404, 40401)
    error(ops.post(f"{ops.uri}/assignments", {"partitions": BOTH}), 403, 40301)
    ops.subscribe("decisions", "alerts")
    error(door.post("/consumers/g", json={}), 403, 40301)
    reader = Reader(door, analyst, name="mine")
    error(door.get(f"{reader.uri}/records", headers=ops.headers), 404, 40403)


def test_a_consumer_s_roles_are_looked_at_each_time(house, door, analyst):
    reader = Reader(door, analyst).subscribe("transactions")
    house.identity.add_user("analyst", "another long password", frozenset({"admin"}))
    reader.headers = {"Authorization": f"Bearer {house.identity.sign_in('analyst', 'another long password')}"}
    headers = reader.headers | {"Accept": "application/vnd.kafka.binary.v2+json"}
    error(door.get(f"{reader.uri}/records", headers=headers), 406, 40601)
    headers = reader.headers | {"Accept": "application/vnd.kafka.json.v2+json"}
    error(door.get(f"{reader.uri}/records", headers=headers), 403, 40301)


def test_a_consumer_s_settings_are_checked(door, analyst):
    for asked in (
        {"format": "avro"},
        {"auto.offset.reset": "none"},
        {"auto.commit.enable": "perhaps"},
        {"name": "a b"},
        {"name": 5},
    ):
        error(door.post("/consumers/g", json=asked, headers=analyst), 422, 42204)
    error(door.post("/consumers/g", content=b"{", headers=analyst | {"Content-Type": V2}), 400, 400)
    error(door.post("/consumers/a%20b", json={}, headers=analyst), 422, 422)
    Reader(door, analyst, name="mine")
    error(door.post("/consumers/g", json={"name": "mine"}, headers=analyst), 409, 40902)
    assert Reader(door, analyst, group="h", name="mine").name == "mine"
    assert door.post("/consumers/g", headers=analyst).status_code == 200


def test_an_idle_consumer_is_gone_and_there_are_not_too_many(house, door, analyst, monkeypatch):
    send(door, "a")
    idle = Reader(door, analyst, name="idle").subscribe("transactions")
    assert idle.ids() == ["a"]
    house.clock.ms += CONSUMER_IDLE_S * 1000 + 1
    error(idle.get("subscription"), 404, 40403)
    # What it was given last and never committed comes again.
    assert Reader(door, analyst, name="idle").subscribe("transactions").ids() == ["a"]
    monkeypatch.setattr(consumer_groups, "MAX_CONSUMERS_EACH", 2)
    Reader(door, analyst)
    error(door.post("/consumers/g", json={}, headers=analyst), 429, 429)
    assert Reader(door, house.person("fraud_ops")).name


def test_no_consumer_keeps_the_log_from_forgetting(house, door, analyst):
    """A group of the log's own kind would: the log keeps what one has not read."""
    send(door, "a")
    assert Reader(door, analyst).subscribe("transactions").ids() == ["a"]
    assert house.log._ask(lambda database: database.execute("SELECT count(*) FROM position").fetchone()) == (0,)
