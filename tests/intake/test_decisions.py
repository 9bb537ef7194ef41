"""The way from a transaction to its decision, with an engine that decides everything alike."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from tests.intake.house import DETECTOR, bearer, transaction
from tests.intake.test_events import JSON, problem

from tidegate.ports.hotstore import Projection
from tidegate.ports.log import Entry
from tidegate.streams.decision import DECISIONS, Decision

DECIDE = "/v1/decisions"
MASKED = "411111******1111"


def decision(event_id, **given):
    return Decision(
        **{
            "event_id": event_id,
            "event_time": 1,
            "stream": "transactions",
            "detector": DETECTOR,
            "detector_version": "1",
            "features": {"card_count_2h": 4, "ratio": 0.5, "seen": True, "country": "DE", "none": None},
            "rules": {"velocity": True},
            "late": False,
            "score": 40,
            "outcome": "review",
            "reasons": ["4 payments of one card within 2 hours"],
        }
        | given
    )


class Engine(threading.Thread):
    """Reads transactions in a group of its own, and writes a decision for each as the real engine does."""

    def __init__(self, log):
        super().__init__()
        self._log = log
        self.over = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def run(self):
        consumer = self._log.consumer("engine", ["transactions"])
        while not self.over.is_set():
            records = consumer.poll(100, 10)
            entries = [
                Entry(DECISIONS, record.key, msgspec.json.encode(each), record.timestamp_ms)
                for record in records
                # Another detector decides faster: its answer is not the one that is asked for.
                for each in (decision(record.id, detector="other", score=1), decision(record.id))
            ]
            consumer.commit(entries)
        consumer.close()


def test_a_transaction_is_answered_with_its_decision(house, door):
    with Engine(house.log):
        answer = door.post(DECIDE, json=transaction())
    assert answer.status_code == 200
    assert answer.json() == msgspec.to_builtins(decision("tx-1")) | {"card": MASKED, "revision": None}
    assert [record.id for record in house.records("transactions")] == ["tx-1"]


def test_many_at_once_each_get_their_own(house, door):
    ids = [f"tx-{i}" for i in range(60)]
    with Engine(house.log), ThreadPoolExecutor(12) as senders:
        answers = list(senders.map(lambda event_id: door.post(DECIDE, json=transaction(event_id)).json(), ids))
    assert [answer["event_id"] for answer in answers] == ids
    assert {answer["outcome"] for answer in answers} == {"review"}


def test_the_same_transaction_twice_at_once_is_decided_once(house, door):
    with Engine(house.log), ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(lambda _: door.post(DECIDE, json=transaction()).json(), range(8)))
    assert all(answer == answers[0] for answer in answers)
    assert len(house.records("transactions")) == 1


def test_a_duplicate_is_answered_with_the_first_one_s_decision(house):
    with house.open_door() as door, Engine(house.log):
        first = door.post(DECIDE, json=transaction()).json()
        assert door.post(DECIDE, json=transaction(amount_minor=7)).json() == first
    house.project()
    house.hotstore.apply(Projection(decisions=[decision("tx-1", score=41)]), {})
    with house.open_door() as door:  # a door that did not see it decided asks the hot store
        assert door.post(DECIDE, json=transaction()).json() == first | {"score": 41}


def test_a_revision_does_not_change_what_was_answered(house, door):
    with Engine(house.log):
        first = door.post(DECIDE, json=transaction()).json()
        revision = decision("tx-1", outcome="decline", score=99)
        house.log.append([Entry(DECISIONS, "tx-1", msgspec.json.encode(revision), 1)])
        assert door.post(DECIDE, json=transaction("tx-2")).status_code == 200  # by now the revision was read
        assert door.post(DECIDE, json=transaction()).json() == first


def test_what_is_no_decision_is_passed_over(house, door, caplog):
    house.log.append([Entry(DECISIONS, "x", content, 1) for content in (b"{}", b"4111111111111111", b"")])
    with Engine(house.log):
        assert door.post(DECIDE, json=transaction()).status_code == 200
    assert caplog.text.count('"what":"failed","where":"decisions"') == 3
    assert "4111111111111111" not in caplog.text


def test_without_an_engine_it_is_pending_and_not_lost(house):
    with house.open_door(decision_timeout_ms=20) as door:
        answer = door.post(DECIDE, json=transaction())
        assert answer.status_code == 202
        assert answer.json() == {"event_id": "tx-1", "outcome": "pending", "card": MASKED}
        where = answer.headers["Location"]
        assert where == "/v1/decisions/tx-1"
        assert (door.get(where).status_code, door.get(where).json()) == (202, answer.json())
        assert door.post(DECIDE, json=transaction()).status_code == 202
        with Engine(house.log):
            while (later := door.get(where)).status_code == 202:
                pass
        assert later.status_code == 200
        assert later.json() == msgspec.to_builtins(decision("tx-1")) | {"card": MASKED, "revision": None}
        assert "tidegate_door_decisions_pending_total 2.0" in door.get("/metrics").text


def test_the_hot_store_answers_for_what_the_door_does_not_remember(house, door):
    problem(door.get("/v1/decisions/tx-1"), 404)
    door.post("/v1/streams/transactions/events", json=transaction())
    house.project()
    assert door.get("/v1/decisions/tx-1").json() == {"event_id": "tx-1", "outcome": "pending", "card": MASKED}
    house.hotstore.apply(Projection(decisions=[decision("tx-1")]), {})
    known = door.get("/v1/decisions/tx-1").json()
    assert known == msgspec.to_builtins(decision("tx-1")) | {"card": MASKED, "revision": None}


def test_a_transaction_without_a_card_has_none_to_show(house, door):
    with Engine(house.log):
        assert door.post(DECIDE, json=transaction(pan=None)).json()["card"] is None


@pytest.mark.parametrize("content", [b"[]", b"", b"{", b'{"event_id":"a"}\n{"event_id":"b"}', b"7"])
def test_one_transaction_is_wanted(house, door, content):
    said = problem(door.post(DECIDE, content=content, headers=JSON), 422)
    assert said["step"] == "decode"
    assert len(house.rejected()) == 1


def test_what_does_not_fit_is_refused_and_kept(house, door):
    assert problem(door.post(DECIDE, json=transaction(currency="eur")), 422)["field"] == "currency"
    assert [each.field for each in house.rejected()] == ["currency"]
    problem(door.post(DECIDE, content=b"{}", headers={"Content-Type": "application/x-ndjson"}), 415)


def test_who_may_read_decisions(house, door):
    door.headers.pop("Authorization")
    problem(door.get("/v1/decisions/tx-1"), 401)
    sensors = bearer(house.identity.add_source("sensors", frozenset({"stock"})))
    for reader in (house.person("auditor"), house.person("analyst"), house.source, sensors):
        problem(door.get("/v1/decisions/tx-1", headers=reader), 404)
    for strange in ("a%20b", "a%0Ab", "x" * 129, "zoe@example.org"):
        problem(door.get(f"/v1/decisions/{strange}", headers=house.source), 422)
