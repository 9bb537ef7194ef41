"""What made a decision come out otherwise: the records that belong before its event and had not arrived."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tidegate.hosts.time_order import Item
from tidegate.kernel.detector import Detector
from tidegate.kernel.language.expressions import Column
from tidegate.ports.log import Record
from tidegate.streams.revision import MAX_CAUSES, Cause

#: Records out of order that are kept in mind: also where one event that is dated ahead makes all after it be out of
#: order, those that come while an event waits.
STRAYS_KEPT = 16_384

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Stray(msgspec.Struct, frozen=True, array_like=True):
    """A record that came after one of a later time, with its number in the order of append. `keys` are what it has in
    common with the decisions that it may change; empty for a label, which names a transaction alone.
    """

    number: int
    cause: Cause
    keys: frozenset[str]


def cause_of(record: Record, time: int) -> Cause:
    """A record as the cause of a revision."""
    return Cause(stream=record.topic, event_id=record.id or "", event_time=time, place=record.name)


class Causes:
    """The records out of order of a detector's streams."""

    def __init__(self, detector: Detector, strays: Iterable[Stray] = ()) -> None:
        self._kept: deque[Stray] = deque(strays, maxlen=STRAYS_KEPT)
        self._columns = _key_columns(detector)

    @property
    def kept(self) -> list[Stray]:
        return list(self._kept)

    def add(self, item: Item) -> None:
        """Keep a record in mind that came out of order."""
        self._kept.append(Stray(item.number, cause_of(item.record, item.time), self._keys(item.record)))

    def of(self, item: Item) -> tuple[list[Cause], int]:
        """What may have changed the decision about an event, the newest first, and how many more there are: of the
        records that belong before it and came after it those that share a key with it, all of them if none does; if
        there are none, those of its keys that came out of order before: they changed what it counts. And the event
        itself, if it was late.
        """
        keys = self._keys(item.record)
        before = [stray for stray in self._kept if stray.cause.event_time < item.time]
        after = [stray for stray in before if stray.number > item.number]
        chosen = [stray for stray in after if stray.keys & keys] or after
        is_late = item.first is not None and item.first.late
        if not chosen and not is_late:
            chosen = [stray for stray in before if stray.keys & keys]
        causes = [stray.cause for stray in sorted(chosen, key=lambda stray: -stray.number)]
        if is_late:
            causes.insert(0, cause_of(item.record, item.time))
        return causes[:MAX_CAUSES], max(0, len(causes) - MAX_CAUSES)

    def _keys(self, record: Record) -> frozenset[str]:
        event = _decode(record.value)
        found: set[str] = set()
        for name, columns in self._columns.get(record.topic, ()):
            values = [event.get(column) for column in columns]
            if None not in values:
                found.add(f"{name}:{values}")
        return frozenset(found)


def _key_columns(detector: Detector) -> Mapping[str, list[tuple[str, tuple[str, ...]]]]:
    """By stream: under which name its records are gathered, joined or followed, and by which columns."""
    own = detector.stream
    found: dict[str, list[tuple[str, tuple[str, ...]]]] = {own.name: []}
    for entity in detector.compiled.plan.entities:
        if set(entity.columns) <= own.protected_columns.keys():
            found[own.name].append((f"entity {entity.columns}", entity.columns))
    for join in detector.joined:
        table, name = detector.compiled.joins.tables[join.table], f"join {join.name}"
        found[own.name].append((name, join.keys))
        found.setdefault(table.stream, []).append((name, table.keys))
    for sequence in detector.sequences:
        for rows in sequence.inputs:
            columns = tuple(part.name for part in rows.key if isinstance(part, Column))
            if columns and len(columns) == len(rows.key):
                found.setdefault(rows.stream.name, []).append((f"sequence {sequence.name}", columns))
    return found
