"""The OpenAPI description: made from the structs that are answered and the schemas that are checked."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from tidegate.intake import answers, kafka_rest_answers, problems, schema_registry_answers
from tidegate.intake.decode import JSON, NDJSON
from tidegate.intake.limits import MAX_BODY_BYTES, MAX_EVENT_BYTES, MAX_EVENTS
from tidegate.ports.hotstore import Session
from tidegate.streams.schema import STREAMS, load_schema

_REF = "#/components/schemas/{name}"

#: What GraphQL answers; what `data` holds is told by its own schema.
GRAPHQL_ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {"type": ["object", "null"]},
        "errors": {"type": "array", "items": {"type": "object", "required": ["message"]}},
    },
}

_ANSWERS = (
    answers.Problem,
    answers.Taken,
    answers.Refused,
    answers.DecisionAnswer,
    answers.Pending,
    answers.Recent,
    answers.ListEntry,
    answers.GraphqlRequest,
    answers.SignIn,
    answers.Token,
    answers.Health,
    Session,
    *kafka_rest_answers.ANSWERS,
    *schema_registry_answers.ANSWERS,
)

_DESCRIPTION = f"""The door of Tidegate: takes the events of the company's streams and answers with decisions.

Every refusal is a problem (RFC 9457): it says the step, what was wanted, what was got and how to mend it. Requests hold
up to {MAX_BODY_BYTES} bytes and {MAX_EVENTS} events of up to {MAX_EVENT_BYTES} bytes each.
"""


def ref(name: str) -> dict[str, Any]:
    return {"$ref": _REF.format(name=name)}


def results(*of: str) -> dict[str, Any]:
    """An answer with one result for each event, in order."""
    item = ref(of[0]) if len(of) == 1 else {"anyOf": [ref(name) for name in of]}
    return {"type": "object", "required": ["results"], "properties": {"results": {"type": "array", "items": item}}}


def responses(good: Mapping[int, dict[str, Any]], *problem_statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers of a route: the schema of each good one by status, and the statuses that are problems."""
    described: dict[int | str, dict[str, Any]] = {
        status: {"description": HTTPStatus(status).phrase, "content": {JSON: {"schema": schema}}}
        for status, schema in good.items()
    }
    for status in (*problem_statuses, 500):
        described[status] = {
            "description": HTTPStatus(status).phrase,
            "content": {problems.MEDIA_TYPE: {"schema": ref("Problem")}},
        }
    return described


def events_body() -> dict[str, Any]:
    event = {"anyOf": [ref(stream) for stream in STREAMS]}
    content = {
        JSON: {"schema": {"anyOf": [event, {"type": "array", "items": event, "minItems": 1, "maxItems": MAX_EVENTS}]}},
        NDJSON: {"schema": {"type": "string", "description": "One event a line."}},
        "text/csv": {"schema": {"type": "string", "description": "A header of fields, one event a row."}},
        "application/avro": {
            "schema": {"type": "string", "format": "binary", "description": "An object container, or a single object."}
        },
    }
    return _body(content) | {"security": _SECURITY, "parameters": [_ENCODING]}


def transaction_body() -> dict[str, Any]:
    return _body({JSON: {"schema": ref("transactions")}}) | {"security": _SECURITY}


def entries_body() -> dict[str, Any]:
    entry = ref("ListEntry")
    content = {
        JSON: {"schema": {"anyOf": [entry, {"type": "array", "items": entry, "minItems": 1, "maxItems": MAX_EVENTS}]}},
        NDJSON: {"schema": {"type": "string", "description": "One entry a line."}},
    }
    return _body(content) | {"security": _SECURITY}


def graphql_body() -> dict[str, Any]:
    return _body({JSON: {"schema": ref("GraphqlRequest")}}) | {"security": _SECURITY}


def webhook_body() -> dict[str, Any]:
    message = {"type": "object", "description": "What the source sends; its mapping makes an event of it."}
    content = {kind: {"schema": {"anyOf": [message, {"type": "array", "items": message}]}} for kind in _WEBHOOKS}
    soap = {"text/xml": {"schema": {"type": "string", "description": "Salesforce's outbound message."}}}
    return _body(content | soap) | OPEN


def sign_in_body() -> dict[str, Any]:
    return _body({JSON: {"schema": ref("SignIn")}}) | {"security": []}


_SECURITY = [{"bearer": []}, {"basic": []}]

_WEBHOOKS = (JSON, "application/cloudevents+json", "application/cloudevents-batch+json")

_ENCODING = {
    "name": "Content-Encoding",
    "in": "header",
    "schema": {"enum": ["identity", "gzip", "zstd"]},
    "description": "How the body is packed. Its limit holds for what it unpacks to.",
}

#: For routes that anyone may ask.
OPEN: dict[str, Any] = {"security": []}


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole description, made once."""
    if not app.openapi_schema:
        described = get_openapi(
            title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes, license_info=_LICENCE
        )
        described["security"] = _SECURITY
        described["components"] = {
            "schemas": _answer_schemas() | {stream: _event_schema(stream) for stream in STREAMS},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A source's API key, or the token that /v1/sign-in answers.",
                },
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The same as the password; the name is not looked at.",
                },
            },
        }
        app.openapi_schema = described
    return app.openapi_schema


_LICENCE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}


def _answer_schemas() -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(_ANSWERS, ref_template=_REF)
    return schemas | {
        "Revealed": {"type": "object", "description": "The originals by field.", "additionalProperties": {}}
    }


def _event_schema(stream: str) -> dict[str, Any]:
    """A stream's event as it is sent. Fields that the schema does not know are taken, sealed."""
    schema = load_schema(stream)
    _, components = msgspec.json.schema_components([schema.struct])
    described = components[schema.struct.__name__]
    properties = described["properties"]
    properties["event_time"] = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}]}
    for field in schema.fields:
        if field.doc:
            properties[field.name]["description"] = field.doc
    return described | {"description": schema.doc}
