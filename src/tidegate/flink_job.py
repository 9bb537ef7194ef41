"""The Flink job's process: Flink's command runs it with the file of a submission, in Flink's own environment.

What it runs on the slots picks its adapters here, as `wiring` does everywhere else: there is less to pick, and Flink's
environment has fewer libraries.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import msgspec

from tidegate.adapters.embedded.clock import SystemClock
from tidegate.adapters.embedded.models import EmbeddedModels
from tidegate.adapters.kafka.log_cluster import Cluster
from tidegate.adapters.kafka.log_connection import connect
from tidegate.adapters.kafka.log_order import ORDER, encoded
from tidegate.hosts.flink.shard import Shard
from tidegate.hosts.flink.state import State
from tidegate.hosts.flink.submission import Submission, group_of
from tidegate.kernel.detector import Detector, compile_detector
from tidegate.ports.log import Entry, Positions
from tidegate.streams.control import DETECTORS
from tidegate.streams.decision import ALERTS, DECISIONS, REJECTED

#: The topics that each detector reads.
Routes = dict[str, Sequence[str]]

#: Longer than a checkpoint and a restart may take; a broker allows 15 minutes.
_TRANSACTION_MS = 600_000


def main(path: Path) -> None:
    from tidegate.hosts.flink.job import Job, submit

    submission = msgspec.json.decode(path.read_bytes(), type=Submission)
    connection = connect(**submission.log)
    routes: Routes = {name: [*_detector(submission, name).streams, DETECTORS] for name in submission.detectors}
    job = Job(
        name=submission.job,
        prefix=connection.prefix,
        properties=connection.java(),
        routes=routes,
        written=[DECISIONS, ALERTS, REJECTED, DETECTORS, ORDER],
        transaction_ms=_TRANSACTION_MS,
    )
    submit(job, partial(open_shard, submission, routes))


@cache
def _compiled(name: str, texts: tuple[tuple[str, str], ...]) -> Detector:
    return compile_detector(name, dict(texts), EmbeddedModels())


def _detector(submission: Submission, name: str) -> Detector:
    return _compiled(name, tuple(submission.detectors[name].items()))


def open_shard(submission: Submission, routes: Routes, name: str, state: State) -> Shard:
    """A detector's shard on the slot that it has come to."""
    cluster = Cluster(connect(**submission.log))
    first = {topic: detector for detector, route in reversed(routes.items()) for topic in route}
    return Shard(
        _detector(submission, name),
        state,
        SystemClock(),
        ends=cluster.ends(cluster.places(routes[name])),
        refuses=[topic for topic, detector in first.items() if detector == name],
        ordered=partial(_ordered, group_of(submission.job, name)),
    )


def _ordered(group: str, read: Positions) -> Entry:
    return Entry(ORDER, group, encoded([read]), time.time_ns() // 1_000_000)


if __name__ == "__main__":
    # What goes to the slots is named after its module, which is not that of a script.
    from tidegate import flink_job  # noqa: PLW0406

    flink_job.main(Path(sys.argv[1]))
