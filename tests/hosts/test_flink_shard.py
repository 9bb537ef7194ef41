"""The Flink host without Flink: in what order a shard takes what arrives, and that a restart changes nothing."""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.hosts.stream import detector, entry, stream, transaction

from tidegate.hosts.arrivals import arrivals, schemas_of
from tidegate.hosts.flink import state as state_module
from tidegate.hosts.flink.merge import Merge
from tidegate.hosts.flink.shard import Shard
from tidegate.hosts.flink.state import State
from tidegate.hosts.flink.texts import RS, US, read_records, write_records
from tidegate.kernel.decide import Kernel
from tidegate.ports.log import Entry, Placed, Positions, Record, TopicPartition, after
from tidegate.streams.control import DETECTORS, Demotion, Release
from tidegate.streams.decision import DECISIONS, REJECTED, Decision

SMALL = detector()


class Head:
    """A value in Flink's keyed state, as `Changes` is a list and `Blocks` a map."""

    def __init__(self) -> None:
        self.head: bytes | None = None

    def value(self) -> bytes | None:
        return self.head

    def update(self, value: bytes) -> None:
        self.head = value


class Changes:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def get(self) -> Iterable[str]:
        return list(self.texts)

    def add(self, value: str) -> None:
        self.texts.append(value)

    def clear(self) -> None:
        self.texts.clear()


class Blocks:
    def __init__(self) -> None:
        self.blocks: dict[str, bytes] = {}

    def get(self, key: str) -> bytes:
        return self.blocks[key]

    def put(self, key: str, value: bytes) -> None:
        self.blocks[key] = value

    def remove(self, key: str) -> None:
        del self.blocks[key]


class Clock:
    def now_ms(self) -> int:
        return 1


def ordered(read: Positions) -> Entry:
    return Entry("order", "small", msgspec.json.encode({at.name: end for at, end in read.items()}), 1)


class Flink:
    """Keeps the state of one shard, which may be made anew at any moment."""

    def __init__(self, ends: Positions | None = None) -> None:
        self.ends = ends or {}
        self.head, self.blocks, self.changes = Head(), Blocks(), Changes()
        self.shard = self.restarted()

    def restarted(self) -> Shard:
        state = State(self.head, self.blocks, self.changes)
        self.shard = Shard(SMALL, state, Clock(), ends=self.ends, refuses=["transactions"], ordered=ordered)
        return self.shard


def records_of(entries: Iterable[Entry]) -> list[Placed]:
    """In a log of one partition a topic, each a millisecond after the one before."""
    counts: Counter[str] = Counter()
    placed: list[Placed] = []
    for at, each in enumerate(entries, start=1):
        record = Record(each.topic, 0, counts[each.topic], each.key, each.value, at, each.id)
        placed.append(Placed(at, 0, each.topic, 0, record))
        counts[each.topic] += 1
    return placed


def hashes(entries: Iterable[Entry]) -> dict[str, str]:
    decode = msgspec.json.Decoder(Decision).decode
    made = [decode(each.value) for each in entries if each.topic == DECISIONS]
    assert len({decision.event_id for decision in made}) == len(made)
    return {decision.event_id: decision.hash for decision in made}


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, str]:
    found = hashes(Flink().shard.take(write_records(records_of(stream(300, seed=7)))))
    kernel, schemas = Kernel(SMALL), schemas_of(SMALL.streams)
    records = [placed.record for placed in records_of(stream(300, seed=7))]
    assert found == {each.event_id: each.hash for each in kernel.decide(arrivals(records, schemas).by_stream).records()}
    assert len(found) == 300
    return found


@pytest.mark.parametrize("seed", range(4))
def test_neither_cuts_nor_restarts_nor_what_arrives_first_change_a_decision(
    undisturbed: dict[str, str], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "_LEAST_CHANGED_BYTES", 20_000)
    monkeypatch.setattr(state_module, "_BLOCK_BYTES", 4096)
    chance = random.Random(seed)
    placed = records_of(stream(300, seed=7))
    ends = after(each.record for each in placed)
    flink, entries, steps = Flink(ends), [], 0
    waiting = {topic: deque(each for each in placed if each.topic == topic) for topic in SMALL.streams}
    while left := [topic for topic, queue in waiting.items() if queue]:
        queue = waiting[chance.choice(left)]
        arrived = [queue.popleft() for _ in range(min(len(queue), chance.randrange(1, 40)))]
        entries += flink.shard.take(write_records(arrived))
        steps += 1
        if chance.random() < 0.4:
            flink.restarted()
    assert hashes(entries) == undisturbed
    assert not flink.shard.waits
    assert flink.head.head is not None
    assert steps > 10


def test_the_order_is_written_down(undisturbed: dict[str, str]) -> None:
    flink = Flink()
    placed = records_of(stream(10, seed=7))
    told = [each for each in flink.shard.take(write_records(placed)) if each.topic == "order"]
    assert [msgspec.json.decode(each.value) for each in told] == [
        {place.name: end for place, end in after(each.record for each in placed).items()}
    ]


