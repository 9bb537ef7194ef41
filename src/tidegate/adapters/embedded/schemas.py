"""The schema registry in one SQLite file. A schema's id is given once and for all; the same schema has one id."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from tidegate.adapters.embedded._sqlite import open_database, transaction, translated
from tidegate.errors import NotFoundError, UsageError
from tidegate.files.evolution import parse, unreadable
from tidegate.ports.schemas import DEFAULT_COMPATIBILITY, MAX_VERSIONS, Compatibility, SchemaVersion

#: "TGSR" in the file's header.
_APPLICATION_ID = 0x54475352
_LAYOUT = 1
_TABLES = """
CREATE TABLE schemas (id INTEGER PRIMARY KEY, canonical TEXT NOT NULL UNIQUE, text TEXT NOT NULL);
CREATE TABLE versions (
    subject TEXT NOT NULL, version INTEGER NOT NULL, id INTEGER NOT NULL REFERENCES schemas,
    PRIMARY KEY (subject, version), UNIQUE (subject, id)
) WITHOUT ROWID;
CREATE TABLE compatibility (subject TEXT PRIMARY KEY, level TEXT NOT NULL) WITHOUT ROWID
"""
_VERSIONS = "SELECT subject, version, id, text FROM versions JOIN schemas USING (id)"

#: The row of what holds for all subjects that have none of their own: no subject has this name.
_ALL = ""


class EmbeddedSchemas:
    """The registry in the file `path`. Threads may share it, and so may processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = open_database(
            path, application_id=_APPLICATION_ID, version=_LAYOUT, tables=_TABLES, synchronous="FULL"
        )
        self._lock = threading.Lock()

    def subjects(self) -> list[str]:
        with self._lock, translated(self._path):
            return [name for (name,) in self._database.execute("SELECT DISTINCT subject FROM versions ORDER BY 1")]

    def versions(self, subject: str) -> list[SchemaVersion]:
        with self._lock, translated(self._path):
            return self._versions(subject)

    def named(self, schema_id: int) -> list[SchemaVersion]:
        with self._lock, translated(self._path):
            rows = self._database.execute(f"{_VERSIONS} WHERE id = ? ORDER BY subject", (_bounded(schema_id),))
            found = [SchemaVersion(*row) for row in rows]
        if not found:
            raise NotFoundError("schemas: no schema has this id; register it first")
        return found

    def register(self, subject: str, schema: str) -> SchemaVersion:
        parse(schema)
        canonical = _canonical(schema)
        with self._lock, transaction(self._database, self._path):
            versions = self._versions(subject)
            same = next((each for each in versions if _canonical(each.schema) == canonical), None)
            if same:
                return same
            if len(versions) >= MAX_VERSIONS:
                raise UsageError(f"schemas: the subject has {MAX_VERSIONS} versions already; use one of them")
            if conflicts := self._conflicts(subject, schema, versions):
                raise UsageError(f"schemas: not compatible with a version before: {'; '.join(conflicts)}")
            self._database.execute(
                "INSERT INTO schemas (canonical, text) VALUES (?, ?) ON CONFLICT DO NOTHING", (canonical, schema)
            )
            schema_id, text = self._database.execute(
                "SELECT id, text FROM schemas WHERE canonical = ?", (canonical,)
            ).fetchone()
            self._database.execute("INSERT INTO versions VALUES (?, ?, ?)", (subject, len(versions) + 1, schema_id))
            return SchemaVersion(subject, len(versions) + 1, schema_id, text)

    def conflicts(self, subject: str, schema: str, version: int | None = None) -> list[str]:
        parse(schema)
        with self._lock, translated(self._path):
            versions = self._versions(subject)
            if version is not None:
                versions = [each for each in versions if each.version == version]
                if not versions:
                    raise NotFoundError("schemas: the subject has no such version")
            return self._conflicts(subject, schema, versions)

    def compatibility(self, subject: str | None = None) -> Compatibility | None:
        with self._lock, translated(self._path):
            return self._compatibility(subject or _ALL) or (None if subject else DEFAULT_COMPATIBILITY)

    def set_compatibility(self, compatibility: Compatibility, subject: str | None = None) -> None:
        with self._lock, transaction(self._database, self._path):
            self._database.execute(
                "INSERT OR REPLACE INTO compatibility VALUES (?, ?)", (subject or _ALL, compatibility)
            )

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _versions(self, subject: str) -> list[SchemaVersion]:
        rows = self._database.execute(f"{_VERSIONS} WHERE subject = ? ORDER BY version", (subject,))
        return [SchemaVersion(*row) for row in rows]

    def _compatibility(self, subject: str) -> Compatibility | None:
        row = self._database.execute("SELECT level FROM compatibility WHERE subject = ?", (subject,)).fetchone()
        return row[0] if row else None

    def _conflicts(self, subject: str, schema: str, versions: list[SchemaVersion]) -> list[str]:
        level = self._compatibility(subject) or self._compatibility(_ALL) or DEFAULT_COMPATIBILITY
        new = parse(schema)
        found: list[str] = []
        for each in versions if level.endswith("TRANSITIVE") else versions[-1:]:
            old = parse(each.schema)
            told: list[str] = []
            if level.startswith(("BACKWARD", "FULL")):
                told += unreadable(new, old)
            if level.startswith(("FORWARD", "FULL")):
                told += unreadable(old, new)
            found += [f"version {each.version}: {why}" for why in told]
        return found


def _canonical(schema: str) -> str:
    """The same text for the same schema, however it was laid out."""
    return json.dumps(json.loads(schema), sort_keys=True, separators=(",", ":"))


def _bounded(schema_id: int) -> int:
    """SQLite takes no integer beyond 64 bits; no schema has an id that is."""
    return schema_id if 0 <= schema_id < 1 << 32 else -1
