"""The rows of a file as events of a stream, in the order in which a replay feeds them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import duckdb
import pyarrow as pa

from tidegate.errors import MappingError, TidegateError
from tidegate.files.formats import kind_of
from tidegate.files.mapping import Mapping
from tidegate.files.source import ROW, Source, open_source
from tidegate.hosts.checkpoint import Position

#: What DuckDB may hold in memory while it sorts; the rest goes to disk.
SORT_MEMORY = "2GB"

Order = Literal["time", "file"]

_ORDER_BY = {"time": f"event_time NULLS FIRST, {ROW}", "file": ROW}


#: Told how many rows are done, and of how many (None: nobody knows yet).
Progress = Callable[[int, int | None], None]


class Span(NamedTuple):
    """Event times, in microseconds, from `since_us` on and before `until_us`. None: no bound."""

    since_us: int | None
    until_us: int | None


def ordered_rows(
    path: Path,
    mapping: Mapping,
    *,
    span: Span,
    order: Order,
    after: Position | None,
    spill: Path,
    batch_rows: int,
    progress: Progress,
) -> Generator[pa.RecordBatch]:
    """Batches of exactly `batch_rows` rows (the last has the rest) with the mapping's columns and ROW: those in the
    span, after `after` if it is given. `spill` is a folder that the sort may fill. `progress` is told of the rows that
    are read.

    Raises:
        NotFoundError: there is no such source.
        UsageError: the source's format is unknown.
        MappingError: the source can't be read, or the mapping does not fit it.
    """
    source = _open(path, mapping)
    reading = _Reading(source, progress)
    with duckdb.connect(
        config={"enable_external_access": "false", "temp_directory": str(spill), "memory_limit": SORT_MEMORY}
    ) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        selected = mapping.bind(connection, source)
        connection.register("source", pa.RecordBatchReader.from_batches(source.schema, reading))
        conditions, values = _conditions(span, order, after)
        try:
            rows = connection.execute(
                f"SELECT *, {mapping.fault()} AS fault FROM (SELECT {selected}, {ROW} FROM source) "  # noqa: S608 - expressions were checked
                f"WHERE {conditions} ORDER BY {_ORDER_BY[order]}",
                values,
            )
            for batch in rows.to_arrow_reader(batch_rows):
                _check(mapping, batch)
                yield batch
        except (duckdb.Error, pa.ArrowException) as error:
            if reading.failure:
                raise reading.failure from None
            raise _blame(path, mapping, error) from None


class _Reading:
    """Goes through a source for DuckDB, which would turn what fails in it into an error of its own."""

    def __init__(self, source: Source, progress: Progress) -> None:
        self.failure: TidegateError | None = None
        self._source = source
        self._progress = progress

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        rows = 0
        try:
            for batch in self._source.batches:
                yield batch
                rows += batch.num_rows
                self._progress(rows, self._source.rows)
        except TidegateError as failure:
            self.failure = failure
            raise


def _check(mapping: Mapping, batch: pa.RecordBatch) -> None:
    faults = batch.column("fault")
    if faults.null_count < batch.num_rows:
        index = next(index for index, fault in enumerate(faults.is_valid()) if fault.as_py())
        raise mapping.refusal(str(faults[index]), int(batch.column(ROW)[index].as_py()))


def _conditions(span: Span, order: Order, after: Position | None) -> tuple[str, list[int]]:
    """Rows without a time pass: they are told from the source by their number when they are checked."""
    conditions: list[str] = ["true"]
    values: list[int] = []
    if span.since_us is not None:
        conditions.append("(event_time IS NULL OR event_time >= make_timestamp(?::BIGINT))")
        values.append(span.since_us)
    if span.until_us is not None:
        conditions.append("(event_time IS NULL OR event_time < make_timestamp(?::BIGINT))")
        values.append(span.until_us)
    if after and order == "time":
        conditions.append(f"(event_time, {ROW}) > (make_timestamp(?::BIGINT), ?)")
        values += after
    elif after:
        conditions.append(f"{ROW} > ?")
        values.append(after.row)
    return " AND ".join(conditions), values


def _open(path: Path, mapping: Mapping) -> Source:
    types = mapping.columns
    if kind_of(path).format == "csv":
        # What is a text stays one, whatever Arrow would guess: an id of digits may begin with 0.
        types = {name: kind for name, kind in mapping.cells().items() if pa.types.is_string(kind)} | types
    return open_source(path, types, mapping.source_columns())


def _blame(path: Path, mapping: Mapping, error: Exception) -> MappingError:
    """Find the field whose expression fails, by going through the source once a field. DuckDB's own message is not
    passed on: it quotes the value at fault.
    """
    expressions = mapping.expressions | ({"label.is_fraud": mapping.is_fraud} if mapping.is_fraud else {})
    for field, expression in expressions.items():
        source = _open(path, mapping)
        with duckdb.connect(config={"enable_external_access": "false"}) as connection:
            connection.register("source", pa.RecordBatchReader.from_batches(source.schema, source.batches))
            try:
                connection.execute(f"SELECT count(*) FILTER (WHERE ({expression}) IS NULL) FROM source").fetchall()  # noqa: S608 - checked by the mapping
            except duckdb.Error as found:
                return MappingError(
                    f"mapping {mapping.name}, field {field}: {expression!r} fails on a row of the source "
                    f"({type(found).__name__}); TRY_CAST gives NULL where CAST fails"
                )
    return MappingError(f"mapping {mapping.name}: DuckDB cannot read {path.name} through it ({type(error).__name__})")
