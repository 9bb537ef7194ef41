"""Variances from exact integers: the count n of a frame's values, their sum S and the sum of their squares Q.

The variance is (nQ - S^2) / (n(n - 1)), that of a whole population (nQ - S^2) / n^2. Both numbers of the fraction are
whole: up to 188 bits of the one, 62 of the other. They are computed as such, so that no order of arrival can change
them, and rounded but once, at the end: by way of doubles in pairs (Dekker, "A floating-point technique for extending
the available precision", 1971), which hold 106 bits. The double that comes out is the one nearest to the true variance,
or, if that lies within some 2^-50 of half way between two, the other of these.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.kernel.machine.compiled import compiled, inlined

_LOW_HALF = 0xFFFFFFFF

# 2^27 + 1 splits a double's 53 bits into two halves whose products are exact.
_SPLITTER = 134217729.0


@compiled
def count_square(heap: Any, squares: Any, value: Any, sign: Any) -> None:
    """Count the square of a value, of up to 126 bits, in (sign 1) or out (-1): each of the four words at `squares` sums
    32 bits of the squares, which leaves room for 2^31 of them.
    """
    upper, lower = value >> 32, value & _LOW_HALF
    # (upper 2^32 + lower)^2. The product of the lower halves may wrap: its bits are right all the same.
    low, middle, high = lower * lower, upper * lower, upper * upper
    heap[squares] += sign * (low & _LOW_HALF)
    part = ((low >> 32) & _LOW_HALF) + 2 * (middle & _LOW_HALF)
    heap[squares + 1] += sign * (part & _LOW_HALF)
    part = (part >> 32) + 2 * (middle >> 32) + (high & _LOW_HALF)
    heap[squares + 2] += sign * (part & _LOW_HALF)
    heap[squares + 3] += sign * ((part >> 32) + (high >> 32))


@inlined
def _halves(product: Any) -> Any:
    """The upper and the lower 32 bits of a product of two numbers of 32 bits, whose sign bit is no sign."""
    return (product >> 32) & _LOW_HALF, product & _LOW_HALF


@inlined
def _with(total: Any, rest: Any, digit: Any, weight: Any) -> Any:
    """Add a digit to a pair of doubles that consists of the digits above it: the new total, and what it lacks."""
    part = digit * weight
    larger = total + part
    return larger, rest + (part - (larger - total))


@compiled
def variance_bits(heap: Any, total: Any, squares: Any, count: Any, divisor: Any) -> Any:
    """The bits of the variance of `count` values, whose sum is kept at `total` and whose squares' at `squares`. A
    double that is not negative has the bits of an integer that compares as it does.
    """
    # The sum's absolute value in three digits of 32 bits.
    a0, upper = heap[total + 1] & _LOW_HALF, heap[total] + (heap[total + 1] >> 32)
    if upper < 0:
        upper = -upper
        if a0:
            a0, upper = (1 << 32) - a0, upper - 1
    a1, a2 = upper & _LOW_HALF, upper >> 32
    # The squares' sum in five: q.
    q0, upper = heap[squares] & _LOW_HALF, heap[squares + 1] + (heap[squares] >> 32)
    q1, upper = upper & _LOW_HALF, heap[squares + 2] + (upper >> 32)
    q2, upper = upper & _LOW_HALF, heap[squares + 3] + (upper >> 32)
    q3, q4 = upper & _LOW_HALF, upper >> 32
    # Their difference in six, from the lowest on: no column leaves 64 bits, as the count has 31.
    h00, l00 = _halves(a0 * a0)
    h01, l01 = _halves(a0 * a1)
    h02, l02 = _halves(a0 * a2)
    h11, l11 = _halves(a1 * a1)
    h12, l12 = _halves(a1 * a2)
    h22, l22 = _halves(a2 * a2)
    column = count * q0 - l00
    d0, column = column & _LOW_HALF, (column >> 32) + count * q1 - h00 - 2 * l01
    d1, column = column & _LOW_HALF, (column >> 32) + count * q2 - 2 * (h01 + l02) - l11
    d2, column = column & _LOW_HALF, (column >> 32) + count * q3 - 2 * (h02 + l12) - h11
    d3, column = column & _LOW_HALF, (column >> 32) + count * q4 - 2 * h12 - l22
    d4, d5 = column & _LOW_HALF, (column >> 32) - h22
    # The difference, and what it is divided by, as pairs of doubles.
    above, below = _with(d5 * 2.0**160, 0.0, d4, 2.0**128)
    above, below = _with(above, below, d3, 2.0**96)
    above, below = _with(above, below, d2, 2.0**64)
    above, below = _with(above, below, d1, 2.0**32)
    above, below = _with(above, below, d0, 1.0)
    whole = count * divisor
    by = np.float64(whole)
    by_rest = np.float64(whole - np.int64(by))
    # The quotient, and its remainder exactly: what the product of two doubles lacks is the products of their halves.
    quotient = above / by
    split = _SPLITTER * quotient
    q_high = split - (split - quotient)
    split = _SPLITTER * by
    by_high = split - (split - by)
    q_low, by_low = quotient - q_high, by - by_high
    product = quotient * by
    lacks = ((q_high * by_high - product) + q_high * by_low + q_low * by_high) + q_low * by_low
    remainder = ((above - product) - lacks) + below - quotient * by_rest
    return np.float64(quotient + remainder / by).view(np.int64)
