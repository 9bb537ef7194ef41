"""What every lake does: rows once, in snapshots that say where in the log they came from; asked as of any moment."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table.snapshots import Snapshot

from tidegate.adapters.embedded import lake as embedded
from tidegate.adapters.embedded.lake import EmbeddedLake
from tidegate.adapters.embedded.lake_query import Source, ask
from tidegate.errors import DamagedError, FencedError, NotFoundError, UsageError
from tidegate.ports.lake import Lake
from tidegate.ports.log import Positions, TopicPartition

Opener = Callable[[Path], Lake]

TABLE = "raw.transactions"
SCHEMA = pa.schema([("event_id", pa.string()), ("event_time", pa.timestamp("us", "UTC")), ("amount_minor", pa.int64())])
PLACE, OTHER = TopicPartition("transactions", 0), TopicPartition("transactions", 1)
HOUR_US = 3_600_000_000
RACES = 4


def open_embedded(folder: Path) -> Lake:
    return EmbeddedLake(folder / "lake")


@pytest.fixture(params=[open_embedded], ids=["embedded"])
def opener(request: pytest.FixtureRequest) -> Opener:
    return request.param


@pytest.fixture
def lake(opener: Opener, tmp_path: Path) -> Lake:
    lake = opener(tmp_path)
    lake.ensure(TABLE, SCHEMA)
    return lake


def rows(start: int, end: int) -> pa.Table:
    """One row an hour, so that a few of them reach over several days."""
    numbers = range(start, end)
    return pa.table(
        {
            "event_id": [f"tx-{n}" for n in numbers],
            "event_time": pa.array([n * HOUR_US for n in numbers], pa.int64()).cast(pa.timestamp("us", "UTC")),
            "amount_minor": list(numbers),
        },
        schema=SCHEMA,
    )


def put(lake: Lake, start: int, end: int) -> None:
    lake.append(TABLE, rows(start, end), {PLACE: start}, {PLACE: end})


def amounts(lake: Lake, as_of: datetime | None = None) -> list[int]:
    return lake.query(f"SELECT amount_minor FROM {TABLE} ORDER BY 1", as_of)["amount_minor"].to_pylist()


def moment() -> datetime:
    """A moment after every snapshot so far and before every later one: they are told apart by milliseconds."""
    now = datetime.now(UTC)
    while datetime.now(UTC) - now < timedelta(milliseconds=2):
        pass
    return now


# -- rows and positions --------------------------------------------------------------------------------------------


def test_a_new_table_is_empty(lake: Lake) -> None:
    assert lake.positions(TABLE) == {}
    assert lake.row_counts() == {TABLE: 0}
    answer = lake.query(f"SELECT * FROM {TABLE}")
    assert answer.num_rows == 0
    assert answer.column_names == SCHEMA.names


def test_rows_come_back_as_they_went_in(lake: Lake) -> None:
    put(lake, 0, 50)
    answer = lake.query(f"SELECT * FROM {TABLE} ORDER BY amount_minor")
    assert answer.cast(SCHEMA).equals(rows(0, 50))


def test_positions_gather_over_partitions_and_outlive_the_committer(lake: Lake, opener: Opener, tmp_path: Path) -> None:
    put(lake, 0, 5)
    lake.append(TABLE, rows(5, 7), {PLACE: 5}, {OTHER: 2})
    lake.append(TABLE, rows(7, 8), {PLACE: 5, OTHER: 2}, {PLACE: 6})
    again = opener(tmp_path)
    assert again.positions(TABLE) == {PLACE: 6, OTHER: 2}
    assert again.row_counts() == {TABLE: 8}
    assert amounts(again) == list(range(8))


def test_each_table_has_its_own_positions(lake: Lake) -> None:
    lake.ensure("curated.transactions", SCHEMA)
    put(lake, 0, 5)
    assert lake.positions("curated.transactions") == {}
    lake.append("curated.transactions", rows(0, 2), {}, {PLACE: 2})
    assert lake.positions(TABLE) == {PLACE: 5}
    assert lake.row_counts() == {TABLE: 5, "curated.transactions": 2}


# -- fencing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start",
    [
        pytest.param({}, id="from the start again"),
        pytest.param({PLACE: 3}, id="within what is in"),
        pytest.param({PLACE: 11}, id="past a gap"),
        pytest.param({PLACE: 10, OTHER: 1}, id="a partition that was never read"),
    ],
)
def test_rows_that_do_not_follow_are_refused(lake: Lake, start: Positions) -> None:
    put(lake, 0, 10)
    with pytest.raises(FencedError, match=r'wanted rows from \{"transactions/0":10\} on'):
        lake.append(TABLE, rows(10, 20), start, {PLACE: 20})
    assert amounts(lake) == list(range(10))
    assert lake.positions(TABLE) == {PLACE: 10}


def test_an_end_before_the_start_is_refused(lake: Lake) -> None:
    put(lake, 0, 10)
    with pytest.raises(UsageError, match="wanted an end after"):
        lake.append(TABLE, rows(10, 11), {PLACE: 10}, {PLACE: 9})
    assert lake.row_counts() == {TABLE: 10}


def test_of_two_committers_that_race_one_wins(lake: Lake, opener: Opener, tmp_path: Path) -> None:
    lakes = [lake, opener(tmp_path)]
    for race in range(RACES):
        together = threading.Barrier(len(lakes))
        fenced: list[int] = []

        def commit(number: int, race: int = race, together: threading.Barrier = together, fenced=fenced) -> None:
            together.wait()
            try:
                put(lakes[number], race * 3, race * 3 + 3)
            except FencedError:
                fenced.append(number)

        threads = [threading.Thread(target=commit, args=(number,)) for number in range(len(lakes))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(fenced) == 1
        assert amounts(lake) == list(range(race * 3 + 3))


@settings(max_examples=6, deadline=None)
@given(cuts=st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.booleans()), min_size=1, max_size=5))
def test_any_cuts_and_restarts_give_each_row_once(cuts: list[tuple[int, bool, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake = open_embedded(Path(folder))
        lake.ensure(TABLE, SCHEMA)
        end = 0
        for size, restarts, repeats in cuts:
            start, end = end, end + size
            put(lake, start, end)
            if restarts:
                lake = open_embedded(Path(folder))
            if repeats:
                with pytest.raises(FencedError):
                    put(lake, start, end)
            assert lake.positions(TABLE) == {PLACE: end}
        assert amounts(lake) == list(range(end))
        assert lake.row_counts() == {TABLE: end}


def test_a_new_lake_may_be_opened_by_many_at_once(opener: Opener, tmp_path: Path) -> None:
    together = threading.Barrier(4)
    opened: list[dict[str, int]] = []

    def open_and_make() -> None:
        together.wait()
        lake = opener(tmp_path)
        lake.ensure(TABLE, SCHEMA)
        opened.append(lake.row_counts())

    threads = [threading.Thread(target=open_and_make) for _ in range(together.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [{TABLE: 0}] * together.parties


# -- columns -------------------------------------------------------------------------------------------------------


def test_ensure_adds_the_columns_that_are_lacking(lake: Lake) -> None:
    put(lake, 0, 2)
    before = moment()
    lake.ensure(TABLE, SCHEMA)
    lake.ensure(TABLE, SCHEMA.append(pa.field("reasons", pa.list_(pa.string()))))
    put(lake, 2, 3)
    more = rows(3, 4).append_column("reasons", pa.array([["new card"]]))
    lake.append(TABLE, more, {PLACE: 3}, {PLACE: 4})
    answer = lake.query(f"SELECT amount_minor, reasons FROM {TABLE} ORDER BY 1")
    assert answer["reasons"].to_pylist() == [None, None, None, ["new card"]]
    assert lake.query(f"SELECT * FROM {TABLE}", before).column_names == SCHEMA.names


def test_a_column_does_not_change_its_type(lake: Lake) -> None:
    changed = pa.schema([("amount_minor", pa.string()), ("currency", pa.string())])
    with pytest.raises(UsageError, match="amount_minor"):
        lake.ensure(TABLE, changed)


def test_a_table_that_is_not_there(lake: Lake) -> None:
    with pytest.raises(NotFoundError, match=f"there are: {TABLE}"):
        lake.positions("raw.nowhere")
    with pytest.raises(NotFoundError, match=r"raw\.nowhere"):
        lake.append("raw.nowhere", rows(0, 1), {}, {PLACE: 1})


def test_nested_columns_can_be_asked(lake: Lake) -> None:
    schema = pa.schema([("features", pa.map_(pa.string(), pa.float64())), ("reasons", pa.list_(pa.string()))])
    lake.ensure("curated.decisions", schema)
    table = pa.table({"features": [[("sum_7d", 12.5)], []], "reasons": [["a", "b"], []]}, schema=schema)
    lake.append("curated.decisions", table, {}, {PLACE: 2})
    answer = lake.query(
        "SELECT features['sum_7d'] AS feature, len(reasons) AS reasons FROM curated.decisions ORDER BY 2 DESC"
    )
    assert answer.to_pylist() == [{"feature": 12.5, "reasons": 2}, {"feature": None, "reasons": 0}]


# -- time travel ---------------------------------------------------------------------------------------------------


def test_a_query_sees_the_lake_as_it_was(lake: Lake) -> None:
    before = moment()
    put(lake, 0, 3)
    between = moment()
    put(lake, 3, 5)
    assert amounts(lake, between) == [0, 1, 2]
    assert amounts(lake, moment()) == amounts(lake) == [0, 1, 2, 3, 4]
    with pytest.raises(UsageError, match=f"{TABLE} held nothing then; its first rows came 20"):
        amounts(lake, before)


def test_a_moment_needs_its_time_zone(lake: Lake) -> None:
    put(lake, 0, 1)
    with pytest.raises(UsageError, match="say the time zone"):
        amounts(lake, datetime(2026, 1, 1))  # noqa: DTZ001  # the very thing that is refused


def test_times_come_back_as_utc(lake: Lake) -> None:
    put(lake, 0, 2)
    (row,) = lake.query(
        f"SELECT event_time, event_time::VARCHAR AS text FROM {TABLE} WHERE amount_minor = 1"
    ).to_pylist()
    assert row == {"event_time": datetime(1970, 1, 1, 1, tzinfo=UTC), "text": "1970-01-01 01:00:00+00"}


# -- questions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "WITH big AS (SELECT * FROM raw.transactions WHERE amount_minor > 1) SELECT count(*) FROM big",
        "SELECT amount_minor FROM RAW.Transactions UNION ALL SELECT i FROM range(3) AS r(i)",
        "FROM raw.transactions SELECT sum(amount_minor);",
        "DESCRIBE raw.transactions",
        "SUMMARIZE raw.transactions",
        "SELECT key FROM (SELECT '{\"a\": 1}' AS value), json_each(value)",
        "VALUES (1), (2)",
    ],
)
def test_a_read_only_question_is_answered(lake: Lake, sql: str) -> None:
    put(lake, 0, 3)
    assert lake.query(sql).num_rows > 0


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "-- nothing",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE raw.transactions",
        "COPY raw.transactions TO 'out.csv'",
        "COPY (SELECT 1) TO 'out.csv'",
        "CREATE TABLE t AS SELECT 1",
        "INSERT INTO raw.transactions SELECT * FROM raw.transactions",
        "DELETE FROM raw.transactions",
        "ATTACH 'catalog.sqlite'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA version",
        "SET threads = 1",
        "CALL range(3)",
        "EXPORT DATABASE 'out'",
        "EXPLAIN ANALYZE SELECT 1",
        "SHOW TABLES",
    ],
)
def test_what_is_not_one_read_only_query_is_refused(lake: Lake, sql: str) -> None:
    with pytest.raises(UsageError, match="wanted one SELECT"):
        lake.query(sql)


@pytest.mark.parametrize(
    "function",
    [
        "read_csv('/etc/passwd')",
        "READ_TEXT('/etc/passwd')",
        "main.read_blob('/etc/passwd')",
        "read_parquet('x.parquet')",
        "glob('/*')",
        "iceberg_scan('/tmp')",
        "query('SELECT 1')",
        "query_table('x')",
        "duckdb_settings()",
        "duckdb_secrets()",
    ],
)
@pytest.mark.parametrize(
    "around", ["SELECT * FROM {}", "WITH a AS (FROM {}) FROM a", "SELECT 1 WHERE 1 IN (SELECT 1 FROM {})"]
)
def test_functions_that_reach_out_are_refused(lake: Lake, around: str, function: str) -> None:
    with pytest.raises(UsageError, match=r"line 1, column \d+: \w+\(\) may not stand in FROM"):
        lake.query(around.format(function))


@pytest.mark.parametrize("file", ["/etc/passwd", "x.csv", "https://example.org/x.parquet"])
def test_a_file_is_not_a_table(lake: Lake, file: str) -> None:
    with pytest.raises(UsageError, match="no table"):
        lake.query(f"SELECT * FROM '{file}'")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "SELECT *\nFROM raw.transaktions",
            "line 2, column 6: no table raw.transaktions; did you mean raw.transactions?",
        ),
        ("SELECT 'é' FROM transactions", "line 1, column 17: no table transactions; did you mean raw.transactions?"),
        ("FROM other.raw.transactions", "no table other.raw.transactions; did you mean raw.transactions?"),
        ("FROM information_schema.tables", "There are: raw.transactions"),
        ("SELECT amount FROM raw.transactions", 'Candidate bindings: "amount_minor"'),
        ("SELECT amount FROM raw.transactions", "LINE 1"),
        ("SELEC 1", 'line 1, column 1: syntax error at or near "SELEC"'),
        ("SELECT amount_minor::DATE FROM raw.transactions", "lake query:"),
        ("SELECT $1", "lake query:"),
        ("SELECT '\udcff'", "not valid Unicode"),
        ("SELECT " + "-" * 3000 + "1", "lake query:"),
        ("SELECT " + "1+" * 3000 + "1", "lake query:"),
    ],
)
def test_a_wrong_question_is_told_what_is_wrong(lake: Lake, sql: str, said: str) -> None:
    put(lake, 0, 1)
    with pytest.raises(UsageError) as refused:
        lake.query(sql)
    assert said in str(refused.value)


def test_an_empty_lake_says_how_to_begin(opener: Opener, tmp_path: Path) -> None:
    lake = opener(tmp_path)
    assert lake.row_counts() == {}
    with pytest.raises(UsageError, match=r"nothing has been committed to it yet\. Start `tidegate demo`"):
        lake.query("SELECT * FROM raw.transactions")
    assert lake.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_a_query_names_no_variable_of_this_process(lake: Lake) -> None:
    secret: Any = pa.table({"x": [1]})
    with pytest.raises(UsageError, match="no table secret"):
        lake.query("SELECT * FROM secret")
    assert secret.num_rows == 1


def test_a_lake_may_lie_in_any_folder(opener: Opener, tmp_path: Path) -> None:
    lake = opener(tmp_path / "the analyst's läke #1")
    lake.ensure(TABLE, SCHEMA)
    put(lake, 0, 3)
    assert amounts(lake) == [0, 1, 2]


# -- the embedded lake's own --------------------------------------------------------------------------------------


def test_duckdb_itself_is_shut_in(tmp_path: Path) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text("a\n1\n")
    inside = tmp_path / "lake"
    inside.mkdir()
    for sql in (
        f"FROM '{outside}'",
        f"FROM read_csv('{outside}')",
        "ATTACH 'x.db'",
        "SET enable_external_access = true",
    ):
        with pytest.raises(UsageError, match=r"disabled|locked|not exist"):
            ask(sql, [], inside)


def test_a_damaged_file_is_told_as_damage(lake: Lake, tmp_path: Path) -> None:
    put(lake, 0, 3)
    for file in tmp_path.rglob("*.parquet"):
        file.unlink()
    with pytest.raises(DamagedError, match="can't be read"):
        amounts(lake)
    with pytest.raises(DamagedError, match="can't be read"):
        ask("FROM raw.x", [Source("raw.x", str(tmp_path / "lake" / "gone.metadata.json"), None)], tmp_path / "lake")


def iceberg(folder: Path) -> Any:
    catalog = SqlCatalog("tidegate", uri=f"sqlite:///{folder / 'lake' / 'catalog.sqlite'}")
    return catalog.load_table(TABLE)


def test_positions_outlive_another_tools_snapshot(lake: Lake, tmp_path: Path) -> None:
    put(lake, 0, 3)
    iceberg(tmp_path).append(rows(0, 0))
    assert lake.positions(TABLE) == {PLACE: 3}
    put(lake, 3, 4)
    assert amounts(lake) == [0, 1, 2, 3]


def test_a_table_that_lost_its_positions_takes_nothing(lake: Lake, tmp_path: Path) -> None:
    iceberg(tmp_path).append(rows(0, 3))
    with pytest.raises(DamagedError, match="nobody can tell which records it holds"):
        lake.positions(TABLE)
    with pytest.raises(DamagedError):
        put(lake, 0, 3)


def test_rows_lie_in_days_of_event_time(lake: Lake, tmp_path: Path) -> None:
    put(lake, 0, 49)
    days = {path.parent.name for path in tmp_path.rglob("*.parquet")}
    assert days == {"event_time_day=1970-01-01", "event_time_day=1970-01-02", "event_time_day=1970-01-03"}
    assert list(tmp_path.rglob("spill")) == []


def test_old_snapshots_go_and_rows_stay(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_DROP_AT_ONCE", 4)
    monkeypatch.setattr(embedded, "_EVERY_ONE_MS", -1)
    snapshots: list[int] = []
    for n in range(12):
        put(lake, n, n + 1)
        snapshots.append(len(iceberg(tmp_path).snapshots()))
    assert max(snapshots) <= 6
    assert amounts(lake) == list(range(12))
    assert lake.positions(TABLE) == {PLACE: 12}
    assert lake.row_counts() == {TABLE: 12}


@given(ages_s=st.lists(st.integers(0, 400 * 24 * 3600), min_size=1, max_size=300, unique=True))
def test_snapshots_are_kept_the_denser_the_newer(ages_s: list[int]) -> None:
    newest_ms = 1_790_000_000_000
    snapshots = [
        Snapshot(snapshot_id=number, timestamp_ms=newest_ms - age_s * 1000, manifest_list="")
        for number, age_s in enumerate([0, *ages_s])
    ]
    dropped = embedded._past_keeping(snapshots)
    kept = [snapshot.timestamp_ms for snapshot in snapshots if snapshot.snapshot_id not in set(dropped)]
    assert newest_ms in kept
    assert kept.count(newest_ms) >= 1
    recent = [snapshot.timestamp_ms for snapshot in snapshots if newest_ms - snapshot.timestamp_ms <= 600_000]
    assert set(recent) <= set(kept)
    hourly = [ms // 3_600_000 for ms in kept if 600_000 < newest_ms - ms <= 48 * 3_600_000]
    daily = [ms // 86_400_000 for ms in kept if newest_ms - ms > 48 * 3_600_000]
    assert len(hourly) == len(set(hourly))
    assert len(daily) == len(set(daily))
    days = {ms.timestamp_ms // 86_400_000 for ms in snapshots if newest_ms - ms.timestamp_ms > 48 * 3_600_000}
    assert days == set(daily)
