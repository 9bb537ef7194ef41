"""Whatever an analyst writes is compiled or refused with its place; nothing crashes, and nothing hangs.

`make fuzz` draws 10,000 of either kind.
"""

import duckdb
import pyarrow as pa
from hypothesis import given, note, settings
from hypothesis import strategies as st
from tests.kernel.grammar import Grammar
from tests.kernel.transactions import labelled, transactions

from tidegate.errors import DetectorError
from tidegate.kernel.features import compile_features

RANDOM = st.randoms(use_true_random=False)

DUCKDB = duckdb.connect(config={"threads": 1})
DUCKDB.register("transactions", labelled(transactions([]), {}))


def compiled(text):
    return compile_features("features.sql", text, lateness_us=60, dedupe_us=60, keep_us=60)


def types_in_duckdb(text):
    """Arrow types by name of what DuckDB makes of the text over no rows."""
    schema = DUCKDB.execute(text).to_arrow_table().schema
    return {field.name: field.type for field in schema}


@settings(deadline=None)  # a text is as long as chance makes it
@given(rng=RANDOM)
def test_a_text_of_the_dialect_is_taken_and_has_the_types_of_duckdb(rng):
    text = Grammar(rng).select()
    note(repr(text))
    features = compiled(text)
    theirs = types_in_duckdb(text)
    for name, expression in features.expressions.items():
        assert pa.types.is_null(theirs[name]) or theirs[name] == expression.type.arrow or is_hugeint(theirs[name])


def is_hugeint(type_):
    """DuckDB hands a HUGEINT to Arrow as a double."""
    return type_ in (pa.float64(), pa.decimal128(38, 0))


@settings(deadline=None)  # a text is as long as chance makes it
@given(rng=RANDOM)
def test_a_spoiled_text_is_refused_with_its_place_or_is_sql_to_duckdb_too(rng):
    text = Grammar(rng).spoiled()
    note(repr(text))
    features, error = taken_or_refused(text)
    if error is None:
        assert {name.lower() for name in features.expressions} <= {name.lower() for name in types_in_duckdb(text)}
    else:
        lines = text.split("\n")
        assert 1 <= error.line <= len(lines)
        assert 1 <= error.column <= len(lines[error.line - 1]) + 1


def taken_or_refused(text):
    try:
        return compiled(text), None
    except DetectorError as error:
        return None, error
