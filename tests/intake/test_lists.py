"""Lists: through the door in the name of who asks, once a version, with tokens that meet those of transactions."""

from __future__ import annotations

import pytest
from tests.intake.house import NOW_MS, NOW_US, PASSWORD, PERSONAL, transaction

from tidegate.errors import AccessError, NotFoundError, OverloadError, UsageError
from tidegate.lists import Door, read_entries, standing
from tidegate.streams.lists import KINDS
from tidegate.streams.schema import load_schema


def change(door, who, *entries, name="deny", version="1"):
    return door.post(f"/v1/lists/{name}", params={"version": version}, headers=who, json=list(entries))


@pytest.fixture
def ops(house):
    return house.person("fraud_ops")


def test_every_kind_is_a_field_with_the_marks_of_transactions():
    lists, transactions = load_schema("lists"), load_schema("transactions")
    assert set(KINDS) == {field.name for field in lists.fields if field.nullable and field.kind == "string"} - {
        "reason",
        "added_by",
    }
    for kind, personal in lists.personal.items():
        assert transactions.personal[kind] == personal


def test_a_thing_on_a_list_has_the_token_that_transactions_have(house, door, ops):
    personal = [kind for kind in KINDS if kind in PERSONAL]
    assert change(door, ops, *({kind: PERSONAL[kind]} for kind in personal)).status_code == 202
    assert door.post("/v1/streams/transactions/events", json=transaction()).status_code == 202
    (paid,) = house.values("transactions")
    listed = house.values("lists")
    assert {kind: paid[kind] for kind in personal} == {
        kind: event[kind] for event in listed for kind in personal if event[kind]
    }
    assert {event["added_by"] for event in listed} == {"fraud_ops"}
    assert {event["event_time"] for event in listed} == {NOW_US}
    whole = str(house.records("lists"))
    assert not any(value in whole for value in PERSONAL.values())


def test_an_entry_counts_once_in_a_version(house, door, ops):
    entry = {"device_id": "d1", "expires_at": "2026-12-24T18:00:00Z", "reason": "seen in fraud"}
    first = change(door, ops, entry).json()["results"][0]
    again = change(door, ops, entry).json()["results"][0]
    assert (first["duplicate"], again["duplicate"], again["offset"]) == (False, True, first["offset"])
    other = change(door, ops, entry, version="2").json()["results"][0]
    assert not other["duplicate"]
    assert not change(door, ops, entry, name="watch").json()["results"][0]["duplicate"]
    (event, *_) = house.values("lists")
    assert (event["list"], event["removed"], event["reason"]) == ("deny", False, "seen in fraud")
    assert event["expires_at"] == 1_798_135_200_000_000


def test_only_those_who_may_change_lists(house, door):
    for role in ("analyst", "auditor", "admin"):
        assert change(door, house.person(role), {"device_id": "d1"}).status_code == 403
    assert change(door, {}, {"device_id": "d1"}).status_code == 403  # the shop's API key
    assert change(door, {"Authorization": "Bearer nobody"}, {"device_id": "d1"}).status_code == 401
    assert house.values("lists") == []
    assert [(entry.what, entry.outcome) for entry in house.audit.entries()] == [("lists", "refused")] * 4


def test_who_changed_a_list_is_on_record(house, door, ops):
    change(door, ops, {"device_id": "d1"}, {"ip": "203.0.113.7"})
    (entry,) = house.audit.entries()
    assert (entry.who, entry.what, entry.on) == ("fraud_ops", "lists", "deny: 2 entries of version 1")
    assert entry.outcome == "done"


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"device_id": None},
        {"device_id": "d1", "ip": "203.0.113.7"},
        {"device": "d1"},
        {"device_id": 7},
        {"device_id": "d1", "removed": "yes"},
        {"device_id": "d1", "event_id": "mine"},
        7,
    ],
)
def test_what_is_no_entry_is_refused_and_nothing_is_taken(house, door, ops, entry):
    answer = change(door, ops, {"ip": "203.0.113.7"}, entry)
    assert answer.status_code == 422
    assert "entry 2" in answer.json()["detail"]
    assert house.values("lists") == []


