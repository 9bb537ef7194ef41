"""Aggregates over windows: from SUM(x) FILTER (WHERE c) OVER w to a plan's entities, windows, lanes and aggregates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlglot import exp

from tidegate.kernel.language import functions
from tidegate.kernel.language.bind import AGGREGATES, Binder, whole_number
from tidegate.kernel.language.coercions import MismatchError, convert
from tidegate.kernel.language.expressions import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    HUGEINT,
    INTEGER_DIGITS,
    INTERVAL,
    MAX_PRECISION,
    NULL,
    VARCHAR,
    AggregateRef,
    Call,
    Expression,
    Literal,
    SqlType,
    decimal,
    walk,
)
from tidegate.kernel.language.frames import Frame, Frames, index_of
from tidegate.kernel.language.joins import Scope
from tidegate.kernel.language.lanes import TRUE, Lanes
from tidegate.kernel.language.sql import Source, spell
from tidegate.kernel.plan import (
    EVERY_ROW,
    MAX_LANES,
    MAX_ROWS,
    NO_VALUE,
    Aggregate,
    AggregateFunction,
    WindowPlan,
)

#: Widest decimal that fits a lane of 64 bits.
LANE_DIGITS = 18

#: The variances and what they are called: each by the aggregate that answers it. A standard deviation is its root.
_VARIANCES: dict[str, AggregateFunction] = {
    "var_samp": "var_samp",
    "variance": "var_samp",
    "stddev_samp": "var_samp",
    "stddev": "var_samp",
    "var_pop": "var_pop",
    "stddev_pop": "var_pop",
}

#: What takes the value of one row, by its place in the frame, and what it takes with IGNORE NULLS.
_OF_ROW: dict[str, tuple[AggregateFunction, AggregateFunction]] = {
    "first_value": ("first_value", "first_known"),
    "last_value": ("last_value", "last_known"),
    "lag": ("last_value", "last_known"),
}

_QUANTILES = ("quantile_disc", "quantile_cont", "median", "approx_quantile")

#: So many digits as a share's denominator may have.
_SHARE = re.compile(r"\d?(?:\.(\d{1,9}))?")

#: QUANTILE_DISC(x, share).
_QUANTILE_ARGUMENTS = 2

#: LAG(x, offset, default).
_LAG_ARGUMENTS = 3


class _Share(NamedTuple):
    """Which quantile, by the function that asks for it."""

    name: str
    numerator: int
    denominator: int


@dataclass
class Aggregates:
    """Gathers what the windowed calls of one text need of the window engine, each thing once."""

    source: Source
    scope: Scope
    frames: Frames
    types: list[SqlType] = field(default_factory=list[SqlType])
    """What each aggregate gives."""
    lanes: Lanes = field(default_factory=Lanes)
    _aggregates: list[Aggregate] = field(default_factory=list[Aggregate])

    @property
    def valid(self) -> tuple[Expression, ...]:
        """Of each lane, whether a row counts."""
        return tuple(lane.is_valid for lane in self.lanes.all)

    def values(self) -> tuple[tuple[Expression, ...], dict[int, int]]:
        """The values that are kept, each once, and by lane the number of its own; of one only counted, none is kept."""
        needed = self.lanes.counted_with(each.lane for each in self._aggregates if each.function != "count")
        values = dict.fromkeys(self.lanes.all[lane].value for lane in sorted(needed))
        number_of = {value: number for number, value in enumerate(values)}
        return tuple(values), {lane: number_of[self.lanes.all[lane].value] for lane in needed}

    def texts(self) -> dict[int, frozenset[int]]:
        """The aggregates that answer a text, and the numbers of the values whose texts these may be."""
        _, number_of = self.values()
        return {
            index: frozenset(number_of[lane] for lane in self.lanes.counted_with([self._aggregates[index].lane]))
            for index, type_ in enumerate(self.types)
            if type_ == VARCHAR
        }

    def plan(self, *, lateness_us: int, dedupe_us: int) -> WindowPlan:
        _, numbers = self.values()
        return WindowPlan(
            entities=tuple(self.frames.entities),
            windows=tuple(self.frames.windows),
            lanes=tuple(numbers.get(lane, NO_VALUE) for lane in range(len(self.lanes.all))),
            label_lanes=tuple(self.lanes.by_label.values()),
            aggregates=tuple(self._aggregates),
            lateness_us=lateness_us,
            dedupe_us=dedupe_us,
            # One event as far ahead of the others as this leaves these within the lateness.
            ahead_us=lateness_us,
        )

    def bind(self, node: exp.Expr, names: Mapping[str, Expression]) -> Expression:
        """Bind a call with OVER; its argument and FILTER may read `names` and the label.

        Raises:
            DetectorError: it is no aggregate over a window of the dialect.
        """
        call, condition = node.this, None
        if isinstance(call, exp.Filter):
            call, condition = call.this, call.expression.this
        name = call.name.lower() if isinstance(call, exp.Anonymous) else type(call).__name__.lower()
        if name not in AGGREGATES:
            self.source.fail(node, f"{spell(call)} over a window", f"one of {', '.join(AGGREGATES)} over a window")
        binder = Binder(self.source, {**names, **self.scope.label}, refused=self.scope.refused)
        where = None if condition is None else self._bind_row(binder, condition, condition=True)
        arguments: list[exp.Expr] = [*call.expressions]
        if name not in _OF_ROW:
            return self._over_rows(node, name, arguments, where, binder)
        if where is not None:
            wanted = f"{name.upper()}(CASE WHEN condition THEN x END IGNORE NULLS): DuckDB has no FILTER here"
            self.source.fail(node, f"FILTER with {name.upper()}", wanted)
        return self._of_row(node, name, arguments, binder, names)

    def _over_rows(
        self, node: exp.Expr, name: str, arguments: list[exp.Expr], where: Expression | None, binder: Binder
    ) -> Expression:
        """What is made of all rows of a frame."""
        if any(isinstance(argument, exp.IgnoreNulls) for argument in arguments):
            wanted = "IGNORE NULLS in FIRST_VALUE, LAST_VALUE and LAG alone"
            self.source.fail(node, f"IGNORE NULLS in {name.upper()}", wanted)
        share = self._share(node, name, arguments) if name in _QUANTILES else None
        if len(arguments) != 1:
            self.source.fail(node, f"{name.upper()} of {len(arguments)} arguments", "one argument")
        (argument,) = arguments
        if isinstance(argument, exp.Star):
            if name != "count" or any(argument.args.values()):
                self.source.fail(node, f"{name.upper()}({spell(argument)})", "COUNT(*), or an expression in place of *")
            lane = EVERY_ROW if where is None else self._lane(node, TRUE, where)
            return self._aggregate("count", self.frames.over(node), lane, BIGINT)
        if isinstance(argument, exp.Distinct):
            if name != "count" or len(argument.expressions) != 1 or argument.args.get("on"):
                self.source.fail(
                    node, f"{name.upper()}({spell(argument)})", "DISTINCT in COUNT alone, of one expression"
                )
            name, argument = "count_distinct", argument.expressions[0]
        value = self._bind_row(binder, argument)
        return self._answer(node, name, value, where) if share is None else self._quantile(node, value, where, share)

    def _share(self, node: exp.Expr, name: str, arguments: list[exp.Expr]) -> _Share:
        """The share of a quantile, taken off the arguments."""
        if name == "median":
            return _Share(name, 5, 10)
        if len(arguments) != _QUANTILE_ARGUMENTS:
            self.source.fail(node, f"{name.upper()} of {len(arguments)} arguments", f"{name.upper()}(x, share)")
        share = arguments.pop()
        number = _SHARE.fullmatch(share.name) if isinstance(share, exp.Literal) and not share.is_string else None
        numerator, denominator = (int(number[0].replace(".", "")), 10 ** len(number[1] or "")) if number else (1, 0)
        if numerator > denominator:
            self.source.fail(share, f"the share {spell(share)}", "0 to 1 with up to 9 digits after the point, as 0.95")
        # No answer is nearer than the exact one.
        return _Share("quantile_disc" if name == "approx_quantile" else name, numerator, denominator)

    def _bind_row(self, binder: Binder, node: exp.Expr, *, condition: bool = False) -> Expression:
        """An expression over the row alone."""
        value = binder.condition(node) if condition else binder.bind(node)
        if any(isinstance(part, AggregateRef) for part in walk(value)):
            self.source.fail(node, "an aggregate within an aggregate", "an expression over columns")
        return convert(value, BIGINT) if value.type == NULL else value

    def _answer(self, node: exp.Expr, name: str, value: Expression, where: Expression | None) -> Expression:
        """The aggregate `name` of a row's value."""
        frame = self.frames.over(node)
        self._check_argument(node, name, value.type)
        match name:
            case "count" | "count_distinct":
                return self._aggregate(name, frame, self._lane(node, value, where), BIGINT)
            case "min" | "max":
                return self._aggregate(name, frame, self._lane(node, value, where), value.type)
            case _ if name in _VARIANCES:
                if value.type not in INTEGER_DIGITS:
                    self.source.fail(node, f"{name.upper()} of {value.type}", "an integer, such as minor units (cents)")
                variance = self._aggregate(_VARIANCES[name], frame, self._lane(node, value, where), DOUBLE)
                return Call("sqrt", (variance,), DOUBLE) if name.startswith("stddev") else variance
            case _:
                type_ = sum_type(self.source, node, name, value.type)
                lane = self._lane(node, value, where)
                total = self._aggregate("sum", frame, lane, type_)
                if name == "sum":
                    return total
                return functions.OPERATORS["Div"]((total, self._aggregate("count", frame, lane, BIGINT)))

    def _quantile(self, node: exp.Expr, value: Expression, where: Expression | None, share: _Share) -> Expression:
        """QUANTILE_DISC answers a value, QUANTILE_CONT and MEDIAN lie between two, each as near as its place is."""
        frame = self.frames.over(node)
        self._check_argument(node, share.name, value.type)
        lane, of = self._lane(node, value, where), (share.numerator, share.denominator)
        if share.name == "quantile_disc":
            return self._aggregate("quantile_disc", frame, lane, value.type, of)
        if value.type not in (*INTEGER_DIGITS, DOUBLE):
            self.source.fail(node, f"{share.name.upper()} of {value.type}", "an integer or a DOUBLE, or QUANTILE_DISC")
        below, above = (
            convert(self._aggregate(function, frame, lane, value.type, of), DOUBLE)
            for function in ("quantile_floor", "quantile_ceil")
        )
        count = convert(self._aggregate("count", frame, lane, BIGINT), DOUBLE)
        one, part = Literal(1.0, DOUBLE), Literal(share.numerator / share.denominator, DOUBLE)
        place = Call("multiply", (Call("subtract", (count, one), DOUBLE), part), DOUBLE)
        beyond = Call("subtract", (place, Call("floor", (place,), DOUBLE)), DOUBLE)
        parts = (Call("multiply", (below, Call("subtract", (one, beyond), DOUBLE)), DOUBLE),
                 Call("multiply", (above, beyond), DOUBLE))  # fmt: skip
        is_there = Call("equal", (beyond, Literal(0.0, DOUBLE)), BOOLEAN)
        return Call("if", (is_there, below, Call("add", parts, DOUBLE)), DOUBLE)

    def _of_row(
        self, node: exp.Expr, name: str, arguments: list[exp.Expr], binder: Binder, names: Mapping[str, Expression]
    ) -> Expression:
        """FIRST_VALUE, LAST_VALUE and LAG."""
        most = _LAG_ARGUMENTS if name == "lag" else 1
        if not 1 <= len(arguments) <= most:
            wanted = "LAG(x), LAG(x, offset) or LAG(x, offset, default)" if name == "lag" else "one argument"
            self.source.fail(node, f"{name.upper()} of {len(arguments)} arguments", wanted)
        ignores_nulls = isinstance(arguments[-1], exp.IgnoreNulls)
        if isinstance(arguments[-1], exp.IgnoreNulls | exp.RespectNulls):
            arguments[-1] = arguments[-1].this
        value = self._bind_row(binder, arguments[0])
        self._check_argument(node, name, value.type)
        function = _OF_ROW[name][ignores_nulls]
        if name != "lag":
            return self._aggregate(function, self.frames.over(node), self._lane(node, value, None), value.type)
        outside = Binder(self.source, names, refused=self.scope.refused_outside)
        return self._lag(node, value, arguments[1:], outside, ignores_nulls=ignores_nulls)

    def _lag(
        self, node: exp.Expr, value: Expression, rest: list[exp.Expr], outside: Binder, *, ignores_nulls: bool
    ) -> Expression:
        """LAG: the last row of the frame that has only the row so many rows before, or all known ones before."""
        offset = whole_number(self.source, rest[0], MAX_ROWS) if rest else 1
        has_default = len(rest) > 1 and not isinstance(rest[1], exp.Null)  # NULL is what it gives without
        default = self._bind_row(outside, rest[1]) if has_default else None
        if default is not None and default.type != value.type:
            try:
                default = functions.cast(default, value.type)
            except MismatchError as mismatch:
                self.source.fail(rest[1], f"a default that is no {value.type}: {mismatch.found}", mismatch.expected)
        if ignores_nulls:
            if offset != 1:
                self.source.fail(node, f"LAG of {offset} with IGNORE NULLS", "an offset of 1 with IGNORE NULLS")
            frame = self.frames.all_before(node)
            found = self._aggregate("last_known", frame, self._lane(node, value, None), value.type)
            return found if default is None else Call("coalesce", (found, default), value.type)
        frame = self.frames.before(node, offset)
        found = self._aggregate("last_value", frame, self._lane(node, value, None), value.type)
        if default is None:
            return found
        rows = self._aggregate("count", frame, EVERY_ROW, BIGINT)
        is_none = Call("equal", (rows, Literal(0, BIGINT)), BOOLEAN)
        return Call("if", (is_none, default, found), value.type)

    def _check_argument(self, node: exp.Expr, name: str, type_: SqlType) -> None:
        """That a function which answers one of the values can: SUM and the variances see to themselves."""
        if name != "count" and type_.name == "DECIMAL" and type_.precision > LANE_DIGITS:
            self.source.fail(node, f"{name.upper()} of {type_}", f"a DECIMAL of up to {LANE_DIGITS} digits")
        if type_ == INTERVAL and name in ("min", "max", *_QUANTILES, *_OF_ROW):
            self.source.fail(node, f"{name.upper()} of {type_}", "a number, BOOLEAN, VARCHAR or TIMESTAMP")
        if type_ == VARCHAR and name in ("min", "max", *_QUANTILES):
            self.source.fail(node, f"{name.upper()} of {type_}", "a number, BOOLEAN or TIMESTAMP")

    def _aggregate(
        self, function: AggregateFunction, frame: Frame, lane: int, type_: SqlType, share: tuple[int, int] = (0, 1)
    ) -> Expression:
        index = index_of(self._aggregates, Aggregate(function, frame.window, lane, frame.excludes_row, share))
        if index == len(self.types):
            self.types.append(type_)
        return AggregateRef(index, type_)

    def _lane(self, node: exp.Expr, value: Expression, where: Expression | None) -> int:
        lane = self.lanes.of(value, where)
        if len(self.lanes.all) > MAX_LANES:
            self.source.fail(node, f"more than {MAX_LANES} different values in windows", "fewer arguments and FILTERs")
        return lane


def sum_type(source: Source, node: exp.Expr, name: str, type_: SqlType) -> SqlType:
    """What SUM of a type gives; `name` is the aggregate that needs it, sum or avg.

    Raises:
        DetectorError: there is no exact sum of it.
    """
    exact = type_ in INTEGER_DIGITS or (name == "sum" and (type_ == BOOLEAN or type_.name == "DECIMAL"))
    if not exact:
        wanted = (
            "an integer: sum minor units (cents), since a sum of DOUBLE depends on the order of its parts"
            if type_ == DOUBLE
            else "an integer; of a BOOLEAN or a DECIMAL, SUM(...) / COUNT(...)"
        )
        source.fail(node, f"{name.upper()} of {type_}", wanted)
    return decimal(MAX_PRECISION, type_.scale) if type_.name == "DECIMAL" else HUGEINT
