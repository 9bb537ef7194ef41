"""The local host: the kernel on the log, exactly once, through any number of kills.

Decisions, alerts and the position are one transaction of the log, and a decision's id names its event: an event is
decided once. The kernel's state is a snapshot and the log after it: a host that starts takes the newest snapshot, lets
the kernel decide again what was committed since, throws these decisions away, and goes on. Neither how the log fell
into batches nor where a host was killed changes a decision.

Which versions decide is told by the control stream: a record of it holds from its own place in the log.

    decisions   id `<detector>:<event_id>`, key `<event_id>`
    alerts      the same, of the decisions that are not `approve`
    rejected    records that are no events of their stream; the key is the record's
    detectors   the demotion of a rule that fires far beyond its forecast, which holds once it is read; and that a
                candidate is ready to go live
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import msgspec

from tidegate.errors import FencedError
from tidegate.hosts.arrivals import BATCH_RECORDS, GROUP, runs
from tidegate.hosts.metrics import Metrics
from tidegate.hosts.outputs import UNFIT, outputs, rejected
from tidegate.hosts.recovery import Recovery, refuse_forgotten
from tidegate.hosts.rollout import Rollout
from tidegate.kernel.detector import Detector
from tidegate.ports.clock import Clock
from tidegate.ports.log import Entry, Log, Positions, Record, after
from tidegate.ports.models import Models
from tidegate.ports.snapshots import Snapshots
from tidegate.streams.control import DETECTORS, Candidate, Warm
from tidegate.streams.schema import STREAMS

#: Records decided and committed at once.
_BATCH_RECORDS = BATCH_RECORDS

#: How long `run` waits for a record before it looks whether to stop.
_POLL_MS = 100

#: A batch costs some milliseconds however small it is: after one of fewer records than this, others may gather, which
#: saves four tenths of the processor's time at 500 events/s. An event that comes after a silence is decided at once.
_FEW_RECORDS = 100
_GATHER_S = 0.01

#: How often the metrics of the state are brought up to date.
_MEASURE_EVERY_MS = 5_000

_encode = msgspec.json.Encoder().encode

_log = logging.getLogger(__name__)


class LocalHost:
    """A member of the group `engine`, one kernel a detector. The newest member decides, the one before is fenced.

    `detectors` decide from the log's first record on, until the control stream says otherwise. When it is made, its
    kernels are where the group's last commit left them.
    """

    def __init__(
        self,
        log: Log,
        snapshots: Snapshots,
        detectors: Sequence[Detector],
        clock: Clock,
        *,
        snapshot_every_ms: int,
        models: Models | None = None,
    ) -> None:
        self._log, self._clock, self._snapshot_every_ms = log, clock, snapshot_every_ms
        topics = [*STREAMS, DETECTORS]
        self._consumer = log.consumer(GROUP, topics)
        self._recovery = Recovery(log, snapshots, GROUP, topics)
        committed = self._consumer.committed()
        self._rollout = Rollout(log, snapshots, detectors, committed, models=models)
        refuse_forgotten(
            snapshots, [each.detector.name for each in self._rollout.deciding], committed, log.ends(topics)
        )
        for deciding in self._rollout.deciding:
            # The first event shall not wait for the machine code to be loaded.
            deciding.kernel.decide({}).explain([])
        self.metrics = Metrics()
        self._kept_ms = self._measured_ms = clock.now_ms()
        self._measure()

    def step(self, timeout_ms: int) -> int:
        """Decide what is there, waiting up to `timeout_ms` for the first record; how many records were read.

        Raises:
            FencedError: a newer host has taken over. Nothing was written.
        """
        read = self._consumer.position()
        records = self._consumer.poll(_BATCH_RECORDS, timeout_ms)
        entries = self._decide(records, read) if records else []
        entries += [self._warm(candidate) for candidate in self._rollout.warmed()]
        if records or entries:
            self.metrics.committed(records, entries, self._consumer.commit(entries))
        now_ms = self._clock.now_ms()
        if now_ms - self._kept_ms >= self._snapshot_every_ms:
            self._kept_ms = now_ms
            if not (records or entries):
                # A group that is silent for long is forgotten by some logs.
                self._consumer.commit()
            self._keep()
            self._log.expire(now_ms)
        if now_ms - self._measured_ms >= _MEASURE_EVERY_MS:
            self._measured_ms = now_ms
            self._measure()
        return len(records)

    def run(self, stop: threading.Event) -> None:
        """Decide until `stop` is set, then leave a snapshot; or until a newer host has taken over."""
        try:
            while not stop.is_set():
                if 0 < self.step(_POLL_MS) < _FEW_RECORDS:
                    stop.wait(_GATHER_S)
            self._keep()
        except FencedError as error:
            _log.warning("engine ends: %s", error)
        finally:
            self.close()

    def close(self) -> None:
        self._rollout.close()
        self._recovery.close()
        self._consumer.close()

    def _keep(self) -> None:
        kernels = [(deciding.kernel, deciding.watch.counts) for deciding in self._rollout.deciding]
        self._recovery.keep(kernels, self._consumer.position())

    def _measure(self) -> None:
        self.metrics.measure([deciding.kernel for deciding in self._rollout.deciding], self._log.lag(GROUP))

    def _decide(self, records: Sequence[Record], read: Positions) -> list[Entry]:
        """What is to be written about a batch, `read` being how far the log was read before it."""
        polled_ms, start, seen = self._clock.now_ms(), read, 0
        entries: list[Entry] = []
        for run, control in runs(records):
            entries += self._decide_run(run, read, polled_ms)
            read, seen = read | after(run), seen + len(run)
            if control is not None:
                read |= after([control])
                if not self._rollout.follow(control, start, records[:seen]):
                    wanted = "a version of a detector, or a rule's demotion"
                    entries.append(rejected(control, wanted, self._clock.now_ms()))
                seen += 1
        return entries

    def _decide_run(self, records: Sequence[Record], read: Positions, polled_ms: int) -> list[Entry]:
        entries, refused = outputs(self._rollout.deciding, records, read, polled_ms, self._clock)
        return entries + [rejected(record, UNFIT.format(record.topic), self._clock.now_ms()) for record in refused]

    def _warm(self, candidate: Candidate) -> Entry:
        at_ms = self._clock.now_ms()
        warm = Warm(detector=candidate.detector, version=candidate.version, at_ms=at_ms)
        entry_id = f"{candidate.detector}:{candidate.version}:warm:{candidate.at_ms}"
        return Entry(DETECTORS, candidate.detector, _encode(warm), at_ms, entry_id)
