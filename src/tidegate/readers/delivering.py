"""Sends what comes into a subscriber's topics to its address, and what it does not take again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from operator import attrgetter
from typing import Literal

import msgspec

from tidegate.ports.clock import Clock
from tidegate.ports.log import Log, Positions, Record, TopicPartition, after
from tidegate.readers.notices import headers, message_id, notice
from tidegate.readers.posting import Answer, Poster
from tidegate.streams.webhooks import Delivery, Subscriber, Waiting

_DAY_MS = 24 * 3_600_000

#: The first wait before a message is sent again; each is three times the one before, up to the longest. Half of it is
#: left to chance, so that what failed together is not sent again together.
FIRST_WAIT_MS = 5_000
LONGEST_WAIT_MS = 3_600_000
_GROWTH = 3

#: A message that was not taken for so long is given up.
GIVE_UP_MS = 3 * _DAY_MS

#: A subscriber that took nothing for so long, though it was sent something, is disabled.
DISABLE_MS = 5 * _DAY_MS

#: Messages that wait to be sent again, of one subscriber. Once there are so many, the log keeps what comes after.
MAX_WAITING = 100

#: Messages that are on their way to one subscriber at a time.
AT_ONCE = 8

#: Statuses of a receiver that wants nothing any more (Standard Webhooks).
_GONE = 410

#: How often the log is looked at for new records.
_POLL_S = 0.1


Keys = Sequence[tuple[bytes, int | None]]
"""What is signed with, each with when it ends, in milliseconds since 1970; None: it does not."""


class Delivering:
    """The sending to one subscriber. `state` is how far it is; `ended` says why it came to an end by itself."""

    def __init__(
        self, log: Log, clock: Clock, poster: Poster, subscriber: Subscriber, *, keys: Keys, state: Delivery
    ) -> None:
        self._log, self._clock, self._poster = log, clock, poster
        self._subscriber, self._keys = subscriber, keys
        self.state = state
        self.ended: Subscriber | None = None
        self.stopping = False

    async def run(self) -> None:
        """Send until `stopping` is set, or the subscriber has come to its end."""
        while self.ended is None and not self.stopping:
            if not await self.step():
                await asyncio.sleep(_POLL_S)

    async def step(self) -> int:
        """Send what is due and what is new, as much as may be on its way at once; how many records that were."""
        now_ms = self._clock.now_ms()
        waiting = [each for each in self.state.waiting if each.due_ms <= now_ms]
        # Half of the room is for what is new, however much is due.
        due = sorted(waiting, key=attrgetter("due_ms"))[: AT_ONCE // 2]
        room = min(AT_ONCE - len(due), MAX_WAITING - len(self.state.waiting))
        new = await asyncio.to_thread(self._read_new, room) if room > 0 else []
        again = [await asyncio.to_thread(self._read_again, each) for each in due]
        answers = await asyncio.gather(*[self._send(record) for record in (*again, *new)])
        fresh = [
            Waiting(
                topic=record.topic, partition=record.partition, offset=record.offset,
                attempts=0, first_ms=now_ms, due_ms=now_ms,
            )
            for record in new
        ]  # fmt: skip
        positions = self.state.positions | {place.name: offset for place, offset in after(new).items()}
        state = msgspec.structs.replace(self.state, positions=positions)
        for each, answer in zip((*due, *fresh), answers, strict=True):
            state = self._settled(state, each, answer)
        # In one step: another thread writes it down at any moment.
        self.state = state
        return len(answers)

    def _read_new(self, limit: int) -> list[Record]:
        places = {TopicPartition.named(name): offset for name, offset in self.state.positions.items()}
        return self._log.read(places, limit)

    def _read_again(self, waiting: Waiting) -> Record | None:
        """None: the log does not hold it any more."""
        place = TopicPartition(waiting.topic, waiting.partition)
        found = self._log.read({place: waiting.offset}, 1)
        return found[0] if found and found[0].offset == waiting.offset else None

    async def _send(self, record: Record | None) -> Answer | None:
        """None: there is nothing to send."""
        content = notice(record) if record else None
        if record is None or content is None:
            return None
        now_ms = self._clock.now_ms()
        keys = [key for key, until_ms in self._keys if until_ms is None or until_ms > now_ms]
        signed = headers(keys, message_id(record), now_ms, content)
        return await self._poster.post(self._subscriber.url, signed, content)

    def _settled(self, state: Delivery, sent: Waiting, answer: Answer | None) -> Delivery:
        """How it is once a message was answered."""
        now_ms = self._clock.now_ms()
        others = [each for each in state.waiting if each != sent]
        if answer is None:
            return msgspec.structs.replace(state, waiting=others)
        if answer.is_taken:
            return msgspec.structs.replace(
                state, waiting=others, delivered=state.delivered + 1, failing_since_ms=None, failed=None
            )
        failing_since_ms, failed = state.failing_since_ms or now_ms, answer.error or f"status {answer.status}"
        given_up = now_ms - sent.first_ms >= GIVE_UP_MS
        if answer.status == _GONE:
            self._end("removed", "it answered 410: it wants nothing any more")
        elif now_ms - failing_since_ms >= DISABLE_MS:
            self._end("disabled", f"nothing was taken for {DISABLE_MS // _DAY_MS} days; the last: {failed}")
        return msgspec.structs.replace(
            state,
            waiting=others if given_up else [*others, _again(sent, answer, now_ms)],
            given_up=state.given_up + given_up,
            failing_since_ms=failing_since_ms,
            failed=failed,
        )

    def _end(self, state: Literal["disabled", "removed"], reason: str) -> None:
        now_ms = self._clock.now_ms()
        self.ended = msgspec.structs.replace(self._subscriber, state=state, reason=reason, at_ms=now_ms)


def needed(state: Delivery) -> Positions:
    """The first offset of each partition that is still to be read."""
    places = {TopicPartition.named(name): offset for name, offset in state.positions.items()}
    for each in state.waiting:
        place = TopicPartition(each.topic, each.partition)
        places[place] = min(places[place], each.offset)
    return places


def _again(sent: Waiting, answer: Answer, now_ms: int) -> Waiting:
    longest = min(LONGEST_WAIT_MS, FIRST_WAIT_MS * _GROWTH**sent.attempts)
    wait_ms = max(random.uniform(0.5, 1) * longest, min(answer.retry_after_s * 1000, LONGEST_WAIT_MS))  # noqa: S311  # no secret
    return msgspec.structs.replace(sent, attempts=sent.attempts + 1, due_ms=now_ms + round(wait_ms))
