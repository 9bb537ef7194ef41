"""Proof of decisions: a new kernel decides the log again from its start, and what it decides is compared.

Three things must be so. A record's content gives the hash that it holds, or it was changed since it was written. The
event, decided again by the same version of the detector, gives that hash too, or the record or the log before it was
changed. And the event lies in the log where the record says.

Which version decided is told by the control stream, which keeps the texts of each. The log is the truth: nothing else
is read, no snapshot and no store. What can't be told is never called wrong: a
decision of a version that is not at hand, or one that comes out otherwise when the log no longer holds its first
records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any

import msgspec
import numpy as np

from tidegate.errors import NotFoundError, UsageError
from tidegate.hosts.arrivals import GROUP, arrivals, inputs_of, records_before, runs, schemas_of
from tidegate.hosts.controls import beginnings, controls, detector_of
from tidegate.hosts.differences import Difference, by_name, differences
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import Detector
from tidegate.ports.log import Log, Positions, Record, TopicPartition, after
from tidegate.ports.models import Models
from tidegate.streams.control import DETECTORS, Control, Part, Release, Standing, decode_control
from tidegate.streams.decision import DECISIONS, Decision, decision_hash

#: Decisions held beyond those of a batch: one would do, were every record's word about where it lies true.
_AHEAD = 4096

#: Verdicts told one by one: one change in the log may show in all decisions after it.
MAX_TOLD = 100

Progress = Callable[[int, int], None]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about one decision, or a revision of it. `holds` is None where it can't be told; `says` tells
    why.
    """

    event_id: str
    detector: str
    holds: bool | None
    says: str
    stored_hash: str = ""
    recomputed_hash: str = ""
    """Empty: it was not, or could not be, decided again."""
    differences: tuple[Difference, ...] = ()
    revision: int | None = None
    """The number of the revision; None: it is the decision itself."""


class Tally(msgspec.Struct):
    """Counts of verdicts, and the first of those that do not hold."""

    told: bool
    """Whether also those that hold are told."""
    decisions: int = 0
    revisions: int = 0
    hold: int = 0
    wrong: int = 0
    cannot_be_told: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    """How many, by why."""
    verdicts: list[Verdict] = msgspec.field(default_factory=list[Verdict])
    """Not more than MAX_TOLD."""

    def add(self, verdict: Verdict) -> None:
        self.decisions += verdict.revision is None
        self.revisions += verdict.revision is not None
        if verdict.holds:
            self.hold += 1
        elif verdict.holds is None:
            self.cannot_be_told[verdict.says] = self.cannot_be_told.get(verdict.says, 0) + 1
        else:
            self.wrong += 1
        if (self.told or verdict.holds is False) and len(self.verdicts) < MAX_TOLD:
            self.verdicts.append(verdict)

    def lines(self) -> Iterator[str]:
        """In words, the sum last."""
        for verdict in self.verdicts:
            revision = "" if verdict.revision is None else f", revision {verdict.revision}"
            yield f"{verdict.event_id} by {verdict.detector}{revision}: {verdict.says}"
            if verdict.stored_hash:
                yield f"  hash {verdict.stored_hash}"
            if verdict.recomputed_hash not in {"", verdict.stored_hash}:
                yield f"  comes out as {verdict.recomputed_hash}"
            yield from (f"  {difference.words()}" for difference in verdict.differences)
        if not self.told:
            yield from (f"{count:,} of them: {why}" for why, count in self.cannot_be_told.items())
        if self.wrong > len(self.verdicts):
            yield f"{self.wrong - len(self.verdicts):,} more that do not hold"
        untold = self.decisions + self.revisions - self.hold - self.wrong
        revisions = f" and {self.revisions:,} revisions" if self.revisions else ""
        found = f"{self.hold:,} hold, {self.wrong:,} do not, {untold:,} cannot be told"
        yield f"{self.decisions:,} decisions{revisions}: {found}."


def verify(
    log: Log,
    detectors: Sequence[Detector],
    *,
    event_ids: AbstractSet[str] | None = None,
    sample: int | None = None,
    models: Models | None = None,
    progress: Progress,
) -> Iterator[Verdict]:
    """Check the decisions about `event_ids`, or `sample` of all decisions spread evenly over the log, or (None and
    None) all that are there now: a verdict each, in no promised order. `detectors` decided from the log's first record
    on, until the control stream said otherwise; `models` loads the models of versions that it names. The log is read
    once a detector, in batches; `progress` is told how
    many of its records were read, and how many there are at most.

    Raises:
        NotFoundError: the log holds no decision about one of the events, or none at all.
        UsageError: the sample has less than one decision.
    """
    ends = log.ends([DECISIONS])
    chosen = _chosen(log, ends, event_ids, sample)
    released = [control for _, control in controls(log)]
    first = {detector.name: detector for detector in detectors}
    at_hand = dict.fromkeys([*first, *(control.detector for control in released)])

    def stored() -> Iterable[Record]:
        return records_before(log, ends) if chosen is None else chosen

    for record in stored():
        name, event_id = _named(record)
        if name not in at_hand:
            says = f"cannot be told: detector {name!r} is not at hand (at hand: {', '.join(sorted(at_hand))})"
            yield Verdict(event_id=event_id, detector=name, holds=None, says=says)
    passes = [_Pass(log, name, first.get(name), released, stored=stored(), models=models) for name in at_hand]
    total = sum(each.total for each in passes)
    before = 0
    for each in passes:
        yield from each.verdicts(lambda done, before=before: progress(before + done, total))
        before += each.total
    progress(total, total)


