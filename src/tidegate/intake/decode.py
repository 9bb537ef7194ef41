"""From a request's bytes to events: each a JSON object, free of what may not be kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from tidegate.errors import DecodeError, EventError
from tidegate.intake.limits import MAX_EVENT_BYTES
from tidegate.intake.sensitive import is_sensitive, strip_sensitive

JSON = "application/json"
NDJSON = "application/x-ndjson"


class Decoded(NamedTuple):
    """`event` is free of sensitive authentication data, or says why there is none. `original` is kept if it is refused:
    bytes that nobody could read, or the values by name.
    """

    event: dict[str, Any] | EventError
    original: bytes | dict[str, Any]
    row: int | None = None
    """Where it stood in its file, counted from 1."""


Raw = bytes | msgspec.Raw
"""The JSON of one event, not decoded yet."""

Split = Callable[[bytes], Sequence[Raw | Decoded]]
"""Cuts a body into its events: each as JSON, or decoded already."""

_array = msgspec.json.Decoder(list[msgspec.Raw])
_any = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()

#: A colon, and what else JSON may escape so: with it in the bytes, colons cannot be counted.
_ESCAPED_PUNCTUATION = b"\\u003"


def split_json(body: bytes) -> Sequence[Raw]:
    """The bytes of each event in a JSON body: an object, or the elements of an array.

    Raises:
        DecodeError: an array that is not JSON.
    """
    return _parse(_array.decode, body) if body.lstrip().startswith(b"[") else [body]


def split_lines(body: bytes) -> Sequence[Raw]:
    """The bytes of each event in an NDJSON body: its lines that are not blank."""
    return [line for line in body.split(b"\n") if line.strip()]


def split_nothing(body: bytes) -> Sequence[Raw]:
    """The bytes of one event."""
    return [body]


def decode(event: Raw) -> dict[str, Any]:
    """One event, without sensitive authentication data.

    Raises:
        DecodeError: not JSON as RFC 8259 has it (NaN, lone surrogates and numbers out of a double's range are not), not
            an object, an object with a name twice, or nested too deep.
    """
    fields = _parse(_any.decode, event)
    if not isinstance(fields, dict):
        raise DecodeError("decode", f"decode: wanted a JSON object, got {kind(fields)}; send each event as an object")
    fields = cast("dict[str, Any]", fields)
    encoded = _encoder.encode(fields)
    if _has_doubled_name(bytes(event), encoded):
        raise DecodeError("decode", "decode: wanted each name once in an object, got one twice; send it once")
    return _stripped(fields, encoded)


def decoded(raw: Raw, row: int | None = None) -> Decoded:
    """One event from its JSON."""
    try:
        event = decode(raw)
    except EventError as error:
        return Decoded(error, bytes(raw), row)
    return Decoded(event, event, row)


def stripped(fields: dict[str, Any]) -> dict[str, Any]:
    """An event that came in another format than JSON, without sensitive authentication data.

    Raises:
        DecodeError: it is larger than MAX_EVENT_BYTES as JSON, or nested too deep.
    """
    encoded = _encoder.encode(fields)
    if len(encoded) > MAX_EVENT_BYTES:
        raise too_large(len(encoded))
    return _stripped(fields, encoded)


def too_large(size: int) -> DecodeError:
    """An event that is more than the door takes."""
    return DecodeError("decode", f"decode: wanted events of up to {MAX_EVENT_BYTES} bytes, got {size}; send less")


def _stripped(fields: dict[str, Any], encoded: bytes) -> dict[str, Any]:
    return strip_sensitive(fields) if is_sensitive(fields, encoded) else fields


_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "an object",
}


def kind(value: object) -> str:
    """What a value is, of JSON or of another format, without the value."""
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def _parse(read: Callable[[Raw], Any], content: Raw) -> Any:
    try:
        return read(content)
    except RecursionError:
        raise DecodeError("decode", "decode: wanted flat JSON, got deep nesting; send a flat event") from None
    except UnicodeDecodeError as error:
        raise DecodeError("decode", f"decode: wanted UTF-8, got another byte at {error.start} of a text") from None
    except msgspec.MsgspecError as error:
        # msgspec says what is wrong at which byte, and no value.
        raise DecodeError("decode", f"decode: wanted JSON, got what is not: {error}; mend it there") from None


def _has_doubled_name(content: bytes, encoded: bytes) -> bool:
    """A name twice in an object means one thing to one reader and another to the next. msgspec keeps the last: encoded
    again, the event has fewer colons than it came with.
    """
    if _ESCAPED_PUNCTUATION not in content:
        return encoded.count(b":") != content.count(b":")
    doubled = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal doubled
        doubled |= len(dict(pairs)) != len(pairs)

    _parse(lambda text: json.loads(bytes(text), object_pairs_hook=look), content)
    return doubled
