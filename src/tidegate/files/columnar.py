"""Formats that have columns and types of their own: Parquet, ORC and Avro, as Arrow batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import orc

from tidegate.errors import DecodeError
from tidegate.files.avro import Container
from tidegate.files.formats import Kind, open_unpacked, refusal


class Part(NamedTuple):
    """So many rows that follow one another, and what decodes them."""

    rows: int
    read: Callable[[], pa.RecordBatch]


class Columnar(NamedTuple):
    """`rows` is None where the format does not tell it beforehand. The parts can be gone through once."""

    schema: pa.Schema
    rows: int | None
    parts: Iterator[Part]


def open_columnar(path: Path, kind: Kind, part_rows: int, columns: Callable[[str], bool] = lambda _: True) -> Columnar:
    """Open a file for those of its columns whose name is wanted; `schema` has them all.

    Raises:
        DecodeError: it is damaged, or not what its name says; also while going through it.
    """
    match kind.format:
        case "parquet":
            return _told(path, 0, lambda: _parquet(path, part_rows, columns))
        case "orc":
            return _told(path, 0, lambda: _orc(path, part_rows, columns))
        case _:
            return _avro(path, kind, part_rows, columns)


def _parquet(path: Path, part_rows: int, columns: Callable[[str], bool]) -> Columnar:
    # Checked where the writer has left checksums: a flipped bit is told, not read as another value.
    file = pq.ParquetFile(path, page_checksum_verification=True)
    wanted = [name for name in file.schema_arrow.names if columns(name)]
    batches = file.iter_batches(part_rows, columns=wanted)
    return Columnar(_distinct(path, file.schema_arrow), file.metadata.num_rows, _parts(path, batches))


def _orc(path: Path, part_rows: int, columns: Callable[[str], bool]) -> Columnar:
    file: Any = orc.ORCFile(path)
    wanted = [name for name in file.schema.names if columns(name)]

    def batches() -> Iterator[pa.RecordBatch]:
        for stripe in range(file.nstripes):
            batch: pa.RecordBatch = file.read_stripe(stripe, columns=wanted)
            yield from _sliced(batch, part_rows)

    return Columnar(_distinct(path, file.schema), file.nrows, _parts(path, batches()))


def _avro(path: Path, kind: Kind, part_rows: int, columns: Callable[[str], bool]) -> Columnar:
    container = Container(path.name, open_unpacked(path, kind.encoding))
    schema = container.schema
    wanted = pa.schema([field for field in schema if columns(field.name)])

    def parts() -> Iterator[Part]:
        first = 0
        for size, decode in container.blocks():
            # Decoded once, whichever of the block's parts is read first.
            records = cache(decode)
            for start in range(0, size, part_rows):
                end = min(start + part_rows, size)
                yield Part(end - start, partial(_records, path, first, records, slice(start, end), wanted))
            first += size

    return Columnar(_distinct(path, schema), None, parts())


def _records(
    path: Path, first: int, decode: Callable[[], list[dict[str, Any]]], which: slice, schema: pa.Schema
) -> pa.RecordBatch:
    records = decode()[which]
    return _told(path, first + which.start, lambda: pa.RecordBatch.from_pylist(records, schema))


def _parts(path: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[Part]:
    first = 0
    while (batch := _told(path, first, lambda: next(batches, None))) is not None:
        yield Part(batch.num_rows, partial(_same, batch))
        first += batch.num_rows


def _same(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


def _sliced(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _distinct(path: Path, schema: pa.Schema) -> pa.Schema:
    if doubled := [name for name in schema.names if schema.names.count(name) > 1]:
        raise refusal(path.name, f"it has two columns {doubled[0]!r}")
    return schema


Result = TypeVar("Result")


def _told(path: Path, first: int, read: Callable[[], Result]) -> Result:
    """What Arrow fails with on damaged bytes: its message is not passed on, it may quote them."""
    try:
        return read()
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        kind = path.suffix[1:].lower()
        raise refusal(
            path.name, f"it cannot be read as {kind} behind row {first} ({type(error).__name__}); send it again"
        ) from None


def rows_of(batch: pa.RecordBatch) -> Sequence[dict[str, Any]]:
    """The rows of a batch, by column. What JSON has no word for becomes a text: nanoseconds, and numbers that are none.

    Raises:
        DecodeError: a value is beyond what Python's types hold: a time before the year 1.
    """
    columns = [_plain(column) for column in batch.columns]
    try:
        return pa.RecordBatch.from_arrays(columns, batch.schema.names).to_pylist(maps_as_pydicts="lossy")
    except (ValueError, OverflowError) as error:
        raise DecodeError("decode", f"decode: a value is beyond what can be taken ({type(error).__name__})") from None


def _plain(column: pa.Array[Any]) -> pa.Array[Any]:
    kind = column.type
    if (pa.types.is_timestamp(kind) or pa.types.is_time(kind)) and kind.unit == "ns":
        return column.cast(pa.string())
    if pa.types.is_duration(kind):
        return column.cast(pa.int64())
    if pa.types.is_floating(kind) and not pc.all(pc.is_finite(column)).as_py() and column.null_count < len(column):
        return column.cast(pa.string())
    return column
