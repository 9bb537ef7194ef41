"""A version is released: its windows are filled first, then a record of the control stream says from where it holds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from tidegate.errors import NotFoundError
from tidegate.hosts.arrivals import BATCH_RECORDS, GROUP, arrivals, batches, schemas_of
from tidegate.hosts.controls import CONTROL, controls
from tidegate.hosts.examples import FILE
from tidegate.hosts.history import of_lake
from tidegate.hosts.recovery import keep_next
from tidegate.kernel.decide import Kernel
from tidegate.kernel.decisions import Decisions
from tidegate.kernel.detector import Detector, compile_detector, version_of
from tidegate.ports.clock import Clock
from tidegate.ports.lake import Lake
from tidegate.ports.log import Entry, Log, Positions, Record, after
from tidegate.ports.models import Models
from tidegate.ports.snapshots import Snapshots
from tidegate.streams.control import (
    DETECTORS,
    SETTINGS,
    Candidate,
    Forecast,
    Release,
    Standing,
    Status,
    Warm,
    decode_control,
    standings,
    to_records,
)

#: A forecast counts the newest decisions of the back-fill, at least so many if there are: the windows of the first ones
#: were still filling.
FORECAST_DECISIONS = 100_000

#: How long a running engine may take to make a candidate ready. After that it does so while what is to be decided
#: waits.
PATIENCE_S = 60

#: A running engine reads what is in the log within milliseconds; one that does not within this time is not running.
_HEARD_S = 2

_WAIT_S = 0.02

#: Told how many records of the history were decided.
Progress = Callable[[int], None]


class _Counted(NamedTuple):
    decided: int
    fired: dict[str, int]


class _Firings:
    """Counts the newest decisions, batch by batch."""

    def __init__(self, detector: Detector) -> None:
        self._live = {rule.name: row for row, rule in enumerate(detector.running) if rule.status == "live"}
        self._batches: deque[_Counted] = deque()
        self._decided = 0

    def add(self, decisions: Decisions) -> None:
        fired = {rule: int(np.count_nonzero(decisions.judged.fired[row])) for rule, row in self._live.items()}
        self._batches.append(_Counted(len(decisions.index), fired))
        self._decided += len(decisions.index)
        while self._decided - self._batches[0].decided >= FORECAST_DECISIONS:
            self._decided -= self._batches.popleft().decided

    def forecast(self) -> Forecast:
        fired = {rule: sum(batch.fired[rule] for batch in self._batches) for rule in self._live}
        return Forecast(decided=self._decided, fired=fired)


def begin(log: Log, name: str, texts: Mapping[str, str], clock: Clock) -> None:
    """Record the version that decides from the log's first record on, unless the control stream knows the detector.

    Raises:
        DetectorError: the texts are wrong.
    """
    if all(control.detector != name for _, control in controls(log)):
        compile_detector(name, texts)
        release = _release(name, texts, "live", SETTINGS, clock)
        _append(log, msgspec.structs.replace(release, from_start=True))


def first_detectors(log: Log, models: Models | None = None) -> list[Detector]:
    """What decides from the log's first record on, as the control stream says."""
    released = (control for _, control in controls(log) if isinstance(control, Release) and control.from_start)
    return [compile_detector(release.detector, release.texts, models) for release in released]


def release(
    log: Log,
    snapshots: Snapshots,
    lake: Callable[[], Lake],
    name: str,
    texts: Mapping[str, str],
    *,
    status: Status,
    by: str,
    clock: Clock,
    models: Models | None = None,
    progress: Progress = lambda done: None,  # noqa: ARG005 - nobody to tell
    patience_s: float = PATIENCE_S,
) -> Release:
    """Give a version this status. One that is to decide (`shadow` or `live`) sees all history first: what the lake has
    of its streams from before the log's first records, and the log; until it has, what decided goes on deciding. A
    running engine makes one that is to be live ready before, which is waited for, for `patience_s` at most.

    Raises:
        DetectorError: the texts are wrong.
        UsageError: all small texts together are larger than a record of the log may be.
    """
    new = _release(name, texts, status, by, clock)
    if status in ("shadow", "live"):
        forecast = _fill(log, snapshots, lake, compile_detector(name, new.texts, models), progress)
        if status == "live" and patience_s:
            _make_ready(log, new, clock, patience_s)
        new = msgspec.structs.replace(new, forecast=forecast, at_ms=clock.now_ms())
    _append(log, new)
    return new


