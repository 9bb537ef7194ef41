"""The day sent over HTTP, to a stand-in for the door that can be slow, full, forgetful or away."""

import asyncio
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from itertools import pairwise

import msgspec
import pytest

from tidegate.errors import UsageError
from tidegate.simulator import day
from tidegate.simulator import play as playing
from tidegate.simulator.play import Stats, play
from tidegate.simulator.story import SOURCES

CREDENTIALS = {source: f"tg_{source}_key" for source in SOURCES}
PATIENCE_S = 60


class Door:
    """Takes every event but the spoiled, each id once. `trouble` is asked before each answer: it may return a status
    to answer in place, "forget" to hang up after the events are stored, or an asyncio.Event to wait for.
    """

    def __init__(self, trouble=lambda _request: None):
        self.trouble = trouble
        self.stored, self.arrays, self.decided = {}, 0, 0
        self.requests = defaultdict(list)
        self.changed = asyncio.Event()
        self.server = self.port = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self):
        await self.open()
        return self

    async def __aexit__(self, *_):
        await self.shut()

    async def open(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port or 0, limit=2**20)
        self.port = self.server.sockets[0].getsockname()[1]

    async def shut(self):
        self.server.close()

    async def until(self, wanted):
        async with asyncio.timeout(PATIENCE_S):
            while not wanted():
                self.changed.clear()
                await self.changed.wait()

    async def _serve(self, reader, writer):
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        path = head[0].split()[1]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests[path, body].append(time.monotonic())
        trouble = self.trouble((path, body))
        if isinstance(trouble, asyncio.Event):
            await trouble.wait()
        if isinstance(trouble, tuple):
            status, retry_after = trouble
            self._write(writer, status, {}, f"Retry-After: {retry_after}\r\n")
        else:
            answer = self._take(path, msgspec.json.decode(body), headers["authorization"])
            if trouble == "forget":
                return False
            self._write(writer, *answer)
        self.changed.set()
        return True

    def _write(self, writer, status, content, extra=""):
        body = msgspec.json.encode(content)
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body)

    def _take(self, path, body, authorization):
        events = body if isinstance(body, list) else [body]
        self.arrays += isinstance(body, list)
        results = []
        for event in events:
            event_id = event["event_id"]
            if event_id.startswith("spoiled"):
                results.append({"status": 422, "problem": {"title": "no"}})
                continue
            results.append({"status": 202, "event_id": event_id, "duplicate": event_id in self.stored})
            self.stored.setdefault(event_id, (path, authorization, event))
        refused = sum(result["status"] == 422 for result in results)
        if path == "/v1/decisions" and not refused:
            self.decided += 1
            return 200, {"event_id": events[0]["event_id"], "outcome": "approve"}
        return 202 if not refused else 207 if refused < len(results) else 422, {"results": results}


class Played:
    """A play that runs while the block does, and then stops and drains."""

    def __init__(self, door, *, rate_per_s=400, spoiled_share=0.02, seed=7):
        self.stats, self.stop = Stats(), asyncio.Event()
        self.run = play(
            door.url,
            CREDENTIALS,
            rate_per_s=rate_per_s,
            fraud_share=0.02,
            spoiled_share=spoiled_share,
            seed=seed,
            stop=self.stop,
            stats=self.stats,
        )

    async def __aenter__(self):
        self.task = asyncio.create_task(self.run)
        return self.stats

    async def __aexit__(self, *_):
        self.stop.set()
        async with asyncio.timeout(PATIENCE_S):
            await self.task


async def until(wanted):
    async with asyncio.timeout(PATIENCE_S):
        while not wanted():  # noqa: ASYNC110 - the stats are plain numbers, which tell nobody that they changed
            await asyncio.sleep(0.01)


def total(*counters):
    return sum(counter.total() for counter in counters)


def all_is_answered_and_right(stats, door):
    assert total(stats.sent) == total(stats.accepted, stats.duplicates, stats.refused)
    for stream, sent in stats.sent.items():
        assert sent == stats.accepted[stream] + stats.duplicates[stream] + stats.refused[stream]
    assert total(stats.refused) == stats.spoiled
    assert stats.spoiled > 0


def test_everything_arrives_once_and_is_counted():
    async def run():
        async with Door() as door:
            async with Played(door) as stats:
                await door.until(lambda: len(door.stored) > 1500)
            all_is_answered_and_right(stats, door)
            assert total(stats.accepted) == len(door.stored)
            assert total(stats.retried) == 0
            assert stats.decisions == {"approve": door.decided}
            assert stats.frauds
            assert door.arrays > 0
            for path, authorization, _ in door.stored.values():
                source = authorization.removeprefix("Bearer tg_").removesuffix("_key")
                stream = "transactions" if path == "/v1/decisions" else path.split("/")[3]
                assert stream in SOURCES[source]

    asyncio.run(run())


