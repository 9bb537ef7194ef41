"""The lake in a local folder: Iceberg tables, their catalog in a SQLite file beside them, DuckDB to ask them.

A commit is one swap of a pointer in the catalog, after all its files are written: a process killed at any moment
leaves the table as it was before or as it is after, and at worst some files that no snapshot names.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, ValidationError
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update.snapshot import ExpireSnapshots
from pyiceberg.transforms import DayTransform

from tidegate.adapters.embedded.lake_query import Source, ask, check_names, parse
from tidegate.errors import DamagedError, FencedError, NotFoundError, UsageError
from tidegate.ports.log import Positions, TopicPartition

#: A snapshot's summary holds the offset range [start, end) of the log that it added, as JSON: "topic/partition" ->
#: next offset. The end is that of all snapshots so far, so that the newest one alone says how far the table is.
START_PROPERTY = "tidegate.start"
END_PROPERTY = "tidegate.offsets"

#: A table is cut into days of the first of these columns that it has: most questions are about a few days.
_DAY_COLUMNS = ("event_time", "accepted_at")

#: What keeps a table that is committed to every few seconds small: old metadata files go, manifests are merged. No
#: retries: PyIceberg would append again after another committer's snapshot without looking at the offsets.
_PROPERTIES = {
    "commit.manifest-merge.enabled": "true",
    "commit.retry.num-retries": "0",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "write.parquet.compression-codec": "zstd",
}

#: Snapshots kept for time travel: each one of the last 10 minutes, the last one of each hour for two days, the last
#: one of each day for ever. All of them stand in the metadata file that every commit writes anew.
_EVERY_ONE_MS = 10 * 60 * 1000
_HOUR_MS = 3600 * 1000
_HOURLY_MS = 48 * _HOUR_MS
_DAY_MS = 24 * _HOUR_MS

#: Snapshots past their keeping are dropped this many at a time, since dropping makes that commit slower.
_DROP_AT_ONCE = 100


class EmbeddedLake:
    """The lake in `folder`, made if it is not there. The tables name their files by absolute path: a lake that is moved
    has to be registered anew.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.resolve()
        with _alone(self._folder):
            self._catalog = SqlCatalog(
                "tidegate", uri=f"sqlite:///{self._folder / 'catalog.sqlite'}", warehouse=str(self._folder)
            )

    def ensure(self, table: str, schema: pa.Schema) -> None:
        """As the port says.

        Raises:
            UsageError: the table has a column of that name and another type.
        """
        with _alone(self._folder):
            self._catalog.create_namespace_if_not_exists(table.partition(".")[0])
            if self._catalog.table_exists(table):
                self._add_columns(self._load(table), schema)
            else:
                self._create(table, schema)

    def _create(self, table: str, schema: pa.Schema) -> None:
        with self._catalog.create_table_transaction(table, schema, properties=_PROPERTIES) as create:
            days = [name for name in _DAY_COLUMNS if name in schema.names][:1]
            with create.update_spec() as spec:
                for name in days:
                    spec.add_field(name, DayTransform(), f"{name}_day")

    def _add_columns(self, table: Table, schema: pa.Schema) -> None:
        if set(schema.names) <= set(table.schema().column_names):
            return
        try:
            with table.update_schema() as update:
                update.union_by_name(schema)
        except ValidationError as error:
            raise UsageError(f"lake: ensure {'.'.join(table.name())}: {error}") from error

    def append(self, table: str, rows: pa.Table, start: Positions, end: Positions) -> None:
        """As the port says.

        Raises:
            NotFoundError: there is no such table.
            UsageError: `end` lies before `start`. Nothing was written.
        """
        current = self._load(table)
        held = _positions(current)
        if any(held.get(place, 0) != start.get(place, 0) for place in held | start):
            raise FencedError(
                f"lake: append to {table}: wanted rows from {_text(held)} on, where its last snapshot ended; "
                f"got rows from {_text(start)} on. Go on from the table's positions"
            )
        if any(offset < start.get(place, 0) for place, offset in end.items()):
            raise UsageError(f"lake: append to {table}: wanted an end after {_text(start)}, got {_text(end)}")
        try:
            with _Commit(current) as commit:
                dropped = _past_keeping(current.metadata.snapshots)
                if len(dropped) >= _DROP_AT_ONCE:
                    ExpireSnapshots(commit).by_ids(dropped).commit()
                commit.append(rows, {START_PROPERTY: _text(start), END_PROPERTY: _text(held | end)})
        except CommitFailedException as error:
            raise FencedError(
                f"lake: append to {table} from {_text(start)} on: another committer changed the table meanwhile; "
                "nothing was written. Go on from the table's positions"
            ) from error

    def positions(self, table: str) -> Positions:
        """As the port says.

        Raises:
            NotFoundError: there is no such table.
            DamagedError: the table has snapshots, and none says how far the log is in them.
        """
        return _positions(self._load(table))

    def row_counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for name in self._names():
            snapshot = self._load(name).current_snapshot()
            counts[name] = int(_summary(snapshot).get("total-records", 0)) if snapshot else 0
        return counts

    def query(self, sql: str, as_of: datetime | None = None) -> pa.Table:
        """As the port says. Of the past, snapshots get sparser: what is asked of a moment is answered from the newest
        snapshot kept that is not after it. Times come back as UTC.
        """
        if as_of is not None and as_of.tzinfo is None:
            raise UsageError(f"lake query: as of {as_of}: say the time zone, as in {as_of.replace(tzinfo=UTC)}")
        names = check_names(parse(sql), known=self._names())
        return ask(sql, [self._source(name, as_of) for name in names], self._folder)

    def _source(self, name: str, as_of: datetime | None) -> Source:
        table = self._load(name)
        if as_of is None:
            snapshot = table.current_snapshot()
            return Source(name, table.metadata_location, snapshot.snapshot_id if snapshot else None)
        snapshot = table.snapshot_as_of_timestamp(int(as_of.timestamp() * 1000))
        if snapshot is None:
            first_ms = min((entry.timestamp_ms for entry in table.history()), default=None)
            since = (
                f"its first rows came {datetime.fromtimestamp(first_ms / 1000, UTC)}" if first_ms else "nor does it now"
            )
            raise UsageError(f"lake query: as of {as_of}: {name} held nothing then; {since}")
        return Source(name, table.metadata_location, snapshot.snapshot_id)

    def _names(self) -> list[str]:
        return sorted(
            ".".join(table)
            for namespace in self._catalog.list_namespaces()
            for table in self._catalog.list_tables(namespace)
        )

    def _load(self, table: str) -> Table:
        try:
            return self._catalog.load_table(table)
        except NoSuchTableError:
            known = ", ".join(self._names()) or "none"
            raise NotFoundError(f"lake: table {table!r}: no such table; there are: {known}") from None


