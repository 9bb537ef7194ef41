"""What the register machine does with doubles, as IEEE 754 and the C library do it.

Outside a function's domain is NULL. Doubles are compared by their `ordered_bits`: NaN is equal to itself and greater
than all else, as in DuckDB.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tidegate.kernel.machine import codes
from tidegate.kernel.machine.codes import NUMBER, OPCODE, OTHER, TO, A, B
from tidegate.kernel.machine.compiled import compiled, inlined
from tidegate.kernel.machine.integers import fits

_ALL_BUT_SIGN = np.int64(2**63 - 1)

#: The bits of the one NaN.
_NAN = np.int64(0x7FF8000000000000)

#: Doubles below it, and from its negative on, are integers of 64 bits once rounded.
_BEYOND_INT64 = 2.0**63

_HALF = 0.5


@inlined
def _round(value: Any) -> Any:
    """Half away from zero."""
    whole = np.trunc(value)
    return whole + math.copysign(1.0, value) if abs(value - whole) >= _HALF else whole


@compiled
def _of_one(function: Any, value: Any) -> Any:  # noqa: C901, PLR0912 - a branch for each function
    """Whether the value is in the function's domain, and the function's."""
    known, result = True, 0.0
    if function == codes.ABS:
        result = abs(value)
    elif function == codes.FLOOR:
        result = np.floor(value)
    elif function == codes.CEIL:
        result = np.ceil(value)
    elif function == codes.ROUND:
        result = _round(value)
    elif function == codes.EXP:
        result = math.exp(value)
    elif function == codes.ATAN:
        result = math.atan(value)
    elif function == codes.SQRT:
        known, result = not value < 0, math.sqrt(value)
    elif function == codes.LN:
        known, result = not value <= 0, math.log(value)
    elif function == codes.LOG2:
        known, result = not value <= 0, math.log2(value)
    elif function == codes.LOG10:
        known, result = not value <= 0, math.log10(value)
    elif function == codes.SIN:
        known, result = not math.isinf(value), math.sin(value)
    elif function == codes.COS:
        known, result = not math.isinf(value), math.cos(value)
    elif function == codes.TAN:
        known, result = not math.isinf(value), math.tan(value)
    elif function == codes.ASIN:
        known, result = not abs(value) > 1, math.asin(value)
    else:
        known, result = not abs(value) > 1, math.acos(value)
    return known, result


@compiled
def _of_two(function: Any, left: Any, right: Any) -> Any:
    if function == codes.POWER:
        return math.pow(left, right)
    if function == codes.ATAN2:
        return math.atan2(left, right)
    return np.fmod(left, right)


@compiled
def run_doubles(step: Any, x: Any, d: Any, v: Any, n: Any) -> None:  # noqa: C901, PLR0912 - a loop for each instruction
    op, to, a, b, number = step[OPCODE], step[TO], step[A], step[B], step[NUMBER]
    if op == codes.ADD_DOUBLES:
        for i in range(n):
            d[to, i] = d[a, i] + d[b, i]
            v[to, i] = v[a, i] & v[b, i]
    elif op == codes.SUBTRACT_DOUBLES:
        for i in range(n):
            d[to, i] = d[a, i] - d[b, i]
            v[to, i] = v[a, i] & v[b, i]
    elif op == codes.MULTIPLY_DOUBLES:
        for i in range(n):
            d[to, i] = d[a, i] * d[b, i]
            v[to, i] = v[a, i] & v[b, i]
    elif op == codes.DIVIDE_DOUBLES:
        for i in range(n):
            d[to, i] = d[a, i] / d[b, i]
            v[to, i] = v[a, i] & v[b, i]
    elif op == codes.ORDER:
        for i in range(n):
            plain = d[a, i] + 0.0  # -0.0 is 0.0
            d[to, i] = plain
            bits = _NAN if plain != plain else x[to, i]  # noqa: PLR0124 - NaN
            x[to, i] = bits ^ _ALL_BUT_SIGN if bits < 0 else bits
            v[to, i] = v[a, i]
    elif op == codes.UNORDER:
        for i in range(n):
            bits = x[a, i]
            x[to, i] = bits ^ _ALL_BUT_SIGN if bits < 0 else bits
            v[to, i] = v[a, i]
    elif op == codes.TO_DOUBLE:
        for i in range(n):
            d[to, i] = np.float64(x[a, i])
            v[to, i] = v[a, i]
    elif op == codes.HUGE_TO_DOUBLE:
        # DuckDB converts a negative HUGEINT by way of its complement, which rounds otherwise than the number itself.
        for i in range(n):
            whole_number = x[a, i]
            d[to, i] = np.float64(whole_number) if whole_number >= 0 else -np.float64(~whole_number) - 1.0
            v[to, i] = v[a, i]
    elif op == codes.ROUND_TO_INTEGER:
        for i in range(n):
            whole = np.rint(d[a, i])
            can = -_BEYOND_INT64 <= whole < _BEYOND_INT64
            x[to, i] = np.int64(whole) if can else 0
            v[to, i] = v[a, i] & can & fits(x[to, i], step[OTHER])
    elif op == codes.UNARY:
        if number == codes.IS_FINITE:
            for i in range(n):
                x[to, i] = math.isfinite(d[a, i])
                v[to, i] = v[a, i]
        else:
            for i in range(n):
                known, result = _of_one(number, d[a, i])
                d[to, i] = result
                v[to, i] = v[a, i] & known
    elif op == codes.BINARY:
        for i in range(n):
            d[to, i] = _of_two(number, d[a, i], d[b, i])
            v[to, i] = v[a, i] & v[b, i]
