import re

import pytest
from playwright.sync_api import Page, expect
from tests.browser.door import REVEALED
from tests.browser.running import Desk, sign_in

from tidegate.desk.alert_list import alert_path


@pytest.fixture
def alert(desk: Desk):
    transaction = desk.stream.transaction(pan="pan_ONE", pan_last4="4242", customer_id="customer_ONE")
    desk.stream.decide(desk.stream.transaction(pan="pan_ONE", customer_id="customer_ONE", amount_minor=990))
    return desk.stream.decide(
        transaction, reasons=["Five cards from one address within an hour", "The device is new to the customer"]
    )


def test_the_page_tells_why_and_what_is_around(desk: Desk, live: Page, alert):
    live.goto(alert_path(alert.event_id))
    expect(live.locator(".reasons li")).to_have_text([re.compile(reason) for reason in alert.reasons])
    head = live.locator(".case-head")
    for text in ("85", "decline", "1,299.00 EUR", "411111 ···· 4242"):
        expect(head).to_contain_text(text)
    features = live.locator(".card", has_text="Features")
    for name, value in (("card_sum_24h_minor", "4,812.00 EUR"), ("amount_to_mean", "11.37"), ("is_new_device", "yes")):
        expect(features.locator("tr", has_text=name)).to_contain_text(value)
    expect(features.locator("tr", has_text="merchant_fraud_rate_30d")).to_contain_text("defaulted")
    features.get_by_placeholder("Filter features").fill("24h")
    expect(features.locator("tbody tr")).to_have_count(1)
    recent = live.locator(".card", has_text="Around it")
    expect(recent.locator("tr.marked")).to_contain_text("1,299.00 EUR")
    expect(recent.locator("tbody tr", has_text="9.90 EUR").first).to_be_visible()
    rules = live.locator(".rules")
    expect(rules.locator("li", has_text="card_velocity")).to_contain_text("fired")
    expect(rules.locator("li", has_text="many_cards_one_ip")).to_contain_text("shadow")
    decision = desk.ports.hotstore.decision(alert.event_id)
    assert decision
    for text in ("card_fraud 3", "2026-02-11", decision.hash, "812 µs"):
        expect(live.get_by_text(text)).to_be_visible()


def test_features_sort_by_their_values(desk: Desk, live: Page):
    alert = desk.stream.decide(desk.stream.transaction(), features={"a": 1200, "b": 9.5, "c": 300})
    live.goto(alert_path(alert.event_id))
    features = live.locator(".card", has_text="Features")
    features.get_by_role("button", name="Value").click()
    expect(features.locator("tbody tr td:first-child")).to_have_text(["b", "c", "a"])
    features.get_by_role("button", name="Value").click()
    expect(features.locator("tbody tr td:first-child")).to_have_text(["a", "c", "b"])


def test_a_verdict_goes_to_the_door_and_stays(desk: Desk, live: Page, alert):
    live.goto(alert_path(alert.event_id))
    expect(live.get_by_text("No verdict yet")).to_be_visible()
    live.keyboard.press("f")
    live.get_by_role("button", name="Stolen card").click()
    live.get_by_role("dialog").get_by_role("button", name="Mark as fraud").click()
    expect(live.locator(".known .verdict")).to_have_text("fraud")
    expect(live.locator(".known")).to_contain_text("Stolen card")
    live.reload()
    expect(live.locator(".known .verdict")).to_have_text("fraud")
    expect(live.locator("tr.marked")).to_contain_text("fraud")
    label = desk.door.labels[-1]
    assert label["transaction_id"] == alert.event_id
    assert (label["is_fraud"], label["source"], label["reason"]) == (True, "analyst", "Stolen card")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", label["event_time"])
    entry = [entry for entry in desk.ports.audit.entries() if entry.what == "verdict"][-1]
    assert (entry.who, entry.on, entry.outcome) == ("mara", alert.event_id, "done")


