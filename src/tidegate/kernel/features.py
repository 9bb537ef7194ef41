"""features.sql: one SELECT over a stream, compiled into expressions over the event and a plan for the window engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlglot import exp

from tidegate.errors import NotFoundError
from tidegate.kernel import functions
from tidegate.kernel.bind import AGGREGATES, Binder, interval_us, near
from tidegate.kernel.expressions import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    INTEGER_DIGITS,
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
    from_arrow,
    substitute,
    walk,
)
from tidegate.kernel.plan import (
    CURRENT_ROW,
    MAX_LANES,
    Aggregate,
    AggregateFunction,
    Entity,
    LabelLane,
    Window,
    WindowPlan,
)
from tidegate.kernel.sql import Source, parse, spell
from tidegate.streams.schema import STREAMS, Schema, load_schema

#: The column that label events fill, and the stream that has it.
LABEL = "is_fraud"
LABELLED_STREAM = "transactions"

#: Names that a decision's own columns have.
RESERVED = ("event_id", "event_time", "rules", "score", "outcome", "late")

#: Most parts of one feature's expression, features that it names included: each is a step for every batch.
MAX_PARTS = 5_000

#: Widest decimal that fits a lane of 64 bits.
_LANE_DIGITS = 18

_LABEL_OUTSIDE = (
    "a window around it, as in COUNT(*) FILTER (WHERE is_fraud) OVER (...): when an event is decided, nobody "
    "knows yet whether it is fraud"
)


@dataclass(frozen=True)
class Features:
    """`lanes` are evaluated when a row arrives; `expressions` once the window engine has answered."""

    stream: Schema
    expressions: dict[str, Expression]
    lanes: tuple[Expression, ...]
    aggregate_types: tuple[SqlType, ...]
    """What each of the plan's aggregates gives."""
    plan: WindowPlan

    @property
    def personal(self) -> frozenset[str]:
        """Features that show a personal field: texts made of one."""
        fields = self.stream.personal.keys()
        return frozenset(
            name
            for name, expression in self.expressions.items()
            if expression.type == VARCHAR and columns_of(expression) & fields
        )


def compile_features(file: str, text: str, *, lateness_us: int, dedupe_us: int) -> Features:
    """
    Raises:
        DetectorError: the text is not one SELECT of the dialect over a stream.
    """
    source = Source(file, text)
    select = parse(source)
    if not isinstance(select, exp.Select):
        source.fail(select, type(select).__name__.upper(), "one SELECT")
    for name, part in select.args.items():
        if part and name not in ("expressions", "from_", "windows"):
            node = part[0] if isinstance(part, list) else part
            source.fail(
                node if isinstance(node, exp.Expr) else 0,
                f"the clause {name.rstrip('_').upper()}",
                "SELECT ... FROM stream [WINDOW ...] alone: every event is decided, FILTER says which rows count",
            )
    schema, table = _stream(source, select)
    compiler = _Compiler(source, schema, table, select)
    for item in select.expressions:
        compiler.feature(item)
    if not compiler.features:
        source.fail(select, "no feature", "SELECT expression AS name, ...")
    return Features(
        schema,
        compiler.features,
        tuple(compiler.lanes),
        tuple(compiler.types),
        WindowPlan(
            entities=tuple(compiler.entities),
            windows=tuple(compiler.windows),
            lane_count=len(compiler.lanes),
            label_lanes=tuple(compiler.label_lanes.values()),
            aggregates=tuple(compiler.aggregates),
            lateness_us=lateness_us,
            dedupe_us=dedupe_us,
        ),
    )


def _stream(source: Source, select: exp.Select) -> tuple[Schema, str]:
    """The stream that FROM names, and the name that it goes by in the text."""
    from_ = select.args.get("from_")
    if from_ is None:
        source.fail(select, "a SELECT without FROM", f"FROM one of {', '.join(STREAMS)}")
    table: exp.Expr = from_.this
    others = [name for name, part in table.args.items() if part and name not in ("this", "alias")]
    if not isinstance(table, exp.Table) or others or not isinstance(table.this, exp.Identifier):
        source.fail(table, spell(table), f"FROM one stream: {', '.join(STREAMS)}")
    try:
        return load_schema(table.name.lower()), table.alias_or_name
    except NotFoundError:
        source.fail(table, f"the unknown stream {table.name!r}", near(table.name, STREAMS))


