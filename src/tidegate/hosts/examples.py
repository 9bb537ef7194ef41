"""A detector's own tests: examples.yaml, events in and decisions out (docs/reference/detector.md)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tidegate.kernel.arrivals import LABELS, Arrived
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import Detector
from tidegate.kernel.language.bind import near
from tidegate.kernel.language.yamltext import Yaml
from tidegate.kernel.policy import OUTCOMES
from tidegate.streams.decision import Decision
from tidegate.streams.schema import Schema, load_schema

FILE = "examples.yaml"

#: When the first event of an example happens, unless it says `after`: Monday, 2 March 2026, 09:00 UTC.
START_US = 1_772_442_000_000_000

#: Keys of an event that are no columns of its stream.
_KIND, _AFTER, _REPEAT, _EVERY, _LABEL, _EXPECT, _DUE = _KEYS = (
    *("kind", "after", "repeat", "every", "label", "expect", "due"),
)

#: Key of a kind whose events are of another stream than the one that is decided.
_STREAM = "stream"

#: Most times that one event is repeated.
_MAX_REPEAT = 10_000


class Expectation(NamedTuple):
    """Names of the rules that fire, all of them, and the outcome."""

    rules: frozenset[str]
    outcome: str


#: Of a match by duration of which nothing is written.
_NOTHING = Expectation(frozenset(), "approve")


class _Step(NamedTuple):
    """`due` is expected of the match by duration that begins with it."""

    stream: str
    columns: dict[str, Any]
    expected: Expectation | None
    due: Expectation | None


class Example(NamedTuple):
    """`steps` are in order of time; a label is (time in microseconds, event id, is fraud)."""

    name: str
    steps: list[_Step]
    labels: list[tuple[int, str, bool]]


class Deviation(NamedTuple):
    """What came out otherwise than expected. `decided` None: no match by duration became complete."""

    example: str
    event_id: str
    expected: Expectation
    decided: Decision | None

    def __str__(self) -> str:
        if self.decided is None:
            return f"{self.example}, {self.event_id}: nothing that begins with it became due"
        fired = frozenset(name for name, fires in self.decided.rules.items() if fires)
        parts = [
            *(f"{name} did not fire" for name in sorted(self.expected.rules - fired)),
            *(f"{name} fired" for name in sorted(fired - self.expected.rules)),
        ]
        if self.decided.outcome != self.expected.outcome:
            parts.append(f"{self.decided.outcome} ({self.decided.score} points) and not {self.expected.outcome}")
        return f"{self.example}, {self.event_id}: {'; '.join(parts)}"


def check_examples(detector: Detector, text: str) -> list[Deviation]:
    """Run every example of a detector, each from empty windows.

    Raises:
        DetectorError: the text is wrong: line, column, what was found, what was expected.
    """
    return [deviation for example in read_examples(detector, text) for deviation in _check(detector, example)]


def read_examples(detector: Detector, text: str) -> list[Example]:
    """
    Raises:
        DetectorError: the text is wrong: line, column, what was found, what was expected.
    """
    root = Yaml.parse(FILE, text).mapping(("kinds", "examples"))
    reader = _Reader(detector, {name: kind.items() for name, kind in root["kinds"].items().items()})
    return [reader.example(node) for node in root["examples"].list()]


def _check(detector: Detector, example: Example) -> Iterator[Deviation]:
    decisions = Kernel(detector).decide(_arrived(example))
    steps = {step.columns["event_id"]: step for step in example.steps}
    due = {step.columns["event_id"]: step.due for step in example.steps if step.due}
    for decided in decisions.records():
        if decided.event_id in steps:
            expected = steps[decided.event_id].expected
        else:
            expected = due.pop(decided.event_id.partition(":")[2], _NOTHING)
        if expected and expected != (frozenset(n for n, fires in decided.rules.items() if fires), decided.outcome):
            yield Deviation(example.name, decided.event_id, expected, decided)
    for event_id, expected in due.items():
        yield Deviation(example.name, event_id, expected, None)


def _arrived(example: Example) -> dict[str, Arrived]:
    """Events in the order in which they stand, a label before what happens at its time or later."""
    events = [(step.columns["event_time"], 1, step.stream, step.columns) for step in example.steps]
    for at, of, fraud in sorted(example.labels):
        label = {"event_id": f"label of {of}", "event_time": at, "transaction_id": of, "is_fraud": fraud}
        events.append((at, 0, LABELS, label | {"source": "chargeback"}))
    events.sort(key=lambda event: event[:2])
    arrived: dict[str, Arrived] = {}
    for stream in {stream for _, _, stream, _ in events}:
        at = [place for place, event in enumerate(events) if event[2] == stream]
        rows = [events[place][3] for place in at]
        batch = pa.RecordBatch.from_pylist(rows, load_schema(stream).arrow)
        arrived[stream] = Arrived(np.array(at, np.int64), batch)
    return arrived


class _Reader:
    def __init__(self, detector: Detector, kinds: dict[str, dict[str, Yaml]]) -> None:
        self._rules = {rule.name for rule in detector.rules if rule.runs}
        self._detector = detector
        self._kinds = kinds

    def example(self, node: Yaml) -> Example:
        keys = node.items()
        if not {"name", "events"} <= keys.keys() <= {"name", "events", _EXPECT}:
            node.fail(f"the keys {', '.join(keys)}", f"name, events and, if need be, {_EXPECT}")
        every = self._expectation(keys[_EXPECT]) if _EXPECT in keys else None
        example = Example(keys["name"].words(), [], [])
        time_us = START_US
        for event in keys["events"].list():
            time_us = self._event(example, event, time_us, every)
        return example

    def _event(self, example: Example, node: Yaml, time_us: int, every: Expectation | None) -> int:
        """Add an event, as often as it is repeated, and give the time of the last."""
        written = self._written(node)
        schema = self._stream(written)
        decided = schema == self._detector.stream
        for key in (_LABEL, _EXPECT):
            if key in written and not decided:
                written[key].fail(f"{key} of an event of {schema.name}", f"{key} of {self._detector.stream.name} alone")
        time_us += written[_AFTER].duration_us() if _AFTER in written else 0
        repeat = written[_REPEAT].number() if _REPEAT in written else 1
        if not 1 <= repeat <= _MAX_REPEAT:
            written[_REPEAT].fail(f"{repeat} times", f"1 to {_MAX_REPEAT:,}")
        step_us = written[_EVERY].duration_us() if _EVERY in written else 0
        expected = self._expectation(written[_EXPECT]) if _EXPECT in written else every if decided else None
        due = self._expectation(written[_DUE]) if _DUE in written else None
        label = written[_LABEL].mapping(("is_fraud", "after")) if _LABEL in written else None
        for number in range(1, repeat + 1):
            time_us += step_us if number > 1 else 0
            event_id = f"event {len(example.steps) + 1}"
            columns = {
                "event_id": event_id,
                "event_time": time_us,
                **_columns(schema, written, number),
            }
            for field in schema.fields:
                if not field.nullable and field.name not in columns:
                    node.fail(f"an event without {field.name}", f"{field.name}, here or under its kind")
            if label:
                is_fraud = _scalar(label["is_fraud"], "boolean", number)
                example.labels.append((time_us + label["after"].duration_us(), event_id, is_fraud))
            last = number == repeat or expected is every
            example.steps.append(_Step(schema.name, columns, expected if last else None, due if last else None))
        return time_us

    def _stream(self, written: dict[str, Yaml]) -> Schema:
        """The stream of an event."""
        if _STREAM not in written:
            return self._detector.stream
        name = written[_STREAM].words()
        if name not in self._detector.streams or name == LABELS:
            known = [stream for stream in self._detector.streams if stream != LABELS]
            written[_STREAM].fail(f"the stream {name!r}", near(name, known))
        return load_schema(name)

    def _written(self, node: Yaml) -> dict[str, Yaml]:
        """The event's keys over those of its kind."""
        own = node.items()
        if _KIND not in own:
            node.fail("an event without kind", f"kind: one of {', '.join(self._kinds)}")
        kind = own[_KIND].words()
        if kind not in self._kinds:
            own[_KIND].fail(f"the kind {kind!r}", near(kind, self._kinds))
        return self._kinds[kind] | own

    def _expectation(self, node: Yaml) -> Expectation:
        keys = node.mapping(("rules", "outcome"))
        names = [name.words() for name in keys["rules"].list()]
        for name, at in zip(names, keys["rules"].list(), strict=True):
            if name not in self._rules:
                at.fail(f"the rule {name!r}", near(name, self._rules))
        outcome = keys["outcome"].words()
        if outcome not in OUTCOMES:
            keys["outcome"].fail(f"the outcome {outcome!r}", near(outcome, OUTCOMES))
        return Expectation(frozenset(names), outcome)


