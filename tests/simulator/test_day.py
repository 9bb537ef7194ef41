"""The company's day as a pure function of time: nothing here waits."""

import ipaddress
import json
import re
from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise

import msgspec
import pytest
from stdnum import luhn

from tidegate.simulator.company import CITIES, Company, spoiled_pan
from tidegate.simulator.day import Day
from tidegate.simulator.fraud import KINDS
from tidegate.simulator.story import LABEL_DELAY_S, SOURCES
from tidegate.streams.schema import STREAMS, load_schema

START_US = 1_760_000_000_000_000
RATE_PER_S = 500
CUSTOMERS = 5_000


def a_day(*, seed=7, start_us=START_US, rate_per_s=RATE_PER_S, fraud_share=0.01, spoiled_share=0.002):
    return Day(
        Company(seed, CUSTOMERS),
        start_us=start_us,
        rate_per_s=rate_per_s,
        fraud_share=fraud_share,
        spoiled_share=spoiled_share,
    )


def time_us(event, field="event_time"):
    return round(datetime.fromisoformat(event.body[field]).timestamp() * 1e6)


def fits(event):
    """Whether the event fits its schema once its times are integers, as the door makes them."""
    times = {name: time_us(event, name) for name in ("event_time", "expires_at") if name in event.body}
    try:
        msgspec.convert(event.body | times, load_schema(event.stream).struct)
    except msgspec.ValidationError:
        return False
    return True


@pytest.fixture(scope="module")
def minutes():
    """Two minutes of the day."""
    return a_day().until(START_US + 120_000_000)


@pytest.fixture(scope="module")
def sound(minutes):
    return [event for event in minutes if not event.spoiled]


# --- events -----------------------------------------------------------------------------------------------------------


def test_every_sound_event_fits_its_schema_and_holds_nothing_else(sound):
    for event in sound:
        assert fits(event), event.body
        assert event.body.keys() <= {field.name for field in load_schema(event.stream).fields}


def test_every_stream_and_every_source_is_there_and_each_source_writes_its_own(minutes):
    assert {event.stream for event in minutes} == set(STREAMS)
    assert {event.source for event in minutes} == set(SOURCES)
    assert all(event.stream in SOURCES[event.source] for event in minutes)


def test_only_transactions_of_shop_and_app_ask_for_decisions(minutes):
    asking = [event for event in minutes if event.decide]
    assert {event.source for event in asking} == {"shop", "app"}
    assert {event.stream for event in asking} == {"transactions"}


def test_ids_come_once_but_for_repeats(minutes):
    first = Counter(event.body["event_id"] for event in minutes if not event.again)
    assert set(first.values()) == {1}
    for event in minutes:
        assert re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", event.body["event_id"])


def test_repeats_are_equal_to_what_they_repeat(minutes):
    bodies = {event.body["event_id"]: event.body for event in minutes if not event.again}
    again = [event for event in minutes if event.again]
    assert again
    assert all(bodies[event.body["event_id"]] == event.body for event in again if event.body["event_id"] in bodies)


def test_most_events_are_sent_when_they_happen_and_some_late(sound):
    late_us = [event.send_us - time_us(event) for event in sound if not event.again]
    assert min(late_us) >= 0
    assert max(late_us) <= 5_000_000
    assert 0.002 < sum(late > 0 for late in late_us) / len(late_us) < 0.02


def test_events_come_in_order_of_sending(minutes):
    assert all(one.send_us <= other.send_us for one, other in pairwise(minutes))


def test_a_refund_names_an_approved_purchase_of_the_same_card(sound):
    transactions = {event.body["event_id"]: event.body for event in sound if event.stream == "transactions"}
    refunds = [body for body in transactions.values() if body["transaction_type"] == "refund"]
    assert refunds
    for refund in refunds:
        purchase = transactions.get(refund["original_event_id"])
        if purchase is not None:  # a late purchase may be sent after the end of these minutes
            assert purchase["transaction_type"] == "purchase"
            assert purchase["authorisation"] == "approved"
            assert purchase["pan"] == refund["pan"]
            assert refund["amount_minor"] <= purchase["amount_minor"]


def test_ordinary_life_holds_what_it_should(sound):
    def found(stream, field, value):
        return any(event.body.get(field) == value for event in sound if event.stream == stream)

    assert all(found("transactions", "channel", channel) for channel in ("pos", "ecommerce", "mobile"))
    assert all(found("transactions", "authorisation", answer) for answer in ("approved", "declined"))
    assert all(found("carts", "action", action) for action in ("add", "remove", "checkout"))
    assert all(found("sessions", "action", action) for action in ("login", "login_failed", "view", "logout"))


def test_carts_are_checked_out_or_left(sound):
    carts = defaultdict(set)
    for event in sound:
        if event.stream == "carts":
            carts[event.body["cart_id"]].add(event.body["action"])
    finished = [actions for actions in carts.values() if actions != {"add"}]
    checked_out = sum("checkout" in actions for actions in finished)
    assert 0.5 < checked_out / len(finished) < 0.7


