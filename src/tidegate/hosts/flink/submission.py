"""What a job is submitted with: all that its process and its slots have to know, as one file of JSON."""

from __future__ import annotations

from typing import Any

import msgspec

#: The engine's group, wherever it decides: `arrivals.GROUP`, whose module would bring the kernel along.
_GROUP = "engine"


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    job: str
    """Its name, its consumer group's and that of its transactions: a job that goes on after another has its name."""
    log: dict[str, Any]
    """What `connect` is told of the cluster: `address`, `sign_in` and what that needs."""
    detectors: dict[str, dict[str, str]]
    """Their texts, by file name."""


def group_of(submission: Submission, detector: str) -> str:
    """The group under whose name the log keeps the order in which a detector's shard took its records: the engine's,
    if the shard is alone.
    """
    return _GROUP if len(submission.detectors) == 1 else f"{_GROUP}.{detector}"
