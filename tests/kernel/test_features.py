"""features.sql: what it becomes, and what is wrong with it, said with its place."""

import random
import re

import duckdb
import pytest
from tests.kernel.transactions import labelled, transactions

from tidegate.errors import DetectorError
from tidegate.kernel.features import MAX_PARTS, compile_features
from tidegate.kernel.plan import NO_VALUE, Aggregate, Entity, LabelLane, Window

OVER = "OVER (PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL 1 HOUR PRECEDING AND CURRENT ROW)"
ROWS = "OVER (PARTITION BY pan ORDER BY event_time ROWS BETWEEN 3 PRECEDING AND CURRENT ROW)"
SESSION = OVER.replace("pan", "pan, session_window(event_time, INTERVAL 5 MINUTE)")

SELECT = f"""
-- What a card did within the last hour.
SELECT
  event_id, event_time,
  amount_minor / 100.0 AS amount,
  COUNT(*) {OVER} AS card_count,
  AVG(amount_minor) OVER card_hour AS card_mean,
  COUNT(*) FILTER (WHERE is_fraud) OVER terminal_week AS terminal_frauds,
  COUNT(DISTINCT merchant_id) OVER card_hour AS card_merchants,
  amount > 3 * card_mean / 100 AS is_high,
  STDDEV(amount_minor) OVER card_before AS card_deviation
FROM transactions
WINDOW
  card_hour AS (PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL 1 HOUR PRECEDING AND CURRENT ROW),
  card_before AS (PARTITION BY pan ORDER BY event_time
                  RANGE BETWEEN INTERVAL 1 HOUR PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW),
  terminal_week AS (PARTITION BY terminal_id ORDER BY event_time
                    RANGE BETWEEN INTERVAL '14' DAY PRECEDING AND INTERVAL '7 days' PRECEDING)
"""


def compiled(text):
    return compile_features("features.sql", text, lateness_us=60, dedupe_us=60)


def check_refused(text, line, column, found, expected):
    """It is refused, and its place, what is there and what was wanted are said."""
    with pytest.raises(DetectorError) as caught:
        compiled(text)
    error = caught.value
    assert found.lower() in error.found.lower()
    assert expected.lower() in error.expected.lower()
    assert (error.file, error.line, error.column) == ("features.sql", line, column)


def select(item, clauses=""):
    return f"SELECT {item} FROM transactions {clauses}"


def test_a_select_becomes_expressions_and_a_plan():
    features = compiled(SELECT)
    assert {name: str(expression.type) for name, expression in features.expressions.items()} == {
        "amount": "DOUBLE",
        "card_count": "BIGINT",
        "card_mean": "DOUBLE",
        "terminal_frauds": "BIGINT",
        "card_merchants": "BIGINT",
        "is_high": "BOOLEAN",
        "card_deviation": "DOUBLE",
    }
    plan = features.plan
    hour, day = 3_600_000_000, 86_400_000_000
    assert plan.entities == (Entity(("pan",)), Entity(("terminal_id",)))
    assert plan.windows == (Window(0, hour), Window(1, 14 * day, 7 * day))
    assert plan.label_lanes == (LabelLane(1, 2, 3),)
    assert plan.aggregates == (
        Aggregate("count", 0, -1),
        Aggregate("sum", 0, 0),
        Aggregate("count", 0, 0),
        Aggregate("count", 1, 1),
        Aggregate("count_distinct", 0, 4),
        Aggregate("var_samp", 0, 0, excludes_row=True),
    )
    assert len(plan.lanes) == len(features.lanes) == 5
    assert (plan.lateness_us, plan.dedupe_us) == (60, 60)


def test_the_same_window_value_and_aggregate_are_kept_once():
    features = compiled(
        select(f"SUM(amount_minor) {OVER} AS a, AVG(amount_minor) {OVER} AS b, 1 + SUM(amount_minor) {OVER} AS c")
    )
    assert len(features.lanes) == len(features.values) == len(features.plan.windows) == 1
    assert len(features.plan.aggregates) == 2


def test_a_value_is_kept_once_whatever_filters_it_and_not_at_all_if_it_is_only_counted():
    items = ("SUM(amount_minor)", "SUM(amount_minor) FILTER (WHERE card_present)", "COUNT(pan)", "COUNT(DISTINCT ip)",
             "SUM(amount_minor) FILTER (WHERE NOT is_fraud)")  # fmt: skip
    features = compiled(select(", ".join(f"{item} {OVER} AS f{n}" for n, item in enumerate(items))))
    assert len(features.values) == 2
    assert features.plan.lanes == (0, 0, NO_VALUE, 1, 0, 0, 0)


