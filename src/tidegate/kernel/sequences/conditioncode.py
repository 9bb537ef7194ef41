"""Conditions over earlier rows, from the typed tree to the instructions of the stack machine in `conditions`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import pyarrow as pa

from tidegate.kernel.language.coercions import MismatchError
from tidegate.kernel.language.expressions import (
    BOOLEAN,
    DOUBLE,
    HUGEINT,
    INTEGER,
    INTEGER_DIGITS,
    INTERVAL,
    NULL,
    TIMESTAMP,
    VARCHAR,
    AggregateRef,
    Call,
    Expression,
    Literal,
    SqlType,
    walk,
)
from tidegate.kernel.machine.hashing import hash_column, ordered_bits
from tidegate.kernel.sequences import conditions as op
from tidegate.kernel.sequences.matchplan import Instruction

_COMPARISONS = {
    "equal": op.EQUAL,
    "not_equal": op.NOT_EQUAL,
    "less": op.LESS,
    "less_equal": op.LESS_EQUAL,
    "greater": op.GREATER,
    "greater_equal": op.GREATER_EQUAL,
}
_OF_INTEGERS = {
    "add": op.ADD,
    "subtract": op.SUBTRACT,
    "multiply": op.MULTIPLY,
    "whole_divide": op.WHOLE_DIVIDE,
    "modulo": op.MODULO,
    "negate": op.NEGATE,
    "abs": op.ABSOLUTE,
}
_OF_DOUBLES = {
    "add": op.ADD_DOUBLES,
    "subtract": op.SUBTRACT_DOUBLES,
    "multiply": op.MULTIPLY_DOUBLES,
    "divide": op.DIVIDE_DOUBLES,
    "negate": op.NEGATE_DOUBLE,
    "abs": op.ABSOLUTE_DOUBLE,
}
_OF_ANY = {"and": op.AND, "or": op.OR, "not": op.NOT, "is_null": op.IS_NULL, "coalesce": op.COALESCE, "if": op.IF}

_MAX_INT64 = 2**63 - 1
_ARGUMENTS_OF_TWO = 2

_WANTED = (
    "comparisons, + - * /, ABS, AND, OR, NOT, IS NULL, COALESCE, CASE and IN over earlier rows; other functions of the "
    "present row alone"
)


@dataclass
class Assembler:
    """`lane` gives the lane of an expression over the present row, `load` what loads each reference."""

    lane: Callable[[Expression], int]
    load: Mapping[int, Instruction]
    _code: list[Instruction] = field(default_factory=list[Instruction])
    _depth: int = 0

    def assemble(self, condition: Expression) -> tuple[Instruction, ...]:
        """
        Raises:
            MismatchError: it holds what cannot be worked out over earlier rows.
        """
        self._code, self._depth = [], 0
        self._put(condition)
        return tuple(self._code)

    def _push(self, instruction: Instruction) -> None:
        self._depth += 1
        if self._depth > op.STACK:
            raise MismatchError("a condition nested too deep", f"at most {op.STACK} values at once")
        self._code.append(instruction)

    def _do(self, operation: int, takes: int, first: int = 0) -> None:
        self._depth -= takes - 1
        self._code.append(Instruction(operation, first))

    def _put(self, node: Expression) -> None:
        if isinstance(node, Literal):
            self._push(_constant(node))
        elif isinstance(node, AggregateRef):
            self._push(self.load[node.index])
        elif not any(isinstance(part, AggregateRef) for part in walk(node)):
            self._push(Instruction(op.LANE, self.lane(node)))
        elif isinstance(node, Call):
            self._call(node)

    def _call(self, node: Call) -> None:
        function, arguments = node.function, node.arguments
        if function == "in":
            value, *candidates = arguments
            equals = [Call("equal", (value, candidate), BOOLEAN) for candidate in candidates]
            self._put(reduce(lambda left, right: Call("or", (left, right), BOOLEAN), equals))
            return
        if function == "cast":
            self._put(arguments[0])
            self._cast(arguments[0].type, node.type)
            return
        operation = _operation(node)
        self._put(arguments[0])
        if operation == op.IF or len(arguments) == 1:
            for argument in arguments[1:]:
                self._put(argument)
            self._do(operation, len(arguments))
        for argument in arguments[1:] if operation != op.IF else ():
            self._put(argument)
            self._do(operation, _ARGUMENTS_OF_TWO)
        if node.type == INTEGER and operation in _OF_INTEGERS.values():
            self._do(op.NARROW, 1)

    def _cast(self, source: SqlType, to: SqlType) -> None:
        wider = source in INTEGER_DIGITS and to in INTEGER_DIGITS and INTEGER_DIGITS[source] <= INTEGER_DIGITS[to]
        same = {source, to} <= {TIMESTAMP, INTERVAL} or (source == BOOLEAN and to in INTEGER_DIGITS)
        if source in (to, NULL) or wider or same:
            return
        if to == INTEGER and source in INTEGER_DIGITS:
            self._do(op.NARROW, 1)
        elif to == DOUBLE and source.name == "DECIMAL":
            self._do(op.DECIMAL_TO_DOUBLE, 1, source.scale)
        elif to == DOUBLE and (source in INTEGER_DIGITS or source == BOOLEAN):
            self._do(op.HUGE_TO_DOUBLE if source == HUGEINT else op.TO_DOUBLE, 1)
        elif to.name == "DECIMAL" and (source in INTEGER_DIGITS or source.scale <= to.scale) and _is_exact(source):
            self._push(Instruction(op.CONSTANT, 10 ** min(18, to.scale - source.scale)))
            self._do(op.MULTIPLY, 2)
        else:
            raise MismatchError(f"{source} of an earlier row as {to}", _WANTED)


def _operation(node: Call) -> int:
    function = node.function
    if function in _COMPARISONS and node.arguments[0].type == VARCHAR and function not in ("equal", "not_equal"):
        raise MismatchError("texts of two rows, compared by more than = and <>", "= or <>")
    of_type = _OF_DOUBLES if node.type == DOUBLE else _OF_INTEGERS
    operation = (_COMPARISONS | _OF_ANY | of_type).get(function)
    if operation is None:
        raise MismatchError(f"the function {function.upper()} of earlier rows", _WANTED)
    return operation


def _is_exact(type_: SqlType) -> bool:
    return type_ in INTEGER_DIGITS or type_.name == "DECIMAL"


def _constant(node: Literal) -> Instruction:
    value = node.value
    if value is None:
        return Instruction(op.UNKNOWN)
    if isinstance(value, str):
        return Instruction(op.CONSTANT, int(hash_column(pa.array([value], pa.string()))[0, :1].view(np.int64)[0]))
    if node.type == DOUBLE:
        return Instruction(op.CONSTANT, int(ordered_bits(np.array([float(value)]))[0]))
    unscaled = int(value.scaleb(node.type.scale)) if node.type.name == "DECIMAL" else int(value)  # pyright: ignore[reportAttributeAccessIssue] -- of a DECIMAL
    if abs(unscaled) > _MAX_INT64:
        raise MismatchError(f"the number {value}", "a number of at most 18 digits")
    return Instruction(op.CONSTANT, unscaled)
