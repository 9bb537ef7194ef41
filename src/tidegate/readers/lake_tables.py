"""What the lake's tables hold, and how records of the log become their rows.

`raw.<stream>` is the record as it stands in the log, whatever it is. `curated.*` is typed; a record that does not fit
its stream is passed over there (the engine puts it into `rejected`) and stays in `raw`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from tidegate.ports.log import Record
from tidegate.streams.batch import to_batch
from tidegate.streams.decision import DECISIONS, REJECTED, Decision
from tidegate.streams.revision import REVISIONS, Revision, decode_revision
from tidegate.streams.schema import STREAMS, load_schema

_TIME = pa.timestamp("us", "UTC")

#: Event times that Iceberg, DuckDB and Python all have a date for: the years 1 to 9999, in microseconds since 1970.
_FIRST_TIME, _LAST_TIME = -62_135_596_800_000_000, 253_402_300_799_999_999

#: Where a row comes from. `accepted_at` is when the door accepted the record.
_ORIGIN = [("accepted_at", _TIME), ("partition", pa.int32()), ("offset", pa.int64())]

_RAW = [("event_id", pa.string()), ("event_time", _TIME), *_ORIGIN, ("key", pa.string()), ("value", pa.string())]

#: `rules` and `shadow_rules` are the names of those that fired. `features` holds numbers, and booleans as 1 and 0, so
#: that a feature is a number to compare and average (`features['card_count_2h'] > 3`) with no cast; features of text,
#: and exact integers above 2^53, are in `decision`, the whole record as JSON (`decision->>'$.features.x'`).
_DECISIONS = [
    ("event_id", pa.string()),
    ("event_time", _TIME),
    ("stream", pa.string()),
    ("detector", pa.string()),
    ("detector_version", pa.string()),
    ("model_version", pa.string()),
    ("score", pa.int64()),
    ("outcome", pa.string()),
    ("late", pa.bool_()),
    ("rules", pa.list_(pa.string())),
    ("shadow_rules", pa.list_(pa.string())),
    ("reasons", pa.list_(pa.string())),
    ("features", pa.map_(pa.string(), pa.float64())),
    ("hash", pa.string()),
    ("decision", pa.string()),
    *_ORIGIN,
]

#: `causes` are the ids of the events that came late, `revision` is the whole record as JSON.
_REVISIONS = [
    ("event_id", pa.string()),
    ("event_time", _TIME),
    ("stream", pa.string()),
    ("detector", pa.string()),
    ("detector_version", pa.string()),
    ("number", pa.int64()),
    ("old_outcome", pa.string()),
    ("new_outcome", pa.string()),
    ("old_score", pa.int64()),
    ("new_score", pa.int64()),
    ("fired", pa.list_(pa.string())),
    ("ceased", pa.list_(pa.string())),
    ("reasons", pa.list_(pa.string())),
    ("causes", pa.list_(pa.string())),
    ("decision_hash", pa.string()),
    ("hash", pa.string()),
    ("revision", pa.string()),
    *_ORIGIN,
]

_log = logging.getLogger(__name__)


class LakeTable(NamedTuple):
    """A table, the topic it is made from, and how its records become rows of `schema`: all of them or fewer."""

    name: str
    topic: str
    schema: pa.Schema
    rows: Callable[[Sequence[Record]], pa.Table]


class _Stamp(msgspec.Struct):
    event_time: int | None = None


_stamps = msgspec.json.Decoder(_Stamp)


def _event_time(value: bytes) -> int | None:
    try:
        time = _stamps.decode(value).event_time
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return time if time is not None and _has_date(time) else None


def _has_date(time_us: int) -> bool:
    return _FIRST_TIME <= time_us <= _LAST_TIME


def _origin(records: Sequence[Record]) -> dict[str, Any]:
    accepted_us = pa.array([record.timestamp_ms * 1000 for record in records], pa.int64())
    return {
        "accepted_at": accepted_us.cast(_TIME),
        "partition": [record.partition for record in records],
        "offset": [record.offset for record in records],
    }


def _fitting(records: Sequence[Record], decoder: msgspec.json.Decoder[Any]) -> list[tuple[Record, Any]]:
    fitting: list[tuple[Record, Any]] = []
    for record in records:
        try:
            decoded = decoder.decode(record.value)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            decoded = None
        if decoded is not None and _has_date(decoded.event_time):
            fitting.append((record, decoded))
        else:
            place = (record.topic, record.partition, record.offset)
            _log.warning("lake: %s/%d@%d does not fit its stream, kept in raw only", *place)
    return fitting


def _curated_stream(stream: str) -> LakeTable:
    schema = load_schema(stream)
    decoder = msgspec.json.Decoder(schema.struct)
    typed = [(field.name, _TIME if pa.types.is_timestamp(field.type) else field.type) for field in schema.arrow]
    columns = pa.schema([*typed, *_ORIGIN])

    def rows(records: Sequence[Record]) -> pa.Table:
        fitting = [record for record, _ in _fitting(records, decoder)]
        batch = to_batch(schema, [record.value for record in fitting])
        named = {name: batch.column(name) for name in batch.schema.names} | _origin(fitting)
        return pa.table(named).cast(columns)

    return LakeTable(f"curated.{stream}", stream, columns, rows)


def _curated_decisions() -> LakeTable:
    schema = pa.schema(_DECISIONS)
    decoder = msgspec.json.Decoder(Decision)
    as_they_are = ("event_id", "stream", "detector", "detector_version", "model_version", "score", "outcome", "late")

    def rows(records: Sequence[Record]) -> pa.Table:
        fitting = _fitting(records, decoder)
        decisions: list[Decision] = [decision for _, decision in fitting]
        fired = [[name for name, fires in decision.rules.items() if fires] for decision in decisions]
        pairs = list(zip(fired, decisions, strict=True))
        columns: dict[str, Any] = {name: [getattr(one, name) for one in decisions] for name in as_they_are} | {
            "event_time": pa.array([decision.event_time for decision in decisions], pa.int64()).cast(_TIME),
            "rules": [[name for name in names if name not in one.shadow] for names, one in pairs],
            "shadow_rules": [[name for name in names if name in one.shadow] for names, one in pairs],
            "reasons": [decision.reasons for decision in decisions],
            "features": _features(decisions),
            "hash": [decision.hash for decision in decisions],
            "decision": [record.value.decode() for record, _ in fitting],
            **_origin([record for record, _ in fitting]),
        }
        return pa.table([columns[name] for name in schema.names], schema=schema)

    return LakeTable("curated.decisions", DECISIONS, schema, rows)


def _features(decisions: Sequence[Decision]) -> pa.Array[Any]:
    """Built from flat columns: a list of pairs a row would cost several times as much."""
    numbers = [
        {name: float(value) for name, value in decision.features.items() if isinstance(value, bool | int | float)}
        for decision in decisions
    ]
    offsets: Any = pa.array(accumulate(map(len, numbers), initial=0), pa.int32())
    names = pa.array(chain.from_iterable(numbers), pa.string())
    values = pa.array(chain.from_iterable(row.values() for row in numbers), pa.float64())
    return pa.MapArray.from_arrays(offsets, names, values)


def _curated_revisions() -> LakeTable:
    schema = pa.schema(_REVISIONS)
    made_here = {"event_time", "causes", "revision", *(name for name, _ in _ORIGIN)}
    as_they_are = [name for name in schema.names if name not in made_here]

    def rows(records: Sequence[Record]) -> pa.Table:
        # What was missed is about no decision, and in raw only.
        written = [(record, decode_revision(record.value)) for record in records]
        fitting = [(record, each) for record, each in written if isinstance(each, Revision)]
        revisions = [revision for _, revision in fitting]
        columns: dict[str, Any] = {name: [getattr(one, name) for one in revisions] for name in as_they_are} | {
            "event_time": pa.array([revision.event_time for revision in revisions], pa.int64()).cast(_TIME),
            "causes": [[cause.event_id for cause in revision.causes] for revision in revisions],
            "revision": [record.value.decode() for record, _ in fitting],
            **_origin([record for record, _ in fitting]),
        }
        return pa.table([columns[name] for name in schema.names], schema=schema)

    return LakeTable("curated.revisions", REVISIONS, schema, rows)


def _raw(topic: str) -> LakeTable:
    schema = pa.schema([column for column in _RAW if topic != REJECTED or column[0] != "event_time"])

    def rows(records: Sequence[Record]) -> pa.Table:
        columns: dict[str, Any] = {
            "event_id": [record.id for record in records],
            "event_time": pa.array([_event_time(record.value) for record in records], pa.int64()).cast(_TIME),
            "key": [record.key for record in records],
            "value": [record.value.decode("utf-8", "replace") for record in records],
            **_origin(records),
        }
        return pa.table([columns[name] for name in schema.names], schema=schema)

    return LakeTable(f"raw.{topic}", topic, schema, rows)


#: Every table of the lake.
TABLES = (
    *(_raw(topic) for topic in (*STREAMS, REJECTED, REVISIONS)),
    _curated_stream("transactions"),
    _curated_decisions(),
    _curated_revisions(),
)
