"""What DEFINE and MEASURES say of a match's rows: each thing that a match must remember, once, and the binder of both.

A column without a variable is that of the last row of the match: in DEFINE of the present one. `A.x` is that of the
last row that is A, which in A's own DEFINE is the present one too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from tidegate.kernel.language import functions
from tidegate.kernel.language.aggregates import LANE_DIGITS, sum_type
from tidegate.kernel.language.bind import Binder, near
from tidegate.kernel.language.coercions import convert
from tidegate.kernel.language.expressions import (
    BIGINT,
    BOOLEAN,
    INTERVAL,
    NULL,
    VARCHAR,
    AggregateRef,
    Call,
    Column,
    Expression,
    Literal,
    SqlType,
)
from tidegate.kernel.language.sql import Source, spell
from tidegate.kernel.plan import MAX_LANES
from tidegate.kernel.sequences.matchplan import ANY, Reference, ReferenceFunction

_ROWS = ("first", "last", "prev")
_AGGREGATES = ("count", "sum", "avg", "min", "max")

#: What is known of a match is told by the bits of one word, and one is left for where to go on after it.
MAX_REFERENCES = 62

#: Rows that FIRST, LAST and PREV may count: each is a number that every partial match keeps.
MAX_OFFSET = 100

_ROWS_AND_OFFSET = 2


@dataclass
class Remembered:
    """`columns` are what rows have, by lower case name; `variables` the pattern's, by upper case name."""

    columns: Mapping[str, Expression]
    variables: Mapping[str, int]
    references: list[Reference] = field(default_factory=list[Reference])
    types: list[SqlType] = field(default_factory=list[SqlType])
    """What each reference gives."""
    lanes: list[Expression] = field(default_factory=list[Expression])
    texts: list[Expression] = field(default_factory=list[Expression])

    @property
    def names(self) -> dict[str, Expression]:
        """What a column may stand for, with a variable before it and without."""
        of_variables = {
            f"{variable.lower()}.{name}": column for variable in self.variables for name, column in self.columns.items()
        }
        return dict(self.columns) | of_variables

    def lane(self, expression: Expression) -> int:
        if expression not in self.lanes:
            self.lanes.append(expression)
        return self.lanes.index(expression)

    def text(self, expression: Expression) -> int:
        if expression not in self.texts:
            self.texts.append(expression)
        return self.texts.index(expression)

    def reference(self, reference: Reference, type_: SqlType) -> AggregateRef:
        if reference not in self.references:
            self.references.append(reference)
            self.types.append(type_)
        return AggregateRef(self.references.index(reference), type_)


def text_column(reference: int) -> str:
    """The name of the column that a reference's texts are in, where measures are worked out."""
    return f"reference {reference}"


