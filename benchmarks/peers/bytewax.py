"""Bytewax: one `stateful_map` an entity, side by side, and a join of the four by event; the model scores a batch at
once. From memory.

Not one after the other: within a batch, a stateful step hands its items on by key, not in their order.
"""

from __future__ import annotations

from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import TestingSource, run_main

from benchmarks.peers.plain import Judge, roll, tested
from benchmarks.peers.serve import Job, serve
from benchmarks.workload import ENTITIES

#: Events that the source hands on at once.
_BATCH = 500

Event = dict[str, Any]


class _Sink(DynamicSink, StatelessSinkPartition):
    """To memory."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def build(self, *_: object) -> _Sink:
        return self

    def write_batch(self, items: list[Any]) -> None:
        for item in items:
            self.job.put(item)


def _roller(other: str):
    def add(rows: Any, event: Event):
        rows = rows or ([], [], [])
        return rows, (event["number"], roll(rows, event["event_time"], event["amount_minor"], event[other]))

    return add


def _tested(tiny_at: int | None, event: Event):
    """With the amount, which the rules need too."""
    tiny_at, done = tested(tiny_at, event["event_time"], event["amount_minor"])
    return tiny_at, (event["number"], (event["amount_minor"], done))


def run(job: Job) -> None:
    flow = Dataflow("bench")
    source = op.input("source", flow, TestingSource(job.events.to_pylist(), batch_size=_BATCH))
    steps = [(entity, key, _roller(other)) for entity, (key, other) in ENTITIES.items()]
    if job.full:
        steps.append(("card_tested", "pan", _tested))
    parts = []
    for name, key, mapper in steps:
        keyed = op.key_on(f"{name}_key", source, lambda event, key=key: event[key])
        told = op.key_rm(f"{name}_told", op.stateful_map(name, keyed, mapper))
        parts.append(op.map(f"{name}_by_event", told, lambda told: (str(told[0]), told[1])))
    joined = op.join("join", *parts)
    if job.full:
        judge = Judge(job.model).judge

        def judged(events: list[Any]) -> list[Any]:
            rows = [([*card, *device, *merchant, *ip], *rest) for _, (card, device, merchant, ip, rest) in events]
            return [
                (int(event[0]), *features, done, *judgement)
                for event, (features, _, done), judgement in zip(events, rows, judge(rows), strict=True)
            ]

        answers = op.flat_map_batch("judge", joined, judged)
    else:
        answers = op.map(
            "answer", joined, lambda event: (int(event[0]), *(value for part in event[1] for value in part))
        )
    op.output("sink", answers, _Sink(job))
    run_main(flow)


if __name__ == "__main__":
    serve(run)
