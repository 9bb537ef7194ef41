"""The company's day, sent to the door: open loop, over kept connections, and nothing lost while the door is away."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

import aiohttp
import msgspec

from tidegate.errors import UsageError
from tidegate.simulator.company import CUSTOMERS, Company
from tidegate.simulator.day import Day
from tidegate.simulator.story import SOURCES, Planned, Source

#: Sources that send many events in one request, and how long they gather. The shop and the app send one at a time.
GATHERING: frozenset[Source] = frozenset({"pos", "crm", "erp", "issuer", "risk", "weather"})
GATHER_S = 0.1
MAX_EVENTS_PER_REQUEST = 100

#: How often the day is asked for what is due.
TICK_S = 0.01

#: Requests of one source in flight: enough for decisions at 80 a second when each takes the door's longest 800 ms.
CONNECTIONS_PER_SOURCE = 64

#: Requests that wait while the door is away: about a minute of the demo, 30 MB. Then the day is not asked for more
#: until the door is back; what is due by then is still sent, behind time.
MAX_WAITING_REQUESTS = 20_000

#: Most of the day that one tick may ask for, so that catching up comes in portions.
MAX_STEP_US = 1_000_000

REQUEST_TIMEOUT_S = 10
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0

#: How long `play` waits for answers once it is told to stop.
DRAIN_S = 5

_AGAIN_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_REFUSED_FROM = 400


def _by_name() -> Counter[str]:
    return Counter()


@dataclass(slots=True)
class Stats:
    """What has been played, in events; by stream where not said otherwise.

    Once all is answered, sent = accepted + duplicates + refused, and refused = spoiled if the door is right.
    """

    sent: Counter[str] = field(default_factory=_by_name)
    accepted: Counter[str] = field(default_factory=_by_name)
    duplicates: Counter[str] = field(default_factory=_by_name)
    """The door had the event already: it was sent again on purpose, or its answer was lost."""
    refused: Counter[str] = field(default_factory=_by_name)
    retried: Counter[str] = field(default_factory=_by_name)
    """Each time that an event is sent again because the door was away or overloaded."""
    spoiled: int = 0
    """Spoiled on purpose, of all that was sent."""
    again: int = 0
    """Sent a second time on purpose, of all that was sent."""
    frauds: Counter[str] = field(default_factory=_by_name)
    """Fraudulent transactions sent, by kind."""
    decisions: Counter[str] = field(default_factory=_by_name)
    """Answers of /v1/decisions, by outcome (`pending`: it did not come in time)."""
    behind_ms: int = 0
    """How long ago the oldest event that is not yet answered was due."""


class _Result(msgspec.Struct):
    status: int = 202
    duplicate: bool = False


class _Answer(msgspec.Struct):
    results: list[_Result] = []
    outcome: str | None = None


_answers = msgspec.json.Decoder(_Answer)


class _Request(NamedTuple):
    path: str
    body: bytes
    events: list[Planned]


async def play(
    door_url: str,
    credentials: Mapping[Source, str],
    *,
    rate_per_s: float,
    fraud_share: float,
    spoiled_share: float,
    seed: int,
    stop: asyncio.Event,
    stats: Stats,
    customers: int = CUSTOMERS,
) -> None:
    """Play the day from now on until `stop` is set, as the sources whose API keys `credentials` holds.

    `rate_per_s` is in events, `fraud_share` is of transactions, `spoiled_share` of events. `stats` is kept up to date.

    Raises:
        UsageError: a source of SOURCES has no API key.
    """
    if missing := SOURCES.keys() - credentials.keys():
        raise UsageError(f"play: wanted an API key for each source, got none for {', '.join(sorted(missing))}")
    start_us = _now_us()
    day = Day(
        Company(seed, customers),
        start_us=start_us,
        rate_per_s=rate_per_s,
        fraud_share=fraud_share,
        spoiled_share=spoiled_share,
    )
    async with aiohttp.ClientSession(
        door_url,
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
    ) as http:
        senders: dict[Source, _Sender] = {
            source: _Sender(http, api_key, stats, seed) for source, api_key in credentials.items()
        }
        async with asyncio.TaskGroup() as group:
            workers = [
                group.create_task(sender.work()) for sender in senders.values() for _ in range(CONNECTIONS_PER_SOURCE)
            ]
            await _play_until(stop, day, start_us, senders, stats)
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await asyncio.gather(*(sender.queue.join() for sender in senders.values()))
            for worker in workers:
                worker.cancel()


async def _play_until(
    stop: asyncio.Event, day: Day, start_us: int, senders: Mapping[Source, _Sender], stats: Stats
) -> None:
    asked_us = gathered_us = start_us
    gathered: list[Planned] = []
    while not stop.is_set():
        now_us = _now_us()
        waiting = [sender.oldest_us for sender in senders.values() if sender.waiting]
        stats.behind_ms = max(0, now_us - min(waiting, default=now_us)) // 1000
        if sum(len(sender.waiting) for sender in senders.values()) < MAX_WAITING_REQUESTS:
            asked_us = max(asked_us, min(now_us, asked_us + MAX_STEP_US))
            due = day.until(asked_us)
            for event in due:
                if event.source not in GATHERING:
                    senders[event.source].put([event])
            gathered += [event for event in due if event.source in GATHERING]
            if now_us - gathered_us >= GATHER_S * 1e6:
                _put_gathered(gathered, senders)
                gathered, gathered_us = [], now_us
        await _wait(stop, TICK_S)
    _put_gathered(gathered, senders)


def _put_gathered(events: list[Planned], senders: Mapping[Source, _Sender]) -> None:
    together: dict[tuple[Source, str], list[Planned]] = {}
    for event in events:
        together.setdefault((event.source, event.stream), []).append(event)
    for (source, _), portion in together.items():
        for first in range(0, len(portion), MAX_EVENTS_PER_REQUEST):
            senders[source].put(portion[first : first + MAX_EVENTS_PER_REQUEST])


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def _now_us() -> int:
    return time.time_ns() // 1000


class _Sender:
    """Sends what one source has to say, each request until it is answered."""

    def __init__(self, http: aiohttp.ClientSession, api_key: str, stats: Stats, seed: int) -> None:
        self._http, self._stats = http, stats
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        self._rng = Random(seed)  # noqa: S311 - spreads the pauses of sources that try again
        self.queue: asyncio.Queue[_Request] = asyncio.Queue()
        self.waiting: dict[int, int] = {}
        """When each request that is not yet answered was due (microseconds), the oldest first."""

    @property
    def oldest_us(self) -> int:
        return next(iter(self.waiting.values()))

    def put(self, events: list[Planned]) -> None:
        """Send these events, all of one stream, in one request."""
        first = events[0]
        path = "/v1/decisions" if first.decide else f"/v1/streams/{first.stream}/events"
        body = msgspec.json.encode(first.body if len(events) == 1 else [event.body for event in events])
        request = _Request(path, body, events)
        self.waiting[id(request)] = first.send_us
        self.queue.put_nowait(request)

    async def work(self) -> None:
        while True:
            request = await self.queue.get()
            self._count_sent(request.events)
            await self._deliver(request)
            del self.waiting[id(request)]
            self.queue.task_done()

    async def _deliver(self, request: _Request) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            wanted_s = 0.0
            try:
                async with self._http.post(request.path, data=request.body, headers=self._headers) as response:
                    content = await response.read()
                    if response.status not in _AGAIN_STATUSES:
                        self._count_answer(request, response.status, content)
                        return
                    wanted_s = _retry_after_s(response)
            except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError):
                # The door is away, or went away while it answered: the same ids make it safe to send all again.
                pass
            self._stats.retried[request.events[0].stream] += len(request.events)
            await asyncio.sleep(max(wanted_s, pause_s) * self._rng.uniform(1, 1.5))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _count_sent(self, events: list[Planned]) -> None:
        stats, stream = self._stats, events[0].stream
        stats.sent[stream] += len(events)
        stats.spoiled += sum(event.spoiled for event in events)
        stats.again += sum(event.again for event in events)
        stats.frauds.update(event.fraud for event in events if event.fraud and not event.again)

    def _count_answer(self, request: _Request, status: int, content: bytes) -> None:
        stats, stream = self._stats, request.events[0].stream
        if status >= _REFUSED_FROM:
            stats.refused[stream] += len(request.events)
            return
        answer = _answers.decode(content)
        if answer.outcome is not None:
            # A decision does not say whether its transaction was there already.
            (stats.duplicates if request.events[0].again else stats.accepted)[stream] += 1
            stats.decisions[answer.outcome] += 1
            return
        for result in answer.results:
            if result.status >= _REFUSED_FROM:
                stats.refused[stream] += 1
            elif result.duplicate:
                stats.duplicates[stream] += 1
            else:
                stats.accepted[stream] += 1


def _retry_after_s(response: aiohttp.ClientResponse) -> float:
    """What the door asks for; it may also name a date, which it never does."""
    wanted = response.headers.get("Retry-After", "")
    return float(wanted) if wanted.isdecimal() else 0.0