def test_what_is_no_event_is_rejected_by_the_shard_whose_part_it_is() -> None:
    flink = Flink()
    (fit, *_) = records_of([entry("transactions", transaction(1))])
    spoiled = [
        fit._replace(record=msgspec.structs.replace(fit.record, offset=1, value=b'{"event_id": "a' + RS.encode())),
        fit._replace(topic="labels", record=msgspec.structs.replace(fit.record, topic="labels", value=b"{}")),
    ]
    text = write_records([fit, *spoiled]).replace(RS + RS, US + RS)
    made = flink.shard.take(text)
    assert [each.id for each in made if each.topic == REJECTED] == ["engine:transactions/0@1"]
    assert len(hashes(made)) == 1


def control(placed: int, value: bytes) -> Placed:
    return Placed(placed, 0, DETECTORS, 0, Record(DETECTORS, 0, placed, "small", value, placed, "c"))


def test_the_control_stream_is_followed_in_its_place() -> None:
    often = [entry("transactions", transaction(n)) for n in range(6)]
    version = SMALL.version
    release = Release(detector="small", version=version, status="live", texts={}, by="ada", at_ms=1)
    demotion = Demotion(detector="small", version=version, rule="often", fired=1, decided=1, forecast=0.1, at_ms=2)
    retired = msgspec.structs.replace(release, status="retired")
    other = msgspec.structs.replace(release, version="0123456789ab")
    decode = msgspec.json.Decoder(Decision).decode

    def decided(flink: Flink, entries: list[Entry], offset: int) -> list[Decision]:
        placed = [
            each._replace(record=msgspec.structs.replace(each.record, offset=offset)) for each in records_of(entries)
        ]
        made = flink.restarted().take(write_records(placed))
        return [decode(each.value) for each in made if each.topic == DECISIONS]

    flink = Flink()
    assert flink.shard.take(write_records([control(1, msgspec.json.encode(release))]))[:-1] == []
    decided(flink, often[:4], 0)
    flink.shard.take(write_records([control(2, msgspec.json.encode(demotion))]))
    assert [decision.demoted for decision in decided(flink, often[4:5], 4)] == [["often"]]
    (refused, _) = flink.shard.take(write_records([control(3, msgspec.json.encode(other))]))
    assert refused.topic == REJECTED
    assert b"the version that this job was submitted with" in refused.value
    flink.shard.take(write_records([control(4, msgspec.json.encode(retired))]))
    assert decided(flink, often[5:], 5) == []
    flink.shard.take(write_records([control(5, msgspec.json.encode(release))]))
    (last,) = decided(flink, [entry("transactions", transaction(7))], 6)
    assert last.demoted == []
    assert last.features["payments"] == 7


def test_nothing_goes_before_what_is_known_to_be_there_unless_it_never_comes() -> None:
    first, second = TopicPartition("transactions", 0), TopicPartition("labels", 0)
    placed = records_of(stream(40, seed=1))
    transactions = [each for each in placed if each.topic == "transactions"]
    flink = Flink({first: 40, second: 1})
    assert hashes(flink.shard.take(write_records(transactions))) == {}
    assert flink.shard.waits
    flink.restarted()
    assert len(hashes(flink.shard.give_up())) == 40
    assert not flink.shard.waits


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), max_size=30), st.data())
def test_the_earliest_head_is_next(arrivals: list[tuple[int, int]], data: st.DataObject) -> None:
    offsets: Counter[int] = Counter()
    placed: list[Placed] = []
    for partition, time in arrivals:
        record = Record("transactions", partition, offsets[partition], "", b"", time)
        placed.append(Placed(time, 0, "transactions", partition, record))
        offsets[partition] += 1
    expected = [
        each.record
        for each in heapq.merge(
            *([each for each in placed if each.partition == partition] for partition in range(3)),
            key=lambda each: each[:4],
        )
    ]
    merge, taken = Merge(after(each.record for each in placed)), []
    left = {partition: deque(each for each in placed if each.partition == partition) for partition in range(3)}
    while any(left.values()):
        queue = left[data.draw(st.sampled_from([partition for partition, queue in left.items() if queue]))]
        merge.add([queue.popleft()])
        taken += merge.take()
    assert taken + merge.take() == expected


@given(st.lists(st.tuples(st.text(), st.one_of(st.none(), st.text(min_size=1)), st.integers(0, 2**31)), max_size=5))
def test_records_cross_as_they_are(fields: list[tuple[str, str | None, int]]) -> None:
    placed = [
        Placed(7, number, "labels", 1, Record("labels", 1, offset, key, b'{"a": 1}', 7, record_id))
        for offset, (key, record_id, number) in enumerate(fields)
    ]
    assert read_records(write_records(placed)) == placed
