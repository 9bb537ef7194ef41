"""A mapping for a file that nobody has mapped yet: what its columns seem to be, by their names and what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
import pyarrow as pa
import yaml

from tidegate.errors import DecodeError
from tidegate.files.mapped import guessed_types, typed_cells, typed_values
from tidegate.files.mapping import EVENT_ID
from tidegate.files.rows import Row, open_rows
from tidegate.intake.limits import MAX_EVENT_BYTES
from tidegate.intake.sensitive import is_sensitive_name
from tidegate.intake.validate import Validator
from tidegate.streams.schema import Field, Schema

#: Share of the rows that have a value for which an expression must give one that the stream takes.
_MOST = 0.9

#: How alike the names of a column and of a field must be, from 0 to 1.
_ALIKE = 0.75

#: Personal values that are known by their form alone, whatever their column is called.
_TELLING = ("pan", "email", "ip", "geo")

#: What the fields are called elsewhere.
_ALSO: Mapping[str, tuple[str, ...]] = {
    "event_id": ("id", "transaction id", "tx id", "trans num", "order id", "uuid"),
    "event_time": ("time", "timestamp", "datetime", "date", "created at", "paid at", "tx datetime", "trans date time"),
    "pan": ("card", "card number", "card no", "cc num", "account number"),
    "customer_id": ("customer", "client", "client id", "user", "user id", "cust id", "account id"),
    "cardholder_name": ("cardholder", "name on card", "holder"),
    "email": ("mail", "e mail", "email address"),
    "phone": ("telephone", "mobile", "phone number", "msisdn"),
    "billing_address": ("address", "street"),
    "ip": ("ip address", "client ip", "remote addr"),
    "device_id": ("device", "device fingerprint"),
    "merchant_id": ("merchant", "shop", "store", "shop id", "store id"),
    "merchant_category": ("mcc", "category code"),
    "terminal_id": ("terminal", "pos id", "till"),
    "amount_minor": ("amount", "amt", "tx amount", "total", "value", "cents"),
    "price_minor": ("price", "amount"),
    "currency": ("ccy", "currency code"),
    "transaction_type": ("type", "tx type"),
    "transaction_id": ("transaction", "tx id", "order id"),
    "is_fraud": ("fraud", "label", "tx fraud"),
}

#: Seconds, milliseconds and microseconds since 1970, told apart by their size: all are of the years 2001 to 2286.
_SINCE_1970 = ((10**9, 10**10, " * 1000000"), (10**12, 10**13, " * 1000"), (10**15, 10**16, ""))

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


class Fit(NamedTuple):
    """A column for a field, by an expression that most of the file's first rows take; how alike their names are."""

    field: str
    column: str
    expression: str
    alike: float


class Suggestion(msgspec.Struct, frozen=True):
    """`text` is a mapping, `fields` its expressions. For the fields in `missing`, which the stream requires, no column
    was found: until an expression stands there, the mapping is refused.
    """

    text: str
    fields: dict[str, str]
    missing: list[str]


def suggest(path: Path, schema: Schema, now_us: int) -> Suggestion:
    """What a file's columns seem to be.

    Raises:
        NotFoundError: there is no such file.
        UsageError: its name ends with none of the suffixes that are read.
        DecodeError: it is not what its name says, or holds no rows.
    """
    rows = open_rows(path, most=MAX_EVENT_BYTES)
    chunk = next(rows.chunks, None)
    content = chunk.read() if chunk else []
    names = [name for name in rows.names if not is_sensitive_name(name)]
    is_text = rows.kind.format == "csv"
    typed = (
        pa.Table.from_batches([content]).select(names)
        if isinstance(content, pa.RecordBatch)
        else _typed(names, list(_rows(content)), is_text=is_text)
    )
    if not typed.num_rows:
        raise DecodeError("decode", f"decode: file {path.name}: wanted rows to tell its columns by, got none")
    chosen = _chosen(_fits(typed, schema, now_us, is_text=is_text))
    missing = [field for field in schema.fields if not (field.nullable or field.name in (EVENT_ID, *chosen))]
    fields = {field.name: chosen[field.name].expression for field in schema.fields if field.name in chosen}
    unread = sorted(set(names) - {fit.column for fit in chosen.values()}, key=names.index)
    text = "\n".join(_lines(path.name, schema.name, fields, missing, unread)) + "\n"
    return Suggestion(text, fields, [field.name for field in missing])


