"""The fraud desk as one FastAPI app: its pages, its pulse, and the headers that fence it in. One worker serves it."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from nicegui import app as pages
from nicegui import ui

from tidegate.desk.alert import AlertPage
from tidegate.desk.door import Door
from tidegate.desk.feed import Feed
from tidegate.desk.live import LivePage
from tidegate.desk.lookup import CustomerPage, LookupPage
from tidegate.desk.meter import Meter
from tidegate.desk.session import SESSION_S, Desk, Session, current_session, keep_sessions_in, sign_in, to_sign_in
from tidegate.desk.sign_in import sign_in_page
from tidegate.errors import AccessError
from tidegate.governance.roles import Permission, may, require
from tidegate.ports.audit import Audit
from tidegate.ports.clock import Clock
from tidegate.ports.hotstore import HotStore
from tidegate.ports.identity import Identity
from tidegate.ports.log import Log

_STATIC = Path(__file__).parent / "static"

#: NiceGUI runs inline scripts and compiles Vue's templates in the browser, so scripts can't be fenced more tightly than
#: this; nothing may come from, or be sent to, another origin.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
}


def create_app(
    log: Log,
    hotstore: HotStore,
    identity: Identity,
    audit: Audit,
    clock: Clock,
    *,
    door_url: str,
    storage_secret: str,
    sessions: Path,
    groups: Sequence[str],
    https_only: bool = False,
) -> FastAPI:
    """The desk. NiceGUI allows one of it in a process.

    `storage_secret` signs the session's cookie, `sessions` is the folder that keeps what belongs to it, `groups` are
    the consumer groups whose lag is shown. `https_only` is for a desk behind TLS: the cookie then never leaves it. If
    the feed from the log fails, the process ends by SIGTERM, so that whoever supervises it starts it anew.
    """
    meter = Meter(log, clock, groups)
    feed = Feed(log, clock, meter, on_failure=lambda: signal.raise_signal(signal.SIGTERM))
    desk = Desk(feed, meter, hotstore, identity, audit, clock, Door(door_url))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        feed.start()
        yield
        feed.stop()
        await desk.door.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.middleware("http")(_fence)
    _add_probes(app, desk)
    keep_sessions_in(sessions)
    _add_pages(desk)
    style = _STATIC / "desk.css"
    pages.add_static_files("/static", _STATIC)
    version = hashlib.sha256(style.read_bytes()).hexdigest()[:12]
    ui.add_head_html(f'<link rel="stylesheet" href="/static/desk.css?{version}">', shared=True)
    ui.run_with(
        app,
        title="Tidegate",
        favicon=_STATIC / "favicon.svg",
        dark=None,
        language="en-US",
        tailwind=False,
        show_welcome_message=False,
        storage_secret=storage_secret,
        session_middleware_kwargs={"max_age": SESSION_S, "same_site": "lax", "https_only": https_only},
    )
    return app


async def _fence(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers.update(_HEADERS)
    if response.headers.get("content-type", "").startswith("text/html"):
        response.headers["Cache-Control"] = "no-store"
    return response


def _add_probes(app: FastAPI, desk: Desk) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"feed": desk.feed.alive}, status_code=200 if desk.feed.alive else 503)

    @app.get("/pulse")
    async def pulse() -> dict[str, Any]:
        return desk.meter.pulse()

    _ = healthz, pulse


def _add_pages(desk: Desk) -> None:
    @ui.page("/sign-in")
    def sign_in_form(next: str = "/", refused: str = "") -> None:  # noqa: A002  # the query's own name
        sign_in_page(next, refused)

    @pages.post("/sign-in")
    async def take_sign_in(request: Request) -> Response:
        return await sign_in(desk, request)

    @ui.page("/")
    def live(request: Request) -> Response | None:
        session = current_session(desk, request)
        if session and not may(session.principal, "alerts:read"):
            return RedirectResponse("/decisions")
        return _show(desk, request, "alerts:read", lambda session: LivePage(desk, session))

    @ui.page("/alerts/{event_id:path}")
    def alert(request: Request, event_id: str) -> Response | None:
        return _show(desk, request, "decisions:read", lambda session: AlertPage(desk, session, event_id))

    @ui.page("/decisions")
    def lookup(request: Request) -> Response | None:
        return _show(desk, request, "decisions:read", lambda session: LookupPage(desk, session))

    @ui.page("/decisions/{event_id:path}")
    def decision(request: Request, event_id: str) -> Response | None:
        return _show(desk, request, "decisions:read", lambda session: AlertPage(desk, session, event_id))

    @ui.page("/customers/{token}")
    def customer(request: Request, token: str) -> Response | None:
        return _show(desk, request, "decisions:read", lambda session: CustomerPage(desk, session, token))

    _ = sign_in_form, take_sign_in, live, alert, lookup, decision, customer


def _show(desk: Desk, request: Request, permission: Permission, build: Callable[[Session], object]) -> Response | None:
    session = current_session(desk, request)
    if session is None:
        return to_sign_in(request)
    try:
        require(session.principal, permission)
    except AccessError as error:
        return Response(str(error), status_code=403)
    build(session)
    return None
