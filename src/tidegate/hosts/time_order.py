"""Records put into the order of their time: each waits until the stream's clock is past its time by a little.

Taken in the order of append, one by one, so that what comes out does not depend on how they were read: records of one
time come out in the order of append. What comes after later ones have gone out is late.
"""

from __future__ import annotations

from bisect import insort
from typing import Literal

import msgspec

from tidegate.kernel.machine import clock
from tidegate.kernel.plan import NEVER
from tidegate.ports.log import Record
from tidegate.streams.decision import Outcome

#: Records held that are dated so far ahead that they may never be due: a source whose clock is wrong must not fill the
#: memory.
MAX_AHEAD = 20_000


class First(msgspec.Struct, frozen=True):
    """What is needed of a decision as it was first made."""

    event_id: str
    detector: str
    detector_version: str
    rules: dict[str, bool]
    late: bool
    score: int
    outcome: Outcome
    hash: str
    inputs: dict[str, int]
    demoted: list[str] = []


class Item(msgspec.Struct, frozen=True, array_like=True):
    """A record with its event time in microseconds, its number in the order of append, and what was decided on it."""

    time: int
    number: int
    record: Record
    first: First | None = None

    @property
    def order(self) -> tuple[int, int]:
        return self.time, self.number


class TimeOrder(msgspec.Struct):
    """The clock is that of the windows: an event more than `ahead_us` ahead of it moves it only with others."""

    wait_us: int
    ahead_us: int
    settled: int = NEVER
    """The time of the last record that went out in its order."""
    held: list[Item] = []
    """In their order."""
    clock_registers: list[int] = msgspec.field(default_factory=lambda: [NEVER, 0, NEVER])

    @property
    def clock(self) -> int:
        """The stream's time."""
        return self.clock_registers[clock.TIME]

    def take(self, item: Item) -> Literal["last", "between", "late", "ahead"]:
        """Hold a record, as the last of those held or between them: one of a later time had come before it. It is not
        held if it is late, or too far ahead while too many are held.
        """
        if item.time < self.settled:
            return "late"
        if item.time > self.clock + self.ahead_us and len(self.held) >= MAX_AHEAD and self.clock != NEVER:
            return "ahead"
        insort(self.held, item, key=_order)
        return "last" if self.held[-1] is item else "between"

    def pass_time(self, time: int) -> None:
        """Let the clock move on by the time of an event that is decided."""
        clock.pass_time(self.clock_registers, self.ahead_us, time)

    def due(self) -> list[Item]:
        """What has waited long enough, in order."""
        return self._let_go(self.clock - self.wait_us)

    def all(self) -> list[Item]:
        """What is held, in order: nothing is waited for any more."""
        return self._let_go(self.held[-1].time) if self.held else []

    def _let_go(self, until: int) -> list[Item]:
        count = 0
        while count < len(self.held) and self.held[count].time <= until:
            count += 1
        gone = self.held[:count]
        if gone:
            del self.held[:count]
            self.settled = gone[-1].time
        return gone


def _order(item: Item) -> tuple[int, int]:
    return item.order