def test_a_window_with_and_without_the_row_is_kept_once():
    before = OVER.replace("ROW)", "ROW EXCLUDE CURRENT ROW)")
    everyone = OVER.replace("ROW)", "ROW EXCLUDE NO OTHERS)")
    delayed = before.replace("CURRENT ROW EXCLUDE", "INTERVAL 1 MINUTE PRECEDING EXCLUDE")
    calls = (f"AVG(amount_minor) {before} AS a, STDDEV(amount_minor) {everyone} AS b, "
             f"VAR_POP(amount_minor) {delayed} AS c, SUM(amount_minor) OVER w AS d")  # fmt: skip
    plan = compiled(select(calls, f"WINDOW w AS {before[5:]}")).plan
    assert plan.windows == (Window(0, 3_600_000_000), Window(0, 3_600_000_000, 60_000_000))
    assert plan.aggregates == (
        Aggregate("sum", 0, 0, excludes_row=True),
        Aggregate("count", 0, 0, excludes_row=True),
        Aggregate("var_samp", 0, 0),
        Aggregate("var_pop", 1, 0),  # a frame that ends before the row never has it
    )


def test_what_no_frame_bounds_in_time_lives_as_long_as_keep_says():
    items = (f"LAG(amount_minor) {OVER} AS a", f"LAG(amount_minor, 1, 7) {OVER} AS b", f"COUNT(*) {ROWS} AS c",
             f"LAG(amount_minor IGNORE NULLS) {ROWS} AS d",
             f"COUNT(*) {OVER.replace('INTERVAL 1 HOUR', 'UNBOUNDED')} AS e",
             f"COUNT(*) {ROWS.replace('ROW)', 'ROW EXCLUDE CURRENT ROW)')} AS f",
             f"COUNT(*) {SESSION} AS g")  # fmt: skip
    features = compile_features("features.sql", select(", ".join(items)), lateness_us=60, dedupe_us=60, keep_us=900)
    assert features.reads_keep
    plan = features.plan
    assert [plan.windows[aggregate.window] for aggregate in plan.aggregates] == [
        Window(0, 900, rows=(1, 1)),
        Window(0, 900, rows=(1, 1)),
        Window(0, 900, rows=(3, 0)),
        Window(0, 900),
        Window(0, 900),
        Window(0, 900, rows=(3, 1)),
        Window(0, 3_600_000_000, gap_us=300_000_000),
    ]
    assert [aggregate.function for aggregate in plan.aggregates] == [
        *("last_value", "count", "count", "last_known", "count", "count", "count"),
    ]
    assert plan.aggregates[3].excludes_row
    assert not compiled(select(f"COUNT(*) {OVER} AS a")).reads_keep


def test_no_other_value_shares_the_lane_that_a_label_overwrites():
    texts = (
        f"COUNT(*) FILTER (WHERE is_fraud) {OVER} AS a",
        f"COUNT(*) FILTER (WHERE NULL::BOOLEAN) {OVER} AS b",
        f"COUNT(*) FILTER (WHERE is_fraud) {OVER} AS c",
        f"COUNT(*) FILTER (WHERE TRUE) {OVER} AS d",
    )
    plan = compiled(select(", ".join(texts))).plan
    overwritten = {lane.lane for lane in plan.label_lanes}
    assert len(overwritten) == 1
    assert not overwritten & {lane for label in plan.label_lanes for lane in (label.if_fraud, label.if_genuine)}
    assert [aggregate.lane in overwritten for aggregate in plan.aggregates] == [True, False, False]


def test_a_text_runs_unchanged_in_duckdb():
    rows = labelled(transactions([{"pan": "pan_a"}, {"pan": None}]), {"e0": True})
    with duckdb.connect() as connection:
        connection.register("transactions", rows)
        names = connection.sql(SELECT).columns
    assert names == ["event_id", "event_time", *compiled(SELECT).expressions]


