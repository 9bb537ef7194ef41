"""The routes by which v2 clients of the Kafka REST Proxy produce: a stream's events as records of a topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response

from tidegate.errors import DecodeError
from tidegate.governance.roles import require_stream
from tidegate.intake.answers import Refused, Taken
from tidegate.intake.body import content_type
from tidegate.intake.decode import JSON, Decoded, Raw
from tidegate.intake.door import Door
from tidegate.intake.kafka_rest import READING, accepted, check_partition, check_topic, v2_answer
from tidegate.intake.kafka_rest_answers import PartitionOffset, ProducedRecord, ProducedRecords, ProduceRecords
from tidegate.intake.kafka_rest_errors import KafkaRoute, RestError, asked
from tidegate.intake.kafka_rest_openapi import V2, body, v2
from tidegate.intake.kafka_rest_payload import (
    PayloadError,
    by_id,
    code_of,
    of_avro_json,
    of_base64,
    opened,
    registered,
    text_of,
    value_subject,
)
from tidegate.intake.openapi import ref
from tidegate.intake.prepare import Result
from tidegate.intake.protect import Protected
from tidegate.ports.schemas import Schemas

Format = Literal["json", "binary", "avro"]

#: What a request says that it holds. Clients that do not say send bytes.
FORMATS: dict[str, Format] = {
    "application/vnd.kafka.json.v2+json": "json",
    "application/vnd.kafka.binary.v2+json": "binary",
    "application/vnd.kafka.avro.v2+json": "avro",
    V2: "binary",
    "application/vnd.kafka+json": "binary",
    JSON: "binary",
}

KEY_SCHEMA_MISSING, VALUE_SCHEMA_MISSING = 42201, 42202

TopicName = Annotated[str, Path(json_schema_extra={"enum": list(READING)})]
PartitionId = Annotated[int, Path(ge=0, le=2**31 - 1)]


_PRODUCE: dict[str, Any] = {
    "responses": v2({200: ref("ProducedRecords")}, 400, 404, 408, 413, 415),
    "openapi_extra": body(ref("ProduceRecords"), *FORMATS),
}


def produce_routes(door: Door) -> APIRouter:
    router = APIRouter(route_class=KafkaRoute, tags=["Kafka REST Proxy v2"])

    @router.post("/topics/{topic}", operation_id="produce", summary="Produce records to a topic", **_PRODUCE)
    async def produce(topic: TopicName, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """A record's value is an event of the stream that the topic is. Its key and its partition come from the event:
        what a record says of them is not used. What is refused has an error code in its place, and is kept, sealed, in
        the stream `rejected`.
        """
        return await _produce(door, topic, request)

    @router.post(
        "/topics/{topic}/partitions/{partition}",
        operation_id="produceToPartition",
        summary="Produce records to a topic that has a partition",
        **_PRODUCE,
    )
    async def produce_to_partition(  # pyright: ignore[reportUnusedFunction]
        topic: TopicName, partition: PartitionId, request: Request
    ) -> Response:
        """As `produce`. There must be such a partition; the records go where their events' keys put them, and the
        answer says where that is.
        """
        check_topic(topic)
        require_stream(door.access.principal(request), topic)
        await check_partition(door, topic, partition)
        return await _produce(door, topic, request)

    return router


async def _produce(door: Door, topic: str, request: Request) -> Response:
    principal = door.access.principal(request)
    check_topic(topic)
    require_stream(principal, topic)
    reading = _Reading(door.schemas, topic, FORMATS[content_type(request, among=tuple(FORMATS))])
    accepted(request, (V2, "application/vnd.kafka+json", JSON))
    async with door.bodies.read(request) as content:
        prepared = await door.intake.prepare(topic, reading.split, content, principal.name)
        results = await door.intake.append(topic, prepared)
    if reading.failure:
        raise reading.failure
    offsets = [_offset(event, result) for event, result in zip(prepared.events, results, strict=True)]
    answer = ProducedRecords(
        key_schema_id=reading.key_schema_id, value_schema_id=reading.value_schema_id, offsets=offsets
    )
    return v2_answer(request, answer)


def _offset(event: Result, result: Taken | Refused) -> PartitionOffset:
    if isinstance(result, Taken):
        return PartitionOffset(partition=result.partition, offset=result.offset)
    assert not isinstance(event, Protected)
    return PartitionOffset(error_code=code_of(event[0]), error=result.problem.detail)


class _Reading:
    """Reads the records of one request. `failure` says why none could be read."""

    def __init__(self, schemas: Schemas, topic: str, form: Format) -> None:
        self._schemas, self._topic, self._format = schemas, topic, form
        self.key_schema_id: int | None = None
        self.value_schema_id: int | None = None
        self.failure: RestError | None = None

    def split(self, body: bytes) -> Sequence[Raw | Decoded]:
        """
        Raises:
            DecodeError: no record can be read; `failure` is how to tell it.
        """
        try:
            request = asked(body, ProduceRecords)
            read = self._reader(request)
        except RestError as error:
            self.failure = error
            raise DecodeError("decode", f"decode: {error.detail}") from None
        except PayloadError as error:
            self.failure = RestError(error.code, str(error))
            raise
        return [opened(lambda record=record: read(record), bytes(record.value)) for record in request.records]

    def _reader(self, request: ProduceRecords) -> Callable[[ProducedRecord], Raw]:
        match self._format:
            case "json":
                return lambda record: record.value
            case "binary":
                return lambda record: of_base64(self._schemas, self._topic, text_of(record.value))
            case _:
                schema = self._avro(request)
                return lambda record: of_avro_json(self._topic, record.value, schema)

    def _avro(self, request: ProduceRecords) -> str:
        """The schema of the values; what keys are written with is registered beside it."""
        if request.key_schema is not None:
            self.key_schema_id = registered(self._schemas, f"{self._topic}-key", request.key_schema).id
        elif request.key_schema_id is not None:
            self.key_schema_id = by_id(self._schemas, request.key_schema_id).id
        elif any(bytes(record.key) != b"null" for record in request.records):
            raise RestError(KEY_SCHEMA_MISSING, "produce: wanted a key_schema beside keys, got none; send it")
        if request.value_schema is not None:
            version = registered(self._schemas, value_subject(self._topic), request.value_schema)
        elif request.value_schema_id is not None:
            version = by_id(self._schemas, request.value_schema_id)
        else:
            raise RestError(VALUE_SCHEMA_MISSING, "produce: wanted value_schema or value_schema_id, got none; send it")
        self.value_schema_id = version.id
        return version.schema
