"""One desk and one browser for all browser tests; a page of its own, with a clean session, for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright
from tests.browser.chromium import ARGUMENTS, find_chromium
from tests.browser.running import Company, sign_in

#: How long a page may take to show what it should: on a busy machine, far longer than a person would wait.
_PATIENCE_MS = 60_000


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    company = Company(tmp_path_factory.mktemp("company"))
    yield company
    company.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of one module: Playwright keeps an event loop running as long as it is open, which other tests could not bear."""
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no chromium on this machine: install Debian's package chromium to run the browser tests")
    with sync_playwright() as playwright:
        expect.set_options(timeout=_PATIENCE_MS)
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(company: Company, browser: Browser) -> BrowserContext:
    """One for all tests, so that the browser need not fetch and compile the same scripts again and again."""
    context = browser.new_context(base_url=company.desk)
    context.set_default_timeout(_PATIENCE_MS)
    return context


@pytest.fixture
def page(context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page without a session, which fails its test if the console shows an error."""
    context.clear_cookies()
    page = context.new_page()
    width, height = getattr(request, "param", (1440, 900))
    page.set_viewport_size({"width": width, "height": height})
    errors: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []


@pytest.fixture(scope="module")
def session(context: BrowserContext) -> list[Any]:
    """The cookies of someone of the fraud team who has signed in."""
    page = context.new_page()
    sign_in(page)
    expect(page.get_by_role("region", name="Alerts")).to_be_visible()
    cookies = context.cookies()
    page.close()
    return cookies


@pytest.fixture
def live(session: list[Any], page: Page) -> Page:
    """The live page, as someone of the fraud team sees it."""
    page.context.add_cookies(session)
    page.goto("/")
    expect(page.get_by_role("region", name="Alerts")).to_be_visible()
    return page
