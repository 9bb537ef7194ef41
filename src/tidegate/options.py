"""What several commands take and give: options, times, exit codes, JSON."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

#: Exit codes, the same for every command.
DONE, FOUND_WRONG, USED_WRONG = 0, 1, 2

#: Rows of an answer that are printed; `--json` prints all.
PRINTED_ROWS = 100

Data = Annotated[Path | None, typer.Option("--data", help="Folder of all state.", show_default="data")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for a program to read.")]


def instant(text: str) -> datetime:
    """A time; without an offset it is UTC."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"wanted a time such as 2026-03-01 or 2026-03-01T12:00:00Z; got {text!r}") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def print_json(value: object) -> None:
    """Print for a program."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()
