"""sequences.sql: each MATCH_RECOGNIZE compiled into a plan for the match engine and expressions over what it finds."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NoReturn

from sqlglot import exp

from tidegate.kernel.features import RESERVED, Features
from tidegate.kernel.language.bind import Binder, check_told, interval_us, near
from tidegate.kernel.language.coercions import MismatchError, convert, unify
from tidegate.kernel.language.expressions import (
    BIGINT,
    BOOLEAN,
    INTEGER_DIGITS,
    TIMESTAMP,
    VARCHAR,
    AggregateRef,
    Call,
    Column,
    Expression,
    Literal,
    SqlType,
    columns_of,
    substitute,
    walk,
)
from tidegate.kernel.language.joins import stream_columns, stream_named
from tidegate.kernel.language.sql import Source, parse, parse_expression, spell
from tidegate.kernel.language.times import DAY_US
from tidegate.kernel.sequences import conditions as op
from tidegate.kernel.sequences.conditioncode import Assembler
from tidegate.kernel.sequences.matchplan import Instruction, MatchPlan, Reference
from tidegate.kernel.sequences.matchtables import registers_of
from tidegate.kernel.sequences.matchtext import Named, Statement, statements
from tidegate.kernel.sequences.patterns import MAX_STATES, Automaton, automaton, parse_pattern
from tidegate.kernel.sequences.remembered import MatchBinder, Remembered
from tidegate.streams.schema import Schema

#: Rows are kept for as long as a match may last.
MAX_SPAN_US = 31 * DAY_US

_EVENT_ID = Column("event_id", VARCHAR)
_EVENT_TIME = Column("event_time", TIMESTAMP)
_TRUE = Literal(value=True, type=BOOLEAN)

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True)
class Input:
    """The rows of one stream that a sequence sees, and what is worked out of each."""

    stream: Schema
    where: Expression
    key: tuple[Expression, ...]
    conditions: tuple[Expression, ...]
    """By variable, the part of its condition over the row alone."""
    lanes: tuple[Expression, ...]
    texts: tuple[Expression, ...]


@dataclass(frozen=True)
class Sequence:
    name: str
    inputs: tuple[Input, ...]
    plan: MatchPlan
    types: tuple[SqlType, ...]
    """What each of the plan's references gives."""
    measures: dict[str, Expression]
    """By name, over the references: AggregateRef, those of texts columns."""
    shows_person: bool
    """Whether a text that it gives may be made of a personal field."""

    @property
    def columns(self) -> dict[str, SqlType]:
        """What is told of an event: whether it completes a match, and the measures."""
        return {self.name: BOOLEAN} | {name: measure.type for name, measure in self.measures.items()}

    def reads(self, stream: Schema) -> set[str]:
        """The columns of a stream that its matches depend on, or that it tells of."""
        inputs = [input_ for input_ in self.inputs if input_.stream.name == stream.name]
        parts = [
            part for each in inputs for part in (each.where, *each.key, *each.conditions, *each.lanes, *each.texts)
        ]
        return {name for part in parts for name in columns_of(part)}


def compile_sequences(file: str, text: str, *, taken: Collection[str], lateness_us: int) -> tuple[Sequence, ...]:
    """`taken` are names, in lower case, that no sequence or measure may have.

    Raises:
        DetectorError: the text is not made of MATCH_RECOGNIZE statements of the dialect.
    """
    names = {*taken, *RESERVED}
    sequences: list[Sequence] = []
    for statement in statements(Source(file, text)):
        sequence = _Compiler(statement, lateness_us).compile()
        for name, at in (
            (sequence.name, statement.at),
            *zip(sequence.measures, (m.at for m in statement.measures), strict=True),
        ):
            if name.lower() in names:
                statement.source.fail(at, f"a second {name!r}", "a name that no column, feature or sequence has")
            names.add(name.lower())
        sequences.append(sequence)
    return tuple(sequences)


def with_matches(features: Features, sequences: Iterable[Sequence]) -> Features:
    """The features and, beside them, for each sequence whether the event completes a match, and its measures."""
    expressions, private = dict(features.expressions), set(features.private)
    for sequence in sequences:
        expressions |= {name: Column(name, type_) for name, type_ in sequence.columns.items()}
        if sequence.shows_person:
            private |= {name for name, measure in sequence.measures.items() if measure.type == VARCHAR}
    return replace(features, expressions=expressions, private=frozenset(private))


