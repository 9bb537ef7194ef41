"""What the compiler of sequences.sql hands to the match engine, as plain data. Rows have lanes, as in `plan`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: `variable` of what is taken of any row of a match.
ANY = -1

ReferenceFunction = Literal["first", "last", "count", "sum", "min", "max"]
Skip = Literal["past last row", "to next row", "to first", "to last"]


@dataclass(frozen=True, slots=True)
class Branch:
    """A way on in a pattern: a row that is the variable leads to the state, if the row is none of the variables that
    `unless` has a bit for.
    """

    variable: int
    unless: int
    state: int


@dataclass(frozen=True, slots=True)
class Reference:
    """What is remembered of a match's rows that are the variable, the present row included: the value of a lane in the
    first or last of them (or `offset` rows after or before that), or an aggregate. `lane` -1 counts rows. `text`: the
    lane is one of the texts.
    """

    function: ReferenceFunction
    variable: int
    lane: int
    offset: int = 0
    text: bool = False


@dataclass(frozen=True, slots=True)
class Instruction:
    """Of a condition over earlier rows; see `conditions`."""

    operation: int
    first: int = 0
    second: int = 0


@dataclass(frozen=True, slots=True)
class MatchPlan:
    """One MATCH_RECOGNIZE.

    A row is a variable if its bit is set (the condition's part over the row alone, evaluated when the row arrives) and
    the variable's instructions, if there are any, come to true.
    """

    branches: tuple[tuple[Branch, ...], ...]
    """By state; state 0 is the start."""
    accepting: tuple[bool, ...]
    """By state: all of the pattern is there."""
    conditions: tuple[tuple[Instruction, ...], ...]
    """By variable."""
    references: tuple[Reference, ...]
    lane_count: int
    text_count: int
    """Texts that rows keep; the first is the row's own id, if `by_duration`."""
    span_us: int
    """A match's last row is less than this after its first."""
    by_duration: bool
    """A match is complete not at a row, but when this span has passed since its first row."""
    skip: Skip
    skip_variable: int
    lateness_us: int
    """A row that comes later than this takes no part."""
