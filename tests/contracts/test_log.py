"""What every log does: order, ids, groups, fencing, one transaction from input to output, retention."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from zlib import crc32

import pytest
from infra.stack.kafka import Kafka

from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.adapters.kafka.log import KafkaLog
from tidegate.adapters.kafka.log_connection import Connection
from tidegate.errors import DamagedError, FencedError, NotFoundError, StateError, UsageError
from tidegate.ports.log import MAX_RECORD_BYTES, Appended, Consumer, Entry, Log, Record, TopicPartition

APPENDERS = 3
BATCHES_EACH = 20
BATCH = 10
#: A process that does not end within this hangs.
JOIN_TIMEOUT_S = 60


def open_embedded(folder: Path) -> Log:
    return EmbeddedLog(folder / "log.sqlite")


def open_kafka(servers: str, folder: Path) -> Log:
    """A folder is a prefix: the same folder is the same log."""
    return KafkaLog(Connection(servers=servers, prefix=f"{crc32(str(folder).encode()):08x}."))


Opener = Callable[[Path], Log]


@pytest.fixture(params=["embedded", "kafka"])
def opener(request: pytest.FixtureRequest) -> Opener:
    if request.param == "embedded":
        return open_embedded
    kafka: Kafka = request.getfixturevalue("kafka")
    return partial(open_kafka, kafka.servers)


@pytest.fixture
def log(opener: Opener, tmp_path: Path) -> Generator[Log]:
    log = opener(tmp_path)
    log.create("in", partitions=3)
    log.create("out", partitions=2)
    yield log
    log.close()


def entry(number: int, topic: str = "in", *, key: str | None = None, record_id: str | None = None) -> Entry:
    return Entry(topic, key or f"key-{number % 7}", f"value-{number}".encode(), 1000 + number, record_id)


def entries(numbers: range, topic: str = "in") -> list[Entry]:
    return [entry(number, topic, record_id=f"id-{number}") for number in numbers]


def values(records: list[Record]) -> list[str]:
    return [record.value.decode() for record in records]


def expected(numbers: range) -> list[str]:
    return [f"value-{number}" for number in numbers]


def everything(log: Log, topic: str) -> list[Record]:
    at, found = dict.fromkeys(log.ends([topic]), 0), list[Record]()
    while records := log.read(at, 1_000_000):
        found += records
        at |= {TopicPartition(topic, record.partition): record.offset + 1 for record in records}
    return found


# --- topics


def test_a_topic_is_made_once(log: Log) -> None:
    log.create("in", partitions=9)
    assert log.topics() == {"in": 3, "out": 2}


def test_a_topic_has_at_least_one_partition(log: Log) -> None:
    with pytest.raises(UsageError):
        log.create("none", partitions=0)


def test_what_names_an_unknown_topic_is_refused_and_nothing_is_written(log: Log) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        log.append([entry(1), entry(2, "nowhere")])
    with pytest.raises(NotFoundError):
        log.consumer("group", ["nowhere"])
    with pytest.raises(NotFoundError):
        log.ends(["nowhere"])
    with pytest.raises(NotFoundError):
        log.read({TopicPartition("nowhere", 0): 0}, 10)
    assert everything(log, "in") == []


def test_a_topic_made_by_another_process_is_found(log: Log, opener: Opener, tmp_path: Path) -> None:
    other = opener(tmp_path)
    other.create("new", partitions=1)
    log.append([entry(1, "new")])
    assert values(everything(other, "new")) == ["value-1"]
    other.close()


# --- append and read


def test_a_record_is_read_as_it_was_written(log: Log) -> None:
    written = Entry("in", "ключ\0", bytes(range(256)), 2**41, "id\0ü")
    [at] = log.append([written])
    [record] = everything(log, "in")
    assert record == Record("in", at.partition, at.offset, written.key, written.value, written.timestamp_ms, written.id)


def test_the_largest_record_fits_and_a_larger_one_is_refused_with_its_batch(log: Log) -> None:
    log.append([Entry("in", "k", b"x" * MAX_RECORD_BYTES, 0)])
    with pytest.raises(UsageError, match=str(MAX_RECORD_BYTES)):
        log.append([entry(1), Entry("in", "k", b"x" * (MAX_RECORD_BYTES + 1), 0)])
    assert [len(record.value) for record in everything(log, "in")] == [MAX_RECORD_BYTES]


def test_nothing_to_append_is_nothing(log: Log) -> None:
    assert log.append([]) == []


def test_offsets_begin_at_0_and_grow_and_a_key_stays_in_its_partition(log: Log) -> None:
    appended = log.append(entries(range(200)))
    partition_of: dict[str, set[int]] = {}
    offsets: dict[int, list[int]] = {}
    for record, at in zip(everything(log, "in"), appended, strict=True):
        assert (record.partition, record.offset) == (at.partition, at.offset)
        partition_of.setdefault(record.key, set()).add(record.partition)
        offsets.setdefault(record.partition, []).append(record.offset)
    assert all(len(partitions) == 1 for partitions in partition_of.values())
    assert all(seen[0] == 0 and seen == sorted(set(seen)) for seen in offsets.values())
    assert set().union(*partition_of.values()) == {0, 1, 2}
    assert log.ends(["in"]) == {TopicPartition("in", p): seen[-1] + 1 for p, seen in offsets.items()}


def test_the_same_key_finds_the_same_partition_in_every_log(opener: Opener, tmp_path: Path) -> None:
    places: list[list[int]] = []
    for name in ("a", "b"):
        log = opener(tmp_path / name)
        log.create("in", partitions=5)
        places.append([at.partition for at in log.append([entry(n, key=f"card-{n}") for n in range(50)])])
        log.close()
    assert places[0] == places[1]


def test_reading_follows_the_order_of_append_across_topics(log: Log) -> None:
    for number in range(60):
        log.append([entry(number, "in" if number % 3 else "out")])
    both = {TopicPartition("in", p): 0 for p in range(3)} | {TopicPartition("out", p): 0 for p in range(2)}
    assert values(log.read(both, 1000)) == expected(range(60))
    assert values(log.read(both, 7)) == expected(range(7))


def test_reading_keeps_to_the_partitions_and_offsets_that_are_named(log: Log) -> None:
    log.append(entries(range(100)))
    of_one = [record for record in everything(log, "in") if record.partition == 1]
    place = TopicPartition("in", 1)
    assert log.read({place: 0}, 1000) == of_one
    assert log.read({place: of_one[3].offset}, 2) == of_one[3:5]
    assert log.read({place: of_one[-1].offset + 1}, 10) == []
    assert log.read({}, 10) == []


# --- ids


def test_an_id_is_written_once_in_its_topic(log: Log) -> None:
    first = log.append(entries(range(300)))
    again = log.append(entries(range(250, 350)))
    assert again[:50] == [Appended(at.partition, at.offset, duplicate=True) for at in first[250:]]
    assert not any(at.duplicate for at in again[50:])
    assert values(everything(log, "in")) == expected(range(350))
    assert not log.append([entry(0, "out", record_id="id-0")])[0].duplicate


def test_an_id_twice_in_one_batch_is_written_once(log: Log) -> None:
    first, second = log.append([entry(1, record_id="same"), entry(2, key="another key", record_id="same")])
    assert second == Appended(first.partition, first.offset, duplicate=True)
    assert values(everything(log, "in")) == ["value-1"]


def test_records_without_id_are_always_written(log: Log) -> None:
    log.append([entry(1), entry(1)])
    log.append([entry(1)])
    assert values(everything(log, "in")) == ["value-1"] * 3


# --- groups


def test_a_group_reads_from_the_start_and_polling_moves_only_the_position(log: Log) -> None:
    log.append(entries(range(20)))
    consumer = log.consumer("group", ["in"])
    assert values(consumer.poll(15, 0)) == expected(range(15))
    assert values(consumer.poll(15, 0)) == expected(range(15, 20))
    assert consumer.poll(15, 0) == []
    assert consumer.position() == log.ends(["in"])
    assert not any(consumer.committed().values())
    assert log.lag("group") == {"in": 20}
    consumer.commit()
    assert consumer.committed() == consumer.position()
    assert log.lag("group") == {"in": 0}
    consumer.close()


def test_the_next_member_goes_on_from_the_last_commit(log: Log) -> None:
    log.append(entries(range(20)))
    first = log.consumer("group", ["in"])
    first.poll(5, 0)
    first.commit()
    first.poll(5, 0)
    second = log.consumer("group", ["in"])
    assert values(second.poll(100, 0)) == expected(range(5, 20))
    first.close()
    second.close()


def test_groups_do_not_know_each_other(log: Log) -> None:
    log.append(entries(range(5)))
    for group in ("a", "b"):
        consumer = log.consumer(group, ["in"])
        assert values(consumer.poll(10, 0)) == expected(range(5))
        consumer.commit()
        consumer.close()
    assert log.lag("c") == {}


def test_a_consumer_reads_its_topics_only_in_order_of_append(log: Log) -> None:
    log.create("other", partitions=1)
    for number in range(30):
        log.append([entry(number, ("in", "out", "other")[number % 3])])
    consumer = log.consumer("group", ["out", "in"])
    assert values(consumer.poll(100, 0)) == [f"value-{n}" for n in range(30) if n % 3 != 2]
    log.append([entry(99, "other")])
    assert consumer.poll(100, 0) == []
    consumer.close()


def test_seek_moves_the_partitions_it_names(log: Log) -> None:
    log.append(entries(range(40)))
    consumer = log.consumer("group", ["in"])
    everything_read = consumer.poll(100, 0)
    assert consumer.poll(100, 0) == []
    consumer.seek({TopicPartition("in", 2): 1})
    assert consumer.poll(100, 0) == [r for r in everything_read if r.partition == 2 and r.offset >= 1]
    with pytest.raises(NotFoundError):
        consumer.seek({TopicPartition("in", 0): 0, TopicPartition("out", 0): 0})
    assert consumer.position() == log.ends(["in"])
    consumer.close()


def test_a_poll_waits_for_the_first_record(log: Log, opener: Opener, tmp_path: Path) -> None:
    consumer = log.consumer("group", ["in"])
    assert consumer.poll(10, 5) == []
    got: list[Record] = []
    waiting = threading.Thread(target=lambda: got.extend(consumer.poll(10, JOIN_TIMEOUT_S * 1000)))
    waiting.start()
    other = opener(tmp_path)
    other.append([entry(1)])
    waiting.join(JOIN_TIMEOUT_S)
    assert values(got) == ["value-1"]
    log.append([entry(2)])
    assert values(consumer.poll(10, 0)) == ["value-2"]
    consumer.close()
    other.close()


# --- history


def test_history_is_in_the_order_in_which_the_group_took_it(log: Log) -> None:
    log.append(entries(range(40)))
    log.append(entries(range(40), "out"))
    consumer = log.consumer("group", ["in", "out"])
    taken = consumer.poll(7, 0)
    consumer.commit()
    # Written later, but by its time it is earlier than what the group took already.
    log.append([Entry("in", "late", b"late", 1, "late")])
    halfway = consumer.position()
    for limit in (10, 1, 40):
        taken += consumer.poll(limit, 0)
    consumer.commit()
    taken_before = list(taken)
    uncommitted = consumer.poll(100, 0)
    told = [record for batch in log.history("group", {}, ["in", "out"]) for record in batch]
    assert told == taken_before
    assert len(told) + len(uncommitted) == 81
    assert [record for batch in log.history("group", halfway, ["in", "out"]) for record in batch] == told[7:]
    of_one = [record for batch in log.history("group", halfway, ["in"]) for record in batch]
    assert of_one == [record for record in told[7:] if record.topic == "in"]
    consumer.close()


def test_history_starts_at_any_place_of_the_order(log: Log) -> None:
    for number in range(30):
        log.append([entry(n, topic) for n in range(number, number + 3) for topic in ("in", "out")])
    consumer = log.consumer("group", ["in", "out"])
    taken: list[Record] = []
    while records := consumer.poll(11, 0):
        taken += records
        consumer.commit()
    for cut in (0, 1, 10, 11, 12, 100, len(taken)):
        start = {TopicPartition(r.topic, r.partition): r.offset + 1 for r in taken[:cut]}
        assert [record for batch in log.history("group", start, ["in", "out"]) for record in batch] == taken[cut:]
    assert list(log.history("nobody", {}, ["in"])) == []
    consumer.close()


# --- one transaction from input to output


def test_a_commit_writes_output_and_position_together(log: Log) -> None:
    log.append(entries(range(10)))
    consumer = log.consumer("group", ["in"])
    consumer.poll(4, 0)
    first = consumer.commit(entries(range(4), "out"))
    again = consumer.commit(entries(range(3, 5), "out"))
    assert again[0] == Appended(first[3].partition, first[3].offset, duplicate=True)
    assert not again[1].duplicate
    assert values(everything(log, "out")) == expected(range(5))
    consumer.close()


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (Entry("nowhere", "k", b"v", 0), NotFoundError),
        (Entry("out", "k", b"x" * (MAX_RECORD_BYTES + 1), 0), UsageError),
    ],
    ids=["unknown topic", "too large"],
)
def test_a_commit_that_fails_writes_neither_and_may_be_tried_again(
    log: Log, bad: Entry, error: type[Exception]
) -> None:
    log.append(entries(range(10)))
    consumer = log.consumer("group", ["in"])
    consumer.poll(4, 0)
    with pytest.raises(error):
        consumer.commit([entry(1, "out"), bad])
    assert not any(consumer.committed().values())
    assert everything(log, "out") == []
    consumer.commit([entry(1, "out")])
    assert consumer.committed() == consumer.position()
    consumer.close()


def test_an_older_member_is_fenced_and_writes_nothing(log: Log) -> None:
    log.append(entries(range(10)))
    older = log.consumer("group", ["in"])
    older.poll(5, 0)
    older.commit()
    newer = log.consumer("group", ["in"])
    older.poll(5, 0)
    with pytest.raises(FencedError):
        older.commit([entry(1, "out")])
    assert everything(log, "out") == []
    assert values(newer.poll(100, 0)) == expected(range(5, 10))
    newer.commit([entry(2, "out")])
    assert values(everything(log, "out")) == ["value-2"]
    older.close()
    newer.close()


# --- retention


def test_what_is_old_and_read_by_every_group_expires(log: Log) -> None:
    log.create("short", partitions=1, retention_ms=100)
    log.append(entries(range(20), "short"))
    log.append(entries(range(20)))
    readers = [log.consumer(group, ["short"]) for group in ("quick", "slow")]
    for reader, read in zip(readers, (20, 10), strict=True):
        reader.poll(read, 0)
        reader.commit()
    # Record n was written at 1000 + n: at 1115 the first fifteen are older than 100 ms.
    assert log.expire(1115) == 10
    readers[1].poll(20, 0)
    readers[1].commit()
    assert log.expire(1115) == 5
    assert log.expire(1115) == 0
    assert values(everything(log, "short")) == expected(range(15, 20))
    assert len(everything(log, "in")) == 20
    for reader in readers:
        reader.close()


def test_a_group_that_never_committed_holds_records_back(log: Log) -> None:
    log.create("short", partitions=1, retention_ms=100)
    log.append(entries(range(5), "short"))
    log.consumer("asleep", ["short"]).close()
    assert log.expire(10**9) == 0


def test_after_expiry_offsets_go_on_and_a_new_group_starts_with_what_is_left(log: Log) -> None:
    log.create("short", partitions=1, retention_ms=100)
    log.append(entries(range(5000), "short"))
    assert log.expire(10**9) == 5000
    place = TopicPartition("short", 0)
    assert log.ends(["short"]) == {place: 5000}
    consumer = log.consumer("new", ["short"])
    assert log.lag("new") == {"short": 0}
    [at] = log.append([entry(7, "short")])
    assert at.offset == 5000
    assert log.lag("new") == {"short": 1}
    assert values(consumer.poll(10, 0)) == ["value-7"]
    assert consumer.position() == {place: 5001}
    consumer.close()


# --- many processes


def _append(opener: Opener, folder: Path, number: int) -> None:
    log = opener(folder)
    for batch in range(BATCHES_EACH):
        ids = range(batch * BATCH, (batch + 1) * BATCH)
        log.append([entry(n, key=f"{number}-{n % 5}", record_id=f"{number}-{n}") for n in ids])
        # What everyone writes.
        log.append([entry(batch, record_id=f"shared-{batch}")])
    log.close()


def _copy(opener: Opener, folder: Path, total: int) -> None:
    log = opener(folder)
    consumer: Consumer = log.consumer("copy", ["in"])
    ids: set[str | None] = set()
    while len(ids) < total:
        records = consumer.poll(64, 1000)
        consumer.commit([Entry("out", r.key, r.value, r.timestamp_ms, None) for r in records])
        ids |= {r.id for r in records}
    consumer.close()
    log.close()


def test_many_processes_lose_and_double_nothing(log: Log, opener: Opener, tmp_path: Path) -> None:
    total = APPENDERS * BATCHES_EACH * BATCH + BATCHES_EACH
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_append, args=(opener, tmp_path, number)) for number in range(APPENDERS)]
    processes.append(spawn.Process(target=_copy, args=(opener, tmp_path, total)))
    for process in processes:
        process.start()
    for process in processes:
        process.join(JOIN_TIMEOUT_S)
        assert process.exitcode == 0
    written, copied = everything(log, "in"), everything(log, "out")
    counts = Counter(record.id for record in written)
    shared = {f"shared-{b}" for b in range(BATCHES_EACH)}
    assert counts.keys() == {f"{a}-{n}" for a in range(APPENDERS) for n in range(BATCHES_EACH * BATCH)} | shared
    assert all(count == 1 or record_id in shared for record_id, count in counts.items())
    if isinstance(log, EmbeddedLog):
        # Of those who write one id at the same moment just one wins.
        assert all(count == 1 for count in counts.values())
        assert [r.value for r in copied] == [r.value for r in written]
    # A few more of the same id may be there by now than when all ids were.
    assert Counter(r.value for r in copied) <= Counter(r.value for r in written)
    assert len({(r.value, r.key) for r in copied}) == len({(r.value, r.key) for r in written})
    for number in range(APPENDERS):
        own = [r for r in written if r.id and r.id.startswith(f"{number}-")]
        for partition in range(3):
            in_it = [int(r.id.split("-")[1]) for r in own if r.id and r.partition == partition]
            assert in_it == sorted(in_it)


def test_threads_share_a_log(log: Log) -> None:
    def append(number: int) -> None:
        for n in range(30):
            log.append([entry(n, record_id=f"{number}-{n}")])
            assert log.ends(["in"])

    threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_TIMEOUT_S)
    assert len(everything(log, "in")) == 120


# --- the embedded log's file


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE theirs (x)")
    foreign.close()
    before = path.read_bytes()
    with pytest.raises(StateError, match="another program"):
        EmbeddedLog(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(DamagedError, match=r"log\.sqlite"):
        EmbeddedLog(path)


def test_a_damaged_page_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    log = EmbeddedLog(path)
    log.create("in", partitions=1)
    log.append(entries(range(2000)))
    log.close()
    content = bytearray(path.read_bytes())
    for page in range(8192, len(content), 4096):
        content[page : page + 100] = b"\xff" * 100
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="restore"):
        everything(EmbeddedLog(path), "in")


def test_another_layout_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    EmbeddedLog(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StateError, match="layout 99"):
        EmbeddedLog(path)
