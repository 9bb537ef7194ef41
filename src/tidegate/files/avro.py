"""Avro: containers, and single messages in the frames that go over a wire."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Literal, NamedTuple, cast
from uuid import UUID

import fastavro
import pyarrow as pa
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

from tidegate.errors import DecodeError, TidegateError

AvroSchema = Any
"""A schema as JSON has it: a name, a list or an object."""

Framing = Literal["single object", "confluent", "glue"]

_SINGLE_OBJECT = b"\xc3\x01"
_CONFLUENT = b"\x00"
_GLUE = b"\x03"
_GLUE_PLAIN, _GLUE_ZLIB = 0, 5

#: A message's own size, unpacked, beyond which it is a bomb.
MAX_MESSAGE_BYTES = 1 << 20

#: Records in one block. Writers make blocks of 16 KB to some MB; records that take no bytes could be any number.
MAX_BLOCK_RECORDS = 1 << 20

_SCALARS: dict[str, pa.DataType] = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "bytes": pa.binary(),
    "enum": pa.string(),
    "fixed": pa.binary(),
}
_LOGICAL: dict[str, pa.DataType] = {
    "date": pa.date32(),
    "time-millis": pa.time64("us"),
    "time-micros": pa.time64("us"),
    "timestamp-millis": pa.timestamp("us", "UTC"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
    "local-timestamp-millis": pa.timestamp("us"),
    "local-timestamp-micros": pa.timestamp("us"),
    "uuid": pa.string(),
}


class Container:
    """An Avro object container file, whose records can be gone through once, a block at a time.

    Raises:
        DecodeError: what is read is no container, or its schema is no record; also while going through it.
    """

    def __init__(self, name: str, stream: BinaryIO) -> None:
        self._name = name
        with _told(f"file {name}: its beginning"):
            self._reader = cast("Any", fastavro.block_reader(stream))
            written: AvroSchema = self._reader.writer_schema
        if not isinstance(written, dict) or cast("dict[str, Any]", written).get("type") != "record":
            raise _fault(f"file {name}", "wanted an Avro container of records")
        self.fields: list[dict[str, Any]] = written["fields"]
        self.codec: str = self._reader.codec

    def blocks(self) -> Iterator[tuple[int, Callable[[], list[dict[str, Any]]]]]:
        """Of each block, how many records it has, and what decodes them."""
        first = 0
        blocks = iter(self._reader)
        while True:
            with _told(f"file {self._name}: behind record {first}"):
                block = next(blocks, None)
            if block is None:
                return
            if block.num_records > MAX_BLOCK_RECORDS:
                raise _fault(
                    f"file {self._name}: behind record {first}", f"wanted up to {MAX_BLOCK_RECORDS} in a block"
                )
            yield block.num_records, lambda block=block, first=first: self._decoded(block, first)
            first += block.num_records

    def _decoded(self, block: Any, first: int) -> list[dict[str, Any]]:
        with _told(f"file {self._name}: in the block behind record {first}"):
            records = list(block)
        if len(records) != block.num_records:
            raise _fault(f"file {self._name}: in the block behind record {first}", "wanted all its records, got fewer")
        return records

    @property
    def schema(self) -> pa.Schema:
        """The columns that a mapping can read, as Arrow types them."""
        return pa.schema([(field["name"], arrow_type(field["type"], {})) for field in self.fields])


def arrow_type(avro: AvroSchema, named: dict[str, pa.DataType]) -> pa.DataType:
    """The Arrow type of an Avro type. `named` are the types that were declared further up.

    Raises:
        DecodeError: a union of several types, or a type within itself: no column has such a type.
    """
    if isinstance(avro, list):
        given = [each for each in cast("list[AvroSchema]", avro) if each != "null"]
        if len(given) > 1:
            raise _fault("schema", "wanted columns of one type each, got a union of several")
        return arrow_type(given[0], named) if given else pa.null()
    if isinstance(avro, str):
        if avro not in _SCALARS and avro not in named:
            raise _fault("schema", "wanted columns of flat types, got a type within itself")
        return named[avro] if avro in named else _SCALARS[avro]
    declared = cast("dict[str, Any]", avro)
    found = _declared_type(declared, named)
    if "name" in declared:
        named[declared["name"]] = found
    return found


def _declared_type(declared: dict[str, Any], named: dict[str, pa.DataType]) -> pa.DataType:
    if declared.get("logicalType") == "decimal":
        precision: int = declared["precision"]
        scale: int = declared.get("scale", 0)
        return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)  # noqa: PLR2004  # what 128 bits hold
    if (logical := declared.get("logicalType")) in _LOGICAL:
        return _LOGICAL[logical]
    match declared["type"]:
        case "record" | "error":
            return pa.struct([(field["name"], arrow_type(field["type"], named)) for field in declared["fields"]])
        case "array":
            return pa.list_(arrow_type(declared["items"], named))
        case "map":
            return pa.map_(pa.string(), arrow_type(declared["values"], named))
        case other:
            return arrow_type(other, named)


class Frame(NamedTuple):
    """A message on the wire: how it is framed, which schema wrote it, and its bytes."""

    framing: Framing
    schema_id: int | str
    """Confluent: the registry's number. Glue: the schema version's UUID. Single object: its fingerprint, as `crc64`."""
    payload: bytes


def unframe(message: bytes) -> Frame:
    """Take a message out of its frame.

    Confluent: 00, the schema's number in 4 bytes, big endian. Glue: 03, 00 or 05 (zlib), the schema version's UUID in
    16 bytes. Single object (Avro 1.12): C3 01, the CRC-64-AVRO of the schema in 8 bytes, little endian.

    Raises:
        DecodeError: it is in none of these.
    """
    if message.startswith(_SINGLE_OBJECT) and len(message) >= 10:  # noqa: PLR2004
        return Frame("single object", message[2:10][::-1].hex(), message[10:])
    if message.startswith(_CONFLUENT) and len(message) >= 5:  # noqa: PLR2004
        return Frame("confluent", int.from_bytes(message[1:5], "big"), message[5:])
    if message.startswith(_GLUE) and len(message) >= 18 and message[1] in (_GLUE_PLAIN, _GLUE_ZLIB):  # noqa: PLR2004
        payload = message[18:]
        if message[1] == _GLUE_ZLIB:
            payload = _inflate(payload)
        return Frame("glue", str(UUID(bytes=message[2:18])), payload)
    raise _fault("message", "wanted Avro in a frame (single object, Confluent or Glue), got none of them")


def read_message(payload: bytes, schema: AvroSchema) -> dict[str, Any]:
    """One record that a schema wrote, all of the bytes.

    Raises:
        DecodeError: the bytes are not such a record.
    """
    stream = io.BytesIO(payload)
    with _told("message"):
        record = fastavro.schemaless_reader(stream, parse_schema(schema), None)
    if stream.read(1) or not isinstance(record, dict):
        raise _fault("message", "wanted the bytes of one record, got more or another thing")
    return record


def crc64(schema: AvroSchema) -> str:
    """The fingerprint by which a single-object frame names its schema: CRC-64-AVRO of the parsing canonical form."""
    return fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")


def _inflate(payload: bytes) -> bytes:
    inflating = zlib.decompressobj()
    try:
        unpacked = inflating.decompress(payload, MAX_MESSAGE_BYTES)
    except zlib.error:
        raise _fault("message", "wanted zlib, got what is damaged") from None
    if not inflating.eof:
        raise _fault("message", f"wanted up to {MAX_MESSAGE_BYTES} bytes once unpacked, got more or a part")
    return unpacked


@contextmanager
def _told(where: str) -> Generator[None]:
    """Fastavro fails in many ways on bytes that are not Avro, and quotes them."""
    try:
        yield
    except TidegateError:
        raise
    except Exception as error:  # noqa: BLE001  # any of Python's: the bytes decide which
        raise _fault(where, f"cannot be read as Avro ({type(error).__name__})") from None


def _fault(where: str, what: str) -> DecodeError:
    return DecodeError("decode", f"decode: {where}: {what}")
