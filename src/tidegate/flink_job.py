"""The Flink job's process: Flink's command runs it with the file of a submission, in Flink's own environment.

What it runs on the slots picks its adapters here, as `wiring` does everywhere else: there is less to pick, and Flink's
environment has fewer libraries. They are loaded when the first shard is made, not before (`_give_back_print`).
"""

from __future__ import annotations

import builtins
import sys
import time
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tidegate.hosts.flink.submission import Submission, group_of
from tidegate.ports.log import Entry, Positions

if TYPE_CHECKING:
    from tidegate.hosts.flink.shard import Shard
    from tidegate.kernel.detector import Detector

#: The topics that each detector reads.
Routes = dict[str, Sequence[str]]

#: Longer than a checkpoint and a restart may take; a broker allows 15 minutes.
_TRANSACTION_MS = 600_000


def main(path: Path) -> None:
    from tidegate.adapters.kafka.log_connection import connect
    from tidegate.adapters.kafka.log_order import ORDER
    from tidegate.hosts.flink.job import Job, submit
    from tidegate.streams.control import DETECTORS
    from tidegate.streams.decision import ALERTS, DECISIONS, REJECTED

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


def open_shard(submission: Submission, routes: Routes, name: str, *kinds: Any) -> Shard:
    """A detector's shard on the slot that it has come to; `kinds` of keyed state are those of `State`."""
    _give_back_print()
    from tidegate.adapters.embedded.clock import SystemClock
    from tidegate.adapters.kafka.log_cluster import Cluster
    from tidegate.adapters.kafka.log_connection import connect
    from tidegate.hosts.flink.shard import Shard
    from tidegate.hosts.flink.state import State

    cluster = Cluster(connect(**submission.log))
    first = {topic: detector for detector, route in reversed(routes.items()) for topic in route}
    return Shard(
        _detector(submission, name),
        State(*kinds),
        SystemClock(),
        ends=cluster.ends(cluster.places(routes[name])),
        refuses=[topic for topic, detector in first.items() if detector == name],
        ordered=partial(_ordered, group_of(submission, name)),
    )


def _give_back_print() -> None:
    """PyFlink's worker puts a method of its own in the place of `print`, and numba, which looks at what all built-in
    functions are called, can't be loaded then.
    """
    builtins.print = getattr(getattr(builtins.print, "__self__", None), "_print", builtins.print)


def _detector(submission: Submission, name: str) -> Detector:
    return _compiled(name, tuple(submission.detectors[name].items()))


@cache
def _compiled(name: str, texts: tuple[tuple[str, str], ...]) -> Detector:
    from tidegate.adapters.embedded.models import EmbeddedModels
    from tidegate.kernel.detector import compile_detector

    return compile_detector(name, dict(texts), EmbeddedModels())


def _ordered(group: str, read: Positions) -> Entry:
    from tidegate.adapters.kafka.log_order import ORDER, encoded

    return Entry(ORDER, group, encoded([read]), time.time_ns() // 1_000_000)


if __name__ == "__main__":
    # What goes to the slots is named after its module, which is not that of a script.
    from tidegate import flink_job  # noqa: PLW0406

    flink_job.main(Path(sys.argv[1]))
