"""From sqlglot's tree to typed expressions: what is not whitelisted here does not exist."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from sqlglot import exp

from tidegate.kernel.language import functions
from tidegate.kernel.language.coercions import MismatchError, conditions, convert
from tidegate.kernel.language.expressions import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    INTEGER,
    INTEGER_DIGITS,
    INTERVAL,
    MAX_PRECISION,
    NULL,
    TIMESTAMP,
    VARCHAR,
    Call,
    Expression,
    Literal,
    SqlType,
    decimal,
)
from tidegate.kernel.language.sql import Source, spell
from tidegate.kernel.language.times import DAY_US, UNITS_US

#: The aggregates that a window answers.
AGGREGATES = (
    *("count", "sum", "avg", "min", "max"),
    *("var_samp", "var_pop", "variance", "stddev_samp", "stddev_pop", "stddev"),
    *("quantile_disc", "quantile_cont", "median", "approx_quantile"),
    *("first_value", "last_value", "lag"),
)

#: The key that gathers rows by session.
SESSION = "session_window"

#: What is to come, so that a message can say that it is not a typing error.
_NOT_YET = ("lead", "row_number")

_MAX_INT32, _MAX_INT64 = 2**31 - 1, 2**63 - 1

_TYPES = {
    exp.DType.BOOLEAN: BOOLEAN,
    exp.DType.INT: INTEGER,
    exp.DType.BIGINT: BIGINT,
    exp.DType.DOUBLE: DOUBLE,
    exp.DType.TEXT: VARCHAR,
    exp.DType.VARCHAR: VARCHAR,
    exp.DType.TIMESTAMP: TIMESTAMP,
    exp.DType.TIMESTAMPNTZ: TIMESTAMP,
}


def near(name: str, names: Iterable[str]) -> str:
    """What may have been meant, as the end of a message."""
    known = sorted(names)
    close = difflib.get_close_matches(name.lower(), known, n=3)
    return f"a known name, such as {' or '.join(close)}" if close else f"one of {', '.join(known[:40])}"


def check_told(source: Source, node: exp.Expr, what: str, type_: SqlType) -> None:
    """That a decision can hold a value of the type.

    Raises:
        DetectorError: it can't.
    """
    if type_ not in (BOOLEAN, DOUBLE, VARCHAR, TIMESTAMP, *INTEGER_DIGITS):
        wanted = "a number, BOOLEAN, VARCHAR or TIMESTAMP (write CAST(... AS DOUBLE) for a DECIMAL)"
        source.fail(node, f"{what} of type {type_}", wanted)


class Binder:
    """Binds the nodes of one text. `names` are what a column may stand for, by `name` and `table.name` in lower case;
    `refused` says why a name that exists may not be read here; `window` binds an aggregate over a window, and is None
    where there is none.
    """

    def __init__(
        self,
        source: Source,
        names: Mapping[str, Expression],
        *,
        refused: Mapping[str, str] | None = None,
        window: Callable[[exp.Expr], Expression] | None = None,
    ) -> None:
        self.source = source
        self.names = names
        self._refused = refused or {}
        self._window = window

    def bind(self, node: exp.Expr) -> Expression:
        """
        Raises:
            DetectorError: the node, or one below it, is not in the dialect or of the wrong type.
        """
        kind = type(node).__name__
        handler = Binder.operator if kind in functions.OPERATORS else _HANDLERS.get(kind)
        parts = {name for name, part in node.args.items() if part}
        if handler is None or parts - _PARTS.get(kind, {"this", "expression"}):
            wanted = "an expression over columns, functions and window aggregates"
            self.source.fail(node, f"{spell(node)} ({kind})", wanted)
        try:
            return handler(self, node)
        except MismatchError as mismatch:
            self.source.fail(node, mismatch.found, mismatch.expected)

    def operator(self, node: exp.Expr) -> Expression:
        parts: list[Any] = [node, *node.iter_expressions()]
        compares, *below = [isinstance(part, _COMPARISONS) for part in parts]
        if compares and any(below):
            self.source.fail(node, f"{spell(node)}: a comparison of a comparison", "parentheses around one of them")
        operands = [self.bind(node.args[name]) for name in ("this", "expression") if node.args.get(name)]
        bound = functions.OPERATORS[type(node).__name__](operands)
        return functions.OPERATORS["Not"]((bound,)) if node.args.get("negate") else bound

    def condition(self, node: exp.Expr) -> Expression:
        """A BOOLEAN expression."""
        bound = self.bind(node)
        if bound.type not in (BOOLEAN, NULL):
            self.source.fail(node, str(bound.type), "a BOOLEAN condition")
        return convert(bound, BOOLEAN)

    def column(self, node: exp.Expr) -> Expression:
        if not isinstance(node.this, exp.Identifier):
            self.source.fail(node, spell(node), "the name of a column")
        table, name = node.text("table").lower(), node.name.lower()
        key = f"{table}.{name}" if table else name
        if key in self._refused:
            self.source.fail(node, f"the column {key!r}", self._refused[key])
        if key not in self.names:
            tables = {known.rpartition(".")[0] for known in self.names}
            if table not in tables:
                self.source.fail(node, f"the table {table!r}", near(table, tables - {""}))
            there = [known for known in self.names if known.rpartition(".")[0] == table]
            self.source.fail(node, f"the unknown column {spell(node)!r}", near(key, there))
        return self.names[key]

    def number(self, node: exp.Expr) -> Expression:
        text = str(node.this)
        if node.is_string:
            return Literal(text, VARCHAR)
        if self.source.runs_on(node):
            raise MismatchError(f"letters after the number {text}", "a number as 12, 1.5 or 1e6")
        if re.fullmatch(r"\d+", text):
            value = int(text)
            if value > _MAX_INT64:
                raise MismatchError(f"the number {text}", f"at most {_MAX_INT64}")
            return Literal(value, INTEGER if value <= _MAX_INT32 else BIGINT)
        if re.fullmatch(r"\d*\.\d*", text) and text != ".":
            whole, fraction = text.split(".")
            precision, scale = len(whole.lstrip("0") or "0") + len(fraction), len(fraction)
            if precision <= MAX_PRECISION:
                return Literal(Decimal(text), decimal(precision, scale))
        if re.fullmatch(r"(\d+\.?\d*|\.\d+)[eE][+-]?\d+", text):
            return Literal(float(text), DOUBLE)
        raise MismatchError(f"the number {text}", "a number as 12, 1.5 or 1e6")

    def call(self, node: exp.Expr) -> Expression:
        name = node.name.lower()
        if name in AGGREGATES:
            self.source.fail(node, f"{name.upper()} without a window", f"{name.upper()}(...) OVER (...)")
        if name in _NOT_YET:
            self.source.fail(node, f"{name.upper()}", f"one of the window functions {', '.join(AGGREGATES)}")
        if name == SESSION:
            self.source.fail(node, name, "it in PARTITION BY, as in PARTITION BY pan, session_window(...)")
        if name not in functions.FUNCTIONS:
            known = [*functions.FUNCTIONS, *AGGREGATES]
            self.source.fail(node, f"the unknown function {node.name!r}", near(name, known))
        least, most, build = functions.FUNCTIONS[name]
        arguments = node.expressions
        if not least <= len(arguments) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise MismatchError(f"{name.upper()} of {len(arguments)} arguments", f"{wanted} arguments")
        return build([self.bind(argument) for argument in arguments])

    def windowed(self, node: exp.Expr) -> Expression:
        if self._window is None:
            self.source.fail(node, "a window", "an expression without windows: make it a feature and name that")
        return self._window(node)

    def is_(self, node: exp.Expr) -> Expression:
        value, other = self.bind(node.this), node.expression
        if isinstance(other, exp.Null):
            return Call("is_null", (value,), BOOLEAN)
        if not isinstance(other, exp.Boolean):
            self.source.fail(node, spell(node), "IS NULL, IS TRUE or IS FALSE")
        (value,) = conditions((value,))
        equal = Call("equal", (value, Literal(other.this, BOOLEAN)), BOOLEAN)
        return Call("coalesce", (equal, Literal(value=False, type=BOOLEAN)), BOOLEAN)

    def in_(self, node: exp.Expr) -> Expression:
        if not node.expressions:
            self.source.fail(node, spell(node), "IN (a list of values)")
        return functions.one_of([self.bind(part) for part in (node.this, *node.expressions)])

    def between(self, node: exp.Expr) -> Expression:
        return functions.between([self.bind(node.args[part]) for part in ("this", "low", "high")])

    def case(self, node: exp.Expr) -> Expression:
        operand = self.bind(node.this) if node.this else None
        whens: list[tuple[Expression, Expression]] = []
        for when in node.args["ifs"]:
            holds = (
                self.condition(when.this)
                if operand is None
                else functions.OPERATORS["EQ"]((operand, self.bind(when.this)))
            )
            whens.append((holds, self.bind(when.args["true"])))
        default = node.args.get("default")
        return functions.case(whens, self.bind(default) if default else Literal(None, NULL))

    def if_(self, node: exp.Expr) -> Expression:
        if not node.args.get("false"):
            self.source.fail(node, "IF of two arguments", "IF(condition, then, otherwise)")
        return functions.if_else([self.bind(node.args[part]) for part in ("this", "true", "false")])

    def cast(self, node: exp.Expr) -> Expression:
        return functions.cast(self.bind(node.this), self._type(node.args["to"]))

    def _type(self, node: exp.Expr) -> SqlType:
        parameters = [parameter.name for parameter in node.expressions]
        if node.this == exp.DType.DECIMAL and re.fullmatch(r"\d{1,2}(,\d{1,2})?", ",".join(parameters)):
            precision, scale = [*map(int, parameters), 0][:2]
            if 0 <= scale <= precision <= MAX_PRECISION and precision:
                return decimal(precision, scale)
        if node.this not in _TYPES or parameters:
            wanted = "BOOLEAN, INTEGER, BIGINT, DOUBLE, DECIMAL(p,s), VARCHAR or TIMESTAMP"
            self.source.fail(node, f"the type {spell(node)}", wanted)
        return _TYPES[node.this]

    def extract(self, node: exp.Expr) -> Expression:
        return functions.part_of(node.this.name, self.bind(node.expression))

    def interval(self, node: exp.Expr) -> Expression:
        return Literal(interval_us(self.source, node), INTERVAL)

    def paren(self, node: exp.Expr) -> Expression:
        return self.bind(node.this)


def interval_us(source: Source, node: exp.Expr) -> int:
    """Microseconds of an INTERVAL literal.

    Raises:
        DetectorError: it is no whole number of a unit of one length.
    """
    wanted = "INTERVAL n MICROSECOND, MILLISECOND, SECOND, MINUTE, HOUR, DAY or WEEK"
    number = node.this.name if isinstance(node.this, exp.Literal) else ""
    unit: Any = node.args.get("unit")
    word = unit.name.lower().removesuffix("s") if isinstance(unit, exp.Var) else ""
    length = 7 * DAY_US if word == "week" else UNITS_US.get(word)
    if not re.fullmatch(r"\d{1,9}", number) or length is None:
        source.fail(node, spell(node), wanted)
    return int(number) * length


def whole_number(source: Source, node: exp.Expr, most: int) -> int:
    """A whole number that is written out.

    Raises:
        DetectorError: it is none, or more than `most`.
    """
    text = str(node.this) if isinstance(node, exp.Literal) and not node.is_string else ""
    if not re.fullmatch(r"\d{1,19}", text) or source.runs_on(node) or int(text) > most:
        source.fail(node, spell(node), f"a whole number up to {most}, written out")
    return int(text)


#: DuckDB does not parse one of these beside another without parentheses.
_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ)

#: The parts of sqlglot's nodes that are read here: a node with another has a clause that is not in the dialect.
_PARTS = {
    "Anonymous": {"this", "expressions"},
    "Between": {"this", "low", "high"},
    "Case": {"this", "ifs", "default"},
    "Cast": {"this", "to"},
    "Column": {"this", "table"},
    "DPipe": {"this", "expression", "safe"},
    "ILike": {"this", "expression", "negate"},
    "If": {"this", "true", "false"},
    "In": {"this", "expressions"},
    "Interval": {"this", "unit"},
    "Like": {"this", "expression", "negate"},
    "Literal": {"this", "is_string"},
    "TryCast": {"this", "to", "safe"},
    "Window": {"this", "partition_by", "order", "spec", "alias", "over"},
}

_HANDLERS: dict[str, Callable[[Binder, exp.Expr], Expression]] = {
    "Column": Binder.column,
    "Literal": Binder.number,
    "Boolean": lambda _, node: Literal(bool(node.this), BOOLEAN),
    "Null": lambda _, __: Literal(None, NULL),
    "Paren": Binder.paren,
    "Anonymous": Binder.call,
    "Window": Binder.windowed,
    "Filter": Binder.paren,
    "Is": Binder.is_,
    "In": Binder.in_,
    "Between": Binder.between,
    "Case": Binder.case,
    "If": Binder.if_,
    "Cast": Binder.cast,
    "TryCast": Binder.cast,
    "Extract": Binder.extract,
    "Interval": Binder.interval,
}
