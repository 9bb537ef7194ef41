"""The routes that read: decisions, customers, sessions from the hot store; the one place where clear values leave."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AfterValidator
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from tidegate.errors import AccessError, NotFoundError, OverloadError, TidegateError
from tidegate.governance.roles import require
from tidegate.intake import openapi
from tidegate.intake.access import address_of
from tidegate.intake.answers import Recent, SignIn, Token
from tidegate.intake.body import content_type
from tidegate.intake.decode import JSON
from tidegate.intake.door import Door
from tidegate.intake.events import TRANSACTIONS, decided, find_decision, pending
from tidegate.intake.protect import reveal
from tidegate.intake.sensitive import personal_in
from tidegate.intake.validate import EVENT_ID
from tidegate.ports.audit import AuditEntry
from tidegate.ports.hotstore import RECENT_KEPT
from tidegate.streams.schema import load_schema

#: What a user's name is cut to in the audit trail, where anyone can have it written.
_MAX_WHO_CHARS = 64
_MAX_ON_CHARS = 128


def _not_personal(text: str) -> str:
    """What is asked for is put on record: a card number that someone typed must not be.

    Raises:
        ValueError: the text holds a personal value.
    """
    if held := personal_in(text):
        raise ValueError(f"wanted an event's id, got {held}")
    return text


EventId = Annotated[str, Path(pattern=f"^{EVENT_ID.pattern}$"), AfterValidator(_not_personal)]
CustomerToken = Annotated[str, Path(pattern=r"^customer_[A-Z2-7]{26}$")]
Limit = Annotated[int, Query(ge=1, le=RECENT_KEPT)]
SessionId = Annotated[str, Path(min_length=1, max_length=1024)]


def read_routes(door: Door) -> APIRouter:
    router = APIRouter()

    @router.get(
        "/v1/decisions/{event_id}",
        operation_id="getDecision",
        summary="The decision of a transaction",
        responses=openapi.responses(
            {200: openapi.ref("DecisionAnswer"), 202: openapi.ref("Pending")}, *(401, 403, 404, 422, 429)
        ),
    )
    async def get_decision(event_id: EventId, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """202 while the transaction is taken and not decided yet."""
        found = await find_decision(door, door.access.principal(request), event_id)
        if found is None:
            raise NotFoundError("decision: no such transaction; was its event_id taken?")
        if found.decision is None:
            return pending(event_id, found.card)
        return decided(found.decision, found.card, found.revision)

    @router.get(
        "/v1/customers/{token}/recent",
        operation_id="getRecent",
        summary="A customer's newest transactions",
        responses=openapi.responses({200: openapi.ref("Recent")}, *(401, 403, 422, 429)),
    )
    async def get_recent(  # pyright: ignore[reportUnusedFunction]
        token: CustomerToken, request: Request, limit: Limit = RECENT_KEPT
    ) -> Response:
        """The newest first, by event time. Customers are named by their token; nobody known has no transactions."""
        require(door.access.principal(request), "decisions:read")
        transactions = await run_in_threadpool(door.hotstore.recent, "customer_id", token, limit)
        return _json(Recent(transactions=transactions))

    @router.get(
        "/v1/sessions/{session_id:path}",
        operation_id="getSession",
        summary="A session of the shop or the app",
        responses=openapi.responses({200: openapi.ref("Session")}, *(401, 403, 404, 422, 429)),
    )
    async def get_session(session_id: SessionId, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """What is kept of it: when it began, when it was last seen, and how often each action was."""
        require(door.access.principal(request), "decisions:read")
        session = await run_in_threadpool(door.hotstore.session, session_id)
        if session is None:
            raise NotFoundError("session: no such session, or it ended longer ago than sessions are kept")
        return _json(session)

    return router


def person_routes(door: Door) -> APIRouter:
    router = APIRouter()

    @router.post(
        "/v1/sign-in",
        operation_id="signIn",
        summary="A signed token for a person",
        responses=openapi.responses({200: openapi.ref("Token")}, *(401, 408, 413, 415, 422, 429, 503)),
        openapi_extra=openapi.sign_in_body(),
    )
    async def sign_in(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Goes into the audit trail, whether it succeeds or not."""
        door.sign_in_rate.take(address_of(request))
        content_type(request, among=(JSON,))
        async with door.bodies.read(request) as body:
            try:
                given = msgspec.json.decode(body, type=SignIn)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                raise HTTPException(422, "sign in: wanted an object of two texts, name and password") from None
        try:
            async with door.sign_ins:
                token = await run_in_threadpool(door.identity.sign_in, given.name, given.password)
        except OverloadError as error:
            await put_on_record(door, request, who=given.name, what="sign_in", on=given.name, outcome="refused")
            raise HTTPException(429, str(error), {"Retry-After": str(error.retry_after_s)}) from None
        except AccessError:
            await put_on_record(door, request, who=given.name, what="sign_in", on=given.name, outcome="refused")
            raise
        await put_on_record(door, request, who=given.name, what="sign_in", on=given.name, outcome="done")
        return _json(Token(token=token))

    @router.post(
        "/v1/transactions/{event_id}/reveal",
        operation_id="reveal",
        summary="The personal values of a transaction, in clear",
        responses=openapi.responses({200: openapi.ref("Revealed")}, *(401, 403, 404, 410, 422, 429)),
    )
    async def reveal_transaction(  # pyright: ignore[reportUnusedFunction]
        event_id: EventId, request: Request
    ) -> Response:
        """By field: personal values and what else came that the schema does not know. Every request goes into the audit
        trail before anything is answered. 410 once the person was erased.
        """
        principal = door.access.principal(request)
        try:
            require(principal, "personal:reveal")
            record = await run_in_threadpool(door.hotstore.transaction, event_id)
            if record is None:
                raise NotFoundError("reveal: no such transaction")
            try:
                values = await run_in_threadpool(reveal, door.envelopes, load_schema(TRANSACTIONS), record)
            except NotFoundError:
                raise HTTPException(410, "reveal: the person's key was erased, and with it what it sealed") from None
        except (TidegateError, HTTPException):
            await put_on_record(door, request, who=principal.name, what="reveal", on=event_id, outcome="refused")
            raise
        await put_on_record(door, request, who=principal.name, what="reveal", on=event_id, outcome="done")
        return _json(values)

    return router


async def put_on_record(
    door: Door, request: Request, *, who: str, what: str, on: str, outcome: Literal["done", "refused"]
) -> None:
    """Durable when it returns; if it cannot be put on record, what was asked for is not done."""
    entry = AuditEntry(
        time_ms=door.clock.now_ms(),
        who=who[:_MAX_WHO_CHARS],
        what=what,
        on=on[:_MAX_ON_CHARS],
        where=address_of(request),
        outcome=outcome,
    )
    await run_in_threadpool(door.audit.write, entry)


def _json(answer: object) -> Response:
    return Response(msgspec.json.encode(answer), media_type=JSON)
