"""The rows of a file as events of a stream, through a mapping. What is wrong with one row is told of that row."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from tidegate.errors import EventError, MappingError, SchemaError
from tidegate.files.mapping import Mapping
from tidegate.files.source import ROW, Source, csv_conversion

Row = dict[str, Any]

_ROW = pa.field(ROW, pa.int64())
_EMPTY: Any = pa.scalar("")
_JSON = pa.json_()

_encoder = msgspec.json.Encoder()

#: What a column of the source that the mapping does not read is called, if the stream has a field of that name.
UNREAD = "source."


class Mapper:
    """Makes events of one file's rows.

    `types` are the columns of the file, in a format that has types of its own; None: they are guessed from `begin`, the
    first rows, where the mapping does not say them. `is_text` says that all cells are texts (CSV).

    Raises:
        MappingError: the mapping does not fit the file.
    """

    def __init__(
        self, mapping: Mapping, names: Sequence[str], types: pa.Schema | None, begin: Sequence[Row], *, is_text: bool
    ) -> None:
        self._mapping, self._is_text = mapping, is_text
        read = mapping.source_columns()
        if types is None and not is_text:
            # A field of JSON may be left out.
            names = [*names, *(name for name in mapping.columns if name not in names)]
        wanted = [name for name in names if name.lower() in read]
        self.types = (
            pa.schema([types.field(name) for name in wanted])
            if types is not None
            else _guessed(mapping, wanted, begin, is_text=is_text)
        )
        self._renamed = {name: f"{UNREAD}{name}" for name in mapping.schema.protected_columns}
        self._read = read
        self._connection = duckdb.connect(config={"enable_external_access": "false", "threads": 1})
        self._connection.execute("SET TimeZone = 'UTC'")
        source = Source(list(names), self.types.append(_ROW), None, iter(()))
        bound = mapping.bound(self._connection, source)
        self._expressions = {name: bound[name] for name in mapping.expressions}

    def map(self, rows: Sequence[Row], batch: pa.RecordBatch | None = None) -> list[Row | EventError]:
        """An event for each row, or why there is none; `batch` holds the same rows in typed columns, if they have them.

        An event's values are Python's own, times are integers of microseconds. It holds the stream's fields, and the
        columns that the mapping does not read.
        """
        faults: dict[int, EventError] = {}
        typed = self._typed(rows, faults) if batch is None else batch.select(self.types.names)
        # A mapping may read no column at all: the number of the rows is told by this one.
        numbered: Any = typed.append_column(_ROW, pa.array(range(len(rows)), pa.int64()))
        mapped = iter(self._select(_without(numbered, faults), range(len(rows)), faults))
        events: list[Row | EventError] = []
        for index, row in enumerate(rows):
            if index in faults:
                events.append(faults[index])
                continue
            unread = {
                self._renamed.get(name, name): value for name, value in row.items() if name.lower() not in self._read
            }
            events.append(unread | next(mapped))
        return events

    def _select(self, typed: pa.RecordBatch, indices: range, faults: dict[int, EventError]) -> list[Row]:
        """The mapped rows, without those that have a fault, or turn out to have one."""
        selected = ", ".join(f'{bound} AS "{name}"' for name, bound in self._expressions.items())
        try:
            mapped: Any = self._ask(f"SELECT {selected}", typed)
        except duckdb.Error:
            places = [index for index in indices if index not in faults]
            for field, bound in self._expressions.items():
                for place in self._failing(bound, typed):
                    faults.setdefault(places[place], self._fault(field))
            good = [place for place, index in enumerate(places) if index not in faults]
            mapped = self._ask(f"SELECT {selected}", typed.take(pa.array(good, pa.int64())))
        return _as_json(mapped).to_pylist()

    def _failing(self, expression: str, rows: pa.RecordBatch) -> Iterator[int]:
        """The rows on which an expression fails: those for which TRY gives NULL are halved until it is known."""
        if not self._fails(expression, rows):
            return
        tried = self._ask(f"SELECT TRY({expression}) IS NULL AS nothing", rows).column("nothing").to_pylist()
        halves = [[place for place, nothing in enumerate(tried) if nothing]]
        while halves:
            places = halves.pop()
            if places and self._fails(expression, rows.take(pa.array(places))):
                middle = len(places) // 2
                if middle:
                    halves += [places[:middle], places[middle:]]
                else:
                    yield places[0]

    def _fails(self, expression: str, rows: pa.RecordBatch) -> bool:
        try:
            self._ask(f"SELECT {expression}", rows)
        except duckdb.Error:
            return True
        return False

    def _ask(self, select: str, rows: pa.RecordBatch) -> pa.Table:
        """`select` was checked by the mapping."""
        self._connection.register("rows_of_file", rows)
        return self._connection.execute(f"{select} FROM rows_of_file").to_arrow_table()

    def _fault(self, field: str) -> EventError:
        """DuckDB's own message is not passed on: it quotes the value at fault."""
        return SchemaError(
            "map",
            f"map: field {field}: {self._mapping.expressions[field]!r} fails on this row; mend the row, or write "
            "TRY_CAST, which gives NULL where CAST fails",
            field,
        )

    def _typed(self, rows: Sequence[Row], faults: dict[int, EventError]) -> pa.RecordBatch:
        """The columns that the mapping reads. A row with a value that is not of its column's type has a fault, and
        NULL there.
        """
        convert = typed_cells if self._is_text else typed_values
        arrays: list[pa.Array[Any]] = []
        for field in self.types:
            values = [row.get(field.name) for row in rows]
            try:
                arrays.append(convert(values, field.type))
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                for index, value in enumerate(values):
                    if not _converts(convert, value, field.type):
                        values[index] = None
                        faults.setdefault(index, _not_of_type(field))
                arrays.append(convert(values, field.type))
        if not arrays:
            nothing: Any = pa.array([{}] * len(rows), pa.struct([]))
            return pa.RecordBatch.from_struct_array(nothing)
        return pa.RecordBatch.from_arrays(arrays, schema=self.types)


