"""The routes by which v3 clients of the Kafka REST Proxy produce: one record after another on one connection, or a
batch.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tidegate.governance.roles import require_stream
from tidegate.intake.answers import Refused
from tidegate.intake.body import content_type
from tidegate.intake.decode import JSON, Decoded, Raw
from tidegate.intake.door import Door
from tidegate.intake.kafka_rest import check_topic
from tidegate.intake.kafka_rest_answers import (
    BatchEntry,
    BatchFailure,
    BatchReport,
    BatchSuccess,
    PayloadData,
    ProduceBatch,
    ProducedData,
    ProduceRecord,
    ProduceReport,
)
from tidegate.intake.kafka_rest_documents import Documents
from tidegate.intake.kafka_rest_errors import KafkaRoute, RestError, asked, error_of, not_json
from tidegate.intake.kafka_rest_openapi import answers, body
from tidegate.intake.kafka_rest_payload import (
    INVALID_PAYLOAD,
    NO_SUCH_SCHEMA,
    PayloadError,
    by_id,
    by_version,
    code_of,
    of_avro_json,
    of_base64,
    opened,
    registered,
    text_of,
    value_subject,
)
from tidegate.intake.kafka_rest_produce import TopicName
from tidegate.intake.kafka_rest_v3 import CLUSTER_ID, ClusterId, check_cluster
from tidegate.intake.limits import MAX_EVENTS
from tidegate.intake.openapi import ref
from tidegate.intake.protect import Protected
from tidegate.ports.schemas import Schemas, SchemaVersion

OK = 200

#: A batch whose entries cannot be told apart.
BAD_BATCH = 42208

BAD_REQUEST = 400

_encoder = msgspec.json.Encoder()
_record = msgspec.json.Decoder(ProduceRecord)


def record_routes(door: Door) -> APIRouter:
    router = APIRouter(route_class=KafkaRoute, tags=["Kafka REST Proxy v3"])

    @router.post(
        "/v3/clusters/{cluster_id}/topics/{topic}/records:batch",
        operation_id="produceRecordsBatch",
        summary="Produce a batch of records",
        responses=answers({207: ref("BatchReport")}, 400, 404, 408, 413, 415),
        openapi_extra=body(ref("ProduceBatch")),
    )
    async def produce_batch(cluster_id: ClusterId, topic: TopicName, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Each entry is taken or refused by itself."""
        source = _source(door, cluster_id, topic, request)
        async with door.bodies.read(request) as content:
            entries = _entries(content)
            reports = await _take(door, topic, entries, content, source)
        return Response(_encoder.encode(_batch_report(entries, reports)), 207, media_type=JSON)

    @router.post(
        "/v3/clusters/{cluster_id}/topics/{topic}/records",
        operation_id="produceRecord",
        summary="Produce records, one after another",
        responses=answers({200: ref("ProduceReport")}, 400, 404, 408, 413, 415),
        openapi_extra=body(ref("ProduceRecord")),
    )
    async def produce_record(cluster_id: ClusterId, topic: TopicName, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """One record, or many without anything between them, for as long as the connection is open. The answer is 200
        and has a report for each, in order, as soon as it is durable in the log; what became of a record is told by its
        report's `error_code`.
        """
        source = _source(door, cluster_id, topic, request)
        groups = _groups(door, request)
        first = await anext(groups, None)
        if first is None:
            raise RestError(422, "produce: wanted a record, got an empty body; send one")
        return _Reports(_reports(door, topic, source, first, groups), media_type=JSON)

    return router


def _source(door: Door, cluster_id: str, topic: str, request: Request) -> str:
    """Whose records these are, once it is known that they may be."""
    principal = door.access.principal(request)
    check_cluster(cluster_id)
    check_topic(topic)
    require_stream(principal, topic)
    content_type(request, among=(JSON,))
    return principal.name


class _Reports(StreamingResponse):
    """Sent while the request's body is still read: nothing else may read it, to see whether the client has gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await self.stream_response(send)


async def _reports(
    door: Door, topic: str, source: str, first: list[bytes], groups: AsyncGenerator[list[bytes]]
) -> AsyncGenerator[bytes]:
    """A report for each record. What stops the stream is told in place of the next one."""
    try:
        yield await _group_reports(door, topic, source, first)
        async for group in groups:
            yield await _group_reports(door, topic, source, group)
    except Exception as error:  # noqa: BLE001  # the status is sent: whatever it is, it is told here
        yield _encoder.encode(error_of(error)[0]) + b"\n"
    finally:
        await groups.aclose()


async def _group_reports(door: Door, topic: str, source: str, group: list[bytes]) -> bytes:
    reports = await _take(door, topic, [_decoded(document) for document in group], b"".join(group), source)
    return b"".join(_encoder.encode(report) + b"\n" for report in reports)


def _decoded(document: bytes) -> ProduceRecord | Decoded:
    try:
        return _record.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Decoded(PayloadError(BAD_REQUEST, not_json(error)), document)


async def _groups(door: Door, request: Request) -> AsyncGenerator[list[bytes]]:
    """The records of a body as they come, cut apart, so many at a time as a request may have.

    Raises:
        RestError: 400, the body is no objects one after another; 413, one is too large.
    """
    documents = Documents()
    async with door.bodies.stream(request) as body:
        async for chunk in body.chunks():
            complete = documents.feed(chunk)
            body.hold(len(documents.rest) + sum(map(len, complete)))
            for start in range(0, len(complete), MAX_EVENTS):
                yield complete[start : start + MAX_EVENTS]
    if documents.rest.strip():
        raise RestError(400, "produce: wanted JSON objects one after another, got a part of one or something else")


async def _take(
    door: Door, topic: str, records: Sequence[ProduceRecord | Decoded], content: bytes, source: str
) -> list[ProduceReport]:
    """What becomes of each record, in order."""
    sizes: list[int] = []
    schema_ids: list[int | None] = []

    def split(_: bytes) -> Sequence[Raw | Decoded]:
        payloads = [_Payload(door.schemas, topic, record) for record in records]
        events = [payload.event() for payload in payloads]
        sizes.extend(0 if isinstance(event, Decoded) else len(bytes(event)) for event in events)
        schema_ids.extend(payload.schema_id for payload in payloads)
        return events

    prepared = await door.intake.prepare(topic, split, content, source)
    results = await door.intake.append(topic, prepared)
    reports: list[ProduceReport] = []
    for record, event, result, size, schema_id in zip(
        records, prepared.events, results, sizes, schema_ids, strict=True
    ):
        if isinstance(result, Refused):
            assert not isinstance(event, Protected)
            reports.append(ProduceReport(error_code=code_of(event[0]), message=result.problem.detail))
            continue
        assert isinstance(event, Protected)
        assert isinstance(record, ProduceRecord)
        kind = (record.value and record.value.type) or "AVRO"
        reports.append(
            ProduceReport(
                error_code=OK,
                cluster_id=CLUSTER_ID,
                topic_name=topic,
                partition_id=result.partition,
                offset=result.offset,
                timestamp=_rfc3339(event.entry.timestamp_ms),
                value=ProducedData(type=kind, size=size, schema_id=schema_id),
            )
        )
    return reports


class _Payload:
    """The value of one record."""

    def __init__(self, schemas: Schemas, topic: str, record: ProduceRecord | Decoded) -> None:
        self._schemas, self._topic, self._record = schemas, topic, record
        self.schema_id: int | None = None

    def event(self) -> Raw | Decoded:
        if isinstance(self._record, Decoded):
            return self._record
        value = self._record.value or PayloadData(type="JSON")
        return opened(lambda: self._read(value), bytes(value.data))

    def _read(self, value: PayloadData) -> Raw:
        match value.type:
            case "JSON":
                return value.data
            case "STRING":
                return text_of(value.data).encode()
            case "BINARY":
                return of_base64(self._schemas, self._topic, text_of(value.data))
            case "AVRO" | None:
                version = self._version(value)
                self.schema_id = version.id
                return of_avro_json(self._topic, value.data, version.schema)
            case _:
                raise PayloadError(INVALID_PAYLOAD, "wanted the type JSON, STRING, BINARY or AVRO, got another")

    def _version(self, value: PayloadData) -> SchemaVersion:
        subject = value_subject(self._topic)
        if value.subject not in (None, subject) or value.subject_name_strategy not in (None, "TOPIC_NAME"):
            raise PayloadError(NO_SUCH_SCHEMA, f"wanted the subject {subject}, by the strategy TOPIC_NAME")
        if value.schema is not None:
            return registered(self._schemas, subject, value.schema)
        if value.schema_id is not None:
            return by_id(self._schemas, value.schema_id)
        return by_version(self._schemas, subject, value.schema_version)


def _entries(content: bytes) -> list[BatchEntry]:
    """
    Raises:
        RestError: 400, no JSON; 422, no batch, or an id twice in it.
    """
    entries = asked(content, ProduceBatch).entries
    if len({entry.id for entry in entries}) < len(entries):
        raise RestError(BAD_BATCH, "produce: wanted each id once in a batch, got one twice; number the entries")
    return entries


def _batch_report(entries: Sequence[BatchEntry], reports: Sequence[ProduceReport]) -> BatchReport:
    successes: list[BatchSuccess] = []
    failures: list[BatchFailure] = []
    for entry, report in zip(entries, reports, strict=True):
        told = {name: value for name, value in msgspec.structs.asdict(report).items() if value is not None}
        if report.error_code == OK:
            del told["error_code"]
            successes.append(BatchSuccess(id=entry.id, **told))
        else:
            failures.append(BatchFailure(id=entry.id, **told))
    return BatchReport(successes=successes, failures=failures)


def _rfc3339(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