def test_a_verdict_from_the_list_needs_no_mouse(desk: Desk, live: Page):
    alert = desk.stream.decide(desk.stream.transaction(pan_last4="3131"))
    row = live.locator("a.alert-row").first
    expect(row).to_contain_text("3131")
    live.keyboard.press("j")
    live.keyboard.press("g")
    expect(live.get_by_role("dialog")).to_contain_text("Mark as genuine")
    expect(live.get_by_label("Reason")).to_be_focused()
    live.keyboard.type("Known travel")
    live.keyboard.press("Enter")
    expect(row.locator(".verdict")).to_have_text("genuine")
    assert desk.door.labels[-1]["transaction_id"] == alert.event_id


def test_what_the_door_refuses_is_told(desk: Desk, live: Page, alert):
    live.goto(alert_path(alert.event_id))
    expect(live.get_by_text("No verdict yet")).to_be_visible()
    desk.door.refuse = "labels: reason may not hold a card number"
    live.keyboard.press("g")
    live.get_by_role("dialog").get_by_role("button", name="Mark as genuine").click()
    expect(live.get_by_role("alert")).to_contain_text("reason may not hold a card number")
    desk.door.refuse = None
    live.get_by_role("dialog").get_by_role("button", name="Mark as genuine").click()
    expect(live.locator(".known .verdict")).to_have_text("genuine")


def test_personal_data_is_masked_until_it_is_revealed(desk: Desk, live: Page, alert):
    live.goto(alert_path(alert.event_id))
    personal = live.locator(".card", has_text="Personal data")
    expect(personal).to_contain_text("········")
    for token in ("email_ABC", "ip_ABC", "pan_ONE"):
        assert token not in live.content()
    live.get_by_role("button", name="Reveal").click()
    for value in REVEALED.values():
        expect(personal).to_contain_text(value)
    assert desk.door.revealed[-1] == ("mara", alert.event_id)
    expect(personal.get_by_text("That you saw it is on record")).to_be_visible()
    # The tests' desk conceals it after a moment, not a minute.
    expect(personal).not_to_contain_text(REVEALED["email"])
    expect(personal).to_contain_text("········")


def test_who_may_not_judge_or_reveal_sees_no_button_for_it(desk: Desk, page: Page, alert):
    sign_in(page, "audrey")
    expect(page.get_by_role("region", name="Alerts")).to_be_visible()
    page.goto(alert_path(alert.event_id))
    expect(page.locator(".case-head")).to_contain_text("4242")
    for name in ("Fraud", "Genuine", "Reveal"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    labels, revealed = len(desk.door.labels), len(desk.door.revealed)
    for key in ("f", "g", "r"):
        page.keyboard.press(key)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Keys")
    expect(page.locator(".card", has_text="Personal data")).to_contain_text("········")
    assert (len(desk.door.labels), len(desk.door.revealed)) == (labels, revealed)


def test_a_decision_that_is_late_in_the_hot_store_is_waited_for(desk: Desk, live: Page):
    transaction = desk.stream.transaction(pan_last4="2323")
    alert = desk.stream.decide(transaction, decided=False)
    live.goto(alert_path(alert.event_id))
    expect(live.get_by_text("The decision is on its way here.")).to_be_visible()
    desk.stream.decide(transaction)
    expect(live.locator("td", has_text="card_count_2h")).to_be_visible()


def test_look_up_finds_decisions_and_customers(desk: Desk, live: Page, alert):
    live.keyboard.press("d")
    field = live.get_by_label("Event id, or customer token")
    field.fill("no-such-event")
    live.keyboard.press("Enter")
    expect(live.get_by_role("status")).to_contain_text("Nothing by that name")
    field.fill(alert.event_id)
    live.keyboard.press("Enter")
    expect(live).to_have_url(f"{desk.url}/decisions/{alert.event_id}")
    live.get_by_role("link", name="All of this customer").click()
    expect(live).to_have_url(f"{desk.url}/customers/customer_ONE")
    expect(live.locator("tbody tr").first).to_be_visible()
    live.locator("tbody tr a").first.click()
    expect(live.locator(".case-head")).to_be_visible()
