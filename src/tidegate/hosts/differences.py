"""What tells two decisions apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from tidegate.streams.decision import Decision

#: Fields told apart by the names within them.
_BY_NAME = ("features", "rules", "points", "versions", "freshness")

#: Fields that are no outcome of deciding again: the hash is compared by itself, the place in the log apart, an
#: explanation is told of the outcome, and no two runs take the same time.
_NOT_COMPARED = ("hash", "explanation", "inputs", "stages_us")


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """A field, such as `score` or `features.payments`, as the record has it and as it comes out; UNSET: not at all."""

    name: str
    stored: Any = msgspec.UNSET
    recomputed: Any = msgspec.UNSET

    def words(self) -> str:
        stored, recomputed = (
            "nothing" if value is msgspec.UNSET else msgspec.json.encode(value).decode()
            for value in (self.stored, self.recomputed)
        )
        return f"{self.name}: stored {stored}, comes out as {recomputed}"


def differences(stored: Decision, made: Decision) -> Iterator[Difference]:
    """By field, or by the names within it."""
    for field in Decision.__struct_fields__:
        ours, theirs = getattr(stored, field), getattr(made, field)
        if field in _BY_NAME:
            yield from by_name(field, ours, theirs)
        elif field not in _NOT_COMPARED:
            yield from _difference(field, ours, theirs)


def by_name(field: str, stored: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[Difference]:
    for name in dict.fromkeys([*made, *stored]):
        yield from _difference(f"{field}.{name}", stored.get(name, msgspec.UNSET), made.get(name, msgspec.UNSET))


def _difference(name: str, stored: Any, made: Any) -> Iterator[Difference]:
    # As the hash sees them: in JSON, 1 is not true and not 1.0.
    if _as_written(stored) != _as_written(made):
        yield Difference(name, stored, made)


def _as_written(value: Any) -> bytes | None:
    return None if value is msgspec.UNSET else msgspec.json.encode(value)
