"""Errors as clients of the Kafka REST Proxy know them: a code and a message."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import msgspec
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tidegate.intake.answers import Problem
from tidegate.intake.decode import JSON
from tidegate.intake.kafka_rest_answers import KafkaError
from tidegate.intake.problems import response_of

#: Statuses that clients know by a finer code.
_CODES: Mapping[int, int] = {401: 40101, 403: 40301, 503: 50003}

#: Clients that wait to be asked for a name and password take the first that they know.
_CHALLENGE = 'Basic realm="tidegate", Bearer realm="tidegate"'


Kind = TypeVar("Kind")


class RestError(HTTPException):
    """An error by the code that clients of the REST Proxy know: its first three digits are the status."""

    def __init__(self, code: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.code = code
        super().__init__(int(str(code)[:3]), message, headers)


class KafkaRoute(APIRoute):
    """A route whose every error is told as an error code and a message."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handle(request)
            except ClientDisconnect:
                raise
            except Exception as error:  # noqa: BLE001  # whatever it is, it is told in one form
                return failure(error)

        return told


def failure(error: Exception) -> Response:
    """The answer that an error is."""
    told, response = error_of(error)
    headers = {name: value for name, value in response.headers.items() if name in ("retry-after", "connection")}
    if response.status_code == 401:  # noqa: PLR2004
        headers["WWW-Authenticate"] = _CHALLENGE
    return Response(msgspec.json.encode(told), response.status_code, headers, JSON)


def error_of(error: Exception) -> tuple[KafkaError, Response]:
    """An error as clients know it, and the problem that it is elsewhere."""
    response = response_of(error)
    problem = msgspec.json.decode(response.body, type=Problem)
    status = problem.status
    code = error.code if isinstance(error, RestError) else _CODES.get(status, status)
    return KafkaError(error_code=code, message=problem.detail), response


def asked(content: bytes, kind: type[Kind], default: bytes = b"") -> Kind:
    """What a request's body asks for; an empty one asks for the default.

    Raises:
        RestError: 400, no JSON; 422, another object.
    """
    try:
        return msgspec.json.decode(content or default, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RestError(422 if isinstance(error, msgspec.ValidationError) else 400, not_json(error)) from None


def not_json(error: Exception) -> str:
    """Why a body can't be decoded. msgspec says what is wrong at which byte or in which field, and no value."""
    what = str(error) if isinstance(error, msgspec.MsgspecError) else type(error).__name__
    return f"body: wanted JSON as /openapi.json describes it, got what is not: {what}; mend it there"
