"""What an event says stays text, and the page stays within the screen."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.browser.running import Company

from tidegate.desk.alert_list import alert_path

BLNS = Path(__file__).resolve().parents[2].parent / "shared" / "conformance" / "blns" / "blns.json"
NARROW = (390, 844)


def naughty() -> list[str]:
    return [text for text in json.loads(BLNS.read_text("utf-8")) if text.strip()]


def test_naughty_strings_stay_text(company: Company, live: Page):
    live.evaluate("window.alert = () => { document.title = 'broken into' }")
    strings = naughty()
    alerts = [
        company.stream.decide(
            company.stream.transaction(merchant_id=text, event_id=f"naughty-{number}", pan="pan_NAUGHTY"),
            reasons=[text],
        )
        for number, text in enumerate(strings[-180:])
    ]
    newest = live.locator("a.alert-row").first
    expect(newest).to_have_attribute("href", alert_path(alerts[-1].event_id))
    inside = (
        "document.querySelectorAll('a.alert-row script, a.alert-row img, a.alert-row iframe, a.alert-row svg').length"
    )
    assert live.evaluate(inside) == 0
    shown = live.locator(".alert-row:not(.alerts-head) .c-reason").evaluate_all("all => all.map(one => one.title)")
    assert shown[:180] == [alert.reasons[0][:240] for alert in reversed(alerts)]
    live.reload()
    expect(newest).to_have_attribute("href", alert_path(alerts[-1].event_id))
    assert live.evaluate(inside) == 0
    assert live.title() == "Live · Tidegate"


@pytest.mark.parametrize("name", ["../../etc", "a/b?c=d#e", "<script>alert(1)</script>", "%2e%2e", "ünï code"])
def test_any_event_id_has_a_page(company: Company, live: Page, name: str):
    alert = company.stream.decide(
        company.stream.transaction(event_id=f"odd-{name}", customer_id=f"customer_{name}"),
        reasons=["<img src=x onerror=alert(1)>", "{{ 7*7 }}", "${7*7}", "`+alert(1)+`"],
        features={"<b>name</b>": "<i>value</i>"},
    )
    live.goto(alert_path(alert.event_id))
    expect(live.locator(".event-id")).to_have_text(alert.event_id)
    expect(live.locator(".reasons li")).to_have_text(alert.reasons)
    expect(live.locator("td", has_text="<b>name</b>")).to_be_visible()
    assert live.locator(".reasons img, td b, td i").count() == 0


@pytest.mark.parametrize("page", [NARROW, (1440, 900)], indirect=True, ids=["narrow", "wide"])
def test_no_page_is_wider_than_the_screen(company: Company, live: Page):
    long_reason = "A reason without any end, " * 30 + "and_a_word_that_never_breaks" * 12
    alert = company.stream.decide(
        company.stream.transaction(event_id="e" * 200, merchant_id="m" * 300, amount_minor=10**15),
        reasons=[long_reason],
    )
    expect(live.locator("a.alert-row").first).to_contain_text("A reason without any end")
    for path in ("/", alert_path(alert.event_id), "/decisions", f"/customers/{alert.customer_id}"):
        live.goto(path)
        expect(live.locator(".page")).to_be_visible()
        assert live.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
