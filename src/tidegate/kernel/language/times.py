"""Units and parts of time, and times written as text."""

from __future__ import annotations

import re

import numpy as np

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US

#: Units of one length. A month and a year have none.
UNITS_US = {
    "microsecond": 1,
    "millisecond": 1_000,
    "second": SECOND_US,
    "minute": 60 * SECOND_US,
    "hour": 3600 * SECOND_US,
    "day": DAY_US,
}

#: What EXTRACT takes from a time, beside epoch.
PARTS = (
    *("year", "quarter", "month", "week", "day", "hour", "minute", "second"),
    *("isodow", "dow", "dayofweek", "doy", "dayofyear", "dayofmonth"),
)

_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?)?")
_DURATION = re.compile(r"(\d{1,9})\s+([a-z]+?)s?")


def parse_timestamp(text: str) -> int | None:
    """Microseconds since 1970 of 'YYYY-MM-DD[ HH:MM[:SS[.ffffff]]]', or None if that is not what the text is."""
    if not _TIMESTAMP.fullmatch(text):
        return None
    try:
        return int(np.datetime64(text, "us").astype(np.int64))
    except ValueError:
        return None


def parse_duration(text: str) -> int | None:
    """Microseconds of '10 minutes', a whole number and a unit, or None if that is not what the text is."""
    match = _DURATION.fullmatch(text.strip().lower())
    if not match:
        return None
    unit = "week" if match[2] == "week" else match[2]
    length = 7 * DAY_US if unit == "week" else UNITS_US.get(unit)
    return None if length is None else int(match[1]) * length
