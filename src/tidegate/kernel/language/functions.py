"""The functions and operators of SQL: what each takes, and the call it becomes, with DuckDB's types and conversions.

Where DuckDB would end the whole query for the sake of one row (an overflow, the root of a negative number, a text that
is no date), that value is NULL here: an event can't stop a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import reduce

from tidegate.kernel.language.coercions import (
    Arguments,
    MismatchError,
    as_decimal,
    conditions,
    convert,
    describe,
    doubles,
    is_number,
    require_numbers,
    unify,
)
from tidegate.kernel.language.expressions import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    INTEGER,
    INTEGER_DIGITS,
    INTERVAL,
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
from tidegate.kernel.language.times import DAY_US, PARTS, UNITS_US


def _micros(expression: Expression) -> Expression:
    return Call("cast", (expression,), INTERVAL) if expression.type == TIMESTAMP else expression


def _time_arithmetic(function: str, arguments: Arguments) -> Expression | None:
    types = tuple(argument.type for argument in arguments)
    micros = tuple(_micros(argument) for argument in arguments)
    if types == (TIMESTAMP, TIMESTAMP) and function == "subtract":
        return Call(function, micros, INTERVAL)
    if types == (TIMESTAMP, INTERVAL) or (types == (INTERVAL, TIMESTAMP) and function == "add"):
        return Call("cast", (Call(function, micros, INTERVAL),), TIMESTAMP)
    if types == (INTERVAL, INTERVAL):
        return Call(function, micros, INTERVAL)
    return None


def _arithmetic(function: str) -> Callable[[Arguments], Expression]:
    def build(arguments: Arguments) -> Expression:
        if function != "multiply" and (time := _time_arithmetic(function, arguments)):
            return time
        require_numbers(arguments, "arithmetic")
        left, right = unify(arguments)
        if left.type.name != "DECIMAL":
            return Call(function, (left, right), left.type)
        types = [as_decimal(argument.type) if argument.type != NULL else left.type for argument in arguments]
        left, right = (convert(argument, type_) for argument, type_ in zip(arguments, types, strict=True))
        if function == "multiply":
            precision, scale = left.type.precision + right.type.precision, left.type.scale + right.type.scale
        else:
            scale = max(left.type.scale, right.type.scale)
            precision = max(left.type.precision - left.type.scale, right.type.precision - right.type.scale) + scale + 1
        if precision > MAX_PRECISION:
            raise MismatchError(
                f"a product or sum of {precision} digits ({describe(arguments)})",
                f"at most {MAX_PRECISION} digits (write CAST(... AS DOUBLE))",
            )
        return Call(function, (left, right), decimal(precision, scale))

    return build


def _divide(arguments: Arguments) -> Expression:
    return Call("divide", doubles(arguments, "a division"), DOUBLE)


def _whole(function: str) -> Callable[[Arguments], Expression]:
    """`//` and `%`: on integers, or on doubles."""

    def build(arguments: Arguments) -> Expression:
        require_numbers(arguments, "a division")
        left, right = unify(arguments)
        if left.type.name == "DECIMAL":
            raise MismatchError(describe(arguments), "integers or DOUBLE (write CAST(... AS DOUBLE))")
        return Call(function, (left, right), left.type)

    return build


def _negate(arguments: Arguments) -> Expression:
    (value,) = arguments
    if value.type == NULL:
        # As in a sum, nothing that is reckoned with is a number.
        return convert(value, INTEGER)
    if isinstance(value, Literal) and isinstance(value.value, int | float | Decimal) and is_number(value.type):
        if isinstance(value.value, Decimal) and value.value:
            # A minus sign would round it to 28 digits.
            return Literal(value.value.copy_negate(), value.type)
        return Literal(-value.value, value.type)
    if value.type != INTERVAL:
        require_numbers(arguments, "a minus sign")
    return Call("negate", (value,), value.type)


def _compare(function: str) -> Callable[[Arguments], Expression]:
    return lambda arguments: Call(function, unify(arguments), BOOLEAN)


def _null_safe(arguments: Arguments) -> Expression:
    """IS NOT DISTINCT FROM: NULL is equal to NULL."""
    left, right = unify(arguments)
    nulls = Call("and", (Call("is_null", (left,), BOOLEAN), Call("is_null", (right,), BOOLEAN)), BOOLEAN)
    return Call("coalesce", (Call("equal", (left, right), BOOLEAN), nulls), BOOLEAN)


def _logic(function: str) -> Callable[[Arguments], Expression]:
    return lambda arguments: Call(function, conditions(arguments), BOOLEAN)


def if_else(arguments: Arguments) -> Expression:
    """IF(condition, then, otherwise): a condition that is NULL does not hold."""
    (condition,) = conditions(arguments[:1])
    then, otherwise = unify(arguments[1:])
    return Call("if", (condition, then, otherwise), then.type)


def case(whens: Sequence[tuple[Expression, Expression]], otherwise: Expression) -> Expression:
    """A CASE as nested IFs, all results of one type."""
    *thens, last = unify([*(then for _, then in whens), otherwise])
    result = last
    for (condition, _), then in zip(reversed(whens), reversed(thens), strict=True):
        result = if_else((condition, then, result))
    return result


def one_of(arguments: Arguments) -> Expression:
    """IN: a value and its candidates."""
    value, *candidates = unify(arguments)
    if value.type != DOUBLE and all(isinstance(candidate, Literal) for candidate in candidates):
        return Call("in", (value, *candidates), BOOLEAN)
    equals = [Call("equal", (value, candidate), BOOLEAN) for candidate in candidates]
    return reduce(lambda left, right: Call("or", (left, right), BOOLEAN), equals)


def between(arguments: Arguments) -> Expression:
    value, low, high = unify(arguments)
    edges = Call("greater_equal", (value, low), BOOLEAN), Call("less_equal", (value, high), BOOLEAN)
    return Call("and", edges, BOOLEAN)


def _coalesce(arguments: Arguments) -> Expression:
    values = unify(arguments)
    return Call("coalesce", values, values[0].type)


def _null_if(arguments: Arguments) -> Expression:
    value, _ = arguments
    return if_else((Call("equal", unify(arguments), BOOLEAN), Literal(None, value.type), value))


def _extreme(function: str) -> Callable[[Arguments], Expression]:
    """GREATEST and LEAST pass over NULLs."""

    def better(best: Expression, value: Expression) -> Expression:
        wins = Call("or", (Call(function, (value, best), BOOLEAN), Call("is_null", (best,), BOOLEAN)), BOOLEAN)
        return if_else((wins, value, best))

    return lambda arguments: reduce(better, unify(arguments))


def _abs(arguments: Arguments) -> Expression:
    require_numbers(arguments, "ABS")
    return Call("abs", (arguments[0],), arguments[0].type)


def _round(arguments: Arguments) -> Expression:
    value, *digits = arguments
    require_numbers((value,), "ROUND")
    places = 0
    if digits:
        if not isinstance(digits[0], Literal) or digits[0].type != INTEGER:
            raise MismatchError(describe(digits), "a whole number of digits, written out")
        places = int(str(digits[0].value))
    if value.type in INTEGER_DIGITS and places >= 0:
        return value
    if value.type not in (DOUBLE, NULL):
        raise MismatchError(f"ROUND of {value.type}", "a DOUBLE (write CAST(... AS DOUBLE))")
    return Call("round", (convert(value, DOUBLE),), DOUBLE, (places,))


def _of_doubles(function: str) -> Callable[[Arguments], Expression]:
    return lambda arguments: Call(function, doubles(arguments, function.upper()), DOUBLE)


def _scaled(factor: float) -> Callable[[Arguments], Expression]:
    return lambda arguments: Call("multiply", (*doubles(arguments, "an angle"), Literal(factor, DOUBLE)), DOUBLE)


def _texts(arguments: Arguments, what: str) -> tuple[Expression, ...]:
    if not all(argument.type in (VARCHAR, NULL) for argument in arguments):
        raise MismatchError(describe(arguments), f"VARCHAR for {what} (write CAST(... AS VARCHAR))")
    return tuple(convert(argument, VARCHAR) for argument in arguments)


def _of_texts(function: str, type_: SqlType) -> Callable[[Arguments], Expression]:
    return lambda arguments: Call(function, _texts(arguments, function.upper()), type_)


def _concat(arguments: Arguments) -> Expression:
    empty = Literal("", VARCHAR)
    parts = tuple(Call("coalesce", (text, empty), VARCHAR) for text in _texts(arguments, "CONCAT"))
    return Call("concatenate", parts, VARCHAR)


def _substring(arguments: Arguments) -> Expression:
    text, *edges = arguments
    bounds = [edge.value for edge in edges if isinstance(edge, Literal) and edge.type == INTEGER]
    start, length = (*bounds, None)[:2] if len(bounds) == len(edges) else (None, None)
    if not isinstance(start, int) or start < 1 or (len(edges) == 2 and (not isinstance(length, int) or length < 0)):  # noqa: PLR2004 -- start and length
        raise MismatchError(f"SUBSTR with {describe(edges)}", "a start from 1 on and a length, both written out")
    options = (start - 1,) if length is None else (start - 1, start - 1 + int(str(length)))
    return Call("substring", _texts((text,), "SUBSTR"), VARCHAR, options)


def like(function: str) -> Callable[[Arguments], Expression]:
    def build(arguments: Arguments) -> Expression:
        text, pattern = _texts(arguments, "LIKE")
        if not isinstance(pattern, Literal):
            raise MismatchError("a pattern that is computed", "a pattern written out: LIKE 'a%'")
        if function == "ilike":
            text = Call("lower", (text,), VARCHAR)
        if pattern.value is None:
            return Literal(None, BOOLEAN)
        return Call(function, (text,), BOOLEAN, (str(pattern.value),))

    return build


def part_of(part: str, argument: Expression) -> Expression:
    """EXTRACT(part FROM time)."""
    part = part.lower()
    if part == "epoch" and argument.type in (TIMESTAMP, INTERVAL):
        return Call("epoch", (_micros(argument),), DOUBLE)
    if part not in PARTS:
        raise MismatchError(f"the part {part!r}", f"one of epoch, {', '.join(PARTS)}")
    if argument.type != TIMESTAMP:
        raise MismatchError(str(argument.type), f"a TIMESTAMP to take the {part} of")
    return Call("part", (argument,), BIGINT, (part,))


def _word(argument: Expression, what: str) -> str:
    if not isinstance(argument, Literal) or not isinstance(argument.value, str):
        raise MismatchError(describe((argument,)), f"{what}, written out as a text")
    return argument.value.lower()


def _date_part(arguments: Arguments) -> Expression:
    return part_of(_word(arguments[0], "a part of a time"), arguments[1])


def _difference(function: str) -> Callable[[Arguments], Expression]:
    def build(arguments: Arguments) -> Expression:
        unit = _word(arguments[0], "a unit of time")
        if unit not in UNITS_US:
            raise MismatchError(f"the unit {unit!r}", f"one of {', '.join(UNITS_US)}")
        times = tuple(convert(argument, TIMESTAMP) for argument in arguments[1:] if argument.type in (TIMESTAMP, NULL))
        if len(times) < len(arguments) - 1:
            raise MismatchError(describe(arguments[1:]), "two TIMESTAMPs")
        return Call(function, tuple(_micros(time) for time in times), BIGINT, (UNITS_US[unit],))

    return build


def _truncated(arguments: Arguments) -> Expression:
    """DATE_TRUNC: how many whole units since 1970, as a time again. A week begins on Monday, 1970 on a Thursday."""
    unit, lengths_us = _word(arguments[0], "a unit of time"), {**UNITS_US, "week": 7 * DAY_US}
    if unit not in lengths_us:
        raise MismatchError(f"the unit {unit!r}", f"one of {', '.join(lengths_us)}")
    if arguments[1].type not in (TIMESTAMP, NULL):
        raise MismatchError(describe(arguments[1:]), "a TIMESTAMP")
    moved, length = Literal(4 * DAY_US if unit == "week" else 0, INTERVAL), lengths_us[unit]
    time = Call("subtract", (_micros(convert(arguments[1], TIMESTAMP)), moved), INTERVAL)
    units = Call("boundaries", (Literal(0, INTERVAL), time), BIGINT, (length,))
    whole = Call("multiply", (units, Literal(length, BIGINT)), BIGINT)
    return Call("cast", (Call("add", (Call("cast", (whole,), INTERVAL), moved), INTERVAL),), TIMESTAMP)


def cast(value: Expression, to: SqlType) -> Expression:
    """CAST and TRY_CAST, which are one here: what can't be converted is NULL."""
    source = value.type
    numbers = is_number(source) and is_number(to)
    if source == DOUBLE and to.name == "DECIMAL":
        raise MismatchError("CAST of a DOUBLE as DECIMAL", "an integer to make a DECIMAL of")
    if source.name == "DECIMAL" and to.name == "DECIMAL" and to.scale < source.scale:
        raise MismatchError(f"CAST of {source} as {to}", "no fewer digits after the point")
    allowed = (
        source in (to, NULL)
        or numbers
        or (source == BOOLEAN and to in (INTEGER, BIGINT))
        or (source in INTEGER_DIGITS and to in (BOOLEAN, VARCHAR))
        or (source == BOOLEAN and to == VARCHAR)
        or (to == TIMESTAMP and isinstance(value, Literal) and source == VARCHAR)
    )
    if not allowed:
        raise MismatchError(f"CAST of {source} as {to}", "a conversion between numbers, of BOOLEAN, or to VARCHAR")
    return convert(value, to)


