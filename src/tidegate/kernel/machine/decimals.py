"""What the register machine does with decimals: 128 bits in two registers, the lower word first."""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.kernel.machine import codes, wide
from tidegate.kernel.machine.codes import NUMBER, OPCODE, OTHER, TO, A, B
from tidegate.kernel.machine.compiled import compiled
from tidegate.kernel.machine.integers import fits
from tidegate.kernel.machine.wide import HIGH_POWERS, LOW_POWERS


@compiled
def run_decimals(step: Any, x: Any, d: Any, w: Any, v: Any, n: Any) -> None:  # noqa: C901, PLR0912 - a loop for each instruction
    op, to, a, b, number = step[OPCODE], step[TO], step[A], step[B], step[NUMBER]
    if op == codes.WIDEN:
        for i in range(n):
            x[to, i] = x[a, i]
            x[to + 1, i] = x[a, i] >> 63
            v[to, i] = v[to + 1, i] = v[a, i]
    elif op == codes.ADD_DECIMALS:
        for i in range(n):
            w[to, i], w[to + 1, i] = wide.add(w[a, i], w[a + 1, i], w[b, i], w[b + 1, i])
            v[to, i] = v[to + 1, i] = v[a, i] & v[b, i]
    elif op == codes.SUBTRACT_DECIMALS:
        for i in range(n):
            low, high = wide.negate(w[b, i], w[b + 1, i])
            w[to, i], w[to + 1, i] = wide.add(w[a, i], w[a + 1, i], low, high)
            v[to, i] = v[to + 1, i] = v[a, i] & v[b, i]
    elif op == codes.MULTIPLY_DECIMALS:
        for i in range(n):
            w[to, i], w[to + 1, i] = wide.multiply(w[a, i], w[a + 1, i], w[b, i], w[b + 1, i])
            v[to, i] = v[to + 1, i] = v[a, i] & v[b, i]
    elif op == codes.SCALE:
        digits = max(step[OTHER] - number, 0)
        for i in range(n):
            low, high = wide.magnitude(w[a, i], w[a + 1, i])
            fitting = wide.less(low, high, LOW_POWERS[digits], HIGH_POWERS[digits])
            w[to, i], w[to + 1, i] = wide.multiply(w[a, i], w[a + 1, i], LOW_POWERS[number], HIGH_POWERS[number])
            v[to, i] = v[to + 1, i] = v[a, i] & fitting
    elif op == codes.EQUAL_DECIMALS:
        for i in range(n):
            equal = (x[a, i] == x[b, i]) & (x[a + 1, i] == x[b + 1, i])
            x[to, i] = np.int64(equal) ^ number
            v[to, i] = v[a, i] & v[b, i]
    elif op == codes.LESS_DECIMALS:
        for i in range(n):
            x[to, i] = np.int64(wide.less(w[a, i], w[a + 1, i], w[b, i], w[b + 1, i])) ^ number
            v[to, i] = v[a, i] & v[b, i]
    elif op == codes.DECIMAL_TO_DOUBLE:
        for i in range(n):
            d[to, i] = wide.to_double(w[a, i], w[a + 1, i], number)
            v[to, i] = v[a, i]
    elif op == codes.DECIMAL_TO_INTEGER:
        for i in range(n):
            can, whole = wide.to_integer(w[a, i], w[a + 1, i], number)
            x[to, i] = whole
            v[to, i] = v[a, i] & can & fits(whole, step[OTHER])
