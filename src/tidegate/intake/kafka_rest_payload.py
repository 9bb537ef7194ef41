"""From what a Kafka producer sends to an event: JSON, bytes (JSON, or Avro in a frame), or Avro's own JSON.

What a schema wrote is read by that schema, whichever version it is: a producer on an old version goes on. What the
stream's own schema wants is checked after that, as of every event.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from tidegate.errors import DecodeError, EventError, NotFoundError, UsageError
from tidegate.files.avro import AvroSchema, Frame, crc64, read_message, unframe
from tidegate.files.avro_json import from_json
from tidegate.files.evolution import parse
from tidegate.intake.decode import Decoded, Raw, decode, too_large
from tidegate.intake.formats import record_as_json
from tidegate.intake.limits import MAX_EVENT_BYTES
from tidegate.ports.schemas import Schemas, SchemaVersion

#: Codes of a record that is refused, as Confluent's REST Proxy has them.
JSON_TO_AVRO, INVALID_SCHEMA, INVALID_PAYLOAD, NO_SUCH_SCHEMA = 42203, 42205, 42206, 42207

#: No JSON begins with these: they are the first bytes of frames.
_FRAMES = (b"\x00", b"\x03", b"\xc3\x01")

_text = msgspec.json.Decoder(str)
_parsed = lru_cache(256)(parse)


class PayloadError(DecodeError):
    """A record's payload is not an event; `code` is what clients of the REST Proxy know it by."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__("decode", f"decode: {message}")


def code_of(error: EventError) -> int:
    """By which code a record's refusal is told."""
    return error.code if isinstance(error, PayloadError) else INVALID_PAYLOAD


def value_subject(stream: str) -> str:
    """The subject that holds the versions of what a stream's values are written with, as TopicNameStrategy has it."""
    return f"{stream}-value"


def opened(read: Callable[[], Raw], original: bytes) -> Raw | Decoded:
    """The event that is read, or why there is none beside what came in its place."""
    try:
        event = read()
    except EventError as error:
        return Decoded(error, original)
    size = len(bytes(event))
    return Decoded(too_large(size), original) if size > MAX_EVENT_BYTES else event


def text_of(value: msgspec.Raw) -> str:
    """
    Raises:
        PayloadError: it is not a text.
    """
    try:
        return _text.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise PayloadError(INVALID_PAYLOAD, "wanted a text, got another value") from None


def of_base64(schemas: Schemas, stream: str, text: str) -> bytes:
    """The event of bytes in base64: JSON, or Avro in a frame.

    Raises:
        DecodeError: they are neither, or their schema is not known.
    """
    try:
        message = b64decode(text, validate=True)
    except ValueError:
        raise PayloadError(INVALID_PAYLOAD, "wanted bytes in base64, got what is not") from None
    if not message.startswith(_FRAMES):
        return message
    frame = unframe(message)
    schema = _written_with(schemas, stream, frame)
    return record_as_json(stream, schema, lambda: read_message(frame.payload, schema))


def of_avro_json(stream: str, value: msgspec.Raw, schema: str) -> bytes:
    """The event of a record in Avro's JSON encoding.

    Raises:
        DecodeError: it is not the JSON of such a record.
    """
    given = decode(value)
    avro = _parsed(schema)
    try:
        return record_as_json(stream, avro, lambda: from_json(given, avro))
    except DecodeError as error:
        raise PayloadError(JSON_TO_AVRO, str(error).removeprefix("decode: ")) from None


def registered(schemas: Schemas, subject: str, schema: str) -> SchemaVersion:
    """The version that a producer's own schema is, or becomes now.

    Raises:
        PayloadError: it is no schema, or cannot follow the versions before.
    """
    try:
        _parsed(schema)
    except UsageError as error:
        raise PayloadError(INVALID_SCHEMA, str(error)) from None
    try:
        return schemas.register(subject, schema)
    except UsageError as error:
        raise PayloadError(NO_SUCH_SCHEMA, str(error)) from None


def by_id(schemas: Schemas, schema_id: int) -> SchemaVersion:
    """
    Raises:
        PayloadError: no schema has this id.
    """
    try:
        return schemas.named(schema_id)[0]
    except NotFoundError as error:
        raise PayloadError(NO_SUCH_SCHEMA, str(error)) from None


def by_version(schemas: Schemas, subject: str, version: int | None) -> SchemaVersion:
    """A subject's version, the newest without one.

    Raises:
        PayloadError: there is no such version.
    """
    versions = schemas.versions(subject)
    found = [each for each in versions if each.version == version] if version is not None else versions[-1:]
    if not found:
        raise PayloadError(NO_SUCH_SCHEMA, "schemas: the subject has no such version; register it first")
    return found[0]


def _written_with(schemas: Schemas, stream: str, frame: Frame) -> AvroSchema:
    match frame.framing:
        case "confluent":
            return _parsed(by_id(schemas, int(frame.schema_id)).schema)
        case "single object":
            for version in schemas.versions(value_subject(stream)):
                if _fingerprint(version.schema) == frame.schema_id:
                    return _parsed(version.schema)
        case "glue":
            pass
    raise PayloadError(NO_SUCH_SCHEMA, "schemas: the schema that the frame names is not registered here")


@lru_cache(256)
def _fingerprint(schema: str) -> str:
    fingerprinted: Any = _parsed(schema)
    return crc64(fingerprinted)
