"""A stream's schema: one Avro file, and the struct, the Arrow schema and the personal-data classes made from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Annotated, Any, Literal, cast

import msgspec
import pyarrow as pa

from tidegate.errors import NotFoundError

#: What a personal field holds. Each class has its own token key and its own way to be brought into one form
#: ("normalised") before it is tokenised, so that the same person's value gives the same token wherever it comes from.
PersonalClass = Literal[
    "customer", "pan", "email", "phone", "name", "address", "ip", "geo", "device", "birth_date", "national_id"
]

#: A PAN leaves these two clear parts behind, which PCI DSS 3.4.1 allows to be shown: `<field>_bin` and `<field>_last4`.
PAN_PARTS = ("bin", "last4")

#: Longest text taken in any one field: long enough for a postal address, short enough that a key stays a key.
MAX_TEXT_CHARS = 1024

STREAMS = ("transactions", "labels", "customers", "lists", "stock", "prices", "weather", "carts", "sessions")

LONG_BOUNDS = (-(2**63), 2**63 - 1)

_AVRO_TO_ARROW = {"string": pa.string(), "long": pa.int64(), "double": pa.float64(), "boolean": pa.bool_()}
_AVRO_TO_PYTHON = {"string": str, "long": int, "double": float, "boolean": bool}
_LONG = Annotated[int, msgspec.Meta(ge=LONG_BOUNDS[0], le=LONG_BOUNDS[1])]
_ARROW_TO_PYTHON: dict[pa.DataType, Any] = {
    pa.string(): str,
    pa.int64(): _LONG,
    pa.timestamp("us"): _LONG,
    pa.float64(): float,
    pa.bool_(): bool,
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a stream. `kind` is string, long, double, boolean, timestamp or enum."""

    name: str
    kind: str
    nullable: bool
    doc: str
    personal: PersonalClass | None
    symbols: tuple[str, ...]
    bounds: tuple[int, int] = LONG_BOUNDS
    """Least and greatest value of a long."""

    @property
    def arrow_type(self) -> pa.DataType:
        if self.kind == "timestamp":
            return pa.timestamp("us")
        return _AVRO_TO_ARROW["string" if self.kind == "enum" else self.kind]

    @property
    def python_type(self) -> Any:
        """The type msgspec checks an event's value against, once `event_time` is an integer of microseconds."""
        base: Any
        if self.kind == "enum":
            base = Literal[self.symbols]
        elif self.kind == "timestamp":
            base = int
        elif self.kind == "string":
            base = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT_CHARS)]
        elif self.kind == "long":
            least, most = self.bounds
            base = Annotated[int, msgspec.Meta(ge=least, le=most)]
        else:
            base = _AVRO_TO_PYTHON[self.kind]
        return base | None if self.nullable else base


@dataclass(frozen=True)
class Schema:
    """A stream's schema.

    `key` is the field whose value picks the partition, `subject` the field that names the person whose key seals the
    event's personal data (None: the stream has no personal data).
    """

    name: str
    doc: str
    key: str
    subject: str | None
    fields: tuple[Field, ...]
    avro: dict[str, Any]
    struct: type[msgspec.Struct]
    """Decodes and checks one event as it came in: personal fields in clear."""

    @cached_property
    def personal(self) -> dict[str, PersonalClass]:
        return {field.name: field.personal for field in self.fields if field.personal}

    @cached_property
    def protected_columns(self) -> dict[str, pa.DataType]:
        """Columns of the event once it is protected, in order: personal fields hold tokens, a PAN also its parts."""
        columns: dict[str, pa.DataType] = {}
        for field in self.fields:
            columns[field.name] = field.arrow_type
            if field.personal == "pan":
                columns |= {f"{field.name}_{part}": pa.string() for part in PAN_PARTS}
        return columns

    @cached_property
    def arrow(self) -> pa.Schema:
        """The columnar batch of this stream, as the kernel and the lake see it."""
        return pa.schema(list(self.protected_columns.items()))

    @cached_property
    def nothing(self) -> pa.RecordBatch:
        """A batch of no events."""
        return pa.RecordBatch.from_pylist([], self.arrow)

    @cached_property
    def protected(self) -> type[msgspec.Struct]:
        """Decodes one event as it stands in the log: the protected columns, times as integers of microseconds."""
        required = {field.name for field in self.fields if not field.nullable}
        columns = [(name, _ARROW_TO_PYTHON[arrow]) for name, arrow in self.protected_columns.items()]
        fields: list[Any] = [
            (name, python) if name in required else (name, python | None, None) for name, python in columns
        ]
        return msgspec.defstruct(f"protected_{self.name}", fields, kw_only=True, frozen=True)


def _field(declared: dict[str, Any]) -> Field:
    avro_type: Any = declared["type"]
    nullable = isinstance(avro_type, list)
    if nullable:
        avro_type = cast("list[Any]", avro_type)[1]
    symbols: tuple[str, ...] = ()
    kind: str = avro_type if isinstance(avro_type, str) else avro_type["type"]
    if isinstance(avro_type, dict):
        avro = cast("dict[str, Any]", avro_type)
        if kind == "enum":
            symbols = tuple(avro["symbols"])
        elif avro.get("logicalType") == "timestamp-micros":
            kind = "timestamp"
    return Field(
        name=declared["name"],
        kind=kind,
        nullable=nullable,
        doc=declared.get("doc", ""),
        personal=declared.get("personal"),
        symbols=symbols,
        bounds=(declared.get("minimum", LONG_BOUNDS[0]), declared.get("maximum", LONG_BOUNDS[1])),
    )


@cache
def load_schema(stream: str) -> Schema:
    """Read a stream's schema.

    Raises:
        NotFoundError: there is no such stream.
    """
    if stream not in STREAMS:
        raise NotFoundError(f"stream {stream!r}: not one of {', '.join(STREAMS)}")
    avro = json.loads(files("tidegate.streams").joinpath("schemas", f"{stream}.avsc").read_text("utf-8"))
    fields = tuple(_field(declared) for declared in avro["fields"])
    required = [(field.name, field.python_type) for field in fields if not field.nullable]
    optional = [(field.name, field.python_type, None) for field in fields if field.nullable]
    struct = msgspec.defstruct(stream, [*required, *optional], kw_only=True, frozen=True)
    return Schema(stream, avro["doc"], avro["key"], avro["subject"], fields, avro, struct)
