"""A door on real adapters, in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.intake.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


@pytest.fixture
def door(house: House) -> Iterator[httpx.Client]:
    """A client of the open door, with the API key of a source that may write all streams."""
    with house.open_door() as client:
        yield client