class _Compiler:
    """Compiles one statement."""

    def __init__(self, statement: Statement, lateness_us: int) -> None:
        self._statement, self._source, self._lateness_us = statement, statement.source, lateness_us
        self._columns: dict[str, Expression] = {}

    def compile(self) -> Sequence:
        statement = self._statement
        name = statement.name.lower()
        if not _NAME.fullmatch(name):
            self._fail(statement.at, f"the name {name[:64]!r}", "letters, digits and _, a letter first, at most 64")
        selects = self._inputs()
        key = [self._partition(column, at) for column, at in statement.partition]
        pattern, variables = parse_pattern(statement.pattern)
        if statement.skip_variable and statement.skip_variable not in variables:
            self._fail(
                statement.skip_at, f"SKIP TO {statement.skip_variable}", near(statement.skip_variable, variables)
            )
        remembered = Remembered(self._columns, variables)
        defined = self._defined(variables, remembered)
        measures = {f"{name}_{item.name.lower()}": self._measure(item, remembered) for item in statement.measures}
        always = sum(1 << number for number in variables.values() if number not in defined)
        states = self._check(automaton(pattern, always, first_end=not statement.by_duration), variables)
        conditions, code = self._conditions(variables, defined, remembered)
        ids: tuple[Expression, ...] = (_EVENT_ID,) if statement.by_duration else ()
        plan = MatchPlan(
            branches=states.branches,
            accepting=states.accepting,
            conditions=code,
            references=tuple(
                replace(reference, lane=reference.lane + len(ids)) if reference.text else reference
                for reference in remembered.references
            ),
            lane_count=len(remembered.lanes),
            text_count=len(ids) + len(remembered.texts),
            span_us=self._span(),
            by_duration=statement.by_duration,
            skip=statement.skip,
            skip_variable=variables.get(statement.skip_variable, -1),
            lateness_us=self._lateness_us,
        )
        inputs = tuple(
            Input(
                stream=select.stream,
                where=select.where,
                key=select.over(key),
                conditions=select.over(conditions),
                lanes=select.over(remembered.lanes),
                texts=(*ids, *select.over(remembered.texts)),
            )
            for select in selects
        )
        personal = {
            text for input_ in inputs for text in input_.texts if columns_of(text) & input_.stream.personal.keys()
        }
        return Sequence(name, inputs, plan, tuple(remembered.types), measures, bool(personal))

    def _fail(self, at: int, found: str, expected: str) -> NoReturn:
        self._source.fail(at, found, expected)

    def _inputs(self) -> list[_Select]:
        """The SELECTs that rows come from, and the columns that all of them have."""
        selects = [_select(source) for source in self._statement.inputs]
        first = selects[0]
        for select, source in zip(selects, self._statement.inputs, strict=True):
            at = list(first.columns).index("event_time") if "event_time" in first.columns else -1
            if at < 0 or list(select.columns.values())[at : at + 1] != [_EVENT_TIME]:
                source.fail(0, "rows without their event_time", "event_time among the columns, as it is")
        if len(selects) == 1:
            self._columns = first.columns
            return selects
        for select, source in zip(selects, self._statement.inputs, strict=True):
            if len(select.columns) != len(first.columns):
                source.fail(0, f"{len(select.columns)} columns", f"the {len(first.columns)} of the SELECT before")
        parts = [list(select.columns.values()) for select in selects]
        for index, name in enumerate(first.columns):
            try:
                values = unify([part[index] for part in parts])
            except MismatchError as mismatch:
                self._statement.inputs[0].fail(0, f"the column {name!r} of {mismatch.found}", mismatch.expected)
            # No column of a stream has such a name.
            column = Column(f".{name}", values[0].type)
            self._columns[name] = column
            for select, value in zip(selects, values, strict=True):
                select.values[column.name] = value
        return selects

    def _partition(self, name: str, at: int) -> Expression:
        column = self._columns.get(name.lower())
        if column is None:
            self._fail(at, f"the unknown column {name!r}", near(name, self._columns))
        if column.type not in (VARCHAR, BOOLEAN, TIMESTAMP, *INTEGER_DIGITS):
            self._fail(at, f"the {column.type} {name!r}", "a column of another type to partition by")
        return column

    def _defined(self, variables: dict[str, int], remembered: Remembered) -> dict[int, tuple[Named, Expression]]:
        """The conditions by variable."""
        defined: dict[int, tuple[Named, Expression]] = {}
        for item in self._statement.defines:
            name = item.name.upper()
            if name not in variables:
                self._fail(item.at, f"{item.name!r}, which PATTERN does not have", near(name, variables))
            if variables[name] in defined:
                self._fail(item.at, f"a second {item.name!r}", "each variable once")
            node, source = parse_expression(item.expression)
            condition = MatchBinder(source, remembered, variables[name]).condition(node)
            defined[variables[name]] = (item, condition)
        return defined

    def _measure(self, item: Named, remembered: Remembered) -> Expression:
        if not _NAME.fullmatch(item.name.lower()):
            self._fail(item.at, f"the name {item.name[:64]!r}", "letters, digits and _, a letter first, at most 64")
        node, source = parse_expression(item.expression)
        measure = MatchBinder(source, remembered, None).bind(node)
        check_told(source, node, "a measure", measure.type)
        return convert(measure, BIGINT) if measure.type in INTEGER_DIGITS else measure

    def _check(self, states: Automaton | None, variables: dict[str, int]) -> Automaton:
        pattern = self._statement.pattern
        if states is None:
            pattern.fail(0, "a pattern of too many ways", f"at most {MAX_STATES} rows, those of {{n}} counted n times")
        if states.accepting[0]:
            pattern.fail(0, "a pattern that takes no row too", "one that takes at least one row")
        if states.ends_greedily and not self._statement.by_duration:
            wanted = "a variable or a reluctant quantifier at the end (*?, +?, {n,m}?), since a match is told at once"
            pattern.fail(0, "a pattern that ends greedily", wanted)
        for name, number in variables.items():
            if number not in states.variables:
                wanted = (
                    "a pattern that can come to it: no greedy variable before it that takes every row (write *? for *)"
                )
                pattern.fail(0, f"{name}, which no row can be", wanted)
        return states

    def _conditions(
        self, variables: dict[str, int], defined: dict[int, tuple[Named, Expression]], remembered: Remembered
    ) -> tuple[tuple[Expression, ...], tuple[tuple[Instruction, ...], ...]]:
        """By variable: the part over the row alone, and the instructions of the rest."""
        alone: list[Expression] = []
        code: list[tuple[Instruction, ...]] = []
        assembler = Assembler(remembered.lane, _loads(remembered.references))
        for number in variables.values():
            here, rest = _TRUE, None
            item, condition = defined.get(number, (None, _TRUE))
            for part in _conjuncts(condition):
                if any(isinstance(node, AggregateRef) for node in walk(part)):
                    rest = part if rest is None else Call("and", (rest, part), BOOLEAN)
                else:
                    here = part if here == _TRUE else Call("and", (here, part), BOOLEAN)
            try:
                code.append(() if rest is None else assembler.assemble(rest))
            except MismatchError as mismatch:
                assert item is not None
                item.expression.fail(0, mismatch.found, mismatch.expected)
            alone.append(here)
        return tuple(alone), tuple(code)

    def _span(self) -> int:
        node, source = parse_expression(self._statement.interval)
        span_us = interval_us(source, node) if isinstance(node, exp.Interval) else 0
        if not 0 < span_us <= MAX_SPAN_US:
            source.fail(node, spell(node), "INTERVAL 'n' unit, more than nothing and at most 31 days")
        return span_us


