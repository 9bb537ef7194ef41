import re

import pytest
from playwright.sync_api import Page, expect
from tests.browser.running import Company, sign_in

#: What the desk promises: an alert is on the screen within a second of the decision.
WITHIN_MS = 1000


def rows(page: Page):
    return page.locator("a.alert-row")


@pytest.mark.timed
def test_an_alert_is_on_the_screen_within_a_second(company: Company, live: Page):
    transaction = company.stream.transaction(pan_bin="545454", pan_last4="0077", amount_minor=1_234_567)
    company.stream.decide(transaction, score=91, reasons=["Four small payments, then a large one", "New device"])
    row = rows(live).first
    expect(row).to_contain_text("545454 ···· 0077", timeout=WITHIN_MS)
    for text in (
        "decline",
        "91",
        "12,345.67 EUR",
        "ABCDEFGH",
        "ecommerce",
        "Four small payments, then a large one",
        "+1",
    ):
        expect(row).to_contain_text(text)


@pytest.mark.timed
def test_a_verdict_from_elsewhere_is_marked(company: Company, live: Page):
    alert = company.stream.decide(company.stream.transaction(pan_last4="5151"))
    row = rows(live).filter(has_text="5151")
    expect(row).to_be_visible()
    company.stream.label(alert.event_id, is_fraud=False)
    expect(row.locator(".verdict")).to_have_text("genuine", timeout=WITHIN_MS)


def test_filters_narrow_the_list_and_are_kept(company: Company, page: Page):
    sign_in(page)
    company.stream.decide(
        company.stream.transaction(pan_last4="6001"), outcome="review", score=44, detector="account_takeover"
    )
    company.stream.decide(company.stream.transaction(pan_last4="6002", merchant_id="shop-6002"), score=93)
    expect(rows(page).filter(has_text="6002")).to_be_visible()
    search = page.get_by_placeholder("Card, customer, merchant")
    search.fill("SHOP-6002")
    expect(rows(page)).to_have_count(1)
    page.reload()
    expect(rows(page)).to_have_count(1)
    search.fill("")
    page.get_by_role("combobox", name="Outcome").click()
    page.get_by_role("option", name="Review").click()
    expect(rows(page).filter(has_text="6002")).to_have_count(0)
    expect(rows(page).first).to_contain_text("review")
    page.get_by_role("combobox", name="Outcome").click()
    page.get_by_role("option", name="All outcomes").click()
    page.get_by_label("Score from").fill("90")
    expect(rows(page).filter(has_text="6001")).to_have_count(0)
    expect(rows(page).filter(has_text="6002")).to_be_visible()
    page.get_by_label("Score from").fill("")
    page.get_by_text("Open only").click()
    alert = company.stream.decide(company.stream.transaction(pan_last4="6003"))
    expect(rows(page).filter(has_text="6003")).to_be_visible()
    company.stream.label(alert.event_id, is_fraud=True)
    page.reload()
    expect(rows(page).filter(has_text="6002")).to_be_visible()
    expect(rows(page).filter(has_text="6003")).to_have_count(0)


def test_a_pause_holds_new_alerts_back_and_counts_them(company: Company, live: Page):
    company.stream.decide(company.stream.transaction(pan_last4="7000"))
    expect(rows(live).first).to_contain_text("7000")
    live.keyboard.press("p")
    expect(live.get_by_role("button", name="Go on")).to_be_visible()
    for last4 in ("7001", "7002"):
        company.stream.decide(company.stream.transaction(pan_last4=last4))
    chip = live.get_by_role("button", name="2 new")
    expect(chip).to_be_visible()
    expect(rows(live).first).to_contain_text("7000")
    chip.click()
    expect(rows(live).first).to_contain_text("7002")
    live.keyboard.press("p")
    expect(live.get_by_role("button", name="Pause")).to_be_visible()


def test_the_list_stays_still_while_scrolled(company: Company, live: Page):
    for _ in range(40):
        company.stream.decide(company.stream.transaction())
    company.stream.decide(company.stream.transaction(pan_last4="8000"))
    # Once the last is there none is on its way: a row that comes while the list is scrolled moves it, as it should.
    expect(rows(live).first).to_contain_text("8000")
    alerts = live.get_by_role("region", name="Alerts")
    alerts.evaluate("element => element.scrollTo(0, 400)")
    expect(alerts).to_have_class(re.compile(r"\bscrolled\b"))
    expect(rows(live).first).not_to_be_in_viewport()
    expect(live.locator(".new-chip")).to_have_count(0)
    company.stream.decide(company.stream.transaction(pan_last4="8001"))
    chip = live.get_by_role("button", name=re.compile("new"))
    expect(chip).to_be_visible()
    expect(rows(live).first).to_contain_text("8000")
    chip.click()
    expect(rows(live).first).to_contain_text("8001")
    expect(rows(live).first).to_be_in_viewport()


def test_the_keyboard_moves_and_opens(company: Company, live: Page):
    for last4 in ("9001", "9002"):
        company.stream.decide(company.stream.transaction(pan_last4=last4))
    expect(rows(live).first).to_contain_text("9002")
    live.keyboard.press("j")
    live.keyboard.press("j")
    expect(live.locator(".selected")).to_contain_text("9001")
    live.keyboard.press("k")
    expect(live.locator(".selected")).to_contain_text("9002")
    live.keyboard.press("?")
    expect(live.get_by_text("Open the alert")).to_be_visible()
    live.keyboard.press("Escape")
    expect(live.get_by_text("Open the alert")).to_be_hidden()
    live.keyboard.press("Enter")
    expect(live.locator(".case-head")).to_contain_text("9002")
    live.keyboard.press("j")
    expect(live.locator(".case-head")).to_contain_text("9001")


def test_the_gauges_tell_what_is_going_on(company: Company, live: Page):
    alert = company.stream.decide(company.stream.transaction())
    company.stream.label(alert.event_id, is_fraud=True, source="analyst")
    expect(live.locator(".counter", has_text="Open").locator(".counter-figure")).not_to_have_text("0")
    expect(live.locator(".counter", has_text="Reviewed today").locator(".counter-figure")).not_to_have_text("0")
    expect(live.get_by_text(re.compile(r"transactions/s ·"))).to_be_visible()
    expect(live.get_by_text(re.compile(r"p50 \d+ ms · p99 \d+ ms"))).to_be_visible()
    expect(live.locator(".chart canvas")).to_have_count(2)


def test_who_may_not_see_alerts_is_led_to_look_up(company: Company, page: Page):
    sign_in(page, "dana")
    expect(page).to_have_url(f"{company.desk}/decisions")
    expect(page.get_by_role("link", name="Live", exact=True)).to_have_count(0)


def test_a_rule_that_demoted_itself_is_told_with_what_to_do(company: Company, live: Page):
    told = live.get_by_role("region", name="Demoted rules")
    expect(told).to_be_hidden()
    company.stream.release()
    company.stream.demote("card_burst")
    expect(told).to_contain_text("Card burst, a rule of card_fraud, demoted itself at")
    expect(told).to_contain_text("It fired 58 times in 613 decisions; 4.25 in 1,000 were forecast.")
    step = told.get_by_text("tidegate detector promote card_fraud --version 3 --as NAME")
    expect(step).to_be_hidden()
    told.get_by_text("What to do").click()
    expect(step).to_be_visible()
    live.reload()
    expect(told).to_contain_text("Card burst")
    company.stream.release()
    expect(told).to_be_hidden()
