"""What is around every page: the bar at its top, the theme, the keys, the watch over the session."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

from nicegui import app, ui
from nicegui.events import KeyEventArguments

from tidegate.desk.session import Desk, Session, is_good, sign_out
from tidegate.governance.roles import Permission, may
from tidegate.ports.identity import Principal

#: How often it is asked whether the person may still be here.
SESSION_CHECK_S = 15

THEMES: Mapping[str, bool | None] = {"auto": None, "dark": True, "light": False}
_THEME_ICONS = {"auto": "brightness_auto", "dark": "dark_mode", "light": "light_mode"}
_THEME = "theme"

#: Keys that work on every page.
_KEYS: Mapping[str, tuple[str, Permission]] = {
    "?": ("These keys", "decisions:read"),
    "l": ("Live alerts", "alerts:read"),
    "d": ("Look up", "decisions:read"),
}


class Frame:
    """A page's frame. `keys` is what the page does by key, and who may do it."""

    def __init__(self, desk: Desk, session: Session, *, title: str, keys: Mapping[str, tuple[str, Permission]]) -> None:
        self._desk, self._session = desk, session
        ui.page_title(f"{title} · Tidegate")
        self._dark = ui.dark_mode(THEMES[chosen_theme()])
        self._bar(title)
        self._help = _help({**keys, **_KEYS}, session.principal)
        ui.keyboard(on_key=self._on_key, repeating=False)
        ui.timer(SESSION_CHECK_S, self._watch, immediate=False)

    @contextmanager
    def content(self, kind: str) -> Generator[None]:
        with ui.element("div").classes(f"page {kind}"):
            yield

    def _bar(self, title: str) -> None:
        principal = self._session.principal
        with ui.element("header").classes("bar"):
            with ui.element("a").classes("brand").props('href="/" aria-label="Tidegate, live alerts"'):
                ui.element("span").classes("brand-mark").props('aria-hidden="true"')
                ui.label("Tidegate")
            with ui.element("nav").props('aria-label="Pages"'):
                if may(principal, "alerts:read"):
                    _nav("Live", "/", current=title == "Live")
                _nav("Look up", "/decisions", current=title == "Look up")
            ui.element("span").classes("bar-space")
            keys = ui.element("button").classes("icon-button").props('type="button" aria-label="Keys" title="Keys (?)"')
            keys.on("click", self._open_help)
            with keys:
                ui.label("?").classes("key")
            with ui.element("button").classes("icon-button") as theme:
                theme.props('type="button" aria-label="Theme: auto, dark or light" title="Theme"')
                icon = ui.icon(_THEME_ICONS[chosen_theme()])
            theme.on("click", lambda: self._next_theme(icon))
            ui.label(principal.name).classes("who").props(f'title="{", ".join(sorted(principal.roles))}"')
            with ui.element("button").classes("quiet-button").props('type="button"') as leave:
                ui.label("Sign out")
            leave.on("click", self._leave)

    def _open_help(self) -> None:
        self._help.open()

    def _next_theme(self, icon: ui.icon) -> None:
        names = list(THEMES)
        theme = names[(names.index(chosen_theme()) + 1) % len(names)]
        app.storage.user[_THEME] = theme
        self._dark.set_value(THEMES[theme])
        icon.set_name(_THEME_ICONS[theme])

    async def _leave(self) -> None:
        await sign_out(self._desk, self._session)
        ui.navigate.to("/sign-in")

    def _watch(self) -> None:
        if not is_good(self._desk, self._session):
            ui.navigate.to("/sign-in")

    def _on_key(self, event: KeyEventArguments) -> None:
        if not event.action.keydown or event.modifiers.ctrl or event.modifiers.meta or event.modifiers.alt:
            return
        match event.key.name:
            case "?":
                self._open_help()
            case "l" if may(self._session.principal, "alerts:read"):
                ui.navigate.to("/")
            case "d":
                ui.navigate.to("/decisions")
            case _:
                pass


def button(label: str, kind: str, *, key: str | None = None) -> ui.element:
    """A button with, if it has one, its key beside it. `kind` is a class of the style sheet."""
    with ui.element("button").classes(f"button {kind}").props('type="button"') as element:
        ui.label(label)
        if key:
            ui.label(key).classes("key")
    return element


@contextmanager
def section(title: str) -> Generator[ui.element]:
    """A titled part of a page."""
    with ui.element("section").classes("card") as card:
        with ui.element("h2"):
            ui.label(title)
        yield card


def fact_list(found: Sequence[tuple[str, str]]) -> None:
    """Names and values, a pair a line."""
    with ui.element("dl").classes("facts"):
        for name, value in found:
            with ui.element("dt"):
                ui.label(name)
            with ui.element("dd"):
                ui.label(value)


def link(label: str, path: str, *, key: str | None = None) -> None:
    """A link to another page of the desk; `path` may hold what an event says, quoted."""
    element = ui.element("a").classes("quiet-link")
    element.props["href"] = path
    with element:
        ui.label(label)
        if key:
            ui.label(key).classes("key")


def _nav(label: str, path: str, *, current: bool) -> None:
    link = ui.element("a").props(f'href="{path}"')
    if current:
        link.props('aria-current="page"')
    with link:
        ui.label(label)


def _help(keys: Mapping[str, tuple[str, Permission]], principal: Principal) -> ui.dialog:
    with ui.dialog() as dialog, ui.element("div").classes("sheet"):
        ui.label("Keys").classes("sheet-title")
        with ui.element("dl").classes("keys"):
            for key, (meaning, permission) in keys.items():
                if not may(principal, permission):
                    continue
                with ui.element("dt"):
                    ui.label(key).classes("key")
                with ui.element("dd"):
                    ui.label(meaning)
    return dialog


def chosen_theme() -> str:
    """The person's own choice: auto (as the system has it), dark or light."""
    theme = app.storage.user.get(_THEME, "auto")
    return theme if theme in THEMES else "auto"
