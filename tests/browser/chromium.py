"""Debian's Chromium, as the tests and the screenshots start it."""

from __future__ import annotations

import shutil

#: Nothing of the browser's own goes to the network; without a sandbox it also runs in a container, as root.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def find_chromium() -> str | None:
    return shutil.which("chromium")
