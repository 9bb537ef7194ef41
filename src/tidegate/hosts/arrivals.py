"""A batch of the log as the kernel takes it: events by stream, in which order they arrived, and where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.kernel.arrivals import Arrived
from tidegate.ports.log import Log, Positions, Record, after
from tidegate.streams.batch import to_batch
from tidegate.streams.control import DETECTORS
from tidegate.streams.schema import Schema, load_schema

#: The engine's group: what decides sees what it took, in the order in which it took it.
GROUP = "engine"

#: Records decided at once: enough that what a batch costs once is nothing beside its records, few enough that the last
#: of them does not wait for long.
BATCH_RECORDS = 4096


@dataclass(frozen=True, slots=True)
class Arrivals:
    by_stream: dict[str, Arrived]
    """Of every stream asked for, none of whose events may have arrived. Their places are those in the batch."""
    refused: list[Record]
    """Records that are no events of their stream."""


def arrivals(records: Sequence[Record], schemas: Mapping[str, Schema]) -> Arrivals:
    """Decode records of the topics that `schemas` names."""
    by_stream: dict[str, Arrived] = {}
    refused: list[Record] = []
    for stream, schema in schemas.items():
        at = [index for index, record in enumerate(records) if record.topic == stream]
        fit, events = _decode(schema, [records[index] for index in at])
        by_stream[stream] = Arrived(np.array(at, np.int64)[fit], events)
        refused += [records[index] for index, fits in zip(at, fit, strict=True) if not fits]
    return Arrivals(by_stream, refused)


def schemas_of(streams: Iterable[str]) -> dict[str, Schema]:
    """By stream."""
    return {stream: load_schema(stream) for stream in streams}


def batches(log: Log, start: Positions, ends: Positions) -> Iterator[list[Record]]:
    """What stands between `start` (where a partition is missing: its first record) and `ends`, in the log's order."""
    at = {place: start.get(place, 0) for place in ends}
    while behind := {place: offset for place, offset in at.items() if offset < ends[place]}:
        batch = [record for record in log.read(behind, BATCH_RECORDS) if record.offset < ends[record.place]]
        if not batch:
            return
        yield batch
        at |= after(batch)


def records_before(log: Log, ends: Positions) -> Iterator[Record]:
    """All records before `ends`, from the first that the log holds on."""
    return (record for batch in batches(log, {}, ends) for record in batch)


def taken(log: Log, start: Positions, ends: Positions) -> Iterator[list[Record]]:
    """What the engine took between `start` (where a partition is missing: its first record) and `ends`, in its order:
    both are places in it.
    """
    for batch in log.history(GROUP, start, list(dict.fromkeys(place.topic for place in ends))):
        before = [record for record in batch if record.offset < ends.get(record.place, 0)]
        if before:
            yield before
        if len(before) < len(batch):
            return


def runs(records: Iterable[Record]) -> Iterator[tuple[list[Record], Record | None]]:
    """The records between those of the control stream, each run with the control record that ends it."""
    run: list[Record] = []
    for record in records:
        if record.topic == DETECTORS:
            yield run, record
            run = []
        else:
            run.append(record)
    if run:
        yield run, None


def inputs_of(records: Sequence[Record], read: Positions, streams: Iterable[str]) -> list[dict[str, int]]:
    """For each record, how much of the streams and of the control stream was read up to and with it; `read` is how much
    of all was before.
    """
    minded = (*streams, DETECTORS)
    running = {place.name: offset for place, offset in read.items() if place.topic in minded}
    inputs: list[dict[str, int]] = []
    for record in records:
        name = record.place.name
        if name in running:
            running[name] = record.offset + 1
        inputs.append(dict(running))
    return inputs


def _decode(schema: Schema, records: Sequence[Record]) -> tuple[npt.NDArray[np.bool_], pa.RecordBatch]:
    """Which of the records fit, and these as a batch. Halves are tried where the whole does not fit: the door has
    checked each event, so hardly ever is there one to be found.
    """
    events = _events(schema, records)
    if events is not None:
        return np.ones(len(records), np.bool_), events
    if len(records) == 1:
        return np.zeros(1, np.bool_), to_batch(schema, [])
    half = len(records) // 2
    (first, first_events), (second, second_events) = _decode(schema, records[:half]), _decode(schema, records[half:])
    both = pa.Table.from_batches([first_events, second_events], schema.arrow).combine_chunks().to_batches()
    return np.concatenate([first, second]), both[0] if both else first_events


def _events(schema: Schema, records: Sequence[Record]) -> pa.RecordBatch | None:
    """The events, if every record is one whose id is the record's."""
    try:
        events = to_batch(schema, [record.value for record in records])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    ids = events.column("event_id").to_pylist()
    return events if ids == [record.id for record in records] else None
