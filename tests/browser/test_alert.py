import re
import uuid
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page, expect
from tests.browser.running import Company, sign_in

from tidegate.desk.alert_list import alert_path
from tidegate.streams.decision import Contribution, Counterfactual, Explanation

#: As a shop sends it. Nothing of it that is personal may be on the screen before it is revealed.
PERSONAL = {
    "pan": "4111111111111111",
    "cardholder_name": "Ada Lovelace",
    "email": "ada@example.org",
    "ip": "203.0.113.7",
}


@pytest.fixture
def alert(company: Company):
    """Of a transaction that came through the door, of a customer who was seen before."""

    customer_id = f"C-{uuid.uuid4()}"

    def take(amount_minor: int):
        return company.take(
            PERSONAL
            | {
                "customer_id": customer_id,
                "event_id": str(uuid.uuid4()),
                "event_time": datetime.now(UTC).isoformat(),
                "transaction_type": "purchase",
                "channel": "ecommerce",
                "card_present": False,
                "authorisation": "approved",
                "merchant_id": "shop-0042",
                "amount_minor": amount_minor,
                "currency": "EUR",
            }
        )

    company.stream.decide(take(990))
    reasons = ["Five cards from one address within an hour", "The device is new to the customer"]
    return company.stream.decide(take(129_900), reasons=reasons)


def test_the_page_tells_what_would_have_changed_it(company: Company, live: Page):
    told = Explanation(
        contributions=[Contribution("amount_to_mean", 1.9), Contribution("card_count_2h", -0.4)],
        counterfactuals=[
            Counterfactual("amount_minor", 47_999, "approve"),
            Counterfactual("card_present", value=True, outcome="review"),
        ],
    )
    alert = company.stream.decide(company.stream.transaction(), explanation=told)
    live.goto(alert_path(alert.event_id))
    changed = live.locator(".card", has_text="What would have changed it").locator("li")
    expect(changed).to_have_count(2)
    expect(changed.first).to_contain_text("479.99 EUR")
    expect(changed.first).to_contain_text("approve")
    expect(changed.last).to_contain_text("review")
    moved = live.locator(".card", has_text="What moved the model")
    expect(moved).to_contain_text("amount_to_mean = 11.37")
    expect(moved).to_contain_text("card_count_2h = 7")


def test_the_page_tells_why_and_what_is_around(company: Company, live: Page, alert):
    live.goto(alert_path(alert.event_id))
    expect(live.locator(".reasons li")).to_have_text([re.compile(reason) for reason in alert.reasons])
    head = live.locator(".case-head")
    for text in ("85", "decline", "1,299.00 EUR", "411111 ···· 1111"):
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
    expect(rules.locator("li", has_text="card_velocity")).to_contain_text("+60")
    expect(rules.locator("li", has_text="many_cards_one_ip")).to_contain_text("shadow")
    decision = company.ports.hotstore.decision(alert.event_id)
    assert decision
    for text in ("card_fraud 3", "2026-02-11", decision.hash, "812 µs"):
        expect(live.get_by_text(text)).to_be_visible()


def test_features_sort_by_their_values(company: Company, live: Page):
    alert = company.stream.decide(company.stream.transaction(), features={"a": 1200, "b": 9.5, "c": 300})
    live.goto(alert_path(alert.event_id))
    features = live.locator(".card", has_text="Features")
    features.get_by_role("button", name="Value").click()
    expect(features.locator("tbody tr td:first-child")).to_have_text(["b", "c", "a"])
    features.get_by_role("button", name="Value").click()
    expect(features.locator("tbody tr td:first-child")).to_have_text(["a", "c", "b"])


def test_a_verdict_goes_to_the_door_and_stays(company: Company, live: Page, alert):
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
    label = company.labels()[-1]
    assert label["transaction_id"] == alert.event_id
    assert (label["is_fraud"], label["source"], label["reason"]) == (True, "analyst", "Stolen card")
    (recent,) = (
        seen for seen in company.ports.hotstore.recent("pan", alert.pan, 100) if seen.event_id == alert.event_id
    )
    assert recent.is_fraud is True
    entry = [entry for entry in company.ports.audit.entries() if entry.what == "verdict"][-1]
    assert (entry.who, entry.on, entry.outcome) == ("mara", alert.event_id, "done")


def test_a_verdict_from_the_list_needs_no_mouse(company: Company, live: Page):
    alert = company.stream.decide(company.stream.transaction(pan_last4="3131"))
    row = live.locator("a.alert-row").first
    expect(row).to_contain_text("3131")
    live.keyboard.press("j")
    live.keyboard.press("g")
    expect(live.get_by_role("dialog")).to_contain_text("Mark as genuine")
    expect(live.get_by_label("Reason")).to_be_focused()
    live.keyboard.type("Known travel")
    live.keyboard.press("Enter")
    expect(row.locator(".verdict")).to_have_text("genuine")
    assert company.labels()[-1]["transaction_id"] == alert.event_id


