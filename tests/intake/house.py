"""What the tests of the door share: its ports, made real in one folder, people and sources, and a transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn
from fastapi import FastAPI

from tidegate.adapters.embedded.audit import EmbeddedAudit
from tidegate.adapters.embedded.claims import EmbeddedClaims
from tidegate.adapters.embedded.hotstore import EmbeddedHotStore
from tidegate.adapters.embedded.identity import EmbeddedIdentity
from tidegate.adapters.embedded.keys import EmbeddedKeys
from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.adapters.embedded.schemas import EmbeddedSchemas
from tidegate.intake.envelopes import Envelopes
from tidegate.intake.http import create_app
from tidegate.ports.hotstore import Projection
from tidegate.ports.identity import Role
from tidegate.ports.log import Record
from tidegate.streams.decision import REJECTED
from tidegate.streams.offsets import OFFSETS
from tidegate.streams.rejected import Rejected
from tidegate.streams.schema import STREAMS
from tidegate.streams.topics import TOPICS
from tidegate.streams.webhooks import SOURCES

NOW_MS = 1_780_000_000_000  # 2026-05-28
NOW_US = NOW_MS * 1000

PASSWORD = "correct horse battery"
DETECTOR = "card_fraud"


class StoppedClock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def now_ms(self) -> int:
        return self.ms


class House:
    """All ports of a door in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = StoppedClock()
        self.keys = EmbeddedKeys(folder / "keys")
        self.claims = EmbeddedClaims(folder / "claims")
        self.envelopes = Envelopes(self.keys, self.claims)
        self.log = EmbeddedLog(folder / "log.sqlite")
        for topic in TOPICS:
            self.log.create(topic, partitions=2)
        self.log.create(OFFSETS, partitions=1)
        self.schemas = EmbeddedSchemas(folder / "schemas.sqlite")
        self.log.create(SOURCES, partitions=1)
        self.hotstore = EmbeddedHotStore(folder / "hot.sqlite")
        self.identity = EmbeddedIdentity(folder / "identity.sqlite", self.keys.signing_key("identity"), self.clock)
        self.audit = EmbeddedAudit(folder / "audit", self.keys.signing_key("audit"))
        self.source = bearer(self.identity.add_source("shop", frozenset(STREAMS)))

    def app(self, **given: Any) -> FastAPI:
        return create_app(
            log=self.log,
            keys=self.keys,
            claims=self.claims,
            identity=self.identity,
            hotstore=self.hotstore,
            schemas=self.schemas,
            audit=self.audit,
            clock=self.clock,
            detector=DETECTOR,
            **given,
        )

    @contextmanager
    def open_door(self, **given: Any) -> Iterator[httpx.Client]:
        """The door, served on a free port, and a client with a source's API key."""
        config = uvicorn.Config(self.app(**given), port=0, access_log=False, server_header=False, log_config=None)
        server = uvicorn.Server(config)
        serving = threading.Thread(target=server.run)
        serving.start()
        while not server.started:
            assert serving.is_alive(), "the door did not open"
            serving.join(0.001)
        host, port = server.servers[0].sockets[0].getsockname()
        try:
            with httpx.Client(base_url=f"http://{host}:{port}", headers=self.source, timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            serving.join()

    def person(self, role: Role) -> dict[str, str]:
        """The headers of a person who signed in."""
        self.identity.add_user(role, PASSWORD, frozenset({role}))
        return bearer(self.identity.sign_in(role, PASSWORD))

    def records(self, topic: str) -> list[Record]:
        return self.log.read(dict.fromkeys(self.log.ends([topic]), 0), 100_000)

    def values(self, topic: str) -> list[dict[str, Any]]:
        return [msgspec.json.decode(record.value) for record in self.records(topic)]

    def rejected(self) -> list[Rejected]:
        return [msgspec.json.decode(record.value, type=Rejected) for record in self.records(REJECTED)]

    def project(self) -> None:
        """What the hot store's reader does: bring the log's transactions and sessions into the hot store."""
        projection = Projection(transactions=self.values("transactions"), sessions=self.values("sessions"))
        self.hotstore.apply(projection, {})

    def close(self) -> None:
        self.schemas.close()
        self.hotstore.close()
        self.log.close()
        self.identity.close()
        self.envelopes.close()


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


#: The personal values of `transaction`, by field.
PERSONAL = {
    "customer_id": "cust-000815",
    "pan": "4111 1111 1111 1111",
    "cardholder_name": "Zoë Quixotic-Vandermeer",
    "email": "zoe.quixotic@example.org",
    "phone": "+49 30 901820",
    "billing_address": "Invalidenstraße 117, 10115 Berlin",
    "ip": "203.0.113.77",
    "geo": "52.530644,13.383068",
    "device_id": "dev-9f8e7d6c5b4a",
}


def transaction(event_id: str = "tx-1", **given: Any) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "event_time": NOW_US,
        "transaction_type": "purchase",
        "channel": "ecommerce",
        "card_present": False,
        "authorisation": "approved",
        **PERSONAL,
        "session_id": "session-1",
        "ip_country": "DE",
        "card_country": "DE",
        "merchant_id": "m-1",
        "merchant_category": "5411",
        "merchant_country": "DE",
        "amount_minor": 1999,
        "currency": "EUR",
    } | given
