"""DuckDB is the referee: the same SELECT over the same rows gives the same bits."""

import math
import struct
from decimal import Decimal

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernel.transactions import DAY_US, MINUTE_US, START_US, arrived, labelled, labels, transactions

from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import compile_detector

DUCKDB = duckdb.connect(config={"threads": 1})

POLICY = "lateness: 10 minutes\ndedupe: 1 day\nkeep: 1000 days\noutcomes: {review: 40, decline: 80}\ncap: 100\n"

WINDOWS = """
WINDOW card AS (PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL 1 HOUR PRECEDING AND CURRENT ROW),
       week AS (PARTITION BY pan ORDER BY event_time RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW),
       terminal AS (PARTITION BY terminal_id ORDER BY event_time
                    RANGE BETWEEN INTERVAL '9' DAY PRECEDING AND INTERVAL '2' DAY PRECEDING),
       before AS (PARTITION BY pan ORDER BY event_time
                  RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW),
       pair AS (PARTITION BY pan, merchant_id ORDER BY event_time
                RANGE BETWEEN INTERVAL 3 DAY PRECEDING AND INTERVAL 0 SECOND PRECEDING),
       computed AS (PARTITION BY substr(pan, 1, 1), date_trunc('day', event_time), amount_minor // 100, card_present
                    ORDER BY event_time RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW),
       last_four AS (PARTITION BY pan ORDER BY event_time ROWS BETWEEN 3 PRECEDING AND CURRENT ROW),
       earlier AS (PARTITION BY pan ORDER BY event_time ROWS BETWEEN 5 PRECEDING AND 2 PRECEDING),
       others AS (PARTITION BY terminal_id ORDER BY event_time
                  ROWS BETWEEN 4 PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW),
       ever AS (PARTITION BY pan ORDER BY event_time RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW),
       all_rows AS (PARTITION BY card_present ORDER BY event_time ROWS UNBOUNDED PRECEDING),
       long_ago AS (PARTITION BY pan ORDER BY event_time ROWS BETWEEN UNBOUNDED PRECEDING AND 3 PRECEDING),
       visit AS (PARTITION BY pan, session_window(event_time, INTERVAL 1 HOUR) ORDER BY event_time
                 RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW),
       day_of_visit AS (PARTITION BY pan, session_window(event_time, INTERVAL 1 HOUR) ORDER BY event_time
                        RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW)
"""

WINDOW_NAMES = [
    *("card", "week", "terminal", "before", "pair", "computed"),
    *("last_four", "earlier", "others", "ever", "all_rows", "long_ago", "visit", "day_of_visit"),
]

#: DuckDB has no sessions: there the session is a column that is counted up by each row that begins one.
SESSION = "session_window(event_time, INTERVAL 1 HOUR)"
SESSIONS = """
FROM (SELECT *, sum(begins) OVER (PARTITION BY pan ORDER BY event_time ROWS UNBOUNDED PRECEDING) AS session
      FROM (SELECT *, CASE WHEN event_time - lag(event_time) OVER (PARTITION BY pan ORDER BY event_time)
                                <= INTERVAL 1 HOUR THEN 0 ELSE 1 END AS begins
            FROM transactions)) AS transactions"""

