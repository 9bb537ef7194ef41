"""PyFlink's DataStream API: a keyed process function in Python an entity, one after the other, rows in value state with
a cache large enough for all keys; the model for each event. From a collection, parallelism 1, state on the heap.

Flink's CEP library has no Python API: the sequence is state too.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyflink.common import Configuration, Types
from pyflink.datastream import (
    FlatMapFunction,
    KeyedProcessFunction,
    RuntimeContext,
    StreamExecutionEnvironment,
)
from pyflink.datastream.state import ValueStateDescriptor

from benchmarks.peers.plain import Judge, roll, tested
from benchmarks.peers.serve import Job, serve
from benchmarks.workload import ENTITIES

#: When timed, the client takes so many of the answers, with when their events were read and they were given.
_TAKEN = 100

_OPTIONS = {
    "parallelism.default": "1",
    "python.executable": sys.executable,
    "python.state.cache.size": "1000000",
    "python.fn-execution.bundle.size": "1000",
}

Event = dict[str, Any]


class _Roll(KeyedProcessFunction):
    def __init__(self, other: str) -> None:
        self._other = other

    def open(self, runtime_context: RuntimeContext) -> None:
        self._rows = runtime_context.get_state(ValueStateDescriptor("rows", Types.PICKLED_BYTE_ARRAY()))

    def process_element(self, value: Event, ctx: KeyedProcessFunction.Context) -> Iterator[Event]:  # noqa: ARG002
        value.setdefault("read_at", time.time())
        rows = self._rows.value() or ([], [], [])
        value["features"] += roll(rows, value["event_time"], value["amount_minor"], value[self._other])
        self._rows.update(rows)
        yield value


class _Tested(KeyedProcessFunction):
    def open(self, runtime_context: RuntimeContext) -> None:
        self._tiny_at = runtime_context.get_state(ValueStateDescriptor("tiny_at", Types.LONG()))

    def process_element(self, value: Event, ctx: KeyedProcessFunction.Context) -> Iterator[Event]:  # noqa: ARG002
        tiny_at, value["card_tested"] = tested(self._tiny_at.value(), value["event_time"], value["amount_minor"])
        if tiny_at is None:
            self._tiny_at.clear()
        else:
            self._tiny_at.update(tiny_at)
        yield value


class _Answer(FlatMapFunction):
    """When the event entered the first step, when the answer is given, and all that is asked for; of every so many."""

    def __init__(self, model: Path | None, every: int) -> None:
        self._model, self._every = model, every

    def open(self, runtime_context: RuntimeContext) -> None:  # noqa: ARG002 - its signature
        self._judge = Judge(self._model).judge if self._model else None

    def flat_map(self, value: Event) -> Iterator[tuple[Any, ...]]:
        answer = (value["number"], *value["features"])
        if self._judge:
            row = (value["features"], value["amount_minor"], value["card_tested"])
            answer = (*answer, value["card_tested"], *self._judge([row])[0])
        if value["number"] % self._every == self._every - 1:
            yield (value["read_at"], time.time(), *answer)


def run(job: Job) -> None:
    configuration = Configuration()
    for option, value in _OPTIONS.items():
        configuration.set_string(option, value)
    environment = StreamExecutionEnvironment.get_execution_environment(configuration)
    stream = environment.from_collection([event | {"features": []} for event in job.events.to_pylist()])
    for entity, (key, other) in ENTITIES.items():
        keyed = stream.key_by(lambda event, key=key: event[key], key_type=Types.STRING())
        stream = keyed.process(_Roll(other)).name(entity)
    if job.full:
        stream = stream.key_by(lambda event: event["pan"], key_type=Types.STRING()).process(_Tested())
    every = 1 if job.exact else job.events.num_rows // _TAKEN
    answers = stream.flat_map(_Answer(job.model if job.full else None, every))
    taken = list(answers.execute_and_collect("bench"))
    # From the first event on: steps run ahead of each other.
    job.measured(taken[0][0], taken[-1][1], taken[-1][2] - taken[0][2])
    job.keep([row[2:] for row in taken])


if __name__ == "__main__":
    serve(run)
