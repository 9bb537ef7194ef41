"""One form for each class of personal value."""

from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidegate.streams.personal import normalise
from tidegate.streams.schema import PersonalClass

CLASSES = get_args(PersonalClass)


@settings(deadline=None)
@given(personal=st.sampled_from(CLASSES), value=st.text())
@example(personal="name", value="ŉ")
@example(personal="email", value="İ@example.com")
def test_a_form_is_its_own_form(personal, value):
    assert normalise(personal, normalise(personal, value)) == normalise(personal, value)


@pytest.mark.parametrize("personal", CLASSES)
def test_unlike_values_without_a_form_do_not_meet(personal):
    assert normalise(personal, "n/a") != normalise(personal, "?")


@pytest.mark.parametrize(
    ("personal", "one", "other"),
    [
        ("pan", "4111-1111 1111 1111", "4111111111111111"),
        ("pan", "４１１１111111111111", "4111111111111111"),
        ("email", "ANNA@Example.com\n", "anna@example.com"),
        ("phone", "+49 (30) 23125-000", "004930 23125000"),
        ("name", "ANNA  Straße", "anna strasse"),
        ("name", "Jose\u0301", "josé"),
        ("address", "1 Ｍain\tStreet", "1 main street"),
        ("ip", "::ffff:192.0.2.1", "192.0.2.1"),
        ("ip", "2001:0DB8::0001", "2001:db8:0:0::1"),
        ("geo", "52.5163,13.3777", "52.5214, 13.3820"),
        ("geo", "-0.0001,0.0", "0,-0.004"),
        ("birth_date", "1980-02-03", "19800203"),
        ("national_id", "AB 12-34.5/6", "ab123456"),
        ("customer", " C-1", "C-1"),
        ("device", "d1 ", "d1"),
    ],
)
def test_one_value_in_two_spellings_has_one_form(personal, one, other):
    assert normalise(personal, one) == normalise(personal, other)


@pytest.mark.parametrize(
    ("personal", "one", "other"),
    [
        ("email", "an.na@example.com", "anna@example.com"),
        ("email", "anna+x@example.com", "anna@example.com"),
        ("phone", "4930123456", "+4930123456"),
        ("ip", "192.0.2.1", "192.0.2.10"),
        ("geo", "52.52,13.40", "52.53,13.40"),
        ("geo", "nan,nan", "inf,inf"),
        ("customer", "c-1", "C-1"),
    ],
)
def test_unlike_values_stay_unlike(personal, one, other):
    assert normalise(personal, one) != normalise(personal, other)
