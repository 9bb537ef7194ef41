"""`tidegate mapping`: how the columns of a file become a stream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate.commands.files import StreamName
from tidegate.commands.options import AsJson, print_json

app = typer.Typer(help="Mappings: how the columns of a file become a stream.", no_args_is_help=True)


@app.command("suggest")
def suggest_mapping(
    file: Annotated[Path, typer.Argument(help="A file that nobody has mapped yet.", show_default=False)],
    stream: StreamName,
    as_json: AsJson = False,
) -> None:
    """Print a mapping for a file, by the names of its columns and its first rows: read it before you use it."""
    from tidegate.intake.suggest import suggest
    from tidegate.streams.schema import load_schema
    from tidegate.wiring import open_clock

    suggested = suggest(file, load_schema(stream), open_clock().now_ms() * 1000)
    if as_json:
        print_json(suggested)
    else:
        typer.echo(suggested.text, nl=False)
