"""GraphQL at the door: the same events, the same checks, the same answers as by REST."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from itertools import count, pairwise
from pathlib import Path

import httpx
import msgspec
import pytest
from tests.contracts.test_hotstore import revision
from tests.intake.house import NOW_US, PERSONAL, transaction
from tests.intake.test_decisions import Engine, decision
from tests.intake.test_events import problem

from tidegate.intake.limits import MAX_QUERY_COST, MAX_QUERY_DEPTH, MAX_QUERY_TOKENS, MAX_SUBSCRIPTIONS
from tidegate.ports.hotstore import Projection
from tidegate.ports.log import Entry
from tidegate.streams.decision import ALERTS, DECISIONS, Alert, Decision

CONFORMANCE = Path(__file__).resolve().parents[2].parent / "shared" / "conformance"
JSON_FILES = sorted((CONFORMANCE / "json-test-suite" / "test_parsing").glob("*.json"))
BLNS = msgspec.json.decode((CONFORMANCE / "blns" / "blns.json").read_bytes())

SEND = """mutation($stream: Stream!, $events: [Event!]!) { send(stream: $stream, events: $events) {
  ... on Taken { event_id partition offset duplicate } ... on Refused { step field detail } } }"""
DECIDE = """mutation($event: Event!) { decide(transaction: $event) { __typename
  ... on Decision { event_id outcome score reasons card record } ... on Pending { event_id card }
  ... on Refused { step field detail } } }"""


def ask(client, query, headers=None, **variables):
    return client.post("/graphql", json={"query": query, "variables": variables}, headers=headers)


def data(answer):
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert "errors" not in content, content
    return content["data"]


def send(door, *events, stream="transactions"):
    return data(ask(door, SEND, stream=stream, events=list(events)))["send"]


def test_events_are_taken_as_by_rest(house, door):
    first, second = send(door, transaction("tx-1"), transaction("tx-2"))
    assert first["event_id"], second["event_id"] == ("tx-1", "tx-2")
    assert not first["duplicate"]
    assert send(door, transaction("tx-1"))[0] == first | {"duplicate": True}
    by_rest = door.post("/v1/streams/transactions/events", json=transaction("tx-3"))
    assert by_rest.status_code == 202
    written = {record["event_id"]: record for record in house.values("transactions")}
    assert {name: value for name, value in written["tx-1"].items() if name not in ("event_id", "sealed")} == {
        name: value for name, value in written["tx-3"].items() if name not in ("event_id", "sealed")
    }


def test_what_is_refused_is_kept_and_the_rest_is_taken(house, door):
    taken, refused, no_object = send(door, transaction(), transaction("tx-2", amount_minor="much"), [1])
    assert taken["event_id"] == "tx-1"
    assert (refused["step"], refused["field"]) == ("validate", "amount_minor")
    assert no_object["step"] == "decode"
    assert [each.step for each in house.rejected()] == ["validate", "decode"]


def test_an_event_may_stand_in_the_query(house, door):
    literal = """mutation { send(stream: sessions, events: [{event_id: "e-1", event_time: %d, session_id: "s-1",
        customer_id: "cust-1", action: %s}]) { ... on Taken { event_id } ... on Refused { field } } }"""
    assert data(ask(door, literal % (NOW_US, 7)))["send"] == [{"field": "action"}]
    assert data(ask(door, literal % (NOW_US, '"view"')))["send"] == [{"event_id": "e-1"}]


def test_a_transaction_waits_for_its_decision(house, door):
    with Engine(house.log):
        made = data(ask(door, DECIDE, event=transaction("tx-1")))["decide"]
    assert made["__typename"] == "Decision"
    assert made["record"]["event_id"] == made["event_id"] == "tx-1"
    assert made["card"] == "411111******1111"
    refused = data(ask(door, DECIDE, event=transaction("tx-2", currency="?")))["decide"]
    assert refused["field"] == "currency"
    analyst = house.person("analyst")
    found = data(ask(door, 'query { decision(event_id: "tx-1") { ... on Decision { outcome } } }', analyst))
    assert found["decision"] == {"outcome": made["outcome"]}


def test_what_revised_a_decision_is_told_with_it(house, door):
    with Engine(house.log):
        made = data(ask(door, DECIDE, event=transaction("tx-1")))["decide"]
    house.project()
    later = revision(1, 1, made["record"]["detector"])
    first = msgspec.convert(made["record"], Decision)
    house.hotstore.apply(Projection(decisions=[first], revisions=[later]), {})
    analyst, token = house.person("analyst"), house.keys.token("customer", PERSONAL["customer_id"])
    query = 'query { decision(event_id: "tx-1") { ... on Decision { outcome revision } } }'
    found = data(ask(door, query, analyst))["decision"]
    assert found == {"outcome": made["outcome"], "revision": msgspec.to_builtins(later)}
    query = "query($c: ID!) { recent(customer_id: $c) { outcome revised_outcome } }"
    (listed,) = data(ask(door, query, analyst, c=token))["recent"]
    assert listed == {"outcome": made["outcome"], "revised_outcome": later.new_outcome}


def test_one_that_does_not_come_in_time_is_pending(house):
    with house.open_door(decision_timeout_ms=20) as door:
        made = data(ask(door, DECIDE, event=transaction("tx-1")))["decide"]
        assert made == {"__typename": "Pending", "event_id": "tx-1", "card": "411111******1111"}
        query = 'query { decision(event_id: "%s") { __typename } }'
        assert data(ask(door, query % "tx-1"))["decision"] == {"__typename": "Pending"}
        assert data(ask(door, query % "tx-9"))["decision"] is None


def test_customers_and_sessions_are_read(house, door):
    send(door, *(transaction(f"tx-{i}", event_time=NOW_US + i) for i in range(3)))
    session = {"event_time": NOW_US, "session_id": "s-1", "customer_id": "cust-1", "action": "view", "event_id": "e-1"}
    send(door, session, stream="sessions")
    house.project()
    token, analyst = house.keys.token("customer", PERSONAL["customer_id"]), house.person("analyst")
    query = "query($c: ID!, $n: Int! = 2) { recent(customer_id: $c, limit: $n) { event_id amount_minor outcome } }"
    assert data(ask(door, query, analyst, c=token))["recent"] == [
        {"event_id": f"tx-{i}", "amount_minor": 1999, "outcome": None} for i in (2, 1)
    ]
    query = 'query { session(session_id: "s-1") { started actions } none: session(session_id: "x") { started } }'
    assert data(ask(door, query, analyst)) == {
        "session": {"started": NOW_US, "actions": {"view": 1}},
        "none": None,
    }


def test_who_may_not_is_told_so_and_the_rest_is_answered(house, door):
    problem(ask(door, "{ __typename }", {"Authorization": "Bearer no"}), 401)
    both = 'query { session(session_id: "x") { started } __typename }'
    refused = ask(door, both).json()
    assert refused["data"] == {"session": None, "__typename": "Query"}
    assert refused["errors"][0]["extensions"]["code"] == "forbidden"
    with house.open_door() as other:
        narrow = {"Authorization": f"Bearer {house.identity.add_source('till', frozenset({'carts'}))}"}
        told = ask(other, SEND, narrow, stream="transactions", events=[transaction()]).json()["errors"][0]
        assert told["extensions"]["code"] == "forbidden"
        assert "till" in told["message"]
    assert house.values("transactions") == []


@pytest.mark.parametrize(
    "query",
    [
        "query { nothing }",
        "query {",
        "",
        'query { session(session_id: {pan: "4111111111111111"}) { started } }',
        'query { recent(customer_id: "x", limit: 4111111111111111) { event_id } }',
        'query { recent(customer_id: "x", limit: "zoe.quixotic@example.org") { event_id } }',
        "mutation { send(stream: zoe_quixotic_4111111111111111, events: []) { __typename } }",
        'query($limit: Int!) { recent(customer_id: "x", limit: $limit) { event_id } }',
        "4111111111111111",
        "query zoe'quixotic@example.org'",
    ],
)
def test_no_error_repeats_a_value_that_was_given(door, query, caplog):
    answer = ask(door, query, limit="zoe.quixotic@example.org 4111111111111111")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["message"]
    for told in (answer.text, caplog.text):
        assert "4111111" not in told
        assert "quixotic@" not in told


def test_an_operation_costs_no_more_than_it_may(house, door):
    many = [{}] * MAX_QUERY_COST
    assert "costs" in ask(door, SEND, stream="transactions", events=many).json()["errors"][0]["message"]
    waits = " ".join(f"d{i}: decide(transaction: {{}}) {{ __typename }}" for i in range(20))
    assert "costs" in ask(door, f"mutation {{ {waits} }}").json()["errors"][0]["message"]
    spread = (
        "query { ...a } "
        + " ".join(
            f"fragment {name} on Query {{ ...{after} ...{after} ...{after} }}"
            for name, after in pairwise("abcdefghijkl")
        )
        + " fragment l on Query { "
        + " ".join(f'f{i}: session(session_id: "x") {{ started }}' for i in range(10))
        + " }"
    )
    assert "costs" in ask(door, spread).json()["errors"][0]["message"]
    assert house.values("transactions") == []


def test_depth_aliases_words_and_batches_are_limited(house, door):
    deep = "{ __schema { types " + "{ fields { type " * MAX_QUERY_DEPTH + "{ name }" + " } }" * MAX_QUERY_DEPTH + " } }"
    assert "depth" in ask(door, deep).json()["errors"][0]["message"]
    aliases = " ".join(f"a{i}: __typename" for i in range(30))
    assert "aliases" in ask(door, f"{{ {aliases} }}").json()["errors"][0]["message"]
    assert ask(door, "{ " + "__typename " * MAX_QUERY_TOKENS + "}").status_code == 400
    problem(door.post("/graphql", json=[{"query": "{ __typename }"}] * 2), 422)
    problem(door.post("/graphql", json={"variables": {}}), 422)
    problem(door.post("/graphql", content=b'{"query": "{ __typename }", "query": "{ a }"}', headers=JSON), 422)
    problem(door.post("/graphql", content=b"{", headers=JSON), 422)
    problem(door.get("/graphql"), 405)


JSON = {"Content-Type": "application/json"}


def test_circles_are_refused(door):
    answer = ask(door, "query { ...a } fragment a on Query { ...b } fragment b on Query { ...a }")
    assert answer.status_code == 400
    assert "itself" in answer.json()["errors"][0]["message"]


def test_what_rest_takes_of_any_json_graphql_takes(house, door):
    """As a field that the schema does not know: it is sealed as it is, or refused with a reason."""
    for number, file in enumerate(JSON_FILES):
        event = msgspec.json.encode(transaction(f"tx-{number}"))[:-1] + b',"extra":' + file.read_bytes() + b"}"
        by_rest = door.post("/v1/streams/transactions/events", content=event, headers=JSON)
        asked = b'{"query":%s,"variables":{"stream":"transactions","events":[%s]}}' % (msgspec.json.encode(SEND), event)
        answer = door.post("/graphql", content=asked, headers=JSON)
        if by_rest.status_code == 202:
            assert data(answer)["send"][0]["duplicate"], file.name
        else:
            assert answer.status_code == 422 or data(answer)["send"][0]["detail"], file.name


def test_naughty_texts_read_back_equal(house, door):
    texts = [text for text in BLNS if text]
    results = send(door, *(transaction(f"tx-{i}", note=text) for i, text in enumerate(texts)))
    by_rest = door.post(
        "/v1/streams/transactions/events", json=[transaction(f"tx-{i}", note=text) for i, text in enumerate(texts)]
    ).json()["results"]
    for result, same in zip(results, by_rest, strict=True):
        assert result.get("duplicate") is False if same["status"] == 202 else result["detail"]


def events_of(stream):
    """The results of a subscription, as they come."""
    name = None
    for line in stream.iter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: ") and name == "next":
            yield json.loads(line[6:])
        elif name == "complete":
            return


def subscribe(door, query, headers):
    return door.stream("POST", "/graphql", json={"query": query}, headers=headers | {"Accept": "text/event-stream"})


def test_decisions_and_alerts_come_as_they_are_made(house, door):
    analyst, numbers = house.person("analyst"), count(1)
    house.log.append([entry(DECISIONS, decision("tx-0", outcome="decline"))])

    def decide():
        event_id = f"tx-{next(numbers)}"
        house.log.append([entry(DECISIONS, decision(event_id, outcome=each)) for each in ("approve", "decline")])

    query = "subscription { decisions(outcomes: [decline]) { event_id outcome } }"
    with subscribe(door, query, analyst) as stream:
        made = first_of(stream, decide)["data"]["decisions"]
    assert made["outcome"] == "decline"
    assert made["event_id"] != "tx-0"  # it was there before
    query = "subscription { alerts(min_score: 50) { score } }"
    with subscribe(door, query, analyst) as stream:
        told = first_of(stream, lambda: house.log.append([entry(ALERTS, alert(score)) for score in (10, 90)]))
    assert told["data"]["alerts"] == {"score": 90}


def entry(topic, content):
    return Entry(topic, content.event_id, msgspec.json.encode(content), 0)


def alert(score):
    return Alert(
        event_id="tx-1",
        event_time=NOW_US,
        detector="card_fraud",
        detector_version="1",
        outcome="review",
        score=score,
        reasons=[],
        accepted_ms=0,
        decided_ms=0,
    )


def first_of(stream, write):
    """The first result. It is written again and again: only what is written after the subscription began is told."""
    over = threading.Event()

    def keep_writing():
        while not over.wait(0.05):
            write()

    writing = threading.Thread(target=keep_writing)
    writing.start()
    try:
        return next(events_of(stream))
    finally:
        over.set()
        writing.join()


def test_who_may_not_listen_is_told_so(house, door):
    query = "subscription { alerts { event_id } }"
    problem(ask(door, query), 406)
    with subscribe(door, query, {}) as stream:
        [told] = events_of(stream)
    assert told["errors"][0]["extensions"]["code"] == "forbidden"
    with subscribe(door, "subscription { nothing }", {}) as stream:
        [told] = events_of(stream)
    assert "nothing" in told["errors"][0]["message"]


def test_so_many_listen_and_no_more(house, door):
    analyst, query = house.person("analyst"), "subscription { alerts { event_id } }"
    with ExitStack() as held:
        client = held.enter_context(httpx.Client(base_url=door.base_url, limits=httpx.Limits(max_connections=None)))
        for _ in range(MAX_SUBSCRIPTIONS):
            assert held.enter_context(subscribe(client, query, analyst)).status_code == 200
        with subscribe(client, query, analyst) as one_more:
            assert one_more.status_code == 503
    with subscribe(door, "subscription { nothing }", analyst) as stream:
        assert stream.status_code in (200, 503)
