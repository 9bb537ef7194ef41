"""Expressions over columnar batches: each distinct sub-expression once a batch.

A program has stages. What a stage computes the stages after it may use, and between two of them values may be put in
that come from elsewhere: the answers of windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.kernel.language.expressions import (
    BIGINT,
    DOUBLE,
    VARCHAR,
    AggregateRef,
    Call,
    Column,
    Expression,
    Literal,
    SqlType,
    walk,
)
from tidegate.kernel.machine import assemble, columns, machine, texts
from tidegate.kernel.machine.codes import UNORDER, WIDEN
from tidegate.kernel.machine.hashing import hash_column
from tidegate.kernel.machine.registers import Registers
from tidegate.kernel.machine.steps import Steps
from tidegate.kernel.machine.words import to_arrow

#: Calls that look at their texts by hash.
_BY_HASH = ("equal", "not_equal", "in", "if", "coalesce", "lane")


def lane(expression: Expression) -> Call:
    """The word of 64 bits that the window engine keeps of a value (see `plan`)."""
    return Call("lane", (expression,), BIGINT)


def _words(type_: SqlType) -> int:
    return 2 if assemble.is_decimal(type_) else 1


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is loaded at once: columns of the batch, or what pyarrow made."""

    names: list[str]
    """Of columns."""
    types: list[pa.DataType]
    words: npt.NDArray[np.int64]
    """int64[c, columns.WORDS]: what the program knows of each. TEXTS is its number among texts."""


@dataclass(frozen=True, slots=True)
class _Step:
    functions: list[tuple[Call, texts.Function]]
    made: Loaded
    """What these give."""
    code: npt.NDArray[np.int64]


class Program:
    """Stages of expressions, compiled. `hashed` are columns whose hashes are wanted too. One thread at a time."""

    def __init__(self, stages: Sequence[Sequence[Expression]], *, hashed: Iterable[Column] = ()) -> None:
        self._steps = Steps(stages)
        self._registers = Registers()
        nodes = dict.fromkeys(node for stage in stages for output in stage for node in walk(output))
        self.answers = max((node.index + 1 for node in nodes if isinstance(node, AggregateRef)), default=0)
        """How many rows of a batch's values, the first ones, the windows fill."""
        self.text_answers = [node for node in nodes if isinstance(node, AggregateRef) and node.type == VARCHAR]
        """Those of the answers that are texts."""
        self.rows = self.answers
        """How many rows of values a batch has."""
        read = [node for node in dict.fromkeys([*nodes, *hashed]) if isinstance(node, Column)]
        by_hash = [node for node in nodes if isinstance(node, Call) and node.function in _BY_HASH]
        self._hashed = {*hashed, *(part for call in by_hash for part in call.arguments if part.type == VARCHAR)}
        self.row_of: dict[Expression, int] = {}
        """Rows of what is loaded: columns, what pyarrow makes, and what later steps need."""
        self.text_of: dict[Expression, int] = {}
        """What is loaded and is a text or hashed, each by its number."""
        made = [call for call in self._steps.calls if texts.is_of_texts(call)]
        later = [call for call in self._steps.calls if self._steps.is_needed_later(call)]
        for node in [*read, *made, *self.text_answers]:
            if node.type == VARCHAR or node in self._hashed:
                self.text_of[node] = len(self.text_of)
        for node in dict.fromkeys([*read, *made, *later, *self.text_answers]):
            self.row_of[node] = self._new_rows(node.type)
        literals = [node.value for node in nodes if isinstance(node, Literal) and isinstance(node.value, str)]
        self.literals = list(dict.fromkeys(literals))
        self.literal_hashes = hash_column(pa.array(self.literals, pa.string())).view(np.int64)
        self.outputs = [[self._new_rows(output.type) for output in stage] for stage in stages]
        """The row of each output of each stage. A decimal has two rows, the lower words first."""
        self.expressions = stages
        for step in range(self._steps.count):
            self._write(step)
        code, words, known = self._registers.settle()
        self.registers = words, words.view(np.float64), words.view(np.uint64), known
        self.columns, self.answered = self._loaded(read), self._loaded(self.text_answers)
        steps = [self._step(step, part) for step, part in enumerate(code)]
        firsts = [0, *(last + 1 for last in self._steps.lasts)]
        self.stages = [steps[first : last + 1] for first, last in zip(firsts, self._steps.lasts, strict=False)]

    def text_number(self, column: Column) -> int:
        """The number of a hashed column, from which a batch tells where its hashes are."""
        return self.text_of[column]

    def _step(self, step: int, code: npt.NDArray[np.int64]) -> _Step:
        calls = self._steps.of_texts(step)
        return _Step([(call, texts.function_of(call)) for call in calls], self._loaded(calls), code)

    def _loaded(self, nodes: Sequence[Expression]) -> Loaded:
        words = np.zeros((len(nodes), columns.WORDS), np.int64)
        for place, node in zip(words, nodes, strict=True):
            place[columns.KIND], place[columns.ROW] = columns.KINDS[node.type.name], self.row_of[node]
            place[columns.TEXTS], place[columns.HASHED] = self.text_of.get(node, 0), node in self._hashed
        names = [node.name for node in nodes if isinstance(node, Column)]
        return Loaded(names, [node.type.arrow for node in nodes], words)

    def _new_rows(self, type_: SqlType) -> int:
        self.rows += _words(type_)
        return self.rows - _words(type_)

    def _write(self, step: int) -> None:
        """Write the instructions of a step."""
        made: dict[Expression, int] = {}

        def register(node: Expression) -> int:
            if node not in made:
                made[node] = self._given(node)
            return made[node]

        for call in self._steps.of_machine(step):
            rule = assemble.RULES[call.function]
            made[call] = rule(self._registers, call, [register(argument) for argument in call.arguments])
            if call in self.row_of:
                self._registers.store(made[call], self.row_of[call], _words(call.type))
        if step in self._steps.lasts:
            stage = self._steps.lasts.index(step)
            for output, row in zip(self.expressions[stage], self.outputs[stage], strict=True):
                self._registers.store(register(output), row, _words(output.type))
        self._registers.end()

    def _given(self, node: Expression) -> int:
        """The register of what this step does not make."""
        if isinstance(node, Literal) and isinstance(node.value, str):
            return self._registers.constant((self.literals.index(node.value),))
        if isinstance(node, Literal):
            return assemble.constant(self._registers, node)
        if not isinstance(node, AggregateRef) or node.type == VARCHAR:
            return self._registers.load(self.row_of[node], _words(node.type))
        answer = self._registers.load(node.index)
        if assemble.is_decimal(node.type):
            return self._registers.add(WIDEN, (answer,), words=2)
        return self._registers.add(UNORDER, (answer,)) if node.type == DOUBLE else answer


