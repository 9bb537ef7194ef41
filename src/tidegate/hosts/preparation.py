"""A version that is to go live is made ready in a thread of its own, while the version before decides.

It compiles the version, takes up the snapshot that its release left, and sees what the engine took from there on, step
by step with it. When the version goes live, the engine takes its kernel, and lets it see what it has in hand itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from tidegate.errors import TidegateError
from tidegate.hosts.arrivals import GROUP, arrivals, schemas_of
from tidegate.hosts.controls import detector_of
from tidegate.hosts.recovery import restore
from tidegate.kernel.decide import Kernel
from tidegate.ports.log import Log, Record, after
from tidegate.ports.models import Models
from tidegate.ports.snapshots import Snapshots
from tidegate.streams.control import DETECTORS, Candidate

#: Records decided at once: few, so that the engine's thread is not kept waiting for long.
_FEW_RECORDS = 256

#: How long it waits where there is nothing to read.
_WAIT_S = 0.02

#: A candidate that has not gone live so long after it could is given up: whoever wanted it has gone.
_KEPT_S = 120

_log = logging.getLogger(__name__)


class Preparation:
    """One candidate, and the kernel that is made ready for it."""

    def __init__(self, log: Log, snapshots: Snapshots, models: Models | None, candidate: Candidate) -> None:
        """Begins at once."""
        self.candidate = candidate
        self._log, self._snapshots, self._models = log, snapshots, models
        self._kernel: Kernel | None = None
        self._warm, self._asked, self._given_up = threading.Event(), threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="preparation", daemon=True)
        self._thread.start()

    @property
    def warm(self) -> bool:
        """Whether it has come to where the engine is."""
        return self._warm.is_set()

    def kernel(self, before: Sequence[Record]) -> Kernel | None:
        """The kernel after all that the engine has committed, and then `before`. None if it could not be made ready."""
        self._asked.set()
        self._thread.join()
        if self._kernel is not None:
            self._kernel.decide(arrivals(before, schemas_of(self._kernel.detector.streams)).by_stream)
        return self._kernel

    def give_up(self) -> None:
        """Nobody will ask for the kernel. Ends the thread."""
        self._given_up = True
        self._asked.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._kernel = self._made_ready()
        except TidegateError as error:
            _log.warning("detector %s %s is not made ready: %s", self.candidate.detector, self.candidate.version, error)

    def _made_ready(self) -> Kernel | None:
        detector = detector_of(self.candidate, self._models)
        if detector is None:
            return None
        kernel, schemas = Kernel(detector), schemas_of(detector.streams)
        kernel.decide({}).explain([])
        topics = [*detector.streams, DETECTORS]
        ends = self._log.ends(topics)
        start, _ = restore(self._snapshots, kernel, ends)
        at = {place: start.get(place, 0) for place in ends}
        until_s = float("inf")
        while not self._given_up and time.monotonic() < until_s:
            # Asked for before the last look: what it then finds is all that the engine has committed.
            asked = self._asked.is_set()
            for batch in self._log.history(GROUP, at, topics):
                for first in range(0, len(batch), _FEW_RECORDS):
                    kernel.decide(arrivals(batch[first : first + _FEW_RECORDS], schemas).by_stream)
                at |= after(batch)
                if self._given_up:
                    return None
            if asked:
                return kernel
            until_s = min(until_s, time.monotonic() + _KEPT_S)
            self._warm.set()
            self._asked.wait(_WAIT_S)
        return None
