"""The door's GraphQL schema: events in, decisions and alerts out, each the way of REST.

Names are those of the streams and of REST, in snake case: one word for one thing.
"""

# No `from __future__ import annotations` here: strawberry reads the annotations as they stand.

import asyncio
from collections.abc import AsyncGenerator
from enum import Enum
from typing import Annotated, Any, NewType

import msgspec
import strawberry
from starlette.concurrency import run_in_threadpool
from strawberry.extensions import MaxAliasesLimiter, MaxTokensLimiter, QueryDepthLimiter
from strawberry.schema.config import StrawberryConfig
from strawberry.types.scalar import ScalarDefinition

from tidegate.errors import UsageError
from tidegate.governance.roles import require, require_stream
from tidegate.intake import answers
from tidegate.intake.decode import split_json
from tidegate.intake.door import Door
from tidegate.intake.events import TRANSACTIONS, find_decision, take_and_decide
from tidegate.intake.limits import IDLE_POLL_S, MAX_QUERY_ALIASES, MAX_QUERY_DEPTH, MAX_QUERY_TOKENS
from tidegate.intake.sensitive import personal_in
from tidegate.intake.validate import EVENT_ID
from tidegate.ports.hotstore import RECENT_KEPT
from tidegate.ports.identity import Principal
from tidegate.ports.log import Positions, after
from tidegate.streams import decision as records
from tidegate.streams.decision import ALERTS, DECISIONS
from tidegate.streams.revision import Revision
from tidegate.streams.schema import STREAMS

_READ_AT_ONCE = 1_000

_encode = msgspec.json.Encoder().encode


class Context:
    """Who asks the door."""

    def __init__(self, door: Door, principal: Principal) -> None:
        self.door, self.principal = door, principal


Asked = strawberry.Info[Context, None]

Event = NewType("Event", object)
Json = NewType("Json", object)
Int64 = NewType("Int64", int)

_SCALARS: dict[object, ScalarDefinition] = {
    Event: strawberry.scalar(
        name="Event",
        description="A JSON object: an event as the reference of its stream has it. It is checked as by REST, so that "
        "what is refused is kept.",
        parse_value=lambda value: value,
    ),
    Json: strawberry.scalar(name="JSON", description="Any JSON."),
    Int64: strawberry.scalar(
        name="Int64",
        description="An integer of 64 bits: an amount in minor units, microseconds since 1970, a place in the log.",
        serialize=int,
    ),
}


@strawberry.enum(description="What is to be done.")
class Outcome(Enum):
    approve = "approve"
    review = "review"
    decline = "decline"


#: Made from what there is: to the type checker no type.
Stream: Any = strawberry.enum(
    Enum("Stream", [(name, name) for name in STREAMS]),  # pyright: ignore[reportArgumentType, reportCallIssue]
    description="A stream of the company.",
)


@strawberry.type(description="An event that is in the log. duplicate: its id was there already, and this is where.")
class Taken:
    event_id: strawberry.ID
    partition: int
    offset: Int64
    duplicate: bool


@strawberry.type(description="An event that is not in the log. Its sealed original is in the stream rejected.")
class Refused:
    step: str | None
    field: str | None
    detail: str


@strawberry.type(description="The transaction is taken; its decision is not there yet.")
class Pending:
    event_id: strawberry.ID
    card: str | None = strawberry.field(description="What may be shown of the card: 411111******1111.")


@strawberry.type
class _Decided:
    """What decisions and alerts have in common; no type of the schema."""

    event_id: strawberry.ID
    event_time: Int64
    detector: str
    detector_version: str
    outcome: Outcome
    score: int
    reasons: list[str]


@strawberry.type(description="What was decided of an event, and why.")
class Decision(_Decided):
    late: bool
    hash: str
    card: str | None = strawberry.field(description="What may be shown of the card: 411111******1111.")
    record: Json = strawberry.field(description="All of the decision record.")
    revision: Json | None = strawberry.field(
        default=None,
        description="The newest revision: how it comes out now that more has arrived. null: there is none.",
    )


@strawberry.type(description="A decision that someone or something must act on. Personal fields are tokens.")
class Alert(_Decided):
    record: Json = strawberry.field(description="All of the alert.")


@strawberry.type(description="A transaction as the desk lists it. Personal fields are tokens.")
class Transaction:
    event_id: strawberry.ID
    event_time: Int64
    transaction_type: str
    channel: str
    authorisation: str
    amount_minor: Int64
    currency: str
    outcome: str | None
    revised_outcome: str | None = strawberry.field(description="What the decision's newest revision says, if any.")
    is_fraud: bool | None


@strawberry.type(description="A session of the shop or the app.")
class Session:
    session_id: strawberry.ID
    customer_id: str | None
    started: Int64
    last_seen: Int64
    actions: Json = strawberry.field(description="How often each action was seen.")


EventResult = Annotated[Taken | Refused, strawberry.union("EventResult", description="What became of an event.")]
DecisionResult = Annotated[
    Decision | Pending | Refused, strawberry.union("DecisionResult", description="What became of a transaction.")
]
DecisionFound = Annotated[
    Decision | Pending, strawberry.union("DecisionFound", description="A decision, or that it is still to come.")
]