def _of_part(part: str) -> Callable[[Arguments], Expression]:
    return lambda arguments: part_of(part, arguments[0])


#: Operators and functions by name: how many arguments each takes, at least and at most, and what it becomes.
_MANY = 64
_PI = 3.141592653589793

OPERATORS: dict[str, Callable[[Arguments], Expression]] = {
    "Add": _arithmetic("add"),
    "Sub": _arithmetic("subtract"),
    "Mul": _arithmetic("multiply"),
    "Div": _divide,
    "IntDiv": _whole("whole_divide"),
    "Mod": _whole("modulo"),
    "Pow": _of_doubles("power"),
    "Neg": _negate,
    "EQ": _compare("equal"),
    "NEQ": _compare("not_equal"),
    "GT": _compare("greater"),
    "GTE": _compare("greater_equal"),
    "LT": _compare("less"),
    "LTE": _compare("less_equal"),
    "NullSafeEQ": _null_safe,
    "NullSafeNEQ": lambda arguments: Call("not", (_null_safe(arguments),), BOOLEAN),
    "And": _logic("and"),
    "Or": _logic("or"),
    "Not": _logic("not"),
    "DPipe": _of_texts("concatenate", VARCHAR),
    "Like": like("like"),
    "ILike": like("ilike"),
}

