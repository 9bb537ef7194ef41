"""From records of the log to a columnar batch, and what is no record of its stream."""

import json

import msgspec
import pyarrow as pa
import pytest

from tidegate.streams.batch import to_batch
from tidegate.streams.schema import STREAMS, load_schema

SCHEMA = load_schema("labels")
LABEL = {"event_id": "l1", "event_time": 1, "transaction_id": "e1", "is_fraud": True, "source": "analyst"}


def batch(*records):
    return to_batch(SCHEMA, [json.dumps(record).encode() for record in records])


def test_records_become_rows():
    other = LABEL | {"event_id": "ä", "is_fraud": False, "sealed": "what the schema does not know"}
    made = batch(LABEL, other)
    assert made.schema == SCHEMA.arrow
    assert made.column("event_id").to_pylist() == ["l1", "ä"]
    assert made.column("is_fraud").to_pylist() == [True, False]
    assert made.column("event_time").cast(pa.int64()).to_pylist() == [1, 1]


@pytest.mark.parametrize("stream", STREAMS)
def test_no_records_are_no_rows(stream):
    schema = load_schema(stream)
    assert to_batch(schema, []).schema == schema.arrow


@pytest.mark.parametrize(
    "changed",
    [
        *({"event_id": None}, {"event_id": 1}, {"event_time": "1"}, {"event_time": 1.5}, {"is_fraud": 1}),
        *({"event_time": 2**63}, {"event_time": -(2**63) - 1}, {"event_time": 10**30}),
    ],
)
def test_a_value_of_another_type_is_refused(changed):
    with pytest.raises(msgspec.DecodeError):
        batch(LABEL, LABEL | changed)


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b"{", b"null", b'{"event_id": "\\ud800"}'])
def test_what_is_no_record_is_refused(value):
    with pytest.raises(msgspec.DecodeError):
        to_batch(SCHEMA, [value])


def test_a_text_that_is_not_utf_8_is_refused():
    with pytest.raises(UnicodeDecodeError):
        to_batch(SCHEMA, [json.dumps(LABEL).encode().replace(b"analyst", b"\xff")])
