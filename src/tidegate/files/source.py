"""The file that a replay reads, in any of the formats, as Arrow batches in the order of the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.json

from tidegate.errors import MappingError
from tidegate.files.columnar import open_columnar
from tidegate.files.csvtext import Cells
from tidegate.files.formats import Kind, kind_of, open_unpacked

#: Column that is added to those of the file: the row, counted from 0.
ROW = "tidegate_row"

#: Rows of Parquet, ORC or Avro read at once.
_READ_ROWS = 65_536

#: Bytes of text read at once. The types of CSV's and JSON's columns are guessed from the first so many.
_BLOCK_BYTES = 8 << 20

#: Where Arrow's messages name a column. Nothing else of them is passed on: they quote the value at fault.
_COLUMN_AT_FAULT = re.compile(r"CSV column #(?P<number>\d+)|Column\(/(?P<name>[^)]*)\)")


def csv_conversion(types: dict[str, pa.DataType]) -> pyarrow.csv.ConvertOptions:
    """How cells become values. Only the empty text is NULL: NA is a country."""
    return pyarrow.csv.ConvertOptions(
        column_types=types,
        null_values=[""],
        strings_can_be_null=True,
        true_values=["true"],
        false_values=["false"],
    )


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
        UsageError: its name ends with none of the suffixes that are read.
        DecodeError: it is damaged, or not what its name says; also raised while going through the batches.
        MappingError: a column holds other values than the type that was guessed for it; also raised while going
            through the batches.
    """
    kind = kind_of(path)
    rows: int | None = None
    try:
        if kind.format in ("json", "ndjson", "csv"):
            reader = _text_reader(path, kind, types)
            schema = reader.schema
            wanted = [name for name in schema.names if name.lower() in columns]
            batches = (batch.select(wanted) for batch in reader)
        else:
            columnar = open_columnar(path, kind, _READ_ROWS, lambda name: name.lower() in columns)
            rows, schema = columnar.rows, columnar.schema
            wanted = [name for name in schema.names if name.lower() in columns]
            batches = (part.read() for part in columnar.parts)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None
    selected = pa.schema([*(schema.field(name) for name in wanted), pa.field(ROW, pa.int64())])
    return Source(schema.names, selected, rows, _numbered(path, selected, batches))


def _text_reader(path: Path, kind: Kind, types: dict[str, pa.DataType]) -> pa.RecordBatchReader:
    if nested := [name for name, wanted in types.items() if wanted == pa.json_()]:
        raise MappingError(
            f"source {path.name}: columns: {', '.join(nested)}: json is for `ingest` and webhooks; in a replay an "
            "object has columns of its own, such as name.field"
        )
    stream = open_unpacked(path, kind.encoding)
    if kind.format == "csv":
        dialect = Cells(path.name, open_unpacked(path, kind.encoding)).dialect
        return pyarrow.csv.open_csv(
            stream,
            read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(
                newlines_in_values=True, delimiter=dialect.delimiter, quote_char=dialect.quote
            ),
            convert_options=csv_conversion(types),
        )
    return pyarrow.json.open_json(
        stream,
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
