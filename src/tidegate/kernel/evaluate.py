"""Expressions over columnar batches: each distinct sub-expression once a batch, by pyarrow's vectorised functions.

Values are bit-equal to DuckDB's. Where pyarrow and DuckDB part (NaN, rounding, division by zero, decimals) the kernels
here follow DuckDB.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tidegate.kernel.conversions import conversion, raw
from tidegate.kernel.expressions import DOUBLE, AggregateRef, Call, Column, Expression, Literal

#: An array of the batch's length, or one scalar for all of its rows.
Datum = Any
Kernel = Callable[[Sequence[Datum]], Datum]


def _arrow(name: str, options: pc.FunctionOptions | None = None) -> Kernel:
    function = pc.get_function(name)
    return lambda arguments: function.call(list(arguments), options)


def checked(kernel: Kernel, arguments: Sequence[Datum]) -> Datum:
    """Run a kernel that may refuse values; the rows that it refuses are NULL."""
    try:
        return kernel(arguments)
    except pa.ArrowInvalid:
        rows = max((len(argument) for argument in arguments if isinstance(argument, pa.Array)), default=1)
    if rows == 1:
        null: Any = pa.nulls(1)
        return null[0] if all(isinstance(argument, pa.Scalar) for argument in arguments) else null
    half = rows // 2
    parts = [
        checked(kernel, [a.slice(start, length) if isinstance(a, pa.Array) else a for a in arguments])
        for start, length in ((0, half), (half, rows - half))
    ]
    type_ = next((part.type for part in parts if part.type != pa.null()), pa.null())
    return pa.concat_arrays([part.cast(type_) for part in parts])


def _spread(value: Datum, rows: int) -> pa.Array[Any]:
    """The value as an array: a scalar stands in every row."""
    scalar: Any = value
    return pa.repeat(scalar, rows) if isinstance(value, pa.Scalar) else value


def _by_numpy(function: Callable[..., npt.NDArray[Any]]) -> Kernel:
    """A kernel out of a function of whole numpy arrays. NULL in any argument gives NULL."""

    def kernel(arguments: Sequence[Datum]) -> Datum:
        rows = max((len(argument) for argument in arguments if isinstance(argument, pa.Array)), default=0)
        arrays = [_spread(argument, rows or 1) for argument in arguments]
        null = np.logical_or.reduce([array.is_null().to_numpy(zero_copy_only=False) for array in arrays])
        with np.errstate(all="ignore"):
            values = function(*(array.fill_null(0).to_numpy(zero_copy_only=False) for array in arrays))
        result = pa.array(values, mask=null)
        return result if rows or any(isinstance(a, pa.Array) for a in arguments) else result[0]

    return kernel


_equal, _if_else, _coalesce = _arrow("equal"), _arrow("if_else"), _arrow("coalesce")
_and, _or, _not, _is_nan = _arrow("and"), _arrow("or"), _arrow("invert"), _arrow("is_nan")
_subtract, _multiply = _arrow("subtract_checked"), _arrow("multiply_checked")
_whole_divide, _divide = _arrow("divide_checked"), _arrow("divide")


#: What NaN makes of a comparison's plain result, where NaN is equal to itself and greater than all else.
_WITH_NAN: dict[str, Callable[[Datum, Datum, Datum], Datum]] = {
    "equal": lambda plain, left, right: _or([plain, _and([left, right])]),
    "not_equal": lambda plain, left, right: _and([plain, _not([_and([left, right])])]),
    "greater": lambda plain, left, right: _or([plain, _and([left, _not([right])])]),
    "less": lambda plain, left, right: _or([plain, _and([right, _not([left])])]),
    "greater_equal": lambda plain, left, _: _or([plain, left]),
    "less_equal": lambda plain, _, right: _or([plain, right]),
}


def _has_nan(value: Datum) -> bool:
    """Whether there may be a NaN: one that stands for NULL counts too."""
    if isinstance(value, pa.Scalar):
        return value.is_valid and math.isnan(value.as_py())
    return bool(np.isnan(raw(value)).any())


def _compare_doubles(name: str) -> Kernel:
    compare, with_nan = _arrow(name), _WITH_NAN[name]

    def kernel(arguments: Sequence[Datum]) -> Datum:
        plain = compare(arguments)
        if any(_has_nan(argument) for argument in arguments):
            return with_nan(plain, *(_is_nan([argument]) for argument in arguments))
        return plain

    return kernel


def _compare(call: Call) -> Kernel:
    return _compare_doubles(call.function) if call.arguments[0].type == DOUBLE else _arrow(call.function)


def _arithmetic(call: Call) -> Kernel:
    if call.type == DOUBLE:
        return _arrow(call.function)
    if call.type.name != "DECIMAL":
        return _checked_arrow(call.function + "_checked")
    plain, type_ = _arrow(call.function), call.type.arrow
    return lambda arguments: checked(lambda values: plain(values).cast(type_), arguments)


def _checked_arrow(name: str) -> Kernel:
    plain = _arrow(name)
    return lambda arguments: checked(plain, arguments)


def _without_zero(value: Datum) -> Datum:
    return _if_else([_equal([value, pa.scalar(0, value.type)]), pa.scalar(None, value.type), value])


def _whole(call: Call) -> Kernel:
    """`//`: integers are cut toward zero. DuckDB's `//` of doubles divides and cuts nothing."""
    divide = _divide if call.type == DOUBLE else _whole_divide
    return lambda arguments: checked(divide, [arguments[0], _without_zero(arguments[1])])


