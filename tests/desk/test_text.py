from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.contracts.test_hotstore import revision

from tidegate.desk import text
from tidegate.streams.decision import Counterfactual


@pytest.mark.parametrize(
    ("amount_minor", "currency", "written"),
    [
        (123_456, "EUR", "1,234.56 EUR"),
        (5, "USD", "0.05 USD"),
        (5000, "JPY", "5,000 JPY"),
        (1234, "KWD", "1.234 KWD"),
        (100, None, "1.00"),
        (None, "EUR", text.NONE),
    ],
)
def test_money_is_written_as_its_currency_is(amount_minor, currency, written):
    assert text.money(amount_minor, currency) == written


@given(st.integers(0, 2**63 - 1), st.sampled_from(["EUR", "JPY", "KWD"]))
@example(2**63 - 1, "EUR")
def test_no_minor_unit_is_lost(amount_minor, currency):
    digits = text.money(amount_minor, currency).partition(" ")[0].replace(",", "").replace(".", "")
    assert int(digits) == amount_minor


def test_a_card_shows_its_two_parts_only():
    assert text.card("411111", "1234") == "411111 ···· 1234"
    assert text.card(None, "1234") == "······ ···· 1234"
    assert text.card(None, None) == text.NONE


def test_a_token_is_cut_short():
    assert text.short_token("customer_ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "ABCDEFGH"
    assert text.short_token(None) == text.NONE


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("count", 1_234_567, "1,234,567"),
        ("sum_minor", 1050, "10.50 EUR"),
        ("is_new", True, "yes"),
        ("ratio", 0.123456, "0.1235"),
        ("distance", 123_456.78, "123,456.8"),
        ("nothing", None, text.NONE),
        ("odd", float("nan"), "nan"),
        ("country", "DE", "DE"),
    ],
)
def test_features_are_written_by_kind(name, value, written):
    assert text.feature(name, value, "EUR") == written


def test_times_carry_the_date_only_when_it_is_another():
    at_us = int(datetime(2026, 3, 1, 14, 2, 11, 123_000, UTC).timestamp() * 1_000_000)
    assert text.clock_time(at_us, at_us // 1000) == "14:02:11"
    assert text.clock_time(at_us, at_us // 1000 + 24 * 3_600_000) == "01 Mar 14:02"
    assert text.full_time(at_us) == "2026-03-01 14:02:11.123 UTC"


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_time_can_be_written(time_us):
    assert text.full_time(time_us).endswith("UTC")


def test_spans_take_the_unit_that_fits():
    assert text.span(812) == "812 µs"
    assert text.span(21_000) == "21.0 ms"
    assert text.span(7_200_000_000) == "7,200.0 s"


def test_names_become_words():
    assert [text.words(name) for name in ("ip_country", "pan", "card_present")] == ["IP country", "PAN", "Card present"]


def test_what_would_have_been_is_told_in_words():
    told = [Counterfactual("amount_minor", 48000, "approve"), Counterfactual("card_present", True, "review")]
    assert text.would_have_been(told[0], "EUR") == "Had the amount been 480.00 EUR, it would have been approved."
    assert text.would_have_been(told[1], "EUR") == "Had the card present been yes, it would have been reviewed."


def test_a_revision_is_told_in_words():
    told = revision(1, 1)
    assert text.revised(told) == ("Revised from approve to review on 1970-01-01 00:00:00.000 UTC, score 0 to 60.")
    assert text.cause(told.causes[0]) == "Because labels label-9 of 1970-01-01 00:00:00.000 UTC had not arrived yet."


def test_which_way_a_feature_moved_the_model():
    assert text.moved(1.234) == "towards fraud, +1.23"
    assert text.moved(-0.5) == "away from fraud, -0.50"
