"""What type a value is converted to where SQL leaves that open, as DuckDB does it."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.kernel.language.expressions import (
    BOOLEAN,
    DOUBLE,
    INTEGER,
    INTEGER_DIGITS,
    MAX_PRECISION,
    NULL,
    TIMESTAMP,
    VARCHAR,
    Call,
    Expression,
    Literal,
    SqlType,
    decimal,
)
from tidegate.kernel.language.times import parse_timestamp


class MismatchError(Exception):
    """Arguments that a function does not take; the binder knows where in the text they stand."""

    def __init__(self, found: str, expected: str) -> None:
        self.found, self.expected = found, expected
        super().__init__(found)


Arguments = Sequence[Expression]


def is_number(type_: SqlType) -> bool:
    return type_ in INTEGER_DIGITS or type_ == DOUBLE or type_.name == "DECIMAL"


def describe(arguments: Arguments) -> str:
    """The arguments' types, for a message."""
    return ", ".join(str(argument.type) for argument in arguments) or "nothing"


def convert(expression: Expression, to: SqlType) -> Expression:
    """An implicit conversion. A text literal becomes a TIMESTAMP where one is wanted, as in DuckDB."""
    if expression.type == to:
        return expression
    if isinstance(expression, Literal):
        if expression.value is None:
            return Literal(None, to)
        if to == TIMESTAMP and isinstance(expression.value, str):
            time = parse_timestamp(expression.value)
            if time is None:
                raise MismatchError(f"the text {expression.value!r}", "a time as 'YYYY-MM-DD HH:MM:SS'")
            return Literal(time, TIMESTAMP)
    return Call("cast", (expression,), to)


def as_decimal(type_: SqlType) -> SqlType:
    """The decimal that holds an integer's values; a decimal itself."""
    return decimal(INTEGER_DIGITS[type_], 0) if type_ in INTEGER_DIGITS else type_


def _wider(left: SqlType, right: SqlType) -> SqlType | None:
    """The type that both convert to, or None."""
    if right in (left, NULL):
        return left
    if left == NULL:
        return right
    if not (is_number(left) and is_number(right)):
        return None
    if DOUBLE in (left, right):
        return DOUBLE
    if left in INTEGER_DIGITS and right in INTEGER_DIGITS:
        return max(left, right, key=list(INTEGER_DIGITS).index)
    left, right = as_decimal(left), as_decimal(right)
    scale = max(left.scale, right.scale)
    digits = max(left.precision - left.scale, right.precision - right.scale)
    return decimal(min(MAX_PRECISION, digits + scale), scale)


def unify(arguments: Arguments) -> tuple[Expression, ...]:
    """The arguments, converted to their common type."""
    type_: SqlType | None = NULL
    texts = any(isinstance(argument, Literal) and argument.type == VARCHAR for argument in arguments)
    if texts and any(argument.type == TIMESTAMP for argument in arguments):
        type_ = TIMESTAMP
    else:
        for argument in arguments:
            type_ = _wider(type_, argument.type) if type_ is not None else None
    if type_ is None:
        raise MismatchError(describe(arguments), "values of one type (write CAST(... AS ...) to say which)")
    if type_ == NULL:
        type_ = INTEGER
    return tuple(convert(argument, type_) for argument in arguments)


def require_numbers(arguments: Arguments, what: str) -> None:
    """
    Raises:
        MismatchError: one is no number.
    """
    if not all(is_number(argument.type) or argument.type == NULL for argument in arguments):
        raise MismatchError(describe(arguments), f"numbers for {what}")


def doubles(arguments: Arguments, what: str) -> tuple[Expression, ...]:
    """The arguments, which must be numbers, as DOUBLE."""
    require_numbers(arguments, what)
    return tuple(convert(argument, DOUBLE) for argument in arguments)


def conditions(arguments: Arguments) -> tuple[Expression, ...]:
    """The arguments, which must be BOOLEAN."""
    for argument in arguments:
        if argument.type not in (BOOLEAN, NULL):
            raise MismatchError(str(argument.type), "a BOOLEAN")
    return tuple(convert(argument, BOOLEAN) for argument in arguments)
