"""From typed expressions to the register machine's instructions. What they give is equal to DuckDB's to the bit."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import reduce

from tidegate.kernel.language.expressions import (
    BOOLEAN,
    DOUBLE,
    HUGEINT,
    INTEGER,
    INTEGER_DIGITS,
    MAX_PRECISION,
    NULL,
    VARCHAR,
    Call,
    Literal,
    SqlType,
)
from tidegate.kernel.machine import codes
from tidegate.kernel.machine.registers import Registers

#: A second is so many microseconds.
_SECOND_US = 1e6

_Rule = Callable[[Registers, Call, Sequence[int]], int]


def is_decimal(type_: SqlType) -> bool:
    return type_.name == "DECIMAL"


def _is_narrow(type_: SqlType) -> int:
    return int(type_ == INTEGER)


def double_word(value: float) -> int:
    """The bits of a double."""
    (word,) = struct.unpack("<q", struct.pack("<d", value))
    return word


def constant(registers: Registers, literal: Literal) -> int:
    """The register of a literal that is no text."""
    value, type_ = literal.value, literal.type
    if is_decimal(type_):
        sign, digits, exponent = Decimal(value or 0).as_tuple()
        unscaled = int("".join(map(str, digits))) * 10 ** (type_.scale + int(exponent)) * (-1 if sign else 1)
        return registers.constant((unscaled, unscaled >> 64), known=value is not None)
    word = double_word(float(value or 0)) if type_ == DOUBLE else int(value or 0)
    return registers.constant((word,), known=value is not None)


def _null(registers: Registers, type_: SqlType) -> int:
    return constant(registers, Literal(None, type_))


def _arithmetic(opcode: int, of_doubles: int, of_decimals: int) -> _Rule:
    def rule(registers: Registers, call: Call, arguments: Sequence[int]) -> int:
        if call.type == DOUBLE:
            return registers.add(of_doubles, arguments)
        if not is_decimal(call.type):
            return registers.add(opcode, arguments, _is_narrow(call.type))
        if of_decimals != codes.MULTIPLY_DECIMALS:
            arguments = [
                _scaled(registers, register, call.type.scale - argument.type.scale, MAX_PRECISION)
                for register, argument in zip(arguments, call.arguments, strict=True)
            ]
        return registers.add(of_decimals, arguments, words=2)

    return rule


def _scaled(registers: Registers, register: int, digits: int, precision: int) -> int:
    return registers.add(codes.SCALE, (register,), digits, precision, words=2)


def _divide(registers: Registers, _: Call, arguments: Sequence[int]) -> int:
    return registers.add(codes.DIVIDE_DOUBLES, arguments)


def _whole(registers: Registers, call: Call, arguments: Sequence[int]) -> int:
    """`//`: integers are cut toward zero. DuckDB's `//` of doubles divides and cuts nothing."""
    if call.type != DOUBLE:
        return registers.add(codes.DIVIDE, arguments, _is_narrow(call.type))
    zero = registers.constant((0,))
    is_zero = registers.add(codes.EQUAL, (registers.add(codes.ORDER, arguments[1:]), zero))
    return registers.add(codes.IF, (is_zero, _null(registers, DOUBLE), registers.add(codes.DIVIDE_DOUBLES, arguments)))


def _modulo(registers: Registers, call: Call, arguments: Sequence[int]) -> int:
    """`%` has the sign of the dividend."""
    if call.type == DOUBLE:
        return registers.add(codes.BINARY, arguments, codes.FMOD)
    return registers.add(codes.MODULO, arguments, _is_narrow(call.type))


def _negative(registers: Registers, type_: SqlType, register: int) -> int:
    if type_ == DOUBLE:
        return registers.add(codes.SUBTRACT_DOUBLES, (registers.constant((double_word(-0.0),)), register))
    if is_decimal(type_):
        return registers.add(codes.SUBTRACT_DECIMALS, (registers.constant((0, 0)), register), words=2)
    return registers.add(codes.SUBTRACT, (registers.constant((0,)), register), _is_narrow(type_))


def _negate(registers: Registers, call: Call, arguments: Sequence[int]) -> int:
    return _negative(registers, call.type, arguments[0])


