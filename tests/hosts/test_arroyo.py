"""Tumbling windows against the golden results of Arroyo's own tests (shared/conformance/arroyo)."""

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tidegate.files.mapping import read_mapping
from tidegate.hosts.replay import replay
from tidegate.kernel.detector import compile_detector

ARROYO = Path(__file__).resolve().parents[2].parent / "shared" / "conformance" / "arroyo"

MAPPING = {
    "stream": "transactions",
    "fields": {
        "event_id": "CAST(hash(timestamp, driver_id, event_type, location) AS VARCHAR)",
        "event_time": "CAST(timestamp AS TIMESTAMP)",
        "transaction_type": "'purchase'",
        "channel": "'mobile'",
        "card_present": "false",
        "authorisation": "'approved'",
        "customer_id": "CAST(driver_id AS VARCHAR)",
        "merchant_id": "event_type",
        "amount_minor": "0",
        "currency": "'USD'",
    },
}

#: A window that tumbles is one that begins anew with each hour: the hour is one of the things it is gathered by. It is
#: full once the hour's last event is in.
FEATURES = """
SELECT
    merchant_id AS event_type,
    date_trunc('hour', event_time) AS hour,
    COUNT(*) OVER by_type AS by_type,
    COUNT(*) OVER by_hour AS by_hour
FROM transactions
WINDOW
    by_type AS (PARTITION BY merchant_id, date_trunc('hour', event_time) ORDER BY event_time
                RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW),
    by_hour AS (PARTITION BY date_trunc('hour', event_time) ORDER BY event_time
                RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW)
"""

POLICY = "lateness: 1 hour\ndedupe: 1 hour\noutcomes: {review: 40, decline: 80}\ncap: 100\n"


@pytest.fixture(scope="module")
def decided(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arroyo")
    (folder / "cars.yaml").write_text(yaml.safe_dump(MAPPING))
    detector = compile_detector(
        "tumbling", {"features.sql": FEATURES, "rules.yaml": "rules: []", "policy.yaml": POLICY}
    )
    replay(ARROYO / "inputs" / "cars.json", read_mapping(folder / "cars.yaml"), detector, folder / "decided.parquet")
    return pq.read_table(folder / "decided.parquet").to_pylist()


def golden(name):
    return [json.loads(line) for line in (ARROYO / "golden_outputs" / name).read_text().splitlines()]


def full(decided, keys, count):
    """The count of each window when it was full."""
    counts = Counter()
    for row in decided:
        key = tuple(row[name] for name in keys)
        counts[key] = max(counts[key], row[count])
    return counts


def test_events_by_type_and_hour(decided):
    wanted = {(row["event_type"], row["hour"]): row["count"] for row in golden("hourly_by_event_type.json")}
    counts = full(decided, ("event_type", "hour"), "by_type")
    assert {(kind, f"{hour:%Y-%m-%dT%H:%M:%S}"): count for (kind, hour), count in counts.items()} == wanted
    assert len(wanted) == 51


def test_events_by_hour(decided):
    wanted = sorted(row["count"] for row in golden("tight_watermark.json"))
    counts = full(decided, ("hour",), "by_hour")
    assert sorted(counts.values()) == wanted
    assert sum(wanted) == 7932