INTEGERS = [
    "amount_minor",
    "amount_minor - 500",
    "amount_minor // 100",
    "CASE WHEN card_present THEN amount_minor END",
    "CASE WHEN transaction_type = 'refund' THEN -amount_minor ELSE amount_minor END",
    "CAST(card_present AS INTEGER)",
    "CASE WHEN is_fraud THEN amount_minor ELSE 0 END",
    "hour(event_time)",
    "length(merchant_id)",
]
DOUBLES = ["terminal_latitude", "terminal_latitude * 2 - 1", "sqrt(amount_minor)", "-terminal_latitude"]
OTHERS = ["event_time", "card_present", "amount_minor > 300"]
TEXTS = ["merchant_id", "merchant_country || channel", "pan", "lower(merchant_country)"]
#: With IGNORE NULLS what FILTER is elsewhere.
SOME = [
    "CASE WHEN amount_minor > 250 THEN merchant_id END",
    "CASE WHEN is_fraud THEN channel END",
    "CASE WHEN NOT is_fraud THEN amount_minor END",
]
OFFSETS = ["", ", 0", ", 1", ", 2", ", 7"]
CONDITIONS = [
    "is_fraud",
    "NOT is_fraud",
    "is_fraud IS NULL",
    "amount_minor > 250",
    "channel = 'ecommerce' AND NOT card_present",
    "merchant_id IS NOT NULL",
    "card_present OR is_fraud",
    "merchant_country IN ('DE', 'FR')",
    "merchant_id LIKE 'm%'",
]


def aggregates():
    def over(call):
        return st.builds(
            lambda condition, window: f"{call}{condition} OVER {window}",
            st.one_of(st.just(""), st.sampled_from(CONDITIONS).map(lambda text: f" FILTER (WHERE {text})")),
            st.sampled_from(WINDOW_NAMES),
        )

    calls = st.one_of(
        st.just("COUNT(*)"),
        st.sampled_from(INTEGERS + DOUBLES + OTHERS + TEXTS).map(lambda text: f"COUNT({text})"),
        st.sampled_from(INTEGERS + DOUBLES + OTHERS + TEXTS).map(lambda text: f"COUNT(DISTINCT {text})"),
        st.sampled_from(INTEGERS).flatmap(lambda text: st.sampled_from([f"SUM({text})", f"AVG({text})"])),
        st.sampled_from(INTEGERS + DOUBLES + OTHERS).flatmap(
            lambda text: st.sampled_from([f"MIN({text})", f"MAX({text})"])
        ),
        st.just("SUM(card_present)"),
        st.builds(
            "{}({}, {})".format,
            st.sampled_from(["QUANTILE_DISC", "QUANTILE_CONT"]),
            st.sampled_from(INTEGERS + DOUBLES),
            st.sampled_from(["0", "0.07", "0.25", "0.5", "0.95", "0.999", "1", "1.0"]),
        ),
        st.sampled_from([*INTEGERS, *DOUBLES]).map("MEDIAN({})".format),
        st.just("QUANTILE_DISC(event_time, 0.5)"),
    )
    ends = st.builds(
        "{}_VALUE({}{}) OVER {}".format,
        st.sampled_from(["FIRST", "LAST"]),
        st.sampled_from([*INTEGERS, *DOUBLES, *OTHERS, *TEXTS, "is_fraud", *SOME]),
        st.sampled_from(["", " IGNORE NULLS"]),
        st.sampled_from(WINDOW_NAMES),
    )
    lags = st.builds(
        "LAG({}) OVER {}".format,
        st.one_of(
            st.builds("{}{}".format, st.sampled_from([*INTEGERS, *DOUBLES, *OTHERS, *TEXTS]), st.sampled_from(OFFSETS)),
            st.builds("{} IGNORE NULLS".format, st.sampled_from([*INTEGERS, *TEXTS, "is_fraud", *SOME])),
            st.sampled_from(["amount_minor, 1, -1", "merchant_id, 2, 'none'", "pan, 1, pan", "card_present, 3, NULL"]),
        ),
        st.sampled_from(["card", "pair", "before", "last_four", "computed"]),
    )
    moved = st.sampled_from(["merchant_country <> LAG(merchant_country) OVER card", "pan = LAG(pan, 1, 'x') OVER ever"])
    return st.one_of(calls.flatmap(over), ends, lags, moved)


