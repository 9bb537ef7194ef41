"""Every log against a plain model of one: whatever is done in whatever order, both say the same."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from tests.contracts.test_log import open_embedded

from tidegate.errors import FencedError
from tidegate.ports.log import Consumer, Entry, Log, Positions, Record, TopicPartition

TOPICS = {"a": 2, "b": 3}
RETENTION_MS = 10
GROUPS = ("x", "y")
MEMBERS = 4
#: On a machine that is busy.
SHOWS_WITHIN_S = 30

entries = st.lists(
    st.builds(
        lambda topic, key, time, number: Entry(
            topic, f"k{key}", f"{number}".encode(), time, None if number is None else f"id{number}"
        ),
        st.sampled_from(sorted(TOPICS)),
        st.integers(0, 5),
        st.integers(1, 30),
        st.none() | st.integers(0, 12),
    ),
    min_size=1,
    max_size=6,
)


@dataclass
class Member:
    consumer: Consumer
    group: str
    position: Positions
    owns: bool = True


@dataclass
class Model:
    records: list[Record] = field(default_factory=list)
    """In order of append."""
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    committed: dict[str, Positions] = field(default_factory=dict)

    def write(self, written: list[Entry], log_says: list[tuple[int, int, bool]]) -> None:
        """The partition of a key is the log's choice; all else must be as the model has it."""
        for entry, (partition, offset, duplicate) in zip(written, log_says, strict=True):
            there = [r for r in self.records if r.topic == entry.topic and entry.id is not None and r.id == entry.id]
            assert duplicate == bool(there)
            if there:
                assert (partition, offset) == (there[0].partition, there[0].offset)
                continue
            same_key = [r.partition for r in self.records if (r.topic, r.key) == (entry.topic, entry.key)]
            assert not same_key or same_key[0] == partition
            place = TopicPartition(entry.topic, partition)
            assert offset >= self.ends.get(place, 0)
            self.ends[place] = offset + 1
            self.records.append(
                Record(entry.topic, partition, offset, entry.key, entry.value, entry.timestamp_ms, entry.id)
            )

    def after(self, positions: Positions, limit: int) -> list[Record]:
        found = [r for r in self.records if r.offset >= positions.get(TopicPartition(r.topic, r.partition), 2**63)]
        return found[:limit]

    def expire(self, now_ms: int) -> int:
        kept: list[Record] = []
        stopped: set[TopicPartition] = set()
        for record in self.records:
            place = TopicPartition(record.topic, record.partition)
            read = all(record.offset < positions[place] for positions in self.committed.values())
            if place in stopped or not read or record.timestamp_ms >= now_ms - RETENTION_MS or record.topic != "b":
                stopped.add(place)
                kept.append(record)
        expired, self.records = len(self.records) - len(kept), kept
        return expired


