"""What all commands share: options, exit codes, and how an answer is printed."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tidegate.errors import NotFoundError, UsageError
from tidegate.settings import Settings

if TYPE_CHECKING:
    from tidegate.hosts.together import Further
    from tidegate.ports.log import Log

#: Exit codes, the same for every command.
DONE, FOUND_WRONG, USED_WRONG = 0, 1, 2

Data = Annotated[Path | None, typer.Option("--data", help="Folder of all state.", show_default="data")]
By = Annotated[str, typer.Option("--as", help="Who does it: a person who may sign in. The password is asked for.")]
With = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        help="A file of another stream that is read: STREAM=FILE, or MAPPING=FILE; may be given again.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for a program to read.")]


def instant(text: str) -> datetime:
    """A time; without an offset it is UTC."""
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"wanted a time such as 2026-03-01 or 2026-03-01T12:00:00Z; got {text!r}") from None
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def log_of(settings: Settings, what: str) -> Log:
    """The log in a folder that is there; `what` names the command in the error.

    Raises:
        NotFoundError: there is no such folder.
    """
    from tidegate.wiring import open_log

    if not settings.data.exists():
        raise NotFoundError(f"{what}: there is no folder {settings.data}; name the one of the log with --data")
    return open_log(settings)


def further_of(texts: list[str] | None) -> list[Further]:
    """The files of `--with`.

    Raises:
        UsageError: one is not told as it should be.
        NotFoundError: there is no such stream, mapping or file.
        MappingError: the mapping does not fit.
    """
    from tidegate.files.mapping import own_columns, read_mapping
    from tidegate.hosts.together import Further
    from tidegate.streams.schema import load_schema

    found: list[Further] = []
    for text in texts or []:
        what, given, file = text.partition("=")
        if not given:
            raise UsageError(f"--with: wanted STREAM=FILE or MAPPING=FILE, got {text!r}")
        path = Path(file)
        mapping = read_mapping(Path(what)) if what.endswith((".yaml", ".yml")) else own_columns(load_schema(what), path)
        found.append(Further(path, mapping))
    return found


def print_json(value: object) -> None:
    """One line."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def progress_bar(what: str, *, hidden: bool, transient: bool = True) -> Progress:
    """For long work, on standard error."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=hidden, transient=transient)


def secret_of(name: str, *, empty: str | None = None) -> str:
    """Asked for at a terminal, read from a pipe otherwise; `empty` says what no answer does."""
    if sys.stdin.isatty():
        hint = f" (empty {empty})" if empty else ""
        return typer.prompt(
            f"Secret of {name}{hint}", hide_input=True, default="" if empty else None, show_default=False
        )
    return sys.stdin.readline().rstrip("\n")


def password_of(name: str, *, new: bool = False) -> str:
    """Asked for at a terminal, read from a pipe otherwise."""
    if sys.stdin.isatty():
        return typer.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=new)
    return sys.stdin.readline().rstrip("\n")
