"""The route by which people put things on lists, and take them off."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from tidegate.errors import TidegateError
from tidegate.governance.roles import require
from tidegate.intake import openapi
from tidegate.intake.answers import ListEntry
from tidegate.intake.body import split_of
from tidegate.intake.decode import split_lines
from tidegate.intake.door import Door
from tidegate.intake.events import answer_of
from tidegate.intake.limits import MAX_EVENTS
from tidegate.intake.reads import put_on_record
from tidegate.ports.keys import Keys
from tidegate.streams.lists import KINDS, LISTS
from tidegate.streams.schema import load_schema

ListName = Annotated[str, Path(pattern="^[a-z][a-z0-9_]{0,63}$")]
Version = Annotated[
    str, Query(pattern="^[A-Za-z0-9._:+-]{1,64}$", description="The same entry of the same version counts once.")
]

#: Hexadecimal digits of an id that are kept, and the letters that they are written with: among digits there would now
#: and then be a card number.
_ID_DIGITS = 40
_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")

_decoder = msgspec.json.Decoder(ListEntry)
_encoder = msgspec.json.Encoder()


def list_routes(door: Door) -> APIRouter:
    router = APIRouter()

    @router.post(
        "/v1/lists/{name}",
        operation_id="changeList",
        summary="Put things on a list, or take them off",
        responses=openapi.responses(
            {202: openapi.results("Taken"), 207: openapi.results("Taken", "Refused")},
            *(401, 403, 408, 413, 415, 422, 429, 503),
        ),
        openapi_extra=openapi.entries_body(),
    )
    async def change_list(name: ListName, version: Version, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Each entry becomes an event of the stream `lists`, of now, in the name of who asks. Its id is made of list,
        thing and `version`: sent again it is answered with the place of the first. Goes into the audit trail.
        """
        principal = door.access.principal(request)
        try:
            require(principal, "lists:write")
            split = split_of(request)
            async with door.bodies.read(request) as body:
                entries = _entries(list(split(body)))
                told = {"event_time": door.clock.now_ms() * 1000, "list": name, "added_by": principal.name}
                lines = await run_in_threadpool(_events, door.keys, entries, version, told)
                what = f"{name}: {len(entries)} entries of version {version}"
                await put_on_record(door, request, who=principal.name, what="lists", on=what, outcome="done")
                prepared = await door.intake.prepare(LISTS, split_lines, lines, principal.name)
                return answer_of(await door.intake.append(LISTS, prepared))
        except (TidegateError, HTTPException):
            await put_on_record(door, request, who=principal.name, what="lists", on=name, outcome="refused")
            raise

    return router


def _entries(lines: list[bytes | msgspec.Raw]) -> list[tuple[str, ListEntry]]:
    """Each entry with the kind of the thing that it names.

    Raises:
        HTTPException: 422, one is not an entry: nothing is taken.
    """
    if not 0 < len(lines) <= MAX_EVENTS:
        raise HTTPException(413, f"lists: wanted 1 to {MAX_EVENTS} entries, got {len(lines)}; send them in parts")
    entries: list[tuple[str, ListEntry]] = []
    for number, line in enumerate(lines, 1):
        try:
            entry = _decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise _fault(number, "an object of one thing, expires_at, removed and reason") from None
        named = [kind for kind in KINDS if getattr(entry, kind) is not None]
        if len(named) != 1:
            raise _fault(number, f"one thing, as one of {', '.join(KINDS)}")
        entries.append((named[0], entry))
    return entries


def _fault(number: int, wanted: str) -> HTTPException:
    return HTTPException(422, f"lists: entry {number}: wanted {wanted}, got something else; nothing was taken")


def _events(keys: Keys, entries: list[tuple[str, ListEntry]], version: str, told: dict[str, Any]) -> bytes:
    """The entries as events of the stream `lists`, a line each, with what is told of them all. An id holds no more of a
    thing than its token does.
    """
    personal = load_schema(LISTS).personal
    lines: list[bytes] = []
    for kind, entry in entries:
        value: str = getattr(entry, kind)
        token = keys.token(personal[kind], value) if kind in personal else value
        digest = hashlib.sha256(f"{told['list']}\n{kind}\n{token}\n{version}".encode("utf-8", "surrogatepass"))
        event: dict[str, Any] = {
            "event_id": f"li-{digest.hexdigest()[:_ID_DIGITS].translate(_LETTERS)}",
            kind: value,
            "expires_at": entry.expires_at,
            "removed": entry.removed,
            "reason": entry.reason,
        }
        lines.append(_encoder.encode(event | told))
    return b"\n".join(lines)
