"""Aggregates over windows: from SUM(x) FILTER (WHERE c) OVER w to a plan's entities, windows, lanes and aggregates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from sqlglot import exp

from tidegate.kernel.language import functions
from tidegate.kernel.language.bind import AGGREGATES, Binder, interval_us, near
from tidegate.kernel.language.coercions import convert
from tidegate.kernel.language.expressions import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    HUGEINT,
    INTEGER_DIGITS,
    INTERVAL,
    MAX_PRECISION,
    NULL,
    TIMESTAMP,
    VARCHAR,
    AggregateRef,
    Call,
    Column,
    Expression,
    Literal,
    SqlType,
    columns_of,
    decimal,
    substitute,
    walk,
)
from tidegate.kernel.language.joins import LABEL, Scope
from tidegate.kernel.language.sql import Source, spell
from tidegate.kernel.plan import (
    CURRENT_ROW,
    EVERY_ROW,
    MAX_LANES,
    NO_VALUE,
    Aggregate,
    AggregateFunction,
    Entity,
    LabelLane,
    Window,
    WindowPlan,
)

#: Widest decimal that fits a lane of 64 bits.
LANE_DIGITS = 18

#: What windows are ordered by: the event's own time.
_EVENT_TIME = Column("event_time", TIMESTAMP)

_TRUE, _FALSE = Literal(value=True, type=BOOLEAN), Literal(value=False, type=BOOLEAN)

_FRAME = "RANGE BETWEEN INTERVAL n unit PRECEDING AND (CURRENT ROW | INTERVAL n unit PRECEDING) [EXCLUDE CURRENT ROW]"

#: The variances and what they are called: each by the aggregate that answers it. A standard deviation is its root.
_VARIANCES: dict[str, AggregateFunction] = {
    "var_samp": "var_samp",
    "variance": "var_samp",
    "stddev_samp": "var_samp",
    "stddev": "var_samp",
    "var_pop": "var_pop",
    "stddev_pop": "var_pop",
}

#: What takes the value of a frame's first or last row.
_ENDS = ("first_value", "last_value")

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class _Lane:
    """What aggregates count of a row: its value, where FILTER holds."""

    value: Expression
    where: Expression | None = None

    @property
    def parts(self) -> tuple[Expression, ...]:
        return (self.value,) if self.where is None else (self.value, self.where)

    @property
    def is_valid(self) -> Expression:
        """Whether a row counts: never NULL."""
        has_value = _TRUE
        if not isinstance(self.value, Literal):
            has_value = Call("not", (Call("is_null", (self.value,), BOOLEAN),), BOOLEAN)
        elif self.value.value is None:
            has_value = _FALSE
        if self.where is None:
            return has_value
        holds = Call("coalesce", (self.where, _FALSE), BOOLEAN)
        return holds if has_value == _TRUE else Call("and", (has_value, holds), BOOLEAN)


@dataclass(frozen=True, slots=True)
class _Frame:
    """A window of the plan, by its number, as the text asks for it: with or without the row itself."""

    window: int
    excludes_row: bool


@dataclass
class Aggregates:
    """Gathers what the windowed calls of one text need of the window engine, each thing once."""

    source: Source
    scope: Scope
    types: list[SqlType] = field(default_factory=list[SqlType])
    """What each aggregate gives."""
    derived: dict[str, Expression] = field(default_factory=dict[str, Expression])
    """Columns that rows are gathered by and that no stream has, by name."""
    _entities: list[Entity] = field(default_factory=list[Entity])
    _windows: list[Window] = field(default_factory=list[Window])
    _named: dict[str, _Frame] = field(default_factory=dict[str, _Frame])
    _lanes: list[_Lane] = field(default_factory=list[_Lane])
    _shared_lanes: dict[_Lane, int] = field(default_factory=dict[_Lane, int])
    _label_lanes: dict[_Lane, LabelLane] = field(default_factory=dict[_Lane, LabelLane])
    _aggregates: list[Aggregate] = field(default_factory=list[Aggregate])

    @property
    def valid(self) -> tuple[Expression, ...]:
        """Of each lane, whether a row counts."""
        return tuple(lane.is_valid for lane in self._lanes)

    def values(self) -> tuple[tuple[Expression, ...], dict[int, int]]:
        """The values that are kept, each once, and by lane the number of its own; of one only counted, none is kept."""
        needed = {aggregate.lane for aggregate in self._aggregates if aggregate.function != "count"}
        for labelled in self._label_lanes.values():
            if labelled.lane in needed:
                needed |= {labelled.if_fraud, labelled.if_genuine}
        values = dict.fromkeys(self._lanes[lane].value for lane in sorted(needed))
        number_of = {value: number for number, value in enumerate(values)}
        return tuple(values), {lane: number_of[self._lanes[lane].value] for lane in needed}

    def plan(self, *, lateness_us: int, dedupe_us: int) -> WindowPlan:
        _, numbers = self.values()
        return WindowPlan(
            entities=tuple(self._entities),
            windows=tuple(self._windows),
            lanes=tuple(numbers.get(lane, NO_VALUE) for lane in range(len(self._lanes))),
            label_lanes=tuple(self._label_lanes.values()),
            aggregates=tuple(self._aggregates),
            lateness_us=lateness_us,
            dedupe_us=dedupe_us,
            # One event as far ahead of the others as this leaves these within the lateness.
            ahead_us=lateness_us,
        )

    def name_window(self, node: exp.Expr) -> None:
        """Take up one window of the WINDOW clause.

        Raises:
            DetectorError: its name is there already, or it is no window of the dialect.
        """
        name = node.name.lower()
        if name in self._named:
            self.source.fail(node, f"a second window {name!r}", "another name")
        self._named[name] = self._window(node)

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
        if len(call.expressions) != 1:
            self.source.fail(node, f"{name.upper()} of {len(call.expressions)} arguments", "one argument")
        binder = Binder(self.source, {**names, **self.scope.label}, refused=self.scope.refused)
        where = None if condition is None else self._bind_row(binder, condition, condition=True)
        argument: exp.Expr = call.expressions[0]
        if isinstance(argument, exp.Star):
            if name != "count" or any(argument.args.values()):
                self.source.fail(node, f"{name.upper()}({spell(argument)})", "COUNT(*), or an expression in place of *")
            lane = EVERY_ROW if where is None else self._lane(node, _TRUE, where)
            return self._aggregate("count", self._over(node), lane, BIGINT)
        if isinstance(argument, exp.Distinct):
            if name != "count" or len(argument.expressions) != 1 or argument.args.get("on"):
                self.source.fail(
                    node, f"{name.upper()}({spell(argument)})", "DISTINCT in COUNT alone, of one expression"
                )
            name, argument = "count_distinct", argument.expressions[0]
        value = self._bind_row(binder, argument)
        return self._answer(node, name, value, where)

    def _bind_row(self, binder: Binder, node: exp.Expr, *, condition: bool = False) -> Expression:
        """An expression over the row alone."""
        value = binder.condition(node) if condition else binder.bind(node)
        if any(isinstance(part, AggregateRef) for part in walk(value)):
            self.source.fail(node, "an aggregate within an aggregate", "an expression over columns")
        return convert(value, BIGINT) if value.type == NULL else value

    def _answer(self, node: exp.Expr, name: str, value: Expression, where: Expression | None) -> Expression:
        """The aggregate `name` of a row's value."""
        frame = self._over(node)
        self._check_argument(node, name, value.type)
        if where is not None and name in _ENDS:
            self.source.fail(
                node, f"FILTER with {name.upper()}", f"{name.upper()} without FILTER: DuckDB has none here"
            )
        match name:
            case "count":
                return self._aggregate("count", frame, self._lane(node, value, where), BIGINT)
            case "count_distinct":
                return self._aggregate("count_distinct", frame, self._lane(node, value, where), BIGINT)
            case "min" | "max" | "first_value" | "last_value":
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

    def _check_argument(self, node: exp.Expr, name: str, type_: SqlType) -> None:
        """That a function which answers one of the values can: SUM and the variances see to themselves."""
        if name != "count" and type_.name == "DECIMAL" and type_.precision > LANE_DIGITS:
            self.source.fail(node, f"{name.upper()} of {type_}", f"a DECIMAL of up to {LANE_DIGITS} digits")
        if name in ("min", "max", *_ENDS) and type_ in (VARCHAR, INTERVAL):
            self.source.fail(node, f"{name.upper()} of {type_}", "a number, BOOLEAN or TIMESTAMP")

    def _aggregate(self, function: AggregateFunction, frame: _Frame, lane: int, type_: SqlType) -> Expression:
        index = _index(self._aggregates, Aggregate(function, frame.window, lane, frame.excludes_row))
        if index == len(self.types):
            self.types.append(type_)
        return AggregateRef(index, type_)

    def _lane(self, node: exp.Expr, value: Expression, where: Expression | None) -> int:
        """The lane of the rows' values, as far as FILTER holds: three lanes if it reads the label."""
        kept = _Lane(value, where)
        if not any(LABEL in columns_of(part) for part in kept.parts):
            lane = self._shared_lane(kept)
        elif kept in self._label_lanes:
            lane = self._label_lanes[kept].lane
        else:
            unknown, fraud, genuine = (
                _Lane(*(substitute(part, LABEL, Literal(label, BOOLEAN)) for part in kept.parts))
                for label in (None, True, False)
            )
            # A label picks another in this lane's place, so that it may be no other's; the two it picks from are read.
            lane = len(self._lanes)
            self._lanes.append(unknown)
            self._label_lanes[kept] = LabelLane(lane, self._shared_lane(fraud), self._shared_lane(genuine))
        if len(self._lanes) > MAX_LANES:
            self.source.fail(node, f"more than {MAX_LANES} different values in windows", "fewer arguments and FILTERs")
        return lane

    def _shared_lane(self, lane: _Lane) -> int:
        if lane not in self._shared_lanes:
            self._shared_lanes[lane] = len(self._lanes)
            self._lanes.append(lane)
        return self._shared_lanes[lane]

    def _over(self, node: exp.Expr) -> _Frame:
        """The window after OVER: one of the WINDOW clause, or one written out."""
        name = node.args.get("alias")
        if name is None:
            return self._window(node)
        if node.args.get("spec") or node.args.get("order") or node.args.get("partition_by"):
            self.source.fail(node, "a window that changes another", "a window by its name, or written out in full")
        if name.name.lower() not in self._named:
            wanted = near(name.name, self._named) if self._named else "OVER (PARTITION BY ...)"
            self.source.fail(name, f"the unknown window {name.name!r}", wanted)
        return self._named[name.name.lower()]

    def _window(self, node: exp.Expr) -> _Frame:
        """PARTITION BY columns ORDER BY event_time RANGE BETWEEN ... PRECEDING AND ... EXCLUDE ..."""
        parts: list[exp.Expr] = node.args.get("partition_by") or []
        if not parts:
            self.source.fail(
                node, "a window without PARTITION BY", "PARTITION BY the columns that rows are gathered by"
            )
        binder = Binder(self.source, self.scope.names, refused=self.scope.refused)
        columns = dict.fromkeys(self._key(part, binder.bind(part)) for part in parts)
        self._order(binder, node)
        lower_us, upper_us, excludes_row = self._frame(node)
        window = Window(_index(self._entities, Entity(tuple(columns))), lower_us, upper_us)
        return _Frame(_index(self._windows, window), excludes_row)

    def _key(self, node: exp.Expr, key: Expression) -> str:
        """The name of a column that rows are gathered by; what is no column becomes one, named by its text."""
        if key.type in INTEGER_DIGITS:
            key = key if isinstance(key, Column) else convert(key, BIGINT)
        elif key.type not in (BOOLEAN, VARCHAR, TIMESTAMP):
            wanted = "an integer, BOOLEAN, VARCHAR or TIMESTAMP to partition by"
            self.source.fail(node, f"{spell(node)} of type {key.type}", wanted)
        if isinstance(key, Column):
            return key.name
        for name, other in self.derived.items():
            if other == key:
                return name
        name = " ".join(node.sql().split())
        self.derived[name] = key
        return name

    def _order(self, binder: Binder, node: exp.Expr) -> None:
        order = node.args.get("order")
        keys: list[exp.Expr] = order.expressions if order else []
        by_time = [
            key
            for key in keys
            if isinstance(key.this, exp.Column) and not key.args.get("desc") and binder.bind(key.this) == _EVENT_TIME
        ]
        if len(keys) != 1 or not by_time:
            self.source.fail(
                order or node, spell(order) if order else "a window without ORDER BY", "ORDER BY event_time"
            )

    def _frame(self, node: exp.Expr) -> tuple[int, int, bool]:
        """`lower_us` and `upper_us` of the frame, and whether it excludes the row."""
        spec = node.args.get("spec")
        if spec is None:
            self.source.fail(node, "a window without a frame", _FRAME)
        words = {name: part.upper() for name, part in spec.args.items() if isinstance(part, str)}
        start, end = spec.args.get("start"), spec.args.get("end")
        found = f"the frame {spell(spec)}"
        upper_us = CURRENT_ROW
        if isinstance(end, exp.Interval) and words.get("end_side") == "PRECEDING":
            upper_us = interval_us(self.source, end)
        elif end is not None and words.get("end") != "CURRENT ROW":
            self.source.fail(node, found, _FRAME)
        exclude = spec.args.get("exclude")
        without = exclude.name.upper() if exclude else "NO OTHERS"
        ranged = words.get("kind") == "RANGE" and words.get("start_side") == "PRECEDING"
        if not ranged or not isinstance(start, exp.Interval) or without not in ("CURRENT ROW", "NO OTHERS"):
            self.source.fail(node, found, _FRAME)
        lower_us = interval_us(self.source, start)
        if upper_us > lower_us:
            self.source.fail(node, f"{found}, which is empty", "the wider INTERVAL first")
        # A frame that ends before the row never has it.
        return lower_us, upper_us, without == "CURRENT ROW" and upper_us == 0


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


def _index(items: list[_Item], item: _Item) -> int:
    """Where the item is in the list; it is put at the end if it is not there."""
    if item not in items:
        items.append(item)
    return items.index(item)
