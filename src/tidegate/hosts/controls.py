"""The control stream as it stands in the log: what was released, and the detectors that it makes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

from tidegate.errors import DetectorError
from tidegate.hosts.arrivals import records_before
from tidegate.kernel.detector import Detector, compile_detector
from tidegate.ports.log import Log, Record, TopicPartition
from tidegate.ports.models import Models
from tidegate.streams.control import DETECTORS, SETTINGS, Candidate, Control, Controls, Part, Release

#: The control stream's one partition: its records have one order.
CONTROL = TopicPartition(DETECTORS, 0)

_log = logging.getLogger(__name__)


def controls(log: Log, *, end: int | None = None, reader: Controls | None = None) -> Iterator[tuple[Record, Control]]:
    """The control records before the offset `end` (None: all that are there), in their order. Who reads on after them
    gives a `reader`, which then knows the parts of large texts.
    """
    reader = reader or Controls()
    for record in records_before(log, log.ends([DETECTORS]) if end is None else {CONTROL: end}):
        control = reader.read(record.value)
        if control is not None and not isinstance(control, Part):
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


def detector_of(named: Release | Candidate, models: Models | None) -> Detector | None:
    """The version that is named, compiled; None if its texts are none, or those of another version."""
    try:
        detector = compile_detector(named.detector, named.texts, models)
    except DetectorError as error:
        _log.warning("detector %s %s: %s; not followed", named.detector, named.version, error)
        return None
    return detector if detector.version == named.version else None


def version_named(
    log: Log, first: Iterable[Detector], name: str, version: str, models: Models | None
) -> Detector | None:  # fmt: skip
    """A version of a detector: one of `first`, which decided from the log's first record on, or one whose texts a
    release holds. None: the log has none of it.
    """
    for detector in first:
        if (detector.name, detector.version) == (name, version):
            return detector
    for _, control in controls(log):
        if isinstance(control, Release) and (control.detector, control.version) == (name, version):
            detector = detector_of(control, models)
            if detector is not None:
                return detector
    return None
