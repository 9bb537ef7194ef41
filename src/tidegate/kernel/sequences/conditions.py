"""Conditions over earlier rows of a match: a stack machine over 64-bit integers, run for one partial match at a time.

A value is what a lane holds: doubles are their `ordered_bits`, which compare as the doubles do; a decimal is its
unscaled value, a text its hash. What does not fit 64 bits is NULL, as are all results of NULL but those of SQL's logic.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tidegate.kernel.machine.compiled import compiled, inlined

# Push: a constant, NULL, the present row's lane, the lane (second) of the row that a register names, a register (known
# if the register `second` is more than 0; -1: always).
CONSTANT, UNKNOWN, LANE, AT, REGISTER = 0, 1, 2, 3, 4
# Integers.
ADD, SUBTRACT, MULTIPLY, NEGATE, ABSOLUTE, WHOLE_DIVIDE, MODULO, NARROW = 10, 11, 12, 13, 14, 15, 16, 17
# Doubles.
ADD_DOUBLES, SUBTRACT_DOUBLES, MULTIPLY_DOUBLES, DIVIDE_DOUBLES, NEGATE_DOUBLE, ABSOLUTE_DOUBLE = 20, 21, 22, 23, 24, 25
# To doubles: from an integer, from a decimal of `first` digits after the point, from a HUGEINT.
TO_DOUBLE, DECIMAL_TO_DOUBLE, HUGE_TO_DOUBLE = 30, 31, 32
EQUAL, NOT_EQUAL, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL = 40, 41, 42, 43, 44, 45
AND, OR, NOT, IS_NULL, COALESCE, IF = 50, 51, 52, 53, 54, 55

#: Most values on the stack.
STACK = 64

_SIGN = 2**63 - 1
_MIN_INT32, _MAX_INT32 = -(2**31), 2**31 - 1
_EXACT_DOUBLE = 2**53
#: Products whose doubles are below the first fit int64; from the second on they do not.
_SURELY_FITS, _SURELY_TOO_MUCH = 9.2e18, 9.3e18


class Work(NamedTuple):
    """Where a condition is worked out."""

    stack: np.ndarray
    """int64[STACK]"""
    known: np.ndarray
    """bool[STACK]: whether it is not NULL."""
    bits: np.ndarray
    """int64[1], and `double` float64[1] at the same place."""
    double: np.ndarray


def new_work() -> Work:
    bits = np.zeros(1, np.int64)
    return Work(np.zeros(STACK, np.int64), np.zeros(STACK, np.bool_), bits, bits.view(np.float64))


@inlined
def _to_double(work: Any, value: Any) -> Any:
    work.bits[0] = value ^ _SIGN if value < 0 else value
    return work.double[0]


@inlined
def _from_double(work: Any, double: Any) -> Any:
    """Ordered bits: -0.0 is 0.0, and there is one NaN."""
    work.double[0] = double + 0.0 if double == double else np.nan  # noqa: PLR0124 -- NaN is not equal to itself
    bits = work.bits[0]
    return bits ^ _SIGN if bits < 0 else bits


@compiled
def _decimal_to_double(value: Any, digits: Any) -> Any:
    """As DuckDB does it: whole and fraction apart if the unscaled value is no double itself."""
    power = 1
    for _ in range(digits):
        power *= 10
    if -_EXACT_DOUBLE <= value <= _EXACT_DOUBLE or digits == 0:
        return value / power
    size = abs(value)
    double = np.float64(size // power) + np.float64(size % power) / power
    return -double if value < 0 else double


@compiled
def _huge_to_double(value: Any) -> Any:
    """DuckDB converts a negative HUGEINT by way of its complement."""
    return -np.float64(~value) - 1.0 if value < 0 else np.float64(value)


@compiled
def _divide(value: Any, by: Any) -> Any:
    """Cut toward zero."""
    quotient = abs(value) // abs(by)
    return -quotient if (value < 0) != (by < 0) else quotient


@compiled
def _integers(operation: Any, left: Any, right: Any) -> Any:
    """The result, and whether there is one that fits."""
    if operation == ADD:
        result = left + right
        return result, ((left ^ result) & (right ^ result)) >= 0
    if operation == SUBTRACT:
        result = left - right
        return result, ((left ^ right) & (left ^ result)) >= 0
    if operation == MULTIPLY:
        result = left * right
        size = abs(np.float64(left) * np.float64(right))
        fits = size < _SURELY_TOO_MUCH and (size < _SURELY_FITS or right == _divide(result, left))
        return result, fits
    if right == 0:
        return 0, False
    quotient = _divide(left, right)
    return (quotient, True) if operation == WHOLE_DIVIDE else (left - quotient * right, True)


@compiled
def _compare(operation: Any, left: Any, right: Any) -> Any:
    if operation == EQUAL:
        return left == right
    if operation == NOT_EQUAL:
        return left != right
    if operation == LESS:
        return left < right
    if operation == LESS_EQUAL:
        return left <= right
    if operation == GREATER:
        return left > right
    return left >= right


@compiled
def _doubles(operation: Any, left: Any, right: Any) -> Any:
    if operation == ADD_DOUBLES:
        return left + right
    if operation == SUBTRACT_DOUBLES:
        return left - right
    if operation == MULTIPLY_DOUBLES:
        return left * right
    if right == 0.0:
        if left == 0.0 or left != left:  # noqa: PLR0124 -- NaN is not equal to itself
            return np.nan
        return np.copysign(np.inf, left) * np.copysign(1.0, right)
    return left / right


@compiled
def work_one(work: Any, top: Any, operation: Any, first: Any) -> None:
    """Replace the value on top."""
    if operation == IS_NULL:
        work.stack[top], work.known[top] = not work.known[top], True
    elif operation == NOT:
        work.stack[top] = work.stack[top] == 0
    else:
        _number(work, top, operation, first)


@compiled
def _number(work: Any, top: Any, operation: Any, first: Any) -> None:
    value = work.stack[top]
    if operation == NEGATE:
        work.stack[top] = -value
    elif operation == ABSOLUTE:
        work.stack[top] = abs(value)
    elif operation == NARROW:
        work.known[top] = work.known[top] and _MIN_INT32 <= value <= _MAX_INT32
    elif operation == TO_DOUBLE:
        work.stack[top] = _from_double(work, np.float64(value))
    elif operation == HUGE_TO_DOUBLE:
        work.stack[top] = _from_double(work, _huge_to_double(value))
    elif operation == DECIMAL_TO_DOUBLE:
        work.stack[top] = _from_double(work, _decimal_to_double(value, first))
    else:
        double = _to_double(work, value)
        work.stack[top] = _from_double(work, -double if operation == NEGATE_DOUBLE else abs(double))


@compiled
def work_two(work: Any, top: Any, operation: Any) -> None:
    """Put the result of the two values at `top` and after it in their place."""
    left, right = work.stack[top], work.stack[top + 1]
    left_known, right_known = work.known[top], work.known[top + 1]
    known = left_known and right_known
    if operation == AND:
        false = (left_known and left == 0) or (right_known and right == 0)
        work.stack[top], work.known[top] = known and not false, known or false
    elif operation == OR:
        true = (left_known and left != 0) or (right_known and right != 0)
        work.stack[top], work.known[top] = true, known or true
    elif operation == COALESCE:
        if not left_known:
            work.stack[top], work.known[top] = right, right_known
    elif not known:
        work.known[top] = False
    elif operation >= EQUAL:
        work.stack[top] = _compare(operation, left, right)
    elif operation >= ADD_DOUBLES:
        double = _doubles(operation, _to_double(work, left), _to_double(work, right))
        work.stack[top] = _from_double(work, double)
    else:
        work.stack[top], work.known[top] = _integers(operation, left, right)


@inlined
def takes_one(operation: Any) -> Any:
    """Whether it works on one value."""
    if NEGATE <= operation <= ABSOLUTE or operation == NARROW or NEGATE_DOUBLE <= operation <= HUGE_TO_DOUBLE:
        return True
    return NOT <= operation <= IS_NULL