@pytest.mark.parametrize("status", [429, 503])
def test_an_overloaded_door_is_asked_again_when_it_says(status, monkeypatch):
    # A repeat on purpose would look like a request that is tried again too early.
    monkeypatch.setattr(day, "AGAIN_SHARE", 0)

    async def run():
        refusals = Counter()

        def full(request):
            refusals[request] += 1
            return (status, 1) if refusals[request] == 1 and len(refusals) <= 40 else None

        async with Door(full) as door:
            async with Played(door) as stats:
                await door.until(lambda: len(door.stored) > 400)
            all_is_answered_and_right(stats, door)
            assert total(stats.accepted) == len(door.stored)
            assert total(stats.retried) >= 40
            asked_again = [times for times in door.requests.values() if len(times) > 1]
            assert len(asked_again) >= 39
            assert all(times[1] - times[0] >= 1 for times in asked_again)

    asyncio.run(run())


def test_lost_answers_lose_and_double_nothing():
    async def run():
        tries = Counter()

        def forgetful(request):
            tries[request] += 1
            return "forget" if tries[request] == 1 and len(tries) % 3 == 0 else None

        async with Door(forgetful) as door:
            async with Played(door) as stats:
                await door.until(lambda: len(door.stored) > 400)
            assert total(stats.sent) == total(stats.accepted, stats.duplicates, stats.refused)
            assert total(stats.refused) == stats.spoiled
            assert total(stats.retried) > 0
            assert total(stats.duplicates) > stats.again
            # What was asked of /v1/decisions is answered alike both times.
            assert len(door.stored) == len({event["event_id"] for _, _, event in door.stored.values()})
            sent_once = total(stats.sent) - stats.again - stats.spoiled
            assert len(door.stored) == sent_once

    asyncio.run(run())


def test_a_door_that_comes_back_gets_all_it_missed(monkeypatch):
    monkeypatch.setattr(playing, "LONGEST_PAUSE_S", 0.2)

    async def run():
        door = Door()
        await door.open()
        await door.shut()
        async with Played(door) as stats:
            await until(lambda: stats.behind_ms >= 1500)
            assert total(stats.accepted) == 0
            assert total(stats.retried) > 0
            came_back = datetime.now(UTC)
            await door.open()
            await door.until(lambda: len(door.stored) > 1000)
            await until(lambda: stats.behind_ms <= 500)
        await door.shut()
        all_is_answered_and_right(stats, door)
        missed = [e for *_, e in door.stored.values() if datetime.fromisoformat(e["event_time"]) < came_back]
        assert len(missed) > 100

    asyncio.run(run())


def test_a_door_that_hangs_is_told_by_how_far_the_play_is_behind():
    async def run():
        on = asyncio.Event()
        async with Door(lambda _request: on) as door:
            async with Played(door) as stats:
                await until(lambda: stats.behind_ms >= 700)
                assert door.requests
                assert not door.stored
                on.set()
                await door.until(lambda: len(door.stored) > 200)
            all_is_answered_and_right(stats, door)

    asyncio.run(run())


def test_what_waits_is_bounded_and_still_comes(monkeypatch):
    monkeypatch.setattr(playing, "MAX_WAITING_REQUESTS", 30)
    monkeypatch.setattr(playing, "LONGEST_PAUSE_S", 0.2)

    async def run():
        door = Door()
        await door.open()
        await door.shut()
        async with Played(door, rate_per_s=1000) as stats:
            await until(lambda: stats.behind_ms >= 3000)
            # Not three seconds' events: what fits, and at most one step of the day more.
            assert total(stats.sent) < 1500
            await door.open()
            await door.until(lambda: len(door.stored) > 500)
        await door.shut()
        all_is_answered_and_right(stats, door)
        times = sorted(datetime.fromisoformat(event["event_time"]) for *_, event in door.stored.values())
        assert max((after - before).total_seconds() for before, after in pairwise(times[:200])) < 1

    asyncio.run(run())


def test_it_stops_though_the_door_is_away(monkeypatch):
    monkeypatch.setattr(playing, "DRAIN_S", 0.1)

    async def run():
        door = Door()
        await door.open()
        await door.shut()
        async with Played(door) as stats:
            await until(lambda: total(stats.retried) > 0)
        assert total(stats.sent) > total(stats.accepted) == 0

    asyncio.run(run())


def test_two_runs_never_share_an_id():
    async def run():
        async with Door() as door:
            for _ in range(2):
                before = len(door.stored)
                async with Played(door, rate_per_s=200) as stats:
                    await door.until(lambda before=before: len(door.stored) > before + 100)
                assert total(stats.duplicates) <= stats.again

    asyncio.run(run())


def test_every_source_needs_a_key():
    with pytest.raises(UsageError, match="issuer"):
        asyncio.run(
            play(
                "http://127.0.0.1:1",
                {source: key for source, key in CREDENTIALS.items() if source != "issuer"},
                rate_per_s=1,
                fraud_share=0,
                spoiled_share=0,
                seed=1,
                stop=asyncio.Event(),
                stats=Stats(),
            )
        )
