"""The demo as a user runs it: what it says of itself is true, and nobody's personal data lies about."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.running import ROOT, TIDEGATE
from tidegate.adapters.embedded.lake import EmbeddedLake
from tidegate.simulator.company import Company
from tidegate.streams.schema import STREAMS

SEED = 7


def _demo(data: Path) -> dict[str, Any]:
    result = subprocess.run(
        [*TIDEGATE, "demo", "--duration", "20s", "--headless", "--json", "--rate", "200", "--seed", str(SEED)]
        + ["--data", str(data)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)
