"""One Apache Kafka broker (KRaft: no ZooKeeper) as a child of this process."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]

#: Jars and data, beside all else that is built.
STACK = ROOT / "build" / "stack"

_POM = Path(__file__).with_name("pom.xml")

#: A broker that starts takes some seconds of one core.
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 20

#: Small, and quick to start: what it is here for is to be real, not to be fast.
_JAVA = ("java", "-Xms128m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")

_PR_SET_PDEATHSIG = 1

_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "num.network.threads": "2",
    "num.io.threads": "4",
}


def jars() -> Path:
    """The folder of the servers' jars; Maven fetches them when they are not there."""
    folder = STACK / "jars"
    if not (folder / "ready").exists():
        command = ["mvn", "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
        subprocess.run(command, check=True)
        (folder / "ready").touch()
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Kafka:
    """A broker whose data is in `folder`. It dies with the process that started it.

    `settings` are added to server.properties; `listeners` are further listeners by name, their ports are in `ports`;
    `scram` are users who may sign in by SCRAM-SHA-512, with their passwords.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        scram: Mapping[str, str] | None = None,
    ) -> None:
        self._folder, self._scram = folder, scram or {}
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **(listeners or {})}
        self.ports = {name: free_port() for name in protocols}
        places = {name: f"{name}://127.0.0.1:{port}" for name, port in self.ports.items()}
        self._settings = {
            **_SETTINGS,
            "log.dirs": str(folder / "data"),
            "controller.quorum.voters": f"1@127.0.0.1:{self.ports['CONTROLLER']}",
            "listeners": ",".join(places.values()),
            "advertised.listeners": ",".join(place for name, place in places.items() if name != "CONTROLLER"),
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self.ports['PLAINTEXT']}"

    def start(self) -> Self:
        """Start it on what is in its folder, and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        properties = self._folder / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in self._settings.items()))
        with (self._folder / "broker.log").open("ab") as log:
            if not (self._folder / "data" / "meta.properties").exists():
                users = [
                    f"--add-scram=SCRAM-SHA-512=[name={name},password={word}]" for name, word in self._scram.items()
                ]
                command = self._java("kafka.tools.StorageTool", "format", "-t", "tidegate-stack-0000000", *users, "-c")
                subprocess.run([*command, str(properties)], check=True, stdout=log, stderr=log)
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(properties)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - nothing but a system call
            )
        self._wait()
        return self

    def _java(self, main: str, *arguments: str) -> list[str]:
        classes = f"{jars()}/*"
        return [*_JAVA, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", classes, main, *arguments]

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", self.ports["PLAINTEXT"])) == 0:
                    return
            if self._process is None or self._process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"Kafka does not answer; it says why in {self._folder / 'broker.log'}")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:
        os._exit(1)
