"""The routes that take events: a stream's events, and one transaction that wants its decision."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
from fastapi import APIRouter, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from tidegate.errors import NotFoundError
from tidegate.governance.roles import may, require, require_stream
from tidegate.intake import openapi
from tidegate.intake.answers import DecisionAnswer, Pending, Refused, Taken
from tidegate.intake.body import content_type
from tidegate.intake.decode import JSON, split_nothing
from tidegate.intake.door import Door
from tidegate.intake.formats import split_of
from tidegate.intake.problems import MEDIA_TYPE, as_response, occurrence
from tidegate.intake.protect import Protected, card_of
from tidegate.ports.identity import Principal
from tidegate.streams.decision import Decision
from tidegate.streams.revision import Revision
from tidegate.streams.schema import STREAMS

TRANSACTIONS = "transactions"

Stream = Annotated[str, Path(json_schema_extra={"enum": list(STREAMS)})]


def event_routes(door: Door) -> APIRouter:
    router = APIRouter()

    @router.post(
        "/v1/streams/{stream}/events",
        operation_id="takeEvents",
        summary="Take one event or many",
        responses=openapi.responses(
            {202: openapi.results("Taken"), 207: openapi.results("Taken", "Refused")},
            *(401, 403, 404, 408, 413, 415, 422, 429, 503),
        ),
        openapi_extra=openapi.events_body(),
    )
    async def take_events(stream: Stream, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """One event as a JSON object, many as a JSON array, NDJSON, CSV or Avro, packed or not. Each is checked by the
        stream's schema, its personal values are replaced by tokens, and it is durable in the log before it is answered.
        The same `event_id` sent again is answered with the place of the first. What is refused is kept, sealed, in the
        stream `rejected`.
        """
        principal = door.access.principal(request)
        if stream not in STREAMS:
            raise NotFoundError(f"stream: wanted one of {', '.join(STREAMS)}; name one in the address")
        require_stream(principal, stream)
        split = split_of(request, stream)
        async with door.bodies.read(request) as body:
            prepared = await door.intake.prepare(stream, split, body, principal.name)
            return answer_of(await door.intake.append(stream, prepared))

    @router.post(
        "/v1/decisions",
        operation_id="decide",
        summary="Take one transaction and answer with its decision",
        responses=openapi.responses(
            {200: openapi.ref("DecisionAnswer"), 202: openapi.ref("Pending")},
            *(401, 403, 408, 413, 415, 422, 429, 503),
        ),
        openapi_extra=openapi.transaction_body(),
    )
    async def decide(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Takes the transaction as `/v1/streams/transactions/events` does and waits for its decision. If the engine is
        not there in time the answer is 202: the transaction is taken, ask for its decision at `Location`. A transaction
        sent again is answered with the first one's decision.
        """
        principal = door.access.principal(request)
        require(principal, "decisions:request")
        require_stream(principal, TRANSACTIONS)
        content_type(request, among=(JSON,))
        async with door.bodies.read(request) as body:
            taken, decision = await take_and_decide(door, body, principal.name)
        if isinstance(taken, Refused):
            return answer_of([taken])
        card = door.decisions.card(taken.event_id)
        return pending(taken.event_id, card) if decision is None else decided(decision, card)

    return router


async def take_and_decide(door: Door, body: bytes, source: str) -> tuple[Taken | Refused, Decision | None]:
    """Take one transaction and wait for its decision: None if it was refused, or the decision did not come in time.

    Raises:
        HTTPException: 413, it is too large.
        OverloadError: the log cannot be written now. Nothing was written.
    """
    prepared = await door.intake.prepare(TRANSACTIONS, split_nothing, body, source)
    event = prepared.events[0]
    if not isinstance(event, Protected):
        return (await door.intake.append(TRANSACTIONS, prepared))[0], None
    with door.decisions.expected(event.event_id) as coming:
        taken = (await door.intake.append(TRANSACTIONS, prepared))[0]
        assert isinstance(taken, Taken)
        door.decisions.remember(event.event_id, event.card)
        decision = await _decided(door, taken, coming)
    if decision is None:
        door.metrics.decisions_pending.inc()
    return taken, decision


async def _decided(door: Door, taken: Taken, coming: asyncio.Future[Decision]) -> Decision | None:
    """The decision of an event just taken, or None if it did not come in time."""
    if taken.duplicate and (decision := await known_decision(door, taken.event_id)):
        return decision
    started_s = time.perf_counter()
    try:
        decision = await asyncio.wait_for(coming, door.decision_timeout_s)
    except TimeoutError:
        return None
    door.metrics.decision_seconds.observe(time.perf_counter() - started_s)
    return decision


class Found(NamedTuple):
    """A transaction that was taken: its decision, None while that is still to come, the decision's newest revision, and
    how its card is shown.
    """

    decision: Decision | None
    revision: Revision | None
    card: str | None


async def find_decision(door: Door, principal: Principal, event_id: str) -> Found | None:
    """None: no such transaction was taken.

    Raises:
        AccessError: the principal may neither ask for decisions nor read them.
    """
    # Who may ask for a decision may come back for it.
    if not may(principal, "decisions:request"):
        require(principal, "decisions:read")
    decision = await known_decision(door, event_id)
    record = await run_in_threadpool(door.hotstore.transaction, event_id)
    card = card_of(record) if record else door.decisions.card(event_id)
    revision = await run_in_threadpool(door.hotstore.revision, event_id, decision.detector) if decision else None
    return Found(decision, revision, card) if decision or record or door.decisions.is_taken(event_id) else None


async def known_decision(door: Door, event_id: str) -> Decision | None:
    """A decision that came lately, or that the hot store has."""
    return door.decisions.recent(event_id) or await run_in_threadpool(door.hotstore.decision, event_id)


def decided(decision: Decision, card: str | None, revision: Revision | None = None) -> Response:
    answer = DecisionAnswer(**msgspec.structs.asdict(decision), card=card, revision=revision)
    return Response(msgspec.json.encode(answer), 200, media_type=JSON)


def pending(event_id: str, card: str | None) -> Response:
    where = {"Location": f"/v1/decisions/{event_id}", "Retry-After": "1"}
    return Response(msgspec.json.encode(Pending(event_id=event_id, card=card)), 202, where, JSON)


def answer_of(results: Sequence[Taken | Refused]) -> Response:
    """202 if all were taken, 207 if some were, the first problem with all results beside it if none was."""
    content = {"results": results}
    refused = [result.problem for result in results if isinstance(result, Refused)]
    if not refused:
        return Response(msgspec.json.encode(content), 202, media_type=JSON)
    if len(refused) < len(results):
        return Response(msgspec.json.encode(content), 207, media_type=JSON)
    problem = msgspec.structs.replace(refused[0], instance=occurrence())
    if len(results) == 1:
        return as_response(problem)
    return Response(msgspec.json.encode(msgspec.to_builtins(problem) | content), 422, media_type=MEDIA_TYPE)
