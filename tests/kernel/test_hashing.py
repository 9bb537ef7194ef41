"""Hashes of keys, and doubles as integers that keep their order."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import UsageError
from tidegate.kernel.machine.hashing import combine, from_ordered_bits, hash_column, ordered_bits, siphash_each

# "SipHash: a fast short-input PRF", reference implementation, vectors.h, 128 bits: the key is the bytes 0 to 15, the
# message the bytes 0 to n - 1.
VECTORS = {
    0: "a3817f04ba25a8e66df67214c7550293",
    1: "da87c1d86b99af44347659119b22fc45",
    7: "a1f1ebbed8dbc153c0b84aa61ff08239",
    8: "3b62a9ba6258f5610f83e264f31497b4",
    15: "5493e99933b0a8117e08ec0f97cfc3d9",
}


@pytest.mark.parametrize("length", VECTORS)
def test_vectors_of_the_authors(length):
    key = np.frombuffer(bytes(range(16)), np.uint64)
    message = np.frombuffer(bytes(range(length)) or b"\0", np.uint8)
    hashes = np.empty((1, 2), np.uint64)
    siphash_each(key[0], key[1], np.array([0, length]), message.ctypes.data, hashes)
    assert hashes.tobytes().hex() == VECTORS[length]


def as_set(hashes):
    return {tuple(pair) for pair in hashes.tolist()}


@given(st.lists(st.one_of(st.none(), st.text())), st.integers(0, 3))
def test_equal_texts_and_only_they_share_a_hash(texts, start):
    column = pa.array(texts, pa.string())
    hashes = hash_column(column)
    assert len(as_set(hashes)) == len(set(texts))
    assert np.array_equal(hash_column(column[start:]), hashes[start:])
    assert np.array_equal(hash_column(column.dictionary_encode()), hashes)


@pytest.mark.parametrize(
    ("values", "kind", "different"),
    [
        ([1, 2, 1, None, None, -1], pa.int64(), 4),
        ([1, 2, 1], pa.int8(), 2),
        ([True, False, None, True], pa.bool_(), 3),
        ([0, 1, None, 1], pa.timestamp("us"), 3),
        ([0, 1, None, 1], pa.date32(), 3),
        ([0.0, -0.0, math.nan, -math.nan, 0.5, None], pa.float64(), 4),
        ([b"", b"\0", b"\0\0", None], pa.binary(), 4),
        ([], pa.string(), 0),
        ([], pa.int64(), 0),
    ],
)
def test_values_are_hashed_as_sql_compares_them(values, kind, different):
    assert len(as_set(hash_column(pa.array(values, kind)))) == different


def test_a_type_that_cannot_be_hashed_is_refused():
    with pytest.raises(UsageError, match="got list"):
        hash_column(pa.array([[1]]))


def test_a_composite_key_is_ordered_and_a_single_one_is_itself():
    a, b = hash_column(pa.array(["a"])), hash_column(pa.array(["b"]))
    assert np.array_equal(combine([a]), a)
    assert len(as_set(np.concatenate([combine([a, b]), combine([b, a]), combine([a, a]), combine([a, b, b])]))) == 4


@given(st.lists(st.floats(), min_size=1))
def test_ordered_bits_sort_as_doubles_do_and_come_back(doubles):
    values = np.array(doubles)
    bits = ordered_bits(values)
    assert np.array_equal(from_ordered_bits(bits), values, equal_nan=True)
    assert np.array_equal(from_ordered_bits(np.sort(bits)), np.sort(values), equal_nan=True)
