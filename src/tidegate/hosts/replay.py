"""The replay host: a detector over a file, for back-tests, training sets and verification.

Events are fed in the order of their own time (rows of the same time in the order of the file), sorted by DuckDB, which
spills to disk: a file may be larger than memory. Labels arrive when the stream's time reaches them. With a folder for
its state, a replay that was killed goes on from its last checkpoint and ends with the same file, bit for bit.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidegate.errors import NotFoundError, UsageError
from tidegate.hosts.checkpoint import Checkpoints, Position, Tally
from tidegate.hosts.delayed_labels import DelayedLabels
from tidegate.hosts.mapping import IS_FRAUD, Mapping
from tidegate.hosts.ordered import Order, Progress, Span, ordered_rows
from tidegate.hosts.source import ROW
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
    state: Path | None = None,
    progress: Progress = lambda done, total: None,  # noqa: ARG005 - nobody to tell
    batch_rows: int = BATCH_ROWS,
    checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S,
) -> Summary:
    """Run a detector over a file and write a row a decision to `out`, as Parquet, which appears when it is complete.

    Its columns are those of `Decisions.table()`. `since` (from then on) and `until` (before then) choose events by
    event time; without an offset they are UTC. Windows are empty at `since`. Order "file" feeds the rows as they
    stand. `progress` is told of the rows twice, as they are read and as they are decided; it may be called from another
    thread.

    Raises:
        NotFoundError: there is no such source, or no folder for `out`.
        UsageError: the source's format is unknown, or `state` belongs to another replay.
        MappingError: the mapping does not fit the source, or a row does not give what the stream's schema asks for.
        FencedError: another replay is using `state`.
        DamagedError: what `state` holds is not what was written.
    """
    started = time.monotonic()
    if not out.parent.is_dir():
        raise NotFoundError(f"out {out}: there is no folder {out.parent}")
    if mapping.schema.name != detector.stream.name:
        raise UsageError(
            f"mapping {mapping.name} makes {mapping.schema.name}, detector {detector.name} reads {detector.stream.name}"
        )
    run = _Run(mapping, detector)
    span = Span(_to_us(since), _to_us(until))
    unfinished = out.with_name(f".{out.name}.unfinished")
    with ExitStack() as stack:
        stack.callback(unfinished.unlink, missing_ok=True)
        writer = stack.enter_context(pq.ParquetWriter(unfinished, run.schema))
        checkpoints: Checkpoints | None = None
        after: Position | None = None
        if state:
            told = (_version(source), mapping.text, detector.name, detector.version, span, order, batch_rows)
            identity = hashlib.sha256(msgspec.json.encode(told)).hexdigest()
            checkpoints = stack.enter_context(closing(Checkpoints(state, identity, run.schema)))
            spill = state / "spill"
            shutil.rmtree(spill, ignore_errors=True)
        else:
            spill = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent)))
        if checkpoints and checkpoints.last:
            for decided in checkpoints.decided():
                writer.write_batch(decided)
            run.restore(checkpoints)
            after = checkpoints.last.after

        resumed_at = run.tally.events
        last_commit = time.monotonic()
        for rows in ordered_rows(
            source,
            mapping,
            span=span,
            order=order,
            after=after,
            spill=spill,
            batch_rows=batch_rows,
            progress=progress,
        ):
            decided = run.decide(rows)
            writer.write_batch(decided)
            if checkpoints:
                checkpoints.add(decided)
                if time.monotonic() - last_commit >= checkpoint_interval_s:
                    checkpoints.commit(_position(rows), run.tally, run.kernel.snapshot(), run.labels)
                    last_commit = time.monotonic()

        writer.close()
        unfinished.replace(out)
        if checkpoints:
            checkpoints.clear()
    return Summary(tally=run.tally, resumed_at=resumed_at, seconds=time.monotonic() - started)


class _Run:
    """What a replay carries from batch to batch."""

    def __init__(self, mapping: Mapping, detector: Detector) -> None:
        self.kernel = Kernel(detector)
        self.labels = DelayedLabels(mapping.known_after_us)
        self.tally = Tally()
        self._mapping = mapping
        nothing = self.kernel.decide(pa.RecordBatch.from_pylist([], mapping.schema.arrow))
        self.schema = nothing.table().schema.with_metadata(
            {"tidegate.detector": detector.name, "tidegate.detector_version": detector.version}
        )

    def restore(self, checkpoints: Checkpoints) -> None:
        """Go back to the last checkpoint."""
        last = checkpoints.last
        assert last
        self.kernel.restore(checkpoints.kernel())
        self.labels.restore(checkpoints.labels(), last.clock_us, last.tally.events)
        self.tally = last.tally

    def decide(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The decisions on rows that have the mapping's columns."""
        events = self._mapping.complete(rows)
        labelled = IS_FRAUD in rows.schema.names
        is_fraud = rows.column(IS_FRAUD) if labelled else pa.nulls(rows.num_rows, pa.bool_())
        labels, before = self.labels.arrive(events, is_fraud)
        decisions = self.kernel.decide(events, labels, before)
        decided = decisions.table()
        tally = self.tally
        tally.events += events.num_rows
        tally.labels += labels.num_rows
        tally.decisions += decided.num_rows
        tally.late += pc.sum(decided["late"]).as_py() or 0
        tally.outcomes = _counted(tally.outcomes, decided["outcome"].to_pylist())
        tally.rules = _counted(tally.rules, pc.list_flatten(decided["rules"]).to_pylist())
        return pa.RecordBatch.from_arrays([column.combine_chunks() for column in decided.columns], schema=self.schema)


def _counted(counts: dict[str, int], values: list[Any]) -> dict[str, int]:
    return dict(sorted((Counter(counts) + Counter(values)).items()))


def _position(rows: pa.RecordBatch) -> Position:
    time_us = rows.column("event_time").cast(pa.int64())
    return Position(time_us[-1].as_py(), rows.column(ROW)[-1].as_py())


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
