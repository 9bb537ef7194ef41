"""Every error Tidegate raises on purpose.

    TidegateError
    ├── UsageError              the caller asked for something that cannot be      exit code 2, HTTP 4xx
    │   ├── SettingError        a setting is missing or out of its range
    │   ├── DetectorError       a detector's text is wrong: file, line, column
    │   ├── MappingError        a mapping's text is wrong or does not fit its source
    │   └── NotFoundError       nothing is stored under that name
    ├── EventError              one event cannot be taken; it goes to `rejected`   HTTP 422
    │   ├── DecodeError         the bytes are not what the content type says
    │   └── SchemaError         the event does not fit its stream's schema
    ├── AccessError             who asks may not do this                           HTTP 401, 403
    ├── OverloadError           not now: try again after `retry_after_s`           HTTP 429, 503
    └── StateError              what is on disk is not what was written            exit code 1
        ├── FencedError         another member took over this consumer group
        └── DamagedError        a checksum, a hash or a chain does not hold

A message says the step, what was wanted, what was got and how to mend it. It never holds a value of a personal
field: name the field, never its content.
"""

from __future__ import annotations


class TidegateError(Exception):
    """The root: catch this to catch everything Tidegate raises on purpose."""


class UsageError(TidegateError):
    """The caller asked for something that cannot be."""


class SettingError(UsageError):
    """A setting is missing or out of its range."""


class DetectorError(UsageError):
    """A detector's text is wrong.

    `line` and `column` count from 1, as editors do; 0 when the fault belongs to the whole file.
    """

    def __init__(self, file: str, line: int, column: int, found: str, expected: str) -> None:
        self.file, self.line, self.column, self.found, self.expected = file, line, column, found, expected
        place = f"{file}:{line}:{column}" if line else file
        super().__init__(f"{place}: found {found}; expected {expected}")


class MappingError(UsageError):
    """A mapping's text is wrong or does not fit its source."""


class NotFoundError(UsageError):
    """Nothing is stored under that name."""


class EventError(TidegateError):
    """One event cannot be taken. `step` is the step of the door that refused it, `field` the field at fault."""

    def __init__(self, step: str, message: str, field: str | None = None) -> None:
        self.step, self.field = step, field
        super().__init__(message)


class DecodeError(EventError):
    """The bytes are not what the content type says."""


class SchemaError(EventError):
    """The event does not fit its stream's schema."""


class AccessError(TidegateError):
    """Who asks may not do this. `known` says whether we know who asks (403) or not (401)."""

    def __init__(self, message: str, *, known: bool) -> None:
        self.known = known
        super().__init__(message)


class OverloadError(TidegateError):
    """Not now: try again after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class StateError(TidegateError):
    """What is on disk is not what was written."""


class FencedError(StateError):
    """Another member took over this consumer group: stop, without committing."""


class DamagedError(StateError):
    """A checksum, a hash or a chain does not hold."""
