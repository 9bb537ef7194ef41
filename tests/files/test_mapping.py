"""A mapping says what is wrong with it, before or while it meets a source, and never shows a value."""

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidegate.errors import DecodeError, MappingError, NotFoundError, UsageError
from tidegate.files.mapping import read_mapping
from tidegate.hosts.ordered import Span, ordered_rows

FIELDS = {
    "event_id": "id",
    "event_time": "at",
    "transaction_type": "'purchase'",
    "channel": "lower(channel)",
    "card_present": "true",
    "authorisation": "'approved'",
    "customer_id": "customer",
    "amount_minor": "CAST(round(amount * 100) AS BIGINT)",
    "currency": "'EUR'",
}

#: The personal value of the source: no error may show it.
SECRET = 'o\'connor "the" secret@example.com'

ROWS = {
    "id": ["a", "b", "c"],
    "at": [datetime.fromisoformat(f"2026-03-02T{hour}") for hour in ("09:00", "08:00", "10:00")],
    "channel": ["POS", "Ecommerce", "mobile"],
    "customer": ["1", SECRET, "3"],
    "amount": [1.25, 12.5, 0.01],
    "fraud": [0, 1, 0],
}


def write_mapping(folder, fields=None, *, label=None, columns=None, stream="transactions", more=""):
    lines = [f"stream: {stream}", "fields:"]
    for name, expression in (FIELDS | (fields or {})).items():
        if expression is not None:
            lines.append(f"  {name}: {expression!r}")
    if label:
        lines += ["label:", *(f"  {key}: {value!r}" for key, value in label.items())]
    if columns:
        lines += ["columns:", *(f"  {key}: {value}" for key, value in columns.items())]
    path = folder / "mapping.yaml"
    path.write_text("\n".join([*lines, more]))
    return path


def map_rows(folder, mapping, rows=None, *, name="source.parquet", batch_rows=2):
    source = folder / name
    if rows is not None or not source.exists():
        pq.write_table(pa.table(ROWS | (rows or {})), source)
    batches = list(
        ordered_rows(
            source,
            mapping,
            span=Span(None, None),
            order="time",
            after=None,
            spill=folder / "spill",
            batch_rows=batch_rows,
            progress=lambda done, total: None,
        )
    )
    return pa.Table.from_batches([mapping.complete(batch) for batch in batches])


def test_rows_become_events_of_the_stream_in_order_of_time(tmp_path):
    mapping = read_mapping(write_mapping(tmp_path))
    events = map_rows(tmp_path, mapping)
    assert events.schema == mapping.schema.arrow
    assert events["event_id"].to_pylist() == ["b", "a", "c"]
    assert events["amount_minor"].to_pylist() == [1250, 125, 1]
    assert events["channel"].to_pylist() == ["ecommerce", "pos", "mobile"]
    assert events["merchant_id"].null_count == 3


def test_rows_of_one_time_keep_the_order_of_the_file(tmp_path):
    mapping = read_mapping(write_mapping(tmp_path))
    ids = [f"{number:05}" for number in range(20_000)]
    rows = {name: (values * 7_000)[:20_000] for name, values in ROWS.items()} | {
        "id": ids,
        "at": [ROWS["at"][0]] * 20_000,
    }
    assert map_rows(tmp_path, mapping, rows, batch_rows=4_096)["event_id"].to_pylist() == ids


