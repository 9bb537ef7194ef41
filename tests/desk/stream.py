"""Makes what the engine and the readers would: transactions, decisions, alerts and labels, through the ports."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import msgspec

from tidegate.adapters.embedded.audit import EmbeddedAudit
from tidegate.adapters.embedded.clock import SystemClock
from tidegate.adapters.embedded.hotstore import EmbeddedHotStore
from tidegate.adapters.embedded.identity import EmbeddedIdentity
from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.ports.hotstore import Projection
from tidegate.ports.log import Entry
from tidegate.streams.control import DETECTORS, Demotion, Release
from tidegate.streams.decision import Alert, Decision, Explanation, decision_hash
from tidegate.streams.schema import load_schema
from tidegate.streams.topics import TOPICS

#: Of tests only: what they sign and link proves nothing to anyone.
SIGNING_KEY, AUDIT_KEY, STORAGE_SECRET = b"s" * 32, b"a" * 32, "of tests only"

GROUPS = ("engine", "hotstore")
PASSWORD = "the tide waits for none"


class Ports:
    """The embedded adapters on one data folder."""

    def __init__(self, data: Path) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self.clock = SystemClock()
        self.log = EmbeddedLog(data / "log.sqlite")
        self.hotstore = EmbeddedHotStore(data / "hotstore.sqlite")
        self.identity = EmbeddedIdentity(data / "identity.sqlite", SIGNING_KEY, self.clock)
        self.audit = EmbeddedAudit(data / "audit", AUDIT_KEY)


class Stream:
    """Appends to the log and the hot store, as the services would, each call as soon as it returns."""

    def __init__(self, ports: Ports) -> None:
        self.ports = ports
        self._ids = itertools.count(1)
        for topic in TOPICS:
            ports.log.create(topic, partitions=2)
        ports.log.create(DETECTORS, partitions=1)

    def transaction(self, **fields: Any) -> dict[str, Any]:
        event_id = fields.get("event_id", f"tx-{next(self._ids):06d}")
        made = dict.fromkeys(load_schema("transactions").protected_columns) | {
            "event_id": event_id,
            "event_time": time.time_ns() // 1000,
            "transaction_type": "purchase",
            "channel": "ecommerce",
            "card_present": False,
            "authorisation": "approved",
            "customer_id": "customer_ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "pan": "pan_ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "pan_bin": "411111",
            "pan_last4": "1234",
            "email": "email_ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "ip": "ip_ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "ip_country": "BR",
            "card_country": "DE",
            "merchant_id": "shop-0042",
            "merchant_category": "5732",
            "merchant_country": "DE",
            "amount_minor": 129_900,
            "currency": "EUR",
            "sealed": None,
        }
        return made | fields

    def decide(
        self,
        transaction: dict[str, Any],
        *,
        outcome: Any = "decline",
        score: int = 85,
        reasons: list[str] | None = None,
        features: dict[str, Any] | None = None,
        decided: bool = True,
        accepted_ms: int | None = None,
        detector: str = "card_fraud",
        explanation: Explanation | None = None,
    ) -> Alert:
        """A decision and its alert; with `decided` False the alert comes before all else."""
        accepted_ms = accepted_ms or self.ports.clock.now_ms()
        reasons = ["Five cards from one address within an hour"] if reasons is None else reasons
        made = Decision(
            event_id=transaction["event_id"],
            event_time=transaction["event_time"],
            stream="transactions",
            detector=detector,
            detector_version="3",
            model_version="2026-02-11",
            features=features
            or {
                "card_count_2h": 7,
                "card_sum_24h_minor": 481_200,
                "ip_cards_1h": 5,
                "amount_to_mean": 11.372,
                "is_new_device": True,
                "merchant_fraud_rate_30d": None,
            },
            rules={"card_velocity": True, "many_cards_one_ip": True, "round_amount": False, "sleeping_account": False},
            shadow=["many_cards_one_ip"],
            points={"card_velocity": 60},
            freshness={"merchant_fraud_rate_30d": "defaulted"},
            explanation=explanation,
            late=False,
            score=score,
            outcome=outcome,
            reasons=reasons,
            inputs={"transactions/0": 4711},
            stages_us={"windows": 812, "rules": 96, "model": 143},
        )
        made = msgspec.structs.replace(made, hash=decision_hash(made))
        alert = Alert(
            **{name: transaction.get(name) for name in ("customer_id", "pan", "pan_bin", "pan_last4", "channel")},
            **{name: transaction.get(name) for name in ("amount_minor", "currency", "merchant_id")},
            **{name: getattr(made, name) for name in ("event_id", "event_time", "outcome", "score", "reasons")},
            detector=detector,
            detector_version="3",
            accepted_ms=accepted_ms,
            decided_ms=accepted_ms + 21,
        )
        self.ports.hotstore.apply(
            Projection(transactions=[transaction], decisions=[made] if decided else []), positions={}
        )
        if decided:
            self._append("transactions", transaction["event_id"], msgspec.json.encode(transaction), accepted_ms)
            self._append("decisions", made.event_id, msgspec.json.encode(made), accepted_ms)
        self._append("alerts", made.event_id, msgspec.json.encode(alert), accepted_ms)
        return alert

    def label(self, transaction_id: str, *, is_fraud: bool, source: str = "chargeback", reason: str | None = None):
        made = {
            "event_id": f"label-{next(self._ids)}",
            "event_time": time.time_ns() // 1000,
            "transaction_id": transaction_id,
            "is_fraud": is_fraud,
            "source": source,
            "reason": reason,
        }
        self.ports.hotstore.apply(Projection(labels=[made]), positions={})
        self._append("labels", transaction_id, msgspec.json.encode(made), self.ports.clock.now_ms())

    def release(self, detector: str = "card_fraud", version: str = "3", status: Any = "live") -> None:
        at_ms = self.ports.clock.now_ms()
        made = Release(detector=detector, version=version, status=status, texts={}, by="anton", at_ms=at_ms)
        self._append(DETECTORS, detector, msgspec.json.encode(made), at_ms)

    def demote(self, rule: str, detector: str = "card_fraud", version: str = "3") -> Demotion:
        at_ms = self.ports.clock.now_ms()
        counted = {"fired": 58, "decided": 613, "forecast": 4.25, "at_ms": at_ms}
        made = Demotion(detector=detector, version=version, rule=rule, **counted)
        self._append(DETECTORS, detector, msgspec.json.encode(made), at_ms)
        return made

    def _append(self, topic: str, key: str, value: bytes, timestamp_ms: int) -> None:
        self.ports.log.append([Entry(topic, key, value, timestamp_ms)])
