"""Columns into the window engine's integers, and its answers back into columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.kernel.conversions import raw, unscaled
from tidegate.kernel.evaluate import Program
from tidegate.kernel.expressions import Expression, SqlType
from tidegate.kernel.hashing import from_ordered_bits, hash_column, ordered_bits
from tidegate.kernel.plan import NO_VALUE, WindowPlan


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


@dataclass(frozen=True, slots=True)
class Lane:
    """What aggregates count of a row: its value, where FILTER holds."""

    value: Expression
    where: Expression | None = None

    @property
    def expressions(self) -> tuple[Expression, ...]:
        return (self.value,) if self.where is None else (self.value, self.where)


class Lanes:
    """The lanes of a plan, evaluated over the columns of events: each value and each FILTER once."""

    def __init__(self, lanes: Sequence[Lane], plan: WindowPlan) -> None:
        expressions = list(dict.fromkeys(part for lane in lanes for part in lane.expressions))
        self._program = Program(expressions)
        self._parts = [[expressions.index(part) for part in lane.expressions] for lane in lanes]
        self._kept = {number: expressions.index(lane.value) for number, lane in zip(plan.lanes, lanes, strict=True)}
        self._kept.pop(NO_VALUE, None)

    def run(self, events: pa.RecordBatch) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """int64[v, n] and bool[l, n]: the values, 0 where they are NULL, and what is valid."""
        rows = events.num_rows
        columns = self._program.run(events)
        values = np.zeros((len(self._kept), rows), np.int64)
        for number, index in self._kept.items():
            column = columns[index]
            if column.null_count < rows:
                values[number] = _encode(column) * _present(column)
        valid = np.ones((len(self._parts), rows), np.bool_)
        for lane, parts in enumerate(self._parts):
            valid[lane] &= _present(columns[parts[0]])
            for condition in parts[1:]:
                valid[lane] &= columns[condition].fill_null(fill_value=False).to_numpy(zero_copy_only=False)
        return values, valid


def _present(column: pa.Array[Any]) -> npt.NDArray[np.bool_] | bool:
    """bool[n], or True if none is NULL."""
    return column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else True


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
