"""A mapping: how the columns of a file become the columns of a stream, as DuckDB SQL expressions over one row."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tidegate.errors import MappingError, NotFoundError
from tidegate.files.source import Source, open_source
from tidegate.kernel.language.times import parse_duration
from tidegate.streams.schema import MAX_TEXT_CHARS, PAN_PARTS, Field, Schema, load_schema

EVENT_ID = "event_id"

#: Column of a mapped row that holds its label, beside the stream's own.
IS_FRAUD = "is_fraud"

#: DuckDB's types that a stream's kind takes as they are. Anything else wants a CAST that the reader of the mapping
#: sees: amounts in units would otherwise silently lose their cents.
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT")
_TAKEN = {
    "string": ("VARCHAR", "UUID", *_INTEGERS),
    "enum": ("VARCHAR",),
    "long": _INTEGERS,
    "double": ("DOUBLE", "FLOAT", "DECIMAL", *_INTEGERS),
    "boolean": ("BOOLEAN",),
    "timestamp": ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE", "DATE"),
}
_CAST_TO = {"string": "VARCHAR", "enum": "VARCHAR", "long": "BIGINT", "double": "DOUBLE", "boolean": "BOOLEAN"}

_ARROW: dict[str, pa.DataType] = {
    "string": pa.string(),
    "long": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us"),
    "json": pa.json_(),
}

_CELLS = {kind: _ARROW[kind] for kind in ("string", "long", "double", "boolean")} | {"enum": pa.string()}

#: What one scalar expression over one row may not hold.
_FORBIDDEN = (exp.Query, exp.Window, exp.AggFunc, exp.UDTF, exp.Star, exp.Columns, exp.Placeholder, exp.Parameter)

#: Functions that are DuckDB's grammar and not in its catalogue.
_GRAMMAR = frozenset({"cast", "try_cast", "extract", "coalesce", "nullif", "ifnull"})


class _LabelText(msgspec.Struct, forbid_unknown_fields=True):
    is_fraud: str
    known_after: str


class _MappingText(msgspec.Struct, forbid_unknown_fields=True):
    stream: str
    fields: dict[str, str]
    label: _LabelText | None = None
    columns: dict[str, str] = {}


class Mapping(msgspec.Struct, frozen=True):
    """A mapping that was checked against its stream.

    `expressions` are SQL by field of the stream; without one for `event_id`, the door names a row by its file and its
    place there. `is_fraud` is SQL of the label, if the source has one, which becomes
    known `known_after_us` microseconds after the event. `columns` are the types of the source's columns where its
    format has none of its own (CSV, JSON) and a guess would be wrong: an object whose fields differ from row to row.
    """

    name: str
    schema: Schema
    expressions: dict[str, str]
    is_fraud: str | None
    known_after_us: int
    columns: dict[str, pa.DataType]
    text: bytes

    def source_columns(self) -> frozenset[str]:
        """Names, in lower case, that the expressions read."""
        texts = [*self.expressions.values(), *([self.is_fraud] if self.is_fraud else [])]
        return frozenset(
            column.parts[0].name.lower()
            for text in texts
            for column in sqlglot.parse_one(text, dialect="duckdb").find_all(exp.Column)
        )

    def cells(self) -> dict[str, pa.DataType]:
        """Columns that become a field as they are, and nothing else, with the type of that field: what their cells say
        in a format of texts. Times are written in many ways and not among them.
        """
        types: dict[str, set[pa.DataType | None]] = {}
        kinds = {field.name: field.kind for field in _columns(self.schema)} | {IS_FRAUD: "boolean"}
        for field, text in [*self.expressions.items(), *([(IS_FRAUD, self.is_fraud)] if self.is_fraud else [])]:
            tree = sqlglot.parse_one(text, dialect="duckdb")
            whole = _CELLS.get(kinds[field]) if isinstance(tree, exp.Column) else None
            for column in tree.find_all(exp.Column):
                types.setdefault(column.parts[0].name, set()).add(whole)
        return {name: taken for name, (taken, *others) in types.items() if taken is not None and not others}

    def bind(self, connection: duckdb.DuckDBPyConnection, source: Source) -> str:
        """The SELECT list that makes the stream's columns out of a source's.

        Raises:
            MappingError: as `bound`.
        """
        return ", ".join(f'{bound} AS "{name}"' for name, bound in self.bound(connection, source).items())

    def bound(self, connection: duckdb.DuckDBPyConnection, source: Source) -> dict[str, str]:
        """SQL over a source's columns by column of the stream, in order, of the type that the stream has there.

        Raises:
            MappingError: an expression names a column that the source does not have, or gives a type that its field
                does not take.
        """
        connection.register("source_columns", source.schema.empty_table())
        bound = {
            field.name: self._bound(connection, field, self.expressions[field.name], source)
            for field in _columns(self.schema)
            if field.name in self.expressions
        }
        if self.is_fraud:
            bound[IS_FRAUD] = self._bound(connection, _nullable(IS_FRAUD, "boolean"), self.is_fraud, source)
        connection.unregister("source_columns")
        return bound

    def _bound(self, connection: duckdb.DuckDBPyConnection, field: Field, expression: str, source: Source) -> str:
        try:
            described = connection.execute(f"DESCRIBE SELECT {expression} FROM source_columns").fetchall()  # noqa: S608 - checked by _scalar
        except duckdb.Error as error:
            raise MappingError(
                f"mapping {self.name}, field {field.name}: {expression!r} does not fit the source, whose columns are "
                f"{', '.join(source.names)}: {_first_line(error)}"
            ) from None
        found = str(described[0][1])
        if found.split("(", maxsplit=1)[0] not in _TAKEN[field.kind] and found != '"NULL"':
            raise MappingError(
                f"mapping {self.name}, field {field.name}: wanted {field.kind}, got {found} from {expression!r}; "
                "write the CAST that says how it is turned into one"
            )
        return f"CAST({expression} AS {_CAST_TO.get(field.kind, 'TIMESTAMP')})"

    def fault(self) -> str:
        """SQL over the mapped columns: the name of the first field whose value the schema does not take, or NULL."""
        cases = [
            f"WHEN {_refused(field)} THEN '{field.name}'"
            for field in _columns(self.schema)
            if field.name in self.expressions
        ]
        return f"CASE {' '.join(cases)} END"

    def complete(self, mapped: pa.RecordBatch) -> pa.RecordBatch:
        """A batch of the stream out of the mapped columns; unmapped fields are NULL."""
        nulls = pa.nulls(mapped.num_rows)
        arrays: list[pa.Array[Any]] = [
            mapped.column(field.name) if field.name in self.expressions else nulls.cast(field.arrow_type)
            for field in _columns(self.schema)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema.arrow)

    def refusal(self, name: str, row: int) -> MappingError:
        """The error for a row of the source, counted from 0, that `fault` names a field of."""
        field = next(field for field in _columns(self.schema) if field.name == name)
        return MappingError(
            f"mapping {self.name}, field {name}: row {row + 1} of the source does not give {_wanted(field)}; mend the "
            f"row, or let {self.expressions[name]!r} say what stands in its place"
        )


def _nullable(name: str, kind: str) -> Field:
    return Field(name, kind, nullable=True, doc="", personal=None, symbols=())


def _columns(schema: Schema) -> list[Field]:
    """The stream's fields as they stand in a batch: a PAN is followed by its clear parts."""
    columns: list[Field] = []
    for field in schema.fields:
        columns.append(field)
        if field.personal == "pan":
            columns += [_nullable(f"{field.name}_{part}", "string") for part in PAN_PARTS]
    return columns


