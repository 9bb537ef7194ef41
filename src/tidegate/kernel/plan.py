"""What the SQL compiler hands on, as plain data: to the window engine entities, windows, lanes and aggregates, to the
joins versioned tables.

A lane is what aggregates count: of each row a value of 64 bits, and whether it is valid. The compiler evaluates values
and FILTERs once, when the row arrives; the engine only ever sees integers:

    integers, booleans, timestamps, decimals   as they are (a decimal by its unscaled value)
    doubles                                    by `ordered_bits`, which keeps their order (for MIN and MAX)
    strings                                    by a 64-bit hash (for COUNT DISTINCT, and to find the text again)

so sums are exact and no order of arrival can change them. Lanes of the same expression under several FILTERs share its
value and differ only in what is valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from tidegate.kernel.language.expressions import Expression

AggregateFunction = Literal[
    "count",
    "sum",
    "min",
    "max",
    "count_distinct",
    "var_samp",
    "var_pop",
    "first_value",
    "last_value",
    "first_known",
    "last_known",
    "quantile_disc",
    "quantile_floor",
    "quantile_ceil",
]

#: `upper_us` of a frame that ends at the current row.
CURRENT_ROW = 0

#: A clock's time before any event: far enough from the ends of int64 that a frame's length can be taken off.
NEVER = -(2**62)

#: Rows of a ROWS frame: no more can be named.
MAX_ROWS = 2**31 - 1

#: A quantile's share in billionths, so that its product with a number of rows fits 64 bits.
MAX_DENOMINATOR = 10**9

#: `lane` of COUNT(*): every row counts.
EVERY_ROW = -1

#: The value of a lane that is only counted: whether it is valid is all that is kept of it.
NO_VALUE = -1

#: A row keeps, for each of its entities, the valid bits of the lanes that count there, and 2 bits more, in one 64-bit
#: word.
MAX_LANES = 60


@dataclass(frozen=True, slots=True)
class Entity:
    """What rows are gathered by: the columns of PARTITION BY, in order. NULLs are gathered too, as SQL does."""

    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """`RANGE BETWEEN lower PRECEDING AND upper PRECEDING`, both edges included. A row of time s is in the frame of a
    row of time t if t - lower_us <= s <= t - upper_us.

    `rows` (n, m) is `ROWS BETWEEN n PRECEDING AND m PRECEDING`: of these rows, those that come n to m rows before the
    row in the order of time, then of arrival. `gap_us` is a session's: of these rows, those between which and the row
    there is no time longer than it without a row.
    """

    entity: int
    lower_us: int
    upper_us: int = CURRENT_ROW
    rows: tuple[int, int] | None = None
    gap_us: int | None = None

    @property
    def has_row(self) -> bool:
        """Whether the row itself is in its frame."""
        return self.upper_us == CURRENT_ROW and (self.rows is None or self.rows[1] == 0)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`lane` is a lane's number or EVERY_ROW. `excludes_row` is EXCLUDE CURRENT ROW: the frame without the row that is
    answered, but with others of its time. A variance is a double, answered by its `ordered_bits`. `first_value` and
    `last_value` take the frame's first or last row whether its value is valid or not, `first_known` and `last_known`
    (IGNORE NULLS) the first or last whose value is valid.

    The quantile q of n values in order is `quantile_disc`, the first that has the share q of all up to itself, or lies
    between `quantile_floor` and `quantile_ceil`, the ones beside the place (n - 1) * q, which is a double.
    """

    function: AggregateFunction
    window: int
    lane: int
    excludes_row: bool = False
    share: tuple[int, int] = (0, 1)
    """Of a quantile: numerator and denominator."""


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
    lanes: tuple[int, ...]
    """The value of each lane: its number among the arrivals' values, or NO_VALUE."""
    label_lanes: tuple[LabelLane, ...]
    aggregates: tuple[Aggregate, ...]
    lateness_us: int
    """An entity's rows are kept for its widest frame and this much longer, so that an event that comes no later than
    this is answered exactly as if it had come in its time."""
    dedupe_us: int
    """An event id is remembered for this long by event time: the same id within it is a duplicate."""
    ahead_us: int
    """How far an event may be ahead of the clock and still be what the clock is set by alone."""

    @property
    def value_count(self) -> int:
        return 1 + max(self.lanes, default=NO_VALUE)


class Size(NamedTuple):
    """What a part of the state takes. Its rows are those of windows or sequences, or versions."""

    rows: int
    keys: int
    bytes: int
    """Of its rows and keys, and of the tables that find them."""


@dataclass(frozen=True, slots=True)
class VersionedTable:
    """What is kept of a stream: by key, the versions that are still asked for."""

    stream: str
    where: Expression | None
    """Over the stream's columns; events of which it is not true are no versions of this table."""
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    """Those that are read, event_time aside, which is kept anyway."""
    ends: tuple[str, ...] = ()
    """Columns of the stream that say when a version is none any more: `removed`, `expires_at`."""
    keep_us: int | None = None
    """How much older than an event a version may be that it sees; None: as old as it likes."""


@dataclass(frozen=True, slots=True)
class Join:
    """An ASOF LEFT JOIN: of `table`, by its number, the version of the event's `keys` as of the event's time."""

    name: str
    table: int
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    """Those of the table that this join reads, event_time among them."""

    def column(self, name: str) -> str:
        """What a joined column is called beside the event's own."""
        return f"{self.name}.{name}"


@dataclass(frozen=True, slots=True)
class JoinPlan:
    tables: tuple[VersionedTable, ...]
    joins: tuple[Join, ...]
    lateness_us: int
    """Versions are kept for as long as an event that comes no later than this can ask for them."""
