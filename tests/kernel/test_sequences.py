"""sequences.sql: what is refused and where, what its conditions come to, and what the kernel makes of its matches."""

import itertools
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernel.test_decide import TEXTS
from tests.kernel.transactions import MINUTE_US, START_US, arrived, same_arrays, transactions

from tidegate.errors import DetectorError
from tidegate.kernel.arrivals import Arrived
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import compile_detector
from tidegate.kernel.language.bind import Binder
from tidegate.kernel.language.expressions import BOOLEAN, Column, from_arrow
from tidegate.kernel.language.sql import Source, parse_expression
from tidegate.kernel.machine.program import Evaluation, Program
from tidegate.kernel.sequences.patterns import automaton, parse_pattern
from tidegate.kernel.sequences.sequences import compile_sequences
from tidegate.kernel.sequences.tracking import Tracker
from tidegate.streams.schema import load_schema

SECOND_US = 1_000_000


def statement(
    *,
    source="transactions",
    partition="pan",
    measures="",
    skip="PAST LAST ROW",
    pattern="A B",
    within="WITHIN INTERVAL '1' HOUR",
    define="A AS amount_minor < 100, B AS amount_minor > 900",
    name="found",
):
    measures = f"MEASURES {measures}" if measures else ""
    return f"""SELECT * FROM {source} MATCH_RECOGNIZE (
PARTITION BY {partition} ORDER BY event_time
{measures}
AFTER MATCH SKIP {skip}
PATTERN ({pattern}) {within}
DEFINE
{define}
) AS {name}"""


def compiled(text, taken=()):
    return compile_sequences("sequences.sql", text, taken=set(taken), lateness_us=600 * SECOND_US)


@pytest.mark.parametrize(
    ("text", "place", "found"),
    [
        ("", (1, 1), "nothing"),
        ("SELECT pan FROM transactions MATCH_RECOGNIZE (", (1, 8), "'pan'"),
        ("SELECT * FROM transactions", (1, 27), "the end"),
        (statement(source="nowhere"), (1, 15), "the unknown stream 'nowhere'"),
        (statement(source="(SELECT pan FROM transactions)"), (1, 16), "rows without their event_time"),
        (
            statement(
                source="(SELECT event_time, pan FROM transactions UNION ALL SELECT event_time FROM carts)",
            ),
            (1, 67),
            "1 columns",
        ),
        (statement(partition="card"), (2, 14), "the unknown column 'card'"),
        (statement(partition="terminal_latitude"), (2, 14), "the DOUBLE 'terminal_latitude'"),
        (statement(skip="TO THE END"), (4, 21), "'THE'"),
        (statement(skip="TO LAST C"), (4, 1), "SKIP TO C"),
        (statement(pattern="A B+"), (5, 10), "a pattern that ends greedily"),
        (statement(pattern="A? B?"), (5, 10), "a pattern that takes no row too"),
        (statement(pattern="A OTHER* B"), (5, 10), "B, which no row can be"),
        (statement(pattern="A B? C", define="A AS TRUE"), (5, 10), None),
        (statement(pattern="A (B"), (8, 3), "'AS'"),
        (statement(pattern="A ^ B"), (5, 12), "'^'"),
        (statement(pattern="A{3,2} B"), (5, 11), "'{'"),
        (statement(pattern="A{300} B"), (5, 10), "a pattern of too many ways"),
        (statement(within=""), (6, 1), "'DEFINE'"),
        (statement(within="WITHIN INTERVAL '40' DAY"), (5, 22), "INTERVAL '40' DAY"),
        (statement(define="A AS amount_minor < 100,\nC AS TRUE"), (8, 1), "'C', which PATTERN does not have"),
        (statement(define="A AS TRUE,\nB AS amount > LAST(A.amount)"), (8, 6), "the unknown column 'amount'"),
        (statement(define="A AS TRUE,\nB AS amount_minor > LAST(C.amount_minor)"), (8, 26), "the variable 'C'"),
        (statement(define="A AS TRUE,\nB AS amount_minor"), (8, 6), "BIGINT"),
        (statement(define="A AS TRUE,\nB AS LOWER(A.channel) = 'pos'"), (8, 6), "the function LOWER of earlier rows"),
        (
            statement(define="A AS TRUE,\nB AS A.channel < channel"),
            (8, 6),
            "texts of two rows, compared by more than =",
        ),
        (statement(define="A AS TRUE,\nB AS SUM(A.amount_minor / 100.0) > 1"), (8, 6), "SUM of DOUBLE"),
        (statement(measures="A.amount_minor"), (4, 1), "'AFTER'"),
        (statement(measures="A.amount_minor AS found"), (3, 28), None),
        (statement(name="amount_minor"), (8, 6), "a second 'amount_minor'"),
        (statement() + ";\n" + statement(), (16, 6), "a second 'found'"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text, place, found):
    if found is None:
        compiled(text)
        return
    with pytest.raises(DetectorError) as raised:
        compiled(text, taken=("amount_minor",))
    assert (raised.value.line, raised.value.column) == place
    assert raised.value.found.startswith(found)


LETTERS = "ABC"


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.sampled_from(LETTERS),
        lambda parts: st.tuples(
            st.lists(parts, min_size=1, max_size=3),
            st.sampled_from(["", "|"]),
            st.sampled_from(["", "*", "+", "?", "{2}", "{1,2}", "{2,}", "*?", "{1,2}?"]),
        ).map(lambda part: f"({part[1].join(part[0])}){part[2]}"),
        max_leaves=6,
    ),
    st.text(LETTERS, max_size=6),
)
def test_a_pattern_takes_what_the_same_regular_expression_takes(text, word):
    """Rows that are one variable only: then nothing is kept by greedy ones, and `re` is the referee."""
    spaced = re.sub(r"([ABC])", r" \1 ", text)
    pattern, names = parse_pattern(Source("pattern", spaced))
    states = automaton(pattern, 0, first_end=False)
    numbers = {number: name for name, number in names.items()}
    at = {0}
    for letter in word:
        at = {branch.state for state in at for branch in states.branches[state] if numbers[branch.variable] == letter}
    assert any(states.accepting[state] for state in at) == bool(re.fullmatch(text, word))


