"""Takes the README's pictures of the desk, from a demo of its own: `make screenshot`."""

from __future__ import annotations

import re
import secrets
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
from playwright.sync_api import Page, expect, sync_playwright
from tests.browser.chromium import ARGUMENTS, find_chromium
from tests.browser.running import sign_in
from tests.e2e.running import ROOT, TIDEGATE

from tidegate.settings import Settings
from tidegate.supervisor import addresses
from tidegate.wiring import free_ports

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
            base_url=url, viewport={"width": 1440, "height": 900}, device_scale_factor=2, color_scheme="light"
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


def main() -> None:
    """Run the demo for as long as the pictures take."""
    password = secrets.token_urlsafe(12)
    with tempfile.TemporaryDirectory() as folder:
        settings = free_ports(Settings(data=Path(folder)))
        add_user = [*TIDEGATE, "user", "add", "fiona.frei", "--role", "fraud_ops", "--data", folder]
        subprocess.run(add_user, cwd=ROOT, input=password, text=True, check=True)
        ports = ["--door-port", str(settings.door_port), "--desk-port", str(settings.desk_port)]
        play = ["demo", "--headless", "--rate", "300", "--fraud-share", "0.03", "--data", folder, *ports]
        demo = subprocess.Popen([*TIDEGATE, *play], cwd=ROOT)
        try:
            _until_it_answers(f"{addresses(settings)['desk']}/healthz")
            take(addresses(settings)["desk"], "fiona.frei", password)
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait()


def _until_it_answers(url: str) -> None:
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < deadline:
        try:
            httpx.get(url).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(f"{url} did not answer within {PATIENCE_MS} ms")


if __name__ == "__main__":
    main()
