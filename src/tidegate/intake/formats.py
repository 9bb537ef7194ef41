"""Bodies that are no JSON: CSV and Avro become JSON here, an object an event, and go on as if they had come so.

Parquet and ORC come as files only: what they unpack to is told by nothing that can be trusted, so they are decoded in
processes of their own. For the same reason Avro comes with flat columns, and packed by Content-Encoding alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa
from fastapi import Request
from starlette.exceptions import HTTPException

from tidegate.errors import DecodeError
from tidegate.files.avro import AvroSchema, Container, arrow_type, crc64, read_message, unframe
from tidegate.files.columnar import rows_of
from tidegate.files.csvtext import Cells
from tidegate.files.evolution import kind_of
from tidegate.files.formats import Encoding, unpack
from tidegate.intake.bare import bare
from tidegate.intake.body import media_type
from tidegate.intake.decode import JSON, NDJSON, Decoded, Raw, Split, split_json, split_lines
from tidegate.intake.limits import MAX_BODY_BYTES, MAX_EVENTS
from tidegate.streams.schema import load_schema

CSV = "text/csv"
AVRO = "application/avro"

_CONTAINER = b"Obj\x01"
_SINGLE_OBJECT = b"\xc3\x01"

_ENCODINGS: Mapping[str, Encoding] = {"gzip": "gzip", "zstd": "zstd"}

_encoder = msgspec.json.Encoder()


def split_of(request: Request, stream: str) -> Split:
    """How a body of events is unpacked and cut into them, by Content-Encoding and Content-Type.

    Raises:
        HTTPException: 415, another media type, charset or encoding than those that are taken.
    """
    splits: dict[str, Split] = {
        JSON: split_json,
        NDJSON: split_lines,
        CSV: partial(_split_csv, stream),
        AVRO: partial(_split_avro, stream),
    }
    split = splits[media_type(request, among=tuple(splits))]
    given = request.headers.get("content-encoding", "identity").strip().lower()
    if given == "identity":
        return split
    if given not in _ENCODINGS:
        wanted = ", ".join(_ENCODINGS)
        raise HTTPException(415, f"content encoding: wanted {wanted} or none", {"Accept-Encoding": wanted})
    return partial(_unpacked, _ENCODINGS[given], split)


def _unpacked(encoding: Encoding, split: Split, body: bytes) -> Sequence[Raw | Decoded]:
    return split(unpack(body, encoding, MAX_BODY_BYTES))


def _split_csv(stream: str, body: bytes) -> Sequence[Raw | Decoded]:
    cells = Cells("body", io.BytesIO(body))
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(cells, 1):
        if isinstance(row, DecodeError):
            raise DecodeError("decode", f"{row} (row {number}); nothing of the body was taken")
        rows.append(dict(zip(cells.names, row, strict=True)))
    return _as_json(stream, rows)


def _split_avro(stream: str, body: bytes) -> Sequence[Raw | Decoded]:
    if body.startswith(_SINGLE_OBJECT):
        frame, schema = unframe(body), load_schema(stream).avro
        if frame.schema_id != crc64(schema):
            raise _fault(f"wanted a single object of the schema of {stream}, got one of another")
        return _as_json(stream, [read_message(frame.payload, schema)])
    if not body.startswith(_CONTAINER):
        raise _fault("wanted Avro, an object container or a single object, got something else")
    container = Container("body", io.BytesIO(body))
    if container.codec != "null":
        raise _fault(f"wanted a container that is not packed itself, got {container.codec}; use Content-Encoding")
    schema = _flat(container.schema)
    rows: list[dict[str, Any]] = []
    for size, read in container.blocks():
        if len(rows) + size > MAX_EVENTS:
            raise HTTPException(413, f"size: wanted up to {MAX_EVENTS} events, got more; send them in parts")
        rows += _read(schema, read)
    return _as_json(stream, rows)


def record_as_json(stream: str, avro: AvroSchema, read: Callable[[], dict[str, Any]]) -> bytes:
    """The event of one record that a schema wrote. It is read once it is known that the schema's columns are flat: what
    else it unpacks to is told by nothing that can be trusted.

    Raises:
        DecodeError: the schema is no record of flat columns, or the record is not as it says.
    """
    if kind_of(avro) != "record":
        raise _fault(f"wanted the schema of a record, got that of {kind_of(avro)}")
    columns = _flat(pa.schema([(field["name"], arrow_type(field["type"], {})) for field in avro["fields"]]))
    return _as_json(stream, _read(columns, lambda: [read()]))[0]


def _flat(schema: pa.Schema) -> pa.Schema:
    if nested := [field.name for field in schema if pa.types.is_nested(field.type) or pa.types.is_null(field.type)]:
        raise _fault(f"wanted flat columns, got {nested[0]}")
    return schema


def _read(schema: pa.Schema, read: Callable[[], list[dict[str, Any]]]) -> Sequence[dict[str, Any]]:
    records = read()
    try:
        return rows_of(pa.RecordBatch.from_pylist(records, schema))
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise _fault(f"wanted values of the container's own types, got others ({type(error).__name__})") from None


def _as_json(stream: str, rows: Sequence[dict[str, Any]]) -> list[bytes]:
    return [_encoder.encode(row) for row in bare(stream, rows)]


def _fault(what: str) -> DecodeError:
    return DecodeError("decode", f"decode: {what}")
