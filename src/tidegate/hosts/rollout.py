"""The kernels that decide, followed along the control stream: which version decides is told by the log alone.

A version that goes live has seen all that stands before its release in the log: its windows are those of a snapshot
that the release left (`<detector>-next`) and the log after it, or of the log from its first record on. Until then the
version before decides.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Literal

from tidegate.errors import DetectorError
from tidegate.hosts.arrivals import arrivals, batches, place_of, runs, schemas_of
from tidegate.hosts.forecast import Watch
from tidegate.hosts.recovery import restore
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import Detector, compile_detector
from tidegate.ports.log import Log, Positions, Record, TopicPartition
from tidegate.ports.models import Models
from tidegate.ports.snapshots import Snapshots
from tidegate.streams.control import DETECTORS, SETTINGS, Control, Release, Standing, decode_control
from tidegate.streams.schema import STREAMS

#: The control stream's one partition: its records have one order.
CONTROL = TopicPartition(DETECTORS, 0)

_log = logging.getLogger(__name__)


def controls(log: Log, *, end: int | None = None) -> Iterator[tuple[Record, Control]]:
    """The control records before the offset `end` (None: all that are there), in their order."""
    ends = log.ends([DETECTORS]) if end is None else {CONTROL: end}
    for batch in batches(log, {}, ends):
        for record in batch:
            control = decode_control(record.value)
            if control is not None:
                yield record, control


def beginnings(detectors: Sequence[Detector]) -> list[Release]:
    """Releases of what decides from the log's first record on."""
    return [
        Release(
            detector=detector.name,
            version=detector.version,
            status="live",
            texts={},
            by=SETTINGS,
            at_ms=0,
            from_start=True,
        )
        for detector in detectors
    ]


def detector_of(release: Release, models: Models | None) -> Detector | None:
    """The version that a release names, compiled; None if its texts are none, or those of another version."""
    try:
        detector = compile_detector(release.detector, release.texts, models)
    except DetectorError as error:
        _log.warning("detector %s %s: %s; not followed", release.detector, release.version, error)
        return None
    return detector if detector.version == release.version else None


class Deciding:
    """A version that decides: its kernel, and how often its rules fire."""

    def __init__(self, kernel: Kernel, release: Release, watch: Watch) -> None:
        self.kernel, self.release, self.watch = kernel, release, watch

    @property
    def detector(self) -> Detector:
        return self.kernel.detector


class Rollout:
    """What decides as `status`, live or shadow. `detectors` do from the log's first record on, each until the control
    stream says otherwise of it. When it is made, all is as at `read`. Without `models` those of released versions are
    missing.
    """

    def __init__(
        self,
        log: Log,
        snapshots: Snapshots,
        detectors: Sequence[Detector],
        read: Positions,
        status: Literal["live", "shadow"] = "live",
        *,
        models: Models | None = None,
    ) -> None:
        self._log, self._snapshots, self._status, self._models = log, snapshots, status, models
        self._compiled = {(detector.name, detector.version): detector for detector in detectors}
        self._standings = {release.detector: Standing(live=release) for release in beginnings(detectors)}
        for _, control in controls(log, end=read.get(CONTROL, 0)):
            self._stand(control)
        self._deciding: dict[str, Deciding] = {}
        for name, standing in self._standings.items():
            if (release := self._release(standing)) is not None:
                self._deciding[name] = self._resumed(release, read)
                self._demote(name, standing)

    @property
    def deciding(self) -> list[Deciding]:
        return list(self._deciding.values())

    @property
    def streams(self) -> list[str]:
        """What is read by all that decides."""
        return list(dict.fromkeys(stream for each in self.deciding for stream in each.detector.streams))

    def follow(self, record: Record) -> bool:
        """Take a control record in its place; False if it can't be followed, and all stays as it was."""
        control = decode_control(record.value)
        standing = control and self._stand(control)
        if control is None or standing is None:
            return False
        name, release, before = control.detector, self._release(standing), self._deciding.get(control.detector)
        if release is None:
            self._deciding.pop(name, None)
            return True
        if before is None or before.release.version != release.version:
            kernel = self._kernel(release)
            self._warm(kernel, record)
            self._deciding[name] = Deciding(kernel, release, Watch(release.forecast))
        elif before.release is not release:
            self._deciding[name] = Deciding(before.kernel, release, Watch(release.forecast))
        self._demote(name, standing)
        return True

    def _stand(self, control: Control) -> Standing | None:
        """How it is after a record; None if its texts are no detector, and nothing has changed."""
        if isinstance(control, Release) and control.status in ("live", "shadow"):
            key = (control.detector, control.version)
            detector = self._compiled.get(key) or detector_of(control, self._models)
            if detector is None:
                return None
            self._compiled[key] = detector
        standing = self._standings.get(control.detector, Standing()).after(control)
        self._standings[control.detector] = standing
        return standing

    def _release(self, standing: Standing) -> Release | None:
        return standing.live if self._status == "live" else standing.shadow

    def _demote(self, name: str, standing: Standing) -> None:
        if self._status == "live":
            self._deciding[name].kernel.demote(frozenset(standing.demoted))

    def _kernel(self, release: Release) -> Kernel:
        return Kernel(self._compiled[release.detector, release.version])

    def _warm(self, kernel: Kernel, until: Record) -> None:
        """Let a new kernel see all that stands before a control record."""
        streams = kernel.detector.streams
        ends = self._log.ends([*streams, DETECTORS])
        start, _ = restore(self._snapshots, kernel, {**self._log.ends(STREAMS), CONTROL: until.offset})
        for batch in batches(self._log, {**start, CONTROL: until.offset}, ends):
            places = [place_of(record) for record in batch]
            end = places.index(CONTROL) if CONTROL in places else len(batch)
            kernel.decide(arrivals(batch[:end], schemas_of(streams)).by_stream)
            if end < len(batch):
                return

    def _resumed(self, release: Release, read: Positions) -> Deciding:
        """A version that decided up to `read`, where it was then."""
        kernel = self._kernel(release)
        start, counts = restore(self._snapshots, kernel, read)
        deciding = Deciding(kernel, release, Watch(release.forecast, counts))
        counting = release.from_start or counts is not None
        streams = kernel.detector.streams
        ends = {place: offset for place, offset in read.items() if place.topic in (*streams, DETECTORS)}
        for batch in batches(self._log, start, ends):
            for run, record in runs(batch):
                decisions = kernel.decide(arrivals(run, schemas_of(streams)).by_stream)
                if counting:
                    deciding.watch.count(decisions)
                if record is not None and decode_control(record.value) == release:
                    deciding.watch = Watch(release.forecast)
                    counting = True
        return deciding
