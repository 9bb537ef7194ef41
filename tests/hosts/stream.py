"""A seeded stream of transactions, labels, customers and lists in a log, and a small detector that minds them all."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec

from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.kernel.detector import Detector, compile_detector
from tidegate.ports.log import Entry, Log, Record, TopicPartition
from tidegate.streams.control import DETECTORS
from tidegate.streams.decision import DECISIONS, Decision
from tidegate.streams.schema import load_schema
from tidegate.streams.topics import TOPICS

START = 1_700_000_000_000_000
PARTITIONS = 3

FEATURES = """
WITH payments AS (
    SELECT t.*, customer.segment, COALESCE(NOT denied.removed, false) AS is_denied
    FROM transactions AS t
    ASOF LEFT JOIN customers AS customer
        ON t.customer_id = customer.customer_id AND t.event_time >= customer.event_time
    ASOF LEFT JOIN lists AS denied
        ON denied.list = 'deny' AND t.merchant_id = denied.merchant_id AND t.event_time >= denied.event_time
)
SELECT
    event_id,
    event_time,
    amount_minor / 100.0 AS amount,
    segment,
    is_denied,
    COUNT(*) OVER card_10m AS payments,
    SUM(amount_minor) OVER card_10m AS spent,
    COUNT(DISTINCT merchant_id) OVER customer_1h AS merchants,
    COUNT(*) FILTER (WHERE is_fraud) OVER terminal_1d AS frauds,
    COUNT(*) FILTER (WHERE segment = 'new') OVER terminal_1d AS new_customers
FROM payments
WINDOW
    card_10m AS (PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL '10' MINUTE PRECEDING AND CURRENT ROW),
    customer_1h AS (
        PARTITION BY customer_id ORDER BY event_time RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW
    ),
    terminal_1d AS (
        PARTITION BY terminal_id ORDER BY event_time RANGE BETWEEN INTERVAL '1' DAY PRECEDING AND CURRENT ROW
    )
"""
RULES = """
rules:
  - {name: often, when: payments > 3, points: 50, reason: "{payments} payments", status: live}
  - {name: risky_terminal, when: frauds > 2, points: 50, reason: "{frauds} frauds at the terminal", status: live}
  - {name: denied, when: is_denied, points: 10, reason: The merchant is on the list, status: live}
"""
POLICY = """
lateness: 10 minutes
dedupe: 1 day
outcomes: {review: 40, decline: 80}
cap: 100
"""


def detector(name: str = "small", rules: str = RULES) -> Detector:
    return compile_detector(name, {"features.sql": FEATURES, "rules.yaml": rules, "policy.yaml": POLICY})


def open_log(folder: Path) -> EmbeddedLog:
    log = EmbeddedLog(folder / "log.sqlite")
    for topic in TOPICS:
        log.create(topic, partitions=PARTITIONS)
    log.create(DETECTORS, partitions=1)
    return log


def entry(stream: str, event: dict[str, Any]) -> Entry:
    key = event[load_schema(stream).key] or event["event_id"]
    return Entry(stream, key, msgspec.json.encode(event), 1_000 + event["event_time"] // 1000, event["event_id"])


def transaction(number: int, **given: Any) -> dict[str, Any]:
    event = dict.fromkeys(load_schema("transactions").protected_columns)
    return {
        **event,
        "event_id": f"tx-{number}",
        "event_time": START + number * 1_000_000,
        "transaction_type": "purchase",
        "channel": "pos",
        "card_present": True,
        "authorisation": "approved",
        "customer_id": "customer_a",
        "pan": "pan_a",
        "pan_bin": "411111",
        "pan_last4": "1111",
        "merchant_id": "m1",
        "terminal_id": "t1",
        "amount_minor": 1000,
        "currency": "EUR",
        "sealed": "c2VhbGVk",
        **given,
    }


def label(number: int, of: str, *, is_fraud: bool) -> dict[str, Any]:
    return {
        "event_id": f"label-{number}",
        "event_time": START + number * 1_000_000,
        "transaction_id": of,
        "is_fraud": is_fraud,
        "source": "chargeback",
        "reason": None,
    }


def version(number: int, chance: random.Random) -> Entry:
    """A customer's master data or a merchant on a list, some of them late."""
    known = {"event_id": f"version-{number}", "event_time": START + (number - chance.randrange(90)) * 1_000_000}
    if chance.random() < 0.5:
        segment = chance.choice(["new", "regular", None])
        return entry("customers", known | {"customer_id": f"customer_{chance.randrange(7)}", "segment": segment})
    merchant = {"list": "deny", "merchant_id": f"m{chance.randrange(9)}", "removed": chance.random() < 0.6}
    return entry("lists", known | merchant)


def stream(count: int, seed: int) -> list[Entry]:
    """Transactions, some late, some of one id twice over two sources' streams of time, labels of earlier ones, and what
    is joined to them.
    """
    chance, others = random.Random(seed), random.Random(seed + 1)
    entries: list[Entry] = []
    for n in range(count):
        late_us = chance.randrange(300_000_000) if chance.random() < 0.1 else 0
        card = chance.randrange(20)
        event = transaction(
            n,
            event_time=START + n * 1_000_000 - late_us,
            pan=f"pan_{card}" if card else None,
            customer_id=f"customer_{card % 7}",
            merchant_id=f"m{chance.randrange(9)}",
            terminal_id=f"t{chance.randrange(5)}",
            amount_minor=chance.randrange(100_000),
        )
        entries.append(entry("transactions", event))
        if n and chance.random() < 0.15:
            entries.append(entry("labels", label(n, f"tx-{chance.randrange(n)}", is_fraud=chance.random() < 0.7)))
        if others.random() < 0.2:
            entries.append(version(n, others))
    return entries


def everything(log: Log, topic: str) -> list[Record]:
    return log.read({TopicPartition(topic, p): 0 for p in range(PARTITIONS)}, 10**9)


def decisions(log: Log) -> list[Decision]:
    """In the order in which they were written, without the time they took."""
    found = (msgspec.json.decode(record.value, type=Decision) for record in everything(log, DECISIONS))
    return [msgspec.structs.replace(decision, stages_us={}) for decision in found]