EARLIER = [
    "{a} = {b}",
    "{a} + {b} > 150",
    "{b} - {a} BETWEEN 10 AND 60",
    "{b} >= 10 * {a}",
    "{b} > 1.5 * {a}",
    "{b} / {a} > 2",
    "{a} // 7 = {b} % 5",
    "-{a} < ABS({a} - {b})",
    "{a} IS NULL OR {b} IS NULL",
    "COALESCE({a}, 40) > COALESCE({b}, 20)",
    "CASE WHEN {a} > 50 THEN {b} ELSE {a} END > 30",
    "{a} IN (1, 50, {b})",
    "NOT ({a} > {b}) AND ({a} > 20 OR {b} > 20)",
    "CAST({a} AS DOUBLE) * 0.1 < {b} + 0.5",
    "({b} - {a}) / 100.0 > 0.25",
    "{a} * {b} * {b} * {b} > 0",
]


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.none() | st.sampled_from([0, 1, 7, 50, 99, 10**12]) | st.integers(0, 120)] * 2),
        min_size=1,
        max_size=20,
    )
)
def test_a_condition_over_earlier_rows_comes_to_what_it_comes_to_over_columns(pairs):
    defines = [template.format(a="LAST(A.original_minor)", b="original_minor") for template in EARLIER]
    nullable = "IF(amount_minor < 0, NULL, amount_minor) AS original_minor"
    source = f"(SELECT pan, event_time, {nullable} FROM transactions)"
    text = ";".join(
        statement(source=source, define=f"B AS {define}", name=f"found_{number}")
        for number, define in enumerate(defines)
    )
    rows = [
        {"pan": f"pan {number}", "amount_minor": -1 if value is None else value}
        for number, pair in enumerate(pairs)
        for value in pair
    ]
    own = Arrived.alone(transactions([{**row, "event_time": START_US + n} for n, row in enumerate(rows)]))
    batch = pa.RecordBatch.from_arrays(
        [pa.array([pair[side] for pair in pairs], pa.int64()) for side in (0, 1)], ["a", "b"]
    )
    columns = {name: Column(name, from_arrow(pa.int64())) for name in ("a", "b")}
    for number, (sequence, template) in enumerate(zip(compiled(text), EARLIER, strict=True)):
        told, _ = Tracker(sequence).apply({"transactions": own}, own)
        node, place = parse_expression(Source("condition", template.format(a="a", b="b")))
        evaluation = Evaluation(Program([[Binder(place, columns).condition(node)]]), batch)
        evaluation.run(0)
        expected = [holds is True for holds in evaluation.array(0, 0).to_pylist()]
        assert told[f"found_{number}"].to_pylist()[1::2] == expected, template


