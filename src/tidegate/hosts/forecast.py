"""How often rules fire, against the forecast of their version's release.

The decisions since the release are taken in blocks of BLOCK_DECISIONS. A rule fires far beyond its forecast as soon as
a block holds more of its firings than a Poisson distribution of mean FAR * BLOCK_DECISIONS * p would reach with the
probability MAX_CHANCE; p is (fired + 1) / (decided + 1) of the forecast, so that a short history promises little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from tidegate.kernel.decisions import Decisions
from tidegate.streams.control import Forecast

#: Enough that a rule which fires once in a thousand is seen to fire ten times as often; a minute or so of payments.
BLOCK_DECISIONS = 1000

#: A sale or a holiday may double what is usual: that alone demotes nothing.
FAR = 3

#: Beyond a block nothing is counted, so that a tail may end a good way above it.
_COUNTS = np.arange(4 * BLOCK_DECISIONS)
_LOG_FACTORIALS = np.array([math.lgamma(count + 1) for count in _COUNTS.tolist()])

#: Of a year of blocks of a hundred rules, fewer than one goes beyond by chance.
MAX_CHANCE = 1e-9


class Excess(NamedTuple):
    """A rule that fired far beyond its forecast: `fired` of the last `decided`, `forecast` of them were to be."""

    rule: str
    fired: int
    decided: int
    forecast: float


class Counts(msgspec.Struct):
    """Decisions of the block so far, and the firings among them by rule."""

    decided: int = 0
    fired: dict[str, int] = {}


class Watch:
    """Counts the firings of one version's live rules since its release; a version without a forecast is not watched.

    What it finds depends on the decisions in their order and on nothing else.
    """

    def __init__(self, forecast: Forecast | None, counts: Counts | None = None) -> None:
        self.counts = counts or Counts()
        self._forecasts = _forecasts(forecast) if forecast else {}
        self._limits = {rule: limit(FAR * expected) for rule, expected in self._forecasts.items()}

    def count(self, decisions: Decisions) -> list[Excess]:
        """The rules that these decisions brought beyond their limits."""
        found: list[Excess] = []
        start, total = 0, len(decisions.index)
        while start < total and self._limits:
            end = min(total, start + BLOCK_DECISIONS - self.counts.decided)
            found += self._count(decisions, start, end)
            self.counts.decided += end - start
            if self.counts.decided == BLOCK_DECISIONS:
                self.counts = Counts()
            start = end
        return found

    def _count(self, decisions: Decisions, start: int, end: int) -> list[Excess]:
        found: list[Excess] = []
        counts = self.counts
        rows = {rule.name: row for row, rule in enumerate(decisions.detector.running)}
        for rule, most in self._limits.items():
            fired = decisions.judged.fired[rows[rule], start:end]
            before = counts.fired.get(rule, 0)
            after = before + int(np.count_nonzero(fired))
            counts.fired[rule] = after
            if before <= most < after:
                crossing = int(np.nonzero(fired)[0][most - before])
                expected = round(self._forecasts[rule], 3)
                found.append(Excess(rule, most + 1, counts.decided + crossing + 1, expected))
        return found


def _forecasts(forecast: Forecast) -> Mapping[str, float]:
    """Firings in a block by rule."""
    return {rule: BLOCK_DECISIONS * (fired + 1) / (forecast.decided + 1) for rule, fired in forecast.fired.items()}


def limit(mean: float) -> int:
    """The most that a Poisson distribution of this mean reaches with a probability of at least MAX_CHANCE: the least k
    for which P(X > k) is below it.
    """
    if mean >= BLOCK_DECISIONS:
        return BLOCK_DECISIONS
    tails = np.cumsum(np.exp(_COUNTS * math.log(mean) - mean - _LOG_FACTORIALS)[::-1])[::-1]
    reached = np.nonzero(tails[1:] >= MAX_CHANCE)[0]
    return min(int(reached[-1]) + 1, BLOCK_DECISIONS) if len(reached) else 0
