"""What a file's columns seem to be."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from tests.intake.files import encoded, packed, payments
from tests.intake.house import NOW_US

from tidegate.errors import DecodeError, MappingError
from tidegate.files.mapping import parse_mapping
from tidegate.intake.suggest import Suggestion, suggest
from tidegate.streams.schema import load_schema

SALES = [
    {
        "Transaction ID": f"{n:03}",
        "Paid At": f"2026-05-01 12:0{n}:00",
        "Card No": "4111111111111111",
        "Customer": f"00{n}",
        "who": f"zoe{n}@example.org",
        "Amount": n + 0.25,
        "Ccy": "EUR",
        "Type": "Purchase",
        "Channel": "POS",
        "Authorisation": "approved",
        "Card-present": True,
        "cvv": 123,
        "Note": "none",
    }
    for n in range(1, 9)
]

FOUND = {
    "event_id": '"Transaction ID"',
    "event_time": 'CAST("Paid At" AS TIMESTAMP)',
    "transaction_type": "lower(Type)",
    "channel": "lower(Channel)",
    "card_present": '"Card-present"',
    "authorisation": "Authorisation",
    "customer_id": "Customer",
    "pan": '"Card No"',
    "email": "who",
    "amount_minor": "CAST(round(Amount * 100) AS BIGINT)",
    "currency": "Ccy",
}


def suggested(folder: Any, suffix: str, rows: list[dict[str, Any]], stream: str = "transactions") -> Suggestion:
    return suggest(packed(folder, f"sales.{suffix}", encoded(rows, suffix)), load_schema(stream), NOW_US)


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet", "csv.zst"])
def test_columns_are_known_by_their_names_and_what_is_in_them(tmp_path, suffix):
    found = suggested(tmp_path, suffix, SALES)
    guessed = {"event_time": '"Paid At"'} if suffix != "parquet" else {}
    texts = {"card_present": 'CAST("Card-present" AS BOOLEAN)'} if suffix.startswith("csv") else {}
    assert found.fields == FOUND | guessed | texts
    assert found.missing == []
    assert found.text.endswith("# Not read, and kept sealed with the event: Note\n")
    mapping = parse_mapping("sales.yaml", found.text.encode())
    assert mapping.expressions.keys() == FOUND.keys()


def test_what_is_suggested_is_refused_until_it_is_whole(tmp_path):
    found = suggested(tmp_path, "csv", [{**row, "Type": "sale"} for row in SALES])
    assert found.missing == ["transaction_type"]
    assert "  # transaction_type: wanted, one of purchase, refund." in found.text
    with pytest.raises(MappingError, match="transaction_type: required"):
        parse_mapping("sales.yaml", found.text.encode())


@pytest.mark.parametrize(
    ("time", "expression"),
    [
        (1_777_636_800, "make_timestamp(time * 1000000)"),
        (1_777_636_800_000, "make_timestamp(time * 1000)"),
        (1_777_636_800_000_000, "make_timestamp(time)"),
        (datetime.fromisoformat("2026-05-01"), "time"),
    ],
)
def test_times_are_told_apart_by_their_size(tmp_path, time, expression):
    found = suggested(tmp_path, "parquet", [{"time": time}], "weather")
    assert found.fields["event_time"] == expression


def test_a_column_that_mostly_does_not_fit_is_not_taken(tmp_path):
    rows = [{**row, "Card No": "4111111111111112", "Amount": -1.0} for row in SALES]
    assert suggested(tmp_path, "csv", [*rows, *SALES[:2]]).fields.keys() == FOUND.keys() - {"pan", "amount_minor"}


def test_what_may_not_be_kept_is_not_even_named(tmp_path):
    assert "cvv" not in suggested(tmp_path, "csv", payments(3)).text


@pytest.mark.parametrize("content", [b"", b"a,b\n"])
def test_nothing_is_told_of_nothing(tmp_path, content):
    with pytest.raises(DecodeError):
        suggest(packed(tmp_path, "sales.csv", content), load_schema("transactions"), NOW_US)


def test_rows_that_differ_in_kind_are_no_field(tmp_path):
    rows = [{"amount": 1}, {"amount": "a lot"}, {"amount": [1]}]
    path = packed(tmp_path, "sales.ndjson", b"\n".join(json.dumps(row).encode() for row in rows) + b"\n{\n[]\n")
    assert suggest(path, load_schema("transactions"), NOW_US).fields == {}
