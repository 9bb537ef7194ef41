"""CAST, value by value as DuckDB does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidegate.kernel.expressions import DOUBLE, HUGEINT, INTEGER_DIGITS, MAX_PRECISION, SqlType

#: Integers up to here are doubles without loss.
_EXACT_DOUBLE = 2**53


def conversion(source: SqlType, to: SqlType) -> Callable[[Any], Any]:
    """The function that converts an array or a scalar. It raises ArrowInvalid if a value can't be converted."""
    plain = _cast(to.arrow)
    if to == DOUBLE and source.name == "DECIMAL":
        return lambda value: _on_array(value, _decimal_to_double)
    if to == DOUBLE and source == HUGEINT:
        return _huge_to_double
    if to == DOUBLE:
        return _to_double
    if to in INTEGER_DIGITS and (source == DOUBLE or source.name == "DECIMAL"):
        # DuckDB rounds a double half to even, and a decimal half away from zero.
        mode = "half_to_even" if source == DOUBLE else "half_towards_infinity"
        return lambda value: plain(pc.round(value, round_mode=mode))
    if to.name == "DECIMAL" and source in INTEGER_DIGITS:
        wide = _cast(pa.decimal128(MAX_PRECISION, to.scale))
        return lambda value: plain(wide(value))
    return plain


def _cast(to: pa.DataType, *, safe: bool = True) -> Callable[[Any], Any]:
    function, options = pc.get_function("cast"), pc.CastOptions.safe(to) if safe else pc.CastOptions.unsafe(to)
    return lambda value: function.call([value], options)


_to_double = _cast(pa.float64(), safe=False)


def _on_array(value: Any, convert: Callable[[pa.Array[Any]], npt.NDArray[np.float64]]) -> Any:
    array = pa.array([value.as_py()], value.type) if isinstance(value, pa.Scalar) else value
    doubles = pa.array(convert(array), mask=array.is_null().to_numpy(zero_copy_only=False))
    return doubles[0] if isinstance(value, pa.Scalar) else doubles


def _huge_to_double(value: Any) -> Any:
    """DuckDB converts a negative HUGEINT by way of its complement, which rounds otherwise than the number itself."""
    if isinstance(value, pa.Array) and (raw(value) >= 0).all():
        return _to_double(value)
    return _on_array(value, lambda array: np.where(raw(array) < 0, -_complement(array) - 1.0, raw(array) * 1.0))


def _complement(array: pa.Array[Any]) -> npt.NDArray[np.float64]:
    return (~raw(array)).astype(np.uint64).astype(np.float64)


def _decimal_to_double(array: pa.Array[Any]) -> npt.NDArray[np.float64]:
    """DuckDB divides the unscaled value by the power of ten, whole and fraction apart if it is no double itself."""
    type_: Any = array.type
    power = 10.0**type_.scale
    doubles = np.zeros(len(array))
    for row, value in enumerate(unscaled(array)):
        if abs(value) <= _EXACT_DOUBLE or not type_.scale:
            doubles[row] = float(value) / power
        else:
            whole, rest = divmod(abs(value), 10**type_.scale)
            doubles[row] = (float(whole) + float(rest) / power) * (-1 if value < 0 else 1)
    return doubles


def unscaled(array: pa.Array[Any]) -> list[int]:
    """The unscaled integers of a decimal128 array; 0 for NULL."""
    content: Any = array.buffers()[1] or b""
    words = np.frombuffer(content, np.int64)[2 * array.offset : 2 * (array.offset + len(array))]
    low, high = words[0::2].view(np.uint64).tolist(), words[1::2].tolist()
    null = array.is_null().to_pylist()
    return [0 if n else (h << 64) | w for w, h, n in zip(low, high, null, strict=True)]


def raw(column: pa.Array[Any]) -> npt.NDArray[Any]:
    """The values of a column of 64-bit numbers or times as they lie in memory: what stands for NULL means nothing."""
    values: Any = column.buffers()[1]
    dtype = np.float64 if pa.types.is_floating(column.type) else np.int64
    if values is None:
        return np.zeros(len(column), dtype)
    return np.frombuffer(values, dtype)[column.offset : column.offset + len(column)]
