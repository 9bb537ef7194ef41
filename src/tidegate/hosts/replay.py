"""The replay host: a detector over a file, for back-tests, training sets and verification.

Events are fed in the order of their own time (rows of the same time in the order of the file), sorted by DuckDB, which
spills to disk: a file may be larger than memory. Labels, and the rows of further files, arrive when the stream's
time reaches them (`together.py`). With a folder for
its state, a replay that was killed goes on from its last checkpoint and ends with the same file, bit for bit.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidegate.errors import MappingError, NotFoundError, UsageError
from tidegate.files.mapping import EVENT_ID, Mapping
from tidegate.files.source import ROW
from tidegate.hosts.checkpoint import Checkpoints, Position, State, Tally, sync
from tidegate.hosts.ordered import Order, Progress, Span, ordered_rows
from tidegate.hosts.together import Further, Together, together
from tidegate.kernel.arrivals import LABELS, Arrived
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import Detector

#: Rows that the kernel decides at once, and a row group of the output: large enough that what a batch costs once is
#: nothing beside its rows, small enough that progress moves.
BATCH_ROWS = 65_536

#: Seconds between two checkpoints: the work that a kill costs at most.
CHECKPOINT_INTERVAL_S = 10.0


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay did: the first `resumed_at` events in an earlier run, the others in this one's `seconds`."""

    tally: Tally
    resumed_at: int
    seconds: float


def replay(
    source: Path,
    mapping: Mapping,
    detector: Detector,
    out: Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    order: Order = "time",
    further: Sequence[Further] = (),
    state: Path | None = None,
    progress: Progress = lambda done, total: None,  # noqa: ARG005 - nobody to tell
    batch_rows: int = BATCH_ROWS,
    checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S,
) -> Summary:
    """Run a detector over a file and write a row a decision to `out`, as Parquet, which appears when it is complete.

    Its columns are those of `Decisions.table()`. `since` (from then on) and `until` (before then) choose events by
    event time; without an offset they are UTC. Windows are empty at `since`. Order "file" feeds the rows as they
    stand. `further` are files of other streams that the detector reads, from their start on and before `until`.
    `progress` is told of the rows twice, as they are read and as they are decided; it may be called from another
    thread.

    Raises:
        NotFoundError: there is no such source, or no folder for `out`.
        UsageError: the source's format is unknown, or `state` belongs to another replay, or `further` are not files of
            other streams that the detector reads.
        MappingError: the mapping does not fit the source, or a row does not give what the stream's schema asks for.
        FencedError: another replay is using `state`.
        DamagedError: what `state` holds is not what was written.
    """
    started = time.monotonic()
    _check(mapping, detector, out, further)
    span = Span(_to_us(since), _to_us(until))
    unfinished = out.with_name(f".{out.name}.unfinished")
    with ExitStack() as stack:
        stack.callback(unfinished.unlink, missing_ok=True)
        kernel = Kernel(detector)
        schema = _schema(kernel)
        writer = stack.enter_context(pq.ParquetWriter(unfinished, schema))
        checkpoints: Checkpoints | None = None
        restored: State | None = None
        if state:
            files = [(_version(path), mapping.text) for path, mapping in ((source, mapping), *further)]
            told = (files, detector.name, detector.version, span, order, batch_rows)
            identity = hashlib.sha256(msgspec.json.encode(told)).hexdigest()
            checkpoints = stack.enter_context(closing(Checkpoints(state, identity, schema)))
            restored = checkpoints.state()
            spill = state / "spill"
            shutil.rmtree(spill, ignore_errors=True)
            spill.mkdir()
        else:
            spill = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent)))
        arriving = stack.enter_context(
            together(
                mapping,
                further,
                spill=spill,
                until_us=span.until_us,
                after=restored.further if restored else None,
            )
        )
        run = _Run(kernel, schema, arriving, progress)
        if checkpoints and restored:
            for decided in checkpoints.decided():
                writer.write_batch(decided)
            run.restore(restored)

        resumed_at = run.tally.events
        rows = ordered_rows(
            source,
            mapping,
            span=span,
            order=order,
            after=restored.after if restored else None,
            spill=spill,
            batch_rows=batch_rows,
            progress=run.read,
        )
        # Three steps at once, each a batch ahead of the next: DuckDB gives rows, the kernel decides, here is written.
        batches = stack.enter_context(closing(_ahead(rows)))
        decisions = run.decide(batches, checkpoint_interval_s if checkpoints else math.inf)
        for decided, snapshot in stack.enter_context(closing(_ahead(decisions))):
            writer.write_batch(decided)
            if checkpoints:
                checkpoints.add(decided)
                if snapshot:
                    checkpoints.commit(snapshot)

        writer.close()
        sync(unfinished)
        unfinished.replace(out)
        if checkpoints:
            checkpoints.clear()
    return Summary(tally=run.tally, resumed_at=resumed_at, seconds=time.monotonic() - started)


