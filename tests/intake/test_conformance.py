"""Other people's files of all that is nasty, through REST, Kafka REST and as files: each is taken as it is, or refused
and why.
"""

import csv
import io
import json
from base64 import b64encode
from pathlib import Path

import msgspec
import pytest
from tests.intake.files import ingesting, packed, revealed
from tests.intake.house import House

from tidegate.errors import DecodeError
from tidegate.intake.protect import reveal
from tidegate.intake.sensitive import strip_sensitive
from tidegate.streams.schema import load_schema

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "conformance"
SUITE = sorted((SHARED / "json-test-suite" / "test_parsing").glob("*.json"))
STRINGS = json.loads((SHARED / "blns" / "blns.json").read_text("utf-8"))
SPECTRUM = sorted((SHARED / "csv-spectrum" / "csvs").glob("*.csv"))

WEATHER = "/v1/streams/weather/events"
MAPPING = b"""
stream: weather
fields:
  event_time: TIMESTAMP '2024-05-01'
  shop_id: "'m-1'"
"""


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    house = House(tmp_path_factory.mktemp("house"))
    with ingesting(house, stream="weather", mapping=None) as ingest:
        yield house, ingest
    house.close()


def event_with(content: bytes) -> bytes:
    return b'{"event_time": 1714564800000000, "shop_id": "m-1", "value": ' + content + b"}"


def is_taken(case: Path) -> bool:
    """Whether the value reads in one way only, and may be kept."""
    try:
        value = msgspec.json.decode(case.read_bytes())
        return "duplicated" not in case.stem and strip_sensitive(value, depth=2) == value
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, DecodeError):
        return False


def test_json_as_files(spoken, tmp_path):
    house, ingest = spoken
    for case in SUITE:
        bare = ingest.take(packed(tmp_path, f"bare-{case.name}", case.read_bytes()))
        assert bare.taken == 0, case.name
        assert bare.reason or bare.rejected or not bare.rows, case.name
        result = ingest.take(packed(tmp_path, case.name, event_with(case.read_bytes())))
        if is_taken(case):
            assert (result.state, result.taken) in (("taken", 1), ("known", 1)), (case.name, result)
            if result.state == "taken":
                assert last(house)["value"] == msgspec.json.decode(case.read_bytes()), case.name
        else:
            assert not case.name.startswith("y_") or "duplicated" in case.name, case.name
            assert result.taken == 0, (case.name, result)
            assert result.reason or result.rejected, (case.name, result)


def last(house):
    """The newest event of the weather, opened."""
    record = msgspec.json.decode(house.records("weather")[-1].value)
    return record | reveal(house.envelopes, load_schema("weather"), record)


def test_json_through_rest(house, door):
    for number, case in enumerate(SUITE):
        body = event_with(case.read_bytes()).replace(b"{", b'{"event_id": "e%d", ' % number, 1)
        answer = door.post(WEATHER, content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code == 202) == is_taken(case), (case.name, answer.text)
        assert answer.status_code in (202, 413, 422), (case.name, answer.text)
        bare = door.post(WEATHER, content=case.read_bytes(), headers={"Content-Type": "application/json"})
        assert bare.status_code in (413, 422), case.name
    opened = {event["event_id"]: event["value"] for event in revealed(house, "weather")}
    assert opened == {
        f"e{number}": msgspec.json.decode(case.read_bytes()) for number, case in enumerate(SUITE) if is_taken(case)
    }


def taken_as_records(house, door, values, *, form):
    """The codes by which Kafka REST answers these bytes of events, and what they read back as."""
    before = len(house.records("weather"))
    if form == "json":
        records = b",".join(b'{"value": ' + value + b"}" for value in values)
    else:
        records = b",".join(b'{"value": "' + b64encode(value) + b'"}' for value in values)
    answer = door.post(
        "/topics/weather",
        content=b'{"records": [' + records + b"]}",
        headers={"Content-Type": f"application/vnd.kafka.{form}.v2+json"},
    )
    codes = (
        [each["error_code"] for each in answer.json()["offsets"]] if answer.status_code == 200 else answer.status_code
    )
    return codes, revealed(house, "weather")[before:]


