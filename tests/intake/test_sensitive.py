import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.intake.decode import decode
from tidegate.intake.sensitive import (
    _IN_TEXT,
    _REMOVED,
    is_card_number,
    is_sensitive_name,
    mask_undecodable,
    personal_in,
    strip_sensitive,
)
from tidegate.streams.schema import STREAMS, load_schema

SENSITIVE_NAMES = [
    *(
        "cvv",
        "CVV",
        "cvv2",
        "CVV2",
        "cvc",
        "cvc2",
        "cvcCode",
        "card_cvv",
        "cardCvv",
        "card-cvv",
        "cvv_number",
        "c.v.v",
        "C-V-V",
    ),
    *("CardVerificationValue", "security_code", "cardSecurityCode", "cid", "CID", "csc", "CAV2", "track1", "track2"),
    *("track_1", "Track2Data", "trackData", "track_2_data", "track2EquivalentData", "fullTrack", "magstripe"),
    *(
        "magneticStripeData",
        "pin",
        "PIN",
        "pinBlock",
        "pin_block",
        "PINBlock",
        "encryptedPinBlock",
        "card_pin",
        "cardPIN",
    ),
    *("userPin", "mpin", "ｃｖｖ"),
]

HARMLESS_NAMES = [
    *(
        "shipping",
        "shipping_address",
        "spin",
        "opinion",
        "incident_id",
        "accident",
        "tracking_number",
        "merchant_category",
    ),
    *("pinned", "customer_id", "cart_id", "terminal_id", "device_id", "session_id", "postcode", "coupon_code"),
]


@pytest.mark.parametrize("name", SENSITIVE_NAMES)
def test_sensitive_data_is_known_however_it_is_spelt(name):
    assert is_sensitive_name(name)
    event = {"a": 1, name: "987", "b": {"c": [{name: "987"}, {"name": name, "value": "987"}]}}
    assert decode(json.dumps(event).encode()) == {"a": 1, "b": {"c": [{}, {}]}}
    assert decode(json.dumps({name: "987"}, ensure_ascii=False).encode()) == {}


@pytest.mark.parametrize("name", HARMLESS_NAMES)
def test_other_names_are_left_alone(name):
    assert not is_sensitive_name(name)
    assert decode(json.dumps({name: "987"}).encode()) == {name: "987"}


def test_no_field_of_a_stream_is_taken_for_sensitive():
    assert not [field.name for s in STREAMS for field in load_schema(s).fields if is_sensitive_name(field.name)]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("%B4111111111111111^DOE/JOHN^28121010000000000000?", "[removed]"),
        (";4111111111111111=28121010000000000000?", "[removed]"),
        ("4111111111111111D28121010000000000", "[removed]"),
        ("she said CVV: 123 on the phone", "she said [removed] on the phone"),
        ("cvv2=1234, thanks", "[removed], thanks"),
        ('{"cvc":"123"}', '{"[removed]"}'),
        ("his PIN is 0815", "his [removed]"),
        ("his pin code is 0815", "his [removed]"),
        ("a pin for 20 dollars", "a pin for 20 dollars"),
        ("4111111111111111", "4111111111111111"),
        ("a=1", "a=1"),
    ],
)
def test_sensitive_data_in_a_text_is_removed(text, kept):
    for place in ({"note": text}, {"list": [text]}, {"deep": {"er": [{"note": text}]}}):
        wanted = json.loads(json.dumps(place).replace(json.dumps(text), json.dumps(kept)))
        assert decode(json.dumps(place).encode()) == wanted


LETTERS = st.text(st.sampled_from('cvdpintrak123=^D?%B45678 _-."é{['), max_size=40)


@given(st.dictionaries(LETTERS, LETTERS, max_size=4))
def test_looking_for_hints_first_overlooks_nothing(event):
    assert decode(json.dumps(event, ensure_ascii=False).encode()) == strip_sensitive(event)


def test_undecodable_bytes_keep_their_form_and_lose_their_digits():
    assert mask_undecodable(b'{"cvv": "123", "n": 4111\xff') == b'{"cvv": "###", "n": ####\xff'


@pytest.mark.parametrize("number", ["4111111111111111", "5555555555554444", "378282246310005", "2223003122003222"])
def test_a_card_number_in_a_text_is_seen(number):
    assert is_card_number(number)
    groups = " ".join(number[i : i + 4] for i in range(0, 16, 4)) if len(number) == 16 else number
    for text in (number, f"card {number}.", f"tx-{number}", f"x:{groups}"):
        assert personal_in(text) == "a card number"


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # the check digit is wrong
        "1780000000000000",  # microseconds: no scheme begins with 1
        "4111-1111-1111-1111-1111",
        "41111111111111111111",
        "a4111111111111111f",  # within a hexadecimal number
        "123e4567-e89b-12d3-a456-426614174000",
        "invoice 2026-05-28",
        "m-1",
        "@",
    ],
)
def test_other_numbers_are_no_card_numbers(text):
    assert personal_in(text) is None


@given(st.uuids())
def test_no_uuid_is_taken_for_a_card_number(uuid):
    assert personal_in(str(uuid)) is None


def test_an_email_address_in_a_text_is_seen():
    assert personal_in("ask zoe@example.org") == "an e-mail address"


#: Pieces of texts that hold such data, or nearly.
PIECES = [
    *(
        "cvv",
        "CVV2",
        "cvc",
        "Pin",
        "pın",
        "security code",
        "SECURİTY CODE",
        "cıd",
        "ſecurity code",
        "csc",
        "is",
        "code",
    ),
    *("number", "ſ", "123", "1234567890123", "4111111111111111", "١٢٣", "=", "D", "d", "^", "%B", "b", ";", "?", " "),
    *("\n", "\t", '"', "\\", "\x01", ":", "é", "x", "shop", "-"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.booleans())
def test_a_hundred_times_faster_nothing_is_missed(pieces, is_nested):
    text = "".join(pieces)
    event = {"note": [{"text": text}] if is_nested else text}
    stripped = json.loads(json.dumps(event), object_hook=lambda fields: {k: without(v) for k, v in fields.items()})
    assert decode(json.dumps(event).encode()) == stripped


def without(value):
    return _IN_TEXT.sub(_REMOVED, value) if isinstance(value, str) else value


@given(
    st.lists(
        st.sampled_from(["c", "v", "p", "i", "n", "_", "-", ".", "Track", "ｃ", "security", "code", "x"]), max_size=6
    )
)
def test_an_object_that_says_a_sensitive_name_is_emptied(pieces):
    said = "".join(pieces)
    left = decode(json.dumps({"many": [{"name": said, "value": "1"}]}).encode())
    assert left == {"many": [{} if is_sensitive_name(said) else {"name": said, "value": "1"}]}