def test_a_feature_that_shows_a_person_is_known():
    features = compiled(select("pan, pan_bin, lower(email) AS mail, email IS NULL AS no_mail, length(ip) AS n"))
    assert features.personal == {"pan", "mail"}
    earlier = (f"FIRST_VALUE(pan) {OVER} AS a, FIRST_VALUE(pan_bin) {OVER} AS b, "
               f"LAST_VALUE(email IS NULL) {OVER} AS c, "
               f"lower(LAST_VALUE(coalesce(email, channel)) {OVER}) AS d, COUNT(DISTINCT ip) {OVER} AS e")  # fmt: skip
    assert compiled(select(earlier)).personal == {"a", "d"}


def test_names_are_matched_without_case():
    features = compiled(
        f"select AMOUNT_MINOR as Amount, count(*) {OVER.lower()} as n, amount + N as both from TRANSACTIONS as T"
    )
    assert list(features.expressions) == ["Amount", "n", "both"]


BROKEN = [
    ("", 1, 1, "nothing", "one statement"),
    ("SELECT", 1, 1, "without FROM", "FROM one of"),
    ("SELECT 1 AS a", 1, 8, "without FROM", "FROM one of"),
    ("SELECT 1 AS a; SELECT 2 AS b", 1, 23, "2 statements", "one statement"),
    ("DROP TABLE x", 1, 12, "DROP", "one SELECT"),
    ("SELECT 'abc AS a FROM transactions", 1, 8, "not closed", "SQL"),
    ("SELECT a /* b FROM transactions", 1, 10, "not closed", "SQL"),
    ("SELECT (amount_minor AS a\nFROM transactions", 2, 1, "'FROM'", "SQL that parses"),
    ("SELECT 1 AS a FROM transactionz", 1, 20, "'transactionz'", "transactions"),
    ("SELECT 1 AS a FROM transactions, labels", 1, 34, ", labels", "ASOF LEFT JOIN"),
    ("SELECT 1 AS a FROM transactions AS t(x, y)", 1, 20, "transactions AS t(x, y)", "FROM one stream"),
    ("SELECT 1 AS a FROM transactions TABLESAMPLE 1%", 1, 20, "TABLESAMPLE", "FROM one stream"),
    ("SELECT 1 AS a FROM main.transactions", 1, 20, "main.transactions", "FROM one stream"),
    ("SELECT 1 AS a FROM (SELECT 1)", 1, 28, "SELECT 1", "FROM one stream"),
    (select("1 AS a", "WHERE amount_minor > 1"), 1, 39, "the clause WHERE", "every event is decided"),
    (select("1 AS a", "LIMIT 1"), 1, 39, "the clause LIMIT", "SELECT"),
    ("SELECT DISTINCT 1 AS a FROM transactions", 1, 17, "the clause DISTINCT", "SELECT"),
    (select("amount_minr + 1 AS a"), 1, 8, "the unknown column 'amount_minr'", "such as amount_minor"),
    ("SELECT 1 AS a,\n  2 AS b,\n  lowr(pan) AS c\nFROM transactions", 3, 3, "'lowr'", "such as lower"),
    ("SELECT 1 AS a,\n  upper(lower(pann)) AS b FROM transactions", 2, 15, "'pann'", "pan"),
    (select("cards.pan AS a"), 1, 8, "the table 'cards'", "transactions"),
    (select("*"), 1, 8, "*", "expression AS name"),
    (select("amount_minor + 1"), 1, 8, "amount_minor + 1", "expression AS name"),
    (select("1 AS a, 2 AS A"), 1, 16, "a second 'A'", "name"),
    (select("1 AS pan"), 1, 8, "a second 'pan'", "name"),
    (select("1 AS score"), 1, 8, "named 'score'", "other than"),
    (select("event_id, event_time"), 1, 8, "no feature", "AS name"),
    (select("is_fraud AS a"), 1, 8, "the column 'is_fraud'", "a window around it"),
    (select("NULL AS a"), 1, 8, "type NULL", "a number"),
    (select("amount_minor * 0.5 AS a"), 1, 8, "type DECIMAL(21,1)", "CAST(... AS DOUBLE)"),
    (select("INTERVAL 1 DAY AS a"), 1, 8, "type INTERVAL", "a number"),
    (select("pan + 1 AS a"), 1, 8, "VARCHAR, INTEGER", "numbers"),
    (select("pan = 1 AS a"), 1, 8, "VARCHAR, INTEGER", "one type"),
    (select("amount_minor AND card_present AS a"), 1, 8, "BIGINT", "a BOOLEAN"),
    (select("CASE WHEN amount_minor THEN 1 END AS a"), 1, 18, "BIGINT", "a BOOLEAN"),
    (select("CASE WHEN card_present THEN 1 ELSE 'x' END AS a"), 1, 8, "INTEGER, VARCHAR", "one type"),
    (select("amount_minor IN (SELECT 1) AS a"), 1, 8, "SELECT", "an expression"),
    (select("round(terminal_latitude, amount_minor) AS a"), 1, 8, "BIGINT", "digits"),
    (select("abs(1, 2) AS a"), 1, 8, "ABS of 2 arguments", "1 arguments"),
    (select("CAST(pan AS BIGINT) AS a"), 1, 8, "CAST of VARCHAR as BIGINT", "a conversion"),
    (select("CAST(pan AS DATE) AS a"), 1, 8, "the type DATE", "BIGINT"),
    (select("CAST(amount_minor AS SMALLINT) AS a"), 1, 8, "the type SMALLINT", "BIGINT"),
    (select("pan LIKE email AS a"), 1, 8, "a pattern that is computed", "written out"),
    (select("extract(millennium FROM event_time) AS a"), 1, 8, "'millennium'", "one of epoch"),
    (select("event_time > 'yesterday' AS a"), 1, 8, "'yesterday'", "YYYY-MM-DD"),
    (select("date_diff('month', event_time, event_time) AS a"), 1, 8, "'month'", "second"),
    (select("99999999999999999999 AS a"), 1, 8, "99999999999999999999", "at most"),
    (select("0x1F AS a"), 1, 13, "'AS'", "SQL that parses"),
    (select("0x1F"), 1, 8, "letters after the number", "a number"),
    (select("current_timestamp AS a"), 1, 8, "CURRENT_TIMESTAMP", "an expression"),
    (select("random() AS a"), 1, 8, "'random'", "one of"),
    (select("amount_minor < 5 < 6 AS a"), 1, 8, "a comparison of a comparison", "parentheses"),
]


