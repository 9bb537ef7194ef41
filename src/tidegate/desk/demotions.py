"""Rules that demoted themselves, above the alerts: which, why, and what to do about it."""

from __future__ import annotations

from nicegui import ui

from tidegate.desk import text
from tidegate.desk.session import Desk
from tidegate.streams.control import Demotion


class Demotions:
    """An entry for each rule that is demoted now; it leaves when a version is released again."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._shown: list[Demotion] = []
        self._section = ui.element("section").classes("demotions").props('aria-label="Demoted rules"')
        self.refresh()

    def refresh(self) -> None:
        """Show what is so now."""
        found = self._desk.feed.demotions()
        self._section.set_visibility(bool(found))
        if found == self._shown:
            return
        self._shown = found
        self._section.clear()
        with self._section:
            for demotion in found:
                self._entry(demotion)

    def _entry(self, demotion: Demotion) -> None:
        with ui.element("article").classes("demotion"):
            when = text.clock_time(demotion.at_ms * 1000, self._desk.clock.now_ms())
            with ui.element("div").classes("demotion-title"):
                ui.label("Demoted").classes("tag review")
                ui.label(f"{text.words(demotion.rule)}, a rule of {demotion.detector}, demoted itself at {when}")
            ui.label(text.demoted(demotion))
            with ui.element("details"):
                with ui.element("summary"):
                    ui.label("What to do")
                with ui.element("ol"):
                    for step in text.after_demotion(demotion):
                        with ui.element("li"):
                            ui.label(step)
