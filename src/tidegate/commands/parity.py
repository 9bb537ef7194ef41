"""`tidegate parity`: the same events through several hosts, every decision compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tidegate.commands.options import FOUND_WRONG, AsJson, print_json, progress_bar

_HOSTS = ("local", "kafka", "flink", "replay")


def _names(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    if len(names) < 2 or not set(names) <= set(_HOSTS):  # noqa: PLR2004 - one alone has nothing to differ from
        raise typer.BadParameter(
            f"--hosts: wanted two or more of {', '.join(_HOSTS)} with commas between, got {text!r}"
        )
    return names


def parity(
    source: Annotated[Path, typer.Argument(help="A Parquet, CSV or JSON-lines file.")],
    mapping: Annotated[Path, typer.Option(help="How the file's columns become a stream (YAML).")],
    detector: Annotated[Path, typer.Option(help="The detector's folder.")],
    hosts: Annotated[
        str,
        typer.Option(help="`local`, `kafka`, `flink`, `replay`, with commas; compared with the first."),
    ] = "local,replay",
    order: Annotated[Literal["time", "file"], typer.Option(help="Feed by event time, or as the file stands.")] = "time",
    as_json: AsJson = False,
) -> None:
    """Decide the same events in several hosts and compare every decision, bit by bit. `kafka` wants TIDEGATE_LOG,
    `flink` TIDEGATE_FLINK too.
    """
    from tidegate.files.mapping import read_mapping
    from tidegate.hosts.parity import Rows, append_events, compare, decide_file, decide_in_flink, decide_log
    from tidegate.settings import read_settings
    from tidegate.wiring import (
        flink_submission,
        open_clock,
        open_flink,
        open_models,
        read_detector,
        read_detector_texts,
        scratch,
    )

    names = _names(hosts)
    settings, mapped, read = read_settings(), read_mapping(mapping), read_detector(detector)
    decided: dict[str, Rows] = {}
    for host in names:
        with progress_bar(host, hidden=as_json) as bar:
            task = bar.add_task(host, total=None)

            def tell(done: int, total: int | None) -> None:
                bar.update(task, completed=done, total=total)  # noqa: B023 - told within this turn of the loop

            if host == "replay":
                decided[host] = decide_file(source, mapped, read, order=order, progress=tell)
                continue
            with scratch(settings, "local" if host == "local" else "kafka") as (own, log, snapshots):
                append_events(log, source, mapped, order=order, progress=tell)
                if host == "flink":
                    job = flink_submission(own, {read.name: read_detector_texts(detector)})
                    decided[host] = decide_in_flink(log, open_flink(own), job, read)
                else:
                    decided[host] = decide_log(log, snapshots, read, open_clock(), open_models())
    found = compare(decided)
    if as_json:
        print_json(found)
    else:
        for host, rows in found.rows.items():
            columns = ", ".join(f"{name} {count:,}" for name, count in found.mismatches.get(host, {}).items())
            typer.echo(f"{host:<8} {rows:,} decisions{f', that differ in {columns}' if columns else ''}")
        if found.first is not None:
            differs = found.first
            typer.echo(
                f"first: event {differs.event_id}, {differs.column}: {differs.expected!r}, "
                f"in {differs.host} {differs.found!r}"
            )
        typer.echo("They decide the same." if found.holds else "They don't decide the same.")
    if not found.holds:
        raise typer.Exit(FOUND_WRONG)
