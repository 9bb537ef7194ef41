"""The machine's clock."""

from __future__ import annotations

import time


class SystemClock:
    """Milliseconds of UTC, as the machine has it: it may step when the machine's time is set."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000
