"""Arrow's columns into words that the register machine reads: as they lie in memory, none of them copied before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from tidegate.errors import UsageError
from tidegate.kernel.machine.compiled import entry, read_byte, read_int32, read_word
from tidegate.kernel.machine.hashing import hash_bytes, hash_word

# What is said of a column: a row of int64. ROW: of the values that it is loaded to. TEXTS: where its texts or hashes
# begin; HASHED: whether there are to be hashes. VALIDITY, DATA and CONTENT are addresses of Arrow's buffers, 0 where
# there is none.
KIND, ROW, TEXTS, HASHED, VALIDITY, DATA, CONTENT, OFFSET, WORDS = 0, 1, 2, 3, 4, 5, 6, 7, 8

# Kinds: of 64 bits a value, of one, of any number of bytes.
_WORD, _BIT, _TEXT = 0, 1, 2

KINDS = {"BIGINT": _WORD, "DOUBLE": _WORD, "TIMESTAMP": _WORD, "BOOLEAN": _BIT, "VARCHAR": _TEXT}


def place_of(column: pa.Array[Any], type_: pa.DataType) -> list[int]:
    """Where a column lies: VALIDITY, DATA, CONTENT and OFFSET. It must be kept for as long as that is used.

    Raises:
        UsageError: the column is not of this type.
    """
    if column.type.id != type_.id:
        raise UsageError(f"evaluating: wanted a column of type {type_}, got {column.type}")
    buffers: list[Any] = column.buffers()
    addresses = [buffer.address if buffer is not None else 0 for buffer in buffers]
    return [*addresses, *(0,) * (3 - len(addresses)), column.offset]


@entry
def load(columns: Any, rows: Any, values: Any, known: Any, hashes: Any) -> None:
    """Load columns, int64[c, WORDS], of so many rows: into `values` (int64[k, n]) and `known` (uint8[k, n]) what they
    hold, a text by its number; into `hashes` (int64[t, 2]) their hashes, by the same number.
    """
    for number in range(len(columns)):
        column = columns[number]
        kind, data, row, texts = column[KIND], column[DATA], column[ROW], column[TEXTS]
        for i in range(rows):
            at = column[OFFSET] + i
            present, word = 1, 0
            if column[VALIDITY] != 0:
                present = (read_byte(column[VALIDITY] + (at >> 3)) >> (at & 7)) & 1
            if kind == _TEXT:
                word = texts + i
            elif present and kind == _BIT:
                word = (read_byte(data + (at >> 3)) >> (at & 7)) & 1
            elif present:
                word = np.int64(read_word(data + 8 * at))
            values[row, i], known[row, i] = word, present
            if column[HASHED]:
                first, second = np.uint64(0), np.uint64(0)  # hashing.NULL_HASH
                if present and kind == _TEXT:
                    start = read_int32(data + 4 * at)
                    length = read_int32(data + 4 * at + 4) - start
                    first, second = hash_bytes(column[CONTENT] + start, length)
                elif present:
                    first, second = hash_word(word)
                hashes[texts + i, 0], hashes[texts + i, 1] = np.int64(first), np.int64(second)