def _without(typed: pa.RecordBatch, faults: dict[int, EventError]) -> pa.RecordBatch:
    if not faults:
        return typed
    return typed.take(pa.array([index for index in range(typed.num_rows) if index not in faults], pa.int64()))


Convert = Callable[[Sequence[Any], pa.DataType], "pa.Array[Any]"]


def typed_cells(cells: Sequence[Any], wanted: pa.DataType) -> pa.Array[Any]:
    """Cells of text as a type, as Arrow's CSV reader has it: the empty text is NULL."""
    texts: Any = pa.array(cells, pa.string())
    if not pa.types.is_string(wanted):
        texts = pc.utf8_trim_whitespace(texts)
    filled: Any = pc.if_else(pc.equal(texts, _EMPTY), None, texts)
    return filled if pa.types.is_string(wanted) else filled.cast(wanted)


def typed_values(values: Sequence[Any], wanted: pa.DataType) -> pa.Array[Any]:
    """Values of JSON as a type: times are texts in it."""
    if wanted == _JSON:
        texts = [None if value is None else _encoder.encode(value).decode() for value in values]
        return pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))
    if pa.types.is_temporal(wanted) and any(isinstance(value, str) for value in values):
        return pa.array(values, pa.string()).cast(wanted)
    if not pa.types.is_boolean(wanted) and any(isinstance(value, bool) for value in values):
        raise TypeError
    return pa.array(values, wanted)


def _converts(convert: Convert, value: Any, wanted: pa.DataType) -> bool:
    try:
        convert([value], wanted)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def _not_of_type(field: pa.Field[Any]) -> EventError:
    return SchemaError(
        "map",
        f"map: column {field.name}: wanted {field.type}, got something else; mend the row, or write the column's type "
        "under `columns` of the mapping",
    )


def _guessed(mapping: Mapping, names: Sequence[str], begin: Sequence[Row], *, is_text: bool) -> pa.Schema:
    """The types of columns: those that the mapping says, and Arrow's guess from the first rows. The guess that a cell
    is a text gives way to what its field wants, so that one bad cell is the fault of its row; a text of digits stays
    one, whatever the guess, with the 0 that it may begin with.
    """
    open_names = [name for name in names if name not in mapping.columns]
    told = [pa.field(name, mapping.columns[name]) for name in names if name in mapping.columns]
    try:
        guessed = guessed_types(open_names, begin, is_text=is_text) if open_names else pa.schema([])
    except pa.ArrowException:
        raise MappingError(
            f"mapping {mapping.name}: the type of one of the columns {', '.join(open_names)} differs from row to row; "
            "write it under `columns`"
        ) from None
    cells = mapping.cells() if is_text else {}
    either = [
        field.with_type(cells[field.name])
        if field.name in cells and pa.string() in (field.type, cells[field.name])
        else field
        for field in guessed
    ]
    return pa.schema([*told, *either])


def guessed_types(names: Sequence[str], begin: Sequence[Row], *, is_text: bool) -> pa.Schema:
    """Arrow's guess of the types of columns from a file's first rows; a column that is empty there is a text.

    Raises:
        pyarrow.ArrowException: the type of a column differs from row to row.
    """
    guessed = _guessed_csv(names, begin) if is_text else _guessed_json(names, begin)
    # What is empty at the beginning may hold any text further down.
    return pa.schema([field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in guessed])


def _guessed_csv(names: Sequence[str], begin: Sequence[Row]) -> pa.Schema:
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(names)
    rows.writerows([row.get(name, "") for name in names] for row in begin)
    options = pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
    return pyarrow.csv.read_csv(
        io.BytesIO(text.getvalue().encode()), parse_options=options, convert_options=csv_conversion({})
    ).schema


def _guessed_json(names: Sequence[str], begin: Sequence[Row]) -> pa.Schema:
    lines = [_encoder.encode({name: row[name] for name in names if name in row}) for row in begin]
    return pyarrow.json.read_json(io.BytesIO(b"\n".join(lines) or b"{}")).schema


def _as_json(mapped: pa.Table) -> pa.Table:
    """Times as integers of microseconds."""
    return pa.table(
        {
            name: column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
            for name, column in zip(mapped.column_names, mapped.columns, strict=True)
        }
    )
