"""The door as an ASGI application."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version

import msgspec
from fastapi import APIRouter, FastAPI, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidegate.errors import OverloadError, TidegateError
from tidegate.intake import openapi
from tidegate.intake.answers import Health
from tidegate.intake.decode import JSON
from tidegate.intake.door import Door
from tidegate.intake.events import event_routes
from tidegate.intake.graphql_http import graphql_routes
from tidegate.intake.journal import failed, told
from tidegate.intake.kafka_rest_consumers import consumer_routes
from tidegate.intake.kafka_rest_produce import produce_routes
from tidegate.intake.kafka_rest_records import record_routes
from tidegate.intake.kafka_rest_topics import topic_routes
from tidegate.intake.kafka_rest_v3 import v3_routes
from tidegate.intake.limits import RETRY_AFTER_S
from tidegate.intake.lists import list_routes
from tidegate.intake.metrics import Metrics
from tidegate.intake.problems import add_handlers, internal
from tidegate.intake.reads import person_routes, read_routes
from tidegate.intake.schema_registry import register_streams, registry_routes
from tidegate.intake.webhooks import webhook_routes
from tidegate.ports.audit import Audit
from tidegate.ports.claims import Claims
from tidegate.ports.clock import Clock
from tidegate.ports.hotstore import HotStore
from tidegate.ports.identity import Identity
from tidegate.ports.keys import Keys
from tidegate.ports.log import Log
from tidegate.ports.schemas import Schemas
from tidegate.streams.decision import DECISIONS, REJECTED
from tidegate.streams.schema import STREAMS

#: The door serves data, no pages: nothing of it may be framed, run, sniffed, kept or told on.
_SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


_ROUTES = (
    *(event_routes, webhook_routes, list_routes, read_routes, graphql_routes, person_routes),
    *(produce_routes, topic_routes, consumer_routes, v3_routes, record_routes, registry_routes),
)


def create_app(
    *,
    log: Log,
    keys: Keys,
    claims: Claims,
    identity: Identity,
    hotstore: HotStore,
    schemas: Schemas,
    audit: Audit,
    clock: Clock,
    detector: str,
    decision_timeout_ms: int = 800,
    rate_limit_per_s: int = 2_000,
) -> FastAPI:
    """The door. The topics of all streams, `decisions` and `rejected` must be in the log when it starts.

    `detector` names the detector that answers `/v1/decisions`, after `decision_timeout_ms` at the latest.
    `rate_limit_per_s` is in requests of one principal.
    """
    register_streams(schemas)
    door = Door(
        log=log,
        keys=keys,
        claims=claims,
        identity=identity,
        hotstore=hotstore,
        schemas=schemas,
        audit=audit,
        clock=clock,
        detector=detector,
        decision_timeout_ms=decision_timeout_ms,
        rate_limit_per_s=rate_limit_per_s,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        door.start()
        told("open")
        yield
        await door.stop()
        told("closed")

    app = FastAPI(title="Tidegate", version=version("tidegate"), lifespan=lifespan, docs_url=None, redoc_url=None)
    app.openapi = lambda: openapi.describe(app)
    app.add_middleware(_Shell, metrics=door.metrics)
    add_handlers(app)
    for routes in (*_ROUTES, _operator_routes):
        app.include_router(routes(door))
    return app


def _operator_routes(door: Door) -> APIRouter:
    router = APIRouter()

    @router.get(
        "/healthz",
        operation_id="isAlive",
        summary="Whether the process lives",
        responses=openapi.responses({200: openapi.ref("Health")}),
        openapi_extra=openapi.OPEN,
    )
    async def is_alive() -> Response:  # pyright: ignore[reportUnusedFunction]
        return _ok()

    @router.get(
        "/readyz",
        operation_id="isReady",
        summary="Whether the door can take events",
        responses=openapi.responses({200: openapi.ref("Health")}, 503),
        openapi_extra=openapi.OPEN,
    )
    async def is_ready() -> Response:  # pyright: ignore[reportUnusedFunction]
        """The log has all topics and can be written, the keys are there."""
        try:
            missing = {*STREAMS, DECISIONS, REJECTED} - (await run_in_threadpool(door.log.topics)).keys()
            await run_in_threadpool(door.keys.prepare, [])
            await door.appender.append([])
        except TidegateError as error:
            failed("ready", error)
            raise OverloadError(
                "ready: the log or the keys cannot be used now; see the door's log", retry_after_s=RETRY_AFTER_S
            ) from None
        if missing:
            raise OverloadError(
                f"ready: the log lacks the topics {', '.join(sorted(missing))}; make them", retry_after_s=RETRY_AFTER_S
            )
        return _ok()

    @router.get(
        "/metrics",
        operation_id="getMetrics",
        summary="Metrics in Prometheus' text format",
        responses={200: {"description": "OK", "content": {"text/plain": {"schema": {"type": "string"}}}}},
        openapi_extra=openapi.OPEN,
    )
    async def get_metrics() -> Response:  # pyright: ignore[reportUnusedFunction]
        return Response(door.metrics.text(), media_type="text/plain; version=0.0.4")

    return router


def _ok() -> Response:
    return Response(msgspec.json.encode(Health()), media_type=JSON)


class _Shell:
    """Around every request: security headers, metrics, and a problem in place of what nobody caught."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        status = 0

        async def send_secured(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(_SECURITY_HEADERS)
            await send(message)

        try:
            await self._app(scope, receive, send_secured)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001  # the last one to catch it: the server would print its message
            if not status:
                await internal(error)(scope, receive, send_secured)
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.answers.labels(route, status).inc()
        self._metrics.request_seconds.labels(route).observe(time.perf_counter() - started_s)