@dataclass(frozen=True)
class _Select:
    """Where rows come from. `values` are what stands for a column that several streams have, by its name."""

    stream: Schema
    where: Expression
    columns: dict[str, Expression]
    """By lower case name."""
    values: dict[str, Expression] = field(default_factory=dict[str, Expression])

    def over(self, expressions: Iterable[Expression]) -> tuple[Expression, ...]:
        """Expressions over the columns of the sequence as such over the stream's."""
        found: list[Expression] = []
        for expression in expressions:
            whole = expression
            for name, value in self.values.items():
                whole = substitute(whole, name, value)
            found.append(whole)
        return tuple(found)


def _select(source: Source) -> _Select:
    if source.text.isidentifier():
        stream = stream_named(source, 0, source.text)
        return _Select(stream, _TRUE, stream_columns(stream))
    select = parse(source)
    others = [name for name, part in select.args.items() if part and name not in ("expressions", "from_", "where")]
    if not isinstance(select, exp.Select) or others:
        source.fail(0, spell(select), "a stream, or SELECT expression AS name, ... FROM stream [WHERE condition]")
    stream = _stream(source, select)
    of_stream = stream_columns(stream)
    binder = Binder(source, of_stream | {f"{stream.name}.{name}": column for name, column in of_stream.items()})
    where: exp.Expr | None = select.args.get("where")
    condition = _TRUE if where is None else binder.condition(where.this)
    columns: dict[str, Expression] = {}
    for item in select.expressions:
        if isinstance(item, exp.Star) and not any(item.args.values()):
            columns |= stream_columns(stream)
            continue
        # After UNION ALL a column has the name of the one in its place before.
        is_named = isinstance(item, exp.Alias | exp.Column)
        name = item.alias_or_name.lower() if is_named else f"column {len(columns) + 1}"
        if name in columns:
            source.fail(item, f"a second {name!r}", "each name once")
        columns[name] = binder.bind(item.this if isinstance(item, exp.Alias) else item)
    return _Select(stream, condition, columns)


def _stream(source: Source, select: exp.Select) -> Schema:
    from_ = select.args.get("from_")
    table: exp.Expr | None = from_.this if from_ else None
    if not isinstance(table, exp.Table) or any(part for name, part in table.args.items() if name != "this"):
        source.fail(table or select, spell(select), "FROM one stream")
    return stream_named(source, table, table.name)


def _conjuncts(condition: Expression) -> Iterator[Expression]:
    if isinstance(condition, Call) and condition.function == "and":
        for part in condition.arguments:
            yield from _conjuncts(part)
    else:
        yield condition


def _loads(references: list[Reference]) -> dict[int, Instruction]:
    """What loads each reference."""
    loads: dict[int, Instruction] = {}
    for index, register in enumerate(registers_of(tuple(references))[1]):
        match references[index].function:
            case "first" | "last":
                loads[index] = Instruction(op.AT, register, references[index].lane)
            case "count":
                loads[index] = Instruction(op.REGISTER, register, -1)
            case _:
                loads[index] = Instruction(op.REGISTER, register, register + 1)
    return loads
