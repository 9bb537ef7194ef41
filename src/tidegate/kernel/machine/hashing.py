"""One 128-bit hash stands for a value: of a key that rows are gathered by, of an event id.

SipHash-2-4 with 128 bits of output, written from Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012). Two
of n different values share a hash with a chance of about n^2 / 2^129: for a thousand million values, 10^-21. No value
of a simple form (counters, common prefixes) does worse, as one would with a hash that only multiplies and shifts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa

from tidegate.errors import UsageError
from tidegate.kernel.machine.compiled import compiled, entry, inlined, read_byte, read_word

# The key is a constant, as every host must come to the same hashes: the first 128 binary digits of pi after the point.
_K0 = np.uint64(0x243F6A8885A308D3)
_K1 = np.uint64(0x13198A2E03707344)

# SipHash's initial state spells "somepseudorandomlygeneratedbytes".
_SOME = np.uint64(0x736F6D6570736575)
_DORA = np.uint64(0x646F72616E646F6D)
_LYGE = np.uint64(0x6C7967656E657261)
_BYTE = np.uint64(0x7465646279746573)

#: The hash of NULL. That some value has it as well is as unlikely as any other collision.
NULL_HASH = (0, 0)

_ALL_BUT_SIGN = np.int64(2**63 - 1)


@inlined
def _rotate(x: Any, bits: Any) -> Any:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@inlined
def _round(v0: Any, v1: Any, v2: Any, v3: Any) -> Any:
    v0 += v1
    v2 += v3
    v1 = _rotate(v1, 13) ^ v0
    v3 = _rotate(v3, 16) ^ v2
    v0 = _rotate(v0, 32)
    v2 += v1
    v0 += v3
    v1 = _rotate(v1, 17) ^ v2
    v3 = _rotate(v3, 21) ^ v0
    return v0, v1, _rotate(v2, 32), v3


@inlined
def _start(k0: Any, k1: Any) -> Any:
    return _SOME ^ k0, _DORA ^ k1 ^ np.uint64(0xEE), _LYGE ^ k0, _BYTE ^ k1


@inlined
def _take(v0: Any, v1: Any, v2: Any, v3: Any, message: Any) -> Any:
    v3 ^= message
    for _ in range(2):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ message, v1, v2, v3


@compiled
def _finish(v0: Any, v1: Any, v2: Any, v3: Any) -> Any:
    v2 ^= np.uint64(0xEE)
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    first = v0 ^ v1 ^ v2 ^ v3
    v1 ^= np.uint64(0xDD)
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return first, v0 ^ v1 ^ v2 ^ v3


@compiled
def _siphash(k0: Any, k1: Any, address: Any, length: Any) -> Any:
    v0, v1, v2, v3 = _start(k0, k1)
    for word in range(length // 8):
        v0, v1, v2, v3 = _take(v0, v1, v2, v3, read_word(address + 8 * word))
    last = np.uint64(length & 0xFF) << np.uint64(56)
    for byte in range(length % 8):
        last |= np.uint64(read_byte(address + length - length % 8 + byte)) << np.uint64(8 * byte)
    v0, v1, v2, v3 = _take(v0, v1, v2, v3, last)
    return _finish(v0, v1, v2, v3)


@entry
def siphash_each(k0: Any, k1: Any, offsets: Any, address: Any, hashes: Any) -> None:
    """SipHash-2-4-128 of the bytes from address + offsets[i] to address + offsets[i + 1] into hashes[i]
    (uint64[n, 2]), for every i.
    """
    for i in range(len(offsets) - 1):
        hashes[i] = _siphash(k0, k1, address + offsets[i], offsets[i + 1] - offsets[i])


@compiled
def hash_bytes(address: Any, length: Any) -> Any:
    """The hash of the bytes there: two unsigned words."""
    return _siphash(_K0, _K1, address, length)


@compiled
def hash_word(word: Any) -> Any:
    """The hash of a word of 64 bits, as of its bytes."""
    v0, v1, v2, v3 = _start(_K0, _K1)
    v0, v1, v2, v3 = _take(v0, v1, v2, v3, np.uint64(word))
    v0, v1, v2, v3 = _take(v0, v1, v2, v3, np.uint64(8) << np.uint64(56))
    return _finish(v0, v1, v2, v3)


@entry
def hash_keys(parts: Any, hashes: Any, keys: Any) -> None:
    """The keys of n rows (int64[e, n, 2]) from the hashes of their parts, as `combine` makes them.

    parts[e] says how many parts entity e's key has and, of each, where in `hashes` (int64[h, 2]) its rows begin.
    """
    for entity in range(len(parts)):
        count = parts[entity, 0]
        for i in range(keys.shape[1]):
            if count == 1:
                keys[entity, i, 0] = hashes[parts[entity, 1] + i, 0]
                keys[entity, i, 1] = hashes[parts[entity, 1] + i, 1]
                continue
            v0, v1, v2, v3 = _start(_K0, _K1)
            for part in range(count):
                at = parts[entity, 1 + part] + i
                v0, v1, v2, v3 = _take(v0, v1, v2, v3, np.uint64(hashes[at, 0]))
                v0, v1, v2, v3 = _take(v0, v1, v2, v3, np.uint64(hashes[at, 1]))
            v0, v1, v2, v3 = _take(v0, v1, v2, v3, np.uint64((16 * count) & 0xFF) << np.uint64(56))
            first, second = _finish(v0, v1, v2, v3)
            keys[entity, i, 0], keys[entity, i, 1] = np.int64(first), np.int64(second)


def _hash_pieces(offsets: np.ndarray, content: np.ndarray) -> np.ndarray:
    hashes = np.empty((len(offsets) - 1, 2), np.uint64)
    siphash_each(_K0, _K1, offsets, content.ctypes.data, hashes)
    return hashes


def _hash_words(words: np.ndarray) -> np.ndarray:
    """The hash of each row of int64[n, w]."""
    count, width = words.shape
    offsets = np.arange(count + 1, dtype=np.int64) * (8 * width)
    return _hash_pieces(offsets, np.ascontiguousarray(words).view(np.uint8).reshape(-1))


def hash_column(values: pa.Array[Any]) -> np.ndarray:
    """uint64[n, 2]: the hash of each value. Equal values, as SQL compares them, have equal hashes: NULL and NULL, -0.0
    and 0.0, NaN and NaN.

    Raises:
        UsageError: the column's type is none of string, binary, integer, boolean, timestamp, date and double.
    """
    kind: pa.DataType = values.type
    if pa.types.is_dictionary(kind):
        return hash_column(cast("Any", values).dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        hashes = _hash_texts(values)
    elif pa.types.is_floating(kind):
        doubles = np.asarray(values.cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False), np.float64)
        hashes = _hash_words(ordered_bits(doubles).reshape(-1, 1))
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_temporal(kind):
        whole = values.cast(pa.int32()) if pa.types.is_date32(kind) else values
        numbers = np.asarray(whole.cast(pa.int64(), safe=False).fill_null(0).to_numpy(zero_copy_only=False), np.int64)
        hashes = _hash_words(numbers.reshape(-1, 1))
    else:
        raise UsageError(
            f"hashing a column: wanted string, binary, integer, boolean, timestamp, date or double, got {kind}; "
            "gather rows by a column of one of these types"
        )
    if values.null_count:
        hashes[np.asarray(values.is_null().to_numpy(zero_copy_only=False))] = NULL_HASH
    return hashes


def _hash_texts(values: pa.Array[Any]) -> np.ndarray:
    _, offsets_buffer, content_buffer = values.buffers()
    if not len(values) or offsets_buffer is None:
        return np.empty((0, 2), np.uint64)
    offsets = np.frombuffer(cast("Any", offsets_buffer), np.int32)[values.offset : values.offset + len(values) + 1]
    content = np.frombuffer(cast("Any", content_buffer), np.uint8) if content_buffer else np.empty(0, np.uint8)
    return _hash_pieces(offsets.astype(np.int64), content)


def combine(hashes: Sequence[np.ndarray]) -> np.ndarray:
    """uint64[n, 2]: the hash of a composite key from those of its parts, each uint64[n, 2], in order. The key of one
    part has that part's hash.
    """
    if len(hashes) == 1:
        return hashes[0]
    return _hash_words(np.concatenate(hashes, axis=1).view(np.int64))


def ordered_bits(values: np.ndarray) -> np.ndarray:
    """int64[n] that compare as the doubles float64[n] do: -0.0 is 0.0, and NaN, of which there is one, is the largest,
    as in DuckDB and PostgreSQL.

    A double's bits are sign and magnitude: those of a negative one are turned round (IEEE 754-2008, 5.10).
    """
    doubles = np.where(np.isnan(values), np.nan, values + 0.0)
    bits = doubles.view(np.int64)
    return np.where(bits < 0, bits ^ _ALL_BUT_SIGN, bits)


def from_ordered_bits(bits: np.ndarray) -> np.ndarray:
    """The inverse of `ordered_bits`: float64[n]."""
    return np.where(bits < 0, bits ^ _ALL_BUT_SIGN, bits).view(np.float64)


def fingerprint(state_version: int, plan: object) -> np.ndarray:
    """uint8[32]: of a plan and of how its state is laid out. State is restored only under the fingerprint that it was
    kept under.
    """
    return np.frombuffer(hashlib.sha256(f"{state_version} {plan!r}".encode()).digest(), np.uint8)
