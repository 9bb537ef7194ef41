"""Calls over windows that are refused, each with its place."""

import pytest
from tests.kernel.test_features import OVER, ROWS, SESSION, check_refused, select

from tidegate.kernel.features import compile_features

REFUSED = [
    (select("COUNT(*) AS a"), 1, 8, "COUNT without a window", "OVER"),
    (select("LAG(pan) AS a"), 1, 8, "LAG without a window", "OVER"),
    (select(f"LEAD(pan) {OVER} AS a"), 1, 8, "LEAD(pan)", "lag"),
    (select(f"LAG(pan) {OVER} AS a"), 1, 8, "LAG(pan), which no time bounds", "`keep` in policy.yaml"),
    (select(f"LAG(pan, 1, 2, 3) {OVER} AS a"), 1, 8, "LAG of 4 arguments", "LAG(x, offset, default)"),
    (select(f"LAG(pan, -1) {OVER} AS a"), 1, 17, "-1", "a whole number up to"),
    (select(f"LAG(pan, amount_minor) {OVER} AS a"), 1, 17, "amount_minor", "written out"),
    (select(f"LAG(pan, 2147483648) {OVER} AS a"), 1, 17, "2147483648", "up to 2147483647"),
    (select(f"LAG(pan, 2 IGNORE NULLS) {OVER} AS a"), 1, 8, "LAG of 2 with IGNORE NULLS", "an offset of 1"),
    (select(f"LAG(amount_minor, 1, pan) {OVER} AS a"), 1, 29, "no BIGINT: CAST of VARCHAR", "a conversion"),
    (select(f"LAG(card_present, 1, is_fraud) {OVER} AS a"), 1, 29, "the column 'is_fraud'", "a window around it"),
    (select(f"LAG(INTERVAL 1 DAY) {OVER} AS a"), 1, 8, "LAG of INTERVAL", "a number"),
    (select(f"LAG(pan) FILTER (WHERE card_present) {OVER} AS a"), 1, 8, "FILTER with LAG", "IGNORE NULLS"),
    (select(f"FIRST_VALUE(pan, 1) {OVER} AS a"), 1, 8, "FIRST_VALUE of 2 arguments", "one argument"),
    (
        select(f"SUM(amount_minor IGNORE NULLS) {OVER} AS a"),
        1,
        8,
        "IGNORE NULLS in SUM",
        "in FIRST_VALUE, LAST_VALUE and LAG",
    ),
    (select(f"LAST_VALUE(amount_minor) FILTER (WHERE card_present) {OVER} AS a"), 1, 8, "FILTER with", "IGNORE NULLS"),
    (select(f"QUANTILE_DISC(amount_minor) {OVER} AS a"), 1, 8, "of 1 arguments", "QUANTILE_DISC(x, share)"),
    (select(f"QUANTILE_DISC(amount_minor, 1.5) {OVER} AS a"), 1, 36, "the share 1.5", "0 to 1"),
    (select(f"QUANTILE_CONT(amount_minor, -0.5) {OVER} AS a"), 1, 36, "the share -0.5", "0 to 1"),
    (select(f"QUANTILE_CONT(amount_minor, 0.1234567891) {OVER} AS a"), 1, 36, "the share", "up to 9 digits"),
    (select(f"QUANTILE_CONT(amount_minor, terminal_latitude) {OVER} AS a"), 1, 36, "terminal_latitude", "0 to 1"),
    (select(f"QUANTILE_DISC(pan, 0.5) {OVER} AS a"), 1, 8, "QUANTILE_DISC of VARCHAR", "a number"),
    (select(f"QUANTILE_CONT(event_time, 0.5) {OVER} AS a"), 1, 8, "QUANTILE_CONT of TIMESTAMP", "QUANTILE_DISC"),
    (select(f"MEDIAN(card_present) {OVER} AS a"), 1, 8, "MEDIAN of BOOLEAN", "an integer"),
    (select(f"MEDIAN(DISTINCT amount_minor) {OVER} AS a"), 1, 8, "DISTINCT", "COUNT alone"),
    (select("STDDEV(amount_minor) AS a"), 1, 8, "STDDEV without a window", "OVER"),
    (select(f"1 + STDDEV(terminal_latitude) {OVER} AS a"), 1, 12, "STDDEV of DOUBLE", "an integer"),
    (select(f"VAR_SAMP(card_present) {OVER} AS a"), 1, 8, "VAR_SAMP of BOOLEAN", "an integer"),
    (select(f"VARIANCE(0.5) {OVER} AS a"), 1, 8, "VARIANCE of DECIMAL(2,1)", "an integer"),
    (select(f"VAR_POP(DISTINCT amount_minor) {OVER} AS a"), 1, 8, "DISTINCT", "COUNT alone"),
    (select(f"STDDEV_POP(*) {OVER} AS a"), 1, 8, "STDDEV_POP(*)", "an expression in place of *"),
    (select(f"VAR_SAMP(amount_minor, amount_minor) {OVER} AS a"), 1, 8, "2 arguments", "one argument"),
    (select(f"SUM(terminal_latitude) {OVER} AS a"), 1, 8, "SUM of DOUBLE", "minor units"),
    (select(f"AVG(terminal_latitude) {OVER} AS a"), 1, 8, "AVG of DOUBLE", "minor units"),
    (select(f"AVG(card_present) {OVER} AS a"), 1, 8, "AVG of BOOLEAN", "SUM"),
    (select(f"MIN(pan) {OVER} AS a"), 1, 8, "MIN of VARCHAR", "a number"),
    (select(f"COUNT(DISTINCT amount_minor * 0.5) {OVER} AS a"), 1, 8, "DECIMAL(21,1)", "up to 18 digits"),
    (select(f"MAX(amount_minor * 0.5) {OVER} AS a"), 1, 8, "MAX of DECIMAL(21,1)", "up to 18 digits"),
    (select(f"AVG(0.5) {OVER} AS a"), 1, 8, "AVG of DECIMAL(2,1)", "SUM(...) / COUNT(...)"),
    (select(f"SUM(DISTINCT amount_minor) {OVER} AS a"), 1, 8, "DISTINCT", "COUNT alone"),
    (select(f"SUM(*) {OVER} AS a"), 1, 8, "SUM(*)", "an expression in place of *"),
    (select(f"COUNT(pan, email) {OVER} AS a"), 1, 8, "2 arguments", "one argument"),
    (select(f"SUM(COUNT(*) {OVER}) {OVER} AS a"), 1, 12, "a window", "without windows"),
    (select(f"COUNT(*) {OVER} AS a, SUM(a) {OVER} AS b"), 1, 127, "an aggregate within an aggregate", "columns"),
    (select(f"SUM(amount_minor) FILTER (WHERE amount_minor) {OVER} AS a"), 1, 40, "BIGINT", "a BOOLEAN condition"),
    (select("COUNT(*) OVER w AS a", f"WINDOW v AS {OVER[5:]}"), 1, 22, "the unknown window 'w'", "v"),
    (select("1 AS a", f"WINDOW v AS {OVER[5:]}, v AS {OVER[5:]}"), 1, 141, "a second window 'v'", "another name"),
    (select(f"COUNT(*) {OVER.replace('pan', 'amount_minor / 2')} AS a"), 1, 36, "type DOUBLE", "an integer"),
    (select(f"COUNT(*) {OVER.replace('pan', 'event_time - event_time')} AS a"), 1, 36, "INTERVAL", "an integer"),
    (select(f"COUNT(*) {OVER.replace('pan', 'is_fraud')} AS a"), 1, 36, "the unknown column 'is_fraud'", "one of"),
    (select("COUNT(*) OVER () AS a"), 1, 8, "without PARTITION BY", "PARTITION BY the columns"),
    (select("COUNT(*) OVER (PARTITION BY pan) AS a"), 1, 8, "without ORDER BY", "ORDER BY event_time"),
    (select("COUNT(*) OVER (PARTITION BY pan ORDER BY event_time) AS a"), 1, 8, "without a frame", "RANGE BETWEEN"),
    (select(f"COUNT(*) {OVER} AS a").replace("BY event_time", "BY amount_minor"), 1, 49, "amount_minor", "event_time"),
    (select(f"COUNT(*) {OVER} AS a").replace("event_time", "event_time DESC"), 1, 49, "DESC", "ORDER BY event_time"),
    (select(f"COUNT(*) {OVER} AS a").replace("RANGE", "ROWS"), 1, 8, "the frame ROWS", "ROWS BETWEEN n PRECEDING"),
    (select(f"COUNT(*) {OVER} AS a").replace("RANGE", "GROUPS"), 1, 8, "the frame GROUPS", "RANGE BETWEEN"),
    (select(f"COUNT(*) {OVER} AS a").replace("INTERVAL 1 HOUR", "UNBOUNDED"), 1, 8, "which no time bounds", "`keep`"),
    (select(f"COUNT(*) {OVER} AS a").replace("INTERVAL 1 HOUR", "5"), 1, 8, "the frame RANGE", "INTERVAL n unit"),
    (
        select(f"COUNT(*) {ROWS} AS a"),
        1,
        8,
        "3 PRECEDING AND CURRENT ROW, which no time bounds",
        "`keep` in policy.yaml",
    ),
    (select(f"COUNT(*) {ROWS} AS a").replace("3", "1 + 2"), 1, 8, "1 + 2 PRECEDING", "n PRECEDING"),
    (select(f"COUNT(*) {ROWS} AS a").replace("CURRENT ROW", "4 PRECEDING"), 1, 8, "which is empty", "the wider edge"),
    (
        select(f"COUNT(*) {ROWS} AS a").replace("3 PRECEDING", "CURRENT ROW"),
        1,
        8,
        "ROWS BETWEEN CURRENT",
        "n PRECEDING",
    ),
    (select(f"COUNT(*) {ROWS} AS a").replace("CURRENT ROW", "1 FOLLOWING"), 1, 8, "1 FOLLOWING", "CURRENT ROW | n"),
    (
        select(f"COUNT(*) {ROWS} AS a").replace("3 P", "0 P").replace("T ROW", "T ROW EXCLUDE CURRENT ROW"),
        1,
        8,
        "empty",
        "w",
    ),
    (
        select(f"COUNT(*) {SESSION} AS a").replace("CURRENT ROW", "INTERVAL 1 MINUTE PRECEDING"),
        1,
        8,
        "session",
        "CURRENT",
    ),
    (select(f"COUNT(*) {SESSION} AS a").replace("pan, ", ""), 1, 8, "without PARTITION BY", "PARTITION BY the columns"),
    (
        select(f"COUNT(*) {SESSION} AS a").replace("(event_time,", "(pan,"),
        1,
        41,
        "session_window(pan",
        "event_time, INTERVAL",
    ),
    (
        select(f"COUNT(*) {SESSION} AS a").replace("INTERVAL 5 MINUTE", "5"),
        1,
        41,
        "5)",
        "session_window(event_time, INT",
    ),
    (select("session_window(event_time, INTERVAL 1 DAY) AS a"), 1, 8, "session_window", "PARTITION BY"),
    (select(f"COUNT(*) {OVER} AS a").replace("1 HOUR", "1 MONTH"), 1, 74, "INTERVAL '1' MONTH", "DAY or WEEK"),
    (select(f"COUNT(*) {OVER} AS a").replace("CURRENT ROW", "INTERVAL 2 HOUR PRECEDING"), 1, 8, "empty", "the wider"),
    (select(f"COUNT(*) {OVER} AS a").replace("CURRENT ROW", "INTERVAL 2 HOUR FOLLOWING"), 1, 8, "FOLLOWING", "RANGE"),
    (select(f"COUNT(*) {OVER} AS a").replace("ROW)", "ROW EXCLUDE TIES)"), 1, 8, "EXCLUDE TIES", "RANGE BETWEEN"),
    (select(f"COUNT(*) {OVER} AS a").replace("ROW)", "ROW EXCLUDE GROUP)"), 1, 8, "EXCLUDE GROUP", "[EXCLUDE"),
    (select(f"COUNT(*) {OVER} AS a").replace("BY pan", "BY is_fraud"), 1, 36, "'is_fraud'", "one of"),
]


@pytest.mark.parametrize(("text", "line", "column", "found", "expected"), REFUSED)
def test_what_is_wrong_is_said_with_its_place(text, line, column, found, expected):
    check_refused(text, line, column, found, expected)


def test_an_approximate_quantile_is_the_exact_one():
    exact, approximate = (
        compile_features("f.sql", select(f"{name}(amount_minor, 0.9) {OVER} AS a"), lateness_us=0, dedupe_us=0)
        for name in ("QUANTILE_DISC", "APPROX_QUANTILE")
    )
    assert approximate.plan == exact.plan
    assert approximate.expressions == exact.expressions
