"""`tidegate rejected`: what could not be taken, by cause; opened, mended and tried again."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tidegate.commands.options import FOUND_WRONG, AsJson, By, Data, log_of, password_of, print_json
from tidegate.errors import DamagedError, NotFoundError, UsageError
from tidegate.settings import Settings, read_settings

if TYPE_CHECKING:
    from tidegate.governance.roles import Permission
    from tidegate.intake.envelopes import Envelopes
    from tidegate.intake.rejected import Kept

app = typer.Typer(help="Events that were rejected: why, what they were, and once more.", no_args_is_help=True)

Stream = Annotated[str | None, typer.Option("--stream", help="Of this stream alone.")]
File = Annotated[str | None, typer.Option("--file", help="Of this file alone, by its name.")]
Cause = Annotated[str | None, typer.Option("--cause", help="Whose reason holds this text.")]
EventId = Annotated[str, typer.Argument(help="The rejected event, as `tidegate rejected list` names it.")]

#: What makes a spreadsheet take a cell for a formula: such a cell is exported with an apostrophe before it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@app.command("list")
def list_rejected(stream: Stream = None, file: File = None, data: Data = None, as_json: AsJson = False) -> None:
    """Count what was rejected, by cause."""
    from tidegate.intake.rejected import causes

    found = causes(_kept(read_settings(data=data), stream, file, None))
    if as_json:
        print_json(found)
        return
    for cause in found:
        last = datetime.fromtimestamp(cause.last_ms / 1000, UTC)
        files = f" in {', '.join(cause.files)}" if cause.files else ""
        typer.echo(
            f"{cause.events:,}  {cause.stream}  {cause.reason}{files}; last {last:%Y-%m-%d %H:%M}, {cause.example}"
        )
    typer.echo(f"{sum(cause.events for cause in found):,} events were rejected and not taken since.")


@app.command("show")
def show_rejected(event_id: EventId, by: By, data: Data = None) -> None:
    """Show the original of one, in the name of a person who may reveal personal values; goes into the audit trail."""
    from tidegate.intake.protect import open_rejected
    from tidegate.intake.rejected import one
    from tidegate.wiring import open_envelopes

    settings = read_settings(data=data)
    _put_on_record(settings, by, "personal:reveal", "reveal rejected", event_id)
    event = one(_kept(settings, None, None, None), event_id)
    original = open_rejected(open_envelopes(settings), event.rejected)
    typer.echo(f"{event.told.step}: {event.told.reason}")
    typer.echo(original.decode("utf-8", "replace"))


@app.command("retry")
def retry_rejected(
    by: By,
    stream: Stream = None,
    file: File = None,
    cause: Cause = None,
    mapping: Annotated[
        Path | None, typer.Option(help="The mended mapping, for rows of files and messages of webhooks (YAML).")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Try again what was rejected, after a mapping or a schema was mended. Exit code 1: some are refused again."""
    from tidegate.files.mapping import read_mapping
    from tidegate.intake.rejected import retry
    from tidegate.wiring import open_clock, open_envelopes

    settings = read_settings(data=data)
    read = read_mapping(mapping) if mapping else None
    chosen = read.schema.name if read and stream is None else stream
    told = f"{chosen or 'all streams'} {file or ''} {cause or ''}".strip()
    _put_on_record(settings, by, "rejected:retry", "retry rejected", told)
    events = _kept(settings, chosen, file, cause)
    log = log_of(settings, "rejected")
    tally = retry(log, open_envelopes(settings), open_clock(), events, by=by, mapping=read)
    if as_json:
        print_json(tally)
    else:
        left = f", {tally.left:,} have no original here: take their files again" if tally.left else ""
        typer.echo(f"{tally.taken:,} taken, {tally.refused:,} refused again{left}.")
    if tally.refused:
        raise typer.Exit(FOUND_WRONG)


@app.command("export")
def export_rejected(
    out: Annotated[Path, typer.Argument(help="The file to write: *.csv, or *.jsonl.")],
    by: By,
    stream: Stream = None,
    file: File = None,
    cause: Cause = None,
    data: Data = None,
) -> None:
    """Write what was rejected with its originals, in the name of a person who may reveal personal values."""
    from tidegate.wiring import open_envelopes

    settings = read_settings(data=data)
    if out.suffix not in (".csv", ".jsonl"):
        raise UsageError(f"export {out}: wanted a file named *.csv or *.jsonl")
    told = f"{stream or 'all streams'} {file or ''} {cause or ''}".strip()
    _put_on_record(settings, by, "personal:reveal", "export rejected", f"{told} to {out.name}")
    envelopes = open_envelopes(settings)
    rows = [_row(envelopes, event) for event in _kept(settings, stream, file, cause)]
    with out.open("w", encoding="utf-8", newline="") as written:
        if out.suffix == ".csv":
            table = csv.DictWriter(written, list(rows[0]) if rows else [])
            table.writeheader()
            table.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
        else:
            written.writelines(json.dumps(row) + "\n" for row in rows)
    typer.echo(f"{len(rows):,} events. {out}")


def _row(envelopes: Envelopes, event: Kept) -> dict[str, Any]:
    from tidegate.intake.protect import open_rejected

    rejected = event.rejected
    try:
        original = open_rejected(envelopes, rejected).decode("utf-8", "replace")
    except (NotFoundError, DamagedError) as error:
        original = f"[{error}]"
    return {
        "id": event.id,
        "stream": rejected.stream,
        "step": event.told.step,
        "field": event.told.field,
        "reason": event.told.reason,
        "source": rejected.source,
        "file": rejected.file,
        "row": rejected.row,
        "accepted_ms": rejected.accepted_ms,
        "original": original,
    }


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _kept(settings: Settings, stream: str | None, file: str | None, cause: str | None) -> list[Kept]:
    from tidegate.intake.rejected import kept

    log = log_of(settings, "rejected")
    found: Iterable[Kept] = kept(log)
    log.close()
    return [
        event
        for event in found
        if stream in (None, event.rejected.stream)
        and file in (None, event.rejected.file)
        and (cause is None or cause in (event.told.reason or ""))
    ]


def _put_on_record(settings: Settings, by: str, permission: Permission, what: str, on: str) -> None:
    """Let through whoever may, told to the audit trail before it is done.

    Raises:
        AccessError: no such name and password, or the person may not.
    """
    from tidegate.governance.roles import require
    from tidegate.ports.audit import AuditEntry
    from tidegate.wiring import open_audit, open_clock, open_identity

    identity, audit, clock = open_identity(settings), open_audit(settings), open_clock()
    outcome: Literal["done", "refused"] = "refused"
    try:
        require(identity.who(identity.sign_in(by, password_of(by))), permission)
        outcome = "done"
    finally:
        told = AuditEntry(time_ms=clock.now_ms(), who=by, what=what, on=on, where="terminal", outcome=outcome)
        audit.write(told)