@contextlib.contextmanager
def _alone(folder: Path) -> Generator[None]:
    """One process at a time, since two that make the same catalog or table at once trip over each other in PyIceberg.
    The lock of a killed process is free.
    """
    with (folder / "making.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _Commit(Transaction):
    """A transaction that reads the table's own metadata until it has updates of its own: PyIceberg copies all of it,
    each snapshot in it, at each of some twenty looks a commit. With 600 snapshots a commit takes 0.1 s, not 0.6 s.
    """

    @property
    def table_metadata(self) -> TableMetadata:
        return super().table_metadata if self._updates else self._table.metadata


def _positions(table: Table) -> Positions:
    """From the newest snapshot that has them: another tool's compaction adds a snapshot that has not."""
    snapshots = sorted(table.snapshots(), key=lambda snapshot: snapshot.sequence_number or 0, reverse=True)
    for snapshot in snapshots:
        if written := _summary(snapshot).get(END_PROPERTY):
            return _parse_positions(written)
    if snapshots:
        raise DamagedError(
            f"lake: table {'.'.join(table.name())}: wanted {END_PROPERTY} in a snapshot's summary, found it in none of "
            f"{len(snapshots)}; the table was rewritten without it, so nobody can tell which records it holds"
        )
    return {}


def _summary(snapshot: Snapshot) -> Mapping[str, str]:
    return snapshot.summary.additional_properties if snapshot.summary else {}


def _text(positions: Positions) -> str:
    by_place = {place.name: offset for place, offset in sorted(positions.items())}
    return msgspec.json.encode(by_place).decode()


def _parse_positions(text: str) -> Positions:
    by_place = msgspec.json.decode(text, type=dict[str, int])
    return {TopicPartition.named(name): offset for name, offset in by_place.items()}


def _past_keeping(snapshots: list[Snapshot]) -> list[int]:
    """Ids of the snapshots that are not kept. Their ages count from the newest one."""
    newest_ms = max((snapshot.timestamp_ms for snapshot in snapshots), default=0)
    kept: dict[tuple[int, int], int] = {}
    for snapshot in sorted(snapshots, key=lambda snapshot: snapshot.timestamp_ms):
        age_ms = newest_ms - snapshot.timestamp_ms
        step_ms = 1 if age_ms <= _EVERY_ONE_MS else _HOUR_MS if age_ms <= _HOURLY_MS else _DAY_MS
        kept[step_ms, snapshot.timestamp_ms // step_ms] = snapshot.snapshot_id
    ids = set(kept.values())
    return [snapshot.snapshot_id for snapshot in snapshots if snapshot.snapshot_id not in ids]
