"""What has happened, batch by batch as the kernel takes it: out of a file, the log, or the lake."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from tidegate.files.mapping import Mapping
from tidegate.hosts.arrivals import BATCH_RECORDS, arrivals, batches, schemas_of
from tidegate.hosts.ordered import Progress, Span, ordered_rows
from tidegate.hosts.together import Further, together
from tidegate.kernel.arrivals import Arrived
from tidegate.ports.lake import Lake
from tidegate.ports.log import Log, Positions, Record

#: Rows of a file decided at once.
_BATCH_ROWS = 16_384

#: The lake is read in slices of the time at which the door accepted events, so that they fit into memory.
_SLICE_US = 3600 * 1_000_000

Batches = Iterator[dict[str, Arrived]]


def of_file(path: Path, mapping: Mapping, progress: Progress, further: Sequence[Further] = ()) -> Batches:
    """By event time, each label when it becomes known, with further files of other streams.

    Raises:
        NotFoundError: there is no such file.
        UsageError: a format is unknown, or two files give the same stream.
        MappingError: the mapping does not fit it.
    """
    with tempfile.TemporaryDirectory() as spill, together(mapping, further, spill=Path(spill)) as arriving:
        rows = ordered_rows(
            path,
            mapping,
            span=Span(None, None),
            order="time",
            after=None,
            spill=Path(spill),
            batch_rows=_BATCH_ROWS,
            progress=progress,
        )
        with closing(rows):
            for batch in rows:
                yield arriving.arrive(batch)
            yield arriving.rest()


def of_log(log: Log, streams: Sequence[str], progress: Progress) -> Batches:
    """In the log's order, from the first record that the log holds to what was its end at the start."""
    ends = log.ends(streams)
    done, total = 0, sum(ends.values())
    for batch in batches(log, {}, ends):
        yield arrivals(batch, schemas_of(streams)).by_stream
        done += len(batch)
        progress(done, total)


def of_lake(lake: Lake, streams: Sequence[str], progress: Progress, *, before: Positions | None = None) -> Batches:
    """In the order in which the door accepted them: all records, or those that lie before `before` in the log."""
    tables = [stream for stream in streams if lake.positions(f"raw.{stream}")]
    spans = [_span(lake, stream, before) for stream in tables]
    first = min((start for start, _ in spans if start is not None), default=0)
    end = max((end for _, end in spans if end is not None), default=-1)
    done = 0
    for start in range(first, end + 1, _SLICE_US):
        records: list[Record] = []
        for stream in tables:
            records += _slice(lake, stream, before, start)
        records.sort(key=lambda record: (record.timestamp_ms, record.topic, record.partition, record.offset))
        for index in range(0, len(records), BATCH_RECORDS):
            yield arrivals(records[index : index + BATCH_RECORDS], schemas_of(streams)).by_stream
        done += len(records)
        progress(done, None)


def _condition(stream: str, before: Positions | None) -> str:
    if before is None:
        return "true"
    parts = [
        f'(partition = {place.partition} AND "offset" < {offset})'
        for place, offset in before.items()
        if place.topic == stream
    ]
    return f"({' OR '.join(parts)})" if parts else "false"


def _span(lake: Lake, stream: str, before: Positions | None) -> tuple[int | None, int | None]:
    """First and last time of acceptance, in microseconds since 1970."""
    answer = lake.query(
        "SELECT epoch_us(min(accepted_at)) AS first, epoch_us(max(accepted_at)) AS last "  # noqa: S608 - a stream's name and integers
        f"FROM raw.{stream} WHERE {_condition(stream, before)}"
    )
    return answer["first"][0].as_py(), answer["last"][0].as_py()


def _slice(lake: Lake, stream: str, before: Positions | None, start_us: int) -> list[Record]:
    answer = lake.query(
        'SELECT partition, "offset", key, value, event_id, epoch_ms(accepted_at) AS accepted_ms '  # noqa: S608 - a stream's name and integers
        f"FROM raw.{stream} WHERE {_condition(stream, before)} "
        f"AND epoch_us(accepted_at) >= {start_us} AND epoch_us(accepted_at) < {start_us + _SLICE_US}"
    )
    return [
        Record(
            topic=stream,
            partition=row["partition"],
            offset=row["offset"],
            key=row["key"],
            value=row["value"].encode(),
            timestamp_ms=row["accepted_ms"],
            id=row["event_id"],
        )
        for row in answer.to_pylist()
    ]
