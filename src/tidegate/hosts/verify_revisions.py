"""Proof of revisions: each is as it was written, amends what it says it does, and its causes lie in the log.

They are not decided again.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

import msgspec

from tidegate.hosts.arrivals import records_before
from tidegate.hosts.time_order import First
from tidegate.hosts.verify import CHANGED, Verdict
from tidegate.ports.log import Log, TopicPartition
from tidegate.streams.decision import DECISIONS
from tidegate.streams.revision import REVISIONS, Cause, Missed, Revision, decode_revision, revision_hash

_CAUSE_GONE = "cannot be told: the log no longer holds its cause {}"
_CAUSE_NOT_THERE = "its cause {} does not lie in the log where it says"

_Before = First | Revision


def verify_revisions(log: Log, event_ids: AbstractSet[str] | None = None) -> Iterator[Verdict]:
    """Check the revisions of decisions about `event_ids`, or all that are there: a verdict each, in the order of the
    log.
    """
    before = _firsts(log, event_ids)
    firsts = {key: first for key, first in before.items() if isinstance(first, First)}
    for record in records_before(log, log.ends([REVISIONS])):
        detector, _, rest = (record.id or "").partition(":")
        event_id = rest.rpartition(":")[0]
        revision = decode_revision(record.value)
        if isinstance(revision, Missed) or (event_ids is not None and event_id not in event_ids):
            continue
        if revision is None or (revision.detector, revision.event_id) != (detector, event_id):
            says = "the record is not the revision that its id names"
            yield Verdict(event_id=event_id, detector=detector, holds=False, says=says)
            continue
        key = detector, event_id
        holds, says = _examined(log, revision, firsts.get(key), before.get(key))
        before[key] = revision
        yield Verdict(
            event_id=event_id,
            detector=detector,
            holds=holds,
            says=says,
            stored_hash=revision.hash,
            revision=revision.number,
        )


def _firsts(log: Log, event_ids: AbstractSet[str] | None) -> dict[tuple[str, str], _Before]:
    """The first decisions of what was revised, by detector and event."""
    revised = {
        record.key
        for record in records_before(log, log.ends([REVISIONS]))
        if event_ids is None or record.key in event_ids
    }
    found: dict[tuple[str, str], _Before] = {}
    for record in records_before(log, log.ends([DECISIONS])) if revised else ():
        if record.key in revised:
            try:
                first = msgspec.json.decode(record.value, type=First)
            except msgspec.DecodeError:
                continue
            found[first.detector, first.event_id] = first
    return found


def _examined(log: Log, revision: Revision, first: First | None, before: _Before | None) -> tuple[bool | None, str]:
    if revision_hash(revision) != revision.hash:
        return False, CHANGED
    if not first or not before:
        return None, "cannot be told: the log no longer holds the decision that it amends"
    number, outcome, score = (
        (before.number, before.new_outcome, before.new_score)
        if isinstance(before, Revision)
        else (0, before.outcome, before.score)
    )
    said = revision.decision_hash, revision.number, revision.old_outcome, revision.old_score
    if said != (first.hash, number + 1, outcome, score):
        return False, "it does not amend the decision, or the revision before it, that the log holds"
    there = [(cause.event_id, _is_there(log, cause, revision)) for cause in revision.causes]
    for event_id, holds in sorted(there, key=lambda found: found[1] is None):
        if not holds:
            return holds, _CAUSE_GONE.format(event_id) if holds is None else _CAUSE_NOT_THERE.format(event_id)
    return True, "it amends the decision as it says, and its causes lie in the log"


def _is_there(log: Log, cause: Cause, revision: Revision) -> bool | None:
    """None: the log has let it go."""
    name, _, offset = cause.place.partition("@")
    place = TopicPartition.named(name)
    if place not in log.ends(log.topics()):
        return False
    found = log.read({place: int(offset)}, 1)
    if not found or found[0].offset != int(offset):
        return None
    record = found[0]
    same = (record.topic, record.id) == (cause.stream, cause.event_id)
    timed = msgspec.json.decode(record.value).get("event_time") == cause.event_time
    return same and timed and cause.event_time <= revision.event_time