def _chosen(log: Log, ends: Positions, event_ids: AbstractSet[str] | None, sample: int | None) -> list[Record] | None:
    """The decisions asked for, in the order of the log. None: all."""
    if event_ids is not None:
        found = [record for record in records_before(log, ends) if _named(record)[1] in event_ids]
        for unknown in sorted(event_ids - {_named(record)[1] for record in found}):
            raise NotFoundError(f"verify: the log holds no decision about event {unknown!r}")
        return found
    if sample is not None and sample < 1:
        raise UsageError(f"verify: wanted a sample of at least 1 decision, got {sample}")
    count = sum(1 for _ in (records_before(log, ends) if sample else islice(records_before(log, ends), 1)))
    if not count:
        raise NotFoundError("verify: the log holds no decision")
    if sample is None or sample >= count:
        return None
    # The middle one of each of `sample` equal parts.
    wanted = {(2 * part + 1) * count // (2 * sample) for part in range(sample)}
    return [record for index, record in enumerate(records_before(log, ends)) if index in wanted]


def _named(record: Record) -> tuple[str, str]:
    """Detector and event of a decision, by the id of its record."""
    name, _, event_id = (record.id or "").partition(":")
    return name, event_id or record.key


class _Claim(msgspec.Struct, frozen=True):
    """A decision as it is stored."""

    decision: Decision
    unchanged: bool
    """Its content gives its hash."""


class _Pass:
    """One detector's decisions beside what a new kernel decides.

    Decisions were written in the order of their events, and say how far the log was read: those of a batch of the log
    are the next ones, up to the first that lies behind it.
    """

    def __init__(
        self,
        log: Log,
        name: str,
        first: Detector | None,
        released: Sequence[Control],
        *,
        stored: Iterable[Record],
        models: Models | None,
    ) -> None:
        self._log, self._name = log, name
        self._versions = {first.version: first} if first else {}
        self._standing = Standing(live=beginnings([first])[0]) if first else Standing()
        #: Versions that go live later, in their order.
        self._coming: list[str] = []
        for control in released:
            if isinstance(control, Release) and (control.detector, control.status) == (name, "live"):
                detector = self._versions.get(control.version) or detector_of(control, models)
                if detector is not None:
                    self._versions[control.version] = detector
                    self._coming.append(control.version)
        self._stored = (record for record in stored if _named(record)[0] == name)
        streams = dict.fromkeys(stream for detector in self._versions.values() for stream in detector.streams)
        self._schemas = schemas_of(list(streams))
        self._topics = [*streams, DETECTORS]
        self._ends = log.ends(self._topics)
        self._ahead: list[_Claim] = []
        self._shortened = False
        self.total = sum(self._ends.values())

    def verdicts(self, progress: Callable[[int], None]) -> Iterator[Verdict]:
        yield from self._look_ahead()
        if not self._ahead:
            return
        # Each version sees the log from its start, so that it is warm when it goes live.
        kernels = {version: Kernel(detector) for version, detector in self._versions.items()}
        at: Positions = dict.fromkeys(self._ends, 0)
        done = 0
        for batch in self._log.history(GROUP, {}, self._topics):
            # Asked after each reading: a log that is in use may lose its first records meanwhile.
            self._shortened = self._shortened or _shortened(self._log, self._ends)
            for run, control in runs(batch):
                yield from self._decide(run, kernels, at)
                if control is not None:
                    at |= after([control])
                    self._follow(decode_control(control.value))
                    kernels = {version: kernels[version] for version in kernels if self._needs(version)}
            done += len(batch)
            progress(done)
            if not self._ahead:
                return
        while self._ahead:
            yield from (self._without_event(claim) for claim in self._ahead)
            self._ahead = []
            yield from self._look_ahead()

    def _follow(self, control: Control | Part | None) -> None:
        if control is None or isinstance(control, Part) or control.detector != self._name:
            return
        if isinstance(control, Release) and control.status == "live":
            if control.version not in self._versions:
                return
            self._coming.pop(0)
        self._standing = self._standing.after(control)

    def _needs(self, version: str) -> bool:
        live = self._standing.live
        return version in self._coming or (live is not None and version == live.version)

    def _decide(self, run: Sequence[Record], kernels: Mapping[str, Kernel], at: Positions) -> Iterator[Verdict]:
        """Have the kernels decide a run of the log after `at`, which moves; verdicts on what is stored about it."""
        arrived, before = arrivals(run, self._schemas), dict(at)
        at |= after(run)
        live = self._standing.live
        for version, kernel in kernels.items():
            if live is None or version != live.version:
                kernel.decide(arrived.by_stream)
        if live is None:
            return
        kernels[live.version].demote(frozenset(self._standing.demoted))
        decisions = kernels[live.version].decide(arrived.by_stream)
        ids: list[Any] = decisions.events.column("event_id").to_pylist()
        due: dict[str, _Claim] = {}
        yield from self._due(frozenset(ids), at, due)
        some = decisions.take(np.array([row for row, event_id in enumerate(ids) if event_id in due], np.int64))
        inputs = inputs_of(run, before, decisions.detector.streams)
        for made, index in zip(some.records(), some.at.tolist(), strict=True):
            yield self._compare(due[made.event_id], made, inputs[index])

    def _due(self, ids: AbstractSet[str], read: Positions, due: dict[str, _Claim]) -> Iterator[Verdict]:
        """Move to `due` what was decided about one of the events `ids`; verdicts on what lies in the log that was
        `read` and is about none.
        """
        while True:
            behind: list[_Claim] = []
            for claim in self._ahead:
                if claim.decision.event_id in ids:
                    due[claim.decision.event_id] = claim
                elif all(claim.decision.inputs.get(at.name, 0) <= read[at] for at in read):
                    yield self._without_event(claim)
                else:
                    behind.append(claim)
            moved = len(behind) < len(self._ahead)
            self._ahead = behind
            yield from self._look_ahead()
            if not moved:
                return

    def _look_ahead(self) -> Iterator[Verdict]:
        """Have the next decisions at hand; verdicts on those that can't be compared."""
        while len(self._ahead) < _AHEAD and (record := next(self._stored, None)) is not None:
            found = self._claim(record)
            if isinstance(found, _Claim):
                self._ahead.append(found)
            else:
                yield found

    def _claim(self, record: Record) -> _Claim | Verdict:
        name, event_id = _named(record)
        try:
            decision = msgspec.json.decode(record.value, type=Decision)
        except msgspec.DecodeError:
            return Verdict(event_id=event_id, detector=name, holds=False, says="the record is not a decision")
        if (decision.detector, decision.event_id) != (name, event_id):
            says = f"the record is about event {decision.event_id!r} by {decision.detector!r}"
            return Verdict(event_id=event_id, detector=name, holds=False, says=says, stored_hash=decision.hash)
        claim = _Claim(decision, decision_hash(decision) == decision.hash)
        if decision.detector_version in self._versions:
            return claim
        if not claim.unchanged:
            return _verdict(claim, holds=False, says=CHANGED)
        version = f"version {decision.detector_version}, at hand is {', '.join(self._versions)}"
        return _verdict(claim, holds=None, says=f"cannot be told: detector {name!r} decided it in {version}")

    def _compare(self, claim: _Claim, made: Decision, inputs: Mapping[str, int]) -> Verdict:
        stored = {place: claim.decision.inputs.get(place) for place in inputs}
        found = (*differences(claim.decision, made), *by_name("inputs", stored, inputs))
        if claim.unchanged and found and (made.model_score is None) != (claim.decision.model_score is None):
            return _verdict(claim, holds=None, says=_MODEL_FAILED)
        if claim.unchanged and found and self._shortened:
            return _verdict(claim, holds=None, says=_SHORTENED)
        if not claim.unchanged:
            says = CHANGED
        elif made.hash != claim.decision.hash:
            says = "the log does not give this decision: the record, or what the log holds before it, was changed"
        elif found:
            says = "the event does not lie in the log where the record says"
        else:
            says = "decided again from the log, it has the same hash"
        holds = claim.unchanged and not found
        return _verdict(claim, holds=holds, says=says, recomputed_hash=made.hash, differences=found)

    def _without_event(self, claim: _Claim) -> Verdict:
        if not claim.unchanged:
            return _verdict(claim, holds=False, says=CHANGED)
        if self._shortened or _shortened(self._log, self._ends):
            return _verdict(claim, holds=None, says=_SHORTENED)
        return _verdict(claim, holds=False, says="the log holds no such event where the record says")


CHANGED = "the record was changed after it was written: its content does not give its hash"
_MODEL_FAILED = "cannot be told: the model gave a score either when it was decided or now, and failed the other time"
_SHORTENED = "cannot be told: its retention has removed the log's first records, which may have decided it"


def _verdict(claim: _Claim, **found: Any) -> Verdict:
    decision = claim.decision
    return Verdict(event_id=decision.event_id, detector=decision.detector, stored_hash=decision.hash, **found)


def _shortened(log: Log, ends: Positions) -> bool:
    """Whether a partition no longer holds its first record."""

    def first(place: TopicPartition) -> int:
        records = log.read({place: 0}, 1)
        return records[0].offset if records else ends[place]

    return any(first(place) > 0 for place in ends)
