"""The list of alerts as a page shows it: one element that takes what is new, whatever the length of the day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from nicegui import ui

from tidegate.desk import text
from tidegate.desk.feed import Feed, Listed, Verdict

#: Rows a page keeps: what an analyst scrolls through. Older ones are found by a filter, which asks the feed.
ROWS_SHOWN = 200

#: Longest reason sent to the list: a line of it is all that is seen.
_REASON_CHARS = 240


class AlertList(ui.element, component="static/alert_list.js"):
    """Emits `verdict` with {event_id, is_fraud} and `pause`, from the keyboard."""

    def __init__(self, rows: Sequence[dict[str, Any]], *, empty: str) -> None:
        super().__init__()
        self.props["rows"] = list(rows)
        self.props["limit"] = ROWS_SHOWN
        self.props["empty"] = empty

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        self.run_method("add", rows)

    def replace(self, rows: Sequence[dict[str, Any]]) -> None:
        self.run_method("replace", rows)

    def show_verdicts(self, verdicts: Mapping[str, str]) -> None:
        """Show verdicts, as `verdict_word` has them, by event id."""
        self.run_method("mark", verdicts)

    def pause(self, *, paused: bool) -> None:
        """Hold new rows back, and count them, until the pause ends."""
        self.run_method("pause", paused)


def alert_path(event_id: str) -> str:
    return f"/alerts/{quote(event_id, safe='')}"


def verdict_word(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    return "fraud" if verdict.is_fraud else "genuine"


def to_rows(found: Iterable[Listed], feed: Feed, now_ms: int) -> list[dict[str, Any]]:
    """What the list shows of each alert, as text."""
    rows: list[dict[str, Any]] = []
    for listed in found:
        alert = listed.alert
        reasons = alert.reasons or [text.NONE]
        revised = f"Revised from {alert.revised_from}: " if alert.revised_from else ""
        rows.append(
            {
                "key": listed.number,
                "id": alert.event_id,
                "href": alert_path(alert.event_id),
                "time": text.clock_time(alert.event_time, now_ms),
                "outcome": alert.outcome,
                "score": alert.score,
                "amount": text.money(alert.amount_minor, alert.currency),
                "card": text.card(alert.pan_bin, alert.pan_last4),
                "customer": text.short_token(alert.customer_id),
                "channel": alert.channel or text.NONE,
                "reason": f"{revised}{reasons[0]}"[:_REASON_CHARS],
                "more": len(reasons) - 1,
                "verdict": verdict_word(feed.verdict(alert.event_id)),
            }
        )
    return rows