class MatchBinder(Binder):
    """Binds one condition or measure. `variable` is the one that is defined, None in MEASURES."""

    def __init__(self, source: Source, remembered: Remembered, variable: int | None) -> None:
        super().__init__(source, remembered.names)
        self._remembered, self._variable = remembered, variable

    def bind(self, node: exp.Expr) -> Expression:
        if isinstance(node, exp.Column):
            return self._column(node)
        if isinstance(node, exp.Anonymous) and node.name.lower() in (*_ROWS, *_AGGREGATES):
            bound = self._rows(node) if node.name.lower() in _ROWS else self._aggregate(node)
            if len(self._remembered.references) > MAX_REFERENCES or len(self._remembered.lanes) > MAX_LANES:
                self.source.fail(node, "more than is remembered of a match", f"at most {MAX_REFERENCES} references")
            return bound
        return super().bind(node)

    def _column(self, node: exp.Column) -> Expression:
        variable, value = self._row_value(node)
        if self._variable is not None and variable in (ANY, self._variable):
            return value
        return self._row("last", variable, value, 0, node)

    def _rows(self, node: exp.Anonymous) -> Expression:
        """FIRST, LAST and PREV (column [, offset])."""
        name, arguments = node.name.lower(), node.expressions
        if not 1 <= len(arguments) <= _ROWS_AND_OFFSET:
            self.source.fail(node, f"{name.upper()} of {len(arguments)} arguments", f"{name.upper()}(column, offset)")
        offset = 1 if name == "prev" else 0
        if len(arguments) == _ROWS_AND_OFFSET:
            written = super().bind(arguments[1])
            if not isinstance(written, Literal) or not isinstance(written.value, int):
                self.source.fail(arguments[1], spell(arguments[1]), "a whole number, written out")
            offset = written.value
        if not 0 <= offset <= MAX_OFFSET:
            self.source.fail(arguments[1], str(offset), f"0 to {MAX_OFFSET}")
        variable, value = self._row_value(arguments[0])
        if name == "prev" and variable != ANY:
            wanted = "a column without a variable, of the row before; or LAST(variable.column, offset)"
            self.source.fail(node, spell(node), wanted)
        is_present = self._variable is not None and variable in (ANY, self._variable) and not offset
        if is_present and name != "first":
            return value
        return self._row("first" if name == "first" else "last", variable, value, offset, node)

    def _row(
        self, function: ReferenceFunction, variable: int, value: Expression, offset: int, node: exp.Expr
    ) -> Expression:
        remembered = self._remembered
        if value.type == VARCHAR and self._variable is None:
            reference = Reference(function, variable, remembered.text(value), offset, text=True)
            return Column(text_column(remembered.reference(reference, VARCHAR).index), VARCHAR)
        return remembered.reference(Reference(function, variable, self._lane(node, value), offset), value.type)

    def _lane(self, node: exp.Expr, value: Expression) -> int:
        if value.type.name == "DECIMAL" and value.type.precision > LANE_DIGITS:
            self.source.fail(node, f"{value.type} of an earlier row", f"a DECIMAL of up to {LANE_DIGITS} digits")
        return self._remembered.lane(value)

    def _row_value(self, node: exp.Expr) -> tuple[int, Expression]:
        """An expression over one row, and the variable that all its columns are of."""
        tables = {column.text("table").upper() for column in node.find_all(exp.Column)}
        if len(tables) > 1:
            self.source.fail(node, spell(node), "columns of one variable")
        table = tables.pop() if tables else ""
        if table and table not in self._remembered.variables:
            self.source.fail(node, f"the variable {table!r}", near(table, self._remembered.variables))
        value = Binder(self.source, self.names).bind(node)
        variable = self._remembered.variables[table] if table else ANY
        return variable, convert(value, BIGINT) if value.type == NULL else value

    def _aggregate(self, node: exp.Anonymous) -> Expression:
        """COUNT, SUM, AVG, MIN and MAX over the rows that are a variable, or all of them."""
        name, remembered = node.name.lower(), self._remembered
        if len(node.expressions) != 1:
            self.source.fail(node, f"{name.upper()} of {len(node.expressions)} arguments", "one argument")
        argument: exp.Expr = node.expressions[0]
        star = argument.this if isinstance(argument, exp.Column) else argument
        if isinstance(star, exp.Star):
            table = argument.text("table").upper()
            if name != "count" or any(star.args.values()) or (table and table not in remembered.variables):
                self.source.fail(node, spell(node), "COUNT(*), or COUNT(variable.*)")
            variable = remembered.variables[table] if table else ANY
            return remembered.reference(Reference("count", variable, -1), BIGINT)
        variable, value = self._row_value(argument)
        match name:
            case "count":
                if value.type == VARCHAR or value.type.name == "DECIMAL":  # whether there is one is enough to know
                    absent = Call("is_null", (value,), BOOLEAN)
                    value = functions.if_else((absent, Literal(None, BOOLEAN), Literal(value=True, type=BOOLEAN)))
                return remembered.reference(Reference("count", variable, self._lane(node, value)), BIGINT)
            case "min" | "max":
                if value.type in (VARCHAR, INTERVAL):
                    self.source.fail(node, f"{name.upper()} of {value.type}", "a number, BOOLEAN or TIMESTAMP")
                return remembered.reference(Reference(name, variable, self._lane(node, value)), value.type)
            case _:
                type_ = sum_type(self.source, node, name, value.type)
                lane = self._lane(node, value)
                total = remembered.reference(Reference("sum", variable, lane), type_)
                if name == "sum":
                    return total
                count = remembered.reference(Reference("count", variable, lane), BIGINT)
                return functions.OPERATORS["Div"]((total, count))
