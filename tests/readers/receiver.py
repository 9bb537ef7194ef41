"""A subscriber's server: real, in this process, answers as it is told, and checks every signature."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from standardwebhooks import Webhook

Answers = Callable[[int, dict[str, Any]], int]
"""The status for a message, of the n-th request."""


class Receiver:
    def __init__(self, answers: Answers = lambda number, message: 204) -> None:
        self.answers, self.secrets = answers, list[str]()
        self.got: list[tuple[str, dict[str, Any]]] = []
        """What was taken: the id and the message."""
        self.requests: list[str] = []
        self._came = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.take(dict(self.headers.items()), body)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", f"{receiver.url}/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            do_GET = do_POST  # noqa: N815  # the name that is called

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        for secret in self.secrets:
            Webhook(secret).verify(body, headers, json_parse=False)
        message = msgspec.json.decode(body)
        with self._came:
            self.requests.append(headers["webhook-id"])
            status = self.answers(len(self.requests), message)
            if 200 <= status < 300:
                self.got.append((headers["webhook-id"], message))
            self._came.notify_all()
        return status

    def wait(self, done: Callable[[], bool], timeout_s: float = 60) -> None:
        with self._came:
            assert self._came.wait_for(done, timeout_s), (len(self.requests), len(self.got))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
