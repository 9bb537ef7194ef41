"""policy.yaml: how late is late, how long an id is remembered, and which score means what. Its parts `joins` and
`model` are read by `freshness`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.kernel.language.times import DAY_US
from tidegate.kernel.language.yamltext import Yaml
from tidegate.streams.decision import Outcome

#: What a score can lead to, from mild to hard.
OUTCOMES: tuple[Outcome, ...] = ("approve", "review", "decline")

#: Rows are kept for as long as lateness and dedupe say: a month covers any source that comes back from the cold.
MAX_DURATION_US = 31 * DAY_US

#: What no frame bounds in time may be kept for ten years: no record of a payment has to be kept for longer.
MAX_KEEP_US = 3660 * DAY_US


@dataclass(frozen=True)
class Policy:
    lateness_us: int
    dedupe_us: int
    keep_us: int | None
    """How long rows are kept that no frame bounds in time; None if it does not say."""
    review: int
    """The score from which on an event is reviewed, and `decline` that from which on it is declined."""
    decline: int
    cap: int
    """No score is higher; none is lower than 0."""
    explain: tuple[str, ...]
    """Columns of the event that explanations try other values of."""

    def scores(self, points: npt.NDArray[np.int64], doubted: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """int64[n]: the sums of points, within 0 and the cap. `doubted` is the part of them, 0 or more, that demoted
        rules added: it lifts no score to where it declines.
        """
        score, safe = (np.minimum(np.maximum(each, 0), self.cap) for each in (points, points - doubted))
        return np.maximum(safe, np.minimum(score, self.decline - 1))

    def outcomes(self, scores: npt.NDArray[np.int64], least: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """int8[n], by their number in OUTCOMES, as `least` are: the mildest that are left."""
        return np.maximum((scores >= self.review).astype(np.int8) + (scores >= self.decline), least)


def compile_policy(root: Yaml) -> Policy:
    """
    Raises:
        DetectorError: a key is unknown or missing, a value is wrong, or a threshold can't be reached.
    """
    keys = root.mapping(("lateness", "dedupe", "outcomes", "cap"), optional=("keep", "joins", "model", "explain"))
    cap = keys["cap"].number()
    if cap < 1:
        keys["cap"].fail(str(cap), "a cap of 1 or more")
    outcomes = keys["outcomes"].mapping(OUTCOMES[1:])
    thresholds = {name: outcomes[name].number() for name in OUTCOMES[1:]}
    for name, threshold in thresholds.items():
        if not 1 <= threshold <= cap:
            outcomes[name].fail(f"a threshold of {threshold}", f"1 to the cap of {cap}: no other score is reached")
    if thresholds["review"] >= thresholds["decline"]:
        outcomes["review"].fail(
            f"review from {thresholds['review']} on, decline from {thresholds['decline']}",
            "review below decline: no score would be reviewed",
        )
    return Policy(
        lateness_us=kept_for(keys["lateness"]),
        dedupe_us=kept_for(keys["dedupe"]),
        keep_us=kept_for(keys["keep"], MAX_KEEP_US) if "keep" in keys else None,
        review=thresholds["review"],
        decline=thresholds["decline"],
        cap=cap,
        explain=tuple(node.words() for node in keys["explain"].list()) if "explain" in keys else (),
    )


def check_keep(root: Yaml, *, reads_keep: bool) -> None:
    """
    Raises:
        DetectorError: it says how long rows are kept that no frame bounds in time, and there is no such frame.
    """
    keep = root.items().get("keep")
    if keep and not reads_keep:
        keep.fail(f"keep: {keep.words()}", "no `keep`: every frame in features.sql is bounded in time by itself")


def kept_for(node: Yaml, most_us: int = MAX_DURATION_US) -> int:
    """Microseconds for which something is kept.

    Raises:
        DetectorError: it is no duration, or longer than `most_us`.
    """
    duration_us = node.duration_us()
    if duration_us > most_us:
        node.fail(repr(node.words()), f"at most {most_us // DAY_US} days")
    return duration_us
