"""SQL texts made from the dialect's grammar: sound ones, typed as they must be, and the same ones spoiled."""

import re
from dataclasses import dataclass
from random import Random

NUMBERS = ("amount_minor", "terminal_latitude", "terminal_longitude", "0", "1", "-7", "25e-1", "1e3", "2147483648")
TEXTS = ("pan", "merchant_id", "channel", "ip_country", "'pos'", "'it''s'", "''", "'é😀'")
FLAGS = ("card_present", "true", "false", "NULL IS NULL", "merchant_id LIKE 'm%_'", "pan IS NOT NULL")
TIMES = ("event_time", "event_time - INTERVAL '1' DAY", "event_time + INTERVAL 90 MINUTE")
VALUES = ("amount_minor", "card_present", "event_time", "terminal_latitude", "is_fraud")
KEYS = ("pan", "merchant_id", "ip", "card_present", "device_id")
UNITS = ("SECOND", "MINUTE", "HOUR", "DAY", "WEEK")
NAMED = ("card", "shop")

#: What stands in a text where it should not.
JUNK = (
    *(
        "(",
        ")",
        ",",
        "'",
        '"',
        ";",
        "--",
        "/*",
        "*",
        "::",
        "$1",
        "?",
        "\\",
        "\x00",
        "\u202e",
        "\ud800",
        "é",
        "0x1F",
        "1e999",
    ),
    *(
        "SELECT",
        "FROM",
        "OVER",
        "FILTER",
        "WINDOW",
        "AS",
        "NULL",
        "JOIN",
        "UNION ALL",
        "WHERE",
        "GROUP BY pan",
        "LIMIT 1",
    ),
    *("sleep(1)", "read_csv('x')", "(SELECT 1)", "pan.x", "99999999999999999999", "INTERVAL", "DISTINCT", "is_fraud"),
)

_TOKEN = re.compile(r"'(?:[^']|'')*'|\w+|\s+|.", re.DOTALL)


