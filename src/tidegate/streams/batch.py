"""From records of the log to a columnar batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from tidegate.streams.schema import Schema


def to_batch(schema: Schema, values: Sequence[bytes]) -> pa.RecordBatch:
    """Decode protected events, JSON objects with times as integers of microseconds, as they stand in the log.

    Returns a batch with the columns of `schema.arrow`; what else a record holds (its envelope) is passed over.

    Raises:
        msgspec.DecodeError: a record is no such object, lacks what must be there or has a value of another type.
        UnicodeDecodeError: a text is not UTF-8.
    """
    if not values:
        return schema.nothing
    decode = msgspec.json.Decoder(schema.protected).decode
    events = [msgspec.structs.asdict(decode(value)) for value in values]
    # One call for all columns: pyarrow's own cost of a call is that of many values.
    rows: Any = pa.array(events, pa.struct(list(schema.arrow)))
    return pa.RecordBatch.from_struct_array(rows)
