"""From records of the log to a columnar batch."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.json

from tidegate.streams.schema import Schema

#: Smallest block that Arrow's JSON reader splits its input into; a batch is one block, so that no record is cut.
_MIN_BLOCK_BYTES = 1 << 16


def to_batch(schema: Schema, values: Sequence[bytes]) -> pa.RecordBatch:
    """Decode protected events, JSON objects with times as integers of microseconds, as they stand in the log.

    Returns a batch with the columns of `schema.arrow`; what else a record holds (its envelope) is passed over.
    """
    if not values:
        return pa.RecordBatch.from_pylist([], schema.arrow)
    content = b"\n".join(values)
    as_written = pa.schema(
        [(field.name, pa.int64() if pa.types.is_timestamp(field.type) else field.type) for field in schema.arrow]
    )
    table = pyarrow.json.read_json(
        io.BytesIO(content),
        read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=max(_MIN_BLOCK_BYTES, len(content) + 1)),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=as_written, unexpected_field_behavior="ignore"),
    )
    return table.select(as_written.names).cast(schema.arrow).combine_chunks().to_batches()[0]
