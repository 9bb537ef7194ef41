"""The sign-in page: a plain form, which password managers know."""

from __future__ import annotations

from nicegui import ui

from tidegate.desk.frame import THEMES, chosen_theme
from tidegate.desk.session import local_path

_REFUSED = {
    "wrong": "No such name and password.",
    "locked": "Too many wrong passwords for this name. Wait half an hour, or have a new one set.",
}


def sign_in_page(wanted: str, refused: str) -> None:
    """`wanted` is where to go after, `refused` why the form is shown again ("" if it is shown first)."""
    ui.page_title("Sign in · Tidegate")
    ui.dark_mode(THEMES[chosen_theme()])
    with ui.element("div").classes("sign-in"), ui.element("form").props('method="post" action="/sign-in"') as form:
        form.classes("card")
        with ui.element("div").classes("brand"):
            ui.element("span").classes("brand-mark").props('aria-hidden="true"')
            ui.label("Tidegate")
        ui.label("The fraud desk").classes("muted")
        if refused in _REFUSED:
            ui.label(_REFUSED[refused]).classes("refused").props('role="alert"')
        _field("Name", "name", "text", "username", focus=True)
        _field("Password", "password", "password", "current-password")
        after = ui.element("input").props('type="hidden" name="next"')
        after.props["value"] = local_path(wanted)
        with ui.element("button").classes("button primary").props('type="submit"'):
            ui.label("Sign in")


def _field(label: str, name: str, kind: str, autocomplete: str, *, focus: bool = False) -> None:
    with ui.element("label").classes("form-line"):
        ui.label(label)
        field = ui.element("input").classes("field")
        field.props(f'name="{name}" type="{kind}" autocomplete="{autocomplete}" required')
        if focus:
            field.props("autofocus")
