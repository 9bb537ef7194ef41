"""Who sits at the desk: signing in and out, and the person behind a request.

The signed token stays on the server, in NiceGUI's user storage; the browser holds an httponly cookie that names the
storage. Signing in is a plain form, so that the cookie can be changed with it: a name for the storage that was planted
before is worth nothing after.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from nicegui import app
from nicegui.storage import Storage

from tidegate.desk.door import Door
from tidegate.desk.feed import Feed
from tidegate.desk.meter import Meter
from tidegate.errors import AccessError, OverloadError
from tidegate.ports.audit import Audit, AuditEntry
from tidegate.ports.clock import Clock
from tidegate.ports.hotstore import HotStore
from tidegate.ports.identity import Identity, Principal

#: As long as the token itself is good for: a shift.
SESSION_S = 12 * 3600

_TOKEN = "token"  # noqa: S105  # the name it is stored under
_HOME = "/"
_DESK = "desk"
_SIGN_IN = "/sign-in"

#: What is kept of a name that was refused, in the audit trail.
_NAME_CHARS = 64


@dataclass(frozen=True)
class Desk:
    """What the pages work with."""

    feed: Feed
    meter: Meter
    hotstore: HotStore
    identity: Identity
    audit: Audit
    clock: Clock
    door: Door

    async def put_on_record(self, what: str, *, who: str, on: str, where: str, done: bool) -> None:
        """Write an audit entry; durable when it returns."""
        entry = AuditEntry(
            time_ms=self.clock.now_ms(),
            who=who,
            what=what,
            on=on,
            where=where,
            outcome="done" if done else "refused",
        )
        await asyncio.to_thread(self.audit.write, entry)


@dataclass(frozen=True)
class Session:
    """A person who is signed in. `token` is hers, for the door."""

    principal: Principal
    token: str
    where: str


def keep_sessions_in(folder: Path) -> None:
    """Keep sessions in this folder, readable by nobody else, and drop those of yesterday."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    Storage.path = folder
    oldest = time.time() - SESSION_S
    for file in folder.glob("storage-user-*.json"):
        if file.stat().st_mtime < oldest:
            file.unlink()


def current_session(desk: Desk, request: Request) -> Session | None:
    """Who asks; None if nobody is signed in, or not any more."""
    token = app.storage.user.get(_TOKEN)
    if not isinstance(token, str):
        return None
    try:
        principal = desk.identity.who(token)
    except AccessError:
        app.storage.user.pop(_TOKEN, None)
        return None
    return Session(principal, token, _address(request))


def is_good(desk: Desk, session: Session) -> bool:
    """Whether a session that was good is so still: neither expired, nor signed out in another tab."""
    try:
        desk.identity.who(session.token)
    except AccessError:
        return False
    return app.storage.user.get(_TOKEN) == session.token


def to_sign_in(request: Request) -> RedirectResponse:
    """To the sign-in page, and from there back to what was asked for."""
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"{_SIGN_IN}?{urlencode({'next': wanted})}" if wanted != _HOME else _SIGN_IN)


async def sign_in(desk: Desk, request: Request) -> Response:
    """Take the sign-in form. A refusal never says which of name and password was wrong."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return Response("The sign-in form must be sent from the desk's own page.", status_code=403)
    form = await request.form()
    name, password, wanted = (str(form.get(field, "")) for field in ("name", "password", "next"))
    try:
        # scrypt takes a tenth of a second on purpose: not on the loop that all pages share.
        token = await asyncio.to_thread(desk.identity.sign_in, name, password)
    except (AccessError, OverloadError) as error:
        await desk.put_on_record("sign_in", who=name[:_NAME_CHARS], on=_DESK, where=_address(request), done=False)
        refused = {"refused": "locked" if isinstance(error, OverloadError) else "wrong"}
        return RedirectResponse(f"{_SIGN_IN}?{urlencode(refused | {'next': wanted})}", status_code=303)
    await desk.put_on_record("sign_in", who=name, on=_DESK, where=_address(request), done=True)
    request.session["id"] = str(uuid.uuid4())
    await app.storage._create_user_storage(request.session["id"])  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # NiceGUI makes a storage only at the start of a request
    app.storage.user[_TOKEN] = token
    return RedirectResponse(local_path(wanted), status_code=303)


async def sign_out(desk: Desk, session: Session) -> None:
    app.storage.user.pop(_TOKEN, None)
    await desk.put_on_record("sign_out", who=session.principal.name, on=_DESK, where=session.where, done=True)


def local_path(wanted: str) -> str:
    """`wanted` if it is a page of this desk, else the first page: no link may lead elsewhere by way of the sign-in."""
    is_local = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if is_local else _HOME


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"
