"""Faust: an agent an entity, one after the other, and one that judges what it takes in batches. Channels in memory.

Its tables want a changelog topic on a broker, so state is in plain dictionaries: that is less than its users pay.
"""

from __future__ import annotations

import asyncio
from typing import Any

import faust

from benchmarks.peers.plain import Judge, roll, tested
from benchmarks.peers.serve import Job, serve
from benchmarks.workload import ENTITIES

#: Answers that are judged at once, and how long it waits for so many.
_BATCH, _WITHIN_S = 500, 0.1

#: Events that a channel holds: few, so that no step runs far ahead of the next.
_HELD = 100

Event = dict[str, Any]


def run(job: Job) -> None:
    asyncio.run(_run(job))


async def _run(job: Job) -> None:
    app = faust.App("bench", autodiscover=False)
    *entered, answers = channels = [app.channel(maxsize=_HELD) for _ in range(len(ENTITIES) + 1)]
    agents = [
        app.agent(channel)(_roller(key, other, following, with_sequence=job.full and entity == "card"))
        for (entity, (key, other)), channel, following in zip(ENTITIES.items(), entered, channels[1:], strict=True)
    ]
    done = asyncio.Event()
    agents.append(app.agent(answers)((_judge if job.full else _answer)(job, done)))
    app.finalize()
    for agent in agents:
        await agent.start()
    app.flow_control.resume()  # as the worker does once it has its partitions
    for event in job.events.to_pylist():
        await channels[0].send(value=event | {"features": []})
    await done.wait()
    for agent in agents:
        await agent.stop()


def _roller(key: str, other: str, following: Any, *, with_sequence: bool):
    held: dict[str, Any] = {}
    tiny_at: dict[str, int | None] = {}

    async def add(stream: faust.Stream) -> None:
        async for event in stream:
            rows = held.setdefault(event[key], ([], [], []))
            event["features"] += roll(rows, event["event_time"], event["amount_minor"], event[other])
            if with_sequence:
                tiny_at[event[key]], event["card_tested"] = tested(
                    tiny_at.get(event[key]), event["event_time"], event["amount_minor"]
                )
            await following.send(value=event)

    add.__name__ = f"by_{key}"
    return add


def _answer(job: Job, done: asyncio.Event):
    async def answer(stream: faust.Stream) -> None:
        async for event in stream:
            job.put((event["number"], *event["features"]))
            if job.answers == job.events.num_rows:
                done.set()

    return answer


def _judge(job: Job, done: asyncio.Event):
    judge = Judge(job.model).judge

    async def answer(stream: faust.Stream) -> None:
        async for events in stream.take(_BATCH, within=_WITHIN_S):
            rows = [(event["features"], event["amount_minor"], event["card_tested"]) for event in events]
            for event, judgement in zip(events, judge(rows), strict=True):
                job.put((event["number"], *event["features"], event["card_tested"], *judgement))
            if job.answers == job.events.num_rows:
                done.set()

    return answer


if __name__ == "__main__":
    serve(run)