def test_shelves_empty_and_are_filled():
    events = a_day(rate_per_s=1000).until(START_US + 180_000_000)
    shelves = defaultdict(list)
    for event in events:
        if event.stream == "stock" and not event.spoiled:
            shelves[event.body["shop_id"], event.body["sku"]].append((time_us(event), event.body["quantity"]))
    changes = [after - before for shelf in shelves.values() for (_, before), (_, after) in pairwise(sorted(shelf))]
    assert any(change < 0 for change in changes)
    assert any(change > 0 for change in changes)


# --- rates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_per_s", [100, 500])
def test_the_rate_is_kept_once_the_day_has_begun(rate_per_s):
    day = a_day(rate_per_s=rate_per_s)
    day.until(START_US + 60_000_000)
    events = day.until(START_US + 60_000_000 + 15_000_000_000 // rate_per_s)
    assert 0.9 < len(events) / 15_000 < 1.1


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1])
def test_the_share_of_fraud_is_kept(share):
    events = a_day(fraud_share=share).until(START_US + 60_000_000)
    transactions = [event for event in events if event.stream == "transactions"]
    frauds = sum(event.fraud is not None for event in transactions)
    assert 0.75 * share <= frauds / len(transactions) <= 1.25 * share


@pytest.mark.parametrize("share", [0.0, 0.002, 0.05])
def test_the_share_of_spoiled_events_is_kept(share):
    events = a_day(spoiled_share=share).until(START_US + 120_000_000)
    assert 0.7 * share <= sum(event.spoiled for event in events) / len(events) <= 1.3 * share


def test_repeats_are_few(minutes):
    assert 0.001 < sum(event.again for event in minutes) / len(minutes) < 0.006


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_equal_seeds_play_equal_days_in_whatever_steps():
    whole = a_day().until(START_US + 30_002_000)
    day = a_day()
    steps = [event for step in range(7_000, 30_007_000, 7_000) for event in day.until(START_US + step)]
    assert steps == whole


def test_other_seeds_and_other_starts_play_other_days():
    ids = [
        {event.body["event_id"] for event in a_day(seed=seed, start_us=start).until(start + 10_000_000)}
        for seed, start in ((7, START_US), (8, START_US), (7, START_US + 1_000))
    ]
    assert ids[0].isdisjoint(ids[1])
    assert ids[0].isdisjoint(ids[2])


def test_customers_are_the_same_in_every_run():
    one, other = Company(7, CUSTOMERS), Company(7, CUSTOMERS)
    assert [one.customer(number) for number in (4_999, 0, 17)] == [other.customer(number) for number in (4_999, 0, 17)]
    assert Company(8, CUSTOMERS).customer(0) != one.customer(0)


# --- fraud ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_per_s", [200, 500])
def test_a_minute_shows_every_kind_of_fraud(rate_per_s):
    events = a_day(rate_per_s=rate_per_s).until(START_US + 60_000_000)
    kinds = {event.fraud for event in events} - {None}
    assert kinds == {kind.__name__ for kind in KINDS}
    assert len(kinds) == 6


def test_every_fraud_is_charged_back_and_some_genuine_payments_are_cleared():
    day = a_day()
    first = day.until(START_US + 60_000_000)
    later = day.until(START_US + 120_000_000)
    labels = {e.body["transaction_id"]: e for e in first + later if e.stream == "labels" and not e.spoiled}
    transactions = {event.body["event_id"]: event for event in first + later if event.stream == "transactions"}
    for event in first:
        if event.fraud and not event.again:
            label = labels[event.body["event_id"]]
            assert label.body["is_fraud"]
            assert label.body["source"] == "chargeback"
            assert LABEL_DELAY_S[0] <= (time_us(label) - time_us(event)) / 1e6 <= LABEL_DELAY_S[1]
    cleared = [label for label in labels.values() if not label.body["is_fraud"]]
    assert cleared
    for label in cleared:
        assert label.body["source"] == "analyst"
        assert transactions[label.body["transaction_id"]].fraud is None


def stories(events, kind):
    """The fraudulent transactions of a kind, by what a story of that kind has in common."""
    common = {"compromised_terminal": "terminal_id", "refund_abuse": "original_event_id"}.get(kind, "pan")
    found = defaultdict(list)
    for event in events:
        if event.fraud == kind and not event.again:
            found[event.body[common]].append(event.body)
    return list(found.values())


@pytest.fixture(scope="module")
def frauds():
    return a_day(fraud_share=0.2).until(START_US + 90_000_000)


def whole(events, kind, size):
    found = [story for story in stories(events, kind) if len(story) == size]
    assert found
    return found


def test_card_testing_is_tiny_amounts_and_then_a_large_one(frauds):
    for story in whole(frauds, "card_testing", 5):
        amounts = sorted(body["amount_minor"] for body in story)
        assert all(amount < 100 for amount in amounts[:4])
        assert amounts[4] >= 50_000
        assert len({body["device_id"] for body in story}) == 1
        assert all(body["ip_country"] != body["card_country"] for body in story)


def test_a_stolen_card_pays_in_many_shops(frauds):
    for story in whole(frauds, "stolen_card", 7):
        assert len({body["merchant_id"] for body in story}) == 7
        assert min(body["amount_minor"] for body in story) >= 30_000


