"""Rows of a file that needs no mapping: its columns have the names of the stream's fields."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate.streams.schema import Field, load_schema

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_INTEGER = re.compile(r"-?\d{1,19}")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_BOOLEANS = {"true": True, "false": False}


def bare(stream: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events of rows: a cell of text becomes what its field is, if it says that; the empty text is nothing. Times that
    a format has as such become integers of microseconds; without an offset they are UTC. Other columns stay.
    """
    fields = {field.name: field for field in load_schema(stream).fields}
    return [
        {name: _value(fields[name], value) if name in fields else value for name, value in row.items()} for row in rows
    ]


def _value(field: Field, value: Any) -> Any:
    if isinstance(value, str):
        return _of_text(field, value)
    if isinstance(value, datetime) and field.kind == "timestamp":
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (aware - _EPOCH) // _MICROSECOND
    return value


def _of_text(field: Field, text: str) -> Any:
    """The text as it is, for the schema to refuse, if it says nothing of the field's kind."""
    if not text:
        return None
    match field.kind:
        case "long" | "timestamp" if _INTEGER.fullmatch(text):
            return int(text)
        case "double" if _NUMBER.fullmatch(text):
            return float(text)
        case "boolean":
            return _BOOLEANS.get(text.lower(), text)
        case _:
            return text
