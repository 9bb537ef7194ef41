"""Parts of a time: the Gregorian calendar by arithmetic alone (Howard Hinnant, "chrono-Compatible Low-Level Date
Algorithms").
"""

from __future__ import annotations

from typing import Any

from tidegate.kernel.language.times import DAY_US, SECOND_US
from tidegate.kernel.machine.codes import DAY, DOW, DOY, HOUR, ISODOW, MINUTE, MONTH, QUARTER, SECOND, WEEK
from tidegate.kernel.machine.compiled import compiled

# Days from 0000-03-01 to 1970-01-01, of 400 years, of 100, of 4, and of one.
_EPOCH_DAYS, _ERA_DAYS, _CENTURY_DAYS, _OLYMPIAD_DAYS, _YEAR_DAYS = 719_468, 146_097, 36_524, 1_460, 365

# Days of five months from March on, twice: 31, 30, 31, 30, 31.
_FIVE_MONTHS_DAYS = 153

_MINUTE_US, _HOUR_US = 60 * SECOND_US, 3600 * SECOND_US


@compiled
def _date(days: Any) -> Any:
    """Year, month and day of so many days since 1970-01-01."""
    shifted = days + _EPOCH_DAYS
    era = shifted // _ERA_DAYS
    day = shifted - era * _ERA_DAYS
    year = (day - day // _OLYMPIAD_DAYS + day // _CENTURY_DAYS - day // (_ERA_DAYS - 1)) // _YEAR_DAYS
    day -= _YEAR_DAYS * year + year // 4 - year // 100
    month = (5 * day + 2) // _FIVE_MONTHS_DAYS  # from March on
    day -= (_FIVE_MONTHS_DAYS * month + 2) // 5
    month = month + 3 if month < 10 else month - 9  # noqa: PLR2004 - January and February belong to the year before
    return year + era * 400 + (month <= 2), month, day + 1  # noqa: PLR2004


@compiled
def _new_year(year: Any) -> Any:
    """Days from 1970-01-01 to the first of January."""
    past = year - 1
    return past * _YEAR_DAYS + past // 4 - past // 100 + past // 400 - 719_162


@compiled
def part_of(part: Any, time: Any) -> Any:  # noqa: C901 - a branch for each part
    """One of `codes.TIME_PARTS` of microseconds since 1970."""
    days = time // DAY_US
    clock = time - days * DAY_US
    weekday = (days + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
    if part == HOUR:
        value = clock // _HOUR_US
    elif part == MINUTE:
        value = clock // _MINUTE_US % 60
    elif part == SECOND:
        value = clock // SECOND_US % 60
    elif part == ISODOW:
        value = weekday + 1
    elif part == DOW:
        value = (weekday + 1) % 7
    elif part == WEEK:  # ISO 8601: a week belongs to the year of its Thursday
        thursday = days - weekday + 3
        year, _, _ = _date(thursday)
        value = (thursday - _new_year(year)) // 7 + 1
    else:
        year, month, day = _date(days)
        if part == MONTH:
            value = month
        elif part == DAY:
            value = day
        elif part == QUARTER:
            value = (month + 2) // 3
        elif part == DOY:
            value = days - _new_year(year) + 1
        else:
            value = year
    return value
