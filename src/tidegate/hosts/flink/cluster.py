"""A Flink cluster from outside: submit a job, see how it is, take a savepoint, give it more or fewer slots.

Asked over the JobManager's REST interface; a job is submitted by Flink's own command, in Flink's environment.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import msgspec

import tidegate
from tidegate.errors import NotFoundError, OverloadError, StateError
from tidegate.hosts.arrivals import GROUP
from tidegate.hosts.flink.submission import Submission
from tidegate.ports.log import Log

#: What an answer may take.
_REQUEST_S = 30

#: What Flink's command may take: it starts a Java of its own, and plans the job.
_SUBMIT_S = 600

#: For a Java that plans one job and ends.
_SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto"

#: What a savepoint of some gigabytes takes, and how often it is looked at.
_SAVEPOINT_S = 1800
_LOOK_S = 0.2

#: A job in one of these has ended.
_ENDED = ("FAILED", "CANCELED", "FINISHED")


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a job is. `slots`: of its widest part; `restarts`: since it was submitted."""

    id: str
    name: str
    state: str
    slots: int
    running: bool
    """Whether each of its parts runs on each of its slots."""
    checkpoints: int
    restarts: int

    @property
    def ended(self) -> bool:
        return self.state in _ENDED


class FlinkCluster:
    """The cluster whose JobManager answers at `url`; `python` is that of Flink's environment."""

    def __init__(self, url: str, python: Path) -> None:
        self._url, self._python = url.rstrip("/"), python

    def submit(self, submission: Submission, *, slots: int, savepoint: str | None = None) -> JobStatus:
        """Submit a job; with a savepoint it goes on where that was taken.

        Raises:
            StateError: Flink's command refused; says what it said.
            NotFoundError: Flink's environment is not there.
        """
        home = next((self._python.parent.parent / "lib").glob("python3.*/site-packages/pyflink"), None)
        if home is None:
            raise NotFoundError(f"flink: no PyFlink beside {self._python}; `make build/flink/ready` makes it")
        job = Path(tidegate.__file__).with_name("flink_job.py")
        address = self._url.removeprefix("http://")
        with TemporaryDirectory() as folder:
            file = Path(folder) / "submission.json"
            file.write_bytes(msgspec.json.encode(submission))
            command = ["bash", str(home / "bin" / "flink"), "run", "--detached", "--jobmanager", address]
            command += ["--parallelism", str(slots), *(["--fromSavepoint", savepoint] if savepoint else [])]
            command += ["--pyExecutable", str(self._python), "--pyClientExecutable", str(self._python)]
            command += ["--python", str(job), str(file)]
            path = f"{self._python.parent}:{os.environ.get('PATH', '')}"
            environment = {**os.environ, "PATH": path, "JVM_ARGS": _SHORT_LIVED}
            done = subprocess.run(  # noqa: S603 - what is run is Flink's, and nobody's text is in it
                command, capture_output=True, text=True, timeout=_SUBMIT_S, check=False, env=environment
            )
        if done.returncode != 0:
            said = [line for line in (done.stderr + done.stdout).splitlines() if "Caused by" in line or "rror" in line]
            raise StateError(f"flink: the job was not taken: {'; '.join(said[-3:]) or done.stderr[-500:]}")
        return self._until(submission.job, lambda status: status.running)

    def status(self, name: str) -> JobStatus:
        """How the newest job of that name is.

        Raises:
            NotFoundError: there is none.
        """
        jobs = [job for job in self._get("/jobs/overview")["jobs"] if job["name"] == name]
        if not jobs:
            raise NotFoundError(f"flink: no job {name!r} at {self._url}; submit it")
        newest = max(jobs, key=lambda job: job["start-time"])
        details = self._get(f"/jobs/{newest['jid']}")
        vertices: list[dict[str, Any]] = details["vertices"]
        checkpoints = self._get(f"/jobs/{newest['jid']}/checkpoints")["counts"]
        return JobStatus(
            id=newest["jid"],
            name=name,
            state=newest["state"],
            slots=max((vertex["parallelism"] for vertex in vertices), default=0),
            running=newest["state"] == "RUNNING"
            and all(vertex["tasks"]["RUNNING"] == vertex["parallelism"] for vertex in vertices),
            checkpoints=checkpoints["completed"],
            restarts=checkpoints["restored"],
        )

    def savepoint(self, name: str, *, stop: bool = False) -> str:
        """Take a savepoint, and end the job with it if asked to; where the savepoint is.

        Raises:
            NotFoundError: there is no such job.
            StateError: it can't be taken; says why.
        """
        job = self.status(name).id
        asked = {"drain": False} if stop else {"cancel-job": False}
        trigger = self._post(f"/jobs/{job}/{'stop' if stop else 'savepoints'}", asked)["request-id"]
        deadline = time.monotonic() + _SAVEPOINT_S
        while (found := self._get(f"/jobs/{job}/savepoints/{trigger}"))["status"]["id"] != "COMPLETED":
            if time.monotonic() > deadline:
                raise OverloadError(f"flink: job {name!r}: no savepoint in {_SAVEPOINT_S} s", retry_after_s=60)
            time.sleep(_LOOK_S)
        if "location" not in found["operation"]:
            cause = str(found["operation"].get("failure-cause", {}).get("stack-trace", "")).splitlines()
            raise StateError(
                f"flink: job {name!r}: no savepoint: {cause[0] if cause else 'the cluster does not say why'}"
            )
        if stop:
            self._until(name, lambda status: status.ended)
        return found["operation"]["location"]

    def rescale(self, submission: Submission, slots: int) -> JobStatus:
        """End a job with a savepoint and let it go on from there on so many slots.

        Raises:
            NotFoundError, StateError: as `savepoint` and `submit`.
        """
        return self.submit(submission, slots=slots, savepoint=self.savepoint(submission.job, stop=True))

    def cancel(self, name: str) -> None:
        """End a job and forget what it has not committed."""
        self._send("PATCH", f"/jobs/{self.status(name).id}", None)
        self._until(name, lambda status: status.ended)

    def _until(self, name: str, holds: Callable[[JobStatus], bool]) -> JobStatus:
        deadline = time.monotonic() + _SUBMIT_S
        while not holds(status := self.status(name)):
            if time.monotonic() > deadline:
                raise OverloadError(f"flink: job {name!r} is {status.state} after {_SUBMIT_S} s", retry_after_s=60)
            time.sleep(_LOOK_S)
        return status

    def _get(self, path: str) -> Any:
        return self._send("GET", path, None)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._send("POST", path, body)

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        try:
            answer = httpx.request(method, self._url + path, json=body, timeout=_REQUEST_S)
        except httpx.HTTPError as error:
            raise OverloadError(f"flink: no answer at {self._url} ({error}); is it up?", retry_after_s=5) from None
        if answer.is_error:
            said = answer.json().get("errors", [""])
            raise StateError(f"flink: {method} {path}: {str(said[-1]).splitlines()[0] if said else answer.status_code}")
        return answer.json()


def begin(
    cluster: FlinkCluster, submission: Submission, log: Log, *, slots: int, savepoint: str | None = None
) -> JobStatus:
    """Submit a job; without a savepoint, only where no engine has decided before.

    Raises:
        StateError: one has: what it decided would be decided and written a second time.
        StateError, NotFoundError: as `FlinkCluster.submit`.
    """
    if savepoint is None and log.lag(GROUP):
        raise StateError(
            "flink: an engine has decided on this log before, and would again; go on from its savepoint or its last "
            "checkpoint with --savepoint"
        )
    return cluster.submit(submission, slots=slots, savepoint=savepoint)
