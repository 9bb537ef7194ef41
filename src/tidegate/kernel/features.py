"""features.sql: one SELECT over a stream, compiled into expressions over the event and plans for joins and windows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from sqlglot import exp

from tidegate.kernel.language.aggregates import Aggregates
from tidegate.kernel.language.bind import Binder, check_told
from tidegate.kernel.language.expressions import (
    TIMESTAMP,
    VARCHAR,
    AggregateRef,
    Column,
    Expression,
    SqlType,
    columns_of,
    walk,
)
from tidegate.kernel.language.frames import Frames
from tidegate.kernel.language.joins import join_plan, scope_of
from tidegate.kernel.language.sql import Source, check_in_duckdb, parse, spell
from tidegate.kernel.plan import JoinPlan, WindowPlan
from tidegate.streams.schema import Schema, load_schema

#: Names that a decision's own columns have.
RESERVED = ("event_id", "event_time", "rules", "score", "outcome", "late", "model_score")

#: Columns that are in every decision anyway.
_ALWAYS = (Column("event_id", VARCHAR), Column("event_time", TIMESTAMP))

#: Most parts of one feature's expression, features that it names included: each is a step for every batch.
MAX_PARTS = 5_000

_CLAUSES = (
    "SELECT ... FROM stream [ASOF LEFT JOIN ...] [WINDOW ...] alone: every event is decided, and FILTER says which "
    "rows count"
)


@dataclass(frozen=True)
class Features:
    """`values` and `lanes` are evaluated when a row arrives; `expressions` once the window engine has answered."""

    stream: Schema
    expressions: dict[str, Expression]
    values: tuple[Expression, ...]
    """What the windows keep of a row."""
    derived: dict[str, Expression]
    """Columns that windows gather by and that no stream has: evaluated before all else."""
    lanes: tuple[Expression, ...]
    """Of each of the plan's lanes, whether a row counts: never NULL."""
    aggregate_types: tuple[SqlType, ...]
    """What each of the plan's aggregates gives."""
    texts: dict[int, frozenset[int]]
    """The plan's aggregates that answer a text, and which of the values it may be."""
    plan: WindowPlan
    reads_keep: bool
    """Whether a frame has no bound in time of its own."""
    joins: JoinPlan
    private: frozenset[str] = frozenset()
    """Names of matches' measures that show a personal field."""

    @cached_property
    def rows(self) -> dict[SqlType, list[int]]:
        """The places of the features of each type, in the order of the SELECT."""
        types = [expression.type for expression in self.expressions.values()]
        return {type_: [row for row, other in enumerate(types) if other == type_] for type_ in set(types)}

    @property
    def personal(self) -> frozenset[str]:
        """Features that show a personal field: texts made of one."""
        fields = {*self.stream.personal}
        for join in self.joins.joins:
            fields |= {join.column(name) for name in load_schema(self.joins.tables[join.table].stream).personal}
        texts = {name: expression for name, expression in self.expressions.items() if expression.type == VARCHAR}
        return self.private | {name for name, expression in texts.items() if self._shown(expression) & fields}

    def _shown(self, expression: Expression) -> set[str]:
        """Names of the columns that a text may show, also of earlier rows."""
        answered = [node.index for node in walk(expression) if isinstance(node, AggregateRef)]
        earlier = {value for index in answered for value in self.texts.get(index, ())}
        return columns_of(expression).union(*(columns_of(self.values[value]) for value in earlier))


def compile_features(file: str, text: str, *, lateness_us: int, dedupe_us: int, keep_us: int | None = None) -> Features:
    """Compile a SELECT. An item may name those before it, as in DuckDB. `keep_us` is how long rows are kept that no
    frame bounds in time; without it there may be no such frame.

    Raises:
        DetectorError: the text is not one SELECT of the dialect over a stream.
    """
    source = Source(file, text)
    select = parse(source)
    if not isinstance(select, exp.Select):
        source.fail(select, type(select).__name__.upper(), "one SELECT")
    for name, part in select.args.items():
        if part and name not in ("expressions", "from_", "joins", "windows", "with_"):
            first = part[0] if isinstance(part, list) else part
            source.fail(first if isinstance(first, exp.Expr) else 0, f"the clause {name.rstrip('_').upper()}", _CLAUSES)
    scope = scope_of(source, select)
    aggregates = Aggregates(source, scope, Frames(source, scope, keep_us))
    for window in select.args.get("windows") or []:
        aggregates.frames.name_window(window)
    expressions = _items(source, select.expressions, aggregates)
    if not expressions:
        source.fail(select, "no feature", "SELECT expression AS name, ...")
    check_in_duckdb(source)
    values, _ = aggregates.values()
    plan = aggregates.plan(lateness_us=lateness_us, dedupe_us=dedupe_us)
    gathered = [column for entity in plan.entities for column in entity.columns]
    read = [*expressions.values(), *values, *aggregates.valid, *aggregates.frames.derived.values(), *gathered]
    joins = join_plan(scope.joined, read, lateness_us=lateness_us)
    return Features(
        stream=scope.stream,
        expressions=expressions,
        values=values,
        derived=aggregates.frames.derived,
        lanes=aggregates.valid,
        aggregate_types=tuple(aggregates.types),
        texts=aggregates.texts(),
        plan=plan,
        reads_keep=aggregates.frames.reads_keep,
        joins=joins,
    )


def _items(source: Source, items: list[exp.Expr], aggregates: Aggregates) -> dict[str, Expression]:
    """The items of the SELECT by name, event_id and event_time left out: they are in every decision anyway."""
    scope = aggregates.scope
    names = dict(scope.names)
    refused = scope.refused_outside
    features: dict[str, Expression] = {}
    for item in items:
        node = item.this if isinstance(item, exp.Alias) else item
        name = item.alias_or_name
        if not name or not isinstance(item, exp.Alias | exp.Column):
            source.fail(item, spell(item), "expression AS name")
        is_column = isinstance(node, exp.Column) and node.name.lower() == name.lower()
        binder = Binder(source, names, refused=refused, window=lambda over: aggregates.bind(over, names))
        if is_column and binder.bind(node) in _ALWAYS:
            continue
        if name.lower() in RESERVED:
            source.fail(item, f"a feature named {name!r}", f"a name other than {', '.join(RESERVED)}")
        taken = name.lower() in names or name.lower() in scope.refused
        if any(name.lower() == other.lower() for other in features) or (taken and not is_column):
            source.fail(item, f"a second {name!r}", "a name that neither a column nor a feature has")
        expression = binder.bind(node)
        check_told(source, item, "a feature", expression.type)
        if sum(1 for _ in walk(expression)) > MAX_PARTS:
            source.fail(item, f"an expression of more than {MAX_PARTS:,} parts", "a shorter one")
        features[name] = expression
        if name.lower() not in scope.refused:
            names[name.lower()] = expression
    return features
