"""What the SQL compiler hands to the window engine: entities, windows, lanes and aggregates, as plain data.

A lane is one int64 per row that the row log keeps, with a valid bit. The compiler evaluates a lane's expression (and
FILTER, which clears the valid bit) once, when the row arrives; the engine only ever sees integers:

    integers, booleans, timestamps, decimals   as they are (a decimal by its unscaled value)
    doubles                                    by `ordered_bits`, which keeps their order (for MIN and MAX)
    strings                                    by a 64-bit hash (for COUNT DISTINCT)

so sums are exact and no order of arrival can change them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AggregateFunction = Literal["count", "sum", "min", "max", "count_distinct", "var_samp", "var_pop"]

#: `upper_us` of a frame that ends at the current row.
CURRENT_ROW = 0

#: A row's valid bits are one 64-bit word.
MAX_LANES = 64


@dataclass(frozen=True, slots=True)
class Entity:
    """What rows are gathered by: the columns of PARTITION BY, in order. NULLs are gathered too, as SQL does."""

    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """`RANGE BETWEEN lower PRECEDING AND upper PRECEDING`, both edges included. A row of time s is in the frame of a
    row of time t if t - lower_us <= s <= t - upper_us.
    """

    entity: int
    lower_us: int
    upper_us: int = CURRENT_ROW


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`lane` -1 is COUNT(*): every row counts. `excludes_row` is EXCLUDE CURRENT ROW: the frame without the row that is
    answered, but with others of its time. A variance is a double, answered by its `ordered_bits`.
    """

    function: AggregateFunction
    window: int
    lane: int
    excludes_row: bool = False


@dataclass(frozen=True, slots=True)
class LabelLane:
    """A lane whose expression reads the label. The compiler evaluates it three times when the row arrives: with the
    label unknown (`lane`), fraud and genuine; a label then only picks which of the three counts.
    """

    lane: int
    if_fraud: int
    if_genuine: int


@dataclass(frozen=True, slots=True)
class WindowPlan:
    entities: tuple[Entity, ...]
    windows: tuple[Window, ...]
    lane_count: int
    label_lanes: tuple[LabelLane, ...]
    aggregates: tuple[Aggregate, ...]
    lateness_us: int
    """Rows are kept for the widest frame and this much longer, so that an event that comes no later than this is
    answered exactly as if it had come in its time."""
    dedupe_us: int
    """An event id is remembered for this long by event time: the same id within it is a duplicate."""


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
    """What the compiler of sequences.sql hands to the match engine: one MATCH_RECOGNIZE, rows having lanes as in windows.

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
