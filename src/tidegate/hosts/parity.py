"""Parity: the same events through several hosts, and every decision compared, bit by bit.

Each host is given the events in one order, as if the door had accepted one a millisecond: a host over a log has them
appended first, then decides them; replay reads the file. Doubles are compared by their bits.
"""

from __future__ import annotations

import math
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from tidegate.errors import StateError
from tidegate.files.mapping import Mapping as FileMapping
from tidegate.hosts.arrivals import batches
from tidegate.hosts.flink.cluster import FlinkCluster
from tidegate.hosts.flink.submission import Submission, group_of
from tidegate.hosts.local import LocalHost
from tidegate.hosts.ordered import Order, Progress, Span, ordered_rows
from tidegate.hosts.replay import replay
from tidegate.hosts.together import together
from tidegate.kernel.arrivals import LABELS
from tidegate.kernel.detector import Detector
from tidegate.kernel.freshness import MODEL_SCORE
from tidegate.ports.clock import Clock
from tidegate.ports.log import Entry, Log, Positions, after
from tidegate.ports.models import Models
from tidegate.ports.snapshots import Snapshots
from tidegate.streams.control import DETECTORS
from tidegate.streams.decision import DECISIONS, Decision
from tidegate.streams.schema import Schema, load_schema

#: Rows read of the file, and appended to a log, at once.
_BATCH_ROWS = 2000

#: How often it is looked whether Flink has decided all.
_LOOK_S = 0.5

#: No snapshot is asked for while a host decides.
_NEVER_MS = 2**62

_encode = msgspec.json.Encoder().encode

#: Decisions of one host: by event, by column.
Rows = dict[str, dict[str, Any]]


class Difference(msgspec.Struct, frozen=True):
    """The first value that differs from the first host's. A decision that a host lacks differs in `event_id`."""

    host: str
    event_id: str
    column: str
    expected: Any
    found: Any


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """`rows`: decisions by host. `mismatches`: by host (all but the first, with which they are compared) and column."""

    rows: dict[str, int]
    mismatches: dict[str, dict[str, int]]
    first: Difference | None

    @property
    def holds(self) -> bool:
        return self.first is None


def append_events(log: Log, source: Path, mapping: FileMapping, *, order: Order, progress: Progress) -> int:
    """Append the events of a file, and the labels where they become known; how many records these are.

    Raises:
        NotFoundError: there is no such source.
        UsageError: its format is unknown.
        MappingError: the mapping does not fit it.
    """
    count = 0
    schemas = {mapping.schema.name: mapping.schema, LABELS: load_schema(LABELS)}
    with tempfile.TemporaryDirectory() as spill, together(mapping, (), spill=Path(spill)) as arriving:
        rows = ordered_rows(
            source,
            mapping,
            span=Span(None, None),
            order=order,
            after=None,
            spill=Path(spill),
            batch_rows=_BATCH_ROWS,
            progress=progress,
        )
        with closing(rows):
            for batch in rows:
                arrived: dict[int, tuple[Schema, dict[str, Any]]] = {}
                for stream, part in arriving.arrive(batch).items():
                    arrived |= zip(part.at.tolist(), _protected(schemas[stream], part.events), strict=True)
                log.append([_entry(*arrived[at], count + number) for number, at in enumerate(sorted(arrived), start=1)])
                count += len(arrived)
    return count


def _protected(schema: Schema, events: pa.RecordBatch) -> Iterator[tuple[Schema, dict[str, Any]]]:
    """The events as the door writes them: times are integers of microseconds, and nothing is sealed."""
    columns = [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in events.columns]
    nothing = dict.fromkeys(schema.protected_columns)
    for event in pa.RecordBatch.from_arrays(columns, names=events.schema.names).to_pylist():
        yield schema, {**nothing, **{name: event[name] for name in event if name in nothing}}


