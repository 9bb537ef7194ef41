"""Looking things up: a decision by its event id, a customer by her token."""

from __future__ import annotations

from urllib.parse import quote

from nicegui import ui

from tidegate.desk import charts
from tidegate.desk.case import RECENT_COLUMNS, read_case, recent_rows
from tidegate.desk.data_table import DataTable
from tidegate.desk.frame import Frame, button, link, section
from tidegate.desk.session import Desk, Session
from tidegate.ports.hotstore import RECENT_KEPT

_CUSTOMER = "customer_"


class LookupPage:
    def __init__(self, desk: Desk, session: Session) -> None:
        self._desk = desk
        frame = Frame(desk, session, title="Look up", keys={"Enter": ("Look up", "decisions:read")})
        with frame.content("lookup"), section("Look up a decision or a customer"):
            with ui.element("div").classes("lookup-line"):
                self._wanted = ui.input(placeholder="Event id, or customer token").props(
                    'dense outlined autofocus clearable aria-label="Event id, or customer token"'
                )
                self._wanted.classes("lookup-field").on("keydown.enter", self._look)
                button("Look up", "primary", key="↵").on("click", self._look)
            self._answer = ui.label().classes("muted note").props('role="status"')

    def _look(self) -> None:
        wanted = (self._wanted.value or "").strip()
        if not wanted:
            self._answer.set_text("Type an event id, as a source sent it, or a customer's token.")
        elif read_case(wanted, self._desk.hotstore, self._desk.feed).known:
            ui.navigate.to(f"/decisions/{quote(wanted, safe='')}")
        elif wanted.startswith(_CUSTOMER) and self._desk.hotstore.recent("customer_id", wanted, 1):
            ui.navigate.to(f"/customers/{quote(wanted, safe='')}")
        else:
            self._answer.set_text("Nothing by that name is at hand. What is older than the hot store is in the lake.")


class CustomerPage:
    def __init__(self, desk: Desk, session: Session, token: str) -> None:
        recent = desk.hotstore.recent("customer_id", token, RECENT_KEPT)
        frame = Frame(desk, session, title="Customer", keys={})
        with frame.content("case"):
            with ui.element("div").classes("steps"):
                link("← Look up", "/decisions")
                ui.label(token).classes("code event-id")
            with section(f"The last {len(recent)} transactions" if recent else "Transactions"):
                if len(recent) > 1:
                    ui.echart(charts.amounts(recent, "")).classes("chart tall")
                table = DataTable(RECENT_COLUMNS, empty="No transaction of this customer is at hand.")
                table.show(recent_rows(recent, desk.feed, now_ms=desk.clock.now_ms()))