def _rows(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """The cells of those rows that can be read."""
    for row in rows:
        if isinstance(row, dict):
            yield row
        elif isinstance(row, bytes):
            with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                yield msgspec.json.decode(row, type=dict[str, Any])


def _typed(names: Sequence[str], begin: Sequence[dict[str, Any]], *, is_text: bool) -> pa.Table:
    columns: dict[str, Any] = {}
    for name in names:
        values = [row.get(name) for row in begin]
        try:
            wanted = guessed_types([name], begin, is_text=is_text).field(name).type
            columns[name] = (typed_cells if is_text else typed_values)(values, wanted)
        except (pa.ArrowException, TypeError, ValueError, OverflowError, KeyError):
            # Of one kind in one row and of another in the next: a field it is not.
            columns[name] = pa.nulls(len(values))
    return pa.table(columns)


def _fits(rows: pa.Table, schema: Schema, now_us: int, *, is_text: bool) -> Iterator[Fit]:
    """Every column with every field that it may become, by the first expression that does it."""
    validator = Validator(schema)
    with duckdb.connect(config={"enable_external_access": "false", "threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("rows_of_file", rows)
        for field in schema.fields:
            for column in rows.column_names:
                alike = _alike(field.name, column)
                if alike < _ALIKE and field.personal not in _TELLING:
                    continue
                for expression in _expressions(field, column, rows, is_text=is_text):
                    values = _made(connection, field, column, expression)
                    taken = sum(value is not None and validator.takes(field, value, now_us) for value in values)
                    if values and taken >= _MOST * len(values):
                        yield Fit(field.name, column, expression, alike)
                        break


def _expressions(field: Field, column: str, rows: pa.Table, *, is_text: bool) -> Iterator[str]:
    """The ways in which a column may become a field, the plainest first."""
    name = column if _PLAIN.fullmatch(column) else '"' + column.replace('"', '""') + '"'
    kind = rows.schema.field(column).type
    is_integer = pa.types.is_integer(kind)
    match field.kind:
        case "timestamp" if is_integer:
            largest = max((abs(value) for value in rows[column].to_pylist() if value is not None), default=0)
            yield from (f"make_timestamp({name}{unit})" for least, most, unit in _SINCE_1970 if least <= largest < most)
        case "timestamp":
            yield from (
                (name, f"CAST({name} AS TIMESTAMP)") if pa.types.is_temporal(kind) else (f"CAST({name} AS TIMESTAMP)",)
            )
        case "long" if field.name.endswith("_minor") and (pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            yield f"CAST(round({name} * 100) AS BIGINT)"
        case "boolean" if is_integer:
            yield f"{name} = 1"
        case "boolean" if pa.types.is_string(kind):
            yield f"CAST({name} AS BOOLEAN)"
        case "enum":
            yield from (name, f"lower({name})")
        case "string" if not is_text and not pa.types.is_string(kind):
            yield f"CAST({name} AS VARCHAR)"
        case _:
            yield name


def _made(connection: duckdb.DuckDBPyConnection, field: Field, column: str, expression: str) -> list[Any]:
    """What an expression makes of a column where there is something in it; nothing if it does not fit the column."""
    casts = {"timestamp": f"epoch_us(CAST({expression} AS TIMESTAMP))", "string": f"CAST({expression} AS VARCHAR)"}
    made, quoted = casts.get(field.kind, expression), column.replace('"', '""')
    try:
        asked = connection.execute(f'SELECT TRY({made}) FROM rows_of_file WHERE "{quoted}" IS NOT NULL')  # noqa: S608 - names are quoted
        return [value for (value,) in asked.fetchall()]
    except duckdb.Error:
        return []


def _chosen(fits: Iterator[Fit]) -> dict[str, Fit]:
    """A column for each field, the most alike first; each column and each field once."""
    chosen: dict[str, Fit] = {}
    used: set[str] = set()
    for fit in sorted(fits, key=lambda fit: -fit.alike):
        if fit.field not in chosen and fit.column not in used:
            chosen[fit.field] = fit
            used.add(fit.column)
    return chosen


def _lines(
    file: str, stream: str, fields: Mapping[str, str], missing: Sequence[Field], unread: Sequence[str]
) -> Iterator[str]:
    yield f"# Suggested for {file} by the names of its columns and its first rows: read it before you use it."
    yield f"stream: {stream}"
    yield "fields:"
    for name, expression in fields.items():
        yield f"  {yaml.safe_dump({name: expression}, width=10_000).strip()}"
    for field in missing:
        wanted = f"one of {', '.join(field.symbols)}" if field.symbols else f"a {field.kind}"
        yield f"  # {field.name}: wanted, {wanted}. {field.doc}"
    if unread:
        yield f"# Not read, and kept sealed with the event: {', '.join(unread)}"


def _alike(field: str, column: str) -> float:
    words = " ".join(_WORD.findall(column)).lower()
    names = (field.replace("_", " "), *_ALSO.get(field, ()))
    return max(SequenceMatcher(None, words, name, autojunk=False).ratio() for name in names)
