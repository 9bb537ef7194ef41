"""The OpenAPI description is valid, and the door does what it says."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from tests.contracts.test_hotstore import revision
from tests.intake.house import DETECTOR, NOW_US, PASSWORD, PERSONAL, transaction
from tests.intake.test_decisions import Engine, decision
from tests.intake.test_events import EVENTS, JSON

from tidegate.ports.hotstore import Projection
from tidegate.streams.schema import STREAMS, load_schema

CONSUMER_PARTS = (
    *("", "/subscription", "/assignments", "/offsets", "/records"),
    *("/positions", "/positions/beginning", "/positions/end"),
)
TOPIC_PARTS = (
    *("", "/{topic}", "/{topic}/configs", "/{topic}/configs/{name}", "/{topic}/records", "/{topic}/records:batch"),
    *(f"/{{topic}}/partitions{part}" for part in ("", "/{partition}", "/{partition}/offset")),
)


def schema_of(description, schema):
    return Draft202012Validator(schema | {"components": description["components"]})


def check(description, path, answer):
    """Whether an answer is one that the description knows of its route."""
    operation = description["paths"][path][answer.request.method.lower()]
    described = operation["responses"][str(answer.status_code)]
    media_type = answer.headers["Content-Type"].partition(";")[0]
    schema = described["content"][media_type]["schema"]
    if media_type != "text/plain":
        schema_of(description, schema).validate(answer.json())
    return answer.status_code


def test_it_is_valid_and_complete(house, door):
    description = door.get("/openapi.json").json()
    validate(description, cls=OpenAPIV31SpecValidator)
    assert set(description["paths"]) == {
        "/v1/streams/{stream}/events",
        "/v1/webhooks/{source}",
        "/v1/lists/{name}",
        "/v1/decisions",
        "/v1/decisions/{event_id}",
        "/v1/customers/{token}/recent",
        "/v1/sessions/{session_id}",
        "/v1/sign-in",
        "/v1/transactions/{event_id}/reveal",
        "/graphql",
        "/healthz",
        "/readyz",
        "/metrics",
        "/topics",
        "/topics/{topic}",
        "/topics/{topic}/partitions",
        "/topics/{topic}/partitions/{partition}",
        "/topics/{topic}/partitions/{partition}/offsets",
        "/consumers/{group}",
        *(f"/consumers/{{group}}/instances/{{instance}}{part}" for part in CONSUMER_PARTS),
        "/v3/clusters",
        "/v3/clusters/{cluster_id}",
        *(f"/v3/clusters/{{cluster_id}}/topics{part}" for part in TOPIC_PARTS),
        "/subjects",
        "/subjects/{subject}",
        "/subjects/{subject}/versions",
        "/subjects/{subject}/versions/{version}",
        "/subjects/{subject}/versions/{version}/schema",
        "/schemas/types",
        "/schemas/ids/{schema_id}",
        "/schemas/ids/{schema_id}/versions",
        "/compatibility/subjects/{subject}/versions/{version}",
        "/config",
        "/config/{subject}",
    }
    assert description["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, operations in description["paths"].items():
        for operation in operations.values():
            is_open = path in ("/healthz", "/readyz", "/metrics", "/v1/sign-in", "/v1/webhooks/{source}")
            assert operation.get("security", description["security"]) == (
                [] if is_open else [{"bearer": []}, {"basic": []}]
            )
            assert operation["summary"]
            assert "HTTPValidationError" not in str(operation)


def test_answers_are_as_described(house):
    with house.open_door(decision_timeout_ms=20, rate_limit_per_s=60) as door:
        description = door.get("/openapi.json").json()
        house.identity.add_user("ada", PASSWORD, frozenset({"fraud_ops"}))
        ops = house.person("fraud_ops")
        seen = set()

        def see(path, method, url=None, **given):
            seen.add((path, check(description, path, door.request(method, url or path, **given))))

        events, good, bad = "/v1/streams/{stream}/events", transaction(), transaction("tx-2", pan="1")
        see(events, "POST", EVENTS, json=good)
        see(events, "POST", EVENTS, json=[good, bad])
        see(events, "POST", EVENTS, json=bad)
        see(events, "POST", EVENTS, json=[bad, bad])
        see(events, "POST", EVENTS, content=b"{", headers=JSON)
        see(events, "POST", EVENTS, content=b"{")
        see(events, "POST", EVENTS, json=good, headers={"Authorization": ""})
        see(events, "POST", EVENTS, json=good, headers=ops)
        see(events, "POST", "/v1/streams/none/events", json=good)
        see(events, "POST", EVENTS, json=[good] * 1001)
        see("/v1/decisions", "POST", json=transaction("tx-3"))
        with Engine(house.log):
            see("/v1/decisions", "POST", json=transaction("tx-4"))
        see("/v1/decisions", "POST", json=bad)
        house.project()
        house.hotstore.apply(Projection(decisions=[decision("tx-1")], revisions=[revision(1, 1, DETECTOR)]), {})
        for event_id in ("tx-1", "tx-2", "a b"):
            see("/v1/decisions/{event_id}", "GET", f"/v1/decisions/{event_id}")
        recent, token = "/v1/customers/{token}/recent", house.keys.token("customer", PERSONAL["customer_id"])
        see(recent, "GET", f"/v1/customers/{token}/recent", headers=ops)
        see(recent, "GET", f"/v1/customers/{token}/recent?limit=0", headers=ops)
        see("/v1/sessions/{session_id}", "GET", "/v1/sessions/none", headers=ops)
        session = {"event_id": "s-1", "event_time": NOW_US, "session_id": "v-1", "action": "view"}
        see(events, "POST", "/v1/streams/sessions/events", json=session)
        house.project()
        see("/v1/sessions/{session_id}", "GET", "/v1/sessions/v-1", headers=ops)
        see("/v1/sign-in", "POST", json={"name": "ada", "password": PASSWORD})
        see("/v1/sign-in", "POST", json={"name": "ada", "password": "no"})
        see("/v1/sign-in", "POST", json={"name": "ada"})
        reveal = "/v1/transactions/{event_id}/reveal"
        see(reveal, "POST", "/v1/transactions/tx-1/reveal", headers=ops)
        see(reveal, "POST", "/v1/transactions/tx-9/reveal", headers=ops)
        see(reveal, "POST", "/v1/transactions/tx-1/reveal")
        house.keys.destroy(token)
        see(reveal, "POST", "/v1/transactions/tx-1/reveal", headers=ops)
        for path in ("/healthz", "/readyz", "/metrics"):
            see(path, "GET")
        while (events, 429) not in seen:
            see(events, "POST", EVENTS, json=good)
    assert {status for _, status in seen} == {200, 202, 207, 401, 403, 404, 410, 413, 415, 422, 429}


@pytest.mark.parametrize("stream", STREAMS)
def test_an_event_s_description_is_its_schema(house, stream):
    description = house.app().openapi()
    described, schema = description["components"]["schemas"][stream], load_schema(stream)
    assert described["properties"].keys() == {field.name for field in schema.fields}
    assert set(described["required"]) == {field.name for field in schema.fields if not field.nullable}


def test_an_event_that_is_taken_fits_its_description(house):
    description = house.app().openapi()
    body = description["paths"]["/v1/streams/{stream}/events"]["post"]["requestBody"]["content"]
    validator = schema_of(description, body["application/json"]["schema"])
    validator.validate(transaction(colour="blue"))
    validator.validate([transaction(), transaction(event_time="2026-05-28T20:26:40Z")])
    assert not validator.is_valid([])
    assert not schema_of(description, {"$ref": "#/components/schemas/transactions"}).is_valid(
        transaction(channel="fax")
    )