def _refused(field: Field) -> str:
    """SQL: whether the schema does not take the value of a field."""
    name = f'"{field.name}"'
    conditions: list[str] = []
    if not field.nullable:
        conditions.append(f"{name} IS NULL")
    if field.kind == "enum":
        conditions.append(f"{name} NOT IN ({', '.join(repr(symbol) for symbol in field.symbols)})")
    elif field.kind == "string":
        conditions.append(f"length({name}) NOT BETWEEN 1 AND {MAX_TEXT_CHARS}")
    elif field.kind == "timestamp":
        conditions.append(f"{name} NOT BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31'")
    elif field.kind == "long":
        conditions.append(f"{name} NOT BETWEEN {field.bounds[0]} AND {field.bounds[1]}")
    return " OR ".join(conditions) or "false"


def _wanted(field: Field) -> str:
    wanted = f"a {field.kind}"
    if field.kind == "enum":
        wanted = f"one of {', '.join(field.symbols)}"
    elif field.kind == "string":
        wanted = f"a text of 1 to {MAX_TEXT_CHARS} characters"
    elif field.kind == "timestamp":
        wanted = "a time of the years 1 to 9999"
    elif field.kind == "long":
        wanted = f"an integer from {field.bounds[0]} to {field.bounds[1]}"
    return wanted if field.nullable else f"{wanted}, which is required"


