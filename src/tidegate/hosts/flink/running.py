"""A job that is begun so that nothing is decided twice, and kept running for as long as the company runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event

from tidegate.errors import NotFoundError, StateError
from tidegate.hosts.arrivals import GROUP
from tidegate.hosts.flink.cluster import FlinkCluster, JobStatus
from tidegate.hosts.flink.submission import Submission
from tidegate.ports.log import Log

#: How often it is looked how the job is.
_LOOK_S = 2


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


def keep_running(
    cluster: FlinkCluster,
    submission: Submission,
    log: Log,
    savepoint: Path,
    *,
    ready: Callable[[], None],
    stop: Event,
) -> None:
    """Run a job until `stop` is set. It goes on from the savepoint that the file names, and leaves one at its end.

    Raises:
        StateError: the job has ended by itself; as `begin`.
    """
    try:
        running = not cluster.status(submission.job).ended
    except NotFoundError:
        running = False
    if not running:
        taken = savepoint.read_text("utf-8") if savepoint.exists() else None
        begin(cluster, submission, log, slots=1, savepoint=taken)
        # Whoever went on from it a second time would decide a second time.
        savepoint.unlink(missing_ok=True)
    ready()
    while not stop.wait(_LOOK_S):
        if (status := cluster.status(submission.job)).ended:
            raise StateError(f"flink: job {submission.job!r} is {status.state}; its task manager's log says why")
    savepoint.write_text(cluster.savepoint(submission.job, stop=True), "utf-8")