SEQUENCES = (
    statement(
        measures="COUNT(A.*) AS tiny, LAST(A.amount_minor) / 100.0 AS last, FIRST(A.merchant_id) AS shop",
        pattern="A+ B",
        name="tested",
    )
    + ";"
    + statement(
        source="(SELECT pan, event_time, amount_minor FROM transactions)",
        measures="MAX(amount_minor) AS highest, COUNT(*) AS payments",
        pattern="A OTHER*",
        within="DURATION INTERVAL '20' MINUTE",
        define="A AS amount_minor = 5, OTHER AS amount_minor <> 7",
        name="quiet",
    )
)
RULES = """
rules:
  - {name: tested, when: tested AND tested_last < 1, points: 50, reason: "{tested_tiny} at {tested_shop}", status: live}
  - {name: quiet, when: quiet AND quiet_payments > 1, points: 90, reason: "{quiet_highest} at most", status: live}
"""
DETECTOR = compile_detector("sequences", TEXTS | {"sequences.sql": SEQUENCES, "rules.yaml": RULES})


def test_the_text_is_part_of_the_version():
    without = compile_detector("sequences", TEXTS)
    assert DETECTOR.version not in (
        without.version,
        compile_detector("s", TEXTS | {"sequences.sql": SEQUENCES}).version,
    )
    assert list(DETECTOR.features.items())[-7:] == [
        ("tested", "BOOLEAN"),
        ("tested_tiny", "BIGINT"),
        ("tested_last", "DOUBLE"),
        ("tested_shop", "VARCHAR"),
        ("quiet", "BOOLEAN"),
        ("quiet_highest", "BIGINT"),
        ("quiet_payments", "BIGINT"),
    ]


def payments(*amounts, pan="pan_a", step_us=MINUTE_US):
    return [
        {"pan": pan, "amount_minor": amount, "event_time": START_US + n * step_us, "merchant_id": f"shop {n}"}
        for n, amount in enumerate(amounts)
    ]


def test_a_match_is_told_with_the_event_that_completes_it():
    decisions = Kernel(DETECTOR).decide(arrived(transactions(payments(50, 60, 950, 950))))
    table = decisions.table()
    assert table.column("tested").to_pylist() == [False, False, True, False]
    assert table.column("tested_tiny").to_pylist() == [None, None, 2, None]
    assert table.column("tested_last").to_pylist() == [None, None, 0.6, None]
    assert table.column("tested_shop").to_pylist() == [None, None, "shop 0", None]
    record = decisions.records()[2]
    assert (record.rules["tested"], record.reasons, record.outcome) == (True, ["2 at shop 0"], "review")
    assert record.features["tested_tiny"] == 2


def test_what_did_not_happen_is_a_decision_of_its_own():
    #  0    5 min          20      30 (20 minutes and the lateness of 10 later)
    #  5    9              due     another card's payment passes the time
    rows = [
        {"pan": "pan_a", "amount_minor": 5, "event_time": START_US, "event_id": "begin"},
        {"pan": "pan_a", "amount_minor": 9, "event_time": START_US + 5 * MINUTE_US},
        {"pan": "pan_b", "amount_minor": 9, "event_time": START_US + 30 * MINUTE_US - 1},
        {"pan": "pan_b", "amount_minor": 9, "event_time": START_US + 30 * MINUTE_US},
    ]
    decisions = Kernel(DETECTOR).decide({"transactions": Arrived(np.array([3, 5, 8, 9]), transactions(rows))})
    assert decisions.index.tolist() == [0, 1, 2, -1, 3]
    assert decisions.at.tolist() == [3, 5, 8, 9, 9]
    due = decisions.records()[3]
    assert (due.event_id, due.event_time) == ("quiet:begin", START_US + 20 * MINUTE_US)
    assert (due.outcome, due.reasons) == ("decline", ["9 at most"])
    assert (due.features["quiet"], due.features["quiet_payments"], due.features["tested"]) == (True, 2, None)


def test_what_happens_in_time_keeps_it_quiet():
    rows = payments(5, 9, 7) + payments(1, 1, pan="pan_b", step_us=90 * MINUTE_US)
    kernel = Kernel(DETECTOR)
    assert -1 not in kernel.decide(arrived(transactions(rows))).index


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["pan_a", "pan_a", "pan_b"]),
            st.sampled_from([5, 7, 9, 50, 950, 990]),
            st.sampled_from([0, 0, 1, 2, 6, 15]),
            st.sampled_from([0, 0, 0, 1, 4, 12]),
        ),
        min_size=2,
        max_size=25,
    ),
    st.lists(st.integers(1, 24), max_size=4),
    st.booleans(),
)
def test_neither_cuts_nor_restarts_change_a_decision(drawn, cuts, restarts):
    rows, clock = [], 0
    for number, (pan, amount, passes, behind) in enumerate(drawn):
        clock += passes
        row = {"pan": pan, "amount_minor": amount, "event_time": START_US + (clock - behind) * MINUTE_US}
        rows.append({**row, "event_id": f"e{number}", "merchant_id": f"shop {number}"})
    events = transactions(rows)
    whole = Kernel(DETECTOR).decide(arrived(events)).table()
    kernel, pieces = Kernel(DETECTOR), []
    edges = [0, *sorted({cut for cut in cuts if cut < len(rows)}), len(rows)]
    for start, end in itertools.pairwise(edges):
        if restarts:
            arrays = kernel.snapshot()
            kernel = Kernel(DETECTOR)
            kernel.restore(arrays)
            assert same_arrays(arrays, kernel.snapshot())
        pieces.append(kernel.decide(arrived(events.slice(start, end - start))).table())
    assert pa.concat_tables(pieces).to_pydict() == whole.to_pydict()


