"""The front door: every command. Each imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import re
import signal
import sys
import threading
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidegate.commands.detector import app as detector_app
from tidegate.commands.explain import explain
from tidegate.commands.files import ingest
from tidegate.commands.flink import app as flink_app
from tidegate.commands.lists import app as list_app
from tidegate.commands.mapping import app as mapping_app
from tidegate.commands.options import (
    FOUND_WRONG,
    USED_WRONG,
    AsJson,
    Data,
    With,
    further_of,
    instant,
    log_of,
    password_of,
    print_json,
    progress_bar,
)
from tidegate.commands.parity import parity
from tidegate.commands.rejected import app as rejected_app
from tidegate.commands.source import app as source_app
from tidegate.commands.webhook import app as webhook_app
from tidegate.errors import StateError, TidegateError
from tidegate.ports.identity import Role
from tidegate.signals import stop_on

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows of an answer that are printed; `--json` prints all.
PRINTED_ROWS = 100

_UNITS_S = {"s": 1, "m": 60, "h": 3600}

app = typer.Typer(
    name="tidegate",
    help="Finds payment fraud while the payment is still in flight.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
user_app = typer.Typer(help="People who may sign in.", no_args_is_help=True)
app.add_typer(detector_app, name="detector")
app.add_typer(user_app, name="user")
app.add_typer(source_app, name="source")
app.add_typer(webhook_app, name="webhook")
app.add_typer(list_app, name="list")
app.add_typer(flink_app, name="flink")
app.add_typer(mapping_app, name="mapping")
app.add_typer(rejected_app, name="rejected")
app.command()(explain)
app.command()(ingest)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text)
    if not match:
        raise typer.BadParameter(f"wanted a number and a unit, such as 60s, 5m or 1h; got {text!r}")
    return float(match[1]) * _UNITS_S[match[2]]


@app.command()
def demo(
    data: Data = None,
    duration: Annotated[float | None, typer.Option(parser=_seconds, help="Stop after, e.g. 60s.")] = None,
    headless: Annotated[bool, typer.Option("--headless", help="No live display.")] = False,
    as_json: AsJson = False,
    rate: Annotated[float, typer.Option(min=1, help="Events per second that the company sends.")] = 200,
    fraud_share: Annotated[float, typer.Option(min=0, max=1, help="Share of transactions that are fraud.")] = 0.01,
    spoiled_share: Annotated[float, typer.Option(min=0, max=1, help="Share of events spoiled on purpose.")] = 0.002,
    seed: Annotated[int, typer.Option(help="Another seed, another company.")] = 1,
    door_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the door; 0: a free one.")] = None,
    desk_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the desk; 0: a free one.")] = None,
) -> None:
    """Run the whole company on this machine, with live simulated sources, until Ctrl-C."""
    from tidegate.demo import Demo, Play, show_live, show_nothing
    from tidegate.settings import read_settings

    settings = read_settings(data=data, door_port=door_port, desk_port=desk_port)
    run = Demo(settings, Play(rate, fraud_share, spoiled_share, seed), Console(stderr=as_json or headless))
    summary = run.run(duration, show=show_nothing if headless or as_json else show_live)
    if as_json:
        print_json(summary)
    else:
        typer.echo(
            f"{summary['events']['in']:,} events taken, {summary['decisions']:,} decisions, "
            f"{summary['alerts']:,} alerts; all of it is in {settings.data}, where the next run goes on."
        )


@app.command()
def up(
    data: Data = None,
    as_json: AsJson = False,
    door_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the door; 0: a free one.")] = None,
    desk_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the desk; 0: a free one.")] = None,
) -> None:
    """Run the same parts as services, without simulated sources, until Ctrl-C or SIGTERM."""
    from tidegate.settings import read_settings
    from tidegate.supervisor import addresses, running
    from tidegate.wiring import free_ports

    stop = threading.Event()
    stop_on(stop, signal.SIGINT, signal.SIGTERM)
    settings = free_ports(read_settings(data=data, door_port=door_port, desk_port=desk_port))
    urls = addresses(settings)
    with running(settings, lambda text: typer.echo(text, err=True), stop):
        if as_json:
            print_json({"urls": urls})
        else:
            typer.echo(f"door  {urls['door']}\ndesk  {urls['desk']}\nCtrl-C stops.")
        stop.wait()


@app.command(hidden=True)
def service() -> None:
    """Run one service, which a supervisor names on standard input."""
    from tidegate.services import run_service
    from tidegate.supervisor import Start

    start = msgspec.json.decode(sys.stdin.buffer.readline(), type=Start)
    run_service(start.service, start.settings, start.extra)


@app.command()
def replay(
    source: Annotated[Path, typer.Argument(help="A file: Parquet, ORC, Avro, CSV, JSON lines.")],
    mapping: Annotated[Path, typer.Option(help="How the file's columns become a stream (YAML).")],
    detector: Annotated[Path, typer.Option(help="The detector's folder.")],
    out: Annotated[Path, typer.Option(help="The Parquet file to write: a row a decision.")],
    since: Annotated[datetime | None, typer.Option(parser=instant, help="First event time.")] = None,
    until: Annotated[datetime | None, typer.Option(parser=instant, help="First event time left out.")] = None,
    order: Annotated[Literal["time", "file"], typer.Option(help="Feed by event time, or as the file stands.")] = "time",
    further: With = None,
    state: Annotated[Path | None, typer.Option(help="Folder of checkpoints: killed, it goes on from there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Decide over a file: every feature, rule, score and outcome, equal to what would have been decided live."""
    from tidegate.files.mapping import read_mapping
    from tidegate.hosts.replay import replay as run
    from tidegate.kernel.arrivals import LABELS
    from tidegate.wiring import read_detector

    read, others = read_detector(detector), further_of(further)
    given = [LABELS, read.stream.name, *(file.mapping.schema.name for file in others)]
    if missing := [stream for stream in read.streams if stream not in given]:
        typer.echo(
            f"{read.name} also reads {', '.join(missing)}, which stay empty: --with gives files of them", err=True
        )
    with progress_bar("replay", hidden=as_json, transient=False) as progress:
        task = progress.add_task("replay", total=None)
        summary = run(
            source,
            read_mapping(mapping),
            read,
            out,
            since=since,
            until=until,
            order=order,
            further=others,
            state=state,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(summary)
    else:
        rate = (summary.tally.events - summary.resumed_at) / summary.seconds if summary.seconds else 0
        outcomes = ", ".join(f"{outcome} {count:,}" for outcome, count in summary.tally.outcomes.items())
        typer.echo(f"{summary.tally.events:,} events in {summary.seconds:.1f} s ({rate:,.0f}/s): {outcomes}. {out}")


app.command()(parity)


@app.command()
def train(
    decided: Annotated[Path, typer.Argument(help="What a replay of the detector over the source wrote.")],
    source: Annotated[Path, typer.Option(help="The file that was replayed: its labels are learned from.")],
    mapping: Annotated[Path, typer.Option(help="How the file's columns become a stream (YAML).")],
    detector: Annotated[Path, typer.Option(help="The detector's folder; the model goes into its folder `model`.")],
    since: Annotated[datetime, typer.Option(parser=instant, help="First day learned from.")],
    until: Annotated[datetime, typer.Option(parser=instant, help="First day no longer learned from.")],
    name: Annotated[str, typer.Option(help="The model's name.")],
    version: Annotated[str, typer.Option(help="Its version.")],
    as_json: AsJson = False,
) -> None:
    """Train a model on a detector's features, test it on the days whose labels were not known yet, write its card."""
    from tidegate.files.mapping import read_mapping
    from tidegate.science.train import train as run
    from tidegate.wiring import read_detector

    trained = run(
        decided,
        source,
        read_mapping(mapping),
        read_detector(detector),
        detector / "model",
        since=since,
        until=until,
        name=name,
        version=version,
    )
    if as_json:
        print_json(trained)
    else:
        metrics = trained.metrics
        typer.echo(
            f"learned from {trained.trained_on:,} payments ({trained.trained_frauds:,} frauds), tested on "
            f"{trained.tested_on:,} ({trained.tested_frauds:,}): AUC ROC {metrics.auc_roc:.3f}, average precision "
            f"{metrics.average_precision:.3f}, card precision {metrics.card_precision_100:.3f}. {trained.file}"
        )


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT, in DuckDB's SQL, over raw.* and curated.*.")],
    data: Data = None,
    as_of: Annotated[datetime | None, typer.Option(parser=instant, help="The lake as it was at this time.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the lake."""
    from tidegate.settings import read_settings
    from tidegate.wiring import open_lake

    answer = open_lake(read_settings(data=data)).query(query, as_of)
    if as_json:
        print_json(answer.to_pylist())
    else:
        _print_table(answer)


def _print_table(answer: pa.Table) -> None:
    table = Table()
    for name in answer.column_names:
        table.add_column(name)
    for row in answer.slice(0, PRINTED_ROWS).to_pylist():
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    console = Console()
    console.print(table, markup=False)
    if answer.num_rows > PRINTED_ROWS:
        console.print(f"{PRINTED_ROWS} of {answer.num_rows:,} rows; --json prints all")


@user_app.command("add")
def add_user(
    name: Annotated[str, typer.Argument(help="The name to sign in with.")],
    role: Annotated[Role, typer.Option(help="What they may do.")],
    data: Data = None,
) -> None:
    """Add a person, or give one a new password. The password is asked for, or read from a pipe."""
    from tidegate.settings import read_settings
    from tidegate.wiring import open_identity

    identity = open_identity(read_settings(data=data))
    identity.add_user(name, password_of(name, new=True), frozenset({role}))
    typer.echo(f"{name} may sign in as {role}.")


@app.command()
def verify(
    event_id: Annotated[str | None, typer.Argument(help="The event whose decisions are checked.")] = None,
    data: Data = None,
    every: Annotated[bool, typer.Option("--all", help="Check all decisions that the log holds.")] = False,
    sample: Annotated[int | None, typer.Option(min=1, help="Check so many, evenly over the log.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prove decisions: decide them again from the log and compare; look whether their revisions amend what they say.
    Exit code 1: one does not hold; 2: the event is not known, or nothing could be told.
    """
    from tidegate.hosts.promotion import first_detectors
    from tidegate.hosts.verify import Tally
    from tidegate.hosts.verify import verify as run
    from tidegate.hosts.verify_revisions import verify_revisions
    from tidegate.settings import read_settings
    from tidegate.wiring import open_models

    if (event_id is None) == (not every and sample is None):
        raise typer.BadParameter("wanted either an event's id, or --all, or --sample and a number")
    log, models = log_of(read_settings(data=data), "verify"), open_models()
    tally = Tally(told=event_id is not None)
    with progress_bar("verify", hidden=as_json) as progress:
        task = progress.add_task("verify", total=None)
        chosen = None if event_id is None else {event_id}
        decided = run(
            log,
            first_detectors(log, models),
            event_ids=chosen,
            sample=sample,
            models=models,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
        for verdict in chain(decided, verify_revisions(log, chosen) if sample is None else ()):
            tally.add(verdict)
    if as_json:
        print_json(tally)
    else:
        typer.echo("\n".join(tally.lines()))
    if tally.wrong:
        raise typer.Exit(FOUND_WRONG)
    if not tally.hold:
        raise typer.Exit(USED_WRONG)


@app.command()
def doctor(data: Data = None, as_json: AsJson = False) -> None:
    """Say what is missing, what is damaged, and how to mend it."""
    from tidegate.doctor import examine
    from tidegate.settings import read_settings

    findings = examine(read_settings(data=data))
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            typer.echo(f"{'ok   ' if finding.well else 'WRONG'}  {finding.what}: {finding.says}")
    if not all(finding.well for finding in findings):
        raise typer.Exit(FOUND_WRONG)


def main() -> None:
    """Run a command; an error of ours is one message and an exit code, never a stack trace."""
    try:
        app()
    except TidegateError as error:
        typer.echo(f"tidegate: {error}", err=True)
        sys.exit(FOUND_WRONG if isinstance(error, StateError) else USED_WRONG)


if __name__ == "__main__":
    main()