FUNCTIONS: dict[str, tuple[int, int, Callable[[Arguments], Expression]]] = {
    "coalesce": (1, _MANY, _coalesce),
    "ifnull": (2, 2, _coalesce),
    "nullif": (2, 2, _null_if),
    "greatest": (1, _MANY, _extreme("greater")),
    "least": (1, _MANY, _extreme("less")),
    "if": (3, 3, if_else),
    "abs": (1, 1, _abs),
    "round": (1, 2, _round),
    **{
        name: (1, 1, _of_doubles(function))
        for name, function in {
            **{name: name for name in ("floor", "ceil", "sqrt", "ln", "log2", "log10", "exp")},
            **{name: name for name in ("sin", "cos", "tan", "asin", "acos", "atan")},
            "ceiling": "ceil",
            "log": "log10",
        }.items()
    },
    "atan2": (2, 2, _of_doubles("atan2")),
    "pow": (2, 2, _of_doubles("power")),
    "power": (2, 2, _of_doubles("power")),
    "mod": (2, 2, _whole("modulo")),
    "radians": (1, 1, _scaled(_PI / 180)),
    "degrees": (1, 1, _scaled(180 / _PI)),
    "pi": (0, 0, lambda _: Literal(_PI, DOUBLE)),
    "lower": (1, 1, _of_texts("lower", VARCHAR)),
    "upper": (1, 1, _of_texts("upper", VARCHAR)),
    "length": (1, 1, _of_texts("length", BIGINT)),
    "starts_with": (2, 2, _of_texts("starts_with", BOOLEAN)),
    "concat": (1, _MANY, _concat),
    "substr": (2, 3, _substring),
    "substring": (2, 3, _substring),
    "date_part": (2, 2, _date_part),
    "date_diff": (3, 3, _difference("boundaries")),
    "datediff": (3, 3, _difference("boundaries")),
    "date_trunc": (2, 2, _truncated),
    "date_sub": (3, 3, _difference("elapsed")),
    "datesub": (3, 3, _difference("elapsed")),
    **{part: (1, 1, _of_part(part)) for part in ("epoch", *PARTS) if part not in ("dow", "doy")},
}
