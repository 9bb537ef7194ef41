"""The routes of the schema registry, as clients of Confluent's speak them. Subjects are `<stream>-value`, which holds
the stream's own schema from the start, and `<stream>-key`.
"""

from __future__ import annotations

import json
from typing import Annotated, TypeVar

import msgspec
from fastapi import APIRouter, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from tidegate.errors import NotFoundError, UsageError
from tidegate.files.evolution import parse
from tidegate.governance.roles import require, require_stream
from tidegate.intake.body import content_type
from tidegate.intake.decode import JSON
from tidegate.intake.door import Door
from tidegate.intake.journal import failed
from tidegate.intake.kafka_rest import accepted
from tidegate.intake.kafka_rest_errors import KafkaRoute, RestError, asked
from tidegate.intake.kafka_rest_openapi import answers, array, body
from tidegate.intake.kafka_rest_payload import value_subject
from tidegate.intake.openapi import ref
from tidegate.intake.schema_registry_answers import (
    CompatibilityChange,
    CompatibilityCheck,
    CompatibilityLevel,
    RegisteredSchema,
    RegisterSchema,
    RegistrySchema,
    RegistryVersion,
    SubjectVersion,
)
from tidegate.ports.schemas import DEFAULT_COMPATIBILITY, Schemas, SchemaVersion
from tidegate.streams.schema import STREAMS, load_schema

REGISTRY = "application/vnd.schemaregistry.v1+json"
_MEDIA_TYPES = (REGISTRY, "application/vnd.schemaregistry+json", JSON)

NO_SUBJECT, NO_VERSION, NO_SCHEMA, NO_SUBJECT_LEVEL = 40401, 40402, 40403, 40408
INVALID_SCHEMA, INVALID_VERSION, INVALID_LEVEL = 42201, 42202, 42203

SUBJECTS = tuple(f"{stream}-{part}" for stream in STREAMS for part in ("value", "key"))

Subject = Annotated[str, Path(json_schema_extra={"enum": list(SUBJECTS)})]
Version = Annotated[str, Path(pattern=r"^([1-9]\d{0,9}|latest|-1)$")]
Id = Annotated[int, Path(ge=0, le=2**31 - 1)]

Kind = TypeVar("Kind")


def register_streams(schemas: Schemas) -> None:
    """Make the streams' own schemas versions of their subjects. One that can't follow what producers registered since
    is told of, and they go on.
    """
    for stream in STREAMS:
        try:
            schemas.register(value_subject(stream), json.dumps(load_schema(stream).avro))
        except UsageError as error:
            failed("schemas", error, stream=stream)


