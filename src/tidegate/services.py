"""What each child of the supervisor runs, from its first line on standard input to a clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tidegate.settings import Settings
from tidegate.signals import stop_on
from tidegate.streams.decision import DECISIONS
from tidegate.wiring import (
    open_audit,
    open_claims,
    open_clock,
    open_hotstore,
    open_identity,
    open_keys,
    open_lake,
    open_log,
    open_models,
    open_schemas,
    open_shadow_log,
    open_snapshots,
)

if TYPE_CHECKING:
    from fastapi import FastAPI

#: Once the lifeline is cut, a service that can't finish within this time is not worth waiting for: what it had not
#: committed is done again at the next start.
_ORPHAN_TIMEOUT_S = 5

#: What a request may still take once the service is told to stop.
_GRACE_S = 5

#: How often a service that has to wait for the first decision looks for it.
_LOOK_S = 0.5

#: The lake, the revisions and the simulated sources leave the processor to the engine and the door.
_BACKGROUND_NICE = 5


def limit_memory(limit_mb: int) -> None:
    """Let this process grow to so many MiB: beyond that it fails, and where memory is short it goes before others."""
    limit = limit_mb << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


class Context:
    """What a service is given: its settings, what only it needs, and the event that ends it."""

    def __init__(self, settings: Settings, extra: dict[str, Any]) -> None:
        self.settings = settings
        self.extra = extra
        self.stop = threading.Event()

    def ready(self) -> None:
        """Tell the supervisor that it serves."""
        say({"ready": {}})


def say(what: dict[str, Any]) -> None:
    """One line to the supervisor."""
    sys.stdout.write(msgspec.json.encode(what).decode() + "\n")
    sys.stdout.flush()


def run_service(name: str, settings: dict[str, Any], extra: dict[str, Any]) -> None:
    """Run the service `name` until it is told to stop or its supervisor is gone."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("pyiceberg").setLevel(logging.WARNING)
    context = Context(Settings(**settings), extra)
    # Ctrl-C reaches every process of the terminal; only the supervisor decides when a service stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop_on(context.stop, signal.SIGTERM)
    threading.Thread(target=_watch_lifeline, args=(context.stop,), daemon=True).start()
    _SERVICES[name](context)


def _watch_lifeline(stop: threading.Event) -> None:
    # The file descriptor itself: a thread that waits in Python's buffered reader would keep its lock at exit.
    while os.read(sys.stdin.fileno(), 1):
        pass
    stop.set()
    threading.Timer(_ORPHAN_TIMEOUT_S, os._exit, (1,)).start()