@pytest.mark.parametrize(("text", "line", "column", "found", "expected"), BROKEN)
def test_what_is_wrong_is_said_with_its_place(text, line, column, found, expected):
    check_refused(text, line, column, found, expected)


def test_features_that_grow_by_naming_each_other_are_stopped():
    doubled = ", ".join(f"f{n} + f{n} AS f{n + 1}" for n in range(40))
    with pytest.raises(DetectorError, match=f"more than {MAX_PARTS:,} parts"):
        compiled(select(f"amount_minor AS f0, {doubled}"))


def test_an_expression_nested_too_deep_is_refused():
    with pytest.raises(DetectorError, match="nested too deep"):
        compiled(select("(" * 3000 + "1" + ")" * 3000 + " AS a"))


def test_too_many_values_in_windows_are_refused():
    many = ", ".join(f"SUM(amount_minor + {n}) {OVER} AS f{n}" for n in range(70))
    with pytest.raises(DetectorError, match="more than 60 different values"):
        compiled(select(many))


def test_a_mutated_text_never_gives_another_error():
    """A few hundred texts with words cut out, doubled, swapped or changed: either they compile or say what is wrong."""
    draw = random.Random(20_261_124)
    words = re.findall(r"\w+|\s+|.", SELECT)
    seeds = [word for word in words if word.strip()] + [
        "'",
        '"',
        "(",
        ")",
        "--",
        "/*",
        "NULL",
        "0",
        "1e999",
        "\0",
        "é",
        "$1",
    ]
    outcomes = set()
    for _ in range(400):
        mutated = list(words)
        for _ in range(draw.randint(1, 4)):
            at, other = draw.randrange(len(mutated)), draw.randrange(len(mutated))
            match draw.randrange(4):
                case 0:
                    del mutated[at]
                case 1:
                    mutated[at] = draw.choice(seeds)
                case 2:
                    mutated[at], mutated[other] = mutated[other], mutated[at]
                case _:
                    mutated.insert(at, draw.choice(seeds))
        try:
            compiled("".join(mutated))
        except DetectorError as error:
            outcomes.add("refused" if error.line and error.column else "refused without a place")
        else:
            outcomes.add("compiled")
    assert outcomes == {"refused", "compiled"}
