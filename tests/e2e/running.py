"""Starts the real `tidegate up` as a user does, in a process group of its own that can be killed as one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TIDEGATE = [sys.executable, "-m", "tidegate.cli"]


class Up:
    """`tidegate up` on one data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._process: subprocess.Popen[str] | None = None
        self.door = self.desk = ""

    def start(self) -> None:
        """Returns once all services are ready."""
        self._process = subprocess.Popen(
            [*TIDEGATE, "up", "--data", str(self.data), "--json"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, f"up ended with code {self._process.wait()}"
        urls = json.loads(line)["urls"]
        self.door, self.desk = urls["door"], urls["desk"]

    def kill(self) -> None:
        """SIGKILL to every process of the group at once."""
        assert self._process
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        assert self._process
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(600)
