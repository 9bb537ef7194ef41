"""What joins lacked: no version, or one that is too old; and what follows from that by policy.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.kernel.language.bind import near
from tidegate.kernel.language.yamltext import Yaml
from tidegate.kernel.machine.words import raw
from tidegate.kernel.policy import MAX_KEEP_US, kept_for
from tidegate.kernel.rules import MAX_POINTS
from tidegate.streams.decision import Freshness, Outcome

#: The column that rules read, of what the model says.
MODEL_SCORE = "model_score"


@dataclass(frozen=True)
class Effect:
    """What follows where a join lacks something: points, and the mildest outcome that is left."""

    points: int = 0
    least: Outcome = "approve"

    def __bool__(self) -> bool:
        """Whether anything does."""
        return self != _NOTHING


_NOTHING = Effect()


@dataclass(frozen=True)
class JoinPolicy:
    """Of one join. `stale_after_us` None: no version is ever stale; `keep_us` None: none is too old to be seen."""

    missing: Effect
    stale: Effect
    stale_after_us: int | None
    keep_us: int | None


class Lack(NamedTuple):
    """What one join, or the model, lacked, and in which rows."""

    join: str
    """Its name; MODEL_SCORE of the model."""
    state: Freshness
    effect: Effect
    rows: npt.NDArray[np.bool_]

    @property
    def name(self) -> str:
        """What it is called beside the rules, no name of which has a space in it."""
        return f"{self.join} {'missing' if self.state == 'defaulted' else 'stale'}"

    @property
    def reason(self) -> str:
        if self.join == MODEL_SCORE:
            return "The model gave no score"
        return (
            f"Nothing is known of {self.join}" if self.state == "defaulted" else f"What is known of {self.join} is old"
        )


def compile_freshness(root: Yaml, joins: Iterable[str]) -> dict[str, JoinPolicy]:
    """The part `joins` of policy.yaml, by the name of the join.

    Raises:
        DetectorError: a join is unknown, or what is said of it is wrong.
    """
    known = list(joins)
    named = root.items().get("joins")
    policies: dict[str, JoinPolicy] = {}
    for name, node in (named.items() if named else {}).items():
        if name not in known:
            node.fail(f"the join {name!r}", near(name, known) if known else "none: features.sql joins nothing")
        keys = node.mapping((), optional=("missing", "stale", "stale_after", "keep"))
        if ("stale" in keys) != ("stale_after" in keys):
            node.fail(f"the keys {', '.join(keys)}", "stale and stale_after, or neither")
        policy = JoinPolicy(
            missing=_effect(keys.get("missing")),
            stale=_effect(keys.get("stale")),
            stale_after_us=keys["stale_after"].duration_us() if "stale_after" in keys else None,
            keep_us=kept_for(keys["keep"], MAX_KEEP_US) if "keep" in keys else None,
        )
        if policy.keep_us is not None and (policy.stale_after_us or 0) >= policy.keep_us:
            keys["keep"].fail(
                "a `keep` that is not longer than `stale_after`", "a longer one: no version would be stale"
            )
        policies[name] = policy
    return policies


def compile_missing(root: Yaml) -> Effect:
    """The part `model` of policy.yaml: what follows where the model gives no score.

    Raises:
        DetectorError: it is not there, or wrong.
    """
    node = root.items().get("model")
    if node is None:
        root.fail("no key 'model'", "model: {missing: ...}, what follows where the model gives no score")
    return _effect(node.mapping(("missing",))["missing"])


def _effect(node: Yaml | None) -> Effect:
    if node is None:
        return Effect()
    words = node.words()
    if words == "review" or words == "decline":  # noqa: PLR1714 - so that its type is known to be an outcome
        return Effect(least=words)
    points = re.fullmatch(r"(\d{1,7}) points?", words)
    if words != "nothing" and (points is None or int(points[1]) > MAX_POINTS):
        node.fail(repr(words[:60]), "nothing, review, decline or '20 points'")
    return Effect(points=int(points[1]) if points else 0)


def lacks(policies: Mapping[str, JoinPolicy], events: pa.RecordBatch) -> list[Lack]:
    """What the joins that policy.yaml names lacked, where they lacked anything; what is old before what is missing.
    `events` have the joined columns.
    """
    found: list[Lack] = []
    for name, policy in policies.items():
        since = events.column(f"{name}.event_time")
        missing = since.is_null().to_numpy(zero_copy_only=False)
        found.append(Lack(name, "defaulted", policy.missing, missing))
        if policy.stale_after_us is not None:
            old = raw(events.column("event_time")) - raw(since) > policy.stale_after_us
            found.append(Lack(name, "stale", policy.stale, old & ~missing))
    found.sort(key=lambda lack: lack.state, reverse=True)
    return [lack for lack in found if lack.rows.any()]
