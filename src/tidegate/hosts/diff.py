"""Which decisions differ between two versions of a detector, over the same events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from tidegate.errors import NotFoundError, UsageError
from tidegate.hosts.arrivals import batches
from tidegate.hosts.controls import controls
from tidegate.hosts.history import Batches
from tidegate.kernel.decide import Kernel
from tidegate.kernel.decisions import Decisions
from tidegate.kernel.detector import Detector
from tidegate.ports.log import Log
from tidegate.streams.control import Standing, standings
from tidegate.streams.decision import DECISIONS, Outcome

#: Changed decisions that are told one by one.
MAX_EXAMPLES = 20

#: Decisions of a partition that are held against those of a shadow: some minutes of a busy stream.
MAX_COMPARED = 100_000

#: The outcome of an event that one of the two did not decide: it took it for a duplicate.
NOT_DECIDED = "none"


class Decided(NamedTuple):
    """What the comparison sees of one decision: `rules` are the names of those that fired."""

    outcome: Outcome
    score: int
    rules: frozenset[str]


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """An event whose outcome differs. `gained` are the rules that fire only in the second, `lost` only in the first."""

    event_id: str
    outcomes: tuple[str, str]
    scores: tuple[int | None, int | None]
    gained: list[str]
    lost: list[str]


class RuleFirings(msgspec.Struct):
    """How often one rule fires in the first and in the second, and in how many events only in the one or the other."""

    before: int = 0
    after: int = 0
    gained: int = 0
    lost: int = 0


class Diff(msgspec.Struct, kw_only=True):
    """`before` and `after` name the two."""

    before: str
    after: str
    events: int = 0
    changed: int = 0
    """Events whose outcome differs."""
    outcomes: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    """Events by pair of outcomes, as "approve to review"; those whose outcome stays, too."""
    rules: dict[str, RuleFirings] = msgspec.field(default_factory=dict[str, RuleFirings])
    examples: list[Example] = msgspec.field(default_factory=list[Example])
    """The first MAX_EXAMPLES events whose outcome differs."""

    def add(self, event_id: str, before: Decided | None, after: Decided | None) -> None:
        """Count one event; None where it was not decided."""
        self.events += 1
        outcomes = (before.outcome if before else NOT_DECIDED, after.outcome if after else NOT_DECIDED)
        pair = " to ".join(outcomes)
        self.outcomes[pair] = self.outcomes.get(pair, 0) + 1
        first, second = (each.rules if each else frozenset[str]() for each in (before, after))
        for rule in first | second:
            firings = self.rules.setdefault(rule, RuleFirings())
            firings.before += rule in first
            firings.after += rule in second
            firings.gained += rule not in first
            firings.lost += rule not in second
        if outcomes[0] == outcomes[1]:
            return
        self.changed += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(
                Example(
                    event_id=event_id,
                    outcomes=outcomes,
                    scores=(before.score if before else None, after.score if after else None),
                    gained=sorted(second - first),
                    lost=sorted(first - second),
                )
            )

    def lines(self) -> Iterator[str]:
        """In words, the sum last."""
        for example in self.examples:
            signs = [*(f"+{rule}" for rule in example.gained), *(f"-{rule}" for rule in example.lost)]
            scores = " to ".join("none" if score is None else str(score) for score in example.scores)
            yield f"{example.event_id}: {' to '.join(example.outcomes)} ({scores}) {' '.join(signs)}".rstrip()
        if self.changed > len(self.examples):
            yield f"{self.changed - len(self.examples):,} more"
        for rule, firings in sorted(self.rules.items()):
            if firings.gained or firings.lost:
                yield (
                    f"rule {rule}: fires {firings.before:,} times in {self.before}, {firings.after:,} in {self.after} "
                    f"({firings.gained:,} more, {firings.lost:,} fewer)"
                )
        for pair, count in sorted(self.outcomes.items()):
            yield f"{pair}: {count:,}"
        yield f"{self.events:,} events: {self.changed:,} are decided otherwise by {self.after} than by {self.before}."


def diff(before: Detector, after: Detector, history: Batches) -> Diff:
    """Decide all of `history` by both, each from empty windows, and count what differs.

    Raises:
        UsageError: the two decide different streams.
    """
    if before.stream.name != after.stream.name:
        raise UsageError(
            f"diff: {before.name} decides {before.stream.name}, {after.name} {after.stream.name}: wanted two detectors "
            "of one stream"
        )
    found = Diff(before=_title(before), after=_title(after))
    kernels = [Kernel(detector) for detector in (before, after)]
    for arrived in history:
        first, second = (_decided(kernel.decide(arrived)) for kernel in kernels)
        for event_id in dict.fromkeys([*first, *second]):
            found.add(event_id, first.get(event_id), second.get(event_id))
    return found


class _Seen(msgspec.Struct):
    """The part of a decision's record that is compared."""

    event_id: str
    detector: str
    detector_version: str
    outcome: Outcome
    score: int
    rules: dict[str, bool]


def shadow_diff(log: Log, own: Log, name: str) -> Diff:
    """What a detector's shadow version decided otherwise than the live ones, of the newest events that both decided: of
    the last MAX_COMPARED decisions of a partition. `own` is the shadow's log.

    Raises:
        NotFoundError: the detector has no shadow version.
    """
    standing = standings(control for _, control in controls(log)).get(name, Standing())
    if standing.shadow is None:
        raise NotFoundError(f"detector {name!r}: it has no shadow version; tidegate detector promote --to shadow")
    version = standing.shadow.version
    by_shadow = {
        seen.event_id: seen for seen in _newest(own) if (seen.detector, seen.detector_version) == (name, version)
    }
    found = Diff(before=f"{name} live", after=f"{name} {version}")
    for seen in _newest(log):
        if seen.detector == name and seen.event_id in by_shadow:
            found.add(seen.event_id, _as_decided(seen), _as_decided(by_shadow[seen.event_id]))
    return found


def _newest(log: Log) -> Iterator[_Seen]:
    ends = log.ends([DECISIONS])
    for batch in batches(log, {place: max(0, end - MAX_COMPARED) for place, end in ends.items()}, ends):
        for record in batch:
            yield msgspec.json.decode(record.value, type=_Seen)


def _as_decided(seen: _Seen) -> Decided:
    return Decided(seen.outcome, seen.score, frozenset(rule for rule, fires in seen.rules.items() if fires))


def _title(detector: Detector) -> str:
    return f"{detector.name} {detector.version}"


def _decided(decisions: Decisions) -> dict[str, Decided]:
    table = decisions.table()
    columns: Iterable[Any] = zip(
        *(table[name].to_pylist() for name in ("event_id", "outcome", "score", "rules")), strict=True
    )
    return {event_id: Decided(outcome, score, frozenset(rules)) for event_id, outcome, score, rules in columns}
