"""Whether an event fits its stream: types and ranges by the schema, then what a type cannot say."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import msgspec
from stdnum import luhn

from tidegate.errors import SchemaError
from tidegate.intake.codes import CURRENCIES
from tidegate.intake.decode import kind
from tidegate.intake.limits import MAX_AHEAD_US, MIN_EVENT_TIME_US
from tidegate.intake.sensitive import personal_in
from tidegate.streams.schema import MAX_TEXT_CHARS, Field, PersonalClass, Schema

#: An id stands in URLs, log lines and keys: letters that need no escape anywhere.
EVENT_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

#: Digits of a card number (ISO/IEC 7812-1), without the short ones that first six and last four would give away.
_CARD_NUMBER = re.compile(r"\d{13,19}")
_CARD_SEPARATORS = re.compile(r"[ -]")

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_COUNTRY = re.compile(r"[A-Z]{2}")
_MERCHANT_CATEGORY = re.compile(r"\d{4}")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]

Check = Callable[[Any], bool]


def _is_event_id(text: str) -> bool:
    return bool(EVENT_ID.fullmatch(text))


def is_pan(text: str) -> bool:
    """Whether a text is a card number: 13 to 19 digits, which spaces or hyphens may part, with Luhn's check digit."""
    digits = _CARD_SEPARATORS.sub("", text)
    return bool(_CARD_NUMBER.fullmatch(digits)) and digits.isascii() and luhn.checksum(digits) == 0


def _is_ip(text: str) -> bool:
    try:
        # A zone ("%eth0") means something on one machine only.
        return bool(ipaddress.ip_address(text)) and "%" not in text
    except ValueError:
        return False


def _is_geo(text: str) -> bool:
    try:
        latitude, longitude = (float(degrees) for degrees in text.split(","))
    except ValueError:
        return False
    return _is_latitude(latitude) and _is_longitude(longitude)


def _is_birth_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _is_latitude(degrees: float) -> bool:
    return math.isfinite(degrees) and abs(degrees) <= 90  # noqa: PLR2004  # the pole


def _is_longitude(degrees: float) -> bool:
    return math.isfinite(degrees) and abs(degrees) <= 180  # noqa: PLR2004  # the antimeridian


def _is_not_blank(text: str) -> bool:
    return not text.isspace()


#: What is wanted of a personal value beyond a text.
_PERSONAL: Mapping[PersonalClass, tuple[str, Check]] = {
    "pan": ("a card number of 13 to 19 digits with a right check digit", is_pan),
    "email": ("an e-mail address", lambda text: bool(_EMAIL.fullmatch(text))),
    "ip": ("an IPv4 or IPv6 address", _is_ip),
    "geo": ("'latitude,longitude' in degrees", _is_geo),
    "birth_date": ("a date, YYYY-MM-DD", _is_birth_date),
}
_NOT_BLANK = ("a text that is not blank", _is_not_blank)

#: What is wanted of a field by its name, or the last word of its name.
_BY_NAME: Mapping[str, tuple[str, Check]] = {
    "event_id": ("1 to 128 of the characters A-Z a-z 0-9 . _ : -", _is_event_id),
    "currency": ("an ISO 4217 code in capitals, as EUR", CURRENCIES.__contains__),
    "country": ("an ISO 3166-1 code of two capitals, as DE", lambda text: bool(_COUNTRY.fullmatch(text))),
    "category": ("an ISO 18245 code of four digits", lambda text: bool(_MERCHANT_CATEGORY.fullmatch(text))),
    "latitude": ("degrees from -90 to 90", _is_latitude),
    "longitude": ("degrees from -180 to 180", _is_longitude),
}


