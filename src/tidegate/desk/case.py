"""One case: a transaction, what was decided on it and why, and what is known around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from tidegate.desk import text
from tidegate.desk.alert_list import alert_path, verdict_word
from tidegate.desk.data_table import Column, Row
from tidegate.desk.feed import Feed, Verdict
from tidegate.ports.hotstore import RECENT_KEPT, HotStore, RecentTransaction
from tidegate.streams.decision import Alert, Decision
from tidegate.streams.revision import Revision
from tidegate.streams.schema import PAN_PARTS, load_schema

_TRANSACTIONS = load_schema("transactions")

#: Fields told elsewhere on the page.
_TOLD_ELSEWHERE = {"event_id", "event_time", "amount_minor", "currency"}

RECENT_COLUMNS = (
    Column("time", "Time (UTC)"),
    Column("amount", "Amount", "number"),
    Column("channel", "Channel", wide=True),
    Column("merchant", "Merchant"),
    Column("country", "Country", wide=True),
    Column("issuer", "Issuer", "tag", wide=True),
    Column("outcome", "Outcome", "tag"),
    Column("verdict", "Verdict", "tag"),
)
FEATURE_COLUMNS = (
    Column("name", "Feature", "code"),
    Column("value", "Value", "value"),
    Column("freshness", "Freshness", "tag"),
)


class Case(msgspec.Struct, frozen=True):
    """What the hot store and the feed know of one event. `decision` is None until it is in the hot store."""

    event_id: str
    transaction: dict[str, Any] | None
    decision: Decision | None
    revision: Revision | None
    """The decision's newest."""
    alert: Alert | None
    by_card: list[RecentTransaction]
    by_customer: list[RecentTransaction]
    verdict: Verdict | None
    is_fraud: bool | None
    """The last label: the feed's, or for an older one the hot store's."""

    @property
    def known(self) -> bool:
        return self.transaction is not None or self.decision is not None or self.alert is not None

    @property
    def currency(self) -> str | None:
        return self._value("currency")

    @property
    def amount(self) -> str:
        return text.money(self._value("amount_minor"), self.currency)

    @property
    def card(self) -> str:
        return text.card(self._value("pan_bin"), self._value("pan_last4"))

    @property
    def customer_id(self) -> str | None:
        return self._value("customer_id")

    def _value(self, name: str) -> Any:
        if self.transaction is not None:
            return self.transaction.get(name)
        return getattr(self.alert, name, None)


def read_case(event_id: str, hotstore: HotStore, feed: Feed) -> Case:
    transaction, alert = hotstore.transaction(event_id), feed.find(event_id)

    def recent(by: Literal["pan", "customer_id"]) -> list[RecentTransaction]:
        token = transaction[by] if transaction else getattr(alert, by, None)
        return hotstore.recent(by, token, RECENT_KEPT) if token else []

    by_card, by_customer = recent("pan"), recent("customer_id")
    verdict, decision = feed.verdict(event_id), hotstore.decision(event_id)
    stored = next((seen.is_fraud for seen in (*by_card, *by_customer) if seen.event_id == event_id), None)
    return Case(
        event_id=event_id,
        transaction=transaction,
        decision=decision,
        revision=hotstore.revision(event_id, decision.detector) if decision else None,
        alert=alert,
        by_card=by_card,
        by_customer=by_customer,
        verdict=verdict,
        is_fraud=verdict.is_fraud if verdict else stored,
    )


def facts(case: Case) -> list[tuple[str, str]]:
    """The fields of the transaction that are nobody's secret, by name."""
    if case.transaction is None:
        return []
    found: list[tuple[str, str]] = []
    for field in _TRANSACTIONS.fields:
        value = case.transaction.get(field.name)
        if field.personal or field.name in _TOLD_ELSEWHERE or value is None:
            continue
        found.append((text.words(field.name), text.feature(field.name, value, case.currency)))
    return found


def personal_fields(case: Case) -> list[tuple[str, str]]:
    """The personal fields that the transaction has: name in the schema, what is shown while it is masked."""
    if case.transaction is None:
        return []
    masked: list[tuple[str, str]] = []
    for name, kind in _TRANSACTIONS.personal.items():
        if case.transaction.get(name) is None:
            continue
        parts = [case.transaction.get(f"{name}_{part}") for part in PAN_PARTS] if kind == "pan" else []
        masked.append((name, text.card(*parts) if parts else "········"))
    return masked


def features(case: Case) -> list[Row]:
    if case.decision is None:
        return []
    return [
        Row(
            key=name,
            cells={
                "name": name,
                "value": text.feature(name, value, case.currency),
                "freshness": case.decision.freshness.get(name, ""),
            },
            sort={"value": float(value)} if isinstance(value, int | float) else {},
        )
        for name, value in case.decision.features.items()
    ]


def contributions(case: Case) -> list[tuple[str, str]]:
    """What moved the model most: the feature with its value, and which way."""
    decision = case.decision
    if decision is None or decision.explanation is None:
        return []
    return [
        (
            f"{each.feature} = {text.feature(each.feature, decision.features[each.feature], case.currency)}",
            text.moved(each.amount),
        )
        for each in decision.explanation.contributions
    ]


def stages(case: Case) -> list[tuple[str, str]]:
    """What happened when, and how long the stages of the decision took."""
    found: list[tuple[str, str]] = []
    if case.decision or case.alert:
        found.append(("Happened", text.full_time((case.decision or case.alert).event_time)))  # pyright: ignore[reportOptionalMemberAccess]  # one of them is there
    if case.alert:
        found.append(("Accepted at the door", text.full_time(case.alert.accepted_ms * 1000)))
        took_us = (case.alert.decided_ms - case.alert.accepted_ms) * 1000
        word = "Decided" if case.alert.revision is None else "Revised"
        found.append((word, f"{text.full_time(case.alert.decided_ms * 1000)} (+{text.span(took_us)})"))
    if case.decision:
        found += [(text.words(stage), text.span(took)) for stage, took in case.decision.stages_us.items()]
    return found


def rules(decision: Decision) -> tuple[list[tuple[str, int | None]], list[str]]:
    """The rules that fired with their points, the heaviest first, shadows (None) last; the names of the others."""
    shadows = [(name, None) for name in decision.shadow if decision.rules[name]]
    return [*decision.points.items(), *shadows], [name for name, outcome in decision.rules.items() if not outcome]


def recent_rows(
    recent: Sequence[RecentTransaction], feed: Feed, *, now_ms: int, marked: str | None = None
) -> list[Row]:
    return [
        Row(
            key=seen.event_id,
            cells={
                "time": text.clock_time(seen.event_time, now_ms),
                "amount": ("−" if seen.transaction_type == "refund" else "")
                + text.money(seen.amount_minor, seen.currency),
                "channel": seen.channel,
                "merchant": seen.merchant_id or text.NONE,
                "country": seen.merchant_country or text.NONE,
                "issuer": seen.authorisation,
                "outcome": seen.outcome or "",
                "verdict": _known(seen, feed),
            },
            sort={"time": seen.event_time, "amount": seen.amount_minor},
            href=alert_path(seen.event_id),
            marked=seen.event_id == marked,
        )
        for seen in recent
    ]


def _known(seen: RecentTransaction, feed: Feed) -> str:
    verdict = feed.verdict(seen.event_id)
    if verdict or seen.is_fraud is None:
        return verdict_word(verdict)
    return "fraud" if seen.is_fraud else "genuine"
