"""One form for each class of personal value, so that the same value gives the same token wherever it comes from."""

from __future__ import annotations

import math
import re
import socket
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date
from ipaddress import IPv6Address

from tidegate.streams.schema import PersonalClass

#: Decimals of a degree that are kept of a position: a grid of about 1 km, so that two fixes of one place meet.
GEO_DECIMALS = 2

_NOT_A_DIGIT = re.compile(r"[^0-9]+")
_SEPARATORS = re.compile(r"[\s./\-]+")


def _compatible(value: str) -> str:
    """Unicode NFKC: full-width digits, ligatures and composed letters become one form. Plain ASCII has it already.
    A change of case or a letter removed may leave that form, and calls for it again.
    """
    return value if value.isascii() else unicodedata.normalize("NFKC", value)


def _stripped(value: str) -> str:
    return value.strip()


def _pan(value: str) -> str:
    return _NOT_A_DIGIT.sub("", _compatible(value))


def _email(value: str) -> str:
    # No tricks of one provider (dots, +tags): what is one mailbox there is two elsewhere.
    return _compatible(_compatible(value).lower()).strip()


def _phone(value: str) -> str:
    text = _compatible(value).strip()
    digits = _NOT_A_DIGIT.sub("", text)
    if text.startswith("+"):
        return "+" + digits
    return "+" + digits[2:] if digits.startswith("00") else digits


def _words(value: str) -> str:
    return " ".join(_compatible(_compatible(value).casefold()).split())


def _ip(value: str) -> str:
    text = value.strip()
    try:
        if ":" not in text:
            return socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, text))
        address = IPv6Address(socket.inet_pton(socket.AF_INET6, text))
    except (OSError, ValueError):
        return text
    return str(address.ipv4_mapped or address)


def _geo(value: str) -> str:
    latitude, _, longitude = value.partition(",")
    try:
        degrees = (float(latitude), float(longitude))
    except ValueError:
        return value.strip()
    if not all(math.isfinite(degree) for degree in degrees):
        return value.strip()
    # Adding 0.0 turns -0.0 into 0.0: both sides of the meridian's line are one place.
    return ",".join(f"{round(degree, GEO_DECIMALS) + 0.0:.{GEO_DECIMALS}f}" for degree in degrees)


def _birth_date(value: str) -> str:
    text = value.strip()
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return text


def _national_id(value: str) -> str:
    return _compatible(_SEPARATORS.sub("", _compatible(value)).upper())


_FORMS: Mapping[PersonalClass, Callable[[str], str]] = {
    "customer": _stripped,
    "device": _stripped,
    "pan": _pan,
    "email": _email,
    "phone": _phone,
    "name": _words,
    "address": _words,
    "ip": _ip,
    "geo": _geo,
    "birth_date": _birth_date,
    "national_id": _national_id,
}


def normalise(personal: PersonalClass, value: str) -> str:
    """Bring a personal value into the one form of its class.

    pan: digits only. email: NFKC, lower case. phone: E.164, digits after `+` (`00` becomes `+`). name, address: NFKC,
    casefold, single spaces. ip: RFC 5952, an IPv4-mapped IPv6 address as IPv4. geo: `latitude,longitude` rounded to
    GEO_DECIMALS. birth_date: YYYY-MM-DD. national_id: upper case without separators. customer, device: stripped.

    A value that its form would leave empty ("n/a" as a phone) stays as it is, so that unlike values don't meet.
    """
    return _FORMS[personal](value) or value.strip()
