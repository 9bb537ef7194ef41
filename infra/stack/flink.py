"""A Flink cluster on loopback: JobManager and TaskManagers of the distribution that PyFlink's package brings along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from infra.stack.kafka import ROOT, die_with_parent, free_port

#: Flink's own environment, with Kafka's connector and tidegate in it; `make build/flink/ready` makes it.
FLINK = ROOT / "build" / "flink"

_HOME = FLINK / "lib" / "python3.11" / "site-packages" / "pyflink"

_START_TIMEOUT_S = 180
_STOP_TIMEOUT_S = 30

_JAVA = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
_MAINS = {
    "jobmanager": ("-Xmx384m", "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"),
    "taskmanager": ("-Xmx768m", "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"),
}


class Flink:
    """A cluster whose data is in `folder`, with so many task managers and slots on each. It dies with its parent."""

    def __init__(
        self, folder: Path, *, managers: int = 1, slots: int = 4, settings: dict[str, str] | None = None
    ) -> None:
        self._folder, self._managers = folder, managers
        self.port = free_port()
        self._settings = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": str(free_port()),
            "jobmanager.bind-host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "taskmanager.host": "127.0.0.1",
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": str(self.port),
            "rest.bind-port": str(self.port),
            "taskmanager.numberOfTaskSlots": str(slots),
            "jobmanager.memory.process.size": "768m",
            "taskmanager.memory.process.size": "1400m",
            "taskmanager.memory.managed.size": "192m",
            "taskmanager.memory.network.max": "96m",
            "io.tmp.dirs": str(folder / "tmp"),
            "execution.checkpointing.dir": f"file://{folder}/checkpoints",
            "execution.checkpointing.savepoint-dir": f"file://{folder}/savepoints",
            # A task manager that was killed is missed soon.
            "heartbeat.interval": "1000",
            "heartbeat.timeout": "5000",
            "python.executable": str(FLINK / "bin" / "python"),
            "python.client.executable": str(FLINK / "bin" / "python"),
            **(settings or {}),
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def conf(self) -> Path:
        """The folder of config.yaml."""
        return self._folder / "conf"

    def start(self) -> Self:
        """Start it and wait until all slots are there."""
        for folder in ("conf", "tmp", "checkpoints", "savepoints"):
            (self._folder / folder).mkdir(parents=True, exist_ok=True)
        (self.conf / "config.yaml").write_text(
            "".join(f"{name}: {value!r}\n" for name, value in self._settings.items())
        )
        (self.conf / "log4j2.properties").write_text(
            "rootLogger.level = WARN\nrootLogger.appenderRef.out.ref = Out\n"
            "appender.out.name = Out\nappender.out.type = CONSOLE\n"
            "appender.out.layout.type = PatternLayout\nappender.out.layout.pattern = %d %-5p %c %m%n\n"
        )
        self._launch("jobmanager", "jobmanager", "--executionMode", "cluster")
        for number in range(self._managers):
            self.start_manager(number)
        self._wait()
        return self

    def start_manager(self, number: int = 0) -> None:
        self._launch(f"taskmanager{number}", "taskmanager")

    def kill_manager(self, number: int = 0) -> None:
        """Kill it, and the Python processes that it started, at once."""
        _end(self._processes.pop(f"taskmanager{number}"), signal.SIGKILL)

    def stop(self) -> None:
        for process in self._processes.values():
            _end(process, signal.SIGTERM)
        self._processes.clear()

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as answer:
            return json.loads(answer.read())

    def _launch(self, name: str, role: str, *arguments: str) -> None:
        memory, main = _MAINS[role]
        classes = f"{_HOME}/lib/*:{_HOME}/opt/*"
        log4j = f"-Dlog4j.configurationFile={self.conf / 'log4j2.properties'}"
        command = [*_JAVA, memory, *_opens(), log4j, "-cp", classes, main, "--configDir", str(self.conf), *arguments]
        if role == "taskmanager":
            command += [word for setting in _RESOURCES for word in ("-D", setting)]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - nothing but a system call
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                if self.get("/overview")["taskmanagers"] >= self._managers:
                    return
            except OSError:
                if any(process.poll() is not None for process in self._processes.values()):
                    break
            time.sleep(0.2)
        raise RuntimeError(f"Flink does not answer; it says why in {self._folder}/*.log")


#: What the distribution's scripts work out of the memory of the process.
_RESOURCES = (
    "taskmanager.cpu.cores=2.0",
    "taskmanager.memory.task.heap.size=512mb",
    "taskmanager.memory.task.off-heap.size=0b",
    "taskmanager.memory.framework.heap.size=128mb",
    "taskmanager.memory.framework.off-heap.size=128mb",
    "taskmanager.memory.network.min=96mb",
    "taskmanager.memory.network.max=96mb",
    "taskmanager.memory.managed.size=192mb",
    "taskmanager.memory.jvm-metaspace.size=256mb",
    "taskmanager.memory.jvm-overhead.min=128mb",
    "taskmanager.memory.jvm-overhead.max=128mb",
)


def _opens() -> list[str]:
    """What Java 17 has to be told, as the distribution's own settings say."""
    text = (_HOME / "conf" / "config.yaml").read_text()
    line = next(line for line in text.splitlines() if "--add-opens" in line)
    return line.split("all:", 1)[1].split()


def _end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    # Its Python processes too: they are of its session.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, how)
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
