"""FROM and its ASOF joins: which streams are read, and what each name in the SELECT stands for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlglot import exp

from tidegate.errors import NotFoundError
from tidegate.kernel.arrivals import LABELS
from tidegate.kernel.language import functions
from tidegate.kernel.language.bind import Binder, near
from tidegate.kernel.language.expressions import BOOLEAN, DOUBLE, Column, Expression, columns_of, from_arrow
from tidegate.kernel.language.sql import Source, spell
from tidegate.kernel.plan import Join, JoinPlan, VersionedTable
from tidegate.streams.schema import STREAMS, Schema, load_schema

#: The column that label events fill, and the stream that has it.
LABEL = "is_fraud"
LABELLED_STREAM = "transactions"

#: Where the label may be read instead.
LABEL_OUTSIDE = (
    "a window around it, as in COUNT(*) FILTER (WHERE is_fraud) OVER (...): when an event is decided, nobody knows yet "
    "whether it is fraud"
)

_TIME = "event_time"

_FORM = "ASOF LEFT JOIN stream AS c ON t.key = c.key AND t.event_time >= c.event_time"


@dataclass(frozen=True, slots=True)
class Joined:
    """One ASOF LEFT JOIN. `keys` are pairs of a column of the event and one of the table."""

    name: str
    schema: Schema
    keys: tuple[tuple[str, str], ...]
    where: Expression | None


@dataclass(frozen=True, slots=True)
class Scope:
    """What the names of a SELECT stand for, by `name` and `table.name` in lower case. `label` are the names of the
    label, which only windows may read.
    """

    stream: Schema
    """That is decided."""
    table: str
    """What it is called in the SELECT."""
    names: dict[str, Expression] = field(default_factory=dict[str, Expression])
    label: dict[str, Expression] = field(default_factory=dict[str, Expression])
    refused: dict[str, str] = field(default_factory=dict[str, str])
    """Names that two tables have, and what to write instead."""
    joined: list[Joined] = field(default_factory=list[Joined])

    @property
    def refused_outside(self) -> dict[str, str]:
        """Names that may not be read outside of a window, and what to write instead."""
        return self.refused | dict.fromkeys(self.label, LABEL_OUTSIDE)

    def add(self, table: str, columns: dict[str, Expression]) -> None:
        """Let the columns of one more table be read."""
        for name, column in columns.items():
            self.names[f"{table}.{name}"] = column
            if name in self.names or name in self.refused:
                tables = [key.rpartition(".")[0] for key in self.names if key.endswith(f".{name}")]
                self.refused[name] = " or ".join(f"{other}.{name}" for other in tables)
                self.names.pop(name, None)
            else:
                self.names[name] = column


class _Table(NamedTuple):
    schema: Schema
    name: str


def scope_of(source: Source, select: exp.Select) -> Scope:
    """The scope of a SELECT over a stream, perhaps with ASOF LEFT JOINs, or over a WITH that is such a SELECT.

    Raises:
        DetectorError: FROM, a join or WITH is not in the dialect.
    """
    with_ = select.args.get("with_")
    if with_ is None:
        return _joined_scope(source, select)
    wanted = "WITH name AS (SELECT t.*, ... FROM stream AS t ASOF LEFT JOIN ...) SELECT ... FROM name"
    ctes: list[exp.Expr] = with_.expressions
    cte, inner = ctes[0], ctes[0].this
    allowed = {"this", "alias"}
    if len(ctes) > 1 or with_.args.get("recursive") or _others(cte, allowed) or not isinstance(inner, exp.Select):
        source.fail(cte, f"WITH {spell(cte)}", wanted)
    if cte.alias_column_names or select.args.get("joins"):
        source.fail(cte, f"WITH {spell(cte)}", wanted)
    from_ = select.args.get("from_")
    table = from_.this if from_ else None
    if not isinstance(table, exp.Table) or table.name.lower() != cte.alias.lower() or _others(table, allowed):
        source.fail(table or select, spell(table or select), f"FROM {cte.alias}, which WITH names")
    if extra := _others(inner, {"expressions", "from_", "joins"}):
        source.fail(cte, f"the clause {extra[0].rstrip('_').upper()} in WITH", wanted)
    return _selected(source, inner, table.alias_or_name.lower())


def _selected(source: Source, select: exp.Select, name: str) -> Scope:
    """What a WITH of that name lets its outer SELECT read: all columns of the event, and what is made of the joined."""
    inner = _joined_scope(source, select)
    first, *items = select.expressions
    if not (isinstance(first, exp.Column) and isinstance(first.this, exp.Star)) or first.text("table") != inner.table:
        source.fail(first, spell(first), f"{inner.table}.*, and then what is joined to it")
    columns: dict[str, Expression] = {
        column: inner.names[f"{inner.table}.{column}"] for column in inner.stream.protected_columns
    }
    names = dict(inner.names)
    refused = inner.refused | dict.fromkeys(inner.label, "a window around it")
    for item in items:
        node = item.this if isinstance(item, exp.Alias) else item
        alias = item.alias_or_name.lower()
        if not alias or not isinstance(item, exp.Alias | exp.Column):
            source.fail(item, spell(item), "expression AS name")
        if alias in columns or alias in inner.label:
            source.fail(item, f"a second {alias!r}", f"a name that no column of {inner.stream.name} has")
        columns[alias] = Binder(source, names, refused=refused).bind(node)
        if alias not in refused:
            names.setdefault(alias, columns[alias])
    outer = Scope(inner.stream, name, joined=inner.joined)
    outer.add(name, columns)
    outer.label.update(_label(inner.stream, name))
    return outer


def _joined_scope(source: Source, select: exp.Select) -> Scope:
    from_ = select.args.get("from_")
    if from_ is None:
        source.fail(select, "a SELECT without FROM", f"FROM one of {', '.join(STREAMS)}")
    stream = _stream(source, from_.this)
    scope = Scope(stream.schema, stream.name)
    scope.add(stream.name, stream_columns(stream.schema))
    scope.label.update(_label(stream.schema, stream.name))
    for join in select.args.get("joins") or []:
        _join(source, scope, join)
    return scope


def _stream(source: Source, table: exp.Expr) -> _Table:
    """A stream, and the name that it goes by in the text."""
    others = _others(table, {"this", "alias"}) or table.alias_column_names
    if not isinstance(table, exp.Table) or others or not isinstance(table.this, exp.Identifier):
        source.fail(table, spell(table), f"FROM one stream, or a JOIN of one: {', '.join(STREAMS)}")
    return _Table(stream_named(source, table, table.name), table.alias_or_name.lower())


def stream_named(source: Source, at: exp.Expr | int, name: str) -> Schema:
    """
    Raises:
        DetectorError: there is no such stream.
    """
    try:
        return load_schema(name.lower())
    except NotFoundError:
        source.fail(at, f"the unknown stream {name!r}", near(name, STREAMS))


def _join(source: Source, scope: Scope, join: exp.Expr) -> None:
    """Take up one join."""
    if join.args.get("method") == "ASOF" and not join.args.get("side"):
        wanted = "ASOF LEFT JOIN: every event is decided, one that finds no version too"
        source.fail(join, "an ASOF JOIN that leaves events out", wanted)
    on = join.args.get("on")
    if join.args.get("method") != "ASOF" or join.args.get("side") != "LEFT" or on is None:
        source.fail(join, spell(join), _FORM)
    if others := _others(join, {"this", "method", "side", "on"}):
        source.fail(join, f"{spell(join)} ({others[0]})", _FORM)
    table = _stream(source, join.this)
    if table.schema.name in (scope.stream.name, LABELS):
        wanted = f"a window, which sees what came before and counts by {LABELS}"
        source.fail(join, f"a join of {scope.stream.name} with {table.schema.name}", wanted)
    if any(key.startswith(f"{table.name}.") for key in scope.names):
        source.fail(join, f"a second table {table.name!r}", "AS another name")
    scope.add(table.name, stream_columns(table.schema, f"{table.name}."))
    keys: list[tuple[str, str]] = []
    conditions: list[Expression] = []
    timed = False
    for part in on.flatten() if isinstance(on, exp.And) else [on]:
        if _is_of(part, table.name):
            conditions.append(_own_condition(source, table, part))
        elif _is_as_of(source, scope, table, part):
            timed = True
        else:
            keys.append(_key(source, scope, table, part))
    if not keys or not timed:
        missing = "a key" if timed else "the time"
        source.fail(join, f"a join without {missing}", f"ON t.key = {table.name}.key AND t.{_TIME} >= ...")
    where = functions.OPERATORS["And"](conditions) if len(conditions) > 1 else next(iter(conditions), None)
    scope.joined.append(Joined(table.name, table.schema, tuple(keys), where))


def _is_of(node: exp.Expr, table: str) -> bool:
    """Whether a part of ON reads columns of one table alone."""
    columns = list(node.find_all(exp.Column))
    return bool(columns) and all(column.text("table").lower() == table for column in columns)


def _own_condition(source: Source, table: _Table, node: exp.Expr) -> Expression:
    """A condition that a version must meet, over the columns of its stream."""
    names = {f"{table.name}.{name}": column for name, column in stream_columns(table.schema).items()}
    return Binder(source, names).condition(node)


def _is_as_of(source: Source, scope: Scope, table: _Table, node: exp.Expr) -> bool:
    """Whether a part of ON says that the version is not newer than the event."""
    if not isinstance(node, exp.GTE | exp.LTE):
        return False
    event, version = (node.this, node.expression) if isinstance(node, exp.GTE) else (node.expression, node.this)
    bound = [_column(source, scope, side) for side in (event, version)]
    if [column.name for column in bound] != [_TIME, f"{table.name}.{_TIME}"]:
        source.fail(node, spell(node), f"{scope.table}.{_TIME} >= {table.name}.{_TIME}")
    return True


def _key(source: Source, scope: Scope, table: _Table, node: exp.Expr) -> tuple[str, str]:
    """Columns of the event and of the table that are equal."""
    wanted = f"{scope.table}.key = {table.name}.key, of one type that is not DOUBLE"
    if not isinstance(node, exp.EQ):
        source.fail(node, spell(node), wanted)
    columns = [_column(source, scope, side) for side in (node.this, node.expression)]
    own = [column for column in columns if "." not in column.name]
    theirs = [column for column in columns if column.name.startswith(f"{table.name}.")]
    if len(own) != 1 or len(theirs) != 1 or own[0].type != theirs[0].type or own[0].type == DOUBLE:
        source.fail(node, spell(node), wanted)
    return own[0].name, theirs[0].name.removeprefix(f"{table.name}.")


def _column(source: Source, scope: Scope, node: exp.Expr) -> Column:
    bound = Binder(source, scope.names, refused=scope.refused).bind(node) if isinstance(node, exp.Column) else None
    if not isinstance(bound, Column):
        source.fail(node, spell(node), "a column")
    return bound


def _others(node: exp.Expr, allowed: set[str]) -> list[str]:
    return [name for name, part in node.args.items() if part and name not in allowed]


def stream_columns(schema: Schema, prefix: str = "") -> dict[str, Expression]:
    """What the names of a stream's columns stand for; `prefix` is put before each column's own."""
    columns = schema.protected_columns.items()
    return {name: Column(prefix + name, from_arrow(arrow)) for name, arrow in columns}


def _label(schema: Schema, table: str) -> dict[str, Expression]:
    column = Column(LABEL, BOOLEAN)
    return {LABEL: column, f"{table}.{LABEL}": column} if schema.name == LABELLED_STREAM else {}


def join_plan(joined: Iterable[Joined], read: Iterable[Expression | str], *, lateness_us: int) -> JoinPlan:
    """What is kept and looked up. `read` are all expressions and names of columns that read a joined column."""
    names = {name for each in read for name in ([each] if isinstance(each, str) else columns_of(each))}
    joins = list(joined)
    wanted = {join.name: sorted(_of(join.name, names) - {_TIME}) for join in joins}
    shapes: dict[tuple[str, Expression | None, tuple[str, ...]], set[str]] = {}
    for join in joins:
        shapes.setdefault(_shape(join), set()).update(wanted[join.name])
    tables = tuple(
        VersionedTable(stream, where, keys, tuple(sorted(columns))) for (stream, where, keys), columns in shapes.items()
    )
    places = {shape: number for number, shape in enumerate(shapes)}
    return JoinPlan(
        tables,
        tuple(
            Join(join.name, places[_shape(join)], tuple(own for own, _ in join.keys), (_TIME, *wanted[join.name]))
            for join in joins
        ),
        lateness_us,
    )


def _of(join: str, names: Iterable[str]) -> set[str]:
    return {name.removeprefix(f"{join}.") for name in names if name.startswith(f"{join}.")}


def _shape(join: Joined) -> tuple[str, Expression | None, tuple[str, ...]]:
    """Joins of one shape share a table."""
    return join.schema.name, join.where, tuple(theirs for _, theirs in join.keys)
