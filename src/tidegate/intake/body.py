"""Reads request bodies: of a known kind, of a bounded size, in a bounded time, and not more than the door can hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.exceptions import HTTPException

from tidegate.errors import OverloadError
from tidegate.intake.decode import JSON, NDJSON, Raw, split_json, split_lines
from tidegate.intake.limits import BODY_TIMEOUT_S, MAX_BODY_BYTES, MAX_BYTES_IN_FLIGHT, RETRY_AFTER_S, STREAM_IDLE_S
from tidegate.intake.metrics import Metrics

RawSplit = Callable[[bytes], Sequence[Raw]]

_SPLITS: dict[str, RawSplit] = {JSON: split_json, NDJSON: split_lines}

#: After a body was refused half-way, what follows on the connection is the rest of it.
_CLOSE = {"Connection": "close"}


def media_type(request: Request, *, among: tuple[str, ...]) -> str:
    """The media type of the body, without its parameters.

    Raises:
        HTTPException: 415, another type than those, or another charset than UTF-8.
    """
    given, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    charset = parameters.strip().removeprefix("charset=").strip('"')
    if given.strip() not in among or charset not in ("", "utf-8"):
        raise HTTPException(
            415,
            f"content type: wanted {' or '.join(among)} in UTF-8; name it in Content-Type",
            {"Accept-Post": ", ".join(among)},
        )
    return given.strip()


def content_type(request: Request, *, among: tuple[str, ...]) -> str:
    """The media type of a body that is not packed.

    Raises:
        HTTPException: 415, as `media_type`, or the body is packed.
    """
    if "content-encoding" in request.headers:
        raise HTTPException(415, "content encoding: wanted a body that is not packed", {"Accept-Encoding": "identity"})
    return media_type(request, among=among)


def split_of(request: Request) -> RawSplit:
    """How the body is cut into its elements, by its media type: JSON or NDJSON.

    Raises:
        HTTPException: 415, as `content_type`.
    """
    return _SPLITS[content_type(request, among=(JSON, NDJSON))]


class Bodies:
    """The bodies that are in the door, held to MAX_BYTES_IN_FLIGHT together."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._bytes = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncGenerator[bytes]:
        """The request's body, counted as in flight until the block ends.

        Raises:
            HTTPException: 413, larger than MAX_BODY_BYTES: said before all of it is read. 408, slower than
                BODY_TIMEOUT_S.
            OverloadError: the door is full.
        """
        chunks: list[bytes] = []
        size = 0
        try:
            declared = request.headers.get("content-length", "")
            _check_size(int(declared) if declared.isdecimal() else 0)
            try:
                async with asyncio.timeout(BODY_TIMEOUT_S):
                    async for chunk in request.stream():
                        chunks.append(chunk)
                        size += len(chunk)
                        self.count(len(chunk))
                        _check_size(size)
                        self.check()
            except TimeoutError:
                raise HTTPException(
                    408, f"body: wanted all of it within {BODY_TIMEOUT_S} s; nothing was taken, send again", _CLOSE
                ) from None
            yield b"".join(chunks)
        finally:
            self.count(-size)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[Streamed]:
        """The request's body in parts, each to be worked off before the next one is read."""
        streamed = Streamed(request, self)
        try:
            yield streamed
        finally:
            streamed.hold(0)

    def count(self, size: int) -> None:
        self._bytes += size
        self._metrics.bytes_in_flight.set(self._bytes)

    def check(self) -> None:
        """
        Raises:
            OverloadError: the door is full.
        """
        if self._bytes > MAX_BYTES_IN_FLIGHT:
            raise OverloadError("door: full; send again what was not taken", retry_after_s=RETRY_AFTER_S)


class Streamed:
    """A body whose parts may come for as long as the client likes, not more than STREAM_IDLE_S apart."""

    def __init__(self, request: Request, bodies: Bodies) -> None:
        self._request, self._bodies, self._size = request, bodies, 0

    async def chunks(self) -> AsyncGenerator[bytes]:
        """
        Raises:
            HTTPException: 408, the client sends nothing more and does not end.
        """
        chunks = self._request.stream()
        try:
            while True:
                async with asyncio.timeout(STREAM_IDLE_S):
                    chunk = await anext(chunks)
                yield chunk
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise HTTPException(408, f"body: wanted more within {STREAM_IDLE_S} s, or its end", _CLOSE) from None

    def hold(self, size: int) -> None:
        """Count as many bytes as in flight, in place of those before.

        Raises:
            OverloadError: the door is full.
        """
        self._bodies.count(size - self._size)
        self._size = size
        if size:
            self._bodies.check()


def _check_size(size: int) -> None:
    if size > MAX_BODY_BYTES:
        raise HTTPException(
            413, f"size: wanted a body of up to {MAX_BODY_BYTES} bytes, got more; send the events in parts", _CLOSE
        )