def test_a_verdict_that_the_door_refuses_is_told(company: Company, live: Page):
    too_long = "an id longer than the schema allows " * 40
    alert = company.stream.decide(company.stream.transaction(event_id=too_long), decided=False)
    live.goto(alert_path(alert.event_id))
    expect(live.get_by_text("No verdict yet")).to_be_visible()
    before = company.labels()
    live.keyboard.press("g")
    live.get_by_role("dialog").get_by_role("button", name="Mark as genuine").click()
    expect(live.get_by_role("alert")).to_contain_text(re.compile(r"The door refused \(422\): .*transaction_id"))
    live.keyboard.press("Escape")
    expect(live.get_by_text("No verdict yet")).to_be_visible()
    assert company.labels() == before
    entry = [entry for entry in company.ports.audit.entries() if entry.what == "verdict"][-1]
    assert (entry.who, entry.on, entry.outcome) == ("mara", alert.event_id, "refused")


def test_what_cannot_be_revealed_any_more_is_told(company: Company, live: Page, alert):
    live.goto(alert_path(alert.event_id))
    expect(live.get_by_role("button", name="Reveal")).to_be_visible()
    company.keys.destroy(alert.customer_id)
    live.keyboard.press("r")
    expect(live.get_by_role("status")).to_contain_text("The door refused (410)")
    expect(live.locator(".card", has_text="Personal data")).to_contain_text("········")


@pytest.mark.timed
def test_personal_data_is_masked_until_it_is_revealed(company: Company, live: Page, alert):
    live.goto(alert_path(alert.event_id))
    personal = live.locator(".card", has_text="Personal data")
    expect(personal).to_contain_text("········")
    content = live.content()
    for secret in (*PERSONAL.values(), alert.pan, "email_"):
        assert secret not in content
    live.get_by_role("button", name="Reveal").click()
    for value in PERSONAL.values():
        expect(personal).to_contain_text(value)
    expect(personal.get_by_text("That you saw it is on record")).to_be_visible()
    entry = [entry for entry in company.ports.audit.entries() if entry.what == "reveal"][-1]
    assert (entry.who, entry.on, entry.outcome) == ("mara", alert.event_id, "done")
    # The tests' desk conceals it after a moment, not a minute.
    expect(personal).not_to_contain_text(PERSONAL["email"])
    expect(personal).to_contain_text("········")


def test_who_may_not_judge_or_reveal_sees_no_button_for_it(company: Company, page: Page, alert):
    sign_in(page, "audrey")
    expect(page.get_by_role("region", name="Alerts")).to_be_visible()
    page.goto(alert_path(alert.event_id))
    expect(page.locator(".case-head")).to_contain_text("411111 ···· 1111")
    for name in ("Fraud", "Genuine", "Reveal"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    before = company.labels()
    for key in ("f", "g", "r"):
        page.keyboard.press(key)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Keys")
    expect(page.locator(".card", has_text="Personal data")).to_contain_text("········")
    assert company.labels() == before
    assert "audrey" not in {entry.who for entry in company.ports.audit.entries() if entry.what == "reveal"}


def test_a_decision_that_is_late_in_the_hot_store_is_waited_for(company: Company, live: Page):
    transaction = company.stream.transaction(pan_last4="2323")
    alert = company.stream.decide(transaction, decided=False)
    live.goto(alert_path(alert.event_id))
    expect(live.get_by_text("The decision is on its way here.")).to_be_visible()
    company.stream.decide(transaction)
    expect(live.locator("td", has_text="card_count_2h")).to_be_visible()


def test_look_up_finds_decisions_and_customers(company: Company, live: Page, alert):
    live.keyboard.press("d")
    field = live.get_by_label("Event id, or customer token")
    field.fill("no-such-event")
    live.keyboard.press("Enter")
    expect(live.get_by_role("status")).to_contain_text("Nothing by that name")
    field.fill(alert.event_id)
    live.keyboard.press("Enter")
    expect(live).to_have_url(f"{company.desk}/decisions/{alert.event_id}")
    live.get_by_role("link", name="All of this customer").click()
    expect(live).to_have_url(f"{company.desk}/customers/{alert.customer_id}")
    expect(live.locator("tbody tr").first).to_be_visible()
    live.locator("tbody tr a").first.click()
    expect(live.locator(".case-head")).to_be_visible()
