"""Flink SQL as referee over sequences.sql: the same text over the same rows finds the same matches.

What is written otherwise for Flink: MEASURES, so that all matches are of one form; ORDER BY, which for Flink has to say
how rows of equal time are ordered; and a group, which Flink does not have, written out. Flink lives in an environment
of its own: `make referee` makes it.
"""

import json
import os
import random
import re
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.kernel.transactions import START_US, transactions

from tidegate.kernel.arrivals import Arrived
from tidegate.kernel.sequences.sequences import compile_sequences
from tidegate.kernel.sequences.tracking import Tracker

ROOT = Path(__file__).resolve().parents[2]

#: Flink takes a minute or so. One that stands still shall fail, not hold everything up.
TIMEOUT_S = 900
FLINK = ROOT / "build" / "flink" / "bin" / "python"

#: As Flink's table has them.
COLUMNS = {
    "event_id": "STRING",
    "pan": "STRING",
    "customer_id": "STRING",
    "device_id": "STRING",
    "merchant_id": "STRING",
    "transaction_type": "STRING",
    "authorisation": "STRING",
    "amount_minor": "BIGINT",
}

#: A row is what its merchant says: one of a to e.
DEFINE = {
    "A": "A AS A.merchant_id = 'a'",
    "B": "B AS B.merchant_id IN ('b', 'd')",
    "C": "C AS C.merchant_id IN ('c', 'd')",
}

#: In each of them what begins first is whole first: else Flink holds matches back, and may then tell a longer one.
#: Name, pattern, what is defined (None: by DEFINE), how it skips, and two measures.
CASES = {
    "one_after_the_other": ("A B C", None, "TO NEXT ROW", "A.amount_minor", "C.amount_minor"),
    "greedy": ("A B* C", None, "TO NEXT ROW", "COUNT(B.amount_minor)", "SUM(B.amount_minor)"),
    "reluctant": ("A B*? C", None, "TO NEXT ROW", "COUNT(B.amount_minor)", "MAX(B.amount_minor)"),
    "optional": ("A B? C", None, "TO NEXT ROW", "COUNT(B.amount_minor)", "MIN(amount_minor)"),
    "at_least_one": ("A+ B+ C", None, "TO NEXT ROW", "COUNT(A.amount_minor)", "LAST(A.amount_minor)"),
    "counted": ("A{2} B", None, "TO NEXT ROW", "FIRST(A.amount_minor, 1)", "LAST(A.amount_minor, 1)"),
    "from_to": ("A{1,2} B{1,2} C", None, "TO NEXT ROW", "COUNT(A.amount_minor)", "COUNT(B.amount_minor)"),
    "at_least_two": ("A{2,} C", None, "TO NEXT ROW", "COUNT(A.amount_minor)", "FIRST(A.amount_minor)"),
    "anything": ("A OTHER*? C", None, "TO NEXT ROW", "COUNT(OTHER.amount_minor)", "amount_minor"),
    "past_last_row": ("A OTHER*? C", None, "PAST LAST ROW", "COUNT(A.amount_minor)", "SUM(amount_minor)"),
    "to_last": ("A OTHER*? C", None, "TO LAST C", "COUNT(A.amount_minor)", "SUM(amount_minor)"),
    "ends_reluctantly": ("A B+?", None, "PAST LAST ROW", "COUNT(B.amount_minor)", "A.amount_minor"),
    "rising": (
        "START_ROW UP{2,} DOWN",
        """
    UP AS UP.amount_minor > LAST(UP.amount_minor, 1) OR
        (LAST(UP.amount_minor, 1) IS NULL AND UP.amount_minor > START_ROW.amount_minor),
    DOWN AS DOWN.amount_minor < LAST(UP.amount_minor)""",
        "TO NEXT ROW",
        "COUNT(UP.amount_minor)",
        "MAX(UP.amount_minor)",
    ),
    "sums": (
        "A OTHER*? MUCH",
        """
    A AS A.merchant_id = 'a',
    MUCH AS SUM(OTHER.amount_minor) * 2 > 300 AND COUNT(OTHER.amount_minor) >= 2
        AND MUCH.amount_minor <= MAX(OTHER.amount_minor)""",
        "TO NEXT ROW",
        "SUM(OTHER.amount_minor)",
        "MUCH.amount_minor",
    ),
    "previous": (
        "A B*? C",
        "A AS A.merchant_id = 'a', B AS TRUE, C AS amount_minor > PREV(amount_minor)",
        "TO NEXT ROW",
        "A.amount_minor",
        "C.amount_minor",
    ),
}

_MEASURES = "MEASURES FIRST(event_id) AS first_id, LAST(event_id) AS last_id, {first} AS first_m, {second} AS second_m"