def _check(mapping: Mapping, detector: Detector, out: Path, further: Sequence[Further]) -> None:
    if not out.parent.is_dir():
        raise NotFoundError(f"out {out}: there is no folder {out.parent}")
    if out.is_dir():
        raise UsageError(f"out {out}: wanted the name of a file, got a folder")
    if EVENT_ID not in mapping.expressions:
        raise MappingError(
            f"mapping {mapping.name}: {EVENT_ID}: a replay tells its decisions by it; write an expression"
        )
    if mapping.schema.name != detector.stream.name:
        raise UsageError(
            f"mapping {mapping.name} makes {mapping.schema.name}, detector {detector.name} reads {detector.stream.name}"
        )

    for file in further:
        if (stream := file.mapping.schema.name) not in detector.streams:
            raise UsageError(
                f"source {file.path.name}: detector {detector.name} does not read {stream}; it reads "
                f"{', '.join(detector.streams)}"
            )


def _schema(kernel: Kernel) -> pa.Schema:
    """That of what is decided."""
    detector = kernel.detector
    told = {"tidegate.detector": detector.name, "tidegate.detector_version": detector.version}
    return kernel.decide({}).table().schema.with_metadata(told)


class _Run:
    """What a replay carries from batch to batch."""

    def __init__(self, kernel: Kernel, schema: pa.Schema, arriving: Together, progress: Progress) -> None:
        self.tally = Tally()
        self._kernel = kernel
        self._schema = schema
        self._arriving = arriving
        self._progress = progress
        self._read = 0

    def restore(self, state: State) -> None:
        self.tally = state.tally
        self._kernel.restore(state.kernel)
        self._arriving.restore(state)

    def read(self, done: int, total: int | None) -> None:
        """Take note of how much of the source is read."""
        self._read = done
        self._progress(done, total)

    def decide(
        self, batches: Iterator[pa.RecordBatch], snapshot_interval_s: float
    ) -> Generator[tuple[pa.RecordBatch, State | None]]:
        """The decisions on each batch of rows, and the state after it when so many seconds have passed."""
        last_snapshot = time.monotonic()
        for rows in batches:
            decided, snapshot = self._decide(self._arriving.arrive(rows)), None
            if time.monotonic() - last_snapshot >= snapshot_interval_s:
                snapshot = self._snapshot(rows)
                last_snapshot = time.monotonic()
            yield decided, snapshot
            self._progress(self.tally.events, max(self._read, self.tally.events))
        yield self._decide(self._arriving.rest()), None
        # Rows that `since` and `until` left out were read too.
        self._progress(self.tally.events, self.tally.events)

    def _decide(self, arrived: dict[str, Arrived]) -> pa.RecordBatch:
        decided = self._kernel.decide(arrived).table()
        tally = self.tally
        self.tally = Tally(
            events=tally.events + len(arrived[self._kernel.detector.stream.name].at),
            labels=tally.labels + (len(arrived[LABELS].at) if LABELS in arrived else 0),
            decisions=tally.decisions + decided.num_rows,
            late=tally.late + (pc.sum(decided["late"]).as_py() or 0),
            outcomes=_counted(tally.outcomes, decided["outcome"].to_pylist()),
            rules=_counted(tally.rules, pc.list_flatten(decided["rules"]).to_pylist()),
        )
        return pa.RecordBatch.from_arrays([column.combine_chunks() for column in decided.columns], schema=self._schema)

    def _snapshot(self, rows: pa.RecordBatch) -> State:
        after = Position(rows.column("event_time").cast(pa.int64())[-1].as_py(), rows.column(ROW)[-1].as_py())
        return State(
            after,
            self._arriving.positions,
            self._arriving.clock_us,
            self.tally,
            self._kernel.snapshot(),
            self._arriving.pending,
        )


_Item = TypeVar("_Item")


def _ahead(items: Generator[_Item]) -> Generator[_Item]:
    """The items, each made in a thread while the one before it is worked on."""
    with closing(items), ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _counted(counts: dict[str, int], values: list[Any]) -> dict[str, int]:
    return dict(sorted((Counter(counts) + Counter(values)).items()))


def _to_us(instant: datetime | None) -> int | None:
    if instant is None:
        return None
    since_epoch = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since_epoch.days * 86_400 + since_epoch.seconds) * 1_000_000 + since_epoch.microseconds


def _version(source: Path) -> tuple[int, int]:
    """What tells a file from an earlier one, short of reading it."""
    if not source.is_file():
        raise NotFoundError(f"source {source}: there is no such file")
    stat = source.stat()
    return stat.st_size, stat.st_mtime_ns
