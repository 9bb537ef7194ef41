"""A system in a process of its own, and what it and its children take while they work."""

from __future__ import annotations

import bisect
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.events import ROOT

#: How often the processes are looked at.
_EVERY_S = 0.1


class SystemFailedError(Exception):
    """A system can't do its work here; the message says why."""


@dataclass(frozen=True)
class Run:
    events: int
    """Those that were measured."""
    seconds: float
    cpu_s: float
    peak_rss_mb: float


@dataclass
class Watched:
    """What a process and its children have taken so far, from time to time."""

    process: psutil.Process
    times: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self.look()

    def look(self) -> None:
        cpu_s, rss = 0.0, 0
        try:
            tree = [self.process, *self.process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in tree:
            try:
                with process.oneshot():
                    taken = process.cpu_times()
                    # Children that have ended count for their parent.
                    cpu_s += taken.user + taken.system + taken.children_user + taken.children_system
                    rss += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.times.append(time.time())
        self.cpu_s.append(cpu_s)
        self.rss.append(rss)

    def cpu_at(self, at: float) -> float:
        """CPU seconds taken up to a time, between the two looks around it."""
        after = min(bisect.bisect_left(self.times, at), len(self.times) - 1)
        before = max(after - 1, 0)
        span = self.times[after] - self.times[before]
        share = min(1.0, max(0.0, (at - self.times[before]) / span)) if span else 0.0
        return self.cpu_s[before] + share * (self.cpu_s[after] - self.cpu_s[before])

    def peak_rss_mb(self, since: float) -> float:
        return max(self.rss[bisect.bisect_left(self.times, since) :], default=0) / 2**20


class Served:
    """A system that takes jobs (see benchmarks.peers.serve)."""

    def __init__(self, python: Path, module: str, log: Path, patience_s: Callable[[], float]) -> None:
        self._log, self._patience_s = log, patience_s
        self._process = subprocess.Popen(
            [str(python), "-m", f"benchmarks.peers.{module}"],
            cwd=ROOT,
            # Workers that a system starts by itself find the workload too.
            env=_without_virtual_environment() | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._watched = Watched(psutil.Process(self._process.pid))
        self._watched.begin()
        self._ready = False

    def begin(self, **job: Any) -> None:
        """Hand a job in, without waiting for anything."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(job, default=str) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed() from None

    def finished(self) -> Run:
        """What the job took that was handed in.

        Raises:
            SystemFailedError: it came to no end.
        """
        if not self._ready:
            self._next("ready")
            self._ready = True
        begin, end = self._next("begin")["at"], self._next("end")
        self._next("done")
        self._watched.look()
        return Run(
            events=end["events"],
            seconds=end["at"] - begin,
            cpu_s=self._watched.cpu_at(end["at"]) - self._watched.cpu_at(begin),
            peak_rss_mb=self._watched.peak_rss_mb(begin),
        )

    def close(self) -> None:
        self._watched.end()
        children = self._watched.process.children(recursive=True) if self._process.poll() is None else []
        self._process.kill()
        self._process.wait()
        for child in children:
            if child.is_running():
                child.kill()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _next(self, mark: str) -> dict[str, Any]:
        patience_s = max(0, self._patience_s())
        try:
            line = self._lines.get(timeout=patience_s)
        except queue.Empty:
            raise SystemFailedError(f"no answer within the {patience_s:.0f} s that were left") from None
        if not line:
            raise self._failed()
        said = json.loads(line)
        assert said["mark"] == mark, said
        return said

    def _failed(self) -> SystemFailedError:
        lines = [line.strip() for line in self._log.read_text("utf-8", "replace").splitlines() if line.strip()]
        return SystemFailedError(f"it ended: {lines[-1][:200] if lines else 'without a word'}")


def _without_virtual_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def commanded(*arguments: object) -> tuple[dict[str, Any], dict[str, float]]:
    """What a command of Tidegate said, and what it took from its start to its end, its processes with it."""
    began = time.time()
    command = [sys.executable, "-m", "tidegate.cli", *map(str, arguments)]
    process = psutil.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    watched = Watched(psutil.Process(process.pid))
    watched.begin()
    said = json.loads(process.communicate()[0])
    seconds = time.time() - began
    watched.end()
    return said, {"seconds": seconds, "cpu_s": watched.cpu_s[-1], "peak_rss_mb": watched.peak_rss_mb(began)}