class LogMachine(RuleBasedStateMachine):
    opener: Callable[[Path], Log]
    #: Whether there is one order across partitions, and offsets have no gaps.
    one_order: bool

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.log = self.opened()
        self.places = [TopicPartition(topic, p) for topic, count in TOPICS.items() for p in range(count)]
        self.model = Model()
        self.members: list[Member] = []

    def opened(self) -> Log:
        log = type(self).opener(self.folder)
        log.create("a", partitions=TOPICS["a"])
        log.create("b", partitions=TOPICS["b"], retention_ms=RETENTION_MS)
        return log

    def check_read(self, records: list[Record], positions: Positions, limit: int) -> None:
        if self.one_order:
            assert records == self.model.after(positions, limit)
            return
        expected = self.model.after(positions, 10**6)
        assert bool(records) == bool(expected)
        assert len(records) <= limit
        for place in self.places:
            of_place = [r for r in records if (r.topic, r.partition) == place]
            assert of_place == [r for r in expected if (r.topic, r.partition) == place][: len(of_place)]

    def leave(self) -> None:
        for member in self.members:
            member.consumer.close()
        self.members.clear()

    def teardown(self) -> None:
        self.leave()
        self.log.close()
        shutil.rmtree(self.folder)

    @rule(written=entries)
    def append(self, written: list[Entry]) -> None:
        appended = self.log.append(written)
        self.model.write(written, [(a.partition, a.offset, a.duplicate) for a in appended])

    @precondition(lambda self: len(self.members) < MEMBERS)
    @rule(group=st.sampled_from(GROUPS))
    def join(self, group: str) -> None:
        consumer = self.log.consumer(group, sorted(TOPICS))
        committed = self.model.committed.setdefault(group, dict.fromkeys(self.places, 0))
        for member in self.members:
            member.owns &= member.group != group
        self.members.append(Member(consumer, group, dict(committed)))

    @precondition(lambda self: self.members)
    @rule(data=st.data(), limit=st.integers(1, 20))
    def poll(self, data: st.DataObject, limit: int) -> None:
        member = data.draw(st.sampled_from(self.members))
        records = member.consumer.poll(limit, 0)
        self.check_read(records, member.position, limit)
        member.position |= {TopicPartition(r.topic, r.partition): r.offset + 1 for r in records}

    @precondition(lambda self: self.members)
    @rule(data=st.data(), produced=entries)
    def commit(self, data: st.DataObject, produced: list[Entry]) -> None:
        member = data.draw(st.sampled_from(self.members))
        if not member.owns:
            with pytest.raises(FencedError):
                member.consumer.commit(produced)
            return
        appended = member.consumer.commit(produced)
        self.model.write(produced, [(a.partition, a.offset, a.duplicate) for a in appended])
        self.model.committed[member.group] = dict(member.position)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def seek(self, data: st.DataObject) -> None:
        member = data.draw(st.sampled_from(self.members))
        place = data.draw(st.sampled_from(self.places))
        to = {place: data.draw(st.integers(0, self.model.ends.get(place, 0)))}
        member.consumer.seek(to)
        member.position |= to

    @rule(now_ms=st.integers(0, 50))
    def expire(self, now_ms: int) -> None:
        expired, expected = self.log.expire(now_ms), self.model.expire(now_ms)
        assert expired == expected if self.one_order else expired >= expected

    @rule()
    def open_again(self) -> None:
        self.leave()
        self.log.close()
        self.log = self.opened()
        # What another log object has written shows within milliseconds, not at once.
        deadline = time.monotonic() + SHOWS_WITHIN_S
        while not self.one_order and not self.shows():
            assert time.monotonic() < deadline, "what was written does not show"

    def shows(self) -> bool:
        found = self.log.ends(sorted(TOPICS))
        return all(found[place] >= end for place, end in self.model.ends.items())

    @rule(data=st.data(), limit=st.integers(1, 8))
    def read(self, data: st.DataObject, limit: int) -> None:
        some = data.draw(st.lists(st.sampled_from(self.places), unique=True))
        positions = {place: data.draw(st.integers(0, self.model.ends.get(place, 0))) for place in some}
        self.check_read(self.log.read(positions, limit), positions, limit)

    @invariant()
    def both_say_the_same(self) -> None:
        ends = dict.fromkeys(self.places, 0) | self.model.ends
        assert self.log.ends(sorted(TOPICS)) == ends if self.one_order else self.shows()
        for member in self.members:
            assert member.consumer.position() == member.position
            committed = dict.fromkeys(self.places, 0) | member.consumer.committed()
            assert committed == self.model.committed[member.group]
        for group, committed in self.model.committed.items():
            behind = self.model.after(committed, 10**6)
            expected = {topic: sum(r.topic == topic for r in behind) for topic in TOPICS}
            lag = self.log.lag(group)
            assert lag == expected if self.one_order else all(lag[topic] >= expected[topic] for topic in TOPICS)


def run(opener: Callable[[Path], Log], *, one_order: bool, examples: int, steps: int) -> None:
    machine = type("Machine", (LogMachine,), {"opener": staticmethod(opener), "one_order": one_order})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_embedded_log_does_as_the_model_does() -> None:
    run(open_embedded, one_order=True, examples=80, steps=40)
