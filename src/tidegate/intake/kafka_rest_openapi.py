"""How the routes of the Kafka REST Proxy are described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from tidegate.intake.decode import JSON
from tidegate.intake.openapi import ref

V2 = "application/vnd.kafka.v2+json"

Schema = dict[str, Any]


def answers(
    good: Mapping[int, Schema | None], *error_statuses: int, media_types: Sequence[str] = (JSON,)
) -> dict[int | str, dict[str, Any]]:
    """The answers of a route: the schema of each good one by status (None: it has no body), and the statuses that are
    errors by their code.
    """
    described: dict[int | str, dict[str, Any]] = {}
    for status, schema in good.items():
        described[status] = {"description": HTTPStatus(status).phrase}
        if schema is not None:
            described[status]["content"] = {media_type: {"schema": schema} for media_type in media_types}
    for status in sorted({401, 403, 422, 429, 500, 503, *error_statuses}):
        described[status] = {
            "description": HTTPStatus(status).phrase,
            "content": {JSON: {"schema": ref("KafkaError")}},
        }
    return described


def v2(
    good: Mapping[int, Schema | None], *error_statuses: int, media_types: Sequence[str] = (V2, JSON)
) -> dict[int | str, dict[str, Any]]:
    """As `answers`, of v2: what is accepted is negotiated."""
    return answers(good, 406, *error_statuses, media_types=media_types)


def array(name: str) -> Schema:
    return {"type": "array", "items": ref(name)}


def body(schema: Schema, *media_types: str, required: bool = True) -> dict[str, Any]:
    """What a route is sent."""
    content = {media_type: {"schema": schema} for media_type in media_types or (JSON,)}
    return {"requestBody": {"required": required, "content": content}}