@dataclass
class _Compiler:
    source: Source
    schema: Schema
    table: str
    select: exp.Select
    features: dict[str, Expression] = field(default_factory=dict)
    lanes: list[Expression] = field(default_factory=list)
    shared_lanes: dict[Expression, int] = field(default_factory=dict)
    label_lanes: dict[Expression, LabelLane] = field(default_factory=dict)
    entities: list[Entity] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    aggregates: list[Aggregate] = field(default_factory=list)
    types: list[SqlType] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._columns: dict[str, Expression] = {
            name: Column(name, from_arrow(arrow)) for name, arrow in self.schema.protected_columns.items()
        }
        self._label: dict[str, Expression] = {}
        if self.schema.name == LABELLED_STREAM:
            self._label = {LABEL: Column(LABEL, BOOLEAN)}
        self._names = dict(self._columns)
        self._named_windows: dict[str, int] = {}
        for node in self.select.args.get("windows") or []:
            name = node.name.lower()
            if name in self._named_windows:
                self.source.fail(node, f"a second window {name!r}", "another name")
            self._named_windows[name] = self._window(node)

    def feature(self, item: exp.Expr) -> None:
        """Bind one item of the SELECT. Those after it may name it."""
        node = item.this if isinstance(item, exp.Alias) else item
        if not item.alias_or_name or not isinstance(item, exp.Alias | exp.Column):
            self.source.fail(item, spell(item), "expression AS name")
        name = item.alias_or_name
        plain = isinstance(node, exp.Column) and node.name.lower() == name.lower()
        if plain and name.lower() in ("event_id", "event_time"):
            return
        if name.lower() in RESERVED:
            self.source.fail(item, f"a feature named {name!r}", f"a name other than {', '.join(RESERVED)}")
        if name.lower() in self._names | self._label and (not plain or name in self.features):
            self.source.fail(item, f"a second {name!r}", "a name that neither a column nor a feature has")
        refused = dict.fromkeys(self._label, _LABEL_OUTSIDE)
        binder = Binder(self.source, self._names, refused=refused, tables=(self.table,), window=self.windowed)
        expression = binder.bind(node)
        if expression.type not in (BOOLEAN, DOUBLE, VARCHAR, TIMESTAMP, *INTEGER_DIGITS):
            wanted = "a number, BOOLEAN, VARCHAR or TIMESTAMP (write CAST(... AS DOUBLE) for a DECIMAL)"
            self.source.fail(item, f"a feature of type {expression.type}", wanted)
        if sum(1 for _ in walk(expression)) > MAX_PARTS:
            self.source.fail(item, f"an expression of more than {MAX_PARTS:,} parts", "a shorter one")
        self.features[name] = self._names[name.lower()] = expression

    def windowed(self, node: exp.Expr) -> Expression:
        """An aggregate over a window."""
        call, condition = node.this, None
        if isinstance(call, exp.Filter):
            call, condition = call.this, call.expression.this
        name = call.name.lower() if isinstance(call, exp.Anonymous) else type(call).__name__.lower()
        if name not in AGGREGATES:
            self.source.fail(node, f"{spell(call)} over a window", f"one of {', '.join(AGGREGATES)} over a window")
        if len(call.expressions) != 1:
            self.source.fail(node, f"{name.upper()} of {len(call.expressions)} arguments", "one argument")
        window = self._reference(node)
        binder = Binder(self.source, self._names | self._label, tables=(self.table,))
        where = binder.condition(condition) if condition else None
        argument: exp.Expr = call.expressions[0]
        if isinstance(argument, exp.Star):
            if name != "count":
                self.source.fail(node, f"{name.upper()}(*)", f"{name.upper()}(an expression)")
            if where is None:
                return self._aggregate("count", window, -1, BIGINT)
            return self._aggregate("count", window, self._lane(node, Literal(value=True, type=BOOLEAN), where), BIGINT)
        distinct = isinstance(argument, exp.Distinct)
        if distinct:
            if name != "count" or len(argument.expressions) != 1 or argument.args.get("on"):
                self.source.fail(node, f"{name.upper()}(DISTINCT ...)", "DISTINCT in COUNT alone, of one expression")
            argument = argument.expressions[0]
        value = binder.bind(argument)
        if any(isinstance(part, AggregateRef) for part in walk(value)):
            self.source.fail(argument, "an aggregate within an aggregate", "an aggregate over columns")
        if value.type == NULL:
            value = functions.convert(value, BIGINT)
        return self._answer(node, "count_distinct" if distinct else name, window, value, where)

    def _answer(self, node: exp.Expr, name: str, window: int, value: Expression, where: Expression | None) -> Expression:
        def lane() -> int:
            return self._lane(node, value, where)

        if name in ("count", "count_distinct"):
            if name == "count" and value.type == VARCHAR:
                value = functions.if_else(
                    (Call("is_null", (value,), BOOLEAN), Literal(None, BOOLEAN), Literal(value=True, type=BOOLEAN))
                )
            return self._aggregate("count" if name == "count" else "count_distinct", window, lane(), BIGINT)
        if name in ("min", "max"):
            if value.type not in (BOOLEAN, DOUBLE, TIMESTAMP, *INTEGER_DIGITS) and not self._is_small_decimal(value):
                self.source.fail(node, f"{name.upper()} of {value.type}", "a number, BOOLEAN or TIMESTAMP")
            return self._aggregate("min" if name == "min" else "max", window, lane(), value.type)
        if name == "avg" and value.type.name == "DECIMAL":
            self.source.fail(node, "AVG of a DECIMAL", "SUM(...) / COUNT(...)")
        if value.type == BOOLEAN and name == "avg":
            self.source.fail(node, "AVG of BOOLEAN", "AVG(CAST(... AS INTEGER))")
        sum_type = functions.SUMS.get(value.type)
        if self._is_small_decimal(value):
            sum_type = decimal(MAX_PRECISION, value.type.scale)
        if sum_type is None:
            wanted = (
                "an integer, a BOOLEAN or a DECIMAL of up to 18 digits: sum minor units (cents), since a sum of DOUBLE "
                "depends on the order of its parts"
            )
            self.source.fail(node, f"{name.upper()} of {value.type}", wanted)
        total = self._aggregate("sum", window, lane(), sum_type)
        if name == "sum":
            return total
        count = self._aggregate("count", window, lane(), BIGINT)
        return functions.OPERATORS["Div"]((total, count))

    def _is_small_decimal(self, value: Expression) -> bool:
        return value.type.name == "DECIMAL" and value.type.precision <= _LANE_DIGITS

    def _aggregate(self, function: AggregateFunction, window: int, lane: int, type_: SqlType) -> Expression:
        index = _index(self.aggregates, Aggregate(function, window, lane))
        self.types[index:] = [type_, *self.types[index + 1 :]]
        return AggregateRef(index, type_)

    def _lane(self, node: exp.Expr, value: Expression, where: Expression | None) -> int:
        """The lane of the rows' values, NULL where FILTER does not hold: three lanes if it reads the label."""
        kept = value if where is None else functions.if_else((where, value, Literal(None, value.type)))
        if LABEL not in columns_of(kept):
            lane = self._shared_lane(kept)
        elif kept in self.label_lanes:
            lane = self.label_lanes[kept].lane
        else:
            unknown, fraud, genuine = (substitute(kept, LABEL, Literal(label, BOOLEAN)) for label in (None, True, False))
            # A label overwrites the lane, so that no other value may share it; the two it chooses from are only read.
            lane = len(self.lanes)
            self.lanes.append(unknown)
            self.label_lanes[kept] = LabelLane(lane, self._shared_lane(fraud), self._shared_lane(genuine))
        if len(self.lanes) > MAX_LANES:
            self.source.fail(node, f"more than {MAX_LANES} different values in windows", "fewer arguments and FILTERs")
        return lane

    def _shared_lane(self, expression: Expression) -> int:
        if expression not in self.shared_lanes:
            self.shared_lanes[expression] = len(self.lanes)
            self.lanes.append(expression)
        return self.shared_lanes[expression]

    def _reference(self, node: exp.Expr) -> int:
        """The window after OVER: one of the WINDOW clause, or one written out."""
        name = node.args.get("alias")
        if name is None:
            return self._window(node)
        if node.args.get("spec") or node.args.get("order") or node.args.get("partition_by"):
            self.source.fail(node, "a window that changes another", "a window by its name, or written out in full")
        known = self._named_windows
        if name.name.lower() not in known:
            self.source.fail(name, f"the unknown window {name.name!r}", near(name.name, known) if known else "OVER (...)")
        return known[name.name.lower()]

    def _window(self, node: exp.Expr) -> int:
        """PARTITION BY columns ORDER BY event_time RANGE BETWEEN ... PRECEDING AND ..."""
        parts: list[exp.Expr] = node.args.get("partition_by") or []
        if not parts:
            self.source.fail(node, "a window without PARTITION BY", "PARTITION BY the columns that rows are gathered by")
        binder = Binder(self.source, self._columns, tables=(self.table,))
        columns: list[str] = []
        for part in parts:
            if not isinstance(part, exp.Column):
                self.source.fail(part, spell(part), "a column to partition by")
            column = binder.column(part)
            columns += [column.name] if isinstance(column, Column) and column.name not in columns else []
        entity = _index(self.entities, Entity(tuple(columns)))
        self._order(node)
        return _index(self.windows, Window(entity, *self._frame(node)))

    def _order(self, node: exp.Expr) -> None:
        order = node.args.get("order")
        keys = order.expressions if order else []
        ascending = [key for key in keys if isinstance(key, exp.Ordered) and not key.args.get("desc")]
        if len(keys) != 1 or not ascending or not isinstance(keys[0].this, exp.Column):
            self.source.fail(order or node, spell(order) if order else "no ORDER BY", "ORDER BY event_time")
        if keys[0].this.name.lower() != "event_time":
            self.source.fail(order, spell(order), "ORDER BY event_time")

    def _frame(self, node: exp.Expr) -> tuple[int, int]:
        wanted = "RANGE BETWEEN INTERVAL n unit PRECEDING AND (CURRENT ROW | INTERVAL n unit PRECEDING)"
        spec: exp.Expr | None = node.args.get("spec")
        if spec is None:
            self.source.fail(node, "a window without a frame", wanted)
        edges: dict[str, Any] = spec.args
        words = {name: part.upper() for name, part in edges.items() if isinstance(part, str)}
        start, end = edges.get("start"), edges.get("end")
        upper_us = CURRENT_ROW
        if isinstance(end, exp.Interval) and words.get("end_side") == "PRECEDING":
            upper_us = interval_us(self.source, end)
        elif end is not None and words.get("end") != "CURRENT ROW":
            self.source.fail(node, f"the frame {spell(spec)}", wanted)
        ranged = words.get("kind") == "RANGE" and words.get("start_side") == "PRECEDING" and not edges.get("exclude")
        if not ranged or not isinstance(start, exp.Interval):
            self.source.fail(node, f"the frame {spell(spec)}", wanted)
        lower_us = interval_us(self.source, start)
        if upper_us > lower_us:
            self.source.fail(node, f"the frame {spell(spec)}, which is empty", "the wider INTERVAL first")
        return lower_us, upper_us


_Item = TypeVar("_Item")


def _index(items: list[_Item], item: _Item) -> int:
    """Where the item is in the list; it is put at the end if it is not there."""
    if item not in items:
        items.append(item)
    return items.index(item)
