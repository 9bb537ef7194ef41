"""The reader that keeps the lake: from any point, once or again, each record of the log is in each table once."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from tests.contracts.test_hotstore import revision

from tidegate.adapters.embedded.lake import EmbeddedLake
from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.errors import FencedError
from tidegate.ports.log import MAX_RECORD_BYTES, Entry, Positions, Record, TopicPartition
from tidegate.readers import lake as lake_reader
from tidegate.readers.lake import COMMIT_EVERY_MS, GROUP, LakeReader
from tidegate.readers.lake_tables import TABLES
from tidegate.streams.decision import DECISIONS, REJECTED, Decision
from tidegate.streams.rejected import Rejected
from tidegate.streams.revision import REVISIONS, Missed, Revision
from tidegate.streams.schema import STREAMS, Field, load_schema

TOPICS = (*STREAMS, DECISIONS, REJECTED, REVISIONS)
ACCEPTED_MS = 1_790_000_000_000
EVENT_US = 1_789_999_990_000_000
RETENTION_MS = 1000
JOIN_TIMEOUT_S = 60


class HandClock:
    def __init__(self) -> None:
        self.ms = 0

    def now_ms(self) -> int:
        return self.ms


class Company:
    """A log, a lake and a clock moved by hand."""

    def __init__(self, folder: Path) -> None:
        self.clock = HandClock()
        self.log = EmbeddedLog(folder / "log.sqlite")
        for topic in TOPICS:
            self.log.create(topic, partitions=2, retention_ms=RETENTION_MS)
        self.lake = EmbeddedLake(folder / "lake")

    def reader(self, lake: Any = None, **options: Any) -> LakeReader:
        return LakeReader(self.log, lake or self.lake, self.clock, **options)

    def write(self, start: int, end: int) -> None:
        """One record of each topic for each number."""
        self.log.append([entry(topic, n) for n in range(start, end) for topic in TOPICS])

    def bring_in(self) -> None:
        reader = self.reader()
        read_all(reader)
        reader.commit()

    def assert_all_is_in_once(self) -> None:
        each = [f"SELECT '{table.name}' AS name, partition, \"offset\" FROM {table.name}" for table in TABLES]
        answer = self.lake.query(" UNION ALL ".join(each) + " ORDER BY ALL")
        there = [tuple(row.values()) for row in answer.to_pylist()]
        assert there == sorted((t.name, r.partition, r.offset) for t in TABLES for r in self.records(t.topic))
        assert self.lake.row_counts() == {table.name: len(self.records(table.topic)) for table in TABLES}

    def records(self, topic: str) -> list[Record]:
        return self.log.read({TopicPartition(topic, partition): 0 for partition in range(2)}, 10**9)


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    company = Company(tmp_path)
    yield company
    company.log.close()


def read_all(reader: LakeReader) -> None:
    while reader.step(timeout_ms=0):
        pass


def value_of(field: Field, n: int) -> Any:
    values = {
        "string": f"{field.name}-{n}",
        "long": n,
        "double": n / 2,
        "boolean": n % 2 == 0,
        "timestamp": EVENT_US + n,
    }
    return field.symbols[n % len(field.symbols)] if field.symbols else values[field.kind]


def event(stream: str, n: int) -> dict[str, Any]:
    """A protected event, each third one with its optional fields left out."""
    row: dict[str, Any] = {}
    for field in load_schema(stream).fields:
        row[field.name] = None if field.nullable and n % 3 == 0 else value_of(field, n)
        if field.personal == "pan":
            row |= {f"{field.name}_bin": "411111", f"{field.name}_last4": "1111"}
    return row | {"event_id": f"{stream}-{n}", "sealed": "c2VhbGVk"}


def decision(n: int) -> Decision:
    return Decision(
        event_id=f"transactions-{n}",
        event_time=EVENT_US + n,
        stream="transactions",
        detector="card_fraud",
        detector_version="v1",
        features={"count_2h": n, "mean_7d": 1.5, "is_new": n % 2 == 0, "country": "DE", "none": None, "big": 2**60 + 1},
        rules={"velocity": True, "quiet": False, "geo": True},
        shadow=["geo"],
        late=False,
        score=40,
        outcome="review",
        reasons=["too many", "too fast"],
        hash="0" * 64,
    )


def revision_of(n: int) -> Revision:
    return msgspec.structs.replace(revision(1, n), event_time=EVENT_US + n)


def entry(topic: str, n: int, value: bytes | None = None) -> Entry:
    if value is None and topic == REJECTED:
        value = msgspec.json.encode(Rejected(stream="stock", step="decode", reason="not JSON", accepted_ms=n))
    elif value is None:
        made = {DECISIONS: decision, REVISIONS: revision_of}
        value = msgspec.json.encode(made[topic](n) if topic in made else event(topic, n))
    return Entry(topic, f"key-{n}", value, ACCEPTED_MS + n, f"{topic}-{n}")


# -- what the tables hold ------------------------------------------------------------------------------------------


def test_every_record_is_in_each_of_its_tables(company: Company) -> None:
    company.write(0, 20)
    company.bring_in()
    assert sorted(company.lake.row_counts()) == sorted(
        [
            *(f"raw.{topic}" for topic in (*STREAMS, REJECTED, REVISIONS)),
            *("curated.transactions", "curated.decisions", "curated.revisions"),
        ]
    )
    company.assert_all_is_in_once()


@pytest.mark.parametrize("topic", [*STREAMS, REJECTED])
def test_raw_is_the_record_as_it_stands_in_the_log(company: Company, topic: str) -> None:
    company.log.append([entry(topic, n) for n in range(6)])
    company.bring_in()
    there = company.lake.query(f'SELECT * FROM raw.{topic} ORDER BY partition, "offset"').to_pylist()
    records = sorted(company.records(topic), key=lambda record: (record.partition, record.offset))
    for row, record in zip(there, records, strict=True):
        timed = msgspec.json.decode(record.value).get("event_time")
        assert row == {
            "event_id": record.id,
            **({"event_time": datetime.fromtimestamp(timed / 1e6, UTC)} if topic != REJECTED else {}),
            "accepted_at": datetime.fromtimestamp(record.timestamp_ms / 1000, UTC),
            "partition": record.partition,
            "offset": record.offset,
            "key": record.key,
            "value": record.value.decode(),
        }


def test_what_was_revised_is_easy_to_ask_and_what_was_missed_is_raw(company: Company) -> None:
    cause = revision_of(0).causes[0]
    missed = Missed(detector="card_fraud", cause=cause, settled_until=1, reason="too late")
    company.log.append([entry(REVISIONS, 0), entry(REVISIONS, 1, msgspec.json.encode(missed))])
    company.bring_in()
    (row,) = company.lake.query("SELECT * FROM curated.revisions").to_pylist()
    assert (row["event_id"], row["number"], row["old_outcome"], row["new_outcome"]) == ("tx-0", 1, "approve", "review")
    assert (row["fired"], row["causes"]) == (["often"], ["label-9"])
    assert msgspec.json.decode(row["revision"], type=Revision) == revision_of(0)
    assert len(company.lake.query("SELECT * FROM raw.revisions")) == 2


def test_curated_transactions_are_typed(company: Company) -> None:
    company.log.append([entry("transactions", n) for n in range(6)])
    company.bring_in()
    there = company.lake.query("SELECT * FROM curated.transactions ORDER BY amount_minor")
    schema = load_schema("transactions").arrow
    for n, row in enumerate(there.to_pylist()):
        want = event("transactions", n)
        assert row["event_time"] == datetime.fromtimestamp(want["event_time"] / 1e6, UTC)
        assert {name: row[name] for name in schema.names if name != "event_time"} == {
            name: want[name] for name in schema.names if name != "event_time"
        }
        assert row["accepted_at"] == datetime.fromtimestamp(ACCEPTED_MS / 1000 + n / 1000, UTC)
    assert there.column_names == [*schema.names, "accepted_at", "partition", "offset"]
    assert there.schema.field("terminal_latitude").type == pa.float64()
    assert there.schema.field("card_present").type == pa.bool_()


def test_curated_decisions_are_easy_to_ask(company: Company) -> None:
    company.log.append([entry(DECISIONS, n) for n in range(2)])
    company.bring_in()
    answer = company.lake.query(
        """
        SELECT event_id, score, outcome, rules, shadow_rules, reasons, late, model_version,
               features['count_2h'] + features['mean_7d'] AS sum, features['is_new'] AS is_new,
               features['country'] AS no_number, decision->>'$.features.country' AS country,
               (decision->>'$.features.big')::BIGINT AS big
        FROM curated.decisions WHERE list_contains(rules, 'velocity') ORDER BY event_time
        """
    )
    shared = {
        "score": 40,
        "outcome": "review",
        "rules": ["velocity"],
        "shadow_rules": ["geo"],
        "reasons": ["too many", "too fast"],
        "late": False,
        "model_version": None,
        "no_number": None,
        "country": "DE",
        "big": 2**60 + 1,
    }
    assert answer.to_pylist() == [
        shared | {"event_id": "transactions-0", "sum": 1.5, "is_new": 1.0},
        shared | {"event_id": "transactions-1", "sum": 2.5, "is_new": 0.0},
    ]
    (text,) = company.lake.query("SELECT decision FROM curated.decisions LIMIT 1")["decision"].to_pylist()
    assert msgspec.json.decode(text, type=Decision) == decision(0)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"\xff\xfe not text", id="no text"),
        pytest.param(b"{", id="no JSON"),
        pytest.param(b"[1]", id="no object"),
        pytest.param(b"{}", id="nothing in it"),
        pytest.param(msgspec.json.encode(event("transactions", 1) | {"amount_minor": "much"}), id="a wrong type"),
        pytest.param(msgspec.json.encode(event("transactions", 1) | {"event_time": 2**62}), id="a year without a date"),
        pytest.param(msgspec.json.encode(event("transactions", 1) | {"event_time": -(2**62)}), id="long ago"),
        pytest.param(msgspec.json.encode(event("transactions", 1) | {"event_time": 2**70}), id="a time too long"),
    ],
)
def test_what_does_not_fit_stays_in_raw_and_halts_nothing(
    company: Company, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [entry("transactions", 0), entry("transactions", 1, value), entry("transactions", 2)]
    company.log.append([*entries, entry(DECISIONS, 1, value)])
    with caplog.at_level(logging.WARNING):
        company.bring_in()
    company.log.append([entry("transactions", 3)])
    company.bring_in()
    assert company.lake.row_counts() | {"raw.labels": 0} == {
        table.name: {"raw.transactions": 4, "curated.transactions": 3}.get(table.name, 0) for table in TABLES
    }
    assert "does not fit its stream, kept in raw only" in caplog.text
    assert "much" not in caplog.text
    (kept,) = company.lake.query("SELECT value FROM raw.transactions WHERE event_id = 'transactions-1'").to_pylist()
    assert kept["value"] == value.decode("utf-8", "replace")


# -- when it commits -----------------------------------------------------------------------------------------------


def test_it_commits_when_it_is_time_and_only_tables_with_new_rows(company: Company) -> None:
    reader = company.reader()
    company.log.append([entry("stock", n) for n in range(3)])
    read_all(reader)
    company.clock.ms += COMMIT_EVERY_MS - 1
    read_all(reader)
    assert company.lake.row_counts()["raw.stock"] == 0
    assert company.log.lag(GROUP)["stock"] == 3
    company.clock.ms += 1
    read_all(reader)
    assert company.lake.row_counts()["raw.stock"] == 3
    assert company.log.lag(GROUP)["stock"] == 0
    places = {TopicPartition("stock", 0), TopicPartition("stock", 1)}
    assert {table.name for table in TABLES if company.lake.positions(table.name)} == {"raw.stock"}
    assert set(company.lake.positions("raw.stock")) <= places


def test_it_holds_no_more_rows_than_it_may(company: Company) -> None:
    company.write(0, 4)
    reader = company.reader(max_rows=10)
    while reader.step(timeout_ms=0):
        assert reader._held_rows < 10
    assert sum(company.log.lag(GROUP).values()) == 4 * len(TOPICS) % 10
    reader.commit()
    company.assert_all_is_in_once()


def test_it_holds_no_more_bytes_than_it_may(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_reader, "MAX_BYTES", 3 * MAX_RECORD_BYTES)
    monkeypatch.setattr(lake_reader, "_POLL_RECORDS", 1)
    large = b'"' + b"x" * (MAX_RECORD_BYTES - 2) + b'"'
    company.log.append([entry("stock", n, large) for n in range(5)])
    reader = company.reader()
    held: list[int] = []
    while reader.step(timeout_ms=0):
        held.append(reader._held_bytes)
    assert max(held) <= 2 * MAX_RECORD_BYTES
    assert company.lake.row_counts()["raw.stock"] == 3
    reader.commit()
    assert company.lake.row_counts()["raw.stock"] == 5


def test_what_is_in_the_lake_may_expire_and_nothing_else(company: Company) -> None:
    company.write(0, 3)
    later_ms = ACCEPTED_MS + 2 * RETENTION_MS
    reader = company.reader()
    read_all(reader)
    assert company.log.expire(later_ms) == 0
    reader.commit()
    assert company.log.expire(later_ms) == 3 * len(TOPICS)


def test_a_clean_stop_commits_what_is_held(company: Company) -> None:
    company.write(0, 4)
    stop = threading.Event()
    reader = company.reader()
    thread = threading.Thread(target=reader.run, args=(stop,))
    thread.start()
    while sum(map(len, reader._held.values())) < 4 * len(TOPICS):
        assert thread.is_alive()
    stop.set()
    thread.join(JOIN_TIMEOUT_S)
    assert not thread.is_alive()
    company.assert_all_is_in_once()


# -- one at a time, and once -----------------------------------------------------------------------------------------


def test_a_newer_reader_takes_over(company: Company) -> None:
    company.write(0, 3)
    old = company.reader()
    read_all(old)
    company.bring_in()
    with pytest.raises(FencedError):
        old.commit()
    company.assert_all_is_in_once()


def test_a_reader_that_lost_the_group_ends(company: Company, caplog: pytest.LogCaptureFixture) -> None:
    old = company.reader()
    company.write(0, 3)
    company.bring_in()
    stop = threading.Event()
    stop.set()
    old.run(stop)
    assert "lake reader ends" in caplog.text


class Killed(BaseException):
    """Stands for kill -9."""


class DyingLake:
    """The lake, until its `after`th append: that one is lost, or it is written and nobody learns of it."""

    def __init__(self, lake: EmbeddedLake, after: int, *, written: bool) -> None:
        self._lake, self._left, self._written = lake, after, written

    def append(self, table: str, rows: pa.Table, start: Positions, end: Positions) -> None:
        self._left -= 1
        if self._left >= 0 or self._written:
            self._lake.append(table, rows, start, end)
        if self._left < 0:
            raise Killed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lake, name)


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
def test_a_kill_between_any_two_tables_loses_and_doubles_nothing(company: Company, written: bool) -> None:
    rng = random.Random(1)
    done = 0
    for after in range(len(TABLES)):
        more = rng.randint(1, 4)
        company.write(done, done + more)
        done += more
        reader = company.reader(DyingLake(company.lake, after, written=written))
        with pytest.raises(Killed):
            read_all_and_commit(reader)
    company.bring_in()
    company.assert_all_is_in_once()
    assert company.log.lag(GROUP) == dict.fromkeys(TOPICS, 0)


def read_all_and_commit(reader: LakeReader) -> None:
    read_all(reader)
    reader.commit()


def test_a_lake_that_is_ahead_of_the_group_is_not_read_again(company: Company) -> None:
    """A commit to the lake whose commit to the log was lost."""
    company.write(0, 3)
    reader = company.reader()
    read_all(reader)
    company.log.consumer(GROUP, ["stock"])
    with pytest.raises(FencedError):
        reader.commit()
    assert company.log.lag(GROUP)["stock"] == 3
    again = company.reader()
    assert again.step(timeout_ms=0) == 0
    again.commit()
    company.assert_all_is_in_once()
    assert company.log.lag(GROUP)["stock"] == 0
