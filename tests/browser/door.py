"""A small door for the desk's tests: takes labels and reveals, by the same rights and with the same answers as the
real one, and projects a label at once, as the hot store's reader would."""

from __future__ import annotations

import json
import threading
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from tests.desk.stream import Ports, Stream

from tidegate.errors import AccessError
from tidegate.governance.roles import Permission, require
from tidegate.ports.identity import Principal

REVEALED = {"email": "ada@example.org", "pan": "4111111111111234", "ip": "203.0.113.7", "customer_id": "C-1001"}


class StandInDoor:
    """`labels` are the label events taken, `refuse` is a detail to refuse all of them with."""

    def __init__(self, ports: Ports, stream: Stream) -> None:
        self.labels: list[dict[str, Any]] = []
        self.revealed: list[tuple[str, str]] = []
        self.refuse: str | None = None
        self._ports, self._stream = ports, stream
        app = FastAPI()
        app.post("/v1/streams/labels/events")(self._take_label)
        app.post("/v1/transactions/{event_id}/reveal")(self._reveal)
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self) -> str:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
        (socket,) = self._server.servers[0].sockets
        return f"http://127.0.0.1:{socket.getsockname()[1]}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def _who(self, request: Request, permission: Permission) -> Principal:
        principal = self._ports.identity.who(request.headers["authorization"].removeprefix("Bearer "))
        require(principal, permission)
        return principal

    async def _take_label(self, request: Request) -> Response:
        try:
            self._who(request, "labels:write")
        except AccessError as error:
            return JSONResponse({"title": "Forbidden", "detail": str(error)}, 403)
        if self.refuse:
            return JSONResponse({"title": "The event does not fit its stream", "detail": self.refuse}, 422)
        label = json.loads(await request.body())
        self.labels.append(label)
        self._stream.label(
            label["transaction_id"], is_fraud=label["is_fraud"], source=label["source"], reason=label["reason"]
        )
        return JSONResponse({"event_id": label["event_id"], "partition": 0, "offset": 0, "duplicate": False}, 202)

    async def _reveal(self, event_id: str, request: Request) -> Response:
        try:
            principal = self._who(request, "personal:reveal")
        except AccessError as error:
            return JSONResponse({"title": "Forbidden", "detail": str(error)}, 403)
        self.revealed.append((principal.name, event_id))
        return JSONResponse(REVEALED)
