"""Projects the log into the hot store."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from tidegate.errors import FencedError
from tidegate.ports.clock import Clock
from tidegate.ports.hotstore import HotStore, Projection
from tidegate.ports.log import Log, Record
from tidegate.streams.decision import DECISIONS, Decision
from tidegate.streams.revision import REVISIONS, Revision, RevisionRecord
from tidegate.streams.schema import load_schema

GROUP = "hotstore"

_STREAMS = ("transactions", "labels", "sessions")

#: Records projected in one transaction: catching up is quick, and a projection stays well below a decision's time.
_BATCH_RECORDS = 2000

#: How long `run` waits for a record before it looks whether to stop.
_POLL_MS = 100

#: How often the group's position is committed in the log. The hot store's own positions are what counts; the group's
#: only tell the log what may expire, and people how far behind the hot store is.
_COMMIT_EVERY_MS = 1000

#: How often the hot store drops what is past its keeping: it looks at every customer.
_EXPIRE_EVERY_MS = 60_000

_log = logging.getLogger(__name__)


class HotStoreReader:
    """One at a time: a newer reader fences the one before, whose `run` then ends."""

    def __init__(self, log: Log, hotstore: HotStore, clock: Clock) -> None:
        self._hotstore, self._clock = hotstore, clock
        self._structs = {stream: msgspec.json.Decoder(load_schema(stream).struct) for stream in _STREAMS}
        self._decisions = msgspec.json.Decoder(Decision)
        self._revisions: msgspec.json.Decoder[RevisionRecord] = msgspec.json.Decoder(RevisionRecord)
        self._consumer = log.consumer(GROUP, [*_STREAMS, DECISIONS, REVISIONS])
        read = hotstore.positions()
        self._consumer.seek({place: read.get(place, 0) for place in self._consumer.position()})
        self._committed_ms = self._expired_ms = clock.now_ms()

    def step(self, timeout_ms: int) -> int:
        """Project what is there, waiting up to `timeout_ms` for the first record; how many records were read.

        Raises:
            FencedError: a newer reader has taken over.
        """
        records = self._consumer.poll(_BATCH_RECORDS, timeout_ms)
        if records:
            self._hotstore.apply(self._projection(records), self._consumer.position())
        now_ms = self._clock.now_ms()
        if now_ms - self._committed_ms >= _COMMIT_EVERY_MS:
            self._consumer.commit()
            self._committed_ms = now_ms
        if now_ms - self._expired_ms >= _EXPIRE_EVERY_MS:
            self._hotstore.expire(now_ms)
            self._expired_ms = now_ms
        return len(records)

    def run(self, stop: threading.Event) -> None:
        """Project until `stop` is set or a newer reader has taken over."""
        try:
            while not stop.is_set():
                self.step(_POLL_MS)
            self._consumer.commit()
        except FencedError as error:
            _log.warning("hot store reader ends: %s", error)
        finally:
            self._consumer.close()

    def _projection(self, records: Sequence[Record]) -> Projection:
        rows: dict[str, list[dict[str, Any]]] = {stream: [] for stream in _STREAMS}
        decisions: list[Decision] = []
        revisions: list[Revision] = []
        for record in records:
            try:
                if record.topic == DECISIONS:
                    decisions.append(self._decisions.decode(record.value))
                elif record.topic == REVISIONS:
                    # What was missed is about no decision.
                    if isinstance(revision := self._revisions.decode(record.value), Revision):
                        revisions.append(revision)
                else:
                    self._structs[record.topic].decode(record.value)
                    rows[record.topic].append(msgspec.json.decode(record.value))
            except msgspec.MsgspecError:
                # The engine puts it into `rejected`.
                _log.warning(
                    "hot store: %s/%d@%d does not fit its stream, passed over",
                    record.topic,
                    record.partition,
                    record.offset,
                )
        return Projection(decisions=decisions, revisions=revisions, **rows)