def test_a_cart_and_a_purchase_of_two_streams():
    source = """(SELECT customer_id, event_time, 'cart' AS kind FROM carts
        UNION ALL SELECT customer_id, event_time, 'paid' FROM transactions)"""
    (sequence,) = compiled(
        statement(
            source=source,
            partition="customer_id",
            measures="B.event_time - A.event_time > INTERVAL '2' MINUTE AS slow",
            define="A AS kind = 'cart', B AS kind = 'paid'",
        )
    )
    assert sequence.measures["found_slow"].type == BOOLEAN
    carts = pa.RecordBatch.from_pylist(
        [
            {
                "event_id": f"c{n}",
                "event_time": START_US + n * MINUTE_US,
                "cart_id": "cart",
                "customer_id": f"customer_{n}",
                "action": "add",
                "quantity": 1,
            }
            for n in range(3)
        ],
        load_schema("carts").arrow,
    )
    paid = transactions([{"event_time": START_US + 3 * MINUTE_US, "customer_id": f"customer_{n}"} for n in range(2)])
    own = Arrived(np.array([1, 4]), paid)
    told, due = Tracker(sequence).apply({"carts": Arrived(np.array([0, 2, 3]), carts), "transactions": own}, own)
    assert told["found"].to_pylist() == [True, True]
    assert told["found_slow"].to_pylist() == [True, False]
    assert due is None


def test_a_match_that_another_streams_event_completes_is_a_decision_of_its_own():
    source = """(SELECT customer_id, event_time, 'cart' AS kind FROM carts
        UNION ALL SELECT customer_id, event_time, 'paid' FROM transactions)"""
    sequences = statement(
        source=source,
        partition="customer_id",
        measures="A.event_time AS began",
        define="A AS kind = 'paid', B AS kind = 'cart'",
    )
    kernel = Kernel(
        compile_detector(
            "paid_then_filled",
            {
                "features.sql": "SELECT amount_minor AS minor FROM transactions",
                "sequences.sql": sequences,
                "rules.yaml": "rules: [{name: after, when: found, points: 90, status: live, reason: A cart}]",
                "policy.yaml": "lateness: 10 minutes\ndedupe: 1 day\noutcomes: {review: 40, decline: 80}\ncap: 100\n",
            },
        )
    )
    events = []
    for minute, customer in ((0, "a"), (1, "b"), (2, "a"), (3, "b"), (4, "c")):
        row = {"event_time": START_US + minute * MINUTE_US, "customer_id": customer}
        if minute in (2, 3):
            cart = {"event_id": f"c{minute}", "cart_id": "cart", "action": "add", "quantity": 1}
            events.append(("carts", pa.RecordBatch.from_pylist([row | cart], load_schema("carts").arrow)))
        else:
            events.append(("transactions", transactions([row | {"event_id": f"t{minute}"}])))
    single = Kernel(kernel.detector)
    one_by_one = [made for stream, batch in events for made in single.decide({stream: Arrived.alone(batch)}).records()]
    at = {
        stream: [index for index, (of, _) in enumerate(events) if of == stream] for stream in ("carts", "transactions")
    }
    together = {
        stream: Arrived(
            np.array(places),
            pa.Table.from_batches([events[place][1] for place in places]).combine_chunks().to_batches()[0],
        )
        for stream, places in at.items()
    }
    decisions = kernel.decide(together)
    assert decisions.records() == one_by_one
    assert [made.event_id for made in one_by_one] == ["t0", "t1", "found:c2", "found:c3", "t4"]
    assert decisions.index.tolist() == [0, 1, -1, -1, 2]
    assert decisions.at.tolist() == [0, 1, 2, 3, 4]
    assert [made.outcome for made in one_by_one] == ["approve", "approve", "decline", "decline", "approve"]
    assert one_by_one[2].event_time == START_US + 2 * MINUTE_US