def _abs(registers: Registers, call: Call, arguments: Sequence[int]) -> int:
    (value,) = arguments
    if call.type == DOUBLE:
        return registers.add(codes.UNARY, arguments, codes.ABS)
    zero = registers.constant((0, 0) if is_decimal(call.type) else (0,))
    is_below = registers.add(codes.LESS_DECIMALS if is_decimal(call.type) else codes.LESS, (value, zero))
    return _chosen(registers, call.type, is_below, _negative(registers, call.type, value), value)


def _chosen(registers: Registers, type_: SqlType, condition: int, then: int, otherwise: int) -> int:
    if not is_decimal(type_):
        return registers.add(codes.IF, (condition, then, otherwise))
    return registers.add_halves(codes.IF, (condition,), (then, otherwise))


def _if(registers: Registers, call: Call, arguments: Sequence[int]) -> int:
    return _chosen(registers, call.type, *arguments)


def _coalesce(registers: Registers, call: Call, arguments: Sequence[int]) -> int:
    if is_decimal(call.type):
        return reduce(lambda left, right: registers.add_halves(codes.COALESCE, (), (left, right)), arguments)
    return reduce(lambda left, right: registers.add(codes.COALESCE, (left, right)), arguments)


def _is_null(registers: Registers, _: Call, arguments: Sequence[int]) -> int:
    return registers.add(codes.IS_NULL, arguments)


def _logic(opcode: int) -> _Rule:
    return lambda registers, _, arguments: registers.add(opcode, arguments)


def _not(registers: Registers, _: Call, arguments: Sequence[int]) -> int:
    return registers.add(codes.EQUAL, (*arguments, registers.constant((0,))))


def _equal(registers: Registers, type_: SqlType, left: int, right: int, negated: int = 0) -> int:
    if type_ == DOUBLE:
        left, right = (registers.add(codes.ORDER, (register,)) for register in (left, right))
    opcode = codes.EQUAL_TEXTS if type_ == VARCHAR else codes.EQUAL
    return registers.add(codes.EQUAL_DECIMALS if is_decimal(type_) else opcode, (left, right), negated)


def _equality(registers: Registers, call: Call, arguments: Sequence[int]) -> int:
    left, right = arguments
    return _equal(registers, call.arguments[0].type, left, right, int(call.function == "not_equal"))


def _in(registers: Registers, call: Call, arguments: Sequence[int]) -> int:
    value, *candidates = arguments
    equals = [_equal(registers, call.arguments[0].type, value, candidate) for candidate in candidates]
    return reduce(lambda left, right: registers.add(codes.OR, (left, right)), equals)


def _order(registers: Registers, call: Call, arguments: Sequence[int]) -> int:
    left, right = arguments
    if call.function in ("greater", "less_equal"):
        left, right = right, left
    type_ = call.arguments[0].type
    if type_ == DOUBLE:
        left, right = (registers.add(codes.ORDER, (register,)) for register in (left, right))
    opcode = codes.LESS_DECIMALS if is_decimal(type_) else codes.LESS
    return registers.add(opcode, (left, right), int(call.function.endswith("_equal")))


def _of_one(registers: Registers, call: Call, arguments: Sequence[int]) -> int:
    return registers.add(codes.UNARY, arguments, codes.UNARY_FUNCTIONS.index(call.function))


def _of_two(registers: Registers, call: Call, arguments: Sequence[int]) -> int:
    return registers.add(codes.BINARY, arguments, codes.BINARY_FUNCTIONS.index(call.function))


def _round(registers: Registers, call: Call, arguments: Sequence[int]) -> int:
    """Half away from zero; digits by scaling, as DuckDB does: what overflows by it is left as it is."""
    (value,), (places,) = arguments, call.options
    factor = registers.constant((double_word(10.0 ** abs(int(places))),))
    steps = (codes.MULTIPLY_DOUBLES, codes.DIVIDE_DOUBLES)
    scale, back = steps if int(places) >= 0 else reversed(steps)
    rounded = registers.add(codes.UNARY, (registers.add(scale, (value, factor)),), codes.ROUND)
    result = registers.add(back, (rounded, factor))
    is_finite = registers.add(codes.UNARY, (result,), codes.IS_FINITE)
    is_beyond = registers.add(codes.EQUAL, (is_finite, registers.constant((0,))))
    instead = value if int(places) >= 0 else registers.constant((double_word(0.0),))
    return registers.add(codes.IF, (is_beyond, instead, result))


_PARTS = {"dayofweek": "dow", "dayofyear": "doy", "dayofmonth": "day"}


