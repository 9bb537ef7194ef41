import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.intake.house import NOW_US, transaction

from tidegate.errors import SchemaError
from tidegate.intake.limits import MAX_AHEAD_US, MIN_EVENT_TIME_US
from tidegate.intake.validate import Validator
from tidegate.streams.schema import STREAMS, load_schema

VALIDATOR = Validator(load_schema("transactions"))


def refusal(event):
    with pytest.raises(SchemaError) as refused:
        VALIDATOR.check(event, NOW_US)
    assert refused.value.step == "validate"
    return refused.value


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("2026-05-28T20:26:40Z", 1_780_000_000_000_000),
        ("2026-05-28t20:26:40z", 1_780_000_000_000_000),
        ("2026-05-28 22:26:40.123456+02:00", 1_780_000_000_123_456),
        ("2026-05-28T15:26:40.5-05:00", 1_780_000_000_500_000),
        (1_780_000_000_000_001, 1_780_000_000_000_001),
        (MIN_EVENT_TIME_US, MIN_EVENT_TIME_US),
        ("2000-01-01T00:00:00Z", MIN_EVENT_TIME_US),
        (NOW_US + MAX_AHEAD_US, NOW_US + MAX_AHEAD_US),
    ],
)
def test_times_become_microseconds(text, microseconds):
    assert VALIDATOR.check(transaction(event_time=text), NOW_US)["event_time"] == microseconds


@pytest.mark.parametrize(
    "time",
    [
        "2026-05-28T20:26:40",  # no offset
        "20260528T202640Z",
        "2026-02-30T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "yesterday",
        "",
        "1780000000000000",
        1_780_000_000,  # seconds
        1_780_000_000_000,  # milliseconds
        1_780_000_000_000_000_000,  # nanoseconds
        MIN_EVENT_TIME_US - 1,
        NOW_US + MAX_AHEAD_US + 1,
        -1,
        10**30,
        1.78e15,
        True,
        None,
        [],
    ],
)
def test_other_times_are_refused(time):
    assert refusal(transaction(event_time=time)).field == "event_time"


FAULTS = {
    "event_id": ["", "a b", "ä", "x" * 129, "a@b.example", "4111111111111111", "4111-1111-1111-1111", None, 7],
    "transaction_type": ["gift", None, 1, "PURCHASE"],
    "card_present": ["truthy", 1, None],
    "customer_id": ["", None, 815, " \t ", "x" * 1025],
    "pan": [
        "4111111111111112",
        "411111111111",
        "41111111111111111111",
        "4111.1111.1111.1111",
        "４１１１１１１１１１１１１１１１",
        "",
    ],
    "cardholder_name": ["  ", 1, "x" * 1025],
    "email": ["zoe", "zoe@", "@example.org", "zoe @example.org", "a@b@c"],
    "ip": ["203.0.113", "203.0.113.256", "::g", "fe80::1%eth0", "203.0.113.077", "203.0.113.77/24"],
    "geo": ["52.5", "52.5;13.3", "91,0", "0,181", "nan,0", "inf,0", "a,b", "1,2,3"],
    "ip_country": ["de", "DEU", "D1", ""],
    "merchant_category": ["541", "54111", "groc"],
    "terminal_latitude": [90.1, -91, "52"],
    "terminal_longitude": [180.1, -181],
    "amount_minor": [-1, 19.99, "1999", 10**12 + 1, 2**63, None, True],
    "currency": ["eur", "EURO", "XXX", "", None],
    "merchant_id": ["card 4111 1111 1111 1111", "ask zoe@example.org", ""],
    "session_id": ["s-4111111111111111"],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in FAULTS.items() for value in values])
def test_a_fault_names_its_field_and_never_its_value(field, value):
    refused = refusal(transaction(**{field: value}))
    assert refused.field == field
    assert f"field {field}" in str(refused)
    if isinstance(value, str) and len(value) > 3:
        assert value not in str(refused)


@pytest.mark.parametrize("field", ["event_id", "event_time", "customer_id", "amount_minor", "currency", "channel"])
def test_a_field_that_lacks_is_named(field):
    event = transaction()
    del event[field]
    assert refusal(event).field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_id", "A.b_c:d-9"),
        ("event_id", "1780000000000000"),
        ("event_id", "x" * 128),
        ("pan", "4111-1111-1111-1111"),
        ("pan", "378282246310005"),
        ("pan", None),
        ("ip", "2001:db8::1"),
        ("ip", "::ffff:203.0.113.77"),
        ("geo", "-90, 180"),
        ("email", "zoë+tag@bücher.example"),
        ("amount_minor", 0),
        ("amount_minor", 10**12),
        ("terminal_latitude", 52),
        ("cardholder_name", "\x00 '; DROP TABLE--"),
    ],
)
def test_what_is_allowed_is_taken(field, value):
    assert VALIDATOR.check(transaction(**{field: value}), NOW_US)[field] == value


def test_fields_that_the_schema_does_not_know_do_not_matter():
    assert VALIDATOR.check(transaction(colour="blue"), NOW_US).keys() == {
        field.name for field in load_schema("transactions").fields
    }


@pytest.mark.parametrize("stream", STREAMS)
def test_every_stream_takes_an_event_of_required_fields_only(stream):
    schema = load_schema(stream)
    samples = {"string": "x-1", "long": 1, "double": 1.0, "boolean": True, "timestamp": NOW_US}
    event = {
        field.name: field.symbols[0] if field.kind == "enum" else samples[field.kind]
        for field in schema.fields
        if not field.nullable
    }
    if "currency" in event:
        event["currency"] = "EUR"
    taken = Validator(schema).check(event, NOW_US)
    assert {name: value for name, value in taken.items() if value is not None} == event
    assert msgspec.convert(taken, schema.struct)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("4111111111111111"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    stream=st.sampled_from(STREAMS),
    given_fields=st.dictionaries(
        st.sampled_from(sorted({field.name for stream in STREAMS for field in load_schema(stream).fields})), ANYTHING
    ),
)
def test_whatever_comes_is_taken_or_refused_with_its_field(stream, given_fields):
    event = transaction() | {"cart_id": "c", "action": "view", "quantity": 1} | given_fields
    try:
        taken = Validator(load_schema(stream)).check(event, NOW_US)
    except SchemaError as refused:
        assert refused.field in {field.name for field in load_schema(stream).fields}  # noqa: PT017
    else:
        assert msgspec.convert(taken, load_schema(stream).struct)
