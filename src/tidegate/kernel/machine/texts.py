"""Functions of texts, by pyarrow: what the register machine leaves to others.

Values are bit-equal to DuckDB's. Equality is the machine's own business: equal texts have equal hashes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tidegate.kernel.language.expressions import VARCHAR, Call, Expression

#: An array of the batch's length, or one scalar for all of its rows.
Datum = Any
Function = Callable[[Sequence[Datum]], Datum]


def _arrow(name: str, options: pc.FunctionOptions | None = None) -> Function:
    function = pc.get_function(name)
    return lambda arguments: function.call(list(arguments), options)


def _named(name: str) -> Callable[[Call], Function]:
    return lambda _: _arrow(name)


def _compare(call: Call) -> Function:
    return _arrow(call.function)


def _concatenate(_: Call) -> Function:
    join = _arrow("binary_join_element_wise", pc.JoinOptions("emit_null"))
    empty = pa.scalar("")
    return lambda arguments: join([*arguments, empty])


def _like(call: Call) -> Function:
    """`%` any text, `_` any one character. A backslash is a character like any other."""
    pattern = str(call.options[0])
    if call.function == "ilike":
        pattern = pc.utf8_lower(pa.scalar(pattern)).as_py()
    wild = {"%": ".*", "_": "."}
    regex = "".join(wild.get(character) or re.escape(character) for character in pattern)
    return _arrow("match_substring_regex", pc.MatchSubstringOptions(rf"(?s)\A(?:{regex})\z"))


def _starts_with(_: Call) -> Function:
    equal = _arrow("equal")

    def function(arguments: Sequence[Datum]) -> Datum:
        text, start = arguments
        if isinstance(start, pa.Scalar):
            return pc.starts_with(text, start.as_py()) if start.is_valid else equal([text, start])
        pairs = zip(spread(text, len(start)).to_pylist(), start.to_pylist(), strict=True)
        return pa.array([None if t is None or s is None else t.startswith(s) for t, s in pairs], pa.bool_())

    return function


def _substring(call: Call) -> Function:
    return _arrow("utf8_slice_codeunits", pc.SliceOptions(*[int(edge) for edge in call.options]))


def _length(_: Call) -> Function:
    length, to_long = _arrow("utf8_length"), _arrow("cast", pc.CastOptions.safe(pa.int64()))
    return lambda arguments: to_long([length(arguments)])


def _spelled(_: Call) -> Function:
    return _arrow("cast", pc.CastOptions.safe(pa.string()))


_FUNCTIONS: dict[str, Callable[[Call], Function]] = {
    **dict.fromkeys(("like", "ilike"), _like),
    "lower": _named("utf8_lower"),
    "upper": _named("utf8_upper"),
    "concatenate": _concatenate,
    "starts_with": _starts_with,
    "substring": _substring,
    "length": _length,
}

_ORDER = ("less", "less_equal", "greater", "greater_equal")


def is_of_texts(node: Expression) -> bool:
    """Whether it is a call of one of the functions here."""
    if not isinstance(node, Call):
        return False
    compares = node.function in _ORDER and node.arguments[0].type == VARCHAR
    return compares or node.function in _FUNCTIONS or (node.function == "cast" and node.type == VARCHAR)


def function_of(call: Call) -> Function:
    """What computes a call. It gives an array if any of its arguments is one, and a scalar otherwise."""
    if call.function == "cast":
        return _spelled(call)
    return _compare(call) if call.function in _ORDER else _FUNCTIONS[call.function](call)


def spread(value: Datum, rows: int) -> pa.Array[Any]:
    """The value as an array: a scalar stands in every row."""
    scalar: Any = value
    return pa.repeat(scalar, rows) if isinstance(value, pa.Scalar) else value
