"""What the routes of the Kafka REST Proxy share: content negotiation, and who sees which topic.

Topics are the company's streams, and what the engine writes of them. Sources write their streams, as through any other
interface of the door; people read what their roles let them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from tidegate.errors import AccessError
from tidegate.governance.roles import Permission, may, require
from tidegate.intake.decode import JSON
from tidegate.intake.door import Door
from tidegate.intake.kafka_rest_errors import RestError
from tidegate.intake.kafka_rest_openapi import V2
from tidegate.ports.identity import Principal
from tidegate.ports.log import TopicPartition
from tidegate.streams.decision import ALERTS, DECISIONS
from tidegate.streams.revision import REVISIONS
from tidegate.streams.schema import STREAMS

#: What a v2 answer can be called, the best first.
_V2_ANSWERS = (V2, "application/vnd.kafka+json", JSON)

#: What lets a principal read a topic. Of what was rejected, and of what the parts tell each other, nobody reads here.
READING: Mapping[str, Permission] = {
    **dict.fromkeys(STREAMS, "events:read"),
    DECISIONS: "decisions:read",
    REVISIONS: "decisions:read",
    ALERTS: "alerts:read",
}


def v2_answer(request: Request, content: Any, media_types: tuple[str, ...] = _V2_ANSWERS) -> Response:
    """A v2 answer, called what the client accepts."""
    return Response(msgspec.json.encode(content), media_type=accepted(request, media_types))


def accepted(request: Request, among: tuple[str, ...]) -> str:
    """The media type of those that the client prefers, the first where it does not say.

    Raises:
        RestError: it accepts none of them.
    """
    best, best_quality = "", 0.0
    for each in (request.headers.get("accept") or "*/*").split(","):
        wanted, *parameters = (part.strip().lower() for part in each.split(";"))
        quality = next((_quality(part[2:]) for part in parameters if part.startswith("q=")), 1.0)
        main = wanted.partition("/")[0]
        fits = [name for name in among if wanted in (name, "*/*") or wanted == f"{main}/*" == "application/*"]
        if fits and quality > best_quality:
            best, best_quality = fits[0], quality
    if not best:
        raise RestError(406, f"accept: wanted one of {', '.join(among)}; accept one of them")
    return best


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def topics_of(principal: Principal) -> list[str]:
    """The topics that a principal may write or read, by name."""
    written = principal.streams if may(principal, "events:write") else frozenset[str]()
    labels = {"labels"} if may(principal, "labels:write") else set[str]()
    return sorted({topic for topic, wanted in READING.items() if may(principal, wanted)} | written | labels)


def require_topic(principal: Principal, topic: str) -> None:
    """Let through who may see the topic.

    Raises:
        RestError: there is no such topic.
        AccessError: the principal may neither write nor read it.
    """
    check_topic(topic)
    if topic not in topics_of(principal):
        raise AccessError(f"access: {principal.name} may neither write nor read the topic {topic}", known=True)


def require_reading(principal: Principal, topic: str) -> None:
    """Let through who may read the topic's records.

    Raises:
        RestError: there is no such topic.
        AccessError: the principal may not read it.
    """
    check_topic(topic)
    require(principal, READING[topic])


def check_topic(topic: str) -> None:
    """
    Raises:
        RestError: there is no such topic.
    """
    if topic not in READING:
        raise RestError(40401, f"topic: wanted one of {', '.join(READING)}; name one of them")


async def partitions_of(door: Door, topic: str) -> int:
    """How many partitions a topic has.

    Raises:
        RestError: the log has no such topic.
    """
    number = (await run_in_threadpool(door.log.topics)).get(topic)
    if number is None:
        raise RestError(40401, "topic: the log does not have it; it is made when the company starts")
    return number


async def check_partition(door: Door, topic: str, partition: int) -> None:
    """
    Raises:
        RestError: the topic has no such partition.
    """
    if not 0 <= partition < (number := await partitions_of(door, topic)):
        raise RestError(40402, f"partition: wanted one from 0 to {number - 1}; name one of them")


async def offsets_of(door: Door, topic: str, partition: int) -> tuple[int, int]:
    """The first offset of a partition, and the one that its next record gets.

    Raises:
        RestError: the topic has no such partition.
    """
    await check_partition(door, topic, partition)
    place = TopicPartition(topic, partition)
    end = (await run_in_threadpool(door.log.ends, [topic]))[place]
    first = await run_in_threadpool(door.log.read, {place: 0}, 1)
    return (first[0].offset if first else end), end
