"""From decoded events to entries of the log: validate and protect. What is refused becomes an entry that tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import msgspec

from tidegate.errors import EventError
from tidegate.intake.decode import Decoded
from tidegate.intake.envelopes import Envelopes
from tidegate.intake.protect import Event, Protected, protect, reject
from tidegate.intake.sensitive import mask_undecodable
from tidegate.intake.validate import Validator
from tidegate.ports.log import Entry
from tidegate.streams.files import row_id
from tidegate.streams.rejected import Rejected, Step
from tidegate.streams.schema import STREAMS, Schema, load_schema

_encoder = msgspec.json.Encoder()

Result = Protected | tuple[EventError, Entry]
"""An event that is ready to be written, or why it is refused and the entry that tells of it."""


class Origin(NamedTuple):
    """Where events come from: who sent them, when the door accepted them, and the name and digest of their file."""

    source: str
    accepted_ms: int
    file: str | None = None
    digest: str | None = None


class Preparer:
    """Checks and protects events of every stream. Threads may share it."""

    def __init__(self, envelopes: Envelopes) -> None:
        self._envelopes = envelopes
        self._schemas: Mapping[str, Schema] = {stream: load_schema(stream) for stream in STREAMS}
        self._validators = {stream: Validator(schema) for stream, schema in self._schemas.items()}

    def prepare(self, stream: str, events: Sequence[Decoded], origin: Origin) -> list[Result]:
        """Each event's result, in order. To be written after the envelopes' `sync`.

        Raises:
            OverloadError: there is no room for what is large.
        """
        checked = [self._check(stream, event, origin) for event in events]
        good = [event for event in checked if isinstance(event, Event)]
        protected = iter(protect(self._envelopes, self._schemas[stream], good, origin.accepted_ms))
        return [next(protected) if isinstance(event, Event) else event for event in checked]

    def refuse(self, stream: str, refused: Decoded, error: EventError, origin: Origin) -> Entry:
        """The entry that tells of a refusal."""
        told = Rejected(
            stream=stream,
            step=cast("Step", error.step),
            reason=str(error),
            field=error.field,
            source=origin.source,
            file=origin.file,
            row=refused.row,
            accepted_ms=origin.accepted_ms,
        )
        original = refused.original
        kept = mask_undecodable(original) if isinstance(original, bytes) else _encoder.encode(original)
        entry = reject(self._envelopes, told, kept)
        if origin.digest is None or refused.row is None:
            return entry
        # Named by its place in its file: taken up again after a fall, it is not told of twice.
        return msgspec.structs.replace(entry, id=row_id(origin.digest, refused.row))

    def _check(self, stream: str, decoded: Decoded, origin: Origin) -> Event | tuple[EventError, Entry]:
        event = decoded.event
        try:
            if isinstance(event, EventError):
                raise event
            if decoded.row is not None and origin.digest is not None and event.get("event_id") is None:
                event = event | {"event_id": row_id(origin.digest, decoded.row)}
            fields = self._validators[stream].check(event, origin.accepted_ms * 1000)
        except EventError as error:
            return error, self.refuse(stream, decoded, error, origin)
        return Event(fields, {name: value for name, value in event.items() if name not in fields})
