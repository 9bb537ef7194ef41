"""Bodies in other formats than JSON, and packed ones, give the same events; what is made to do harm is refused."""

import gzip
import io
import json

import fastavro
import pyarrow as pa
import pytest
from tests.intake.files import revealed
from tests.intake.house import PERSONAL, transaction
from tests.intake.test_events import EVENTS, problem

from tidegate.files.avro import crc64, unframe
from tidegate.intake.limits import MAX_BODY_BYTES, MAX_EVENTS
from tidegate.streams.schema import load_schema

AVSC = load_schema("transactions").avro


def lines_of(rows):
    return b"\n".join(json.dumps(row).encode() for row in rows)


def csv_of(rows):
    names = list(rows[0])
    cells = [["" if row[name] is None else str(row[name]).replace("False", "false") for name in names] for row in rows]
    return "\n".join(";".join(f'"{cell}"' for cell in row) for row in [names, *cells]).encode()


def container(rows, schema=AVSC, codec="null"):
    binary = io.BytesIO()
    fastavro.writer(binary, schema, rows, codec=codec)
    return binary.getvalue()


def of_type(avro):
    return {"type": "record", "name": "r", "fields": [{"name": "a", "type": avro}]}


def single(row):
    binary = io.BytesIO()
    fastavro.schemaless_writer(binary, AVSC, row)
    return b"\xc3\x01" + bytes.fromhex(crc64(AVSC))[::-1] + binary.getvalue()


def post(door, content, kind, packing=None):
    headers = {"Content-Type": kind} | ({"Content-Encoding": packing} if packing else {})
    return door.post(EVENTS, content=content, headers=headers)


@pytest.mark.parametrize(
    ("kind", "packing", "body"),
    [
        ("application/json", "gzip", lambda rows: gzip.compress(json.dumps(rows).encode())),
        ("application/x-ndjson", "zstd", lambda rows: pa.compress(lines_of(rows), "zstd", asbytes=True)),
        ("text/csv", None, csv_of),
        ("text/csv; charset=utf-8", "gzip", lambda rows: gzip.compress(csv_of(rows))),
        ("application/avro", None, container),
        ("application/avro", "gzip", lambda rows: gzip.compress(container(rows))),
    ],
)  # fmt: skip
def test_every_format_gives_the_same_events(house, door, kind, packing, body):
    rows = [transaction(f"tx-{n}", terminal_latitude=52.5) for n in range(3)]
    answer = post(door, body(rows), kind, packing)
    assert answer.status_code == 202, answer.text
    assert [event["event_id"] for event in house.values("transactions")] == ["tx-0", "tx-1", "tx-2"]
    for event in revealed(house):
        assert {name: event[name] for name in PERSONAL} == PERSONAL
        assert (event["event_time"], event["amount_minor"], event["terminal_latitude"], event["card_present"]) == (
            rows[0]["event_time"], 1999, 52.5, False,
        )  # fmt: skip


def test_a_single_object_is_known_by_its_schema(house, door):
    assert post(door, single(transaction()), "application/avro").status_code == 202
    message = single(transaction())
    assert "of another" in problem(post(door, b"\xc3\x01" + bytes(8) + message[10:], "application/avro"), 422)["detail"]
    problem(post(door, message[:-3], "application/avro"), 422)
    problem(post(door, b"\0\0\0\0\1" + message[10:], "application/avro"), 422)


def test_frames_of_the_wire():
    assert unframe(b"\0\0\0\1\2abc") == ("confluent", 258, b"abc")
    glue = bytes(range(16))
    assert unframe(b"\3\0" + glue + b"abc") == ("glue", "00010203-0405-0607-0809-0a0b0c0d0e0f", b"abc")


@pytest.mark.parametrize(
    ("kind", "packing", "body"),
    [
        ("application/json", "gzip", gzip.compress(b" " * (MAX_BODY_BYTES + 1))),
        ("application/json", "gzip", gzip.compress(b"{}" * 100)[:-9]),
        ("application/json", "zstd", pa.compress(b" " * (1 << 28), "zstd", asbytes=True)),
        ("application/json", "zstd", b"not packed"),
        ("text/csv", None, b""),
        ("text/csv", None, b"a,a\n1,2\n"),
        ("text/csv", None, b'a,b\n"1,2\n'),
        ("text/csv", None, b"a,b\n1\n"),
        ("text/csv", None, b"a,b\n\xff,1\n"),
        ("application/avro", None, b"Obj\x01"),
        ("application/avro", None, container([{"a": None}], of_type("null"))),
        ("application/avro", None, container([{"a": [None]}], of_type({"type": "array", "items": "null"}))),
        ("application/avro", None, container([transaction()], codec="deflate")),
        ("application/avro", None, container([transaction()])[:-20]),
    ],
)  # fmt: skip
def test_what_is_damaged_or_made_to_do_harm_is_refused(house, door, kind, packing, body):
    said = problem(post(door, body, kind, packing), 422)
    assert said["step"] == "decode"
    assert [each.step for each in house.rejected()] == ["decode"]
    assert not house.records("transactions")


def test_other_packings_and_too_many_events_are_refused(house, door):
    problem(post(door, b"{}", "application/json", "br"), 415)
    records = [{"event_id": "x"}] * (MAX_EVENTS + 1)
    many = container(records, {"type": "record", "name": "r", "fields": [{"name": "event_id", "type": "string"}]})
    problem(post(door, many, "application/avro"), 413)
    assert not house.records("transactions")
    assert not house.rejected()
