import re

import httpx
from playwright.sync_api import Page, expect
from tests.browser.running import Company, sign_in

WRONG = "No such name and password."


def test_a_wrong_name_and_a_wrong_password_are_told_alike(page: Page):
    sign_in(page, password="not her password")
    expect(page.get_by_role("alert")).to_have_text(WRONG)
    sign_in(page, name="nobody-of-that-name")
    expect(page.get_by_role("alert")).to_have_text(WRONG)


def test_signing_in_leads_to_the_page_asked_for_and_out_again(company: Company, page: Page):
    page.goto("/decisions")
    expect(page).to_have_url(re.compile(r"/sign-in\?next="))
    page.get_by_label("Name").fill("mara")
    page.get_by_label("Password").fill("the tide waits for none")
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{company.desk}/decisions")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{company.desk}/sign-in")
    page.goto("/")
    expect(page).to_have_url(f"{company.desk}/sign-in")


def test_sign_ins_are_on_record(company: Company, page: Page):
    before = len(list(company.ports.audit.entries()))
    sign_in(page, password="not her password")
    expect(page.get_by_role("alert")).to_be_visible()
    sign_in(page)
    expect(page.get_by_role("region", name="Alerts")).to_be_visible()
    entries = list(company.ports.audit.entries())[before:]
    assert [(entry.what, entry.who, entry.outcome) for entry in entries] == [
        ("sign_in", "mara", "refused"),
        ("sign_in", "mara", "done"),
    ]


def test_the_token_never_reaches_the_browser(company: Company, page: Page):
    sign_in(page)
    expect(page.get_by_role("region", name="Alerts")).to_be_visible()
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    assert page.evaluate("document.cookie") == ""
    assert "eyJhbGciOi" not in page.content()
    assert len(cookie["value"]) < 200


def test_the_session_is_renamed_at_sign_in(company: Company, page: Page):
    page.goto("/sign-in")
    planted = page.context.cookies()[0]["value"]
    sign_in(page)
    expect(page.get_by_role("region", name="Alerts")).to_be_visible()
    assert page.context.cookies()[0]["value"] != planted
    with httpx.Client(base_url=company.desk, cookies={"session": planted}) as other:
        assert other.get("/").status_code == 307


def test_no_sign_in_leads_off_the_desk(company: Company, page: Page):
    page.goto("/sign-in?next=//example.org/")
    page.get_by_label("Name").fill("mara")
    page.get_by_label("Password").fill("the tide waits for none")
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{company.desk}/")


def test_signing_out_ends_it_in_every_tab(company: Company, page: Page):
    sign_in(page)
    expect(page.get_by_role("region", name="Alerts")).to_be_visible()
    other = page.context.new_page()
    other.goto("/decisions")
    other.get_by_role("button", name="Sign out").click()
    expect(other).to_have_url(f"{company.desk}/sign-in")
    expect(page).to_have_url(f"{company.desk}/sign-in")
    other.close()
