"""What subscribers are sent: an alert or a revision as JSON, without what is personal in clear."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from tidegate.ports.log import Record
from tidegate.streams.decision import ALERTS, Alert
from tidegate.streams.revision import Revision, decode_revision
from tidegate.streams.signature import ID, SIGNATURE, TIMESTAMP, sign

#: Fields of an alert that stay here. A card's first and last digits may be shown to who needs them; who that is, only
#: the desk knows.
_KEPT_HERE = ("pan_bin", "pan_last4")

#: Fields of a revision that are sent: what it says, without where the log has it.
_OF_REVISION = (
    *("event_id", "event_time", "stream", "detector", "detector_version", "number", "old_outcome", "new_outcome"),
    *("old_score", "new_score", "fired", "ceased", "reasons", "hash"),
)

_encoder = msgspec.json.Encoder()
_alerts = msgspec.json.Decoder(Alert)


def notice(record: Record) -> bytes | None:
    """The body of the message that a record becomes; None if it becomes none."""
    try:
        if record.topic == ALERTS:
            alert = _alerts.decode(record.value)
            fields = msgspec.structs.asdict(alert)
            data = {name: value for name, value in fields.items() if name not in _KEPT_HERE}
            return body("alert.raised", alert.decided_ms, data)
    except msgspec.MsgspecError:
        return None
    revision = decode_revision(record.value)
    # What was missed is about no decision.
    if not isinstance(revision, Revision):
        return None
    data = {name: getattr(revision, name) for name in _OF_REVISION}
    return body("decision.revised", revision.revised_ms, data)


def body(what: str, at_ms: int, data: Mapping[str, Any]) -> bytes:
    """As Standard Webhooks has it."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return _encoder.encode({"type": what, "timestamp": at.isoformat(timespec="milliseconds"), "data": data})


def message_id(record: Record) -> str:
    """The same whenever the record is sent, and another in another log."""
    told = f"{record.name} {record.timestamp_ms} {record.id}"
    return f"msg_{hashlib.sha256(told.encode()).hexdigest()[:32]}"


def headers(keys: Sequence[bytes], name: str, now_ms: int, content: bytes) -> dict[str, str]:
    """The headers of a message that is sent now."""
    return {
        "content-type": "application/json",
        "user-agent": "tidegate",
        ID: name,
        TIMESTAMP: str(now_ms // 1000),
        SIGNATURE: sign(keys, name, now_ms // 1000, content),
    }
