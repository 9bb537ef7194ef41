"""What may not be kept, and what may not stand in clear.

PCI DSS 3.3.1: sensitive authentication data (card verification code, full track, PIN and PIN block) is never kept after
the authorisation, not even encrypted. The door removes it, however it is spelt or nested, before anything is written.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any, cast

import re2
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

#: The words of `_IN_TEXT`, and what stands between them and the digits, in JSON too, where some characters are escaped.
#: Turkish has an i for each of its two letters i, which Python's IGNORECASE knows and RE2 does not.
_WORDS_IN_TEXT = r"(?i:cvv|cvc|cvn|cvd|csc|cav|c[iİı]d|p[iİı]n|secur[iİı]ty code)2?\b"
_FILLERS = r"(?i:[iİı]s|code|number)\b"
_BETWEEN = r"(?:\\u00..|\\.|[^\w\n]){0,6}"

#: What every text has in it, itself or as JSON, that `_IN_TEXT` finds something in. RE2 looks through a large event in
#: one pass, a hundred times as fast as `_IN_TEXT` does; what it finds is looked at again.
_SUSPECT = re2.compile(
    r"[Bb]\pN{12,19}\^|\pN{12}[\pN]{0,7}[=Dd]\pN{4}"
    rf"|{_WORDS_IN_TEXT}{_BETWEEN}(?:{_FILLERS}{_BETWEEN}){{0,2}}\pN{{3}}"
)

#: An object that says what it holds: {"name": "cvv", "value": "123"}.
_NAMING = frozenset({"name", "key", "field", "type", "id", "code", "label"})

#: What every sensitive name has in it, its letters perhaps parted. Values that say a name are of more kinds than names:
#: looked at by this first, they do not crowd names out of the cache of `is_sensitive_name`.
_NAME_PARTS = re2.compile(
    "(?i)[^ -~]|"
    + "|".join(
        r"[\W_]*".join(part)
        for part in (
            *("cvv", "cvc", "cvn", "cvd", "csc", "cav", "cid", "pin", "pvv", "track", "stripe", "swipe"),
            *("securitycode", "verification"),
        )
    )
)

#: No name is longer that says what a value is.
_MAX_NAME_CHARS = 64

_CONTAINERS = (dict, list)

#: Names that were seen and are not sensitive: a set tells it of all names of an object at once.
_harmless: set[str] = set()
_MAX_HARMLESS = 4096

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


def is_sensitive(fields: dict[str, Any], encoded: bytes) -> bool:
    """Whether an event may hold sensitive authentication data, `encoded` being its JSON: most hold none, and to see
    that takes little beside `strip_sensitive`, which looks at every text.

    Raises:
        DecodeError: objects and arrays nest deeper than MAX_DEPTH.
    """
    return bool(_SUSPECT.search(encoded)) or _has_sensitive_name(fields, 1)


def _has_sensitive_name(value: dict[str, Any] | list[Any], depth: int) -> bool:
    _check_depth(depth)
    children = value
    if isinstance(value, dict):
        if not _harmless.issuperset(value) and any(map(_is_sensitive_new_name, value)):
            return True
        if depth > 1 and not _NAMING.isdisjoint(value) and _says_sensitive_name(value):
            return True
        children = value.values()
    # A loop: a generator for each object of a large event would take longer than all else.
    for child in children:  # noqa: SIM110
        if isinstance(child, _CONTAINERS) and _has_sensitive_name(child, depth + 1):
            return True
    return False


def _is_sensitive_new_name(name: str) -> bool:
    if is_sensitive_name(name):
        return True
    if len(_harmless) >= _MAX_HARMLESS:
        _harmless.clear()
    _harmless.add(name)
    return False


def _says_sensitive_name(fields: dict[str, Any]) -> bool:
    """Whether an object says that it holds such data: {"name": "cvv", "value": "123"}."""
    return any(
        isinstance(said := fields.get(naming), str)
        and len(said) <= _MAX_NAME_CHARS
        and _NAME_PARTS.search(said)
        and is_sensitive_name(said)
        for naming in _NAMING
    )


def strip_sensitive(value: Any, depth: int = 1) -> Any:
    """The value without sensitive authentication data: fields of such a name are left out, what stands in a text gives
    way to "[removed]".

    Raises:
        DecodeError: objects and arrays nest deeper than MAX_DEPTH.
    """
    if isinstance(value, str):
        return _IN_TEXT.sub(_REMOVED, value) if _SUSPECT.search(value) else value
    if not isinstance(value, _CONTAINERS):
        return value
    _check_depth(depth)
    if isinstance(value, list):
        return [strip_sensitive(each, depth + 1) for each in cast("list[Any]", value)]
    fields = cast("dict[str, Any]", value)
    if depth > 1 and _says_sensitive_name(fields):
        return {}
    return {name: strip_sensitive(each, depth + 1) for name, each in fields.items() if not is_sensitive_name(name)}


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise DecodeError("decode", f"decode: wanted nesting up to {MAX_DEPTH}, got more; send a flat event")


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
