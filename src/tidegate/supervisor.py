"""Runs the company's services as child processes, starts again what died, and stops them in the order of the stream.

A child is told what to run in one JSON line on its standard input, and says what it has to say in JSON lines on its
standard output: `{"ready": {...}}` once it serves, `{"stats": {...}}` now and then. Its log goes to
`<data>/logs/<service>.log`. The open standard input is the child's lifeline: when it ends, because the supervisor
stopped or was killed, the child stops too, so that no orphan is left holding a port or a consumer group.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from tidegate.errors import StateError
from tidegate.settings import Settings
from tidegate.wiring import begin_detectors

#: A first start compiles the kernel, which takes some tens of seconds on a slow machine.
READY_TIMEOUT_S = 180

#: A start that takes longer is explained to whoever waits.
_SLOW_START_S = 10

#: How long a service may take to finish what it has begun, the lake's last commit included, before it is killed.
STOP_TIMEOUT_S = 60

#: A service that dies this often within one run has a fault that starting it again does not mend.
MAX_RESTARTS = 10

_LOG_TAIL_LINES = 15

#: What a child is, whatever it runs.
_COMMAND = [sys.executable, "-m", "tidegate.cli", "service"]

#: In the order in which a transaction passes them, which is also the order in which they are stopped.
SERVICES = ("door", "engine", "shadow", "revisions", "hotstore", "lake", "webhooks", "desk")


class Start(msgspec.Struct, frozen=True):
    """What a child is told: the settings by name, and what only this service needs."""

    service: str
    settings: dict[str, Any]
    extra: dict[str, Any] = {}


class Service:
    """One child process and what it said last."""

    def __init__(self, start: Start, logs: Path) -> None:
        self.name = start.service
        self.restarts = 0
        self.ready = threading.Event()
        self.stopping = False
        self.said: dict[str, Any] = {}
        self._start = start
        self.log = logs / f"{start.service}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        self.ready.clear()
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - a command of ours
                _COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert process.stdin
        assert process.stdout
        process.stdin.write(msgspec.json.encode(self._start) + b"\n")
        process.stdin.flush()
        self._process = process
        threading.Thread(target=self._listen, args=(process.stdout,), daemon=True).start()

    def _listen(self, stdout: IO[bytes]) -> None:
        for line in stdout:
            self.said |= msgspec.json.decode(line, type=dict[str, Any])
            if "ready" in self.said:
                self.ready.set()

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process else None

    def stop(self) -> None:
        """Ask it to finish; kill it only if it does not."""
        self.stopping = True
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def why(self) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-_LOG_TAIL_LINES:])
        return ""


class Supervisor:
    """Starts all services at once and waits until each is ready; `stop` ends them in order, so that what was taken at
    the door is decided and what was decided is in the lake.
    """

    def __init__(
        self, starts: Sequence[Start], logs: Path, *, say: Callable[[str], None], given_up: threading.Event
    ) -> None:
        """`given_up` is set when a service has died so often that it is not started again."""
        logs.mkdir(parents=True, exist_ok=True)
        self.services = {start.service: Service(start, logs) for start in starts}
        self._say = say
        self._stopped, self._given_up = threading.Event(), given_up

    def start(self) -> None:
        """
        Raises:
            StateError: a service did not come up; says which, and the end of its log.
        """
        for service in self.services.values():
            service.spawn()
        for service in self.services.values():
            self._wait_until_ready(service)
        threading.Thread(target=self._watch, daemon=True).start()

    def _wait_until_ready(self, service: Service) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        if not service.ready.wait(_SLOW_START_S) and service.exit_code is None:
            self._say(f"waiting for {service.name}; the first start on a machine compiles the kernel, once")
        while not service.ready.wait(0.05):
            if service.exit_code is not None or time.monotonic() > deadline:
                how = "ended" if service.exit_code is not None else f"was not ready within {READY_TIMEOUT_S} s"
                raise StateError(
                    f"start: the service {service.name} {how}; its log, {service.log}, ends:\n{service.why()}"
                )

    def _watch(self) -> None:
        while not self._stopped.wait(0.2):
            for service in self.services.values():
                if service.stopping or service.exit_code is None:
                    continue
                if service.restarts == MAX_RESTARTS:
                    self._say(f"{service.name} ended {MAX_RESTARTS + 1} times: the company stops")
                    self._given_up.set()
                    return
                service.restarts += 1
                self._say(f"{service.name} ended with code {service.exit_code}; started again ({service.restarts})")
                service.spawn()

    def check(self) -> None:
        """
        Raises:
            StateError: a service died so often that it was not started again; says which, and the end of its log.
        """
        for service in self.services.values():
            if service.restarts == MAX_RESTARTS and service.exit_code is not None and not service.stopping:
                raise StateError(
                    f"the service {service.name} ended {MAX_RESTARTS + 1} times and is not started again; its log, "
                    f"{service.log}, ends:\n{service.why()}"
                )

    def stop(self) -> None:
        self._stopped.set()
        for service in self.services.values():
            service.stop()


def addresses(settings: Settings) -> dict[str, str]:
    """Where the door and the desk answer."""
    return {
        "door": f"http://{settings.host}:{settings.door_port}",
        "desk": f"http://{settings.host}:{settings.desk_port}",
    }


@contextlib.contextmanager
def running(settings: Settings, say: Callable[[str], None], stop: threading.Event) -> Generator[Callable[[], None]]:
    """All services, from ready to cleanly stopped, and what looks whether one was given up. `settings` must name the
    ports of the door and the desk. `stop` is set when a service has died so often that it is not started again.

    Raises:
        StateError: a service did not come up, or died so often.
    """
    for name in begin_detectors(settings):
        say(f"what decides is not the version in {settings.detectors / name}: tidegate detector promote {name}")
    told = settings.model_dump(mode="json")
    supervisor = Supervisor([Start(name, told) for name in SERVICES], settings.data / "logs", say=say, given_up=stop)
    try:
        supervisor.start()
        yield supervisor.check
        supervisor.check()
    finally:
        supervisor.stop()
