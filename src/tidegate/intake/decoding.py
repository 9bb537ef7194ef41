"""What the worker processes of an ingest do: rows of a file go the way of the door, up to the log.

A worker holds no more than its limit of memory, and what a hostile file does to a library ends the worker, not the
ingest. Each goes through the whole file and prepares every n-th chunk: what it passes over costs little beside what it
prepares, and nothing has to be handed from process to process but what is ready to be written.
"""

from __future__ import annotations

import contextlib
import resource
import traceback
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, cast

import pyarrow as pa

from tidegate.errors import DecodeError, EventError, MappingError, OverloadError, TidegateError
from tidegate.files.columnar import rows_of
from tidegate.files.mapped import Mapper
from tidegate.files.mapping import parse_mapping
from tidegate.files.rows import Chunk, Row, Rows, check_file, open_rows
from tidegate.intake.bare import bare
from tidegate.intake.decode import Decoded, decode, stripped, too_large
from tidegate.intake.envelopes import Envelopes
from tidegate.intake.limits import MAX_EVENT_BYTES, MAX_WORKER_BYTES
from tidegate.intake.prepare import Origin, Preparer
from tidegate.intake.protect import Protected
from tidegate.intake.sensitive import is_sensitive_name
from tidegate.ports.log import Entry
from tidegate.streams.rejected import Step


class Check(NamedTuple):
    """Go through all of a file. Answered by `Seen`, how many rows it has so far, the last time all."""

    path: Path


class Take(NamedTuple):
    """Prepare the rows of a file from `start` on: of the chunks from there on those whose number is `turn` modulo
    `turns`. Answered by a `Prepared` for each.
    """

    path: Path
    stream: str
    mapping: tuple[str, bytes] | None
    """Its name and its text."""
    source: str
    file: str
    digest: str
    start: int
    turn: int
    turns: int


class Seen(NamedTuple):
    rows: int


class Prepared(NamedTuple):
    """A chunk that is ready to be written."""

    rows: int
    rejected: int
    entries: list[Entry]


class Failed(NamedTuple):
    """The file cannot be read, or the mapping does not fit it."""

    step: Step
    reason: str


class Full(NamedTuple):
    """There is no room for what is large."""

    reason: str
    retry_after_s: int


Task = Check | Take
Answer = Seen | Prepared | Failed | Full | None
"""None ends the answers to a task, or `Failed`, or `Full`."""


def work(link: Connection, open_envelopes: Callable[[], Envelopes], now_ms: Callable[[], int]) -> None:
    """Do what comes over the link until it is closed."""
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_WORKER_BYTES, MAX_WORKER_BYTES))
    # Each worker is one of several on the machine's cores.
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    envelopes = open_envelopes()
    preparer = Preparer(envelopes)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task = cast("Task", link.recv())
            link.send(_last_answer(link, task, preparer, envelopes, now_ms))
    envelopes.close()


def _last_answer(
    link: Connection, task: Task, preparer: Preparer, envelopes: Envelopes, now_ms: Callable[[], int]
) -> Failed | Full | None:
    """Answer a task up to the last answer, which is returned."""
    try:
        for answer in _answers(task, preparer, now_ms):
            # What an answer tells of is written as soon as it is there.
            envelopes.sync()
            link.send(answer)
    except OSError:
        raise
    except OverloadError as error:
        return Full(str(error), error.retry_after_s)
    except TidegateError as error:
        return Failed("map" if isinstance(error, MappingError) else "decode", str(error))
    except MemoryError:
        most = MAX_WORKER_BYTES >> 20
        return Failed(
            "decode", f"decode: wants more than the {most} MB of memory that a file may take; send it in parts"
        )
    except Exception as error:  # noqa: BLE001  # a library's message may quote what it was given
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
        return Failed("decode", f"decode: file {task.path.name}: cannot be read ({type(error).__name__} at {place})")
    return None


def _answers(task: Task, preparer: Preparer, now_ms: Callable[[], int]) -> Iterator[Answer]:
    if isinstance(task, Check):
        for rows in check_file(task.path):
            yield Seen(rows)
        return
    rows = open_rows(task.path, most=MAX_EVENT_BYTES)
    events = _Events(task, rows)
    number = -1
    for chunk in events.chunks:
        number += chunk.first >= task.start
        if chunk.first < task.start or number % task.turns != task.turn:
            continue
        decoded = events.of(chunk)
        origin = Origin(task.source, now_ms(), task.file, task.digest)
        results = preparer.prepare(task.stream, decoded, origin)
        entries = [result.entry if isinstance(result, Protected) else result[1] for result in results]
        rejected = sum(not isinstance(result, Protected) for result in results)
        yield Prepared(chunk.rows, rejected, entries)


class _Events:
    """Decodes the chunks of one file into events of a stream."""

    def __init__(self, task: Take, rows: Rows) -> None:
        self.chunks = rows.chunks
        self._stream, self._mapper = task.stream, None
        self._is_json = rows.kind.format in ("json", "ndjson")
        if task.mapping:
            mapping = parse_mapping(*task.mapping)
            if read := sorted(name for name in mapping.source_columns() if is_sensitive_name(name)):
                raise MappingError(f"mapping {mapping.name}: {', '.join(read)} may not be kept; leave it out")
            begin: list[dict[str, Any]] = []
            if rows.types is None and (first := next(rows.chunks, None)) is not None:
                self.chunks = chain([first], rows.chunks)
                begin = [row for row in map(_opened, cast("Sequence[Row]", first.read())) if isinstance(row, dict)]
            self._mapper = Mapper(mapping, rows.names, rows.types, begin, is_text=rows.kind.format == "csv")

    def of(self, chunk: Chunk) -> list[Decoded]:
        """An event for each row of the chunk, or why there is none."""
        content = chunk.read()
        raw: Sequence[Row] = rows_of(content) if isinstance(content, pa.RecordBatch) else content
        batch = content if isinstance(content, pa.RecordBatch) else None
        opened = [_opened(row) for row in raw]
        events = iter(self._events([row for row in opened if isinstance(row, dict)], batch))
        return [
            Decoded(next(events), row, number)
            if isinstance(row, dict)
            else Decoded(row, given if isinstance(given, bytes) else b"", number)
            for number, (given, row) in enumerate(zip(raw, opened, strict=True), chunk.first + 1)
        ]

    def _events(
        self, rows: list[dict[str, Any]], batch: pa.RecordBatch | None
    ) -> Sequence[dict[str, Any] | EventError]:
        if self._mapper:
            return [_stripped(event) for event in self._mapper.map(rows, batch)]
        return rows if self._is_json else bare(self._stream, rows)


def _opened(row: Row) -> dict[str, Any] | EventError:
    """A row's values, without sensitive authentication data."""
    if not isinstance(row, bytes):
        return _stripped(row)
    if len(row) > MAX_EVENT_BYTES:
        return too_large(len(row))
    try:
        return decode(row)
    except DecodeError as error:
        return error


def _stripped(row: dict[str, Any] | EventError) -> dict[str, Any] | EventError:
    try:
        return row if isinstance(row, EventError) else stripped(row)
    except DecodeError as error:
        return error
