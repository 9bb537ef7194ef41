"""The wall clock. Only hosts and the door ask it; the kernel lives by the events' own time."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01T00:00:00Z."""
        ...
