"""The routes by which v2 clients of the Kafka REST Proxy consume: what is in the log, with tokens in place of personal
values.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response

from tidegate.governance.roles import may
from tidegate.intake.body import content_type
from tidegate.intake.consumer_groups import BAD_CONFIG, OTHER_KIND, Consumer
from tidegate.intake.decode import JSON
from tidegate.intake.door import Door
from tidegate.intake.kafka_rest import READING, accepted, check_partition, require_reading, v2_answer
from tidegate.intake.kafka_rest_answers import (
    CommitOffsets,
    ConsumedRecord,
    CreateConsumer,
    CreatedConsumer,
    NamedOffset,
    NamedOffsets,
    NamedPartition,
    NamedPartitions,
    Subscribed,
    Subscription,
    WantedPartitions,
)
from tidegate.intake.kafka_rest_errors import KafkaRoute, RestError, asked
from tidegate.intake.kafka_rest_openapi import V2, array, body, v2
from tidegate.intake.limits import MAX_POLL_BYTES, MAX_POLL_TIMEOUT_MS, POLL_TIMEOUT_MS
from tidegate.intake.openapi import ref
from tidegate.ports.identity import Principal
from tidegate.ports.log import Record, TopicPartition

FORMAT_MISMATCH = 40601

Group = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
Instance = Annotated[str, Path(max_length=128)]
Timeout = Annotated[int, Query(ge=0, le=MAX_POLL_TIMEOUT_MS)]
MaxBytes = Annotated[int, Query(ge=1, le=2**31 - 1)]

_ENVELOPE = ("sealed", "claim")

_V2 = (V2, "application/vnd.kafka+json", JSON)
_CONSUMER = "/consumers/{group}/instances/{instance}"
_DONE: dict[str, Any] = {"responses": v2({204: None}, 400, 404, 408, 409, 413, 415)}

Kind = TypeVar("Kind")


def consumer_routes(door: Door) -> APIRouter:  # noqa: C901, PLR0915  # a route each
    router = APIRouter(route_class=KafkaRoute, tags=["Kafka REST Proxy v2"])

    @router.post(
        "/consumers/{group}",
        operation_id="createConsumer",
        summary="Create a consumer in a group",
        responses=v2({200: ref("CreatedConsumer")}, 400, 408, 409, 413, 415),
        openapi_extra=body(ref("CreateConsumer"), *_V2, required=False),
    )
    async def create(group: Group, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """A group is its principal's own. A consumer belongs to this door and is forgotten once it is not used."""
        principal = door.access.principal(request)
        if not any(may(principal, permission) for permission in READING.values()):
            require_reading(principal, next(iter(READING)))
        try:
            wanted = await _body(door, request, CreateConsumer, b"{}")
        except RestError as error:
            raise RestError(BAD_CONFIG if error.code == 422 else error.code, error.detail) from None  # noqa: PLR2004
        consumer = door.groups.create(principal.name, group, wanted)
        uri = f"{str(request.base_url).rstrip('/')}/consumers/{group}/instances/{consumer.name}"
        return v2_answer(request, CreatedConsumer(instance_id=consumer.name, base_uri=uri))

    @router.delete(_CONSUMER, operation_id="deleteConsumer", summary="Delete a consumer", status_code=204, **_DONE)
    async def delete(group: Group, instance: Instance, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        await door.groups.delete(found(group, instance, request)[1])
        return _done()

    @router.post(
        f"{_CONSUMER}/subscription",
        operation_id="subscribe",
        summary="Subscribe a consumer to topics",
        status_code=204,
        openapi_extra=body(ref("Subscription"), *_V2),
        **_DONE,
    )
    async def subscribe(group: Group, instance: Instance, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """A pattern stands for those topics that one may read."""
        principal, consumer = found(group, instance, request)
        wanted = await _body(door, request, Subscription)
        topics = _matching(principal, wanted.topic_pattern) if wanted.topics is None else wanted.topics
        if wanted.topics is not None and wanted.topic_pattern is not None:
            raise RestError(OTHER_KIND, "consumer: wanted either topics or a topic_pattern; send one of them")
        for topic in topics:
            require_reading(principal, topic)
        door.groups.subscribe(consumer, topics)
        return _done()

    @router.get(
        f"{_CONSUMER}/subscription",
        operation_id="getSubscription",
        summary="What a consumer is subscribed to",
        responses=v2({200: ref("Subscribed")}, 404),
    )
    async def get_subscription(group: Group, instance: Instance, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        return v2_answer(request, Subscribed(topics=found(group, instance, request)[1].topics))

    @router.delete(
        f"{_CONSUMER}/subscription",
        operation_id="unsubscribe",
        summary="End a consumer's subscription",
        status_code=204,
        **_DONE,
    )
    async def unsubscribe(group: Group, instance: Instance, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        _, consumer = found(group, instance, request)
        consumer.topics, consumer.assigned = [], []
        return _done()

    @router.post(
        f"{_CONSUMER}/assignments",
        operation_id="assign",
        summary="Assign partitions to a consumer",
        status_code=204,
        openapi_extra=body(ref("NamedPartitions"), *_V2),
        **_DONE,
    )
    async def assign(group: Group, instance: Instance, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        principal, consumer = found(group, instance, request)
        wanted = await _body(door, request, NamedPartitions)
        door.groups.assign(consumer, [await checked(principal, each) for each in wanted.partitions])
        return _done()

    @router.get(
        f"{_CONSUMER}/assignments",
        operation_id="getAssignments",
        summary="The partitions that a consumer reads",
        responses=v2({200: ref("NamedPartitions")}, 404),
    )
    async def get_assignments(group: Group, instance: Instance, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        places = await door.groups.places(found(group, instance, request)[1])
        partitions = [NamedPartition(topic=place.topic, partition=place.partition) for place in places]
        return v2_answer(request, NamedPartitions(partitions=partitions))

    @router.post(
        f"{_CONSUMER}/positions",
        operation_id="seek",
        summary="Let a consumer read on from other offsets",
        status_code=204,
        openapi_extra=body(ref("NamedOffsets"), *_V2),
        **_DONE,
    )
    async def seek(group: Group, instance: Instance, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        principal, consumer = found(group, instance, request)
        wanted = await _body(door, request, NamedOffsets)
        await door.groups.seek(consumer, {await checked(principal, each): each.offset for each in wanted.offsets})
        return _done()

    @router.post(
        f"{_CONSUMER}/positions/beginning",
        operation_id="seekToBeginning",
        summary="Let a consumer read on from the first offsets",
        status_code=204,
        openapi_extra=body(ref("NamedPartitions"), *_V2),
        **_DONE,
    )
    async def seek_to_beginning(group: Group, instance: Instance, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        principal, consumer = found(group, instance, request)
        wanted = await _body(door, request, NamedPartitions)
        await door.groups.seek(consumer, {await checked(principal, each): 0 for each in wanted.partitions})
        return _done()

    @router.post(
        f"{_CONSUMER}/positions/end",
        operation_id="seekToEnd",
        summary="Let a consumer read on from the end",
        status_code=204,
        openapi_extra=body(ref("NamedPartitions"), *_V2),
        **_DONE,
    )
    async def seek_to_end(group: Group, instance: Instance, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        principal, consumer = found(group, instance, request)
        wanted = await _body(door, request, NamedPartitions)
        places = [await checked(principal, each) for each in wanted.partitions]
        await door.groups.seek(consumer, await door.groups.ends(places))
        return _done()

    @router.post(
        f"{_CONSUMER}/offsets",
        operation_id="commitOffsets",
        summary="Commit offsets of a consumer's group",
        openapi_extra=body(ref("CommitOffsets"), *_V2, required=False),
        responses=v2({200: {"type": "object"}}, 400, 404, 408, 413, 415),
    )
    async def commit(group: Group, instance: Instance, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Those that are sent, or, without a body, of all that the consumer was given."""
        principal, consumer = found(group, instance, request)
        wanted = await _body(door, request, CommitOffsets, b"{}")
        if wanted.offsets is None:
            await door.groups.commit(consumer, dict(consumer.uncommitted))
        else:
            offsets = {await checked(principal, each): each.offset for each in wanted.offsets}
            await door.groups.commit(consumer, offsets)
        return v2_answer(request, {})

    @router.get(
        f"{_CONSUMER}/offsets",
        operation_id="getCommitted",
        summary="What a consumer's group has committed",
        responses=v2({200: ref("NamedOffsets")}, 400, 404, 408, 413),
    )
    async def get_committed(group: Group, instance: Instance, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Of the partitions that a body names as `assign` has it, as Confluent's clients send it; without one, of all
        of the group.
        """
        principal, consumer = found(group, instance, request)
        async with door.bodies.read(request) as content:
            wanted = asked(content, WantedPartitions, b"{}")
        committed = await door.groups.committed(consumer)
        places = [await checked(principal, each) for each in wanted.partitions or ()] or sorted(committed)
        offsets = [
            NamedOffset(topic=place.topic, partition=place.partition, offset=committed[place], metadata="")
            for place in places
            if place in committed
        ]
        return v2_answer(request, NamedOffsets(offsets=offsets))

    @router.get(
        f"{_CONSUMER}/records",
        operation_id="poll",
        summary="A consumer's next records",
        responses=v2(
            {200: array("ConsumedRecord")},
            *(404, 409),
            media_types=[_embedded("json"), _embedded("binary")],
        ),
    )
    async def poll(  # pyright: ignore[reportUnusedFunction]
        group: Group,
        instance: Instance,
        request: Request,
        timeout: Timeout = POLL_TIMEOUT_MS,  # noqa: ASYNC109  # clients call it so
        max_bytes: MaxBytes = MAX_POLL_BYTES,
    ) -> Response:
        """Waits up to `timeout` milliseconds for the first. A consumer that commits by itself commits, when it asks
        for more, what it was given before.
        """
        principal, consumer = found(group, instance, request)
        media_type = _embedded(consumer.format)
        try:
            accepted(request, (media_type,))
        except RestError as error:
            raise RestError(FORMAT_MISMATCH, error.detail) from None
        for topic in {place.topic for place in await door.groups.places(consumer)}:
            require_reading(principal, topic)
        records = await door.groups.poll(consumer, timeout, min(max_bytes, MAX_POLL_BYTES))
        answer = [_consumed(record, binary=consumer.format == "binary") for record in records]
        return Response(msgspec.json.encode(answer), media_type=media_type)

    def found(group: str, instance: str, request: Request) -> tuple[Principal, Consumer]:
        principal = door.access.principal(request)
        return principal, door.groups.find(principal.name, group, instance)

    async def checked(principal: Principal, named: NamedPartition | NamedOffset) -> TopicPartition:
        require_reading(principal, named.topic)
        await check_partition(door, named.topic, named.partition)
        return TopicPartition(named.topic, named.partition)

    return router


def _matching(principal: Principal, pattern: str | None) -> list[str]:
    """The topics that a pattern names, of those that the principal may read."""
    try:
        matches = re.compile(pattern or "")
    except (re.error, RecursionError, OverflowError):
        raise RestError(422, "consumer: the topic_pattern is no regular expression; mend it") from None
    return [topic for topic, wanted in READING.items() if may(principal, wanted) and matches.fullmatch(topic)]


def _embedded(form: str) -> str:
    return f"application/vnd.kafka.{form}.v2+json"


def _done() -> Response:
    return Response(status_code=204)


async def _body(door: Door, request: Request, kind: type[Kind], default: bytes = b"") -> Kind:
    if not default or "content-type" in request.headers:
        content_type(request, among=_V2)
    async with door.bodies.read(request) as content:
        return asked(content, kind, default)


def _consumed(record: Record, *, binary: bool) -> ConsumedRecord:
    """A record without its envelope: what is sealed, or where it was put, stays here."""
    fields: dict[str, msgspec.Raw] = msgspec.json.decode(record.value, type=dict[str, msgspec.Raw])
    value = msgspec.json.encode({name: value for name, value in fields.items() if name not in _ENVELOPE})
    return ConsumedRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=b64encode(record.key.encode()).decode() if binary else record.key,
        value=b64encode(value).decode() if binary else msgspec.Raw(value),
    )