def texts_of(log: Log, name: str, version: str) -> dict[str, str]:
    """The texts of a version that was released.

    Raises:
        NotFoundError: there is none.
    """
    known = {
        control.version: control.texts
        for _, control in controls(log)
        if isinstance(control, Release) and control.detector == name
    }
    if version not in known:
        raise NotFoundError(
            f"detector {name!r}: no version {version!r} was released; there are: {', '.join(known) or 'none'}"
        )
    return known[version]


def standing_now(log: Log) -> dict[str, Standing]:
    """How it is with every detector at the log's end."""
    return standings(control for _, control in controls(log))


def _release(name: str, texts: Mapping[str, str], status: Status, by: str, clock: Clock) -> Release:
    deciding = {file: text for file, text in texts.items() if file != FILE}
    return Release(
        detector=name, version=version_of(deciding), status=status, texts=deciding, by=by, at_ms=clock.now_ms()
    )


def _append(log: Log, control: Release | Candidate) -> int:
    """The offset of the record that says it, after those of its large texts."""
    entries = [
        Entry(DETECTORS, control.detector, value, control.at_ms, entry_id) for entry_id, value in to_records(control)
    ]
    return log.append(entries)[-1].offset


def _make_ready(log: Log, release: Release, clock: Clock, patience_s: float) -> None:
    """Wait until a running engine can let a version go live without anything having to wait for it."""
    live = standing_now(log).get(release.detector, Standing()).live
    if DETECTORS not in log.lag(GROUP) or (live is not None and live.version == release.version):
        return
    candidate = Candidate(detector=release.detector, version=release.version, texts=release.texts, at_ms=clock.now_ms())
    at = {CONTROL: _append(log, candidate) + 1}
    begun_s, heard = time.monotonic(), False
    while (waited_s := time.monotonic() - begun_s) < patience_s and (heard or waited_s < _HEARD_S):
        heard = heard or log.lag(GROUP).get(DETECTORS, 1) == 0
        records = log.read(at, BATCH_RECORDS)
        at |= after(records)
        for record in records:
            control = decode_control(record.value)
            if isinstance(control, Warm) and (control.detector, control.version) == (release.detector, release.version):
                return
        time.sleep(_WAIT_S)


def _fill(log: Log, snapshots: Snapshots, lake: Callable[[], Lake], detector: Detector, progress: Progress) -> Forecast:
    """Have a new kernel decide all history and leave a snapshot of it; how often its rules fired."""
    kernel, firings = Kernel(detector), _Firings(detector)
    first = _first_records(log, detector)
    done = 0
    if any(first.values()):
        for arrived in of_lake(lake(), detector.streams, lambda _done, _total: None, before=first):
            firings.add(kernel.decide(arrived))
    topics = [*detector.streams, DETECTORS]
    at: Positions = dict.fromkeys(log.ends(topics), 0)

    def decide(records: Sequence[Record]) -> None:
        nonlocal done
        firings.add(kernel.decide(arrivals(records, schemas_of(detector.streams)).by_stream))
        done += len(records)
        progress(done)

    for records in log.history(GROUP, {}, topics):
        decide(records)
        at |= after(records)
    keep_next(snapshots, kernel, at)
    # In which order an engine will take the rest is not known yet; how often rules fire hardly depends on it.
    for records in batches(log, at, log.ends(topics)):
        decide(records)
    return firings.forecast()


def _first_records(log: Log, detector: Detector) -> Positions:
    """Where the log begins: the offset of each partition's first record."""
    ends = log.ends(detector.streams)
    first = {place: log.read({place: 0}, 1) for place in ends}
    return {place: records[0].offset if records else ends[place] for place, records in first.items()}