class Validator:
    """Checks the events of one stream."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._checks: list[tuple[str, str, Check]] = []
        self._open_texts: list[str] = []
        self._times = [field.name for field in schema.fields if field.kind == "timestamp"]
        for field in schema.fields:
            wanted_by_name = _BY_NAME.get(field.name) or _BY_NAME.get(field.name.rpartition("_")[2])
            if field.personal:
                self._checks.append((field.name, *_PERSONAL.get(field.personal, _NOT_BLANK)))
            elif wanted_by_name:
                self._checks.append((field.name, *wanted_by_name))
            elif field.kind == "double":
                # JSON has no other numbers; Parquet and its like have.
                self._checks.append((field.name, "a finite number", math.isfinite))
            if field.kind == "string" and not field.personal:
                self._open_texts.append(field.name)

    def check(self, event: dict[str, Any], now_us: int) -> dict[str, Any]:
        """The schema's fields of an event, times in microseconds; a field that is not there is None.

        `now_us` is the door's time, microseconds.

        Raises:
            SchemaError: a field is missing, has another type or another form than wanted, or holds a personal value
                where none belongs; names the first such field.
        """
        given = event | {name: _time(name, event[name]) for name in self._times if name in event}
        _check_event_time(given.get("event_time"), now_us)
        try:
            fields = msgspec.structs.asdict(msgspec.convert(given, self._schema.struct))
        except msgspec.ValidationError:
            raise self._type_fault(given) from None
        for name, wanted, holds in self._checks:
            value = fields[name]
            if value is not None and not holds(value):
                raise _fault(name, wanted, value)
        texts = [text for name in self._open_texts if (text := fields[name])]
        if personal_in("\n".join(texts)):
            raise self._personal_fault(fields)
        return fields

    def takes(self, field: Field, value: object, now_us: int) -> bool:
        """Whether the stream takes a value for one of its fields."""
        try:
            if field.name == "event_time":
                _check_event_time(value, now_us)
            taken = msgspec.convert(value, field.python_type)
        except (SchemaError, msgspec.ValidationError):
            return False
        if taken is None:
            return True
        fits = all(holds(taken) for name, _, holds in self._checks if name == field.name)
        return fits and not (field.name in self._open_texts and personal_in(taken))

    def _type_fault(self, given: dict[str, Any]) -> SchemaError:
        """The field at fault, looked for again: msgspec's own message would hold its value."""
        for field in self._schema.fields:
            if field.name not in given:
                if not field.nullable:
                    return SchemaError(
                        "validate", f"validate: wanted the field {field.name}, got none; send it", field.name
                    )
                continue
            try:
                msgspec.convert(given[field.name], field.python_type)
            except msgspec.ValidationError:
                return _fault(field.name, _wanted(field), given[field.name])
        raise AssertionError("an event whose every field converts, converts")

    def _personal_fault(self, fields: dict[str, Any]) -> SchemaError:
        name, held = next(
            (name, held) for name in self._open_texts if fields[name] and (held := personal_in(fields[name]))
        )
        return SchemaError(
            "validate",
            f"validate: field {name}: wanted no personal value, got {held}; send it in the field that is made for it",
            name,
        )


def _time(name: str, given: object) -> object:
    """Microseconds of an RFC 3339 text; anything else as it is, for the schema to take or refuse."""
    if not isinstance(given, str):
        return given
    try:
        return (msgspec.convert(given, _Instant) - _EPOCH) // _MICROSECOND
    except (msgspec.ValidationError, OverflowError):
        raise _fault(name, "an RFC 3339 time with its offset, or microseconds", given) from None


def _check_event_time(given: object, now_us: int) -> None:
    if (
        isinstance(given, int)
        and not isinstance(given, bool)
        and not MIN_EVENT_TIME_US <= given <= now_us + MAX_AHEAD_US
    ):
        raise SchemaError(
            "validate",
            "validate: field event_time: wanted a time from 2000 on, at most a day ahead of the door's clock, got one "
            f"{'before' if given < MIN_EVENT_TIME_US else 'after'} that; send microseconds since 1970, or RFC 3339",
            "event_time",
        )


def _wanted(field: Field) -> str:
    match field.kind:
        case "enum":
            return "one of " + ", ".join(field.symbols)
        case "string":
            return f"a text of 1 to {MAX_TEXT_CHARS} characters"
        case "timestamp":
            return "an RFC 3339 time with its offset, or microseconds"
        case "long":
            return f"an integer from {field.bounds[0]} to {field.bounds[1]}"
        case "double":
            return "a number"
        case _:
            return "true or false"


def _fault(name: str, wanted: str, value: object) -> SchemaError:
    return SchemaError(
        "validate", f"validate: field {name}: wanted {wanted}, got {kind(value)}; send it in that form", name
    )
