"""The order of time: what waits for what, whatever the clock of one source says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.hosts import time_order
from tidegate.hosts.time_order import Item, TimeOrder
from tidegate.kernel.machine.clock import WITNESSES
from tidegate.ports.log import Record

WAIT, AHEAD = 10, 100


def items(times: list[int]) -> list[Item]:
    return [Item(time, number, Record("transactions", 0, number, "", b"", 0)) for number, time in enumerate(times)]


def go(times: list[int], order: TimeOrder) -> tuple[list[Item], list[Item]]:
    """What went out in order, and what was late."""
    gone: list[Item] = []
    late: list[Item] = []
    for item in items(times):
        if order.take(item) == "late":
            late.append(item)
        order.pass_time(item.time)
        gone += order.due()
    return gone, late


@given(st.lists(st.integers(0, 60), max_size=40))
def test_what_goes_out_is_in_order_and_all_else_is_held_or_late(times: list[int]) -> None:
    order = TimeOrder(WAIT, AHEAD)
    gone, late = go(times, order)
    assert [item.order for item in gone] == sorted(item.order for item in gone)
    whole = sorted([*gone, *late, *order.held], key=lambda item: item.number)
    assert [item.time for item in whole] == times
    assert all(item.time > order.clock - WAIT for item in order.held)
    # Nothing is late that came at most so much later.
    for item in late:
        assert item.time < max(times[: item.number]) - WAIT


def test_one_wrong_clock_does_not_move_it() -> None:
    order = TimeOrder(WAIT, AHEAD)
    go([0, 10_000, 5, 12], order)
    assert order.clock == 12
    assert [item.time for item in order.held] == [5, 12, 10_000]


def test_after_a_silence_some_events_move_it() -> None:
    order = TimeOrder(WAIT, AHEAD)
    gone, late = go([0, *range(5000, 5000 + WITNESSES), 5030], order)
    assert not late
    assert order.clock == 5030
    assert [item.time for item in gone] == [0, *range(5000, 5000 + WITNESSES)]


def test_what_is_dated_ahead_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    order = TimeOrder(WAIT, AHEAD)
    monkeypatch.setattr(time_order, "MAX_AHEAD", 50)
    order.pass_time(0)
    taken = [order.take(item) for item in items([10**6] * 60)]
    assert taken == ["last"] * 50 + ["ahead"] * 10
    assert order.take(items([1])[0]) == "between"