@dataclass
class Grammar:
    """Each method draws one text of its kind; `depth` is how deep it may nest."""

    rng: Random

    def one_of(self, texts):
        return texts[self.rng.randrange(len(texts))]

    def number(self, depth=2):
        if not depth or self.rng.random() < 0.3:
            return self.one_of(NUMBERS)
        first, second = self.number(depth - 1), self.number(depth - 1)
        return self.one_of(
            (
                *(f"({first} {operator} {second})" for operator in "+-*/"),
                f"abs({first})",
                f"COALESCE({first}, {second})",
                f"GREATEST({first}, {second}, 3)",
                f"CAST({first} AS DOUBLE)",
                f"CASE WHEN {self.flag(depth - 1)} THEN {first} ELSE {second} END",
            )
        )

    def text(self, depth=2):
        if not depth or self.rng.random() < 0.4:
            return self.one_of(TEXTS)
        first, second = self.text(depth - 1), self.text(depth - 1)
        return self.one_of(
            (f"({first} || {second})", f"upper({first})", f"substr({first}, 1, 3)", f"NULLIF({first}, merchant_id)")
        )

    def flag(self, depth=2):
        if not depth or self.rng.random() < 0.3:
            return self.one_of(FLAGS)
        first, second = self.number(depth - 1), self.number(depth - 1)
        comparison = self.one_of(("<", "<=", ">", ">=", "=", "<>", "IS DISTINCT FROM"))
        return self.one_of(
            (
                f"({first} {comparison} {second})",
                f"({first} BETWEEN {second} AND 10)",
                f"({first} IN (1, {second}))",
                f"({self.text(depth - 1)} = {self.text(depth - 1)})",
                f"({self.flag(depth - 1)} AND {self.flag(depth - 1)})",
                f"({self.flag(depth - 1)} OR {self.flag(depth - 1)})",
                f"(NOT {self.flag(depth - 1)})",
                f"({first} IS NULL)",
            )
        )

    def span(self):
        return f"INTERVAL '{self.rng.randrange(1, 40)}' {self.one_of(UNITS)}"

    def window(self):
        keys = ", ".join(self.rng.sample(KEYS, self.rng.randrange(1, 4)))
        exclude = self.one_of(("", " EXCLUDE CURRENT ROW", " EXCLUDE NO OTHERS"))
        frame = self.one_of(
            (
                f"RANGE BETWEEN {self.span()} PRECEDING AND CURRENT ROW{exclude}",
                f"RANGE BETWEEN INTERVAL '50' WEEK PRECEDING AND {self.span()} PRECEDING",
                f"RANGE BETWEEN UNBOUNDED PRECEDING AND {self.span()} PRECEDING",
                f"ROWS BETWEEN {self.rng.randrange(1, 40)} PRECEDING AND CURRENT ROW{exclude}",
                f"ROWS BETWEEN 40 PRECEDING AND {self.rng.randrange(40)} PRECEDING",
                f"ROWS UNBOUNDED PRECEDING{exclude}",
            )
        )
        return f"PARTITION BY {keys} ORDER BY event_time {frame}"

    def aggregate(self):
        call = self.one_of(
            (
                "COUNT(*)",
                f"{self.one_of(('COUNT', 'MIN', 'MAX'))}({self.one_of(VALUES)})",
                f"COUNT(DISTINCT {self.one_of((*VALUES, *KEYS))})",
                f"QUANTILE_DISC({self.one_of(('amount_minor', 'event_time'))}, 0.{self.rng.randrange(100)})",
                self.one_of(("MEDIAN(amount_minor)", "QUANTILE_CONT(terminal_latitude, 0.9)")),
                f"{self.one_of(('SUM', 'AVG', 'VAR_SAMP', 'STDDEV_SAMP', 'var_pop'))}(amount_minor)",
            )
        )
        condition = self.one_of(("", " FILTER (WHERE is_fraud)", f" FILTER (WHERE {self.flag()})"))
        return f"{call}{condition} OVER {self.one_of((*NAMED, f'({self.window()})'))}"

    def of_row(self):
        """FIRST_VALUE, LAST_VALUE or LAG."""
        nulls = self.one_of(("", " IGNORE NULLS", " RESPECT NULLS"))
        value = self.one_of((*VALUES, *KEYS, f"CASE WHEN {self.flag()} THEN merchant_id END"))
        lag = self.one_of(
            (value, f"{value}, 1", f"{value}, 1, NULL", f"{value}, 1, {value.replace('is_fraud', '1 = 1')}")
        )
        call = self.one_of((f"FIRST_VALUE({value}{nulls})", f"LAST_VALUE({value}{nulls})", f"LAG({lag}{nulls})"))
        return f"{call} OVER {self.one_of((*NAMED, f'({self.window()})'))}"

    def feature(self):
        return self.one_of(
            (
                self.of_row(),
                *(f"CAST({self.number()} AS DOUBLE)", self.text(), self.flag(), self.one_of(TIMES)),
                *(self.aggregate(), self.aggregate(), f"(COUNT(*) OVER card > {self.number()})"),
            )
        )

    def select(self):
        """A sound text."""
        items = ",\n".join(f"  {self.feature()} AS feature_{number}" for number in range(self.rng.randrange(1, 5)))
        windows = ",\n  ".join(f"{name} AS ({self.window()})" for name in NAMED)
        return f"SELECT event_id, event_time,\n{items}\nFROM transactions\nWINDOW {windows}"

    def spoiled(self):
        """A sound text with one to three of its tokens taken out, doubled, moved or replaced, or its end cut off."""
        tokens = _TOKEN.findall(self.select())
        for _ in range(self.rng.randrange(1, 4)):
            tokens = tokens or [" "]
            at = self.rng.randrange(len(tokens))
            match self.rng.randrange(6):
                case 0:
                    del tokens[at]
                case 1:
                    tokens.insert(at, tokens[at])
                case 2:
                    tokens.insert(self.rng.randrange(len(tokens)), tokens.pop(at))
                case 3:
                    tokens[at] = self.one_of(JUNK)
                case 4:
                    tokens.insert(at, f" {self.one_of(JUNK)} ")
                case _:
                    tokens = tokens[: at + 1]
        return "".join(tokens)