def test_a_taken_over_account_buys_from_a_strange_device(frauds):
    sound = [event.body for event in frauds if not event.spoiled]
    changes = {body["session_id"] for body in sound if body.get("action") == "password_change"}
    customers = {customer.customer_id: customer for customer in map(Company(7, CUSTOMERS).customer, range(CUSTOMERS))}
    for story in whole(frauds, "account_takeover", 3):
        victim = customers[story[0]["customer_id"]]
        assert {body["session_id"] for body in story} <= changes
        assert {body["device_id"] for body in story}.isdisjoint(victim.devices)
        assert story[0]["pan"] == victim.pan


def test_impossible_travel_is_impossible(frauds):
    cities = {(shop.terminals[0].latitude, shop.terminals[0].longitude): shop.city for shop in Company(7, 1).shops}
    homes = {customer.pan: customer.city for customer in map(Company(7, CUSTOMERS).customer, range(CUSTOMERS))}
    for story in whole(frauds, "impossible_travel", 2):
        for body in story:
            city = cities[body["terminal_latitude"], body["terminal_longitude"]]
            assert abs(city.longitude - homes[body["pan"]].longitude) > 50


def test_a_compromised_terminal_charges_many_cards(frauds):
    for story in stories(frauds, "compromised_terminal"):
        if len(story) >= 8:
            assert len({body["pan"] for body in story}) >= 7


def test_refund_abuse_gives_back_more_than_was_paid(frauds):
    paid = {event.body["event_id"]: event.body["amount_minor"] for event in frauds if event.stream == "transactions"}
    for story in whole(frauds, "refund_abuse", 4):
        assert sum(body["amount_minor"] for body in story) > paid[story[0]["original_event_id"]]


# --- spoiled ----------------------------------------------------------------------------------------------------------


def test_every_spoiled_event_is_wrong_and_only_those():
    events = a_day(spoiled_share=0.4).until(START_US + 60_000_000)
    spoiled = [event for event in events if event.spoiled]
    assert {event.stream for event in spoiled} == set(STREAMS)
    for event in spoiled:
        wrong_currency = event.body.get("currency") == "QQQ"
        wrong_pan = "pan" in event.body and not luhn.is_valid(event.body["pan"])
        assert wrong_currency or wrong_pan or not fits(event), event.body
    assert any("pan" in event.body and not luhn.is_valid(event.body["pan"]) for event in spoiled)


# --- people -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def company():
    return Company(7, CUSTOMERS)


def test_nobody_shares_a_number_a_card_or_an_address(company):
    customers = [company.customer(number) for number in range(CUSTOMERS)]
    for name in ("customer_id", "pan", "ip"):
        values = {getattr(customer, name) for customer in customers}
        values |= {getattr(fraudster, name, None) for fraudster in company.fraudsters} - {None}
        assert len(values) == CUSTOMERS + (0 if name == "pan" else len(company.fraudsters))


def test_cards_lie_in_test_ranges_and_have_a_right_check_digit(company):
    for number in range(CUSTOMERS):
        pan = company.customer(number).pan
        assert luhn.is_valid(pan)
        assert len(pan) == 16
        assert pan.startswith(("411111", "401288", "424242", "555555", "510510", "222300"))
        assert not luhn.is_valid(spoiled_pan(pan))


def test_everything_that_reaches_a_person_is_reserved_for_fiction(company):
    networks = ["198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "10.0.0.0/8"]
    networks = [ipaddress.ip_network(network) for network in networks]
    phones = re.compile(r"\+336399[89]\d{4}|\+447700900\d{3}|\+493023125\d{3}|\+1\d{3}55501\d{2}")
    people = [company.customer(number) for number in range(CUSTOMERS)]
    for person in (*people, *company.fraudsters):
        address = ipaddress.ip_address(person.ip)
        assert any(address in network for network in networks if network.version == address.version)
    for contact in (*(c for person in people for c in person.contacts), *(f.contact for f in company.fraudsters)):
        assert phones.fullmatch(contact.phone)
        assert contact.email.isascii()
        assert contact.email.endswith(("@example.com", "@example.org"))


def test_the_personal_values_are_all_that_any_event_holds(company):
    known = set(company.personal_values())
    held = {
        event.body[field]
        for event in a_day(fraud_share=0.1, spoiled_share=0.1).until(START_US + 30_000_000)
        for field in load_schema(event.stream).personal
        if isinstance(event.body.get(field), str)
    }
    assert len(held) > 5_000
    assert held <= known


def test_no_other_field_holds_a_personal_value(sound, company):
    known = set(company.personal_values())
    for event in sound:
        clear = {name: value for name, value in event.body.items() if name not in load_schema(event.stream).personal}
        assert known.isdisjoint(str(value) for value in clear.values())
        assert "@" not in json.dumps(clear)


def test_a_customer_is_about_for_half_of_the_day(company):
    for number in range(48):
        assert sum(company.is_up(number, hour) for hour in range(24)) == 12


def test_every_city_has_somebody(company):
    assert {company.customer(number).city for number in range(500)} == set(CITIES)
