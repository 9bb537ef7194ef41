"""The lake: all raw and decided data as Iceberg tables, with time travel. One committer a table."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import pyarrow as pa

from tidegate.ports.log import Positions


class Lake(Protocol):
    def ensure(self, table: str, schema: pa.Schema) -> None:
        """Make `namespace.name` if it is not there; add the columns it lacks if it is."""
        ...

    def append(self, table: str, rows: pa.Table, start: Positions, end: Positions) -> None:
        """Add rows in one snapshot, whose summary holds the offset range [start, end) they came from.

        Raises:
            FencedError: `start` is not where the table's last snapshot ended: another committer was here, or this
                range is in already. Nothing was written.
        """
        ...

    def positions(self, table: str) -> Positions:
        """How far the log is in the table, read from its newest snapshot. Empty for a new table."""
        ...

    def row_counts(self) -> dict[str, int]:
        """Rows by table, from the snapshots' summaries."""
        ...

    def query(self, sql: str, as_of: datetime | None = None) -> pa.Table:
        """Ask in DuckDB's SQL, tables named namespace.name, as they were at `as_of` (now, if None).

        Raises:
            UsageError: the SQL is not one read-only query, or names something unknown.
        """
        ...
