"""What may not be kept, and what may not stand in clear.

PCI DSS 3.3.1: sensitive authentication data (card verification code, full track, PIN and PIN block) is never kept after
the authorisation, not even encrypted. The door removes it, however it is spelt or nested, before anything is written.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any, cast

from stdnum import luhn

from tidegate.errors import DecodeError
from tidegate.intake.limits import MAX_DEPTH

#: A field is sensitive if one of its words is one of these,
_WORDS = frozenset({"cvv", "cvc", "cvn", "cvd", "csc", "cav", "cid", "pin", "ipin", "mpin", "pvv", "track", "tracks"})

#: or if its letters and digits, run together, hold one of these,
_PARTS = re.compile(
    r"cvv|cvc2?|cvn2|cav2|csc2|pinblock|pinvalue|pindata|track[123]|trackdata|fulltrack|magstripe|magneticstripe|swipedata"
    r"|securitycode|cardverification|verificationcode|verificationvalue"
)

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_NO_LETTER_OR_DIGIT = re.compile(r"[\W_]+")

#: Sensitive data inside a text: the two tracks of a magnetic stripe (ISO/IEC 7813), a code behind its name.
_IN_TEXT = re.compile(
    r"%?[Bb]\d{12,19}\^[^?\n]{0,200}\??|;?\d{12,19}[=D]\d{4,40}\??"
    r"|\b(?:cvv|cvc|cvn|cvd|csc|cav|cid|pin|security code)2?\b[^\w\n]{0,6}(?:(?:is|code|number)\b[^\w\n]{0,6}){0,2}"
    r"\d{3,12}\b",
    re.IGNORECASE,
)

_REMOVED = "[removed]"

#: What every sensitive name and text has in it somewhere, once its letters are small and its punctuation is gone: the
#: letters of the names; the separators of a track.
_HINTS = (
    *(b"cvv", b"cvc", b"cvn", b"cvd", b"csc", b"cav", b"cid", b"pin", b"pvv", b"track", b"stripe", b"swipe"),
    *(b"securitycode", b"verification", b"=", b"^", b"d2", b"d3"),
)
_SMALL = bytes(range(256)).lower()
_PUNCTUATION = bytes(byte for byte in range(128) if not chr(byte).isalnum() and chr(byte) not in "=^")

#: An object that says what it holds: {"name": "cvv", "value": "123"}.
_NAMING = ("name", "key", "field", "type", "id", "code", "label")

_DIGITS = bytes.maketrans(b"0123456789", b"#" * 10)

#: A card number within a text: as one run, or in the groups printed on cards. Not beside a hexadecimal digit: runs
#: within a hash or a UUID are no card numbers.
_CARD_RUN = re.compile(
    r"(?<![0-9A-Fa-f])\d{13,19}(?![0-9A-Fa-f])"
    r"|(?<![\w-])\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?(?![\w-])"
    r"|(?<![\w-])3\d{3}([ -])\d{6}\2\d{5}(?![\w-])"
)
_EMAIL = re.compile(r"[^@\s]@[\w-]+\.\w")

#: First digits of the card schemes (ISO/IEC 7812): serial numbers and times seldom begin so.
_SCHEMES = re.compile(r"[3-6]|2[2-7]")


@lru_cache(maxsize=4096)
def is_sensitive_name(name: str) -> bool:
    """Whether a field of this name holds sensitive authentication data. In doubt it does."""
    plain = unicodedata.normalize("NFKC", name)
    joined = _NO_LETTER_OR_DIGIT.sub("", plain).casefold()
    if joined in _WORDS or _PARTS.search(joined):
        return True
    return any(word.casefold() in _WORDS for word in _WORD.findall(plain))


def may_be_sensitive(encoded: bytes) -> bool:
    """Whether an event's JSON, in which nothing is escaped without need, may hold sensitive authentication data. Most
    events hold no hint of it, and to look for one takes a fifth of the time that `strip_sensitive` takes.
    """
    if not encoded.isascii():
        encoded = unicodedata.normalize("NFKC", encoded.decode()).encode()
    squashed = encoded.translate(_SMALL, _PUNCTUATION)
    return any(hint in squashed for hint in _HINTS)


def strip_sensitive(value: Any, depth: int = 1) -> Any:
    """The value without sensitive authentication data: fields of such a name are left out, what stands in a text gives
    way to "[removed]".

    Raises:
        DecodeError: objects and arrays nest deeper than MAX_DEPTH.
    """
    if isinstance(value, str):
        return _IN_TEXT.sub(_REMOVED, value)
    if not isinstance(value, dict | list):
        return value
    if depth > MAX_DEPTH:
        raise DecodeError("decode", f"decode: wanted nesting up to {MAX_DEPTH}, got more; send a flat event")
    if isinstance(value, list):
        return [strip_sensitive(each, depth + 1) for each in cast("list[Any]", value)]
    fields = cast("dict[str, Any]", value)
    if depth > 1 and any(isinstance(said := fields.get(naming), str) and is_sensitive_name(said) for naming in _NAMING):
        return {}
    return {name: strip_sensitive(each, depth + 1) for name, each in fields.items() if not is_sensitive_name(name)}


def mask_undecodable(content: bytes) -> bytes:
    """Bytes that nobody can tell fields in, every digit as `#`: codes, tracks and PINs are digits, however they are
    spelt, and what is left still shows where the form is broken.
    """
    return content.translate(_DIGITS)


def is_card_number(digits: str) -> bool:
    """Whether 13 to 19 digits are a card number: a scheme's first digits and Luhn's check digit (ISO/IEC 7812-1)."""
    return bool(_SCHEMES.match(digits)) and luhn.is_valid(digits)


def personal_in(text: str) -> str | None:
    """What a text holds that may not stand in clear: "a card number", "an e-mail address" or nothing."""
    for found in _CARD_RUN.finditer(text):
        if is_card_number(re.sub(r"\D", "", found[0])):
            return "a card number"
    return "an e-mail address" if "@" in text and _EMAIL.search(text) else None
