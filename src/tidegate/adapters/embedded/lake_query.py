"""One read-only question to Iceberg tables, in DuckDB's SQL.

DuckDB's own parser says what a text is and what it names, so there is no second grammar to slip between. The
connection that answers holds views of the tables asked for and nothing else; it may read files in the lake's folder
only, and its settings are locked.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
import pyarrow as pa

from tidegate.errors import DamagedError, UsageError

#: Functions that may stand in FROM: they make rows of their arguments. The others read files, settings or SQL.
_TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree", "range", "unnest"})

#: DuckDB's extensions, in the order in which they are loaded. They come as wheels: nothing is fetched when it runs.
_EXTENSIONS = ("avro", "iceberg")

_HOW_TO_BEGIN = "the lake is empty: nothing has been committed to it yet. Start `tidegate demo` and ask again"


class Source(NamedTuple):
    """A table as it is asked: `snapshot` None is a table that has none yet."""

    table: str
    metadata: str
    snapshot: int | None


class Reference(NamedTuple):
    """A table that a question names: as namespace.name, and where it stands in the text."""

    table: str
    place: str


def check_names(references: Sequence[Reference], known: Sequence[str]) -> list[str]:
    """The tables asked for, each once.

    Raises:
        UsageError: one is not among `known`; says where it stands and what comes near.
    """
    for table, place in references:
        if not known:
            raise UsageError(f"lake query: {place}: no table {table}: {_HOW_TO_BEGIN}")
        if table not in known:
            near = difflib.get_close_matches(table, [*known, *(name.split(".")[1] for name in known)], n=1)
            meant = next((name for name in known if near and name.endswith(near[0])), None)
            hint = f"did you mean {meant}? " if meant else ""
            raise UsageError(f"lake query: {place}: no table {table}; {hint}There are: {', '.join(known)}")
    return sorted({table for table, _ in references})


def parse(sql: str) -> list[Reference]:
    """The tables that `sql` names, as they stand in it.

    Raises:
        UsageError: it is not one SELECT (or WITH, VALUES, DESCRIBE, SUMMARIZE), or its FROM calls a function that does
            not just make rows of its arguments.
    """
    if not sql.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in sql):
        raise UsageError("lake query: the query is not valid Unicode text")
    with duckdb.connect() as connection:
        serialized: Any = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    try:
        parsed: dict[str, Any] = msgspec.json.decode(serialized[0])
        nodes = list(_nodes(parsed.get("statements", [])))
    except RecursionError:
        raise UsageError("lake query: the query is nested too deeply") from None
    if parsed["error"] and parsed["error_type"] == "parser":
        place = _place(sql, int(parsed.get("position", 0)))
        raise UsageError(f"lake query: {place}: {parsed['error_message']}")
    shows = any(node.get("type") == "SHOW_REF" and node["query"] is None for node in nodes)
    if parsed["error"] or len(parsed["statements"]) != 1 or shows:
        raise UsageError(
            "lake query: wanted one SELECT (or DESCRIBE and a table), which only reads; got something else or several"
        )

    common = {entry["key"].lower() for node in nodes for entry in node.get("cte_map", {}).get("map", [])}
    tables: list[Reference] = []
    for node in nodes:
        if node.get("type") == "TABLE_FUNCTION":
            _check_function(sql, node)
        elif node.get("type") == "BASE_TABLE":
            path = [node["catalog_name"], node["schema_name"], node["table_name"]]
            name = ".".join(part.lower() for part in path if part)
            if name not in common:
                tables.append(Reference(name, _place(sql, node["query_location"])))
    return tables


def _check_function(sql: str, node: dict[str, Any]) -> None:
    name = node["function"]["function_name"]
    if name.lower() not in _TABLE_FUNCTIONS:
        raise UsageError(
            f"lake query: {_place(sql, node['query_location'])}: {name}() may not stand in FROM; "
            f"only tables of the lake and {', '.join(sorted(_TABLE_FUNCTIONS))} may"
        )


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON tree."""
    waiting: list[Any] = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _place(sql: str, offset: int) -> str:
    """DuckDB counts bytes from 0; people count lines and characters from 1."""
    before = sql.encode()[:offset].decode("utf-8", "ignore")
    return f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"


def ask(sql: str, sources: Iterable[Source], folder: Path) -> pa.Table:
    """Answer `sql`, which `parse` has let pass, from `sources`, whose files lie in `folder`.

    Raises:
        UsageError: DuckDB can't answer it: says where and why.
        DamagedError: a file of the lake can't be read.
    """
    with duckdb.connect(
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    ) as connection:
        for name in _EXTENSIONS:
            connection.execute(f"LOAD {_literal(_extension(name))}")
        connection.execute(
            f"""
            SET TimeZone = 'UTC';
            SET python_enable_replacements = false;
            SET temp_directory = {_literal(folder / "spill")};
            SET allowed_directories = [{_literal(folder)}];
            SET enable_external_access = false;
            SET lock_configuration = true;
            """
        )
        try:
            for source in sources:
                _make_view(connection, source)
            return connection.execute(sql).to_arrow_table()
        except duckdb.IOException as error:
            raise DamagedError(f"lake query: a file of the lake can't be read: {error}") from error
        except duckdb.Error as error:
            raise UsageError(f"lake query: {error}") from None


def _make_view(connection: duckdb.DuckDBPyConnection, source: Source) -> None:
    """A view keeps what Iceberg is good at: only the columns and files that the question needs are read."""
    namespace, name = source.table.split(".")
    at = f", snapshot_from_id = {source.snapshot}" if source.snapshot is not None else ""
    connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{namespace}"')
    connection.execute(
        f'CREATE VIEW "{namespace}"."{name}" AS SELECT * FROM iceberg_scan({_literal(source.metadata)}{at})'  # noqa: S608  # names come from the catalog
    )


def _extension(name: str) -> Path:
    spec = find_spec(f"duckdb_extension_{name}")
    assert spec
    assert spec.submodule_search_locations
    return next(Path(spec.submodule_search_locations[0]).rglob("*.duckdb_extension"))


def _literal(text: object) -> str:
    quoted = str(text).replace("'", "''")
    return f"'{quoted}'"
