"""The route of GraphQL: one operation a request, of a bounded cost; subscriptions as server-sent events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from graphql import (
    ArgumentNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    OperationType,
    SelectionSetNode,
    get_operation_ast,
    parse,
)
from graphql.utilities import value_from_ast_untyped
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from strawberry.types.execution import ExecutionResult

from tidegate.errors import OverloadError
from tidegate.intake import openapi
from tidegate.intake.answers import GraphqlRequest
from tidegate.intake.body import content_type
from tidegate.intake.decode import JSON, decode
from tidegate.intake.door import Door
from tidegate.intake.graphql.schema import SCHEMA, Context
from tidegate.intake.limits import MAX_QUERY_COST, MAX_QUERY_TOKENS, MAX_SUBSCRIPTIONS, RETRY_AFTER_S
from tidegate.intake.problems import problem_of

EVENT_STREAM = "text/event-stream"

#: So often a silent subscription says that it lives: proxies close what is silent for longer.
_HEARTBEAT_S = 15

#: What a decision costs that is waited for.
DECISION_COST = 100

#: Where a message of the library begins to quote what was given.
_QUOTING = re.compile(r" (?:got|has) invalid value|, found | value: |: Expected ")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|\d{5,}")
#: What of it is told: names and types as a schema has them.
_NAME = re.compile(r"\$?\[?[_A-Za-z][_A-Za-z0-9.]*[!\]]*")
_LONG_NUMBER = re.compile(r"\d{5}")


def graphql_routes(door: Door) -> APIRouter:
    router, subscriptions = APIRouter(), Slots(MAX_SUBSCRIPTIONS)

    @router.post(
        "/graphql",
        operation_id="graphql",
        summary="One GraphQL operation",
        responses=openapi.responses(
            {200: openapi.GRAPHQL_ANSWER, 400: openapi.GRAPHQL_ANSWER}, *(401, 408, 413, 415, 422, 429, 503)
        ),
        openapi_extra=openapi.graphql_body(),
    )
    async def graphql(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Queries, mutations and, where `text/event-stream` is accepted, subscriptions. What a request may cost is
        limited; several operations in an array are not taken. 400: the operation is none of the schema, or costs too
        much; nothing was done. The schema tells of itself (introspection).
        """
        context = Context(door, door.access.principal(request))
        content_type(request, among=(JSON,))
        async with door.bodies.read(request) as body:
            asked = _asked(body)
            try:
                operation = _checked(asked)
            except GraphQLError as error:
                return _answer(None, [error], 400)
            if operation is OperationType.SUBSCRIPTION:
                if EVENT_STREAM not in request.headers.get("accept", ""):
                    raise HTTPException(406, f"graphql: a subscription is answered as {EVENT_STREAM}; accept that")
                return StreamingResponse(subscriptions.held(_events(asked, context)), media_type=EVENT_STREAM)
            result = await SCHEMA.execute(asked.query, asked.variables, context, operation_name=asked.operationName)
            assert isinstance(result, ExecutionResult)
            return _answer(result.data, result.errors, 400 if result.data is None and _none_done(result) else 200)

    return router


