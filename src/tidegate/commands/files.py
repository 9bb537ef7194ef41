"""`tidegate ingest`: files go into a stream, the way of the door."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from tidegate.commands.options import FOUND_WRONG, AsJson, Data, print_json, progress_bar
from tidegate.errors import NotFoundError, UsageError

StreamName = Annotated[str, typer.Option("--stream", help="The stream that the rows become events of.")]


def ingest(
    source: Annotated[str, typer.Argument(help="A file, a folder, or an http(s) address.", show_default=False)],
    stream: StreamName,
    mapping: Annotated[
        Path | None,
        typer.Option(help="How the file's columns become the stream (YAML); without: they have its fields' names."),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Take files into a stream, exactly once by file and row; killed, it goes on where it was. Exit code 1: a file was
    refused.
    """
    from tidegate.files.mapping import read_mapping
    from tidegate.intake.ingest import Ingest
    from tidegate.settings import read_settings
    from tidegate.streams.schema import load_schema
    from tidegate.wiring import open_clock, open_envelopes, open_log

    load_schema(stream)
    read = read_mapping(mapping) if mapping else None
    if read and read.schema.name != stream:
        raise UsageError(f"mapping {read.name}: makes {read.schema.name}, wanted {stream}")
    settings = read_settings(data=data)
    with _found(source) as files, progress_bar("ingest", hidden=as_json) as progress:
        # The key ring is made before the processes that decode open it.
        log, _ = open_log(settings), open_envelopes(settings).close()
        task = progress.add_task("ingest", total=None)
        taking = Ingest(
            log,
            open_clock(),
            partial(open_envelopes, settings),
            stream=stream,
            mapping=(read.name, read.text) if read else None,
            workers=len(os.sched_getaffinity(0)),
            progress=lambda _, done, total: progress.update(task, completed=done, total=total),
        )
        try:
            results = [taking.take(file) for file in files]
        finally:
            taking.close()
            log.close()
    totals = {name: sum(getattr(result, name) for result in results) for name in ("taken", "rejected", "duplicates")}
    if as_json:
        print_json({**totals, "files": results})
    else:
        for result in results:
            typer.echo(f"{result.file}: {result.state}, {_told(msgspec.structs.asdict(result))}")
        typer.echo(f"{len(results):,} files: {_told(totals)}.")
    if any(result.state == "refused" for result in results):
        raise typer.Exit(FOUND_WRONG)


def _told(counts: dict[str, Any]) -> str:
    if counts.get("reason"):
        return counts["reason"]
    return f"{counts['taken']:,} rows taken ({counts['duplicates']:,} there before), {counts['rejected']:,} rejected"


@contextmanager
def _found(source: str) -> Generator[list[Path]]:
    """The files that a source names: itself, those of a folder, or what an address gives, for as long as it is needed.

    Raises:
        NotFoundError: there is nothing.
    """
    if "://" in source:
        from tidegate.intake.fetch import fetch

        with tempfile.TemporaryDirectory(prefix="tidegate-") as folder:
            yield [fetch(source, Path(folder))]
    elif (path := Path(source)).is_dir():
        yield list(_within(path))
    elif path.is_file():
        yield [path]
    else:
        raise NotFoundError(f"ingest {source}: there is no such file or folder")


def _within(folder: Path) -> Iterator[Path]:
    """The files of a folder and of those in it, in the order of their names. Links are passed over, they may lead
    anywhere; hidden files too: they are somebody's who is still writing them.
    """
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.is_symlink():
            continue
        if path.is_dir():
            yield from _within(path)
        elif path.is_file():
            yield path
