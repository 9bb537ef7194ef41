"""The live page: alerts as they come, and how the stream is doing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec
from nicegui import app, ui
from nicegui.events import GenericEventArguments

from tidegate.desk import charts, text
from tidegate.desk.alert_list import ROWS_SHOWN, AlertList, to_rows, verdict_word
from tidegate.desk.demotions import Demotions
from tidegate.desk.feed import Filter
from tidegate.desk.frame import Frame
from tidegate.desk.meter import SAMPLE_EVERY_MS
from tidegate.desk.session import Desk, Session
from tidegate.desk.verdict import VerdictDialog
from tidegate.governance.roles import Permission, may

#: What is new is gathered and sent to the page this often: five times a second, however many alerts come.
_REFRESH_S = 0.2

#: How long the filter's text rests before it is looked for.
_DEBOUNCE_MS = 200

_FILTER = "filter"
_KEYS: dict[str, tuple[str, Permission]] = {
    "j k": ("Next, previous alert", "alerts:read"),
    "Enter": ("Open the alert", "alerts:read"),
    "f g": ("Fraud, genuine", "labels:write"),
    "p": ("Pause, go on", "alerts:read"),
    "/": ("To the filter", "alerts:read"),
}
_OUTCOMES = {"": "All outcomes", "decline": "Decline", "review": "Review", "approve": "Approve"}

#: From this lag on a reader is told to be behind.
_LAG_BEHIND = 1000


def saved_filter() -> Filter:
    """The filter the person used last, so that she comes back to the list she left."""
    try:
        return msgspec.convert(app.storage.user.get(_FILTER, {}), Filter)
    except msgspec.ValidationError:
        return Filter()


class LivePage:
    def __init__(self, desk: Desk, session: Session) -> None:
        self._desk, self._session = desk, session
        self._filter = saved_filter()
        self._paused = False
        self._sampled_ms = 0
        frame = Frame(desk, session, title="Live", keys=_KEYS)
        self._verdict = VerdictDialog(desk, session, lambda event_id, is_fraud: self._mark(event_id, is_fraud=is_fraud))
        with frame.content("live"):
            self._gauges()
            self._demotions = Demotions(desk)
            self._filters()
            found, self._next = desk.feed.newest(self._filter, ROWS_SHOWN)
            _, self._next_verdict = desk.feed.verdicts_since(0)
            rows = to_rows(found, desk.feed, desk.clock.now_ms())
            self._list = AlertList(rows, empty="No alert fits. New ones appear here by themselves.")
            self._list.on("verdict", self._on_verdict)
            self._list.on("pause", self._pause)
        ui.timer(_REFRESH_S, self._refresh)
        ui.timer(SAMPLE_EVERY_MS / 1000, self._refresh_gauges)

    def _gauges(self) -> None:
        samples = self._desk.meter.samples()
        with ui.element("section").classes("gauges").props('aria-label="How the stream is doing"'):
            with ui.element("div").classes("counters"):
                self._open = _counter("Open")
                self._declined = _counter("Declined")
                self._reviewed = _counter("Reviewed today")
                self._lag = _counter("Behind")
            with ui.element("div").classes("chart-box"):
                with ui.element("div").classes("chart-title"):
                    ui.label("Throughput")
                    self._rate = ui.label().classes("chart-figure")
                    _key(charts.THROUGHPUT_KEY)
                self._throughput = ui.echart(charts.throughput(samples)).classes("chart")
            with ui.element("div").classes("chart-box"):
                with ui.element("div").classes("chart-title"):
                    ui.label("Door to desk")
                    self._latency_figure = ui.label().classes("chart-figure")
                    _key(charts.LATENCY_KEY)
                self._latency = ui.echart(charts.latency(samples)).classes("chart")

    def _filters(self) -> None:
        detectors = sorted({*self._desk.feed.detectors(), self._filter.detector} - {""})
        with ui.element("section").classes("filters").props('aria-label="Filter"'):
            search = ui.input(value=self._filter.text, placeholder="Card, customer, merchant, reason, event id")
            search.props(f"dense outlined clearable debounce={_DEBOUNCE_MS}").classes("filter-text")
            search.on_value_change(lambda event: self._narrow(text=event.value or ""))
            outcome = ui.select(_OUTCOMES, value=self._filter.outcome if self._filter.outcome in _OUTCOMES else "")
            outcome.props('dense outlined options-dense aria-label="Outcome"').classes("filter-select")
            outcome.on_value_change(lambda event: self._narrow(outcome=event.value))
            detector = ui.select({"": "All detectors"} | {name: text.words(name) for name in detectors})
            detector.set_value(self._filter.detector)
            detector.props('dense outlined options-dense aria-label="Detector"').classes("filter-select")
            detector.on_value_change(lambda event: self._narrow(detector=event.value))
            score = ui.number("Score from", value=self._filter.min_score or None, min=0, precision=0)
            score.props(f"dense outlined debounce={_DEBOUNCE_MS}").classes("filter-score")
            score.on_value_change(lambda event: self._narrow(min_score=int(event.value or 0)))
            open_only = ui.checkbox("Open only", value=self._filter.open_only).classes("filter-open")
            open_only.on_value_change(lambda event: self._narrow(open_only=event.value))
            ui.element("span").classes("bar-space")
            with ui.element("button").classes("button plain pause").props('type="button"') as pause:
                self._pause_label = ui.label("Pause")
                ui.label("p").classes("key")
            pause.on("click", self._pause)

    def _narrow(self, **changed: Any) -> None:
        self._filter = msgspec.structs.replace(self._filter, **changed)
        app.storage.user[_FILTER] = msgspec.to_builtins(self._filter)
        found, self._next = self._desk.feed.newest(self._filter, ROWS_SHOWN)
        self._list.replace(to_rows(found, self._desk.feed, self._desk.clock.now_ms()))

    def _pause(self) -> None:
        self._paused = not self._paused
        self._pause_label.set_text("Go on" if self._paused else "Pause")
        self._list.pause(paused=self._paused)

    def _refresh(self) -> None:
        feed = self._desk.feed
        found, self._next = feed.since(self._next, self._filter)
        if found:
            self._list.add(to_rows(found[:ROWS_SHOWN], feed, self._desk.clock.now_ms()))
        verdicts, self._next_verdict = feed.verdicts_since(self._next_verdict)
        if verdicts:
            self._list.show_verdicts({verdict.transaction_id: verdict_word(verdict) for verdict in verdicts})

    def _refresh_gauges(self) -> None:
        self._demotions.refresh()
        counters = self._desk.feed.counters()
        self._open.set_text(f"{counters.open:,}")
        self._declined.set_text(f"{counters.declined:,}")
        self._reviewed.set_text(f"{counters.reviewed_today:,}")
        behind = max(self._desk.meter.lag().values(), default=0)
        self._lag.set_text(f"{behind:,}")
        self._lag.classes(add="behind") if behind >= _LAG_BEHIND else self._lag.classes(remove="behind")
        samples = self._desk.meter.samples()
        if not samples or samples[-1].time_ms == self._sampled_ms:
            return
        last = samples[-1]
        self._sampled_ms = last.time_ms
        rates = (last.per_second.get(topic, 0) for topic in (charts.TRANSACTIONS, charts.ALERTS))
        self._rate.set_text("{:,.0f} transactions/s · {:,.1f} alerts/s".format(*rates))
        self._latency_figure.set_text(
            "no alerts" if last.p50_ms is None else f"p50 {last.p50_ms:,} ms · p99 {last.p99_ms:,} ms"
        )
        self._throughput.run_chart_method("setOption", charts.new_points(charts.throughput_points(samples)))
        self._latency.run_chart_method("setOption", charts.new_points(charts.latency_points(samples)))

    def _on_verdict(self, event: GenericEventArguments) -> None:
        asked = cast("dict[str, Any]", event.args)
        alert = self._desk.feed.find(str(asked["event_id"]))
        if alert is None or not may(self._session.principal, "labels:write"):
            ui.notify("Your role does not give verdicts", type="warning")
            return
        summary = f"{text.money(alert.amount_minor, alert.currency)} · {text.card(alert.pan_bin, alert.pan_last4)}"
        self._verdict.ask(alert.event_id, is_fraud=bool(asked["is_fraud"]), summary=summary)

    def _mark(self, event_id: str, *, is_fraud: bool) -> None:
        self._list.show_verdicts({event_id: "fraud" if is_fraud else "genuine"})


def _key(colours: Mapping[str, str]) -> None:
    for name, colour in colours.items():
        ui.label(name).classes("chart-key").style(f"--key: {colour}")


def _counter(label: str) -> ui.label:
    with ui.element("div").classes("counter"):
        ui.label(label).classes("counter-label")
        return ui.label("0").classes("counter-figure")