def _serve(app: FastAPI, port: int, context: Context) -> None:
    import uvicorn

    # In a thread of its own, uvicorn leaves the signals to us.
    config = uvicorn.Config(
        app,
        host=context.settings.host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        context.stop.wait(0.02)
    if server.started:
        context.ready()
    while thread.is_alive() and not context.stop.wait(0.2):
        pass
    server.should_exit = True
    thread.join()


def _door(context: Context) -> None:
    from tidegate.intake.http import create_app

    settings = context.settings
    app = create_app(
        log=open_log(settings),
        keys=open_keys(settings),
        claims=open_claims(settings),
        identity=open_identity(settings),
        hotstore=open_hotstore(settings),
        schemas=open_schemas(settings),
        audit=open_audit(settings),
        clock=open_clock(),
        detector=settings.live[0],
        decision_timeout_ms=settings.decision_timeout_ms,
        rate_limit_per_s=settings.rate_limit_per_s,
    )
    _serve(app, settings.door_port, context)


def _engine(context: Context) -> None:
    from prometheus_client import start_http_server

    from tidegate.hosts.arrivals import GROUP
    from tidegate.hosts.local import LocalHost
    from tidegate.hosts.promotion import first_detectors

    settings, log, models = context.settings, open_log(context.settings), open_models()
    if not log.stand_by(GROUP, context.stop, context.ready):
        return
    host = LocalHost(
        log,
        open_snapshots(settings),
        first_detectors(log, models),
        open_clock(),
        snapshot_every_ms=settings.snapshot_every_s * 1000,
        models=models,
    )
    start_http_server(settings.engine_port, settings.host, registry=host.metrics.registry)
    context.ready()
    host.run(context.stop)


def _shadow(context: Context) -> None:
    from tidegate.hosts.shadow import ShadowHost

    settings = context.settings
    os.nice(_BACKGROUND_NICE)
    limit_memory(settings.shadow_memory_mb)
    # Whatever a shadow version does to its process, the company has started.
    context.ready()
    host = ShadowHost(
        open_log(settings), open_shadow_log(settings), open_snapshots(settings), open_clock(), models=open_models()
    )
    host.run(context.stop)


def _revisions(context: Context) -> None:
    settings, log = context.settings, open_log(context.settings)
    os.nice(_BACKGROUND_NICE)
    context.ready()
    # The engine compiles the kernel at a first start: twice at once would take twice as long.
    while not any(log.ends([DECISIONS]).values()):
        if context.stop.wait(_LOOK_S):
            return
    from tidegate.hosts.promotion import first_detectors
    from tidegate.hosts.revisions import RevisionHost

    models = open_models()
    RevisionHost(
        log,
        open_snapshots(settings),
        first_detectors(log, models),
        open_clock(),
        wait_ms=settings.revise_after_s * 1000,
        keep_every_ms=settings.snapshot_every_s * 1000,
        models=models,
    ).run(context.stop)


def _hotstore(context: Context) -> None:
    from tidegate.readers.hotstore import HotStoreReader

    reader = HotStoreReader(open_log(context.settings), open_hotstore(context.settings), open_clock())
    context.ready()
    reader.run(context.stop)


def _lake(context: Context) -> None:
    from tidegate.readers.lake import LakeReader

    os.nice(_BACKGROUND_NICE)
    settings = context.settings
    reader = LakeReader(
        open_log(settings), open_lake(settings), open_clock(), commit_every_ms=settings.lake_commit_every_s * 1000
    )
    context.ready()
    reader.run(context.stop)


def _webhooks(context: Context) -> None:
    from tidegate.readers.posting import Poster
    from tidegate.readers.webhooks import WebhookReader

    os.nice(_BACKGROUND_NICE)
    settings = context.settings
    poster = Poster(settings.webhook_networks)
    reader = WebhookReader(open_log(settings), open_keys(settings), open_clock(), poster)
    context.ready()
    reader.run(context.stop)


def _desk(context: Context) -> None:
    from tidegate.desk.app import create_app

    settings = context.settings
    app = create_app(
        log=open_log(settings),
        hotstore=open_hotstore(settings),
        identity=open_identity(settings),
        audit=open_audit(settings),
        clock=open_clock(),
        door_url=f"http://{settings.host}:{settings.door_port}",
        storage_secret=open_keys(settings).signing_key("desk").hex(),
        sessions=settings.data / "desk",
        groups=("engine", "hotstore"),
    )
    _serve(app, settings.desk_port, context)


def _simulator(context: Context) -> None:
    from tidegate.simulator.play import Stats, play

    os.nice(_BACKGROUND_NICE)
    stats = Stats()
    context.ready()

    async def until_stopped() -> None:
        over = asyncio.Event()
        playing = asyncio.create_task(
            play(
                f"http://{context.settings.host}:{context.settings.door_port}",
                context.extra["credentials"],
                **context.extra["play"],
                stop=over,
                stats=stats,
            )
        )
        while not context.stop.is_set() and not playing.done():
            await asyncio.sleep(0.2)
            say({"stats": msgspec.to_builtins(stats)})
        over.set()
        await playing
        say({"stats": msgspec.to_builtins(stats)})

    asyncio.run(until_stopped())


_SERVICES: dict[str, Callable[[Context], None]] = {
    "door": _door,
    "engine": _engine,
    "shadow": _shadow,
    "revisions": _revisions,
    "hotstore": _hotstore,
    "lake": _lake,
    "webhooks": _webhooks,
    "desk": _desk,
    "simulator": _simulator,
}
