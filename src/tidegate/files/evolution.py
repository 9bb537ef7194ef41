"""Whether one Avro schema reads what another one wrote: schema resolution, as Avro 1.12 has it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from fastavro.schema import parse_schema

from tidegate.errors import UsageError
from tidegate.files.avro import AvroSchema

#: Largest text of a schema. Those of the company's streams have 5 KB.
MAX_SCHEMA_BYTES = 65_536

_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
#: What a reader's type takes from a writer's, beside its own.
_PROMOTED: Mapping[str, frozenset[str]] = {
    "long": frozenset({"int"}),
    "float": frozenset({"int", "long"}),
    "double": frozenset({"int", "long", "float"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}


def parse(text: str) -> AvroSchema:
    """A schema from its text, with full names.

    Raises:
        UsageError: it is not Avro, or larger than MAX_SCHEMA_BYTES.
    """
    if len(text.encode("utf-8", "replace")) > MAX_SCHEMA_BYTES:
        raise UsageError(f"schema: wanted up to {MAX_SCHEMA_BYTES} bytes, got more; leave out what it does not need")
    try:
        return parse_schema(json.loads(text), named_schemas={})
    except Exception as error:  # noqa: BLE001  # any of Python's: the text decides which
        raise UsageError(f"schema: wanted a schema in Avro, as JSON ({type(error).__name__}); mend it") from None


def unreadable(reader: AvroSchema, writer: AvroSchema) -> list[str]:
    """Why the reader's schema can't read what the writer's wrote, each with its place; empty if it can. Both come from
    `parse`.
    """
    check = _Check(reader, writer)
    check.types(reader, writer, "")
    return check.found


class _Check:
    def __init__(self, reader: AvroSchema, writer: AvroSchema) -> None:
        self._readers, self._writers = named_types(reader), named_types(writer)
        self._seen: set[tuple[str, str]] = set()
        self.found: list[str] = []

    def types(self, reader: AvroSchema, writer: AvroSchema, place: str) -> None:
        reader, writer = resolved(reader, self._readers), resolved(writer, self._writers)
        if isinstance(writer, list):
            for branch in cast("list[AvroSchema]", writer):
                self.types(reader, branch, place)
        elif isinstance(reader, list):
            if not any(self._reads(branch, writer) for branch in cast("list[AvroSchema]", reader)):
                self._tell(place, f"no type of the reader's takes a {kind_of(writer)}")
        elif kind_of(reader) != kind_of(writer):
            if kind_of(writer) not in _PROMOTED.get(kind_of(reader), ()):
                self._tell(place, f"a {kind_of(reader)} does not take a {kind_of(writer)}")
        elif isinstance(reader, dict):
            self._same_kind(cast("dict[str, Any]", reader), cast("dict[str, Any]", writer), place)

    def _reads(self, reader: AvroSchema, writer: AvroSchema) -> bool:
        before = len(self.found)
        self.types(reader, writer, "")
        reads = len(self.found) == before
        del self.found[before:]
        return reads

    def _same_kind(self, reader: dict[str, Any], writer: dict[str, Any], place: str) -> None:
        match kind_of(reader):
            case "array":
                self.types(reader["items"], writer["items"], f"{place}/items")
            case "map":
                self.types(reader["values"], writer["values"], f"{place}/values")
            case "fixed" if self._same_name(reader, writer, place) and reader["size"] != writer["size"]:
                self._tell(place, f"{reader['size']} bytes do not take {writer['size']}")
            case "enum" if self._same_name(reader, writer, place) and "default" not in reader:
                if missing := sorted(set(writer["symbols"]) - set(reader["symbols"])):
                    self._tell(place, f"the reader lacks {', '.join(missing)}")
            case "record" if self._same_name(reader, writer, place):
                pair = (reader["name"], writer["name"])
                if pair not in self._seen:
                    self._seen.add(pair)
                    self._fields(reader["fields"], writer["fields"], place)
            case _:
                pass

    def _fields(self, reader: Sequence[dict[str, Any]], writer: Sequence[dict[str, Any]], place: str) -> None:
        written = {field["name"]: field for field in writer}
        for field in reader:
            names = [field["name"], *field.get("aliases", ())]
            source = next((written[name] for name in names if name in written), None)
            if source is not None:
                self.types(field["type"], source["type"], f"{place}/{field['name']}")
            elif "default" not in field:
                self._tell(f"{place}/{field['name']}", "is not written and has no default")

    def _same_name(self, reader: dict[str, Any], writer: dict[str, Any], place: str) -> bool:
        same = _bare(writer["name"]) in {_bare(name) for name in (reader["name"], *reader.get("aliases", ()))}
        if not same:
            self._tell(place, f"{reader['name']} is not {writer['name']}")
        return same

    def _tell(self, place: str, what: str) -> None:
        self.found.append(f"{place or '/'}: {what}")


def named_types(schema: AvroSchema) -> dict[str, dict[str, Any]]:
    """The named types that a parsed schema declares, by full name."""
    found: dict[str, dict[str, Any]] = {}
    left: list[AvroSchema] = [schema]
    while left:
        each = left.pop()
        if isinstance(each, list):
            left += cast("list[AvroSchema]", each)
        elif isinstance(each, dict):
            declared = cast("dict[str, Any]", each)
            if "name" in declared:
                found[declared["name"]] = declared
            left += [field["type"] for field in declared.get("fields", ())]
            left += [declared[part] for part in ("items", "values", "type") if part in declared]
    return found


def resolved(schema: AvroSchema, named: Mapping[str, dict[str, Any]]) -> AvroSchema:
    """The type itself, where its name alone stands."""
    return named.get(schema, schema) if isinstance(schema, str) else schema


def kind_of(schema: AvroSchema) -> str:
    """record, enum, array, map, fixed or the name of a primitive."""
    kind: Any = schema
    while isinstance(kind, dict):
        kind = cast("dict[str, Any]", kind)["type"]
    return "record" if kind == "error" else str(kind)


def _bare(name: str) -> str:
    return name.rpartition(".")[2]
