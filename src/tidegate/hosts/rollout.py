"""The kernels that decide, followed along the control stream: which version decides is told by the log alone.

A version that goes live has seen all that stands before its release in the log: its windows are those of a snapshot
that the release left (`<detector>-next`) and the log after it, or of the log from its first record on. Until then the
version before decides. A candidate is made ready beforehand, in a thread of its own, so that the version before goes on
deciding meanwhile; one that goes live without is made ready in its place, and what comes after it waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tidegate.hosts.arrivals import arrivals, runs, schemas_of, taken
from tidegate.hosts.controls import CONTROL, beginnings, controls, detector_of
from tidegate.hosts.forecast import Watch
from tidegate.hosts.preparation import Preparation
from tidegate.hosts.recovery import restore
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import Detector
from tidegate.ports.log import Log, Positions, Record
from tidegate.ports.models import Models
from tidegate.ports.snapshots import Snapshots
from tidegate.streams.control import (
    DETECTORS,
    Candidate,
    Control,
    Controls,
    Demotion,
    Part,
    Release,
    Standing,
    Warm,
    decode_control,
)


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
        self._controls = Controls()
        for _, control in controls(log, end=read.get(CONTROL, 0), reader=self._controls):
            self._stand(control)
        self._preparing: dict[str, Preparation] = {}
        self._untold: list[Preparation] = []
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

    def follow(self, record: Record, read: Positions, before: Sequence[Record]) -> bool:
        """Take a control record in its place: after what was `read` and the records `before` it in the same batch.
        False if it can't be followed, and all stays as it was.
        """
        control = self._controls.read(record.value)
        match control:
            case None:
                return False
            case Part() | Warm():
                return True
            case Candidate():
                self._prepare(control)
                return True
            case Release() | Demotion():
                return self._turn(control, read, before)

    def warmed(self) -> list[Candidate]:
        """The candidates that have become ready since this was asked last."""
        ready = [each for each in self._untold if each.warm]
        self._untold = [each for each in self._untold if not each.warm]
        return [each.candidate for each in ready]

    def close(self) -> None:
        """No candidate is made ready any more."""
        for name in list(self._preparing):
            self._give_up(name)

    def _prepare(self, candidate: Candidate) -> None:
        if self._status == "shadow":
            return
        self._give_up(candidate.detector)
        preparation = Preparation(self._log, self._snapshots, self._models, candidate)
        self._preparing[candidate.detector] = preparation
        self._untold.append(preparation)

    def _give_up(self, name: str) -> None:
        preparation = self._preparing.pop(name, None)
        if preparation is not None:
            preparation.give_up()
            self._untold = [each for each in self._untold if each is not preparation]

    def _turn(self, control: Release | Demotion, read: Positions, before: Sequence[Record]) -> bool:
        name = control.detector
        prepared = self._prepared(control, before) if isinstance(control, Release) else None
        standing = self._stand(control)
        if standing is None:
            return False
        release, former = self._release(standing), self._deciding.get(name)
        if release is None:
            self._deciding.pop(name, None)
            return True
        if former is None or former.release.version != release.version:
            kernel = prepared or self._warm_kernel(release, read, before)
            self._deciding[name] = Deciding(kernel, release, Watch(release.forecast))
        elif former.release is not release:
            self._deciding[name] = Deciding(former.kernel, release, Watch(release.forecast))
        self._demote(name, standing)
        return True

    def _prepared(self, release: Release, before: Sequence[Record]) -> Kernel | None:
        """The kernel that was made ready for a version that goes live now. What else was made ready is given up."""
        preparation = self._preparing.get(release.detector)
        if preparation is None or release.status == "shadow":
            return None
        kernel = None
        if (release.version, release.status) == (preparation.candidate.version, "live"):
            kernel = preparation.kernel(before)
        self._give_up(release.detector)
        if kernel is not None:
            self._compiled[release.detector, release.version] = kernel.detector
        return kernel

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

    def _warm_kernel(self, release: Release, read: Positions, before: Sequence[Record]) -> Kernel:
        """A new kernel that has seen all that stands before a control record."""
        kernel = self._kernel(release)
        streams = kernel.detector.streams
        start, _ = restore(self._snapshots, kernel, read)
        for batch in taken(self._log, start, _of(read, streams)):
            kernel.decide(arrivals(batch, schemas_of(streams)).by_stream)
        kernel.decide(arrivals(before, schemas_of(streams)).by_stream)
        return kernel

    def _resumed(self, release: Release, read: Positions) -> Deciding:
        """A version that decided up to `read`, where it was then."""
        kernel = self._kernel(release)
        start, counts = restore(self._snapshots, kernel, read)
        deciding = Deciding(kernel, release, Watch(release.forecast, counts))
        counting = release.from_start or counts is not None
        streams = kernel.detector.streams
        for batch in taken(self._log, start, _of(read, streams)):
            for run, record in runs(batch):
                decisions = kernel.decide(arrivals(run, schemas_of(streams)).by_stream)
                if counting:
                    deciding.watch.count(decisions)
                if record is not None and _is(release, record):
                    deciding.watch = Watch(release.forecast)
                    counting = True
        return deciding


def _of(read: Positions, streams: Sequence[str]) -> Positions:
    return {place: offset for place, offset in read.items() if place.topic in (*streams, DETECTORS)}


def _is(release: Release, record: Record) -> bool:
    """Whether a control record is this release."""
    control = decode_control(record.value)
    return isinstance(control, Release) and (control.detector, control.version, control.status, control.at_ms) == (
        release.detector,
        release.version,
        release.status,
        release.at_ms,
    )
