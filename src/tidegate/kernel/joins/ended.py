"""Which versions of a joined table may leave: those that have ended, where no one could tell them from none.

A stream may say that a version has ended: `removed` is true, or `expires_at` has come. What has ended is still a
version to SQL, and stays one where SQL could tell. So each expression that reads the join is folded twice, once as if
the version had ended and once as if there were none: if both give the same, the version may go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from tidegate.kernel.language.expressions import BOOLEAN, Call, Column, Expression, Literal, columns_of
from tidegate.kernel.plan import Join, JoinPlan
from tidegate.streams.schema import load_schema

#: Columns of a stream that say when a version ends.
REMOVED, EXPIRES = "removed", "expires_at"

_TRUE, _FALSE = Literal(value=True, type=BOOLEAN), Literal(value=False, type=BOOLEAN)

_Known = Callable[[Expression], Literal | None]


def with_ends(
    plan: JoinPlan, reads: Iterable[Expression], keep_us: Mapping[str, int], named: Iterable[str]
) -> JoinPlan:
    """The plan with what lets versions leave, by join: `keep_us`, where policy.yaml says for how long one is seen, and
    that it has ended, where none of `reads` can tell and policy.yaml has not `named` the join, which tells what is
    missing. Joins that share a table and have other ends get tables of their own.
    """
    expressions, named = list(reads), list(named)
    tables, joins = [], []
    for join in plan.joins:
        table = plan.tables[join.table]
        says = [name for name in (REMOVED, EXPIRES) if name in load_schema(table.stream).protected_columns]
        ends = tuple(name for name in says if join.name not in named and _is_nothing(join, name, expressions))
        wanted = replace(table, ends=ends, keep_us=keep_us.get(join.name))
        if wanted not in tables:
            tables.append(wanted)
        joins.append(replace(join, table=tables.index(wanted)))
    return replace(plan, tables=tuple(tables), joins=tuple(joins))


def _is_nothing(join: Join, end: str, expressions: Iterable[Expression]) -> bool:
    """Whether no expression can tell a version that has ended from none."""
    start = join.column("")
    return all(
        _folded(expression, _ended(join, end)) == _folded(expression, _missing(join))
        for expression in expressions
        if any(name.startswith(start) for name in columns_of(expression))
    )


def _ended(join: Join, end: str) -> _Known:
    """What is known of a version that has ended."""
    if end == REMOVED:
        return lambda node: _TRUE if isinstance(node, Column) and node.name == join.column(REMOVED) else None

    def of(node: Expression) -> Literal | None:
        match node:
            case Call("less" | "greater_equal" as function, (Column("event_time"), Column(name))):
                over = _FALSE if function == "less" else _TRUE
            case Call("greater" | "less_equal" as function, (Column(name), Column("event_time"))):
                over = _FALSE if function == "greater" else _TRUE
            case Call("is_null", (Column(name),)):
                over = _FALSE
            case _:
                return None
        return over if name == join.column(EXPIRES) else None

    return of


def _missing(join: Join) -> _Known:
    start = join.column("")
    return lambda node: Literal(None, node.type) if isinstance(node, Column) and node.name.startswith(start) else None


def _folded(expression: Expression, known: _Known) -> Expression:
    """An expression with what is known put in, as short as that makes it."""
    found = known(expression)
    if found is not None or not isinstance(expression, Call):
        return found or expression
    parts = tuple(_folded(part, known) for part in expression.arguments)
    fold = _FOLDS.get(expression.function)
    shorter = fold(parts, expression) if fold else None
    return shorter or Call(expression.function, parts, expression.type, expression.options)


def _is_null(expression: Expression) -> bool:
    return isinstance(expression, Literal) and expression.value is None


def _logic(parts: tuple[Expression, ...], of: Call) -> Expression | None:
    decides, changes_nothing = (_FALSE, _TRUE) if of.function == "and" else (_TRUE, _FALSE)
    if decides in parts:
        return decides
    others = {part for part in parts if part != changes_nothing} or {changes_nothing}
    return others.pop() if len(others) == 1 else None


def _not(parts: tuple[Expression, ...], _: Call) -> Expression | None:
    match parts[0]:
        case Literal(value):
            return Literal(None if value is None else not value, BOOLEAN)
        case _:
            return None


def _coalesce(parts: tuple[Expression, ...], of: Call) -> Expression | None:
    there = [part for part in parts if not _is_null(part)]
    if not there or isinstance(there[0], Literal):
        return there[0] if there else Literal(None, of.type)
    return None


def _compared(parts: tuple[Expression, ...], of: Call) -> Expression | None:
    return Literal(None, of.type) if any(map(_is_null, parts)) else None


_FOLDS: dict[str, Callable[[tuple[Expression, ...], Call], Expression | None]] = {
    "and": _logic,
    "or": _logic,
    "not": _not,
    "coalesce": _coalesce,
    "is_null": lambda parts, _: Literal(_is_null(parts[0]), BOOLEAN) if isinstance(parts[0], Literal) else None,
    "if": lambda parts, _: (parts[1] if parts[0].value else parts[2]) if isinstance(parts[0], Literal) else None,
    # NULL if one side is.
    **dict.fromkeys(("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"), _compared),
}