def text_of(case):
    pattern, define, skip, first, second = case
    define = define or ", ".join(text for name, text in DEFINE.items() if name in re.findall(r"\w+", pattern))
    return f"""SELECT * FROM transactions MATCH_RECOGNIZE (
    PARTITION BY pan
    ORDER BY event_time
    {_MEASURES.format(first=first, second=second)}
    ONE ROW PER MATCH
    AFTER MATCH SKIP {skip}
    PATTERN ({pattern}) WITHIN INTERVAL '20' SECOND
    DEFINE {define}
) AS found"""


def shipped():
    """The sequences of card_fraud, each told by the ids of its first and its last row."""
    text = (ROOT / "detectors" / "card_fraud" / "sequences.sql").read_text()
    told = _MEASURES.format(first="COUNT(*)", second="SUM(amount_minor)")
    for statement in re.sub(r"--[^\n]*", "", text).split(";"):
        if statement.strip():
            name = statement.split()[-1]
            # The last of them chooses columns: the id has to be among them.
            with_id = statement.replace("SELECT customer_id, device_id,", "SELECT event_id, customer_id, device_id,")
            measured = re.sub(r"MEASURES.*?ONE ROW", told + " ONE ROW", with_id, flags=re.DOTALL)
            yield name, re.sub(rf"{name}\s*$", "found", measured)


TEXTS = {name: text_of(case) for name, case in CASES.items()} | dict(shipped())


def for_flink(name, text):
    text = re.sub(r"ORDER BY event_time", "ORDER BY event_time, `number`", text)
    text = text.replace("SELECT event_id, customer_id,", "SELECT `number`, event_id, customer_id,")
    text = text.replace("(OTHER*? HIGH){3}", "OTHER1*? HIGH1 OTHER2*? HIGH2 OTHER3*? HIGH3")
    if "HIGH3" in text:
        text = text.replace(
            "HIGH AS",
            "HIGH1 AS amount_minor > 200000, HIGH2 AS amount_minor > 200000, HIGH3 AS amount_minor > 200000, HIGH AS",
        )
    columns = "first_id, last_id, CAST(first_m AS BIGINT), CAST(second_m AS BIGINT)"
    return f"SELECT '{name}', {columns} FROM ({text.strip()})"


@pytest.fixture(scope="module")
def rows():
    """A stream in the order of time, some rows of equal time; amounts and refusals as in card testing."""
    chosen = random.Random(4)
    drawn, time_ms = [], START_US // 1000
    for number in range(3000):
        time_ms += chosen.choice([0, 100, 200, 300, 400, 900])
        drawn.append(
            {
                "number": number,
                "time_ms": time_ms,
                "event_id": f"e{number}",
                "pan": f"pan {chosen.randrange(6)}",
                "customer_id": f"customer {chosen.randrange(4)}",
                "device_id": f"device {chosen.randrange(2)}",
                "merchant_id": chosen.choice("aabbccde"),
                "transaction_type": chosen.choice(["purchase"] * 9 + ["refund"]),
                "authorisation": chosen.choice(["declined"] * 3 + ["approved"]),
                "amount_minor": chosen.choice([1, 5, 50, 70, 99, 50, 80, 60001, 95000, 250000]),
            }
        )
    return drawn


@pytest.fixture(scope="module")
def by_flink(rows, tmp_path_factory):
    """Matches by name, in the order of their last rows."""
    assert FLINK.is_file(), "Flink's environment is not there: make referee"
    folder = tmp_path_factory.mktemp("flink")
    (folder / "rows.csv").write_text("".join(",".join(map(str, row.values())) + "\n" for row in rows))
    query = "\nUNION ALL\n".join(for_flink(name, text) for name, text in TEXTS.items())
    columns = ", ".join(f"{name} {type_}" for name, type_ in COLUMNS.items())
    script, result = Path(__file__).with_name("flink_sql.py"), folder / "found.json"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(FLINK), str(script), str(folder / "rows.csv"), columns, query, str(result)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert result.is_file(), done.stderr[-3000:]
    found = {name: {} for name in TEXTS}
    for name, first_id, last_id, *measures in json.loads(result.read_text()):
        match = int(first_id[1:]), *measures
        # Of several that one row completes, the kernel tells of the one that began first.
        found[name][last_id] = min(match, found[name].get(last_id, match))
    return found


@pytest.fixture(scope="module")
def events(rows):
    return transactions(
        [
            {name: value for name, value in row.items() if name in COLUMNS} | {"event_time": row["time_ms"] * 1000}
            for row in rows
        ]
    )


@pytest.mark.parametrize("name", list(TEXTS))
def test_flink_finds_the_same_matches(name, events, by_flink):
    (sequence,) = compile_sequences("sequences.sql", TEXTS[name], taken=(), lateness_us=1_000_000)
    own = Arrived(np.arange(events.num_rows), events)
    told, _ = Tracker(sequence).apply({"transactions": own}, own)
    table = pa.table({"event_id": events.column("event_id"), **told})
    found = {
        row["event_id"]: (int(row["found_first_id"][1:]), row["found_first_m"], row["found_second_m"])
        for row in table.to_pylist()
        if row["found"]
    }
    assert found == by_flink[name]
    assert found
