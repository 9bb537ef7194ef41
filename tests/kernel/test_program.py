"""Programs: stages, steps, blocks, and columns as they lie in memory. What each function gives is test_expressions'."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from tidegate.errors import UsageError
from tidegate.kernel.language.bind import Binder
from tidegate.kernel.language.expressions import (
    BIGINT,
    DOUBLE,
    AggregateRef,
    Call,
    Column,
    Literal,
    decimal,
    from_arrow,
)
from tidegate.kernel.language.sql import Source, parse_expression
from tidegate.kernel.machine.hashing import hash_column, ordered_bits
from tidegate.kernel.machine.machine import BLOCK_ROWS
from tidegate.kernel.machine.program import Evaluation, Program, lane

SCHEMA = pa.schema({"a": pa.int64(), "x": pa.float64(), "s": pa.string(), "p": pa.bool_(), "u": pa.timestamp("us")})
NAMES = {field.name: Column(field.name, from_arrow(field.type)) for field in SCHEMA}


def bound(text):
    node, source = parse_expression(Source("test.sql", text))
    return Binder(source, NAMES).bind(node)


def batch(rows, start=0):
    numbers = range(start, start + rows)
    columns = [
        [None if n % 7 == 3 else n for n in numbers],
        [None if n % 5 == 2 else n / 4 - 3 for n in numbers],
        [None if n % 11 == 4 else f"text {n % 13}" for n in numbers],
        [None if n % 3 == 1 else n % 2 == 0 for n in numbers],
        [None if n % 17 == 5 else n * 1_000_000 for n in numbers],
    ]
    return pa.RecordBatch.from_arrays(list(map(pa.array, columns, SCHEMA.types)), schema=SCHEMA)


TEXTS = [
    *("a", "a + 1", "x * 2 > a", "s", "s = 'text 3'", "p AND a > 10", "CASE WHEN p THEN upper(s) ELSE s END", "u", "1"),
    *("length(CASE WHEN p THEN upper(s) ELSE s || 'x' END) + a", "hour(u)", "a * 0.25", "'one'", "p"),
    "CAST(NULL AS BIGINT)",
]


def columns(program, rows):
    evaluation = Evaluation(program, rows)
    for stage in range(len(program.stages)):
        evaluation.run(stage)
    return [
        evaluation.array(stage, index).to_pylist()
        for stage, outputs in enumerate(program.outputs)
        for index in range(len(outputs))
    ]


@pytest.mark.parametrize("rows", [0, 1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS + 5])
def test_how_many_rows_there_are_changes_no_value(rows):
    program = Program([[bound(text) for text in TEXTS]])
    one_by_one = [columns(program, batch(1, row)) for row in range(rows)]
    whole = columns(program, batch(rows))
    assert whole == [[values[place][0] for values in one_by_one] for place in range(len(TEXTS))]


def test_a_part_of_a_batch_is_read_where_it_lies():
    program = Program([[bound(text) for text in TEXTS]])
    whole = columns(program, batch(100))
    for start in (1, 7, 8, 9, 63, 99):
        assert columns(program, batch(100).slice(start)) == [column[start:] for column in whole]


def test_stages_use_what_those_before_them_made():
    texts = ["a + 1", "upper(s)", "(a + 1) * 2", "upper(s) = 'TEXT 3' AND (a + 1) * 2 > 20", "a + 1"]
    stages = [[bound(text)] for text in texts]
    at_once = columns(Program([[bound(text) for text in texts]]), batch(50))
    assert columns(Program(stages), batch(50)) == at_once
    assert columns(Program([[], *stages, []]), batch(50)) == at_once


def test_answers_are_put_in_between_stages():
    count, mean, total = AggregateRef(0, BIGINT), AggregateRef(1, DOUBLE), AggregateRef(2, decimal(38, 2))
    program = Program([[bound("a")], [Call("add", (count, NAMES["a"]), BIGINT), mean, total]])
    evaluation = Evaluation(program, batch(3))
    evaluation.run(0)
    values = np.array([[10, 20, 30], ordered_bits(np.array([-1.5, 0.0, 2.5])), [-5, 0, 7]])
    evaluation.answer(values, np.array([[True] * 3, [True, False, True], [True] * 3]), {})
    evaluation.run(1)
    found = [evaluation.array(1, index).to_pylist() for index in range(3)]
    assert [found[0], found[1], [float(value) for value in found[2]]] == [
        [10, 21, 32],
        [-1.5, None, 2.5],
        [-0.05, 0.0, 0.07],
    ]


def test_lanes_and_hashes_are_those_of_the_window_engine():
    program = Program([[lane(NAMES["x"]), lane(NAMES["s"]), lane(NAMES["p"])]], hashed=[NAMES["s"], NAMES["a"]])
    rows = batch(40)
    evaluation = Evaluation(program, rows)
    evaluation.run(0)
    values, known = evaluation.outputs(0)
    assert known.tolist() == [rows.column(name).is_valid().cast(pa.uint8()).to_pylist() for name in "xsp"]
    doubles = ordered_bits(rows.column("x").fill_null(0).to_numpy())
    assert np.array_equal((values * known)[0], doubles * known[0])
    assert np.array_equal((values * known)[1], hash_column(rows.column("s"))[:, 0].view(np.int64))
    for name in "sa":
        (first,) = evaluation.first_hash(np.array([program.text_number(NAMES[name])]))
        assert np.array_equal(evaluation.hashes[first : first + 40].view(np.uint64), hash_column(rows.column(name)))


def test_many_values_at_a_time_take_few_registers():
    terms = " + ".join(f"(a * {n} - {n + 1})" for n in range(2, 150))
    program = Program([[bound(terms)]])
    assert len(program.registers[0]) < 160
    (values,) = columns(program, batch(20))
    assert values == [None if n % 7 == 3 else sum(n * k - k - 1 for k in range(2, 150)) for n in range(20)]


def test_a_column_of_another_type_is_refused():
    program = Program([[bound("a + 1")]])
    rows = pa.RecordBatch.from_pydict({"a": ["one"]})
    with pytest.raises(UsageError, match=r"wanted a column of type int64, got string"):
        Evaluation(program, rows)


def test_a_constant_of_any_width_is_kept_to_the_digit():
    wide = Literal(value=Decimal("12345678901234567890123456789012345.678"), type=decimal(38, 3))
    assert [str(value) for value in columns(Program([[wide]]), batch(2))[0]] == [str(wide.value)] * 2
