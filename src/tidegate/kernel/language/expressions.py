"""The tree that SQL is compiled into: whitelisted, typed and immutable, so that equal trees are one computation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import pyarrow as pa

#: DuckDB's widest decimal.
MAX_PRECISION = 38


@dataclass(frozen=True, slots=True)
class SqlType:
    """One of DuckDB's types. `precision` and `scale` are those of a DECIMAL."""

    name: str
    precision: int = 0
    scale: int = 0

    def __str__(self) -> str:
        return f"DECIMAL({self.precision},{self.scale})" if self.name == "DECIMAL" else self.name

    @property
    def arrow(self) -> pa.DataType:
        """What holds its values. A HUGEINT is held in 64 bits: what does not fit is NULL."""
        if self.name == "DECIMAL":
            return pa.decimal128(self.precision, self.scale)
        return _ARROW[self.name]


BOOLEAN = SqlType("BOOLEAN")
INTEGER = SqlType("INTEGER")
BIGINT = SqlType("BIGINT")
HUGEINT = SqlType("HUGEINT")
DOUBLE = SqlType("DOUBLE")
VARCHAR = SqlType("VARCHAR")
TIMESTAMP = SqlType("TIMESTAMP")
INTERVAL = SqlType("INTERVAL")
NULL = SqlType("NULL")

#: The integers, from narrow to wide, with the decimal digits that DuckDB grants each.
INTEGER_DIGITS = {INTEGER: 10, BIGINT: 19, HUGEINT: 19}

_ARROW = {
    "BOOLEAN": pa.bool_(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "HUGEINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "TIMESTAMP": pa.timestamp("us"),
    "INTERVAL": pa.int64(),
    "NULL": pa.null(),
}

_FROM_ARROW: dict[pa.DataType, SqlType] = {
    pa.bool_(): BOOLEAN,
    pa.int64(): BIGINT,
    pa.float64(): DOUBLE,
    pa.string(): VARCHAR,
    pa.timestamp("us"): TIMESTAMP,
}


def decimal(precision: int, scale: int) -> SqlType:
    return SqlType("DECIMAL", precision, scale)


def from_arrow(arrow: pa.DataType) -> SqlType:
    """The SQL type of a stream's column."""
    return _FROM_ARROW[arrow]


@dataclass(frozen=True, slots=True)
class Literal:
    """`value` None is NULL; a TIMESTAMP and an INTERVAL are integers of microseconds."""

    value: bool | int | float | str | Decimal | None
    type: SqlType


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the event, or `join.column` of the version that was joined to it."""

    name: str
    type: SqlType


@dataclass(frozen=True, slots=True)
class AggregateRef:
    """The answer of one aggregate of the window plan: `index` in WindowPlan.aggregates."""

    index: int
    type: SqlType


@dataclass(frozen=True, slots=True)
class Call:
    """One of the functions of `assemble` or `texts`, whose arguments have just the types that it takes. `options` are
    constants that are no values: a unit of time, a pattern.
    """

    function: str
    arguments: tuple[Expression, ...]
    type: SqlType
    options: tuple[str | int | float, ...] = ()


Expression = Literal | Column | AggregateRef | Call


def walk(expression: Expression) -> Iterator[Expression]:
    yield expression
    if isinstance(expression, Call):
        for argument in expression.arguments:
            yield from walk(argument)


def columns_of(expression: Expression) -> set[str]:
    """Names of the columns that a value is made of, those behind its windows aside."""
    return {node.name for node in walk(expression) if isinstance(node, Column)}


def substitute(expression: Expression, name: str, value: Expression) -> Expression:
    """The expression with `value` in the place of column `name`."""
    if isinstance(expression, Column):
        return value if expression.name == name else expression
    if isinstance(expression, Call):
        arguments = tuple(substitute(argument, name, value) for argument in expression.arguments)
        return Call(expression.function, arguments, expression.type, expression.options)
    return expression