def _columns(schema: Schema, written: dict[str, Yaml], number: int) -> dict[str, Any]:
    kinds = dict.fromkeys(schema.protected_columns, "string") | {field.name: field.kind for field in schema.fields}
    symbols = {field.name: field.symbols for field in schema.fields}
    columns: dict[str, Any] = {}
    for name, node in written.items():
        if name in _KEYS or name == _STREAM:
            continue
        if name not in kinds or name in ("event_id", "event_time"):
            node.fail(f"the key {name!r}", near(name, [*kinds, *_KEYS]))
        value = _scalar(node, kinds[name], number)
        if kinds[name] == "enum" and value not in symbols[name]:
            node.fail(f"{value!r}", near(value, symbols[name]))
        columns[name] = value
    return columns


def _scalar(node: Yaml, kind: str, number: int) -> Any:
    """A value of a column, `null` for NULL. `{n}` in a text becomes the number of the repetition."""
    written: Any = node.node.value
    if not isinstance(written, str):
        node.fail("a list or mapping", f"a {kind}")
    if node.node.tag == "tag:yaml.org,2002:null":
        return None
    try:
        match kind:
            case "long":
                return int(written)
            case "double":
                return float(written)
            case "timestamp":
                return datetime.fromisoformat(written)
            case "boolean":
                return {"true": True, "false": False}[written]
            case _:
                return written.replace("{n}", str(number))
    except (ValueError, KeyError):
        node.fail(repr(written[:60]), f"a {kind}")