def registry_routes(door: Door) -> APIRouter:  # noqa: C901, PLR0915  # a route each
    router = APIRouter(route_class=KafkaRoute, tags=["Schema registry"])
    schemas = door.schemas

    @router.get(
        "/subjects",
        operation_id="listSubjects",
        summary="The subjects that have a schema",
        responses=_answers({"type": "array", "items": {"type": "string"}}),
    )
    async def list_subjects(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        door.access.principal(request)
        return _answer(request, await run_in_threadpool(schemas.subjects))

    @router.get(
        "/subjects/{subject}/versions",
        operation_id="listVersions",
        summary="A subject's versions",
        responses=_answers({"type": "array", "items": {"type": "integer"}}, 404),
    )
    async def list_versions(subject: Subject, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        door.access.principal(request)
        return _answer(request, [each.version for each in await versions_of(subject)])

    @router.get(
        "/subjects/{subject}/versions/{version}",
        operation_id="getVersion",
        summary="A version of a subject",
        responses=_answers(ref("RegistryVersion"), 404),
    )
    async def get_version(subject: Subject, version: Version, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """By its number, or the newest as `latest`."""
        door.access.principal(request)
        return _answer(request, _version(await version_of(subject, version)))

    @router.get(
        "/subjects/{subject}/versions/{version}/schema",
        operation_id="getVersionSchema",
        summary="The schema of a version",
        responses=_answers({"anyOf": [{"type": "object"}, {"type": "string"}, {"type": "array"}]}, 404),
    )
    async def get_version_schema(subject: Subject, version: Version, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        door.access.principal(request)
        return _answer(request, msgspec.Raw((await version_of(subject, version)).schema.encode()))

    @router.post(
        "/subjects/{subject}/versions",
        operation_id="registerSchema",
        summary="Register a schema",
        responses=_answers(ref("RegisteredSchema"), 400, 404, 408, 409, 413, 415),
        openapi_extra=body(ref("RegisterSchema"), *_MEDIA_TYPES),
    )
    async def register(subject: Subject, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """For those who may write the stream. 409: it is not compatible with the versions before. What is registered
        stays.
        """
        principal = door.access.principal(request)
        require_stream(principal, _stream(subject))
        schema = await _schema(door, request)
        try:
            version = await run_in_threadpool(schemas.register, subject, schema)
        except UsageError as error:
            raise RestError(409, str(error)) from None
        return _answer(request, RegisteredSchema(id=version.id))

    @router.post(
        "/subjects/{subject}",
        operation_id="findSchema",
        summary="Under which version a subject has a schema",
        responses=_answers(ref("RegistryVersion"), 400, 404, 408, 413, 415),
        openapi_extra=body(ref("RegisterSchema"), *_MEDIA_TYPES),
    )
    async def find(subject: Subject, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        door.access.principal(request)
        versions = await versions_of(subject)
        wanted = msgspec.json.decode(await _schema(door, request))
        for each in versions:
            if msgspec.json.decode(each.schema) == wanted:
                return _answer(request, _version(each))
        raise RestError(NO_SCHEMA, "schemas: the subject does not have this schema; register it")

    @router.get(
        "/schemas/types",
        operation_id="listSchemaTypes",
        summary="What schemas are written in",
        responses=_answers({"type": "array", "items": {"type": "string"}}),
    )
    async def types(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        door.access.principal(request)
        return _answer(request, ["AVRO"])

    @router.get(
        "/schemas/ids/{schema_id}",
        operation_id="getSchema",
        summary="A schema",
        responses=_answers(ref("RegistrySchema"), 404),
    )
    async def get_schema(schema_id: Id, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        door.access.principal(request)
        return _answer(request, RegistrySchema(schema=(await named(schema_id))[0].schema))

    @router.get(
        "/schemas/ids/{schema_id}/versions",
        operation_id="listSchemaVersions",
        summary="Where a schema is registered",
        responses=_answers(array("SubjectVersion"), 404),
    )
    async def list_schema_versions(schema_id: Id, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        door.access.principal(request)
        found = await named(schema_id)
        return _answer(request, [SubjectVersion(subject=each.subject, version=each.version) for each in found])

    @router.post(
        "/compatibility/subjects/{subject}/versions/{version}",
        operation_id="checkCompatibility",
        summary="Whether a schema could follow a version",
        responses=_answers(ref("CompatibilityCheck"), 400, 404, 408, 413, 415),
        openapi_extra=body(ref("RegisterSchema"), *_MEDIA_TYPES),
    )
    async def check(subject: Subject, version: Version, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """`messages` say why not."""
        door.access.principal(request)
        number = (await version_of(subject, version)).version
        conflicts = await run_in_threadpool(schemas.conflicts, subject, await _schema(door, request), number)
        return _answer(request, CompatibilityCheck(is_compatible=not conflicts, messages=conflicts))

    @router.get(
        "/config",
        operation_id="getCompatibility",
        summary="What new versions must keep to",
        responses=_answers(ref("CompatibilityLevel")),
    )
    async def get_level(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        door.access.principal(request)
        level = await run_in_threadpool(schemas.compatibility)
        return _answer(request, CompatibilityLevel(compatibilityLevel=level or DEFAULT_COMPATIBILITY))

    @router.put(
        "/config",
        operation_id="setCompatibility",
        summary="Set what new versions must keep to",
        responses=_answers(ref("CompatibilityChange"), 400, 408, 413, 415),
        openapi_extra=body(ref("CompatibilityChange"), *_MEDIA_TYPES),
    )
    async def set_level(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        require(door.access.principal(request), "admin")
        change = await _change(door, request)
        await run_in_threadpool(schemas.set_compatibility, change.compatibility)
        return _answer(request, change)

    @router.get(
        "/config/{subject}",
        operation_id="getSubjectCompatibility",
        summary="What a subject's new versions must keep to",
        responses=_answers(ref("CompatibilityLevel"), 404),
    )
    async def get_subject_level(subject: Subject, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        door.access.principal(request)
        _stream(subject)
        level = await run_in_threadpool(schemas.compatibility, subject)
        if level is None:
            raise RestError(NO_SUBJECT_LEVEL, "config: nothing was set for the subject; see /config for what holds")
        return _answer(request, CompatibilityLevel(compatibilityLevel=level))

    @router.put(
        "/config/{subject}",
        operation_id="setSubjectCompatibility",
        summary="Set what a subject's new versions must keep to",
        responses=_answers(ref("CompatibilityChange"), 400, 404, 408, 413, 415),
        openapi_extra=body(ref("CompatibilityChange"), *_MEDIA_TYPES),
    )
    async def set_subject_level(subject: Subject, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        require(door.access.principal(request), "admin")
        _stream(subject)
        change = await _change(door, request)
        await run_in_threadpool(schemas.set_compatibility, change.compatibility, subject)
        return _answer(request, change)

    async def versions_of(subject: str) -> list[SchemaVersion]:
        _stream(subject)
        versions = await run_in_threadpool(schemas.versions, subject)
        if not versions:
            raise RestError(NO_SUBJECT, "schemas: the subject has no schema; register one")
        return versions

    async def version_of(subject: str, version: str) -> SchemaVersion:
        versions = await versions_of(subject)
        if version in ("latest", "-1"):
            return versions[-1]
        if int(version) > len(versions):
            raise RestError(NO_VERSION, f"schemas: the subject has {len(versions)} versions; name one of them")
        return versions[int(version) - 1]

    async def named(schema_id: int) -> list[SchemaVersion]:
        try:
            return await run_in_threadpool(schemas.named, schema_id)
        except NotFoundError as error:
            raise RestError(NO_SCHEMA, str(error)) from None

    return router


def _stream(subject: str) -> str:
    """The stream whose subject it is.

    Raises:
        RestError: it is nobody's.
    """
    if subject not in SUBJECTS:
        raise RestError(NO_SUBJECT, "schemas: wanted a subject that is called <stream>-value or <stream>-key")
    return subject.rpartition("-")[0]


def _version(version: SchemaVersion) -> RegistryVersion:
    return RegistryVersion(subject=version.subject, version=version.version, id=version.id, schema=version.schema)


async def _schema(door: Door, request: Request) -> str:
    """The schema that was sent.

    Raises:
        RestError: it is none.
    """
    schema = (await _body(door, request, RegisterSchema, INVALID_SCHEMA)).schema
    try:
        parse(schema)
    except UsageError as error:
        raise RestError(INVALID_SCHEMA, str(error)) from None
    return schema


async def _change(door: Door, request: Request) -> CompatibilityChange:
    return await _body(door, request, CompatibilityChange, INVALID_LEVEL)


async def _body(door: Door, request: Request, kind: type[Kind], code: int) -> Kind:
    """What was sent; another object than that is told by `code`."""
    content_type(request, among=_MEDIA_TYPES)
    async with door.bodies.read(request) as content:
        try:
            return asked(content, kind)
        except RestError as error:
            raise RestError(code if error.code == 422 else error.code, error.detail) from None  # noqa: PLR2004


def _answers(good: dict[str, object], *error_statuses: int) -> dict[int | str, dict[str, object]]:
    return answers({200: good}, 406, *error_statuses, media_types=(REGISTRY, JSON))


def _answer(request: Request, content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type=accepted(request, _MEDIA_TYPES))
