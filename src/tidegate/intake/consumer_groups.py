"""Consumers of the Kafka REST Proxy: what each reads, how far it is, and what its group has committed.

Consumers live in the memory of one door and are gone when it ends; what their groups committed is in the log's topic
`offsets`. They are no consumers of the log's own kind: those hold back what the log may forget, and a client that goes
away must not.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence

import msgspec
from starlette.concurrency import run_in_threadpool

from tidegate.intake.append import Appender
from tidegate.intake.kafka_rest_answers import CreateConsumer
from tidegate.intake.kafka_rest_errors import RestError
from tidegate.intake.limits import CONSUMER_IDLE_S, MAX_CONSUMERS, MAX_CONSUMERS_EACH, MAX_POLL_RECORDS, POLL_EVERY_S
from tidegate.ports.clock import Clock
from tidegate.ports.log import Entry, Log, Positions, Record, TopicPartition, after
from tidegate.streams.offsets import OFFSETS, GroupOffsets

NO_SUCH_CONSUMER, CONSUMER_EXISTS, OTHER_KIND = 40403, 40902, 40903
BAD_CONFIG = 42204

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(GroupOffsets)

_READ_AT_ONCE = 1_000


class Consumer:
    """One consumer: of the topics it subscribed to its share of the partitions, or the partitions it was assigned."""

    def __init__(self, owner: str, group: str, name: str, asked: CreateConsumer, now_ms: int) -> None:
        self.owner, self.group, self.name = owner, group, name
        self.format = asked.format
        self.from_start = asked.auto_offset_reset == "earliest"
        self.commits_itself = asked.auto_commit_enable in (True, "true")
        self.topics: list[str] = []
        self.assigned: list[TopicPartition] = []
        self.positions: Positions = {}
        """Of the partitions that it reads, as far as it has looked at them."""
        self.uncommitted: Positions = {}
        self.used_ms = now_ms
        self.polling = asyncio.Lock()


class Groups:
    """The consumers of one door. All but the log's work happens in the event loop."""

    def __init__(self, log: Log, appender: Appender, clock: Clock) -> None:
        self._log, self._appender, self._clock = log, appender, clock
        self._consumers: dict[tuple[str, str, str], Consumer] = {}
        self._committed: dict[tuple[str, str], Positions] = {}
        self._read_to: Positions = {}
        self._reading = asyncio.Lock()

    def create(self, owner: str, group: str, asked: CreateConsumer) -> Consumer:
        """
        Raises:
            RestError: the group has a consumer of this name, or there are too many.
        """
        self._forget_idle()
        name = asked.name or f"rest-consumer-{uuid.uuid4()}"
        if (owner, group, name) in self._consumers:
            raise RestError(CONSUMER_EXISTS, "consumer: the group has one of this name; take another name")
        own = sum(key[0] == owner for key in self._consumers)
        if own >= MAX_CONSUMERS_EACH or len(self._consumers) >= MAX_CONSUMERS:
            raise RestError(429, f"consumer: wanted up to {MAX_CONSUMERS_EACH} at one time; delete those not used")
        consumer = self._consumers[owner, group, name] = Consumer(owner, group, name, asked, self._clock.now_ms())
        return consumer

    def find(self, owner: str, group: str, name: str) -> Consumer:
        """
        Raises:
            RestError: the owner has no such consumer.
        """
        self._forget_idle()
        consumer = self._consumers.get((owner, group, name))
        if consumer is None:
            raise RestError(NO_SUCH_CONSUMER, "consumer: there is none of this name, or it was idle too long")
        consumer.used_ms = self._clock.now_ms()
        return consumer

    async def delete(self, consumer: Consumer) -> None:
        if consumer.commits_itself:
            await self.commit(consumer, consumer.uncommitted)
        self._consumers.pop((consumer.owner, consumer.group, consumer.name), None)

    def subscribe(self, consumer: Consumer, topics: Sequence[str]) -> None:
        """Read these topics in place of those before.

        Raises:
            RestError: the consumer was assigned partitions.
        """
        if consumer.assigned:
            raise RestError(OTHER_KIND, "consumer: it was assigned partitions, and can't subscribe to topics too")
        consumer.topics = list(dict.fromkeys(topics))

    def assign(self, consumer: Consumer, places: Sequence[TopicPartition]) -> None:
        """Read these partitions in place of those before.

        Raises:
            RestError: the consumer subscribed to topics.
        """
        if consumer.topics:
            raise RestError(OTHER_KIND, "consumer: it subscribed to topics, and can't be assigned partitions too")
        consumer.assigned = list(dict.fromkeys(places))

    async def places(self, consumer: Consumer) -> list[TopicPartition]:
        """The partitions that the consumer reads now. Those of a topic are shared by the group's subscribers."""
        if consumer.assigned or not consumer.topics:
            return consumer.assigned
        partitions = await run_in_threadpool(self._log.topics)
        found: list[TopicPartition] = []
        for topic in consumer.topics:
            members = sorted(
                name
                for (owner, group, name), each in self._consumers.items()
                if (owner, group) == (consumer.owner, consumer.group) and topic in each.topics
            )
            found += [
                TopicPartition(topic, number)
                for number in range(partitions.get(topic, 0))
                if members and members[number % len(members)] == consumer.name
            ]
        return found

    async def seek(self, consumer: Consumer, positions: Mapping[TopicPartition, int]) -> None:
        """
        Raises:
            RestError: the consumer does not read such a partition.
        """
        places = set(await self.places(consumer))
        if not positions.keys() <= places:
            raise RestError(OTHER_KIND, "consumer: wanted partitions that it reads; subscribe or assign first")
        consumer.positions |= positions

    async def ends(self, places: Sequence[TopicPartition]) -> Positions:
        """The offset that the next record of each partition gets."""
        ends = await run_in_threadpool(self._log.ends, {place.topic for place in places})
        return {place: ends[place] for place in places}

    async def poll(self, consumer: Consumer, timeout_ms: int, max_bytes: int) -> list[Record]:
        """The next records, up to `max_bytes` of keys and values (one record at least), waited for as long."""
        async with consumer.polling:
            if consumer.commits_itself and consumer.uncommitted:
                await self.commit(consumer, consumer.uncommitted)
            loop = asyncio.get_running_loop()
            until = loop.time() + timeout_ms / 1000
            while True:
                await self._place(consumer)
                records = await run_in_threadpool(self._read, consumer.positions, max_bytes)
                if records:
                    read = after(records)
                    consumer.positions |= read
                    consumer.uncommitted |= read
                left_s = until - loop.time()
                if records or left_s <= 0:
                    consumer.used_ms = self._clock.now_ms()
                    return records
                await asyncio.sleep(min(POLL_EVERY_S, left_s))

    async def commit(self, consumer: Consumer, positions: Mapping[TopicPartition, int]) -> None:
        """Durable when it returns.

        Raises:
            OverloadError: the log cannot be written now.
        """
        if not positions:
            return
        committed = GroupOffsets(
            owner=consumer.owner,
            group=consumer.group,
            offsets={place.name: offset for place, offset in positions.items()},
        )
        key = f"{consumer.owner}/{consumer.group}"
        await self._appender.append([Entry(OFFSETS, key, _encoder.encode(committed), self._clock.now_ms())])
        for place, offset in list(positions.items()):
            if consumer.uncommitted.get(place) == offset:
                del consumer.uncommitted[place]

    async def committed(self, consumer: Consumer) -> Positions:
        """What the consumer's group has committed."""
        async with self._reading:
            while records := await run_in_threadpool(self._log.read, await self._offsets(), _READ_AT_ONCE):
                for record in records:
                    told = _decoder.decode(record.value)
                    positions = self._committed.setdefault((told.owner, told.group), {})
                    positions |= {TopicPartition.named(name): offset for name, offset in told.offsets.items()}
                self._read_to |= after(records)
        return dict(self._committed.get((consumer.owner, consumer.group), {}))

    async def _offsets(self) -> Positions:
        """How far the topic of what was committed is read."""
        if not self._read_to:
            self._read_to = dict.fromkeys(await run_in_threadpool(self._log.ends, [OFFSETS]), 0)
        return self._read_to

    async def _place(self, consumer: Consumer) -> None:
        """Begin the partitions that the consumer reads from now on where its group is; forget those it does not read
        any more.
        """
        places = await self.places(consumer)
        new = [place for place in places if place not in consumer.positions]
        if new:
            committed = await self.committed(consumer)
            starts = {} if consumer.from_start else await self.ends([place for place in new if place not in committed])
            consumer.positions |= {place: committed.get(place, starts.get(place, 0)) for place in new}
        for place in consumer.positions.keys() - set(places):
            del consumer.positions[place]
            consumer.uncommitted.pop(place, None)

    def _read(self, positions: Positions, max_bytes: int) -> list[Record]:
        taken: list[Record] = []
        size = 0
        for record in self._log.read(positions, MAX_POLL_RECORDS) if positions else ():
            size += len(record.key) + len(record.value)
            if taken and size > max_bytes:
                break
            taken.append(record)
        return taken

    def _forget_idle(self) -> None:
        oldest_ms = self._clock.now_ms() - CONSUMER_IDLE_S * 1000
        for key in [key for key, each in self._consumers.items() if each.used_ms < oldest_ms]:
            del self._consumers[key]
