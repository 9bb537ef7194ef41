"""The page of one alert, or of any decision: why, what it is about, what is known around it, and the verdict."""

from __future__ import annotations

from urllib.parse import quote

import msgspec
from nicegui import ui
from nicegui.events import KeyEventArguments

from tidegate.desk import charts, text
from tidegate.desk.alert_list import alert_path
from tidegate.desk.case import (
    FEATURE_COLUMNS,
    RECENT_COLUMNS,
    contributions,
    facts,
    features,
    personal_fields,
    read_case,
    recent_rows,
    rules,
    stages,
)
from tidegate.desk.data_table import DataTable
from tidegate.desk.frame import Frame, button, fact_list, link, section
from tidegate.desk.live import saved_filter
from tidegate.desk.session import Desk, Session
from tidegate.desk.verdict import VerdictDialog
from tidegate.errors import TidegateError
from tidegate.governance.roles import Permission, may
from tidegate.streams.decision import Decision

#: An alert may be here before its decision is in the hot store: it is looked for again so often until it is.
_REFRESH_S = 0.5

#: How long revealed values stay on the screen.
REVEALED_S = 60

_KEYS: dict[str, tuple[str, Permission]] = {
    "j k": ("Next older, newer alert of your list", "alerts:read"),
    "f g": ("Fraud, genuine", "labels:write"),
    "r": ("Reveal personal data", "personal:reveal"),
}


