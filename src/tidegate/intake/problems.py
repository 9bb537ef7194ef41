"""Every refusal as a problem (RFC 9457): what was wanted and how to mend it, never a value that was given."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tidegate.errors import (
    AccessError,
    DecodeError,
    EventError,
    NotFoundError,
    OverloadError,
    TidegateError,
    UsageError,
)
from tidegate.intake.answers import Problem
from tidegate.intake.journal import failed, told

MEDIA_TYPE = "application/problem+json"

#: The last part of a problem's type by status, where the status alone says what it is.
_SLUGS: Mapping[int, str] = {
    400: "usage",
    401: "unauthenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    408: "slow-body",
    410: "erased",
    413: "too-large",
    415: "content-type",
    422: "schema",
    429: "rate-limit",
    500: "internal",
    503: "overload",
}

_AUTHENTICATE = {"WWW-Authenticate": 'Bearer realm="tidegate"'}


def event_problem(error: EventError, instance: str | None = None) -> Problem:
    """The problem of one event that was refused."""
    slug = "decode" if isinstance(error, DecodeError) else "schema"
    title = "The event cannot be read" if slug == "decode" else "The event does not fit its stream"
    return Problem(
        type=f"/problems/{slug}",
        title=title,
        status=422,
        detail=str(error),
        instance=instance,
        step=error.step,
        field=error.field,
    )


def problem_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem that its status tells; unknown statuses are told as HTTP names them."""
    problem = Problem(
        type=f"/problems/{_SLUGS.get(status, 'http')}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=occurrence(),
    )
    return as_response(problem, headers)


def as_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(problem), problem.status, headers, MEDIA_TYPE)


def occurrence() -> str:
    """A name for this one occurrence: the request's path would not do, since it holds what someone typed."""
    return uuid.uuid4().urn


def add_handlers(app: FastAPI) -> None:
    """Answer every error of the tree, of Starlette and of FastAPI's own checks as a problem."""
    for kind in (TidegateError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, lambda _, error: response_of(error))


def problem_of(error: Exception) -> Problem:
    """The problem that an error is, for answers that hold it beside others."""
    return msgspec.json.decode(response_of(error).body, type=Problem)


def response_of(error: Exception) -> Response:  # noqa: PLR0911  # one a kind of error
    """The answer that an error is."""
    match error:
        case HTTPException():
            return _http_exception(error)
        case RequestValidationError():
            return _validation_error(error)
        case EventError():
            return as_response(event_problem(error, occurrence()))
        case AccessError():
            status = 403 if error.known else 401
            told("refused", status=status)
            return problem_response(status, str(error), None if error.known else _AUTHENTICATE)
        case OverloadError():
            return problem_response(503, str(error), {"Retry-After": str(error.retry_after_s)})
        case NotFoundError():
            return problem_response(404, str(error))
        case UsageError():
            return problem_response(400, str(error))
        case _:
            return internal(error)


def internal(error: Exception) -> Response:
    """Something that should not be: the operator is told where, the caller only under which name to ask for it."""
    response = problem_response(500, "the door failed; nothing of this request was taken unless you were told so")
    instance = msgspec.json.decode(response.body, type=Problem).instance
    failed("request", error, instance=instance)
    return response


def _http_exception(error: HTTPException) -> Response:
    detail = "there is nothing at this address; see /openapi.json" if _by_router(error, 404) else error.detail
    if _by_router(error, 405):
        detail = f"wanted a method among {(error.headers or {}).get('Allow', 'those of /openapi.json')}"
    return problem_response(error.status_code, detail, error.headers)


def _by_router(error: HTTPException, status: int) -> bool:
    """Whether Starlette's router raised it: its detail is the status' phrase."""
    return error.status_code == status and error.detail == HTTPStatus(status).phrase


def _validation_error(error: RequestValidationError) -> Response:
    # pydantic's messages say what was wanted; what was given stands in `input`, which is not told.
    faults = [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()]
    return problem_response(422, "request: " + "; ".join(faults))
