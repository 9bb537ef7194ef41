"""The file that a replay reads: Parquet, CSV or JSON lines, as Arrow batches in the order of the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from tidegate.errors import MappingError, NotFoundError, UsageError

#: Column that is added to those of the file: the row, counted from 0.
ROW = "tidegate_row"

#: Rows of Parquet read at once.
_READ_ROWS = 65_536

#: Bytes of text read at once. The types of CSV's and JSON's columns are guessed from the first so many.
_BLOCK_BYTES = 8 << 20

#: Where Arrow's messages name a column. Nothing else of them is passed on: they quote the value at fault.
_COLUMN_AT_FAULT = re.compile(r"CSV column #(?P<number>\d+)|Column\(/(?P<name>[^)]*)\)")

SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson", ".json")


class Source(NamedTuple):
    """`names` are all that the file has; `schema` has the columns that are wanted and ROW, as have the batches, which
    can be gone through once. `rows` is None where the format does not tell it beforehand.
    """

    names: list[str]
    schema: pa.Schema
    rows: int | None
    batches: Iterator[pa.RecordBatch]


def open_source(path: Path, types: dict[str, pa.DataType], columns: frozenset[str]) -> Source:
    """Open a file. `columns` are the names, in lower case, of those that are wanted; `types` are types of columns of
    CSV and JSON lines that shall not be guessed.

    Raises:
        NotFoundError: there is no such file.
        UsageError: its suffix is not one of SUFFIXES.
        MappingError: it cannot be read as what its suffix says; also raised while going through the batches.
    """
    if not path.is_file():
        raise NotFoundError(f"source {path}: there is no such file")
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"source {path}: wanted a file named *{', *'.join(SUFFIXES)}")
    rows: int | None = None
    try:
        if path.suffix.lower() == ".parquet":
            parquet = pq.ParquetFile(path)
            rows, schema = parquet.metadata.num_rows, parquet.schema_arrow
            wanted = [name for name in schema.names if name.lower() in columns]
            batches = parquet.iter_batches(_READ_ROWS, columns=wanted)
        else:
            reader = _text_reader(path, types)
            schema = reader.schema
            wanted = [name for name in schema.names if name.lower() in columns]
            batches = (batch.select(wanted) for batch in reader)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None
    selected = pa.schema([*(schema.field(name) for name in wanted), pa.field(ROW, pa.int64())])
    return Source(schema.names, selected, rows, _numbered(path, selected, batches))


def _text_reader(path: Path, types: dict[str, pa.DataType]) -> pa.RecordBatchReader:
    if path.suffix.lower() == ".csv":
        return pyarrow.csv.open_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            # Only the empty text is NULL: NA is a country.
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types, null_values=[""], strings_can_be_null=True, true_values=["true"],
                false_values=["false"],
            ),
        )  # fmt: skip
    return pyarrow.json.open_json(
        path,
        read_options=pyarrow.json.ReadOptions(block_size=_BLOCK_BYTES),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=pa.schema(list(types.items())) if types else None),
    )


def _numbered(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    first = 0
    try:
        for batch in batches:
            numbers = pa.array(range(first, first + batch.num_rows), pa.int64())
            yield pa.RecordBatch.from_arrays([*batch.columns, numbers], schema=schema)
            first += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> MappingError:
    at_fault = _COLUMN_AT_FAULT.search(str(error))
    column = ""
    if at_fault:
        column = f", column {at_fault['name'] or 'number ' + str(int(at_fault['number']) + 1)}"
    return MappingError(
        f"source {path.name}{column}: cannot be read as {path.suffix[1:]} ({type(error).__name__}); if a column holds "
        "other values further down than at its beginning, write its type under `columns` of the mapping"
    )
