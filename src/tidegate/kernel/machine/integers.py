"""What the register machine does with integers and times. What overflows is NULL."""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.kernel.machine import codes
from tidegate.kernel.machine.calendar import part_of
from tidegate.kernel.machine.codes import NUMBER, OPCODE, TO, A, B
from tidegate.kernel.machine.compiled import compiled, inlined
from tidegate.kernel.machine.wide import high_product

_MIN = -(2**63)


@inlined
def fits(value: Any, narrow: Any) -> Any:
    """Whether a word fits 32 bits, where that is asked for."""
    return (narrow == 0) | (value == np.int64(np.int32(value)))


@inlined
def _quotient(a: Any, b: Any) -> Any:
    """Cut toward zero. The divisor is neither 0, nor -1 below the least integer."""
    quotient = a // b
    return quotient + 1 if (a < 0) != (b < 0) and quotient * b != a else quotient


@inlined
def _divides(a: Any, b: Any) -> Any:
    return b != 0 and not (a == _MIN and b == -1)


@inlined
def _product_overflows(a: Any, b: Any, unsigned_a: Any, unsigned_b: Any) -> Any:
    high = np.int64(high_product(unsigned_a, unsigned_b))
    high -= (b if a < 0 else 0) + (a if b < 0 else 0)
    return high != (a * b) >> 63


@compiled
def run_integers(step: Any, x: Any, w: Any, v: Any, n: Any) -> None:  # noqa: C901, PLR0912 - a loop for each instruction
    op, to, a, b, number = step[OPCODE], step[TO], step[A], step[B], step[NUMBER]
    if op == codes.ADD:
        for i in range(n):
            left, right = x[a, i], x[b, i]
            total = left + right
            x[to, i] = total
            v[to, i] = v[a, i] & v[b, i] & (((left ^ total) & (right ^ total)) >= 0) & fits(total, number)
    elif op == codes.SUBTRACT:
        for i in range(n):
            left, right = x[a, i], x[b, i]
            rest = left - right
            x[to, i] = rest
            v[to, i] = v[a, i] & v[b, i] & (((left ^ right) & (left ^ rest)) >= 0) & fits(rest, number)
    elif op == codes.MULTIPLY:
        for i in range(n):
            left, right = x[a, i], x[b, i]
            product = left * right
            overflows = _product_overflows(left, right, w[a, i], w[b, i])
            x[to, i] = product
            v[to, i] = v[a, i] & v[b, i] & (not overflows) & fits(product, number)
    elif op == codes.DIVIDE:
        for i in range(n):
            left, right = x[a, i], x[b, i]
            can = _divides(left, right)
            x[to, i] = _quotient(left, right) if can else 0
            v[to, i] = v[a, i] & v[b, i] & can & fits(x[to, i], number)
    elif op == codes.MODULO:
        for i in range(n):
            left, right = x[a, i], x[b, i]
            can = _divides(left, right)
            x[to, i] = left - right * _quotient(left, right) if can else 0
            v[to, i] = v[a, i] & v[b, i] & can & fits(_quotient(left, right) if can else 0, number)
    elif op == codes.NARROW:
        for i in range(n):
            x[to, i] = x[a, i]
            v[to, i] = v[a, i] & fits(x[a, i], 1)
    elif op == codes.FLOOR_DIVIDE:
        for i in range(n):
            x[to, i] = x[a, i] // number
            v[to, i] = v[a, i]
    elif op == codes.PART:
        for i in range(n):
            x[to, i] = part_of(number, x[a, i])
            v[to, i] = v[a, i]