class Evaluation:
    """A program over one batch, stage by stage."""

    def __init__(self, program: Program, batch: pa.RecordBatch) -> None:
        """
        Raises:
            UsageError: a column of the batch has another type than in the program.
        """
        self._program, self._batch = program, batch
        self._rows = batch.num_rows
        self.values = np.empty((program.rows, self._rows), np.int64)
        self.known = np.empty((program.rows, self._rows), np.uint8)
        count = len(program.literals)
        self.hashes = np.empty((count + len(program.text_of) * self._rows, 2), np.int64)
        """Of the program's literals, then of the rows of each text or hashed column."""
        self.hashes[:count] = program.literal_hashes
        self._made: dict[Call, pa.Array[Any]] = {}
        self._answered: Mapping[int, pa.Array[Any]] = {}
        self._load(program.columns, [batch.column(name) for name in program.columns.names])

    def run(self, stage: int) -> None:
        """Compute a stage, once all before it are and what is put in before it is there."""
        program = self._program
        for step in program.stages[stage]:
            for call, function in step.functions:
                self._made[call] = texts.spread(function([self._argument(part) for part in call.arguments]), self._rows)
            if step.functions:
                self._load(step.made, [self._made[call] for call, _ in step.functions])
            machine.run(step.code, self.values, self.known, self.hashes, *program.registers)

    def answer(
        self, values: npt.NDArray[np.int64], known: npt.NDArray[np.bool_], answered: Mapping[int, pa.Array[Any]]
    ) -> None:
        """Put in the answers of windows, a row each; those that are texts by their number."""
        self.values[: len(values)], self.known[: len(known)] = values, known
        self._answered = answered
        self._load(self._program.answered, [answered[node.index] for node in self._program.text_answers])

    def put(self, answer: AggregateRef, values: npt.NDArray[np.int64], known: npt.NDArray[np.bool_]) -> None:
        """Put in one value of each row, as the answer of a window would be, if an expression reads it."""
        if answer.index < self._program.answers:
            self.values[answer.index], self.known[answer.index] = values, known

    def outputs(self, stage: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """The outputs of a stage, a row each, none of which is a decimal: int64[k, n] and uint8[k, n]."""
        rows = self._program.outputs[stage]
        first = rows[0] if rows else 0
        return self.values[first : first + len(rows)], self.known[first : first + len(rows)]

    def array(self, stage: int, index: int) -> pa.Array[Any]:
        """An output of a stage as a column."""
        return self._array(self._program.expressions[stage][index], self._program.outputs[stage][index])

    def first_hash(self, text: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where the hashes of hashed columns begin, from their numbers in the program."""
        return len(self._program.literals) + text * self._rows

    def _load(self, loaded: Loaded, arrays: Sequence[pa.Array[Any]]) -> None:
        where = loaded.words.copy()
        where[:, columns.TEXTS] = self.first_hash(where[:, columns.TEXTS])
        if arrays:
            where[:, columns.VALIDITY :] = [*map(columns.place_of, arrays, loaded.types)]
        columns.load(where, self._rows, self.values, self.known, self.hashes)

    def _argument(self, node: Expression) -> texts.Datum:
        if isinstance(node, Literal):
            return pa.scalar(node.value, node.type.arrow)
        return self._array(node, self._program.row_of[node])

    def _array(self, node: Expression, row: int) -> pa.Array[Any]:
        if isinstance(node, Column):
            return self._batch.column(node.name)
        if isinstance(node, Call) and node in self._made:
            return self._made[node]
        if isinstance(node, AggregateRef) and node.index in self._answered:
            return self._answered[node.index]
        if node.type == VARCHAR:
            return self._texts(row)
        return to_arrow(self.values[row : row + _words(node.type)], self.known[row], node.type)

    def _texts(self, row: int) -> pa.Array[Any]:
        """The texts that a row of values names by their numbers."""
        nothing = pa.nulls(self._rows, pa.string())
        all_texts: list[pa.Array[Any]] = [pa.array(self._program.literals, pa.string())]
        for node in self._program.text_of:
            answered = isinstance(node, AggregateRef) and node.index in self._answered
            there = node.type == VARCHAR and (isinstance(node, Column) or node in self._made or answered)
            all_texts.append(self._array(node, row) if there else nothing)
        numbers: Any = pa.array(self.values[row], mask=self.known[row] == 0)
        return pa.concat_arrays(all_texts).take(numbers)
