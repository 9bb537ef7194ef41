"""What was rejected: by cause, opened, and tried again once the mapping or the schema was mended."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, TypeVar, cast

import msgspec

from tidegate.errors import EventError, MappingError, NotFoundError, SchemaError
from tidegate.files.formats import format_of
from tidegate.files.mapped import Mapper
from tidegate.files.mapping import Mapping as FileMapping
from tidegate.intake.bare import bare
from tidegate.intake.decode import Decoded, decode, stripped
from tidegate.intake.envelopes import Envelopes
from tidegate.intake.prepare import Origin, Preparer
from tidegate.intake.protect import Protected, open_rejected
from tidegate.ports.clock import Clock
from tidegate.ports.log import Entry, Log, read_on
from tidegate.streams.decision import REJECTED
from tidegate.streams.rejected import RETRIES, Rejected, Retry, Step

#: Records that are tried again at once.
_AT_ONCE = 1_000

_NUMBER = re.compile(r"\d+")

Kind = TypeVar("Kind")

_encoder = msgspec.json.Encoder()


class Kept(msgspec.Struct, frozen=True):
    """A rejected event that is not in its stream yet. `id` is its own, `record_id` that of its record, if it has one;
    `told` says why it was refused the last time.
    """

    id: str
    record_id: str | None
    rejected: Rejected
    told: Rejected | Retry

    @property
    def cause(self) -> tuple[str, str, str]:
        """Stream, step and reason, without what differs from event to event."""
        return self.rejected.stream, self.told.step or "", _NUMBER.sub("#", self.told.reason or "")


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Rejected events of one cause: how many, from when to when, in which files, and one of them."""

    stream: str
    step: str
    reason: str
    events: int
    first_ms: int
    last_ms: int
    files: list[str]
    example: str


class Retried(msgspec.Struct):
    """What became of rejected events that were tried again. `left` have no original here: take the file again."""

    taken: int = 0
    refused: int = 0
    left: int = 0


def kept(log: Log) -> list[Kept]:
    """The rejected events that are not in their stream yet, in their order."""
    retries: dict[str, Retry] = {}
    for _, _, retry in _read(log, RETRIES, Retry):
        retries[retry.place] = retry
    found: list[Kept] = []
    for place, record_id, rejected in _read(log, REJECTED, Rejected):
        retry = retries.get(place)
        if retry is None or not retry.taken:
            found.append(Kept(place, record_id, rejected, retry or rejected))
    return found


def causes(events: Sequence[Kept]) -> list[Cause]:
    """By cause, the most frequent first."""
    ordered = sorted(events, key=lambda event: event.cause)
    found: list[Cause] = []
    for (stream, step, reason), group in groupby(ordered, key=lambda event: event.cause):
        same = list(group)
        times = [event.rejected.accepted_ms for event in same]
        found.append(
            Cause(
                stream=stream,
                step=step,
                reason=reason,
                events=len(same),
                first_ms=min(times),
                last_ms=max(times),
                files=sorted({event.rejected.file for event in same if event.rejected.file}),
                example=same[0].id,
            )
        )
    return sorted(found, key=lambda cause: -cause.events)


def retry(
    log: Log, envelopes: Envelopes, clock: Clock, events: Sequence[Kept], *, by: str, mapping: FileMapping | None = None
) -> Retried:
    """Try rejected events again, the way of the door; rows of files and messages of webhooks go through the mapping.
    What is taken and the note that it is are written in one transaction.

    Raises:
        OverloadError: the log cannot be written now. What is taken so far is not tried again.
    """
    tally = Retried()
    preparer = Preparer(envelopes)
    for start in range(0, len(events), _AT_ONCE):
        entries: list[Entry] = []
        for event in events[start : start + _AT_ONCE]:
            if not event.rejected.has_original:
                tally.left += 1
                continue
            digest = event.record_id.split("-")[1] if event.record_id and event.rejected.row else None
            origin = Origin(event.rejected.source or "", clock.now_ms(), event.rejected.file, digest)
            decoded = _decoded(envelopes, event, mapping)
            (result,) = preparer.prepare(event.rejected.stream, [decoded], origin)
            if isinstance(result, Protected):
                tally.taken += 1
                told = Retry(place=event.id, taken=True, by=by, at_ms=origin.accepted_ms)
                entries.append(result.entry)
            else:
                tally.refused += 1
                error = result[0]
                told = Retry(
                    place=event.id, taken=False, step=cast("Step", error.step), reason=str(error), field=error.field,
                    by=by, at_ms=origin.accepted_ms,
                )  # fmt: skip
            entries.append(Entry(RETRIES, event.id, _encoder.encode(told), origin.accepted_ms))
        envelopes.sync()
        log.append(entries)
    return tally


def _decoded(envelopes: Envelopes, event: Kept, mapping: FileMapping | None) -> Decoded:
    row, original = event.rejected.row, b""
    try:
        original = open_rejected(envelopes, event.rejected)
        values = decode(original)
        form = format_of(event.rejected.file) if event.rejected.file else "json"
        # A row without a file is a webhook's message.
        if mapping and row is not None:
            return Decoded(_mapped(mapping, values, is_text=form == "csv"), values, row)
        given = values if form in ("json", "ndjson") else bare(event.rejected.stream, [values])[0]
        return Decoded(given, values, row)
    except EventError as error:
        return Decoded(error, original, row)


def _mapped(mapping: FileMapping, values: dict[str, Any], *, is_text: bool) -> dict[str, Any] | EventError:
    try:
        (mapped,) = Mapper(mapping, list(values), None, [values], is_text=is_text).map([values])
    except MappingError as error:
        return SchemaError("map", str(error))
    return mapped if isinstance(mapped, EventError) else stripped(mapped)


def one(events: Sequence[Kept], event_id: str) -> Kept:
    """The rejected event of an id.

    Raises:
        NotFoundError: there is none, or it is in its stream by now.
    """
    for event in events:
        if event.id == event_id:
            return event
    raise NotFoundError(f"rejected: {event_id}: there is none, or it was taken since; see `tidegate rejected list`")


def _read(log: Log, topic: str, kind: type[Kind]) -> Iterator[tuple[str, str | None, Kind]]:
    for record in read_on(log, dict.fromkeys(log.ends([topic]), 0)):
        yield f"{record.partition}-{record.offset}", record.id, msgspec.json.decode(record.value, type=kind)
