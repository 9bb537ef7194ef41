"""The clock of a stream: the newest event's time, but for events that are too far ahead of it.

These move it only if so many come in a row that no wrong clock among others' events gives as many; after a silence of
the whole stream they soon come. docs/semantics.md, Order, tells the rule.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.kernel.machine.compiled import compiled, entry
from tidegate.kernel.plan import NEVER

#: So many events in a row must be too far ahead of the clock to move it: then to the earliest of them.
WITNESSES = 8

# A clock's registers: its time, how many events that are too far ahead came last, and the earliest of these.
TIME, AHEAD_COUNT, AHEAD_TIME, REGISTERS = 0, 1, 2, 3


def pass_time(registers: Any, ahead_us: Any, time: Any) -> None:
    """Let a clock move on by an event's time. An event that is more than `ahead_us` ahead does not move it alone."""
    clock = registers[TIME]
    if clock == NEVER or time <= clock + ahead_us:
        registers[TIME] = max(clock, time)
        registers[AHEAD_COUNT] = 0
        return
    registers[AHEAD_TIME] = time if registers[AHEAD_COUNT] == 0 else min(time, registers[AHEAD_TIME])
    registers[AHEAD_COUNT] += 1
    if registers[AHEAD_COUNT] == WITNESSES:
        registers[TIME] = registers[AHEAD_TIME]
        registers[AHEAD_COUNT] = 0


#: The same for compiled code.
pass_time_compiled = compiled(pass_time)


class Clock:
    """One stream's clock, or that of several."""

    def __init__(self, ahead_us: int) -> None:
        self._ahead_us = ahead_us
        self.registers = np.array([NEVER, 0, NEVER], np.int64)

    def tell(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """int64[n + 1]: how it stands before n events, and with each of them."""
        told = np.empty(len(times) + 1, np.int64)
        _tell(self.registers, self._ahead_us, np.ascontiguousarray(times), told)
        return told


@entry
def _tell(registers: Any, ahead_us: Any, times: Any, told: Any) -> None:
    told[0] = registers[TIME]
    for i in range(len(times)):
        pass_time_compiled(registers, ahead_us, times[i])
        told[i + 1] = registers[TIME]
