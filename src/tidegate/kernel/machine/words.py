"""Words of 64 bits and Arrow's columns."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.kernel.language.expressions import SqlType


def to_arrow(words: npt.NDArray[np.int64], known: npt.NDArray[np.uint8], type_: SqlType) -> pa.Array[Any]:
    """A column of any type but text. Words are int64[1, n], those of a decimal int64[2, n], the lower ones first;
    known is uint8[n].
    """
    rows = words.shape[1]
    validity = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little").tobytes())
    if type_.name == "BOOLEAN":
        content = np.packbits(words[0] & known, bitorder="little")
    elif type_.name == "INTEGER":
        content = words[0].astype(np.int32)
    else:
        content = np.ascontiguousarray(words.T)
    null_count = -1 if validity is not None else 0
    return pa.Array.from_buffers(type_.arrow, rows, [validity, pa.py_buffer(cast("Any", content))], null_count)


def raw(column: pa.Array[Any]) -> npt.NDArray[np.int64]:
    """The values of a column of 64-bit integers or times as they lie in memory: what stands for NULL means nothing."""
    content: Any = column.buffers()[1]
    if content is None:
        return np.zeros(len(column), np.int64)
    return np.frombuffer(content, np.int64)[column.offset : column.offset + len(column)]