@strawberry.type
class Query:
    @strawberry.field(description="The decision of a transaction; null if no such transaction was taken.")
    async def decision(self, info: Asked, event_id: strawberry.ID) -> DecisionFound | None:
        if not EVENT_ID.fullmatch(event_id) or personal_in(event_id):
            raise UsageError("decision: wanted an event's id, got what is none")
        found = await find_decision(info.context.door, info.context.principal, event_id)
        if found is None:
            return None
        if found.decision is None:
            return Pending(event_id=event_id, card=found.card)
        return _decision(found.decision, found.card, found.revision)

    @strawberry.field(description="A customer's newest transactions, the newest first. Customers are named by tokens.")
    async def recent(self, info: Asked, customer_id: strawberry.ID, limit: int = 20) -> list[Transaction]:
        require(info.context.principal, "decisions:read")
        if not 0 < limit <= RECENT_KEPT:
            raise UsageError(f"recent: wanted a limit from 1 to {RECENT_KEPT}; ask for fewer")
        found = await run_in_threadpool(info.context.door.hotstore.recent, "customer_id", customer_id, limit)
        listed = (msgspec.structs.asdict(each) for each in found)
        return [Transaction(**{name: each[name] for name in Transaction.__annotations__}) for each in listed]

    @strawberry.field(description="A session; null if there is none, or it ended longer ago than sessions are kept.")
    async def session(self, info: Asked, session_id: strawberry.ID) -> Session | None:
        require(info.context.principal, "decisions:read")
        found = await run_in_threadpool(info.context.door.hotstore.session, session_id)
        return Session(**msgspec.structs.asdict(found)) if found else None


@strawberry.type
class Mutation:
    @strawberry.mutation(description="Take events. Each is durable in the log before it is answered; results in order.")
    async def send(
        self,
        info: Asked,
        stream: Stream,  # pyright: ignore[reportInvalidTypeForm, reportUnknownParameterType]
        events: list[Event],
    ) -> list[EventResult]:
        door, principal = info.context.door, info.context.principal
        require_stream(principal, stream.value)
        prepared = await door.intake.prepare(stream.value, split_json, _encode(events), principal.name)
        return [_result(result) for result in await door.intake.append(stream.value, prepared)]

    @strawberry.mutation(description="Take one transaction and wait for its decision.")
    async def decide(self, info: Asked, transaction: Event) -> DecisionResult:
        door, principal = info.context.door, info.context.principal
        require(principal, "decisions:request")
        require_stream(principal, TRANSACTIONS)
        result, decided = await take_and_decide(door, _encode(transaction), principal.name)
        if isinstance(result, answers.Refused):
            return _refused(result)
        card = door.decisions.card(result.event_id)
        return _decision(decided, card) if decided else Pending(event_id=strawberry.ID(result.event_id), card=card)


@strawberry.type
class Subscription:
    @strawberry.subscription(description="Decisions as they are made, from now on; with outcomes, only those.")
    async def decisions(self, info: Asked, outcomes: list[Outcome] | None = None) -> AsyncGenerator[Decision]:
        require(info.context.principal, "decisions:read")
        async for record in _coming(info.context.door, DECISIONS):
            made = msgspec.json.decode(record, type=records.Decision)
            if outcomes is None or Outcome(made.outcome) in outcomes:
                yield _decision(made, None)

    @strawberry.subscription(description="Alerts as they come, from now on.")
    async def alerts(self, info: Asked, min_score: int = 0) -> AsyncGenerator[Alert]:
        require(info.context.principal, "alerts:read")
        async for record in _coming(info.context.door, ALERTS):
            alert = msgspec.json.decode(record, type=records.Alert)
            if alert.score >= min_score:
                yield Alert(**_in_common(alert))


async def _coming(door: Door, topic: str) -> AsyncGenerator[bytes]:
    """The records of a topic that are written from now on."""
    positions: Positions = await run_in_threadpool(door.log.ends, [topic])
    while True:
        written = await run_in_threadpool(door.log.read, positions, _READ_AT_ONCE)
        positions |= after(written)
        for record in written:
            yield record.value
        if not written:
            await asyncio.sleep(IDLE_POLL_S)


def _decision(made: records.Decision, card: str | None, revision: Revision | None = None) -> Decision:
    revised = Json(msgspec.to_builtins(revision)) if revision else None
    return Decision(late=made.late, hash=made.hash, card=card, revision=revised, **_in_common(made))


def _in_common(made: records.Decision | records.Alert) -> dict[str, Any]:
    """What decisions and alerts tell alike, and all of the record."""
    return {
        "event_id": made.event_id,
        "event_time": made.event_time,
        "detector": made.detector,
        "detector_version": made.detector_version,
        "outcome": Outcome(made.outcome),
        "score": made.score,
        "reasons": made.reasons,
        "record": msgspec.to_builtins(made),
    }


def _result(result: answers.Taken | answers.Refused) -> Taken | Refused:
    if isinstance(result, answers.Refused):
        return _refused(result)
    return Taken(
        event_id=strawberry.ID(result.event_id),
        partition=result.partition,
        offset=Int64(result.offset),
        duplicate=result.duplicate,
    )


def _refused(result: answers.Refused) -> Refused:
    return Refused(step=result.problem.step, field=result.problem.field, detail=result.problem.detail)


class _Schema(strawberry.Schema):
    def process_errors(self, errors: object, execution_context: object = None) -> None:
        """The library would log each error, with the values that it quotes: what must be told is told by the route."""


SCHEMA = _Schema(
    Query,
    Mutation,
    Subscription,
    extensions=[
        lambda: QueryDepthLimiter(max_depth=MAX_QUERY_DEPTH),
        lambda: MaxAliasesLimiter(max_alias_count=MAX_QUERY_ALIASES),
        lambda: MaxTokensLimiter(max_token_count=MAX_QUERY_TOKENS),
    ],
    config=StrawberryConfig(auto_camel_case=False, scalar_map=_SCALARS),
)
