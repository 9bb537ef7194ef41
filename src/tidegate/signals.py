"""How a process is told to stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType


def stop_on(stop: threading.Event, *signals: signal.Signals) -> None:
    """Set `stop` when one of the signals comes; what runs then finishes what it has begun."""

    def told(_signum: int, _frame: FrameType | None) -> None:
        stop.set()

    for each in signals:
        signal.signal(each, told)
