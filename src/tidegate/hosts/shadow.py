"""The shadow host: versions that decide beside the live ones, and are not acted on.

It sees what the engine took from the company's log, in its order, and writes nothing to it, not even how far it has
read: its decisions stand in a log of its own, with its position beside them. So whatever becomes of it (it dies,
stands still, grows), no commit of the engine waits for it and no record is kept for it. What it missed because the log
has let it go, it never decides.

    decisions   as the engine's: id `<detector>:<version>:<event_id>`, key `<event_id>`
    positions   how far the company's log was read, with the decisions that came of it in one transaction
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import msgspec

from tidegate.hosts.arrivals import GROUP, arrivals, inputs_of, runs, schemas_of
from tidegate.hosts.rollout import Rollout
from tidegate.ports.clock import Clock
from tidegate.ports.log import Entry, Log, Positions, Record, TopicPartition, after
from tidegate.ports.models import Models
from tidegate.ports.snapshots import Snapshots
from tidegate.streams.control import DETECTORS
from tidegate.streams.decision import DECISIONS
from tidegate.streams.schema import STREAMS

#: Topics of the shadow's own log.
POSITIONS = "positions"
SHADOW_TOPICS = (DECISIONS, POSITIONS)

#: How long `run` waits where there is nothing to read.
_WAIT_S = 0.1

#: How often the shadow's own log lets go of what is past its keeping.
_EXPIRE_EVERY_MS = 60_000

_encode = msgspec.json.Encoder().encode


class ShadowHost:
    """One kernel a shadow version. When it is made, all is as it was when it last wrote."""

    def __init__(self, log: Log, own: Log, snapshots: Snapshots, clock: Clock, *, models: Models | None = None) -> None:
        """`own` has the topics SHADOW_TOPICS, of one partition each."""
        self._log, self._own, self._clock = log, own, clock
        read = _last_position(own)
        self._at = {place: read.get(place, 0) for place in log.ends([*STREAMS, DETECTORS])}
        self._rollout = Rollout(log, snapshots, [], self._at, "shadow", models=models)
        self._history: Iterator[list[Record]] = iter(())
        self._expired_ms = clock.now_ms()

    def step(self) -> int:
        """Decide what is there; how many records were read."""
        records = next(self._history, None)
        if records is None:
            self._history = self._log.history(GROUP, self._at, [*STREAMS, DETECTORS])
            records = next(self._history, [])
        if records:
            entries: list[Entry] = []
            start, seen = dict(self._at), 0
            for run, control in runs(records):
                entries += self._decide(run)
                self._at |= after(run)
                seen += len(run)
                if control is not None:
                    self._at |= after([control])
                    self._rollout.follow(control, start, records[:seen])
                    seen += 1
            position = [(place.topic, place.partition, offset) for place, offset in self._at.items()]
            entries.append(Entry(POSITIONS, POSITIONS, _encode(position), self._clock.now_ms()))
            self._own.append(entries)
        now_ms = self._clock.now_ms()
        if now_ms - self._expired_ms >= _EXPIRE_EVERY_MS:
            self._own.expire(now_ms)
            self._expired_ms = now_ms
        return len(records)

    def run(self, stop: threading.Event) -> None:
        """Decide until `stop` is set."""
        while not stop.is_set():
            if not self.step():
                stop.wait(_WAIT_S)

    def _decide(self, records: Sequence[Record]) -> list[Entry]:
        streams = self._rollout.streams
        if not streams:
            return []
        arrived = arrivals(records, schemas_of(streams))
        inputs = inputs_of(records, self._at, streams)
        now_ms = self._clock.now_ms()
        entries: list[Entry] = []
        for deciding in self._rollout.deciding:
            decisions = deciding.kernel.decide(arrived.by_stream)
            at = decisions.at.tolist()
            for decision, index in zip(decisions.records(), at, strict=True):
                whole = msgspec.structs.replace(decision, inputs=inputs[index])
                entry_id = f"{decision.detector}:{decision.detector_version}:{decision.event_id}"
                entries.append(Entry(DECISIONS, decision.event_id, _encode(whole), now_ms, entry_id))
        return entries


def _last_position(own: Log) -> Positions:
    """Empty where nothing was read yet."""
    (end,) = own.ends([POSITIONS]).values()
    last = own.read({TopicPartition(POSITIONS, 0): end - 1}, 1) if end else []
    if not last:
        return {}
    return {
        TopicPartition(topic, partition): offset
        for topic, partition, offset in msgspec.json.decode(last[0].value, type=list[tuple[str, int, int]])
    }
