"""Sends alerts and revisions to whoever subscribed, each subscriber on its own: one that is down holds up no other.

The log is the queue. How far each subscriber is stands in the topic `deliveries`, written by the one member of the
consumer group; its position there and in the topics that are sent only tells the log what may expire.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import cast

import msgspec

from tidegate.errors import FencedError, TidegateError
from tidegate.governance.registry import Registry
from tidegate.governance.secrets import destroy_secret, open_secret
from tidegate.ports.clock import Clock
from tidegate.ports.keys import Keys
from tidegate.ports.log import Consumer, Entry, Log, Positions, TopicPartition, read_on
from tidegate.readers.delivering import Delivering, needed
from tidegate.readers.posting import Poster
from tidegate.streams.decision import ALERTS
from tidegate.streams.revision import REVISIONS
from tidegate.streams.signature import key_of
from tidegate.streams.webhooks import DELIVERIES, SUBSCRIBERS, Delivery, Subscriber

GROUP = "webhooks"

#: How often it is written how far the sending is, and looked who subscribes. What was sent since is sent again after a
#: fall, under the same ids.
COMMIT_EVERY_S = 1.0

#: A subscriber to whom nothing was sent for so long is written down again, before retention takes what is known of it.
_REWRITE_MS = 24 * 3_600_000

#: How long what is on its way is waited for at the end.
_GRACE_S = 3

_READ_AT_ONCE = 1000
_DELIVERIES = TopicPartition(DELIVERIES, 0)

_log = logging.getLogger(__name__)
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Delivery)


class WebhookReader:
    """One at a time: a newer one fences the one before, whose `run` then ends."""

    def __init__(self, log: Log, keys: Keys, clock: Clock, poster: Poster) -> None:
        self._log, self._keys, self._clock, self._poster = log, keys, clock, poster
        self._consumer: Consumer = log.consumer(GROUP, [ALERTS, REVISIONS, DELIVERIES])
        self._registry = Registry(log, SUBSCRIBERS, Subscriber)
        self._written: dict[str, tuple[Delivery, int]] = {}
        """What is known of each subscriber by the log, and at which offset it stands there."""
        self._sending: dict[str, tuple[Delivering, asyncio.Task[None]]] = {}
        self._read_deliveries()

    def _read_deliveries(self) -> None:
        places = {_DELIVERIES: self._consumer.committed().get(_DELIVERIES, 0)}
        for record in read_on(self._log, places):
            delivery = _decoder.decode(record.value)
            self._written[delivery.subscriber] = (delivery, record.offset)

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set or a newer reader has taken over."""
        try:
            asyncio.run(self._run(stop))
        except FencedError as error:
            _log.warning("webhooks reader ends: %s", error)
        finally:
            self._consumer.close()

    async def _run(self, stop: threading.Event) -> None:
        try:
            over = False
            while not over:
                await self._follow()
                await asyncio.to_thread(self._commit)
                over = await asyncio.to_thread(stop.wait, COMMIT_EVERY_S)
        finally:
            for delivering, _ in self._sending.values():
                delivering.stopping = True
            for name in list(self._sending):
                await self._stop(name)
            await self._poster.close()

    async def _follow(self) -> None:
        """Begin and end sending, as the registry says and as it ended by itself."""
        for name, (delivering, task) in list(self._sending.items()):
            if delivering.ended is not None:
                await asyncio.to_thread(self._end, delivering.ended)
            elif task.done():
                _log.error("webhooks to %s: failed (%s); begun again", name, type(task.exception()).__name__)
                await self._stop(name)
                self._begin(self._registry.entries[name])
        for name in await asyncio.to_thread(self._registry.refresh):
            await self._stop(name)
            subscriber = self._registry.entries.get(name)
            if subscriber is None or subscriber.state == "disabled":
                self._written.pop(name, None)
            elif subscriber.state == "active":
                self._begin(subscriber)

    def _end(self, ended: Subscriber) -> None:
        """The notice of an end stands in the log, as that of a beginning does."""
        _log.warning("webhooks to %s: %s: %s", ended.name, ended.state, ended.reason)
        if ended.state == "removed":
            for sealed in ended.secrets:
                destroy_secret(self._keys, ended.owner, sealed)
            ended = msgspec.structs.replace(ended, secrets=[])
        self._log.append([Entry(SUBSCRIBERS, ended.name, _encoder.encode(ended), ended.at_ms)])

    def _begin(self, subscriber: Subscriber) -> None:
        now_ms = self._clock.now_ms()
        try:
            keys = [
                (cast("bytes", key_of(open_secret(self._keys, subscriber.owner, sealed))), sealed.until_ms)
                for sealed in subscriber.secrets
                if sealed.until_ms is None or sealed.until_ms > now_ms
            ]
        except TidegateError as error:
            _log.error("webhooks to %s: %s; nothing is sent", subscriber.name, error)  # no trace is needed
            return
        known = self._written.get(subscriber.name)
        state = known[0] if known else None
        if state is None or state.start_ms != subscriber.start_ms:
            state = Delivery(
                subscriber=subscriber.name, start_ms=subscriber.start_ms, positions=subscriber.start, at_ms=now_ms
            )
        delivering = Delivering(self._log, self._clock, self._poster, subscriber, keys=keys, state=state)
        self._sending[subscriber.name] = (delivering, asyncio.create_task(delivering.run()))

    async def _stop(self, name: str) -> None:
        if name in self._sending:
            delivering, task = self._sending.pop(name)
            # What is on its way may come to its end: it would be sent again.
            delivering.stopping = True
            await asyncio.wait([task], timeout=_GRACE_S)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.to_thread(self._write, {name: delivering.state})

    def _commit(self) -> None:
        """Write down what changed, and what nothing was written of for long.

        Raises:
            FencedError: a newer reader has taken over.
        """
        now_ms = self._clock.now_ms()
        changed = {
            name: state
            for name, state in self._states().items()
            if (known := self._written.get(name)) is None
            or now_ms - known[0].at_ms > _REWRITE_MS
            or msgspec.structs.replace(state, at_ms=0) != msgspec.structs.replace(known[0], at_ms=0)
        }
        self._write(changed)

    def _states(self) -> dict[str, Delivery]:
        """How far each subscriber is. One that is paused is known by the log alone."""
        written = {name: delivery for name, (delivery, _) in self._written.items()}
        return written | {name: delivering.state for name, (delivering, _) in self._sending.items()}

    def _write(self, states: dict[str, Delivery]) -> None:
        places = self._needed(states)
        if not states and places == self._consumer.position():
            return
        now_ms = self._clock.now_ms()
        stamped = {name: msgspec.structs.replace(state, at_ms=now_ms) for name, state in states.items()}
        self._consumer.seek(places)
        appended = self._consumer.commit(
            [Entry(DELIVERIES, name, _encoder.encode(state), now_ms) for name, state in stamped.items()]
        )
        for (name, state), place in zip(stamped.items(), appended, strict=True):
            self._written[name] = (state, place.offset)

    def _needed(self, states: dict[str, Delivery]) -> Positions:
        """The first offset of each partition that some subscriber still needs; where none does, the end."""
        places = self._log.ends([ALERTS, REVISIONS, DELIVERIES])
        first = [needed(state) for state in (self._states() | states).values()]
        for at in (*first, *({_DELIVERIES: offset} for _, offset in self._written.values())):
            for place, offset in at.items():
                places[place] = min(places[place], offset)
        return places