def test_what_does_not_fit_the_schema_is_refused_alone(house, door, ops):
    answer = change(door, ops, {"ip": "203.0.113.7"}, {"ip": "999.0.0.1"}, {"ip": "203.0.113.8", "expires_at": "soon"})
    assert answer.status_code == 207
    assert [result["status"] for result in answer.json()["results"]] == [202, 422, 422]
    assert len(house.values("lists")) == 1


@pytest.mark.parametrize(("name", "version"), [("Deny", "1"), ("4", "1"), ("deny", ""), ("deny", "a b")])
def test_a_list_and_a_version_have_plain_names(door, ops, name, version):
    assert change(door, ops, {"device_id": "d1"}, name=name, version=version).status_code == 422


# --- the commands -----------------------------------------------------------------------------------------------------


def test_a_file_is_sent_once_and_shown(house, door, ops, tmp_path):
    file = tmp_path / "deny.csv"
    rows = [f"d{number},,,seen in fraud" for number in range(1_100)] + [",203.0.113.7,2026-12-24T18:00:00Z,", ",no,,"]
    file.write_text("device_id,ip,expires_at,reason\n" + "\n".join(rows) + "\n")
    sender, steps = Door(str(door.base_url), "fraud_ops", PASSWORD), []
    sent = sender.change("deny", read_entries(file), "1", steps.append)
    assert (sent.taken, sent.again, sent.refused) == (1_101, 0, 1)
    assert sent.told[0].startswith("entry 1102: validate: field ip")
    assert steps == [500, 1_000, 1_102]
    assert sender.change("deny", read_entries(file), "1", steps.append).again == 1_101
    taken_off = [{"device_id": "d7", "removed": True}, {"device_id": "d9", "expires_at": "2020-01-01T00:00:00Z"}]
    house.clock.ms += 1
    assert sender.change("deny", iter(taken_off), "2", steps.append).taken == 2
    found = standing(house.log, "deny", NOW_US + 1)
    assert len(found) == 1_099
    assert {each.added_by for each in found} == {"fraud_ops"}
    assert standing(house.log, "watch", NOW_US) == []
    assert len(standing(house.log, "deny", NOW_US + 365 * 86_400_000_000)) == 1_098
    assert house.clock.ms > NOW_MS
    with pytest.raises(UsageError, match="entry 1"):
        sender.change("deny", iter([{"device": "d1"}]), "3", steps.append)


def test_what_is_wrong_is_said(house, door, tmp_path):
    url = str(door.base_url)
    house.person("analyst")
    with pytest.raises(AccessError, match="no such name"):
        Door(url, "analyst", "wrong")
    with pytest.raises(AccessError, match="lists:write"):
        Door(url, "analyst", PASSWORD).change("deny", iter([{"device_id": "d1"}]), "1", print)
    with pytest.raises(OverloadError, match="tidegate up"):
        Door("http://127.0.0.1:1", "analyst", PASSWORD)
    with pytest.raises(NotFoundError, match="no such file"):
        list(read_entries(tmp_path / "none.csv"))
    for name, text, said in [
        ("a.txt", "d1", "wanted a file named"),
        ("a.csv", "device\nd1\n", "wanted a header"),
        ("a.csv", "reason\nd1\n", "one thing to list"),
        ("a.jsonl", '{"ip": "203.0.113.7"}\nip\n', "line 2: wanted a JSON object"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match=said):
            list(read_entries(tmp_path / name))
    (tmp_path / "a.csv").write_bytes(b"device_id\n\xff\n")
    with pytest.raises(UsageError, match="UTF-8"):
        list(read_entries(tmp_path / "a.csv"))
    (tmp_path / "a.jsonl").write_text('\n{"ip": "203.0.113.7", "removed": true}\n')
    assert list(read_entries(tmp_path / "a.jsonl")) == [{"ip": "203.0.113.7", "removed": True}]
