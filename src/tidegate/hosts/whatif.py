"""What would have been decided of an event, had it been another: the version that decided it is asked, over the log.

A new kernel decides all that stood before the event in the log, as `tidegate verify` has it, and then the event with
another value. So there is nothing that can't be told, keys included: what is joined, counted and followed is what the
other value finds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from tidegate.errors import NotFoundError, StateError, UsageError
from tidegate.hosts.arrivals import arrivals, schemas_of, taken
from tidegate.hosts.controls import version_named
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import Detector
from tidegate.ports.log import Log, Record, TopicPartition
from tidegate.ports.models import Models
from tidegate.streams.decision import Decision, Outcome, Value
from tidegate.streams.schema import Schema

Progress = Callable[[int, int], None]


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """Had the event had this value in this column, this would have been decided."""

    column: str
    value: Value
    outcome: Outcome
    score: int
    reasons: list[str]


def what_if(
    log: Log,
    detectors: Sequence[Detector],
    decision: Decision,
    had: Mapping[str, str],
    *,
    models: Models | None = None,
    usual: bool = False,
    progress: Progress,
) -> list[WhatIf]:
    """Ask what would have been decided of the event of a decision, had it had another value in one of these columns:
    one answer each. With `usual` also for each column that rows are looked up by: the value that most of the earlier
    events of the same person have there. `detectors` decided from the log's first record on. The log is read once.

    Raises:
        UsageError: a column is none that the event has, or a value is none that it may have.
        NotFoundError: the log has no texts of the version.
        StateError: the log does not give the decision any more.
    """
    detector = version_named(log, detectors, decision.detector, decision.detector_version, models)
    if detector is None:
        raise NotFoundError(f"explain: the log has no texts of {decision.detector} {decision.detector_version}")
    schema = detector.stream
    changes = [(column, _value(schema, column, text)) for column, text in had.items()]
    kernel, schemas = Kernel(detector), schemas_of(detector.streams)
    ends = {TopicPartition.named(name): offset for name, offset in decision.inputs.items()}
    seen, done, total = _Usual(detector), 0, sum(ends.values())
    # The event is the last of what had been read.
    held: list[Record] = []
    for batch in taken(log, {}, ends):
        held += batch
        before_last, held = held[:-1], held[-1:]
        kernel.decide(arrivals(before_last, schemas).by_stream)
        seen.add(before_last)
        done += len(batch)
        progress(done, total)
    if not held or held[0].id != decision.event_id:
        raise _NOT_GIVEN
    (own,) = held
    kernel.demote(frozenset(decision.demoted))
    before = kernel.snapshot()
    same = _decided(kernel, schemas, own, {})
    if [made.hash for made in same] != [decision.hash]:
        raise _NOT_GIVEN
    event = msgspec.json.decode(own.value, type=dict[str, Any])
    if usual:
        changes += seen.of(event)
    answers: list[WhatIf] = []
    for column, value in changes:
        kernel.restore(before)
        (made,) = _decided(kernel, schemas, own, {column: value})
        answers.append(WhatIf(column=column, value=value, outcome=made.outcome, score=made.score, reasons=made.reasons))
    return answers


_NOT_GIVEN = StateError(
    "explain: the log does not give this decision any more, since its retention has removed what came before it or it "
    "was changed; what would have been can't be told. tidegate verify says more"
)


def _decided(kernel: Kernel, schemas: Mapping[str, Schema], own: Record, changed: dict[str, Value]) -> list[Decision]:
    """What a kernel decides of an event with other values. It is the last of what is decided: matches by duration may
    come before it.
    """
    event = msgspec.json.decode(own.value, type=dict[str, Any]) | changed
    record = msgspec.structs.replace(own, value=msgspec.json.encode(event))
    return [made for made in kernel.decide(arrivals([record], schemas).by_stream).records() if made.event_id == own.id]


def _value(schema: Schema, column: str, text: str) -> Value:
    """A value as the log has it: `null`, or JSON, or a text."""
    if column not in schema.protected_columns or column in ("event_id", "event_time"):
        there = ", ".join(name for name in schema.protected_columns if name not in ("event_id", "event_time"))
        raise UsageError(f"explain: {schema.name} has no column {column!r} to be changed; there are: {there}")
    wanted = next(field for field in msgspec.structs.fields(schema.protected) if field.name == column).type
    for value in _readings(text):
        try:
            return msgspec.convert(value, wanted)
        except msgspec.ValidationError:
            continue
    raise UsageError(f"explain: {text!r} is no value of the column {column}")


def _readings(text: str) -> Iterator[Any]:
    with suppress(msgspec.DecodeError):
        yield msgspec.json.decode(text)
    yield text


class _Usual:
    """The values of the columns that rows are looked up by, by person."""

    def __init__(self, detector: Detector) -> None:
        schema, features = detector.stream, detector.compiled
        self._stream, self._person = schema.name, schema.subject
        found = [column for entity in features.plan.entities for column in entity.columns]
        found += [column for join in features.joins.joins for column in join.keys]
        self._columns = [
            column for column in dict.fromkeys(found) if column in schema.protected_columns and column != schema.subject
        ]
        self._counts: dict[str, dict[str, Counter[Value]]] = {}

    def add(self, records: Sequence[Record]) -> None:
        if self._person is None:
            return
        for record in records:
            if record.topic != self._stream:
                continue
            event = msgspec.json.decode(record.value, type=dict[str, Any])
            counts = self._counts.setdefault(event.get(self._person) or "", {})
            for column in self._columns:
                if event.get(column) is not None:
                    counts.setdefault(column, Counter())[event[column]] += 1

    def of(self, event: Mapping[str, Any]) -> list[tuple[str, Value]]:
        """Of each column the value that most of the person's events have, where this one has another."""
        counts = self._counts.get(event.get(self._person or "") or "", {})
        usual = {column: counts[column].most_common(1)[0][0] for column in self._columns if column in counts}
        return [(column, value) for column, value in usual.items() if value != event.get(column)]
