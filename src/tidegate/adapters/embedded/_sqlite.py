"""How the embedded adapters open a SQLite file and write to it, many processes at once."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tidegate.errors import DamagedError, OverloadError, StateError

#: Pause between two tries for the write lock. SQLite's own back-off sleeps up to 100 ms: too long for a decision.
_BUSY_STEP_S = 0.001

#: How long a writer waits for its turn. A commit takes milliseconds: after this long the machine is overloaded.
_BUSY_LIMIT_S = 10.0

#: A reader meets a lock only while another process opens or closes the file; SQLite's own back-off will do for that.
_READ_BUSY_S = 10.0

#: Pages in the write-ahead log at which a commit copies them into the file: small copies (4 MB) that no writer feels.
_CHECKPOINT_PAGES = 1000

#: What a write-ahead log that once grew large is cut back to.
_WAL_KEPT_BYTES = 16 * 1024 * 1024

_DAMAGED_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

#: The primary code of an SQLite error stands in its lowest byte.
_PRIMARY_CODE = 0xFF


@contextmanager
def translated(path: Path) -> Generator[None]:
    """Turn SQLite's errors about the file into Tidegate's.

    Raises:
        DamagedError: the file is not a database, or its pages are damaged.
        OverloadError: another process kept the file locked, or the disk is full.
        StateError: the file cannot be opened, read or written.
    """
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
        if code in _DAMAGED_CODES:
            raise DamagedError(f"{path}: wanted a sound SQLite file, got {error}; restore it from a backup") from error
        if code == sqlite3.SQLITE_BUSY:
            raise OverloadError(f"{path}: locked for {_BUSY_LIMIT_S:g} s; try again", retry_after_s=1) from error
        if code == sqlite3.SQLITE_FULL:
            raise OverloadError(f"{path}: the disk is full; make room and try again", retry_after_s=60) from error
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY):
            raise StateError(f"{path}: {error}; check the folder's permissions and the disk") from error
        raise


def open_database(
    path: Path, *, application_id: int, version: int, tables: str, synchronous: Literal["FULL", "NORMAL"]
) -> sqlite3.Connection:
    """Open the file, or make it with its `tables` (SQL) if it is not there. The connection may pass between threads;
    its user sees to it that they take turns.

    Raises:
        StateError: the file belongs to another program or another version of Tidegate.
        DamagedError, OverloadError: as `translated`.
    """
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_READ_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path, application_id, version, tables)
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
        except BaseException:
            connection.close()
            raise
        return connection


def _prepare(connection: sqlite3.Connection, path: Path, application_id: int, version: int, tables: str) -> None:
    """Check whose file it is before anything in it is changed; make the tables if it is new."""

    def pragma(name: str) -> int:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]

    if pragma("application_id") != application_id:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StateError(f"{path}: belongs to another program; name another file or move it away")
        connection.execute("PRAGMA journal_mode = WAL")
        with transaction(connection, path):
            # Another process may have been first.
            if pragma("application_id") != application_id:
                for statement in tables.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {application_id}")
                connection.execute(f"PRAGMA user_version = {version}")
    if pragma("user_version") != version:
        raise StateError(
            f"{path}: has layout {pragma('user_version')}, this Tidegate reads layout {version}; "
            "use the version that wrote it"
        )


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Generator[None]:
    """One write transaction, waiting in small steps for other writers; rolled back if the block raises.

    Raises:
        OverloadError: other writers held the lock for all of the waiting time.
    """
    with translated(path):
        _begin(connection)
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextmanager
def one_view(connection: sqlite3.Connection) -> Generator[None]:
    """All statements of the block see the same state of the file. Without it, each sees what was committed by then."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _begin(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + _BUSY_LIMIT_S
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_BUSY_STEP_S)
            else:
                return
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(_READ_BUSY_S * 1000)}")
