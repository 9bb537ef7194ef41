"""What a user of a system without such windows, rules or models writes in Python, once for all of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from pathlib import Path

import numpy as np

from benchmarks.workload import (
    CAP,
    DECLINE,
    FEATURES,
    LARGE_MINOR,
    LATENESS_US,
    REVIEW,
    RULES,
    SEQUENCE_US,
    TINY_MINOR,
    WINDOWS_US,
)

_LENGTHS = tuple(WINDOWS_US.values())
_KEPT_US = max(_LENGTHS) + LATENESS_US

#: The rows of one key, in order of time: times, amounts, and the values that are counted apart.
Rows = tuple[list[int], list[int], list[str]]


def roll(rows: Rows, time: int, amount: int, other: str) -> list[float]:
    """Put a row in its place, forget those that no window needs, and give the aggregates as of its time."""
    times, amounts, others = rows
    at = bisect_right(times, time)
    times.insert(at, time)
    amounts.insert(at, amount)
    others.insert(at, other)
    gone = min(at, bisect_left(times, times[-1] - _KEPT_US))
    if gone:
        for column in rows:
            del column[:gone]
        at -= gone
    values: list[float] = []
    for length in _LENGTHS:
        first = bisect_left(times, time - length)
        within = amounts[first : at + 1]
        count, total = len(within), sum(within)
        values += (count, total, total / count, max(within), len(set(others[first : at + 1])))
    return values


def tested(tiny_at: int | None, time: int, amount: int) -> tuple[int | None, bool]:
    """The sequence: when the last tiny amount was that may begin a match, and whether the row completes one."""
    if amount < TINY_MINOR:
        return time, False
    if amount > LARGE_MINOR and tiny_at is not None and time - tiny_at < SEQUENCE_US:
        return None, True
    return tiny_at, False


class Judge:
    """The rules and the model over rows of features."""

    def __init__(self, model: Path) -> None:
        import lightgbm  # a second, in each of the workers that some systems start

        self.booster = lightgbm.Booster(model_file=str(model))
        rules = ", ".join(f"{rule.points} if {rule.python} else 0" for rule in RULES)
        arguments = ", ".join([*FEATURES, "amount_minor", "card_tested", "model_score"])
        self._points = eval(f"lambda {arguments}: ({rules})")

    def judge(self, rows: list[tuple[list[float], int, bool]]) -> list[tuple[float, int, int]]:
        """Model score, score and outcome (0 approve, 1 review, 2 decline) of rows: features, amount, sequence."""
        matrix = np.array([[*features, amount] for features, amount, _ in rows], np.float64)
        model_scores = self.booster.predict(matrix, num_threads=1)
        return [
            (model_score, *outcome_of(sum(self._points(*features, amount, tested, model_score))))
            for (features, amount, tested), model_score in zip(rows, map(float, model_scores), strict=True)
        ]


def outcome_of(points: int) -> tuple[int, int]:
    """Score and outcome."""
    score = min(points, CAP)
    return score, (score >= REVIEW) + (score >= DECLINE)
