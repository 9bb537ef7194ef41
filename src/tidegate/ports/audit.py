"""The audit trail: who did what to what, when, from where, with what outcome (PCI DSS 10.2). It can only grow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

import msgspec


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    time_ms: int
    who: str
    what: str
    """sign_in, reveal, verdict, ..."""
    on: str
    """The thing acted on: an event id, a customer token."""
    where: str
    """The address the request came from."""
    outcome: Literal["done", "refused"]


class Audit(Protocol):
    def write(self, entry: AuditEntry) -> None:
        """Durable when it returns."""
        ...

    def entries(self) -> Iterator[AuditEntry]:
        """From the oldest on.

        Raises:
            DamagedError: an entry was changed, removed or put in between: says which.
        """
        ...
