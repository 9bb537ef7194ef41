"""Columns into the window engine's integers, and its answers back into columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.kernel.conversions import raw, unscaled
from tidegate.kernel.expressions import SqlType
from tidegate.kernel.hashing import from_ordered_bits, hash_column, ordered_bits


def _encode(values: pa.Array[Any]) -> npt.NDArray[np.int64]:
    """int64[n]: the lane of a column. What stands for NULL means nothing."""
    type_: Any = values.type
    if pa.types.is_string(type_):
        return hash_column(values)[:, 0].view(np.int64)
    if pa.types.is_decimal(type_):
        return np.array(unscaled(values), np.int64)
    if pa.types.is_floating(type_):
        doubles = raw(values) + 0.0  # -0.0 and 0.0 are one value
        return ordered_bits(np.where(np.isnan(doubles), np.nan, doubles))  # and so are all NaNs
    return raw(values if type_ in (pa.int64(), pa.timestamp("us")) else values.cast(pa.int64()))


def encode(columns: Sequence[pa.Array[Any]], rows: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """int64[l, n] and uint64[n]: all lanes, and their valid bits. What is not valid is 0."""
    lanes = np.zeros((len(columns), rows), np.int64)
    valid = np.zeros(rows, np.uint64)
    for index, column in enumerate(columns):
        if column.null_count == rows:
            continue
        lanes[index] = _encode(column)
        if column.null_count:
            present = column.is_valid().to_numpy(zero_copy_only=False)
            lanes[index] *= present
            valid |= present.astype(np.uint64) << np.uint64(index)
        else:
            valid |= np.uint64(1 << index)
    return lanes, valid


def decode(values: npt.NDArray[np.int64], valid: npt.NDArray[np.bool_], type_: SqlType) -> pa.Array[Any]:
    """One aggregate's answers as a column."""
    mask = None if valid.all() else ~valid
    if type_.name == "DOUBLE":
        return pa.array(from_ordered_bits(values), mask=mask)
    if type_.name == "BOOLEAN":
        return pa.array(values != 0, mask=mask)
    if type_.name == "DECIMAL":
        words = np.stack([values, values >> 63], axis=1).tobytes()
        bitmap = None if mask is None else pa.array(valid).buffers()[1]
        return pa.Array.from_buffers(type_.arrow, len(values), [bitmap, pa.py_buffer(words)])
    integers = pa.array(values, mask=mask)
    return integers if type_.arrow == pa.int64() else integers.cast(type_.arrow)