def _modulo(call: Call) -> Kernel:
    """`%` has the sign of the dividend."""
    if call.type == DOUBLE:
        return _by_numpy(np.fmod)

    def kernel(arguments: Sequence[Datum]) -> Datum:
        value, divisor = arguments[0], _without_zero(arguments[1])
        return _subtract([value, _multiply([_whole_divide([value, divisor]), divisor])])

    return lambda arguments: checked(kernel, arguments)


def _if(_: Call) -> Kernel:
    false = pa.scalar(value=False)

    def kernel(arguments: Sequence[Datum]) -> Datum:
        condition, then, otherwise = arguments
        if isinstance(condition, pa.Scalar) or condition.null_count:
            condition = _coalesce([condition, false])
        return _if_else([condition, then, otherwise])

    return kernel


def _in(call: Call) -> Kernel:
    """NULL among the candidates makes "no" into NULL."""
    candidates = [node.value for node in call.arguments[1:] if isinstance(node, Literal)]
    type_ = call.arguments[0].type.arrow
    found = pa.array([value for value in candidates if value is not None], type_)
    is_in = _arrow("is_in", pc.SetLookupOptions(found))
    otherwise = pa.scalar(None if None in candidates else False, pa.bool_())

    def kernel(arguments: Sequence[Datum]) -> Datum:
        value = arguments[0]
        known = _if_else([is_in([value]), pa.scalar(value=True), otherwise])
        return _if_else([pc.is_null(value), pa.scalar(None, pa.bool_()), known])

    return kernel


def _round(call: Call) -> Kernel:
    """Half away from zero; digits by scaling, as DuckDB does: what overflows by it is left as it is."""
    (places,) = call.options
    rounded = _arrow("round", pc.RoundOptions(0, "half_towards_infinity"))
    factor = pa.scalar(math.pow(10, abs(int(places))))
    finite = _arrow("is_finite")

    def kernel(arguments: Sequence[Datum]) -> Datum:
        (value,) = arguments
        if int(places) < 0:
            result = _arrow_multiply([rounded([_divide([value, factor])]), factor])
            return _if_else([finite([result]), result, pa.scalar(0.0)])
        result = _divide([rounded([_arrow_multiply([value, factor])]), factor])
        return _if_else([finite([result]), result, value])

    return kernel


_arrow_multiply = _arrow("multiply")


def _concatenate(_: Call) -> Kernel:
    join = _arrow("binary_join_element_wise", pc.JoinOptions("emit_null"))
    empty = pa.scalar("")
    return lambda arguments: join([*arguments, empty])


def _like(call: Call) -> Kernel:
    """`%` any text, `_` any one character. A backslash is a character like any other."""
    pattern = str(call.options[0])
    if call.function == "ilike":
        pattern = pc.utf8_lower(pa.scalar(pattern)).as_py()
    wild = {"%": ".*", "_": "."}
    regex = "".join(wild.get(character) or re.escape(character) for character in pattern)
    return _arrow("match_substring_regex", pc.MatchSubstringOptions(rf"(?s)\A(?:{regex})\z"))


def _starts_with(_: Call) -> Kernel:
    def kernel(arguments: Sequence[Datum]) -> Datum:
        text, start = arguments
        if isinstance(start, pa.Scalar):
            return pc.starts_with(text, start.as_py()) if start.is_valid else _equal([text, start])
        pairs = zip(_spread(text, len(start)).to_pylist(), start.to_pylist(), strict=True)
        return pa.array([None if t is None or s is None else t.startswith(s) for t, s in pairs], pa.bool_())

    return kernel


def _part(call: Call) -> Kernel:
    part = call.options[0]
    if part == "isodow":
        return _arrow("day_of_week", pc.DayOfWeekOptions(count_from_zero=False, week_start=1))
    if part in ("dow", "dayofweek"):
        return _arrow("day_of_week", pc.DayOfWeekOptions(count_from_zero=True, week_start=7))
    names = {"doy": "day_of_year", "dayofyear": "day_of_year", "dayofmonth": "day", "week": "iso_week"}
    return _arrow(names.get(str(part), str(part)))


