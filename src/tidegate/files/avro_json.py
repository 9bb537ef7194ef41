"""Avro's JSON encoding (Avro 1.12): a value of a union is wrapped into an object that names its type."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from tidegate.errors import DecodeError
from tidegate.files.avro import AvroSchema
from tidegate.files.evolution import kind_of, named_types, resolved

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES: Mapping[str, timedelta] = {
    "timestamp-millis": timedelta(milliseconds=1),
    "timestamp-micros": timedelta(microseconds=1),
}
Named = Mapping[str, dict[str, Any]]

_INTEGERS: Mapping[str, range] = {"int": range(-(2**31), 2**31), "long": range(-(2**63), 2**63)}


def from_json(given: Any, schema: AvroSchema) -> dict[str, Any]:
    """The record that the JSON encodes, of a schema that is parsed and whose fields hold no others in turn. A field
    that is not there has its default; times become datetimes, as they do in Avro's binary encoding.

    Raises:
        DecodeError: it is not the JSON of such a record; says where, and no value.
    """
    if not isinstance(given, dict):
        raise _fault("", "wanted the object of a record")
    values, named = cast("dict[str, Any]", given), named_types(schema)
    record: dict[str, Any] = {}
    for field in schema["fields"]:
        name: str = field["name"]
        if name in values:
            record[name] = _value(values[name], field["type"], named, name)
        elif "default" in field:
            record[name] = field["default"]
        else:
            raise _fault(name, "wanted a value, it has no default")
    if not values.keys() <= record.keys():
        raise _fault("", "wanted the schema's fields, got one that it does not have")
    return record


def _value(given: Any, schema: AvroSchema, named: Named, place: str) -> Any:  # noqa: PLR0911  # one a kind
    schema = resolved(schema, named)
    if isinstance(schema, list):
        return _of_union(given, cast("list[AvroSchema]", schema), named, place)
    match kind_of(schema), given:
        case "null", None:
            return None
        case ("boolean", bool()) | ("string", str()):
            return given
        case ("int" | "long") as kind, int() if not isinstance(given, bool) and given in _INTEGERS[kind]:
            return _time(given, schema, place)
        case "float" | "double", int() | float() if not isinstance(given, bool):
            return float(given)
        case "enum", str() if given in schema["symbols"]:
            return given
        case "bytes" | "fixed", str():
            return _bytes(given, schema, place)
        case kind, _:
            raise _fault(place, f"wanted {kind} as Avro's JSON has it")


def _of_union(given: Any, branches: list[AvroSchema], named: Named, place: str) -> Any:
    if given is None and "null" in branches:
        return None
    if isinstance(given, dict) and len(cast("dict[str, Any]", given)) == 1:
        ((name, value),) = cast("dict[str, Any]", given).items()
        for branch in branches:
            if name == _name(resolved(branch, named)):
                return _value(value, branch, named, place)
    raise _fault(place, 'wanted a value of a union as {"type": value}, or null')


def _name(schema: AvroSchema) -> str:
    """By which a union's branch is named."""
    declared = cast("dict[str, Any]", schema) if isinstance(schema, dict) else {}
    return declared.get("name") or kind_of(schema)


def _time(given: int, schema: AvroSchema, place: str) -> int | datetime:
    unit = _TIMES.get(cast("dict[str, Any]", schema).get("logicalType", "")) if isinstance(schema, dict) else None
    try:
        return _EPOCH + given * unit if unit else given
    except OverflowError:
        raise _fault(place, "wanted a time that a calendar has") from None


def _bytes(given: str, schema: AvroSchema, place: str) -> bytes:
    """Each byte is the character of its number."""
    try:
        content = given.encode("latin-1")
    except UnicodeEncodeError:
        raise _fault(place, "wanted bytes as characters up to U+00FF") from None
    if isinstance(schema, dict) and len(content) != cast("dict[str, Any]", schema).get("size", len(content)):
        raise _fault(place, "wanted as many bytes as the schema says")
    return content


def _fault(place: str, what: str) -> DecodeError:
    return DecodeError("decode", f"decode: Avro at /{place}: {what}")