class AlertPage:
    def __init__(self, desk: Desk, session: Session, event_id: str) -> None:
        self._desk, self._session, self._event_id = desk, session, event_id
        self._case = read_case(event_id, desk.hotstore, desk.feed)
        self._may_judge = may(session.principal, "labels:write")
        self._may_reveal = may(session.principal, "personal:reveal")
        self._newer, self._older = desk.feed.beside(event_id, saved_filter())
        self._revealed: dict[str, str] = {}
        frame = Frame(desk, session, title="Alert" if self._case.alert else "Decision", keys=_KEYS)
        self._verdict = VerdictDialog(desk, session, lambda _, is_fraud: self._judged(is_fraud=is_fraud))
        with frame.content("case"):
            self._steps()
            if not self._case.known:
                ui.label("Nothing is known of this event").classes("sheet-title")
                ui.label("Is the id whole? It may also be on its way here: this page looks again by itself.").classes(
                    "muted"
                )
                ui.timer(_REFRESH_S, self._look_again)
                return
            self._head()
            with ui.element("div").classes("case-columns"):
                with ui.element("div").classes("case-main"):
                    self._revision()
                    self._why()
                    self._otherwise()
                    self._around()
                    self._features()
                with ui.element("div").classes("case-side"):
                    self._transaction()
                    self._personal()
                    self._time_line()
                    self._rules()
                    self._made_by()
        ui.keyboard(on_key=self._on_key, repeating=False)
        ui.timer(_REFRESH_S, self._refresh)

    def _steps(self) -> None:
        with ui.element("div").classes("steps"):
            link("← All alerts", "/")
            ui.label(self._event_id).classes("code event-id")
            ui.element("span").classes("bar-space")
            for label, key, event_id in (("Newer", "k", self._newer), ("Older", "j", self._older)):
                if event_id:
                    link(label, alert_path(event_id), key=key)

    def _head(self) -> None:
        decided = self._case.decision or self._case.alert
        with ui.element("section").classes("case-head").props('aria-label="Outcome"'):
            if decided:
                with ui.element("div").classes(f"score {decided.outcome}"):
                    ui.label(str(decided.score)).classes("score-figure")
                    ui.label(decided.outcome).classes("score-word")
            with ui.element("div").classes("case-title"):
                ui.label(self._case.amount).classes("amount")
                ui.label(f"{self._case.card} · {text.full_time(self._event_time)}").classes("muted")
            with ui.element("div").classes("judge"):
                self._known = ui.element("div").classes("known")
                if self._may_judge:
                    button("Fraud", "fraud", key="f").on("click", lambda: self._ask(is_fraud=True))
                    button("Genuine", "genuine", key="g").on("click", lambda: self._ask(is_fraud=False))
        self._show_verdict()

    @property
    def _event_time(self) -> int:
        decided = self._case.decision or self._case.alert
        return decided.event_time if decided else (self._case.transaction or {})["event_time"]

    def _show_verdict(self) -> None:
        self._known.clear()
        with self._known:
            if self._case.is_fraud is None:
                ui.label("No verdict yet").classes("muted")
                return
            word = "fraud" if self._case.is_fraud else "genuine"
            ui.label(word).classes(f"verdict {word}")
            if verdict := self._case.verdict:
                said = [f"by {verdict.source}", text.full_time(verdict.event_time)]
                ui.label(" · ".join([*said, verdict.reason] if verdict.reason else said)).classes("muted")

    def _why(self) -> None:
        decided = self._case.decision or self._case.alert
        with section("Why"), ui.element("ol").classes("reasons"):
            for reason in (decided.reasons if decided else []) or ["No rule gave a reason."]:
                with ui.element("li"):
                    ui.label(reason)

    def _revision(self) -> None:
        """What became of the decision when more had arrived."""
        revision = self._case.revision
        if revision is None:
            return
        with section("Revision"):
            ui.label(text.revised(revision)).classes("revised")
            with ui.element("ul").classes("reasons"):
                for told in [*map(text.cause, revision.causes), *(f"Now: {reason}" for reason in revision.reasons)]:
                    with ui.element("li"):
                        ui.label(told)
                if revision.more_causes:
                    with ui.element("li"):
                        ui.label(f"And {revision.more_causes} more that came late.")

    def _otherwise(self) -> None:
        """What would have led to another outcome, and what moved the model."""
        explanation = self._case.decision.explanation if self._case.decision else None
        if explanation is None:
            return
        if explanation.counterfactuals:
            with section("What would have changed it"), ui.element("ul").classes("reasons"):
                for told in explanation.counterfactuals:
                    with ui.element("li"):
                        ui.label(text.would_have_been(told, self._case.currency))
        if explanation.contributions:
            with section("What moved the model"):
                fact_list(contributions(self._case))

    def _around(self) -> None:
        case, now_ms = self._case, self._desk.clock.now_ms()
        with section("Around it"):
            if len(case.by_card or case.by_customer) > 1:
                ui.echart(charts.amounts(case.by_card or case.by_customer, case.event_id)).classes("chart tall")
            with ui.tabs().props("dense no-caps align=left").classes("tabs") as tabs:
                card = ui.tab("card", f"This card ({len(case.by_card)})")
                customer = ui.tab("customer", f"This customer ({len(case.by_customer)})")
            with ui.tab_panels(tabs, value=card if case.by_card else customer).props("keep-alive").classes("panels"):
                for tab, recent in ((card, case.by_card), (customer, case.by_customer)):
                    with ui.tab_panel(tab):
                        table = DataTable(RECENT_COLUMNS, empty="No transaction is at hand.")
                        table.show(recent_rows(recent, self._desk.feed, now_ms=now_ms, marked=case.event_id))
            if case.customer_id:
                link("All of this customer →", f"/customers/{quote(case.customer_id, safe='')}")

    def _features(self) -> None:
        with section("Features"):
            table = DataTable(FEATURE_COLUMNS, empty="The decision is on its way here.", filter_label="Filter features")
            table.show(features(self._case))

    def _transaction(self) -> None:
        with section("Transaction"):
            fact_list(facts(self._case))

    def _personal(self) -> None:
        with section("Personal data") as card:
            self._personal_facts = ui.element("div")
            self._reveal_note = ui.label().classes("muted note").props('role="status"')
            if self._may_reveal and self._case.transaction:
                with card:
                    button("Reveal", "plain", key="r").classes("reveal").on("click", self._reveal)
        self._show_personal()

    def _show_personal(self) -> None:
        self._personal_facts.clear()
        with self._personal_facts:
            fact_list(
                [(text.words(name), self._revealed.get(name, masked)) for name, masked in personal_fields(self._case)]
            )

    async def _reveal(self) -> None:
        if not self._may_reveal or self._revealed:
            return
        try:
            self._revealed = await self._desk.door.reveal(self._session.token, self._event_id)
        except TidegateError as error:
            self._reveal_note.set_text(str(error))
            return
        self._show_personal()
        self._reveal_note.set_text(f"Shown for {REVEALED_S} s. That you saw it is on record.")
        ui.timer(REVEALED_S, self._conceal, once=True)

    def _conceal(self) -> None:
        self._revealed = {}
        self._reveal_note.set_text("")
        self._show_personal()

    def _time_line(self) -> None:
        with section("Time line"):
            fact_list(stages(self._case))

    def _rules(self) -> None:
        if self._case.decision is None:
            return
        fired, silent = rules(self._case.decision)
        with section("Rules"):
            with ui.element("ul").classes("rules"):
                for name, points in fired:
                    with ui.element("li"):
                        ui.label(name).classes("code")
                        if points is None:
                            ui.label("shadow").classes("tag shadow")
                        else:
                            ui.label(f"{points:+d}").classes("tag fired")
            if silent:
                with ui.element("details").classes("silent"):
                    with ui.element("summary"):
                        ui.label(f"{len(silent)} did not fire")
                    ui.label(", ".join(silent)).classes("code muted")

    def _made_by(self) -> None:
        decision = self._case.decision
        if decision is None:
            return
        with section("Decision"):
            fact_list(
                [
                    ("Detector", f"{decision.detector} {decision.detector_version}"),
                    ("Model", self._model(decision)),
                    ("Late", "yes" if decision.late else "no"),
                    ("Hash", decision.hash),
                ]
            )

    @staticmethod
    def _model(decision: Decision) -> str:
        if decision.model_version is None:
            return "none"
        score = "no score" if decision.model_score is None else text.feature("", decision.model_score, None)
        return f"{decision.model_version}: {score}"

    def _ask(self, *, is_fraud: bool) -> None:
        if self._may_judge:
            self._verdict.ask(self._event_id, is_fraud=is_fraud, summary=f"{self._case.amount} · {self._case.card}")

    def _judged(self, *, is_fraud: bool) -> None:
        self._case = msgspec.structs.replace(self._case, is_fraud=is_fraud, verdict=None)
        self._show_verdict()

    def _refresh(self) -> None:
        """Show what has come since: the decision, if the alert was faster, its revision, and whoever's verdicts."""
        decision = self._case.decision
        if decision is None:
            if self._desk.hotstore.decision(self._event_id):
                ui.navigate.reload()
        elif self._desk.hotstore.revision(self._event_id, decision.detector) != self._case.revision:
            ui.navigate.reload()
        verdict = self._desk.feed.verdict(self._event_id)
        if verdict and verdict != self._case.verdict:
            self._case = msgspec.structs.replace(self._case, is_fraud=verdict.is_fraud, verdict=verdict)
            self._show_verdict()

    def _look_again(self) -> None:
        if read_case(self._event_id, self._desk.hotstore, self._desk.feed).known:
            ui.navigate.reload()

    async def _on_key(self, event: KeyEventArguments) -> None:
        modified = event.modifiers.ctrl or event.modifiers.meta or event.modifiers.alt
        if not event.action.keydown or modified or self._verdict.is_open:
            return
        match event.key.name:
            case "f" | "g":
                self._ask(is_fraud=event.key.name == "f")
            case "j" if self._older:
                ui.navigate.to(alert_path(self._older))
            case "k" if self._newer:
                ui.navigate.to(alert_path(self._newer))
            case "r":
                await self._reveal()
            case _:
                pass