def test_the_clear_parts_of_a_card_number_can_be_mapped(tmp_path):
    events = map_rows(tmp_path, read_mapping(write_mapping(tmp_path, {"pan": "'token'", "pan_bin": "'411111'"})))
    assert events["pan_bin"].to_pylist() == ["411111"] * 3
    assert events["pan_last4"].null_count == 3


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"currency": None}, "currency: required by transactions"),
        ({"colour": "'red'"}, "colour: not a field of transactions"),
        ({"currency": "'EUR"}, 'field currency: "\'EUR" is not SQL'),
        ({"currency": "'EUR'; DROP TABLE source"}, "wanted one scalar expression"),
        ({"currency": "'EUR' AS name"}, "wanted one scalar expression"),
        ({"currency": "(SELECT 'EUR')"}, "wanted one scalar expression"),
        ({"currency": "upper((SELECT 'EUR'))"}, "wanted one scalar expression"),
        ({"currency": "currency IN (SELECT 'EUR')"}, 'got "(SELECT'),
        ({"amount_minor": "sum(amount)"}, "got 'SUM(amount)'"),
        ({"amount_minor": "count(*)"}, "got 'COUNT(*)'"),
        ({"amount_minor": "row_number() OVER ()"}, "wanted one scalar expression"),
        ({"amount_minor": "*"}, "wanted one scalar expression"),
        ({"amount_minor": "COLUMNS('a.*')"}, "wanted one scalar expression"),
        ({"amount_minor": "$1"}, "got '$1'"),
        ({"currency": "read_text('/etc/passwd')"}, "read_text is not a function"),
        ({"currency": "getenv('HOME')"}, "getenv is not a function"),
        ({"event_time": "now()"}, "now is not a function"),
        ({"event_time": "CURRENT_TIMESTAMP"}, "current_timestamp is not a function"),
        ({"event_id": "CAST(uuid() AS VARCHAR)"}, "uuid is not a function"),
        ({"amount_minor": "CAST(random() * 100 AS BIGINT)"}, "not a function"),
    ],
)
def test_what_is_wrong_with_a_mapping_alone(tmp_path, fields, said):
    with pytest.raises(MappingError) as caught:
        read_mapping(write_mapping(tmp_path, fields))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"stream": "nothing"}, "stream 'nothing': not one of"),
        (
            {"label": {"is_fraud": "fraud = 1", "known_after": "soon"}},
            "known_after: wanted such as '7 days', got 'soon'",
        ),
        ({"label": {"is_fraud": "fraud = 1"}}, "missing required field `known_after`"),
        ({"columns": {"id": "text"}}, "type of id: wanted one of"),
        ({"more": "other: 1"}, "unknown field `other`"),
        ({"more": "  - ]"}, "mapping mapping.yaml"),
    ],
)
def test_what_is_wrong_with_a_mapping_around_its_fields(tmp_path, how, said):
    with pytest.raises(MappingError) as caught:
        read_mapping(write_mapping(tmp_path, **how))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "rows", "said"),
    [
        ({"amount_minor": "amount"}, {}, "wanted long, got DOUBLE"),
        ({"event_time": "CAST(at AS VARCHAR)"}, {}, "wanted timestamp, got VARCHAR"),
        ({"card_present": "1"}, {}, "wanted boolean, got INTEGER"),
        ({"customer_id": "client"}, {}, "whose columns are id, at, channel, customer, amount, fraud"),
        ({"currency": "nosuch(id)"}, {}, "nosuch is not a function"),
        ({"currency": "substr(id)"}, {}, "does not fit the source"),
        ({}, {"customer": ["1", None, "3"]}, "field customer_id: row 2 of the source does not give a text of 1 to"),
        ({}, {"customer": ["1", "2", ""]}, "field customer_id: row 3"),
        ({}, {"customer": ["x" * 1025, "2", "3"]}, "field customer_id: row 1"),
        ({}, {"channel": ["pos", "carrier pigeon", "pos"]}, "row 2 of the source does not give one of pos"),
        ({}, {"amount": [1.0, 2.0, -0.5]}, "field amount_minor: row 3 of the source does not give an integer from"),
        ({}, {"at": [None, *ROWS["at"][1:]]}, "field event_time: row 1 of the source does not give a time"),
        ({"event_time": "TIMESTAMP 'infinity'"}, {}, "a time of the years 1 to 9999"),
        ({"amount_minor": "CAST(customer AS BIGINT)"}, {}, "field amount_minor: 'CAST(customer AS BIGINT)' fails on"),
        ({"amount_minor": "CAST(amount * 1e300 AS BIGINT)"}, {}, "fails on a row of the source"),
    ],
)  # fmt: skip
def test_what_is_wrong_between_a_mapping_and_a_source(tmp_path, fields, rows, said):
    with pytest.raises(MappingError) as caught:
        map_rows(tmp_path, read_mapping(write_mapping(tmp_path, fields)), rows)
    assert said in str(caught.value)
    assert not any(part in str(caught.value) for part in ("connor", "secret", "example.com", "pigeon"))


def test_a_column_of_text_that_changes_is_named_without_its_value(tmp_path):
    numbers = "\n".join(f"{number},2026-03-02 09:00:00,pos,{number},1.0,0" for number in range(400_000))
    source = tmp_path / "source.csv"
    source.write_text(f"id,at,channel,customer,amount,fraud\n{numbers}\nlast,2026-03-02 10:00:00,pos,1,{SECRET},0\n")
    with pytest.raises(MappingError) as caught:
        map_rows(tmp_path, read_mapping(write_mapping(tmp_path)), name="source.csv")
    assert "column number 5: cannot be read as csv" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_id_of_digits_keeps_its_zeros(tmp_path):
    (tmp_path / "source.csv").write_text("id,at,channel,customer,amount\n007,2026-03-02 09:00:00,pos,0012,1.0\n")
    mapping = read_mapping(write_mapping(tmp_path))
    events = map_rows(tmp_path, mapping, name="source.csv")
    assert (events["event_id"][0].as_py(), events["customer_id"][0].as_py()) == ("007", "0012")


def test_na_is_a_country_and_nothing_is_null(tmp_path):
    (tmp_path / "source.csv").write_text(
        "id,at,channel,customer,amount,country\na,2026-03-02 09:00:00,pos,1,1.0,NA\nb,2026-03-02 09:00:00,pos,1,1.0,\n"
    )
    mapping = read_mapping(write_mapping(tmp_path, {"card_country": "country"}))
    assert map_rows(tmp_path, mapping, name="source.csv")["card_country"].to_pylist() == ["NA", None]


@pytest.mark.parametrize(
    ("name", "content", "error", "said"),
    [
        ("source.xlsx", b"", UsageError, "wanted a file named *.json"),
        ("source.parquet", b"not parquet", DecodeError, "cannot be read as parquet"),
        ("source.csv", b"", DecodeError, "wanted CSV that begins with the names of its columns"),
        ("source.jsonl", b'{"id": 1}\n{"id": ', MappingError, "cannot be read as jsonl"),
    ],
)
def test_a_source_that_cannot_be_read(tmp_path, name, content, error, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error) as caught:
        map_rows(tmp_path, read_mapping(write_mapping(tmp_path)), name=name)
    assert said in str(caught.value)


def test_a_mapping_or_source_that_is_not_there(tmp_path):
    with pytest.raises(NotFoundError, match="there is no such file"):
        read_mapping(tmp_path / "none.yaml")
    mapping = read_mapping(write_mapping(tmp_path))
    with pytest.raises(NotFoundError, match="there is no such file"):
        list(
            ordered_rows(
                Path("none.csv"),
                mapping,
                span=Span(None, None),
                order="time",
                after=None,
                spill=tmp_path,
                batch_rows=1,
                progress=print,
            )
        )
