"""The work that every system is given: the events, what is computed of them, the rules, the sequence and the model.

It is imported in every peer's own environment: numpy, pyarrow and LightGBM are all that it needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

#: Entity: the column that rows are gathered by, and the one whose values are counted apart.
ENTITIES = {
    "card": ("pan", "merchant_id"),
    "device": ("device_id", "pan"),
    "merchant": ("merchant_id", "pan"),
    "ip": ("ip", "pan"),
}

MINUTE_US = 60_000_000
WINDOWS_US = {"10m": 10 * MINUTE_US, "1h": 60 * MINUTE_US, "1d": 1_440 * MINUTE_US, "7d": 10_080 * MINUTE_US}
AGGREGATES = ("count", "sum", "avg", "max", "distinct")

FEATURES = tuple(f"{entity}_{of}_{window}" for entity in ENTITIES for window in WINDOWS_US for of in AGGREGATES)

#: An event that comes no later than this after a younger one is still answered as of its own time.
LATENESS_US = 10 * MINUTE_US


@dataclass(frozen=True)
class Rule:
    name: str
    when: str
    """SQL of the common kind: every peer with SQL runs it as it stands."""
    points: int

    @property
    def python(self) -> str:
        """The same in Python (and pandas)."""
        return re.sub(r"\bAND\b", "and", self.when)


RULES = (
    Rule("card_burst", "card_count_10m >= 3", 30),
    Rule("card_busy", "card_count_1h >= 5", 15),
    Rule("card_spending_hour", "card_sum_1h > 100000", 20),
    Rule("card_spending_week", "card_sum_7d > 500000", 10),
    Rule("shops_within_minutes", "card_distinct_10m >= 3", 20),
    Rule("shops_within_the_hour", "card_distinct_1h >= 4", 15),
    Rule("cards_per_device", "device_distinct_1d >= 3", 20),
    Rule("device_busy", "device_count_1h >= 6", 15),
    Rule("device_spending", "device_sum_1d > 300000", 10),
    Rule("cards_per_ip_hour", "ip_distinct_1h >= 4", 20),
    Rule("cards_per_ip_day", "ip_distinct_1d >= 10", 15),
    Rule("ip_burst", "ip_count_10m >= 5", 15),
    Rule("ip_spending", "ip_sum_1h > 400000", 10),
    Rule("merchant_burst", "merchant_count_10m >= 6", 10),
    Rule("merchant_is_dear", "merchant_avg_1h > 60000", 5),
    Rule("merchant_highest", "merchant_max_1h >= 150000 AND merchant_count_1h >= 3", 10),
    Rule("far_above_average", "amount_minor > 3 * card_avg_7d AND card_count_7d >= 4", 20),
    Rule("device_highest", "amount_minor >= device_max_7d AND device_count_7d >= 5", 10),
    Rule("tried_out", "card_tested", 40),
    Rule("model_suspects", "model_score >= 0.5", 30),
)
REVIEW, DECLINE, CAP = 40, 80, 100

#: The points of the rules that fire, in SQL.
POINTS_SQL = " + ".join(f"CASE WHEN {rule.when} THEN {rule.points} ELSE 0 END" for rule in RULES)

#: The sequence `card_tested`: a tiny amount, and a large one with the same card within the span, whatever is between
#: them; the next match begins after this one's last row.
TINY_MINOR, LARGE_MINOR, SEQUENCE_US = 100, 20_000, 10 * MINUTE_US

#: What the model takes.
MODEL_FEATURES = (*FEATURES, "amount_minor")

#: What a system must tell of each event, by workload.
OUTPUTS = {
    "windows": FEATURES,
    "full": (*FEATURES, "card_tested", "model_score", "score", "outcome"),
}

#: 2026-03-02T09:00:00Z
START_US = 1_772_442_000_000_000
_DAYS = 14


def events(rows: int, seed: int = 7, late_share: float = 0) -> pa.Table:
    """Payments of two weeks, in order of arrival. However many there are, a card has five of them, a device ten, an
    address fifty and a merchant two hundred, so that fewer events mean no emptier windows. No two are of one time.

    The keys are evenly spread: hot keys would slow those most whose cost grows with a window's rows.
    """
    random = np.random.default_rng(seed)
    gaps = random.lognormal(0, 3, rows)
    times_ms = np.cumsum(1 + (gaps * _DAYS * 86_400_000 / gaps.sum()).astype(np.int64))
    columns = {
        name: random.integers(0, max(2, rows // share), rows)
        for name, share in (("pan", 5), ("device_id", 10), ("ip", 50), ("merchant_id", 200))
    }
    # Half of them go on where one just before stopped: else short windows would hold one row.
    goes_on = np.nonzero(random.random(rows) < 0.5)[0]
    before = np.maximum(goes_on - random.integers(1, 6, len(goes_on)), 0)
    for name in ("pan", "device_id", "ip"):
        columns[name][goes_on] = columns[name][before]
    amounts = np.minimum(1 + random.lognormal(7.5, 2, rows).astype(np.int64), 1_000_000)
    arrival = times_ms + np.where(
        random.random(rows) < late_share, random.integers(0, LATENESS_US // 1000, rows), np.int64(0)
    )
    order = np.argsort(arrival, kind="stable")
    texts = {name: [f"{name}_{key:07d}" for key in keys[order]] for name, keys in columns.items()}
    return pa.table(
        {
            "number": np.arange(rows),
            "event_time": START_US + times_ms[order] * 1000,
            **texts,
            "amount_minor": amounts[order],
        }
    )


def features_sql(table: str = "transactions", keep: str = "event_id, event_time, amount_minor") -> str:
    """The features in standard SQL, each window named once."""
    aggregates = {
        "count": "COUNT(*) OVER {w}",
        "sum": "SUM(amount_minor) OVER {w}",
        "avg": "AVG(amount_minor) OVER {w}",
        "max": "MAX(amount_minor) OVER {w}",
        "distinct": "COUNT(DISTINCT {other}) OVER {w}",
    }
    columns, windows = [], []
    for entity, (key, other) in ENTITIES.items():
        for window, length_us in WINDOWS_US.items():
            name = f"{entity}_{window}"
            columns += [
                f"{text.format(w=name, other=other)} AS {entity}_{of}_{window}" for of, text in aggregates.items()
            ]
            windows.append(
                f"{name} AS (PARTITION BY {key} ORDER BY event_time "
                f"RANGE BETWEEN INTERVAL '{length_us // MINUTE_US}' MINUTE PRECEDING AND CURRENT ROW)"
            )
    return f"SELECT {keep},\n    " + ",\n    ".join(columns) + f"\nFROM {table}\nWINDOW\n    " + ",\n    ".join(windows)


SEQUENCE_SQL = f"""SELECT * FROM transactions MATCH_RECOGNIZE (
    PARTITION BY pan
    ORDER BY event_time
    MEASURES LAST(TINY.amount_minor) AS tiny_amount
    ONE ROW PER MATCH
    AFTER MATCH SKIP PAST LAST ROW
    PATTERN (TINY OTHER*? MUCH) WITHIN INTERVAL '{SEQUENCE_US // MINUTE_US}' MINUTE
    DEFINE
        TINY AS amount_minor < {TINY_MINOR},
        MUCH AS amount_minor > {LARGE_MINOR}
) AS card_tested"""
