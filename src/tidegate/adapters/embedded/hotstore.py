"""The hot store in one SQLite file: a single reader of the log writes it, the door and the desk ask it.

    transaction    as it stands in the log, found by id, by card and by customer
    decision       by event and detector
    revision       the newest of a decision
    label          the verdict on a transaction that was applied last
    session_event  one row an event, counted when a session is asked for: applied twice, it is still one
    position       how far the log is in here

Each table takes its rows in any order, so a decision or a label may come before its transaction. The file is a
projection: synchronous=NORMAL may lose the last transactions in a power cut, but positions are lost with them, and the
log gives them again.

Threads may share one hot store: its writes take turns on one connection, its questions on another.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any, Literal

import msgspec

from tidegate.adapters.embedded._sqlite import open_database, transaction, translated
from tidegate.ports.hotstore import RECENT_KEPT, SESSION_KEPT_MS, Projection, RecentTransaction, Session
from tidegate.ports.log import Positions, TopicPartition
from tidegate.streams.decision import Decision
from tidegate.streams.revision import Revision

#: "TGHS": tells the file from other programs' SQLite files.
_APPLICATION_ID = 0x54474853

#: Raised when the tables below change.
_LAYOUT = 2

_TABLES = """
CREATE TABLE "transaction" (
    event_id TEXT PRIMARY KEY, event_time INTEGER NOT NULL, pan TEXT, customer_id TEXT NOT NULL, value BLOB NOT NULL
);
CREATE INDEX transaction_pan ON "transaction" (pan, event_time, event_id) WHERE pan IS NOT NULL;
CREATE INDEX transaction_customer_id ON "transaction" (customer_id, event_time, event_id);
CREATE TABLE decision (
    event_id TEXT NOT NULL, strictness INTEGER NOT NULL, detector TEXT NOT NULL, outcome TEXT NOT NULL,
    value BLOB NOT NULL, UNIQUE (event_id, detector)
);
CREATE TABLE revision (
    event_id TEXT NOT NULL, detector TEXT NOT NULL, number INTEGER NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (event_id, detector)
) WITHOUT ROWID;
CREATE TABLE label (transaction_id TEXT PRIMARY KEY, is_fraud INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE session_event (
    session_id TEXT NOT NULL, event_id TEXT NOT NULL, event_time INTEGER NOT NULL, action TEXT NOT NULL,
    customer_id TEXT, PRIMARY KEY (session_id, event_id)
) WITHOUT ROWID;
CREATE TABLE position (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL, PRIMARY KEY (topic, partition)
) WITHOUT ROWID
"""

#: Where several detectors decided one event, the strictest outcome is the one to show.
_STRICTNESS = {"approve": 0, "review": 1, "decline": 2}

#: Transactions that are past their keeping: enough newer ones of the customer, and of the card if there is one.
_PAST = f"""
SELECT event_id
FROM (SELECT customer_id FROM "transaction" GROUP BY customer_id HAVING count(*) > {RECENT_KEPT}) AS full
JOIN "transaction" AS old ON old.customer_id = full.customer_id AND old.event_time < (
    SELECT event_time FROM "transaction" WHERE customer_id = full.customer_id
    ORDER BY event_time DESC LIMIT 1 OFFSET {RECENT_KEPT - 1})
WHERE old.pan IS NULL OR {RECENT_KEPT} = (SELECT count(*) FROM (
    SELECT 1 FROM "transaction" AS newer WHERE newer.pan = old.pan AND newer.event_time > old.event_time
    LIMIT {RECENT_KEPT}))
"""  # noqa: S608 (a constant of ours)

_decision_decoder = msgspec.json.Decoder(Decision)
_revision_decoder = msgspec.json.Decoder(Revision)
_recent_decoder = msgspec.json.Decoder(RecentTransaction)


class EmbeddedHotStore:
    """The hot store in the file at `path`, made if it is not there.

    Raises:
        StateError: the file belongs to another program or another version of Tidegate: delete it, it is made anew.
        DamagedError, OverloadError: as of the log; any later call may raise them too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer, self._writing = self._open(), threading.Lock()
        self._reader, self._reading = self._open(), threading.Lock()

    def _open(self) -> sqlite3.Connection:
        return open_database(
            self._path, application_id=_APPLICATION_ID, version=_LAYOUT, tables=_TABLES, synchronous="NORMAL"
        )

    def apply(self, projection: Projection, positions: Positions) -> None:
        with self._writing, transaction(self._writer, self._path):
            self._writer.executemany(
                'INSERT INTO "transaction" VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING',
                [
                    (row["event_id"], row["event_time"], row.get("pan"), row["customer_id"], msgspec.json.encode(row))
                    for row in projection.transactions
                ],
            )
            self._writer.executemany(
                "INSERT INTO decision VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                "strictness = excluded.strictness, outcome = excluded.outcome, value = excluded.value",
                [
                    (row.event_id, _STRICTNESS[row.outcome], row.detector, row.outcome, msgspec.json.encode(row))
                    for row in projection.decisions
                ],
            )
            self._writer.executemany(
                "INSERT INTO revision VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                "number = excluded.number, value = excluded.value WHERE excluded.number > number",
                [(row.event_id, row.detector, row.number, msgspec.json.encode(row)) for row in projection.revisions],
            )
            self._writer.executemany(
                "INSERT INTO label VALUES (?, ?) ON CONFLICT DO UPDATE SET is_fraud = excluded.is_fraud",
                [(row["transaction_id"], row["is_fraud"]) for row in projection.labels],
            )
            self._writer.executemany(
                "INSERT INTO session_event VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [
                    (row["session_id"], row["event_id"], row["event_time"], row["action"], row.get("customer_id"))
                    for row in projection.sessions
                ],
            )
            self._writer.executemany(
                "INSERT INTO position VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset",
                [(at.topic, at.partition, offset) for at, offset in positions.items()],
            )

    def positions(self) -> Positions:
        rows = self._all("SELECT topic, partition, next_offset FROM position")
        return {TopicPartition(topic, partition): offset for topic, partition, offset in rows}

    def transaction(self, event_id: str) -> dict[str, Any] | None:
        rows = self._all('SELECT value FROM "transaction" WHERE event_id = ?', event_id)
        return msgspec.json.decode(rows[0][0], type=dict[str, Any]) if rows else None

    def decision(self, event_id: str) -> Decision | None:
        """The strictest, if several detectors decided."""
        rows = self._all(
            "SELECT value FROM decision WHERE event_id = ? ORDER BY strictness DESC, detector LIMIT 1", event_id
        )
        return _decision_decoder.decode(rows[0][0]) if rows else None

    def revision(self, event_id: str, detector: str) -> Revision | None:
        rows = self._all("SELECT value FROM revision WHERE event_id = ? AND detector = ?", event_id, detector)
        return _revision_decoder.decode(rows[0][0]) if rows else None

    def recent(self, by: Literal["pan", "customer_id"], token: str, limit: int) -> list[RecentTransaction]:
        """At most RECENT_KEPT."""
        rows = self._all(
            # `by` is one of two words of ours.
            f"""
            SELECT value, label.is_fraud, (
                SELECT outcome FROM decision WHERE decision.event_id = recent.event_id
                ORDER BY strictness DESC, detector LIMIT 1), (
                SELECT revision.value FROM revision JOIN decision USING (event_id, detector)
                WHERE revision.event_id = recent.event_id ORDER BY strictness DESC, detector LIMIT 1)
            FROM "transaction" AS recent LEFT JOIN label ON label.transaction_id = recent.event_id
            WHERE recent.{by} = ? ORDER BY recent.event_time DESC, recent.event_id DESC LIMIT ?
            """,  # noqa: S608
            token,
            min(limit, RECENT_KEPT),
        )
        return [
            msgspec.structs.replace(
                _recent_decoder.decode(value),
                is_fraud=None if is_fraud is None else bool(is_fraud),
                outcome=outcome,
                revised_outcome=_revision_decoder.decode(revision).new_outcome if revision else None,
            )
            for value, is_fraud, outcome, revision in rows
        ]

    def session(self, session_id: str) -> Session | None:
        rows = self._all(
            "SELECT event_time, action, customer_id FROM session_event WHERE session_id = ? "
            "ORDER BY event_time, event_id",
            session_id,
        )
        if not rows:
            return None
        actions: dict[str, int] = {}
        for _, action, _ in rows:
            actions[action] = actions.get(action, 0) + 1
        customers = [customer_id for _, _, customer_id in rows if customer_id is not None]
        return Session(
            session_id=session_id,
            customer_id=customers[-1] if customers else None,
            started=rows[0][0],
            last_seen=rows[-1][0],
            actions=actions,
        )

    def expire(self, now_ms: int) -> int:
        """A transaction goes when RECENT_KEPT newer ones of its customer, and of its card, are there; its decision,
        revision and label go with it.
        """
        # Asked outside of the write transaction, since it looks at every customer.
        past = self._all(_PAST)
        ended = self._all(
            "SELECT session_id FROM session_event GROUP BY session_id HAVING max(event_time) < ?",
            (now_ms - SESSION_KEPT_MS) * 1000,
        )
        with self._writing, transaction(self._writer, self._path):
            self._writer.executemany('DELETE FROM "transaction" WHERE event_id = ?', past)
            self._writer.executemany("DELETE FROM decision WHERE event_id = ?", past)
            self._writer.executemany("DELETE FROM revision WHERE event_id = ?", past)
            self._writer.executemany("DELETE FROM label WHERE transaction_id = ?", past)
            self._writer.executemany("DELETE FROM session_event WHERE session_id = ?", ended)
        return len(past) + len(ended)

    def _all(self, sql: str, *values: str | int) -> list[Any]:
        with self._reading, translated(self._path):
            return self._reader.execute(sql, values).fetchall()

    def close(self) -> None:
        with self._writing, self._reading:
            self._writer.close()
            self._reader.close()