class Slots:
    """How many subscriptions may be open at one time."""

    def __init__(self, free: int) -> None:
        self._free = free

    def held(self, events: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """The same events; until they end, a slot is taken.

        Raises:
            OverloadError: none is free.
        """
        if not self._free:
            raise OverloadError(
                f"graphql: {MAX_SUBSCRIPTIONS} subscriptions are open and more cannot be; come again",
                retry_after_s=RETRY_AFTER_S,
            )
        self._free -= 1

        async def hold() -> AsyncGenerator[bytes]:
            try:
                async for event in events:
                    yield event
            finally:
                self._free += 1
                await events.aclose()

        return hold()


def _asked(body: bytes) -> GraphqlRequest:
    """
    Raises:
        DecodeError: no JSON object.
        HTTPException: 422, no GraphQL request.
    """
    try:
        return msgspec.convert(decode(body), GraphqlRequest)
    except msgspec.ValidationError:
        raise HTTPException(
            422, "graphql: wanted an object of query, variables and operationName; send one operation a request"
        ) from None


def _checked(asked: GraphqlRequest) -> OperationType | None:
    """What kind of operation is asked for, None if the schema's own check will refuse it.

    Raises:
        GraphQLError: it is no GraphQL, or costs too much.
    """
    document = parse(asked.query, max_tokens=MAX_QUERY_TOKENS, no_location=False)
    operation = get_operation_ast(document, asked.operationName)
    if operation is None:
        return None
    cost = _Cost(document, asked.variables or {}).of(operation.selection_set)
    if cost > MAX_QUERY_COST:
        raise GraphQLError(f"graphql: the operation costs {cost}, and {MAX_QUERY_COST} is most; ask for it in parts")
    return operation.operation


class _Cost:
    """What a document's selections cost. A fragment is counted once and remembered: it may be spread without end."""

    def __init__(self, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self._variables = variables
        self._fragments = {
            each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)
        }
        self._costs: dict[str, int] = {}

    def of(self, selections: SelectionSetNode | None) -> int:
        cost = 0
        for selection in selections.selections if selections else ():
            if isinstance(selection, FieldNode):
                cost += self._of_field(selection)
            elif isinstance(selection, FragmentSpreadNode):
                cost += self._of_fragment(selection.name.value)
            else:
                cost += self.of(selection.selection_set)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]  # the third kind: an inline fragment
        return cost

    def _of_field(self, field: FieldNode) -> int:
        children = 1 + self.of(field.selection_set)
        match field.name.value:
            case "send":
                events = self._argument(field, "events")
                return children + (len(events) if isinstance(events, list) else 1)
            case "decide":
                return DECISION_COST + children
            case "recent":
                limit = self._argument(field, "limit")
                return children * max(1, limit if isinstance(limit, int) else 20)
            case _:
                return children

    def _of_fragment(self, name: str) -> int:
        if name not in self._costs:
            self._costs[name] = 0  # one that holds itself is refused by the schema's own check
            fragment = self._fragments.get(name)
            self._costs[name] = self.of(fragment.selection_set) if fragment else 0
        return self._costs[name]

    def _argument(self, field: FieldNode, name: str) -> Any:
        given: list[ArgumentNode] = [each for each in field.arguments or () if each.name.value == name]
        return value_from_ast_untyped(given[0].value, dict(self._variables)) if given else None


async def _events(asked: GraphqlRequest, context: Context) -> AsyncGenerator[bytes]:
    """A subscription's results, in the manner of graphql-sse: `next` for each, `complete` at the end."""
    results = await SCHEMA.subscribe(asked.query, asked.variables, context, operation_name=asked.operationName)
    if isinstance(results, ExecutionResult):  # it was refused
        yield _event("next", _content(None, results.errors))
        yield _event("complete", b"")
        return
    coming = asyncio.ensure_future(anext(results))
    try:
        while True:
            done, _ = await asyncio.wait([coming], timeout=_HEARTBEAT_S)
            if not done:
                yield b":\n\n"
                continue
            result = coming.result()
            yield _event("next", _content(result.data, result.errors))
            coming = asyncio.ensure_future(anext(results))
    except StopAsyncIteration:
        yield _event("complete", b"")
    except Exception as error:  # noqa: BLE001  # whoever listens is told, as in any answer
        yield _event("next", _content(None, [GraphQLError("", original_error=error)]))
        yield _event("complete", b"")
    finally:
        coming.cancel()
        await results.aclose()


def _event(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


def _none_done(result: ExecutionResult) -> bool:
    """Whether the operation was refused before anything was done."""
    return all(error.path is None for error in result.errors or ())


def _answer(data: Any, errors: list[GraphQLError] | None, status: int) -> Response:
    return Response(_content(data, errors), status, media_type=JSON)


def _content(data: Any, errors: list[GraphQLError] | None) -> bytes:
    content: dict[str, Any] = {"data": data}
    if errors:
        content["errors"] = [_told(error) for error in errors]
    return msgspec.json.encode(content)


def _told(error: GraphQLError) -> dict[str, Any]:
    """An error as the answer tells it. Only Tidegate's own messages are told in full: those of the library quote what
    was given.
    """
    told: dict[str, Any] = {}
    if error.locations:
        told["locations"] = [{"line": each.line, "column": each.column} for each in error.locations]
    if error.path:
        told["path"] = error.path
    original = error.original_error
    if original is None or isinstance(original, GraphQLError):
        message, code = _QUOTED.sub(_if_a_name, _QUOTING.split(error.message)[0]), "graphql"
    else:
        problem = problem_of(original)
        message, code = problem.detail, problem.type.rpartition("/")[2]
    return {"message": message} | told | {"extensions": {"code": code}}


def _if_a_name(quoted: re.Match[str]) -> str:
    text = quoted[0].strip("'\"")
    return quoted[0] if _NAME.fullmatch(text) and not _LONG_NUMBER.search(text) else "..."
