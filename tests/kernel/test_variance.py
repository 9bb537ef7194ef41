"""The variance of exact integers: the double nearest to it, for any values and as many as a log can hold."""

import itertools
import math
from fractions import Fraction

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidegate.kernel.machine import compiled
from tidegate.kernel.windows import variance as engine

# Where they lie in the heap: the sum's two halves, the four words of the squares.
SUM, SQUARES = 0, 2


@compiled.entry
def count_square(heap, squares, value, sign):
    engine.count_square(heap, squares, value, sign)


@compiled.entry
def variance_bits(heap, total, squares, count, divisor):
    return engine.variance_bits(heap, total, squares, count, divisor)


VALUES = st.one_of(
    st.integers(-5, 5), st.integers(-(2**63), 2**63 - 1), st.sampled_from([-(2**63), 2**63 - 1, 2**32, -(2**32), 2**31])
)


def summed(values, times=1):
    """The sums as the engine keeps them, of values that each come so many times."""
    heap = np.zeros(6, np.int64)
    for value in values:
        count_square(heap, SQUARES, np.int64(value), 1)
        heap[SUM] += value >> 32
        heap[SUM + 1] += value & 0xFFFFFFFF
    heap[:] *= times
    return heap


def variance(values, divisor, times=1):
    bits = variance_bits(summed(values, times), SUM, SQUARES, times * len(values), divisor)
    return float(np.int64(bits).view(np.float64))


def nearest(values, divisor, times=1):
    count, total = len(values), sum(values)
    return times * sum((count * value - total) ** 2 for value in values) / (count * count * divisor)


def is_half_way(values, divisor, one, other):
    """Whether the variance lies within 2^-50 of half way between two doubles that are next to each other."""
    count, total = len(values), sum(values)
    exact = Fraction(sum((count * value - total) ** 2 for value in values), count * count * divisor)
    apart = abs(exact - (Fraction(one) + Fraction(other)) / 2)
    return abs(one - other) <= math.ulp(max(one, other)) and apart <= Fraction(abs(one - other)) / 2**50


@settings(max_examples=2000, deadline=None)
@given(st.lists(VALUES, min_size=2, max_size=20))
@example([0, 2**54 + 1])
def test_it_is_the_nearest_double(values):
    for divisor in (len(values) - 1, len(values)):
        wanted, given = nearest(values, divisor), variance(values, divisor)
        assert given == wanted or is_half_way(values, divisor, given, wanted)


@settings(max_examples=1000, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=8), st.integers(1, 2**28))
def test_two_thousand_million_values_are_still_summed_exactly(values, times):
    count = len(values) * times
    wanted = nearest(values, count, times)
    assert abs(variance(values, count, times) - wanted) <= math.ulp(wanted)


def test_what_is_counted_out_leaves_nothing():
    heap = summed([3, -(2**63), 2**63 - 1])
    for value, sign in itertools.product([7, -(2**63), 2**63 - 1, 2**32 - 1, -(2**32)], [1, -1]):
        count_square(heap, SQUARES, np.int64(value), sign)
    assert heap.tolist() == summed([3, -(2**63), 2**63 - 1]).tolist()


def test_a_sum_of_squares_is_that_of_the_squares():
    for value in (0, 1, -1, 2**31, 2**32 - 1, 2**32, -(2**32) - 1, 2**63 - 1, -(2**63), 1234567890123456789):
        words = summed([value])[SQUARES:].tolist()
        assert sum(word << (32 * place) for place, word in enumerate(words)) == value * value
