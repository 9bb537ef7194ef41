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
    decode = msgspec.json.Decoder(schema.protected).decode
    events = [msgspec.structs.astuple(decode(value)) for value in values]
    columns: Any = zip(*events, strict=True) if events else [()] * len(schema.arrow)
    return pa.RecordBatch.from_arrays([*map(pa.array, columns, schema.arrow.types)], schema=schema.arrow)
