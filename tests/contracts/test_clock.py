"""What every clock does."""

from __future__ import annotations

import datetime as dt

import pytest

from tidegate.adapters.embedded.clock import SystemClock
from tidegate.ports.clock import Clock


@pytest.fixture(params=[SystemClock], ids=["embedded"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return request.param()


def test_it_counts_milliseconds_of_utc_since_1970(clock: Clock) -> None:
    before = dt.datetime.now(dt.UTC).timestamp() * 1000
    assert before - 1 <= clock.now_ms() <= dt.datetime.now(dt.UTC).timestamp() * 1000 + 1
