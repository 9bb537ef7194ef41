"""Takes the README's pictures of a running desk: `python -m tests.browser.screenshot URL NAME PASSWORD`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright
from tests.browser.chromium import ARGUMENTS, find_chromium
from tests.browser.running import sign_in

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"

#: Alerts that a picture of the list needs, and how long they may take to come.
ALERTS = 20
PATIENCE_MS = 120_000


def take(url: str, name: str, password: str) -> None:
    """Writes docs/images/desk.png (the live page) and docs/images/alert.png (the page of one alert)."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        context = browser.new_context(
            base_url=url, viewport={"width": 1440, "height": 900}, device_scale_factor=2, color_scheme="dark"
        )
        page = context.new_page()
        sign_in(page, name, password)
        _live(page)
        _alert(page)
        browser.close()


def _live(page: Page) -> None:
    rows = page.locator("a.alert-row")
    expect(rows.nth(ALERTS - 1)).to_be_visible(timeout=PATIENCE_MS)
    # The charts have something to show once the latency of some alerts is known.
    expect(page.get_by_text(re.compile(r"p50 \d+ ms"))).to_be_visible(timeout=PATIENCE_MS)
    page.screenshot(path=IMAGES / "desk.png")


def _alert(page: Page) -> None:
    """Of the alerts on the screen, the one with the most reasons tells the most."""
    rows = page.locator("a.alert-row").evaluate_all(
        "rows => rows.map(row => [row.getAttribute('href'), Number(row.querySelector('em')?.textContent || 0)])"
    )
    path, _ = max(rows, key=lambda row: row[1])
    page.goto(path)
    expect(page.locator("td.is-code").first).to_be_visible()
    expect(page.locator(".case-main canvas")).to_be_visible()
    page.screenshot(path=IMAGES / "alert.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for argument in ("url", "name", "password"):
        parser.add_argument(argument)
    take(**vars(parser.parse_args()))
