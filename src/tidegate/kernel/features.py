"""features.sql: one SELECT over a stream, compiled into expressions over the event and a plan for the window engine."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from tidegate.errors import NotFoundError
from tidegate.kernel.aggregates import LABEL, LABELLED_STREAM, Aggregates
from tidegate.kernel.bind import Binder, near
from tidegate.kernel.expressions import (
    BOOLEAN,
    DOUBLE,
    INTEGER_DIGITS,
    TIMESTAMP,
    VARCHAR,
    Column,
    Expression,
    SqlType,
    columns_of,
    from_arrow,
    walk,
)
from tidegate.kernel.plan import WindowPlan
from tidegate.kernel.sql import Source, check_in_duckdb, parse, spell
from tidegate.streams.schema import STREAMS, Schema, load_schema

#: Names that a decision's own columns have.
RESERVED = ("event_id", "event_time", "rules", "score", "outcome", "late")

#: Most parts of one feature's expression, features that it names included: each is a step for every batch.
MAX_PARTS = 5_000

_CLAUSES = "SELECT ... FROM stream [WINDOW ...] alone: every event is decided, and FILTER says which rows count"

_LABEL_OUTSIDE = (
    "a window around it, as in COUNT(*) FILTER (WHERE is_fraud) OVER (...): when an event is decided, nobody knows yet "
    "whether it is fraud"
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
        texts = {name: expression for name, expression in self.expressions.items() if expression.type == VARCHAR}
        return frozenset(name for name, expression in texts.items() if columns_of(expression) & fields)


def compile_features(file: str, text: str, *, lateness_us: int, dedupe_us: int) -> Features:
    """Compile a SELECT. An item may name those before it, as in DuckDB.

    Raises:
        DetectorError: the text is not one SELECT of the dialect over a stream.
    """
    source = Source(file, text)
    select = parse(source)
    if not isinstance(select, exp.Select):
        source.fail(select, type(select).__name__.upper(), "one SELECT")
    for name, part in select.args.items():
        if part and name not in ("expressions", "from_", "windows"):
            first = part[0] if isinstance(part, list) else part
            source.fail(first if isinstance(first, exp.Expr) else 0, f"the clause {name.rstrip('_').upper()}", _CLAUSES)
    schema, table = _stream(source, select)
    columns: dict[str, Expression] = {
        name: Column(name, from_arrow(arrow)) for name, arrow in schema.protected_columns.items()
    }
    label: dict[str, Expression] = {LABEL: Column(LABEL, BOOLEAN)} if schema.name == LABELLED_STREAM else {}
    aggregates = Aggregates(source, table, columns, label)
    for window in select.args.get("windows") or []:
        aggregates.name_window(window)
    expressions = _items(source, select.expressions, aggregates)
    if not expressions:
        source.fail(select, "no feature", "SELECT expression AS name, ...")
    check_in_duckdb(source)
    plan = aggregates.plan(lateness_us=lateness_us, dedupe_us=dedupe_us)
    return Features(schema, expressions, tuple(aggregates.lanes), tuple(aggregates.types), plan)


def _stream(source: Source, select: exp.Select) -> tuple[Schema, str]:
    """The stream that FROM names, and the name that it goes by in the text."""
    from_ = select.args.get("from_")
    if from_ is None:
        source.fail(select, "a SELECT without FROM", f"FROM one of {', '.join(STREAMS)}")
    table: exp.Expr = from_.this
    others = [name for name, part in table.args.items() if part and name not in ("this", "alias")]
    others += table.alias_column_names
    if not isinstance(table, exp.Table) or others or not isinstance(table.this, exp.Identifier):
        source.fail(table, spell(table), f"FROM one stream: {', '.join(STREAMS)}")
    try:
        return load_schema(table.name.lower()), table.alias_or_name
    except NotFoundError:
        source.fail(table, f"the unknown stream {table.name!r}", near(table.name, STREAMS))


def _items(source: Source, items: list[exp.Expr], aggregates: Aggregates) -> dict[str, Expression]:
    """The items of the SELECT by name, event_id and event_time left out: they are in every decision anyway."""
    names = dict(aggregates.columns)
    refused = dict.fromkeys(aggregates.label, _LABEL_OUTSIDE)
    features: dict[str, Expression] = {}
    for item in items:
        node = item.this if isinstance(item, exp.Alias) else item
        name = item.alias_or_name
        if not name or not isinstance(item, exp.Alias | exp.Column):
            source.fail(item, spell(item), "expression AS name")
        is_column = isinstance(node, exp.Column) and node.name.lower() == name.lower()
        if is_column and name.lower() in ("event_id", "event_time"):
            continue
        if name.lower() in RESERVED:
            source.fail(item, f"a feature named {name!r}", f"a name other than {', '.join(RESERVED)}")
        if any(name.lower() == other.lower() for other in features) or (name.lower() in names and not is_column):
            source.fail(item, f"a second {name!r}", "a name that neither a column nor a feature has")
        binder = Binder(
            source, names, refused=refused, tables=(aggregates.table,), window=lambda over: aggregates.bind(over, names)
        )
        expression = binder.bind(node)
        if expression.type not in (BOOLEAN, DOUBLE, VARCHAR, TIMESTAMP, *INTEGER_DIGITS):
            wanted = "a number, BOOLEAN, VARCHAR or TIMESTAMP (write CAST(... AS DOUBLE) for a DECIMAL)"
            source.fail(item, f"a feature of type {expression.type}", wanted)
        if sum(1 for _ in walk(expression)) > MAX_PARTS:
            source.fail(item, f"an expression of more than {MAX_PARTS:,} parts", "a shorter one")
        features[name] = names[name.lower()] = expression
    return features