def numbers():
    counts = ["COUNT(*) OVER card", "SUM(amount_minor) OVER week", "AVG(amount_minor) OVER terminal", "amount_minor"]
    plain = st.sampled_from(counts)
    return st.one_of(
        st.builds("{} {} {}".format, plain, st.sampled_from(["/", "+", "-", "*", "//", ">", "<="]), plain).filter(
            lambda text: ("//" not in text or "AVG" not in text) and (" * " not in text or text.count("amount") < 2)
        ),
        st.builds("coalesce({} / nullif({}, 0), -1)".format, plain, plain),
        st.builds("CASE WHEN {} > 3 THEN {} ELSE {} END".format, plain, plain, plain),
        st.builds("CAST({} * 1.5 AS DOUBLE)".format, st.sampled_from(["COUNT(*) OVER card", "amount_minor"])),
        st.builds("round({} / 7, 2)".format, plain),
        st.just("QUANTILE_DISC(CAST(amount_minor % 100 AS DECIMAL(4, 1)), 0.3) OVER card > 9"),
        st.builds(
            "CAST({}(CAST(amount_minor % 1000 AS DECIMAL(6, 2)) * 0.25) OVER week AS DOUBLE)".format,
            st.sampled_from(["SUM", "MIN", "MAX"]),
        ),
    )


features = st.lists(st.one_of(aggregates(), numbers()), min_size=1, max_size=12)

row = st.fixed_dictionaries(
    {
        "gap": st.one_of(
            st.integers(1, 2 * MINUTE_US), st.sampled_from([60 * MINUTE_US, DAY_US, 2 * DAY_US, 7 * DAY_US])
        ),
        "pan": st.sampled_from([None, "pan_a", "pan_b"]),
        "terminal_id": st.sampled_from([None, "t1", "t2"]),
        "merchant_id": st.sampled_from([None, "m1", "m2", "ä"]),
        "merchant_country": st.sampled_from([None, "DE", "FR", "US"]),
        "channel": st.sampled_from(["pos", "ecommerce"]),
        "transaction_type": st.sampled_from(["purchase", "refund"]),
        "card_present": st.booleans(),
        # Sums stay below 2^53, from where on DuckDB divides them in 80 bits for AVG.
        "amount_minor": st.one_of(st.integers(0, 1000), st.integers(0, 2**48)),
        "terminal_latitude": st.one_of(st.none(), st.sampled_from([0.0, -0.0, 52.5]), st.floats(-90, 90)),
        "verdict": st.sampled_from([None, None, True, False]),
        "cut": st.booleans(),
    }
)


def plain(value):
    """A value as it is compared: doubles by their bits (all NaNs alike), decimals of no fraction as integers."""
    if isinstance(value, float):
        return "nan" if value != value else struct.pack("<d", value + 0.0)  # noqa: PLR0124 -- NaN
    if isinstance(value, Decimal):
        return int(value)
    return value


def duck(sql, table):
    with DUCKDB.cursor() as cursor:
        cursor.register("transactions", table)
        sql = sql.replace(SESSION, "session").replace("\nFROM transactions", SESSIONS)
        return cursor.sql(f"{sql} ORDER BY event_time").to_arrow_table()


def settle(rows):
    """Rows in order of time, no two at one time; where batches are cut, after which the verdicts so far are known."""
    time, events, verdicts, cuts = START_US, [], {}, []
    for number, drawn in enumerate(rows):
        time += drawn["gap"]
        events.append({name: value for name, value in drawn.items() if name not in ("gap", "verdict", "cut")})
        events[-1]["event_time"] = time
        verdicts[f"e{number}"] = drawn["verdict"]
        if drawn["cut"]:
            cuts.append(number + 1)
    return transactions(events), verdicts, sorted({*cuts, len(rows)})


