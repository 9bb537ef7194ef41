"""The company's day at a rate: ordinary life and fraud, labels, spoiled events and repeats. A pure function of time."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

from tidegate.simulator.behaviour import VISITS, Stock
from tidegate.simulator.company import Company, spoiled_pan
from tidegate.simulator.fraud import KINDS
from tidegate.simulator.story import Numbers, Planned, Story

#: Shares of events that a source sends a second time under the same id, and seconds late.
AGAIN_SHARE = 0.003
LATE_SHARE = 0.01
AGAIN_AFTER_S = (0.5, 3.0)
LATE_BY_S = (1.0, 5.0)

#: What is spoiled: the field, and what stands in its place (None: the field is left out).
_SPOILED: dict[str, tuple[tuple[str, object], ...]] = {
    "transactions": (("amount_minor", "12.50"), ("channel", None), ("currency", "QQQ"), ("pan", spoiled_pan)),
    "sessions": (("action", "teleport"), ("session_id", None)),
    "carts": (("quantity", -1), ("action", None)),
    "customers": (("name", 7), ("customer_id", None)),
    "stock": (("quantity", "many"), ("sku", None)),
    "prices": (("price_minor", 9.5), ("currency", "QQQ")),
    "labels": (("is_fraud", "yes"), ("transaction_id", None)),
    "lists": (("removed", "no"), ("list", None)),
    "weather": (("rain_mm", "some"), ("shop_id", None)),
}


class Day:
    """The day from `start_us` on (microseconds since 1970), at `rate_per_s` events a second.

    `fraud_share` is of transactions, `spoiled_share` of events. Equal arguments give equal days, in whatever steps they
    are asked for.
    """

    def __init__(
        self, company: Company, *, start_us: int, rate_per_s: float, fraud_share: float, spoiled_share: float
    ) -> None:
        self._company = company
        self._rng = Random(f"{company.seed}/day/{start_us}")  # noqa: S311 - to be foreseen is the point
        self._numbers = Numbers(company.seed, start_us)
        self._event_us = 1e6 / rate_per_s
        self._fraud_share, self._spoiled_share = fraud_share, spoiled_share
        self._next_us = float(start_us)
        self._waiting: list[tuple[int, int, Planned]] = []
        self._order = count()
        self._stock: Stock = {}
        self._transactions = self._frauds = 0
        self._kinds_left = list(KINDS)
        self._visits, self._visit_weights = list(VISITS), list(VISITS.values())
        # The day begins with what the risk team found out the evening before.
        evening = Story(company, self._numbers, self._rng, start_us)
        evening.deny(company.fraudsters[0].device)
        self._waiting += [(event.send_us, next(self._order), event) for event in evening.events]

    def until(self, time_us: int) -> list[Planned]:
        """The events to send before `time_us` that were not returned yet, in order of sending."""
        while self._next_us < time_us:
            planned = self._plan(round(self._next_us))
            for event in planned:
                heappush(self._waiting, (event.send_us, next(self._order), event))
            # Stories begin at random times, so far apart that their events come at the rate.
            self._next_us += len(planned) * self._event_us * self._rng.expovariate(1)
        due: list[Planned] = []
        while self._waiting and self._waiting[0][0] < time_us:
            due.append(heappop(self._waiting)[2])
        return due

    def _plan(self, start_us: int) -> list[Planned]:
        story = Story(self._company, self._numbers, self._rng, start_us)
        if self._frauds < self._fraud_share * self._transactions:
            self._next_kind()(story)
        else:
            self._rng.choices(self._visits, self._visit_weights)[0](story, self._stock)
        self._transactions += sum(event.stream == "transactions" for event in story.events)
        self._frauds += sum(event.fraud is not None for event in story.events)
        return [sent for event in story.events for sent in self._sent(event)]

    def _next_kind(self) -> Any:
        """Every kind comes once before one comes again, so that a short demo shows them all."""
        if not self._kinds_left:
            self._kinds_left = list(KINDS)
        return self._kinds_left.pop(self._rng.randrange(len(self._kinds_left)))

    def _sent(self, event: Planned) -> list[Planned]:
        """The event as the source sends it, and what it sends beside it: a spoiled one, a repeat."""
        sent = [event]
        if self._rng.random() < LATE_SHARE:
            sent = [self._later(event, LATE_BY_S)]
        if self._rng.random() < AGAIN_SHARE:
            sent.append(self._later(sent[0], AGAIN_AFTER_S)._replace(again=True))
        if self._rng.random() < self._spoiled_share:
            body = self._spoil(event.stream, event.body | {"event_id": self._numbers.next("spoiled")})
            sent.append(event._replace(body=body, fraud=None, spoiled=True))
        return sent

    def _later(self, event: Planned, by_s: tuple[float, float]) -> Planned:
        return event._replace(send_us=event.send_us + round(self._rng.uniform(*by_s) * 1e6))

    def _spoil(self, stream: str, body: dict[str, Any]) -> dict[str, Any]:
        field, value = self._rng.choice(_SPOILED[stream])
        if value is spoiled_pan:
            value = spoiled_pan(body["pan"])
        return {name: each for name, each in (body | {field: value}).items() if each is not None}
