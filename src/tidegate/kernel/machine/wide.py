"""128-bit integers, which DuckDB's decimals are, as pairs of unsigned words: two's complement, lower word first."""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.kernel.machine.compiled import compiled, inlined

_DIGITS = 39

#: 10 to the n, n from 0 to 38, as words and as doubles.
LOW_POWERS = np.array([10**digits & (2**64 - 1) for digits in range(_DIGITS)], np.uint64)
HIGH_POWERS = np.array([10**digits >> 64 for digits in range(_DIGITS)], np.uint64)
DOUBLE_POWERS = np.array([10.0**digits for digits in range(_DIGITS)])

_ZERO, _ONE, _32, _63, _64 = (np.uint64(number) for number in (0, 1, 32, 63, 64))
_LOWER = np.uint64(0xFFFFFFFF)

#: Integers up to here are doubles without loss.
_EXACT_DOUBLE = np.uint64(2**53)


@inlined
def high_product(a: Any, b: Any) -> Any:
    """The upper word of the product of two unsigned words."""
    a0, a1, b0, b1 = a & _LOWER, a >> _32, b & _LOWER, b >> _32
    middle = a1 * b0 + ((a0 * b0) >> _32)
    other = a0 * b1 + (middle & _LOWER)
    return a1 * b1 + (middle >> _32) + (other >> _32)


@inlined
def add(a0: Any, a1: Any, b0: Any, b1: Any) -> Any:
    low = a0 + b0
    return low, a1 + b1 + np.uint64(low < a0)


@inlined
def negate(a0: Any, a1: Any) -> Any:
    low = ~a0 + _ONE
    return low, ~a1 + np.uint64(low == _ZERO)


@inlined
def multiply(a0: Any, a1: Any, b0: Any, b1: Any) -> Any:
    """The lower 128 bits of the product: all of it, where it has no more than 38 digits."""
    return a0 * b0, high_product(a0, b0) + a0 * b1 + a1 * b0


@inlined
def is_negative(a1: Any) -> Any:
    return np.int64(a1) < 0


@inlined
def less(a0: Any, a1: Any, b0: Any, b1: Any) -> Any:
    return a0 < b0 if a1 == b1 else np.int64(a1) < np.int64(b1)


@compiled
def magnitude(a0: Any, a1: Any) -> Any:
    return negate(a0, a1) if is_negative(a1) else (a0, a1)


@compiled
def divide(a0: Any, a1: Any, digits: Any) -> Any:
    """Quotient and remainder of an unsigned number by 10 to the `digits`: two words each."""
    divisor0, divisor1 = LOW_POWERS[digits], HIGH_POWERS[digits]
    if a1 == _ZERO and divisor1 == _ZERO:
        return a0 // divisor0, _ZERO, a0 % divisor0, _ZERO
    quotient0 = quotient1 = rest0 = rest1 = _ZERO
    for bit in range(127, -1, -1):  # by hand, as on paper
        word = a1 if bit > 63 else a0  # noqa: PLR2004 - a word has 64 bits
        rest1 = (rest1 << _ONE) | (rest0 >> _63)
        rest0 = (rest0 << _ONE) | ((word >> np.uint64(bit & 63)) & _ONE)
        quotient1 = (quotient1 << _ONE) | (quotient0 >> _63)
        quotient0 <<= _ONE
        if rest1 > divisor1 or (rest1 == divisor1 and rest0 >= divisor0):
            borrow = np.uint64(rest0 < divisor0)
            rest0 -= divisor0
            rest1 -= divisor1 + borrow
            quotient0 |= _ONE
    return quotient0, quotient1, rest0, rest1


@compiled
def unsigned_to_double(a0: Any, a1: Any) -> Any:
    """The nearest double of an unsigned number."""
    if a1 == _ZERO:
        return np.float64(a0)
    # 64 bits of it decide, and one below them that says whether there is anything more.
    shift = _ZERO
    while shift < _64 and (a1 >> shift) != _ZERO:
        shift += _ONE
    if shift == _64:
        top, rest = a1, a0
    else:
        top, rest = (a0 >> shift) | (a1 << (_64 - shift)), a0 << (_64 - shift)
    return np.float64(top | np.uint64(rest != _ZERO)) * 2.0 ** np.float64(shift)


@compiled
def to_double(a0: Any, a1: Any, scale: Any) -> Any:
    """DuckDB divides the unscaled value by the power of ten, whole and fraction apart if it is no double itself."""
    size0, size1 = magnitude(a0, a1)
    power = DOUBLE_POWERS[scale]
    if scale == 0 or (size1 == _ZERO and size0 <= _EXACT_DOUBLE):
        double = unsigned_to_double(size0, size1) / power
    else:
        whole0, whole1, rest0, rest1 = divide(size0, size1, scale)
        double = unsigned_to_double(whole0, whole1) + unsigned_to_double(rest0, rest1) / power
    return -double if is_negative(a1) else double


@compiled
def to_integer(a0: Any, a1: Any, scale: Any) -> Any:
    """Half away from zero: whether it fits 64 bits, and the integer."""
    size0, size1 = magnitude(a0, a1)
    whole0, whole1, rest0, rest1 = divide(size0, size1, scale)
    double0, double1 = add(rest0, rest1, rest0, rest1)
    if not less(double0, double1, LOW_POWERS[scale], HIGH_POWERS[scale]):
        whole0, whole1 = add(whole0, whole1, _ONE, _ZERO)
    if is_negative(a1):
        whole0, whole1 = negate(whole0, whole1)
    return np.int64(whole1) == np.int64(whole0) >> 63, np.int64(whole0)
