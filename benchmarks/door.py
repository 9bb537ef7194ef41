"""How much the door takes over HTTP, beside what a bare echo of the same server takes: the limit.

The server has one core, who sends has another. Every request is another one, each event new, and durable when it is
answered. Files go through `tidegate ingest`, beside a bare decoding of the same rows.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil

from benchmarks.events import QUICK, ROOT
from benchmarks.measure import Watched, commanded

#: Connections that are open, each with one request on its way.
CONNECTIONS = 32

#: Requests by kind: for some seconds each.
SINGLE, BATCHES, LARGE = (4_000, 100, 200) if QUICK else (40_000, 800, 2_000)
BATCH_EVENTS = 100
LARGE_BYTES = 200_000
FILE_ROWS = 20_000 if QUICK else 200_000

_PATH = b"/v1/streams/transactions/events"


def _transaction(number: int) -> dict[str, Any]:
    """Twenty fields, nine of them personal."""
    return {
        "event_id": f"e-{number}",
        "event_time": 1_780_000_000_000_000 + number,
        "transaction_type": "purchase",
        "channel": "ecommerce",
        "card_present": False,
        "authorisation": "approved",
        "customer_id": f"customer-{number % 10_007}",
        "pan": "4111111111111111",
        "cardholder_name": "Zoe Example",
        "email": f"zoe{number % 10_007}@example.org",
        "phone": "+4930901820",
        "billing_address": "1 Example Street",
        "ip": f"203.0.{number % 251}.{number % 241}",
        "device_id": f"device-{number % 20_011}",
        "session_id": f"session-{number % 30_011}",
        "ip_country": "DE",
        "merchant_id": f"shop-{number % 503}",
        "merchant_category": "5411",
        "amount_minor": 100 + number % 9_900,
        "currency": "EUR",
    }


def _single() -> Iterator[bytes]:
    return (msgspec.json.encode(_transaction(number)) for number in range(SINGLE))


def _batches() -> Iterator[bytes]:
    for first in range(0, BATCHES * BATCH_EVENTS, BATCH_EVENTS):
        yield msgspec.json.encode([_transaction(number) for number in range(first, first + BATCH_EVENTS)])


def _large() -> Iterator[bytes]:
    """What a source sends that adds a picture of the receipt."""
    receipt = "iVBORw0KGgoAAAANSUhEUgAA" * (LARGE_BYTES // 24)
    return (msgspec.json.encode(_transaction(number) | {"receipt": receipt}) for number in range(LARGE))


#: By workload: the bodies, and how many events each holds.
BODIES = {"single": (_single, 1), "batches": (_batches, BATCH_EVENTS), "large": (_large, 1)}


def measure(kind: str, server: str) -> dict[str, Any]:
    """The rate is that of events answered; CPU time and memory are the server's."""
    bodies, events = BODIES[kind]
    with tempfile.TemporaryDirectory() as folder:
        process = psutil.Popen(
            [sys.executable, "-m", "benchmarks.door", server, folder], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        try:
            port, key = json.loads(process.stdout.readline())
            head = (
                b"POST %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
                % (_PATH, key.encode())
            )
            requests = [b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body) for body in bodies()]
            os.sched_setaffinity(0, {_cores()[-1]})
            asyncio.run(_send(port, requests[: len(requests) // 10]))
            watched = Watched(psutil.Process(process.pid))
            began, cpu_s = time.perf_counter(), sum(process.cpu_times()[:2])
            asyncio.run(_send(port, requests[len(requests) // 10 :]))
            seconds, cpu_s = time.perf_counter() - began, sum(process.cpu_times()[:2]) - cpu_s
            watched.look()
        finally:
            process.kill()
            process.wait()
    sent = requests[len(requests) // 10 :]
    return {
        "events": len(sent) * events,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "peak_rss_mb": watched.rss[-1] / 2**20,
        "more": {"mb_per_s": round(sum(map(len, sent)) / seconds / 1e6, 1)},
    }


class _Sender(asyncio.Protocol):
    """Sends a request after the other and counts the answers."""

    def __init__(self, requests: Iterator[bytes], over: asyncio.Future[None]) -> None:
        self._requests, self._over, self._answer = requests, over, bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head = self._answer.find(b"\r\n\r\n")
        if head < 0:
            return
        if not self._answer.startswith((b"HTTP/1.1 202", b"HTTP/1.1 200")):
            self._over.set_exception(RuntimeError(f"refused: {self._answer[:500].decode()}"))
            return
        length = self._answer[:head].lower().find(b"content-length: ")
        size = int(self._answer[length + 16 : self._answer.find(b"\r", length)])
        if len(self._answer) >= head + 4 + size:
            self._answer.clear()
            self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._transport.write(request)  # pyright: ignore[reportAttributeAccessIssue]  # a stream's transport
        elif not self._over.done():
            self._over.set_result(None)


async def _send(port: int, requests: Sequence[bytes]) -> None:
    loop, left = asyncio.get_running_loop(), iter(requests)
    over = [loop.create_future() for _ in range(CONNECTIONS)]
    for each in over:
        await loop.create_connection(lambda each=each: _Sender(left, each), "127.0.0.1", port)
    await asyncio.gather(*over)


def ingested() -> dict[str, Any]:
    """The command, from its start to its end: a CSV file of twenty columns, on all cores."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sales.csv"
        names = list(_transaction(0))
        with path.open("w") as file:
            file.write(",".join(names) + "\n")
            file.writelines(",".join(map(str, _transaction(number).values())) + "\n" for number in range(FILE_ROWS))
        data = Path(folder) / "data"
        said, told = commanded("ingest", path, "--stream", "transactions", "--json", "--data", data)
        assert said["taken"] == FILE_ROWS, said
    return {"events": FILE_ROWS, **told, "more": {"rows_per_minute": round(FILE_ROWS / told["seconds"] * 60)}}


def decoded() -> dict[str, Any]:
    """The limit: the same rows as JSON, decoded and nothing more, in one process."""
    rows = [msgspec.json.encode(_transaction(number)) for number in range(FILE_ROWS)]
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    wall, cpu = time.perf_counter(), time.process_time()
    for row in rows:
        decode(row)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = psutil.Process().memory_info().rss / 2**20
    return {"events": FILE_ROWS, "seconds": wall, "cpu_s": cpu, "peak_rss_mb": peak}


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def _serve(server: str, folder: Path) -> None:
    import uvicorn

    os.sched_setaffinity(0, {_cores()[0]})
    app, key = _door(folder) if server == "door" else (_echo(), "none")
    config = uvicorn.Config(app, port=0, log_level="warning", access_log=False, server_header=False)

    async def serve() -> None:
        started = uvicorn.Server(config)
        serving = asyncio.create_task(started.serve())
        while not started.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
            await asyncio.sleep(0.01)
        print(json.dumps([started.servers[0].sockets[0].getsockname()[1], key]), flush=True)
        await serving

    asyncio.run(serve())


def _door(folder: Path) -> tuple[Any, str]:
    from tidegate.intake.http import create_app
    from tidegate.settings import Settings
    from tidegate.wiring import (
        open_audit,
        open_claims,
        open_clock,
        open_hotstore,
        open_identity,
        open_keys,
        open_log,
        open_schemas,
    )

    settings = Settings(data=folder)
    identity = open_identity(settings)
    key = identity.add_source("shop", frozenset({"transactions"}))
    app = create_app(
        log=open_log(settings),
        keys=open_keys(settings),
        claims=open_claims(settings),
        identity=identity,
        hotstore=open_hotstore(settings),
        schemas=open_schemas(settings),
        audit=open_audit(settings),
        clock=open_clock(),
        detector="card_fraud",
        rate_limit_per_s=1_000_000,
    )
    return app, key


def _echo() -> Any:
    """Starlette, one route, that gives back what it was given."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/json")

    return Starlette(routes=[Route(_PATH.decode(), echo, methods=["POST"])])


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]))