def _boundaries(unit_us: int, start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return end // unit_us - start // unit_us


def _difference(call: Call) -> Kernel:
    (unit,) = call.options
    if call.function == "boundaries":
        return _by_numpy(partial(_boundaries, int(unit)))
    unit_us = pa.scalar(int(unit))
    return lambda arguments: checked(
        lambda values: _whole_divide([_subtract([values[1], values[0]]), unit_us]), arguments
    )


def _epoch(_: Call) -> Kernel:
    to_double, second_us = _arrow("cast", pc.CastOptions.unsafe(pa.float64())), pa.scalar(1e6)
    return lambda arguments: _divide([to_double(arguments), second_us])


def _negate(call: Call) -> Kernel:
    return _checked_arrow("negate" if call.type == DOUBLE or call.type.name == "DECIMAL" else "negate_checked")


def _abs(call: Call) -> Kernel:
    return _checked_arrow("abs" if call.type == DOUBLE or call.type.name == "DECIMAL" else "abs_checked")


def _substring(call: Call) -> Kernel:
    return _arrow("utf8_slice_codeunits", pc.SliceOptions(*[int(edge) for edge in call.options]))


def _length(_: Call) -> Kernel:
    length, to_long = _arrow("utf8_length"), _arrow("cast", pc.CastOptions.safe(pa.int64()))
    return lambda arguments: to_long([length(arguments)])


def _conversion(call: Call) -> Kernel:
    convert = conversion(call.arguments[0].type, call.type)
    return lambda arguments: checked(lambda values: convert(values[0]), arguments)


def _named(name: str) -> Callable[[Call], Kernel]:
    return lambda _: _arrow(name)


def _named_checked(name: str) -> Callable[[Call], Kernel]:
    return lambda _: _checked_arrow(name)


KERNELS: dict[str, Callable[[Call], Kernel]] = {
    **dict.fromkeys(("add", "subtract", "multiply"), _arithmetic),
    **dict.fromkeys(("equal", "not_equal", "greater", "greater_equal", "less", "less_equal"), _compare),
    **dict.fromkeys(("like", "ilike"), _like),
    **dict.fromkeys(("boundaries", "elapsed"), _difference),
    **{name: _named(name) for name in ("divide", "coalesce", "is_null", "floor", "ceil", "exp", "power", "atan")},
    **{name: _named_checked(name + "_checked") for name in ("sqrt", "ln", "log2", "log10")},
    **{name: _named_checked(name + "_checked") for name in ("sin", "cos", "tan", "asin", "acos")},
    "atan2": _named("atan2"),
    "and": _named("and_kleene"),
    "or": _named("or_kleene"),
    "not": _named("invert"),
    "lower": _named("utf8_lower"),
    "upper": _named("utf8_upper"),
    "whole_divide": _whole,
    "modulo": _modulo,
    "negate": _negate,
    "abs": _abs,
    "round": _round,
    "if": _if,
    "in": _in,
    "concatenate": _concatenate,
    "starts_with": _starts_with,
    "substring": _substring,
    "length": _length,
    "part": _part,
    "epoch": _epoch,
    "cast": _conversion,
}


class Program:
    """Expressions compiled into steps, each distinct sub-expression one step; constants are worked out here."""

    def __init__(self, outputs: Sequence[Expression]) -> None:
        self._slots: dict[Expression, int] = {}
        self._values: list[Datum] = []
        self._columns: list[tuple[int, str]] = []
        self._aggregates: list[tuple[int, int]] = []
        self._steps: list[tuple[int, Kernel, list[int], pa.DataType]] = []
        self._outputs = [self._slot(output) for output in outputs]

    def _slot(self, node: Expression) -> int:
        if node in self._slots:
            return self._slots[node]
        arguments = [self._slot(argument) for argument in node.arguments] if isinstance(node, Call) else []
        slot = self._slots[node] = len(self._values)
        self._values.append(None)
        match node:
            case Literal():
                self._values[slot] = pa.scalar(node.value, node.type.arrow)
            case Column():
                self._columns.append((slot, node.name))
            case AggregateRef():
                self._aggregates.append((slot, node.index))
            case Call():
                kernel = KERNELS[node.function](node)
                if all(self._values[argument] is not None for argument in arguments):
                    result = kernel([self._values[argument] for argument in arguments])
                    self._values[slot] = result if result.type == node.type.arrow else result.cast(node.type.arrow)
                else:
                    self._steps.append((slot, kernel, arguments, node.type.arrow))
        return slot

    def run(self, batch: pa.RecordBatch, answers: Sequence[pa.Array[Any]] = ()) -> list[pa.Array[Any]]:
        """One array of the batch's length for each output. `answers` are those of the window plan's aggregates."""
        values = list(self._values)
        for slot, name in self._columns:
            values[slot] = batch.column(name)
        for slot, index in self._aggregates:
            values[slot] = answers[index]
        for slot, kernel, arguments, type_ in self._steps:
            result = kernel([values[argument] for argument in arguments])
            values[slot] = result if result.type == type_ else result.cast(type_)
        return [_spread(values[slot], batch.num_rows) for slot in self._outputs]