def _part(registers: Registers, call: Call, arguments: Sequence[int]) -> int:
    part = str(call.options[0])
    return registers.add(codes.PART, arguments, codes.TIME_PARTS.index(_PARTS.get(part, part)))


def _difference(registers: Registers, call: Call, arguments: Sequence[int]) -> int:
    """How many of a unit's edges lie between two times, or how many whole units."""
    (start, end), unit_us = arguments, int(call.options[0])
    if call.function == "elapsed":
        return registers.add(
            codes.DIVIDE, (registers.add(codes.SUBTRACT, (end, start)), registers.constant((unit_us,)))
        )
    edges = [registers.add(codes.FLOOR_DIVIDE, (time,), unit_us) for time in (end, start)]
    return registers.add(codes.SUBTRACT, edges)


def _epoch(registers: Registers, _: Call, arguments: Sequence[int]) -> int:
    second_us = registers.constant((double_word(_SECOND_US),))
    return registers.add(codes.DIVIDE_DOUBLES, (registers.add(codes.TO_DOUBLE, arguments), second_us))


def _cast(  # noqa: PLR0911 - a way for each pair of types
    registers: Registers, call: Call, arguments: Sequence[int]
) -> int:
    source, to = call.arguments[0].type, call.type
    if source == NULL:
        return _null(registers, to)
    if to == DOUBLE and is_decimal(source):
        return registers.add(codes.DECIMAL_TO_DOUBLE, arguments, source.scale)
    if to == DOUBLE:
        return registers.add(codes.HUGE_TO_DOUBLE if source == HUGEINT else codes.TO_DOUBLE, arguments)
    if is_decimal(to) and is_decimal(source):
        return _scaled(registers, arguments[0], to.scale - source.scale, to.precision)
    if is_decimal(to):
        return _scaled(registers, registers.add(codes.WIDEN, arguments, words=2), to.scale, to.precision)
    if to == BOOLEAN:
        return registers.add(codes.EQUAL, (*arguments, registers.constant((0,))), 1)
    if to in INTEGER_DIGITS and is_decimal(source):
        return registers.add(codes.DECIMAL_TO_INTEGER, arguments, source.scale, _is_narrow(to))
    if to in INTEGER_DIGITS and source == DOUBLE:
        return registers.add(codes.ROUND_TO_INTEGER, arguments, other=_is_narrow(to))
    if to == INTEGER and source != BOOLEAN:
        return registers.add(codes.NARROW, arguments)
    return arguments[0]


def _lane(registers: Registers, call: Call, arguments: Sequence[int]) -> int:
    type_ = call.arguments[0].type
    if type_ == DOUBLE:
        return registers.add(codes.ORDER, arguments)
    return registers.add(codes.HASH_TEXT, arguments) if type_ == VARCHAR else arguments[0]


#: How each function of `expressions.Call` is computed, `texts` aside.
RULES: dict[str, _Rule] = {
    "add": _arithmetic(codes.ADD, codes.ADD_DOUBLES, codes.ADD_DECIMALS),
    "subtract": _arithmetic(codes.SUBTRACT, codes.SUBTRACT_DOUBLES, codes.SUBTRACT_DECIMALS),
    "multiply": _arithmetic(codes.MULTIPLY, codes.MULTIPLY_DOUBLES, codes.MULTIPLY_DECIMALS),
    "divide": _divide,
    "whole_divide": _whole,
    "modulo": _modulo,
    "negate": _negate,
    "abs": _abs,
    "if": _if,
    "coalesce": _coalesce,
    "is_null": _is_null,
    "and": _logic(codes.AND),
    "or": _logic(codes.OR),
    "not": _not,
    "in": _in,
    **dict.fromkeys(("equal", "not_equal"), _equality),
    **dict.fromkeys(("less", "less_equal", "greater", "greater_equal"), _order),
    **dict.fromkeys(("floor", "ceil", "exp", "atan", "sqrt", "ln", "log2", "log10"), _of_one),
    **dict.fromkeys(("sin", "cos", "tan", "asin", "acos"), _of_one),
    **dict.fromkeys(("power", "atan2"), _of_two),
    "round": _round,
    "part": _part,
    **dict.fromkeys(("boundaries", "elapsed"), _difference),
    "epoch": _epoch,
    "cast": _cast,
    "lane": _lane,
}
