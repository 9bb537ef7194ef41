"""The verdict: fraud or genuine, with a reason, sent to the door."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from nicegui import ui

from tidegate.desk.frame import button
from tidegate.desk.session import Desk, Session
from tidegate.errors import TidegateError

#: Reasons that are one click away; an analyst may write her own.
_FRAUD_REASONS = ("Stolen card", "Card testing", "Account takeover", "Customer disputes it")
_GENUINE_REASONS = ("Customer confirmed", "Usual merchant", "Known travel", "Known device")

#: As long as one line: the case's story belongs elsewhere.
_REASON_CHARS = 200


class VerdictDialog:
    """Asks for confirmation and a reason; `given` is called with (event id, is_fraud) once the door took it."""

    def __init__(self, desk: Desk, session: Session, given: Callable[[str, bool], None]) -> None:
        self._desk, self._session, self._given = desk, session, given
        self._dialog = ui.dialog()

    @property
    def is_open(self) -> bool:
        return self._dialog.value

    def ask(self, event_id: str, *, is_fraud: bool, summary: str) -> None:
        # One id for all attempts: an answer that got lost on its way and is asked for again counts once.
        verdict_id = str(uuid.uuid4())
        word = "fraud" if is_fraud else "genuine"

        def suggest(suggestion: str) -> Callable[[], object]:
            return lambda: reason.set_value(suggestion)

        async def put_on_record(*, done: bool) -> None:
            session = self._session
            await self._desk.put_on_record(
                "verdict", who=session.principal.name, on=event_id, where=session.where, done=done
            )

        async def send() -> None:
            confirm.props(add="disabled")
            try:
                await self._desk.door.give_verdict(
                    self._session.token,
                    event_id,
                    verdict_id=verdict_id,
                    is_fraud=is_fraud,
                    reason=(reason.value or "").strip()[:_REASON_CHARS],
                    now_ms=self._desk.clock.now_ms(),
                )
            except TidegateError as error:
                await put_on_record(done=False)
                refused.set_text(str(error))
                refused.set_visibility(True)
                confirm.props(remove="disabled")
                return
            await put_on_record(done=True)
            self._dialog.close()
            ui.notify(f"Recorded as {word}", type="positive", position="bottom")
            self._given(event_id, is_fraud)

        self._dialog.clear()
        with self._dialog, ui.element("div").classes("sheet verdict-sheet"):
            ui.label(f"Mark as {word}").classes(f"sheet-title {word}")
            ui.label(summary).classes("muted")
            with ui.element("div").classes("chips"):
                for suggestion in _FRAUD_REASONS if is_fraud else _GENUINE_REASONS:
                    with ui.element("button").classes("chip").props('type="button"') as chip:
                        ui.label(suggestion)
                    chip.on("click", suggest(suggestion))
            reason = ui.input(placeholder="Reason, without personal data").props(
                f"aria-label=Reason autofocus outlined dense maxlength={_REASON_CHARS}"
            )
            reason.classes("verdict-reason").on("keydown.enter", send)
            refused = ui.label().classes("refused").props('role="alert"')
            refused.set_visibility(False)
            with ui.element("div").classes("sheet-actions"):
                button("Cancel", "plain", key="Esc").on("click", self._dialog.close)
                confirm = button(f"Mark as {word}", word, key="↵").on("click", send)
        self._dialog.open()