def test_json_through_kafka_rest(house, door):
    """As bytes all at once; as JSON one by one, since what is no JSON makes the whole request none."""
    values = [
        event_with(case.read_bytes()).replace(b"{", b'{"event_id": "e%d", ' % number, 1)
        for number, case in enumerate(SUITE)
    ]
    codes, events = taken_as_records(house, door, values, form="binary")
    assert codes == [None if is_taken(case) else 42206 for case in SUITE]
    wanted = [msgspec.json.decode(case.read_bytes()) for case in SUITE if is_taken(case)]
    assert [event["value"] for event in events] == wanted
    for case, value in zip(SUITE, values, strict=True):
        codes, events = taken_as_records(house, door, [value.replace(b': "e', b': "j', 1)], form="json")
        if is_taken(case):
            assert (codes, len(events)) == ([None], 1), case.name
            assert events[0]["value"] == msgspec.json.decode(case.read_bytes()), case.name
        else:
            assert codes in (400, 422, [42206]), case.name


def test_strings_and_tables_through_kafka_rest(house, door):
    events = [
        {"event_id": f"e{number}", "event_time": 1714564800000000, "shop_id": "m-1", "value": text}
        for number, text in enumerate(STRINGS)
    ]
    for form in ("json", "binary"):
        prefixed = [json.dumps(event | {"event_id": form + event["event_id"]}).encode() for event in events]
        codes, taken = taken_as_records(house, door, prefixed, form=form)
        assert codes == [None] * len(STRINGS)
        assert [event["value"] for event in taken] == [strip_sensitive(text) for text in STRINGS]
    tables = [case.read_bytes() for case in SPECTRUM]
    codes, _ = taken_as_records(house, door, tables, form="binary")
    assert codes == [42206] * len(SPECTRUM)


def test_naughty_strings(spoken, house, door, tmp_path):
    spoke, ingest = spoken
    wanted = [strip_sensitive(text) for text in STRINGS]
    events = [
        {"event_id": f"e{number}", "event_time": 1714564800000000, "shop_id": "m-1", "value": text}
        for number, text in enumerate(STRINGS)
    ]
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(events[0]))
    table.writeheader()
    table.writerows([event | {"event_id": f"c{event['event_id']}"} for event in events])
    lines = b"\n".join(json.dumps(event).encode() for event in events)
    for name, content in (("blns.ndjson", lines), ("blns.csv", text.getvalue().encode())):
        before = len(spoke.records("weather"))
        assert ingest.take(packed(tmp_path, name, content)).taken == len(STRINGS)
        assert [event["value"] for event in revealed(spoke, "weather")[before:]] == wanted
    for kind, content in (("application/x-ndjson", lines), ("text/csv", text.getvalue().encode())):
        before = len(house.records("weather"))
        assert door.post(WEATHER, content=content, headers={"Content-Type": kind}).status_code == 202
        assert [event["value"] for event in revealed(house, "weather")[before:]] == wanted


def test_the_spectrum_of_csv(house, door, tmp_path):
    with ingesting(house, stream="weather", mapping=MAPPING) as ingest:
        for case in SPECTRUM:
            wanted = json.loads((SHARED / "csv-spectrum" / "json" / f"{case.stem}.json").read_text("utf-8"))
            if case.stem == "location_coordinates":
                # One object, and of another telephone number than the CSV has.
                wanted = [wanted | {"Contact Phone Number": "2095257564"}]
            before = len(house.records("weather"))
            assert ingest.take(case).taken == len(wanted), case.stem
            events = revealed(house, "weather")[before:]
            assert [{name: event[name] for name in row} for event, row in zip(events, wanted, strict=True)] == wanted
    for case in SPECTRUM:
        answer = door.post(WEATHER, content=case.read_bytes(), headers={"Content-Type": "text/csv"})
        assert answer.status_code == 422, answer.text