def _entry(schema: Schema, event: dict[str, Any], accepted_ms: int) -> Entry:
    return Entry(schema.name, event[schema.key] or event["event_id"], _encode(event), accepted_ms, event["event_id"])


def decide_log(log: Log, snapshots: Snapshots, detector: Detector, clock: Clock, models: Models | None) -> Rows:
    """Have a host decide all that is in the log, and read back what it wrote."""
    host = LocalHost(log, snapshots, [detector], clock, snapshot_every_ms=_NEVER_MS, models=models)
    while host.step(0):
        pass
    host.close()
    return _decisions(log)


def decide_in_flink(log: Log, cluster: FlinkCluster, submission: Submission, detector: Detector) -> Rows:
    """Have a job on a Flink cluster decide all that is in the log, and read back what it wrote.

    Raises:
        StateError, NotFoundError, OverloadError: as `FlinkCluster.submit`.
        StateError: the job has ended before it had decided all.
    """
    ends = {place: end for place, end in log.ends([*detector.streams, DETECTORS]).items() if end}
    cluster.submit(submission, slots=1)
    try:
        read: Positions = {}
        while any(read.get(place, 0) < end for place, end in ends.items()):
            time.sleep(_LOOK_S)
            for batch in log.history(group_of(submission, detector.name), read, [*detector.streams, DETECTORS]):
                read |= after(batch)
            if (status := cluster.status(submission.job)).ended:
                raise StateError(f"flink: job {submission.job!r} is {status.state}; its task manager's log says why")
    finally:
        cluster.cancel(submission.job)
    return _decisions(log)


def _decisions(log: Log) -> Rows:
    decode, found = msgspec.json.Decoder(Decision).decode, Rows()
    for batch in batches(log, {}, log.ends([DECISIONS])):
        for record in batch:
            decision = decode(record.value)
            found[decision.event_id] = {
                **decision.features,
                "event_time": decision.event_time,
                MODEL_SCORE: decision.model_score,
                "rules": [name for name, fires in decision.rules.items() if fires],
                "score": decision.score,
                "outcome": decision.outcome,
                "late": decision.late,
            }
    return found


def decide_file(source: Path, mapping: FileMapping, detector: Detector, *, order: Order, progress: Progress) -> Rows:
    """Have replay decide a file."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "decided.parquet"
        replay(source, mapping, detector, out, order=order, progress=progress)
        table = pq.read_table(out)
    time = table.schema.get_field_index("event_time")
    table = table.set_column(time, "event_time", table["event_time"].cast(pa.int64()))
    return {row.pop("event_id"): {MODEL_SCORE: None, **row} for row in table.to_pylist()}


def compare(decided: Mapping[str, Rows]) -> Parity:
    """Compare all hosts with the first."""
    (_, expected), *others = decided.items()
    mismatches: dict[str, Counter[str]] = {other: Counter() for other, _ in others}
    first: Difference | None = None
    for other, found in others:
        for event_id in (*expected, *(found.keys() - expected.keys())):
            for column, wanted, got in _differing(expected.get(event_id), found.get(event_id), event_id):
                mismatches[other][column] += 1
                first = first or Difference(other, event_id, column, wanted, got)
    return Parity(
        rows={host: len(rows) for host, rows in decided.items()},
        mismatches={other: dict(counts) for other, counts in mismatches.items()},
        first=first,
    )


def _differing(
    expected: Mapping[str, Any] | None, found: Mapping[str, Any] | None, event_id: str
) -> Iterator[tuple[str, Any, Any]]:
    if expected is None or found is None:
        yield "event_id", event_id if expected else None, event_id if found else None
        return
    for column in (*expected, *(found.keys() - expected.keys())):
        wanted, got = expected.get(column), found.get(column)
        if _bits(wanted) != _bits(got):
            yield column, wanted, got


def _bits(value: Any) -> Any:
    """What two values that are the same have in common. A decision's record has no NaN and no infinity but null."""
    if isinstance(value, float):
        return struct.pack(">d", value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, list) else (type(value), value)
