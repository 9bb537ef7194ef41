"""What the revisions write: how a decision would have come out, had all events come in the order of their time."""

from __future__ import annotations

import hashlib

import msgspec

from tidegate.streams.decision import Outcome

REVISIONS = "revisions"


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """An event or a label that had not arrived when a decision was made that it belongs before."""

    stream: str
    event_id: str
    event_time: int
    """Microseconds since 1970."""
    place: str
    """Where it lies in the log: "topic/partition@offset"."""


class Revision(msgspec.Struct, frozen=True, kw_only=True, tag="revision", tag_field="kind"):
    """A decision amended: its outcome is another one, now that more of what was so at its time has arrived. The first
    decision stays as it is in `decisions`.
    """

    event_id: str
    event_time: int
    stream: str
    detector: str
    detector_version: str
    """The version that made the first decision: a revision is by the same."""
    number: int
    """1 for a decision's first revision."""
    decision_hash: str
    """Of the first decision."""
    old_outcome: Outcome
    """Of the revision before, of the first decision if there is none; so are `old_score` and the rules compared to."""
    new_outcome: Outcome
    old_score: int
    new_score: int
    fired: list[str]
    """Rules that fire now and did not before."""
    ceased: list[str]
    """Rules that fired before and do not now."""
    rules: list[str]
    """All that fire now."""
    reasons: list[str]
    """In words, for the new outcome."""
    causes: list[Cause]
    """The newest first, not more than MAX_CAUSES."""
    more_causes: int = 0
    revised_hash: str
    """Of the decision record as it comes out now."""
    inputs: dict[str, int]
    """How much of each input topic had arrived, as "topic/partition" -> next offset."""
    hash: str = ""
    revised_ms: int = 0
    """When it was written, milliseconds since 1970: outside the hash."""


class Missed(msgspec.Struct, frozen=True, kw_only=True, tag="missed", tag_field="kind"):
    """An event that came too late, or is dated too far ahead, to revise what it would have changed."""

    detector: str
    cause: Cause
    settled_until: int
    """Decisions up to this event time, in microseconds, stand as they are."""
    reason: str


#: Causes that one revision names.
MAX_CAUSES = 16

RevisionRecord = Revision | Missed

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[RevisionRecord] = msgspec.json.Decoder(RevisionRecord)


def revision_hash(revision: Revision) -> str:
    """SHA-256, in hex, over the record's JSON with `hash` and `revised_ms` empty."""
    return hashlib.sha256(_encoder.encode(msgspec.structs.replace(revision, hash="", revised_ms=0))).hexdigest()


def decode_revision(value: bytes) -> RevisionRecord | None:
    """A record of the topic, or None if that is not what it is."""
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