def read_mapping(path: Path) -> Mapping:
    """Read a mapping's YAML and check it against its stream.

    Raises:
        NotFoundError: there is no such file.
        MappingError: the text is not a mapping, names fields that its stream does not have, leaves out required ones,
            or holds an expression that is more than one scalar expression over one row.
    """
    if not path.is_file():
        raise NotFoundError(f"mapping {path}: there is no such file")
    return parse_mapping(path.name, path.read_bytes())


def own_columns(schema: Schema, path: Path) -> Mapping:
    """The mapping of a file whose columns have the names of the stream's own, protected, as the lake has them.

    Raises:
        NotFoundError, UsageError, DecodeError: as `open_source`.
        MappingError: a column that the stream requires is not there.
    """
    names = open_source(path, {}, frozenset()).names
    fields = {name: f'"{name}"' for name in schema.protected_columns if name in names}
    return parse_mapping(path.name, msgspec.yaml.encode({"stream": schema.name, "fields": fields}))


def parse_mapping(name: str, text: bytes) -> Mapping:
    """Check a mapping's YAML against its stream; `name` stands in errors.

    Raises:
        MappingError: as `read_mapping`.
    """
    try:
        written = msgspec.yaml.decode(text, type=_MappingText)
        schema = load_schema(written.stream)
    except (msgspec.DecodeError, NotFoundError) as error:
        raise MappingError(f"mapping {name}: {error}") from None
    known = list(schema.protected_columns)
    if unknown := sorted(set(written.fields) - set(known)):
        raise MappingError(
            f"mapping {name}: {', '.join(unknown)}: not a field of {schema.name}, which has {', '.join(known)}"
        )
    wanted = [field.name for field in schema.fields if not field.nullable and field.name != EVENT_ID]
    if missing := [name for name in wanted if name not in written.fields]:
        raise MappingError(f"mapping {name}: {', '.join(missing)}: required by {schema.name}; write an expression")
    if untyped := sorted(column for column, kind in written.columns.items() if kind not in _ARROW):
        raise MappingError(f"mapping {name}: columns: type of {', '.join(untyped)}: wanted one of {', '.join(_ARROW)}")
    expressions = {field: _scalar(name, field, expression) for field, expression in written.fields.items()}
    label = written.label
    known_after = label.known_after if label else "0 days"
    known_after_us = parse_duration(known_after)
    if known_after_us is None:
        raise MappingError(f"mapping {name}: label.known_after: wanted such as '7 days', got {known_after!r}")
    return Mapping(
        name=name,
        schema=schema,
        expressions=expressions,
        is_fraud=_scalar(name, "label.is_fraud", label.is_fraud) if label else None,
        known_after_us=known_after_us,
        columns={column: _ARROW[kind] for column, kind in written.columns.items()},
        text=text,
    )


def _scalar(mapping: str, field: str, text: str) -> str:
    """The expression as it will run: written anew from the tree that was checked."""
    where = f"mapping {mapping}, field {field}: {text!r}"
    try:
        trees = sqlglot.parse(text, dialect="duckdb")
    except SqlglotError as error:
        raise MappingError(f"{where} is not SQL: {_first_line(error)}") from None
    tree = trees[0] if len(trees) == 1 else None
    if not isinstance(tree, (exp.Condition, exp.AtTimeZone)):
        raise MappingError(f"{where}: wanted one scalar expression over the source's columns")
    for node in tree.walk():
        if isinstance(node, _FORBIDDEN):
            raise MappingError(
                f"{where}: wanted one scalar expression over one row, got {node.sql(dialect='duckdb')!r} in it"
            )
        if isinstance(node, exp.Func):
            function = node.sql(dialect="duckdb").split("(")[0].lower()
            if function.isidentifier() and function not in _functions():
                raise MappingError(
                    f"{where}: {function} is not a function whose result depends on nothing but its arguments"
                )
    return tree.sql(dialect="duckdb", comments=False)


@cache
def _functions() -> frozenset[str]:
    """DuckDB's scalar functions that give the same for the same arguments: a replay must be repeatable."""
    found = duckdb.connect().execute(
        "SELECT function_name FROM duckdb_functions() WHERE function_type = 'scalar' AND stability = 'CONSISTENT'"
    )
    return _GRAMMAR | {name for (name,) in found.fetchall()}


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
