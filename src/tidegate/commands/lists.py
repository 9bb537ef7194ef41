"""`tidegate list`: what is put on lists, and what is on them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate.commands.options import (
    FOUND_WRONG,
    AsJson,
    By,
    Data,
    instant,
    log_of,
    password_of,
    print_json,
    progress_bar,
)

app = typer.Typer(help="Lists: deny, allow, watch, or whatever a detector joins.", no_args_is_help=True)

#: Things on a list that are printed; `--json` prints all.
PRINTED = 100

Kind = Annotated[str, typer.Argument(help="What it is: device_id, pan, email, ip, country, ...")]
ListName = Annotated[str, typer.Argument(help="The list's name.")]
Reason = Annotated[str | None, typer.Option(help="Why.")]
DoorPort = Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the door.")]


@app.command("import")
def import_list(
    file: Annotated[Path, typer.Argument(help="CSV with a header, or JSON lines: one thing a line.")],
    name: Annotated[str, typer.Option("--list", help="The list's name.")],
    by: By,
    version: Annotated[
        str | None, typer.Option(help="The same entry of one version counts once.", show_default="the file's time")
    ] = None,
    data: Data = None,
    door_port: DoorPort = None,
    as_json: AsJson = False,
) -> None:
    """Put what a file holds on a list, through the door. Broken off and called again, each line counts once."""
    from tidegate.lists import read_entries

    entries = read_entries(file)
    if version is None and file.is_file():
        version = datetime.fromtimestamp(file.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    _change_list(name, entries, version or "", by=by, data=data, door_port=door_port, as_json=as_json)


@app.command("add")
def add_to_list(
    name: ListName,
    kind: Kind,
    value: Annotated[str, typer.Argument(help="The thing itself.")],
    by: By,
    expires: Annotated[datetime | None, typer.Option(parser=instant, help="From when on it is off again.")] = None,
    reason: Reason = None,
    data: Data = None,
    door_port: DoorPort = None,
    as_json: AsJson = False,
) -> None:
    """Put one thing on a list, through the door."""
    entry = {kind: value, "expires_at": expires.isoformat() if expires else None, "reason": reason}
    version = datetime.now(UTC).isoformat()
    _change_list(name, iter([entry]), version, by=by, data=data, door_port=door_port, as_json=as_json)


@app.command("remove")
def remove_from_list(
    name: ListName,
    kind: Kind,
    value: Annotated[str, typer.Argument(help="The thing itself.")],
    by: By,
    reason: Reason = None,
    data: Data = None,
    door_port: DoorPort = None,
    as_json: AsJson = False,
) -> None:
    """Take one thing off a list, through the door."""
    entry = {kind: value, "removed": True, "reason": reason}
    version = datetime.now(UTC).isoformat()
    _change_list(name, iter([entry]), version, by=by, data=data, door_port=door_port, as_json=as_json)


def _change_list(
    name: str,
    entries: Iterator[dict[str, Any]],
    version: str,
    *,
    by: str,
    data: Path | None,
    door_port: int | None,
    as_json: bool,
) -> None:
    from tidegate.lists import Door
    from tidegate.settings import read_settings
    from tidegate.supervisor import addresses

    settings = read_settings(data=data, door_port=door_port)
    password = password_of(by)
    with progress_bar("list", hidden=as_json) as progress:
        task = progress.add_task("list", total=None)
        door = Door(addresses(settings)["door"], by, password)
        sent = door.change(name, entries, version, lambda done: progress.update(task, completed=done))
        door.close()
    if as_json:
        print_json(sent)
    else:
        for told in sent.told:
            typer.echo(told)
        typer.echo(f"{name}: {sent.taken:,} taken, {sent.again:,} there already, {sent.refused:,} refused.")
    if sent.refused:
        raise typer.Exit(FOUND_WRONG)


@app.command("show")
def show_list(name: ListName, data: Data = None, as_json: AsJson = False) -> None:
    """Show what is on a list now. Personal things are shown as their tokens."""
    from tidegate.lists import standing
    from tidegate.settings import read_settings
    from tidegate.wiring import open_clock

    found = standing(log_of(read_settings(data=data), "list"), name, open_clock().now_ms() * 1000)
    if as_json:
        print_json([each._asdict() for each in found])
    else:
        for each in found[-PRINTED:]:
            since, until = (
                f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d %H:%M}" if time_us else ""
                for time_us in (each.since, each.expires_at)
            )
            typer.echo(f"{each.kind}  {each.value}  {since}  {until}  {each.reason or ''}  {each.added_by or ''}")
        typer.echo(f"{name}: {len(found):,} on it.")
