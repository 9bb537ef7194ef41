"""A version that is to go live is made ready in a thread of its own, while the version before decides.

It compiles the version, takes up the snapshot that its release left, and reads the log on from there, step by step with
the engine, until it comes to the record that lets it go live. The engine then takes its kernel as it is.
"""

from __future__ import annotations

import logging
import threading
import time

from tidegate.errors import TidegateError
from tidegate.hosts.arrivals import arrivals, runs, schemas_of
from tidegate.hosts.controls import CONTROL, detector_of
from tidegate.hosts.recovery import restore
from tidegate.kernel.decide import Kernel
from tidegate.ports.log import Log, Record, after
from tidegate.ports.models import Models
from tidegate.ports.snapshots import Snapshots
from tidegate.streams.control import DETECTORS, Candidate, Release, decode_control

#: Records decided at once: few, so that the engine's thread is not kept waiting for long.
_FEW_RECORDS = 256

#: How long it waits where there is nothing to read.
_WAIT_S = 0.02

#: A candidate that has not gone live so long after it could is given up: whoever wanted it has gone.
_KEPT_S = 120

_log = logging.getLogger(__name__)


class Preparation:
    """One candidate, and the kernel that is made ready for it."""

    def __init__(self, log: Log, snapshots: Snapshots, models: Models | None, candidate: Candidate, since: int) -> None:
        """`since` is the offset after the candidate's own record. Begins at once."""
        self.candidate = candidate
        self._log, self._snapshots, self._models, self._since = log, snapshots, models, since
        self._kernel: Kernel | None = None
        self._warm, self._asked, self._given_up = threading.Event(), threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="preparation", daemon=True)
        self._thread.start()

    @property
    def warm(self) -> bool:
        """Whether it has come to the log's end."""
        return self._warm.is_set()

    def kernel(self) -> Kernel | None:
        """The kernel as it is before the record that lets the version go live, which stands in the log. None if it
        could not be made ready.
        """
        self._asked.set()
        self._thread.join()
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
        ends = self._log.ends([*detector.streams, DETECTORS])
        start, _ = restore(self._snapshots, kernel, ends)
        at = {place: start.get(place, 0) for place in ends} | {CONTROL: self._since}
        until_s = float("inf")
        while not self._given_up and time.monotonic() < until_s:
            records = self._log.read(at, _FEW_RECORDS)
            for run, control in runs(records):
                kernel.decide(arrivals(run, schemas).by_stream)
                if control is not None and self._lets_go_live(control):
                    return kernel
            at |= after(records)
            if len(records) < _FEW_RECORDS:
                until_s = min(until_s, time.monotonic() + _KEPT_S)
                self._warm.set()
                self._asked.wait(_WAIT_S)
        return None

    def _lets_go_live(self, record: Record) -> bool:
        control = decode_control(record.value)
        candidate = self.candidate
        return (
            isinstance(control, Release)
            and control.status == "live"
            and (control.detector, control.version) == (candidate.detector, candidate.version)
        )