def compare(rows, texts, same):
    """Decide the rows, labels among them, and let DuckDB compute each piece anew from all rows so far."""
    sql = "SELECT " + ",\n".join(f"{text} AS f{n}" for n, text in enumerate(texts)) + "\nFROM transactions" + WINDOWS
    detector = compile_detector("test", {"features.sql": sql, "rules.yaml": "rules: []", "policy.yaml": POLICY})
    kernel = Kernel(detector)
    batch, verdicts, cuts = settle(rows)
    known, start = {}, 0
    for end in cuts:
        part = batch.slice(start, end - start)
        news = [(of, verdict) for of, verdict in verdicts.items() if verdict is not None and of not in known]
        news = [(of, verdict) for of, verdict in news if int(of[1:]) < start]
        known |= dict(news)
        decisions = kernel.decide(arrived(part, labels(news), [0] * len(news)))
        wanted = duck(sql, labelled(batch.slice(0, end), known)).slice(start)
        for n, text in enumerate(texts):
            mine, theirs = decisions.features.column(f"f{n}"), wanted.column(f"f{n}")
            assert all(map(same, mine.to_pylist(), theirs.to_pylist())), (text, mine, theirs)
        start = end


@settings(max_examples=60, deadline=None)
@given(st.lists(row, min_size=1, max_size=30), features)
def test_a_select_gives_duckdbs_bits(rows, texts):
    compare(rows, texts, lambda mine, theirs: plain(mine) == plain(theirs))


#: What `keep` leaves of what no frame bounds in time, said to DuckDB by lists over the rows of so long.
KEPT = {
    "SUM(amount_minor) OVER last_four": "list_sum((list(amount_minor) OVER week)[-4:])",
    "COUNT(*) OVER earlier": "coalesce(len((list(1) OVER week)[-6:-3]), 0)",
    "LAG(merchant_id, 2) OVER card": "(list(merchant_id) OVER week)[-3]",
    "LAG(amount_minor, 1, -1) OVER card": "coalesce((list(amount_minor) OVER week)[-2], -1)",
    "LAG(merchant_id IGNORE NULLS) OVER card": "last_value(merchant_id IGNORE NULLS) OVER before",
    "MAX(amount_minor) OVER ever": "MAX(amount_minor) OVER week",
}


@settings(max_examples=30, deadline=None)
@given(st.lists(row, min_size=1, max_size=30))
def test_keep_ends_what_no_frame_bounds_in_time(rows):
    policy = POLICY.replace("1000 days", "7 days")
    sql = "SELECT " + ", ".join(f"{text} AS f{n}" for n, text in enumerate(KEPT)) + "\nFROM transactions" + WINDOWS
    detector = compile_detector("test", {"features.sql": sql, "rules.yaml": "rules: []", "policy.yaml": policy})
    batch, _, _ = settle(rows)
    mine = Kernel(detector).decide(arrived(batch)).features
    kept = "SELECT " + ", ".join(f"{text} AS f{n}" for n, text in enumerate(KEPT.values())) + "\nFROM transactions"
    theirs = duck(kept + WINDOWS, labelled(batch, {}))
    for n, text in enumerate(KEPT):
        assert [*map(plain, mine.column(f"f{n}").to_pylist())] == [*map(plain, theirs.column(f"f{n}").to_pylist())], (
            text
        )


VARIANCES = st.builds(
    "{}({}){} OVER {}".format,
    st.sampled_from(["VAR_SAMP", "VAR_POP", "VARIANCE", "STDDEV_SAMP", "STDDEV_POP", "STDDEV"]),
    st.sampled_from(INTEGERS),
    st.one_of(st.just(""), st.sampled_from(CONDITIONS).map(" FILTER (WHERE {})".format)),
    st.sampled_from(WINDOW_NAMES),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        row.flatmap(lambda drawn: st.integers(0, 100_000).map(lambda amount: drawn | {"amount_minor": amount})),
        min_size=1,
        max_size=30,
    ),
    st.lists(VARIANCES, min_size=1, max_size=8),
)
def test_a_variance_is_near_duckdbs(rows, texts):
    """DuckDB adds doubles up as they come (Welford), which rounds at each step: near is all that can be asked of it.
    The naive twin holds the engine to the bit.
    """

    def near(mine, theirs):
        if mine is None or theirs is None:
            return mine is theirs
        return math.isclose(mine, theirs, rel_tol=1e-9, abs_tol=1e-4)

    compare(rows, texts, near)
