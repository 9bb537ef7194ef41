"""How good scores are, as the Fraud Detection Handbook measures it.

Le Borgne, Siblini, Lebichot and Bontempi, "Reproducible Machine Learning for Credit Card Fraud Detection" (2022),
chapters 4 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

#: How many customers a day the investigators can look at.
INSPECTED = 100


class Metrics(msgspec.Struct, frozen=True):
    """Of scores on a test: area under the ROC curve, average precision, and card precision: the mean over the days of
    the share of compromised customers among the INSPECTED whom the scores put first.
    """

    auc_roc: float
    average_precision: float
    card_precision_100: float


@dataclass(frozen=True)
class Events:
    """n events, with what became known of them."""

    customers: npt.NDArray[np.str_]
    """[n]"""
    days: npt.NDArray[np.int64]
    """int64[n], counted from any day."""
    frauds: npt.NDArray[np.bool_]
    """bool[n]"""

    def take(self, rows: npt.NDArray[np.bool_]) -> Events:
        return Events(self.customers[rows], self.days[rows], self.frauds[rows])


def tested(events: Events, *, trained: npt.NDArray[np.bool_], first_day: int, delay_days: int) -> npt.NDArray[np.bool_]:
    """bool[n]: the events that a test from `first_day` on looks at. Customers known to be compromised leave it: those
    with a fraud among the events `trained` (bool[n]), and on each day those with a fraud whose label has come in by
    then, `delay_days` and one day before. Who has left stays out.
    """
    known = set(events.customers[trained & events.frauds].tolist())
    chosen = np.zeros(len(events.days), np.bool_)
    for day in range(first_day, int(events.days.max(initial=first_day)) + 1):
        known |= set(events.customers[events.frauds & (events.days == day - delay_days - 1)].tolist())
        chosen |= (events.days == day) & ~np.isin(events.customers, sorted(known))
    return chosen


def measure(scores: npt.NDArray[np.float64], events: Events) -> Metrics:
    """Measure scores (float64[n]; the higher, the likelier a fraud) on the events of a test."""
    return Metrics(
        auc_roc=float(roc_auc_score(events.frauds, scores)),
        average_precision=float(average_precision_score(events.frauds, scores)),
        card_precision_100=card_precision(scores, events),
    )


def card_precision(scores: npt.NDArray[np.float64], events: Events) -> float:
    """Each day the INSPECTED customers with the highest scores are looked at, and the compromised among them leave the
    following days.
    """
    found: set[str] = set()
    shares: list[float] = []
    for day in np.unique(events.days).tolist():
        best: dict[str, tuple[float, bool]] = {}
        today = events.days == day
        for customer, score, fraud in zip(
            events.customers[today].tolist(), scores[today].tolist(), events.frauds[today].tolist(), strict=True
        ):
            if customer not in found:
                highest, compromised = best.get(customer, (score, False))
                best[customer] = max(highest, score), compromised or fraud
        first = sorted(best, key=lambda customer: (-best[customer][0], customer))[:INSPECTED]
        compromised = [customer for customer in first if best[customer][1]]
        shares.append(len(compromised) / INSPECTED)
        found.update(compromised)
    return float(np.mean(shares))
