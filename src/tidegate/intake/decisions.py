"""Waits for decisions: one thread reads the `decisions` topic and wakes the requests whose transaction was decided."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import msgspec

from tidegate.intake.journal import failed
from tidegate.intake.limits import DECISIONS_KEPT, IDLE_POLL_S, RETRY_AFTER_S, WAITED_POLL_S
from tidegate.ports.log import Log, Positions, Record, after
from tidegate.streams.decision import DECISIONS, Decision

_READ_AT_ONCE = 1000

_decoder = msgspec.json.Decoder(Decision)


class Decisions:
    """The decisions of `detector`, as they come. All but the reading happens in the event loop it is started in."""

    def __init__(self, log: Log, detector: str) -> None:
        self._log, self._detector = log, detector
        self._recent: OrderedDict[str, Decision] = OrderedDict()
        self._taken: OrderedDict[str, str | None] = OrderedDict()
        self._waiting: dict[str, set[asyncio.Future[Decision]]] = {}
        self._wanted, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="decisions", daemon=True)

    def start(self) -> None:
        """Read from here on: what was decided before is in the hot store."""
        self._loop = asyncio.get_running_loop()
        self._positions: Positions = self._log.ends([DECISIONS])
        self._thread.start()

    async def stop(self) -> None:
        self._over.set()
        self._wanted.set()
        await asyncio.to_thread(self._thread.join)

    def recent(self, event_id: str) -> Decision | None:
        """A decision that came lately."""
        return self._recent.get(event_id)

    @contextmanager
    def expected(self, event_id: str) -> Generator[asyncio.Future[Decision]]:
        """Waits from here on: entered before the transaction is appended, so that no decision is missed."""
        future = self._loop.create_future()
        self._waiting.setdefault(event_id, set()).add(future)
        self._wanted.set()
        try:
            yield future
        finally:
            future.cancel()
            self._waiting[event_id].discard(future)
            if not self._waiting[event_id]:
                del self._waiting[event_id]
            if not self._waiting:
                self._wanted.clear()

    def remember(self, event_id: str, card: str | None) -> None:
        """Keep in mind that this transaction was taken, and how its card is shown, until the hot store knows it."""
        self._taken[event_id] = card
        if len(self._taken) > DECISIONS_KEPT:
            self._taken.popitem(last=False)

    def is_taken(self, event_id: str) -> bool:
        """Whether the transaction was taken lately, by a request for its decision."""
        return event_id in self._taken

    def card(self, event_id: str) -> str | None:
        return self._taken.get(event_id)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                records = self._log.read(self._positions, _READ_AT_ONCE)
            except Exception as error:  # noqa: BLE001  # whatever stops the log: the next look may succeed
                failed("decisions", error)
                self._over.wait(RETRY_AFTER_S)
                continue
            if records:
                self._loop.call_soon_threadsafe(self._came, self._decoded(records))
            elif self._wanted.is_set():
                self._over.wait(WAITED_POLL_S)
            else:
                self._wanted.wait(IDLE_POLL_S)

    def _decoded(self, records: Sequence[Record]) -> list[Decision]:
        decisions: list[Decision] = []
        self._positions |= after(records)
        for record in records:
            try:
                decision = _decoder.decode(record.value)
            except msgspec.MsgspecError as error:
                failed("decisions", error, partition=record.partition, offset=record.offset)
                continue
            if decision.detector == self._detector:
                decisions.append(decision)
        return decisions

    def _came(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            # The first decision of an event is the one that was answered; what a later one says is a revision.
            self._recent.setdefault(decision.event_id, decision)
            if len(self._recent) > DECISIONS_KEPT:
                self._recent.popitem(last=False)
            for future in self._waiting.get(decision.event_id, ()):
                if not future.done():
                    future.set_result(decision)
