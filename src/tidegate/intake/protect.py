"""Personal values leave the event here: tokens stay, the originals go into an envelope under the person's key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tidegate.intake.envelopes import Envelope, Envelopes
from tidegate.ports.keys import Keys
from tidegate.ports.log import Entry
from tidegate.streams.decision import REJECTED
from tidegate.streams.rejected import Rejected
from tidegate.streams.schema import PersonalClass, Schema

#: PCI DSS 3.4.1: what may be shown of a card number.
_BIN_DIGITS = 6
_LAST_DIGITS = 4

_NOT_A_DIGIT = re.compile(r"\D")

_encoder = msgspec.json.Encoder()


class Event(msgspec.Struct, frozen=True):
    """An event that was checked: the schema's fields, and all others."""

    fields: dict[str, Any]
    unknown: dict[str, Any]


class Protected(msgspec.Struct, frozen=True):
    """What is left of an event: the entry for the log, and what may be shown of its card."""

    event_id: str
    entry: Entry
    card: str | None


def protect(envelopes: Envelopes, schema: Schema, events: Sequence[Event], accepted_ms: int) -> list[Protected]:
    """Each event's record, in order: tokens in place of personal values, a card number's first six and last four beside
    its token, and the personal values and the unknown fields, one JSON object under the subject's key, in `sealed` or,
    if they are large, where `claim` says.

    Raises:
        OverloadError: there is no room for a large one.
    """
    keys, classes = envelopes.keys, schema.personal
    unsealed = [_tokenise(keys, schema, classes, event) for event in events]
    keys.prepare({subject for _, original, subject in unsealed if original})
    protected: list[Protected] = []
    for record, original, subject in unsealed:
        context = _context(schema, record)
        envelope = envelopes.seal(subject, _encoder.encode(original), context) if original else Envelope()
        record |= {"sealed": envelope.sealed, "claim": envelope.claim}
        event_id: str = record["event_id"]
        entry = Entry(schema.name, record[schema.key] or event_id, _encoder.encode(record), accepted_ms, event_id)
        protected.append(Protected(event_id, entry, card_of(record)))
    return protected


def reveal(envelopes: Envelopes, schema: Schema, record: dict[str, Any]) -> dict[str, Any]:
    """The originals that `protect` put into the record's envelope, by field.

    Raises:
        NotFoundError: the subject's key was destroyed, or what was claimed is not there.
        DamagedError: the envelope is not the one that was sealed.
    """
    envelope = Envelope(record["sealed"], record["claim"])
    if envelope == Envelope():
        return {}
    opened = envelopes.open(subject_of(envelopes.keys, schema, record), envelope, _context(schema, record))
    return msgspec.json.decode(opened)


def subject_of(keys: Keys, schema: Schema, record: dict[str, Any]) -> str:
    """Whose key seals a protected record: the token of its subject, or, where nobody is known, of the event itself."""
    subject = record[schema.subject] if schema.subject else None
    return subject or keys.token("customer", f"event:{schema.name}:{record['event_id']}")


def reject(envelopes: Envelopes, rejected: Rejected, original: bytes) -> Entry:
    """The entry of something refused, its original sealed under the key of its source.

    `original` is free of sensitive authentication data already.
    """
    envelope = envelopes.seal(rejected_subject(rejected.source), original, rejected_context(rejected))
    value = msgspec.structs.replace(rejected, sealed=envelope.sealed, claim=envelope.claim)
    return Entry(REJECTED, rejected.source or "", _encoder.encode(value), rejected.accepted_ms)


def open_rejected(envelopes: Envelopes, rejected: Rejected) -> bytes:
    """The original of what was refused, as `reject` sealed it.

    Raises:
        NotFoundError: the source's key was destroyed, or nothing was sealed.
        DamagedError: the envelope is not the one that was sealed.
    """
    envelope = Envelope(rejected.sealed, rejected.claim)
    return envelopes.open(rejected_subject(rejected.source), envelope, rejected_context(rejected))


def rejected_subject(source: str | None) -> str:
    """The subject whose key seals what a source sent and the door refused."""
    return f"rejected:{source or ''}"


def rejected_context(rejected: Rejected) -> bytes:
    return f"rejected:{rejected.stream}:{rejected.accepted_ms}".encode()


def _tokenise(
    keys: Keys, schema: Schema, classes: Mapping[str, PersonalClass], event: Event
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The record with tokens in place of personal values; what is to be sealed; whose key seals it."""
    record, original = dict(event.fields), dict(event.unknown)
    for name, personal in classes.items():
        value = record[name]
        if personal == "pan":
            digits = _NOT_A_DIGIT.sub("", value) if value else None
            record[f"{name}_bin"] = digits[:_BIN_DIGITS] if digits else None
            record[f"{name}_last4"] = digits[-_LAST_DIGITS:] if digits else None
        if value is not None:
            original[name] = value
            record[name] = keys.token(personal, value)
    return record, original, subject_of(keys, schema, record)


def card_of(record: dict[str, Any]) -> str | None:
    """What may be shown of a protected record's card: 411111******1111."""
    first, last = record.get("pan_bin"), record.get("pan_last4")
    return f"{first}******{last}" if first and last else None


def _context(schema: Schema, record: dict[str, Any]) -> bytes:
    return f"{schema.name}:{record['event_id']}".encode()
