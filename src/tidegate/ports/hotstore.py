"""The hot store: what is asked for by key within milliseconds. It is a projection of the log and can be made anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from tidegate.ports.log import Positions
from tidegate.streams.decision import Decision
from tidegate.streams.revision import Revision

#: How many transactions of one card or customer are kept at hand.
RECENT_KEPT = 100

#: How long a session is kept after its last event: what a shop calls one visit, with a day's grace for the analyst.
SESSION_KEPT_MS = 24 * 3600 * 1000


class RecentTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction as the desk lists it; tokens in place of personal values. `outcome` is None until it is decided."""

    event_id: str
    event_time: int
    customer_id: str
    pan: str | None
    pan_bin: str | None
    pan_last4: str | None
    transaction_type: str
    channel: str
    authorisation: str
    amount_minor: int
    currency: str
    merchant_id: str | None
    merchant_country: str | None
    terminal_id: str | None
    is_fraud: bool | None = None
    outcome: str | None = None
    revised_outcome: str | None = None
    """What the newest revision of its decision says, if there is one: of several detectors', of the strictest first."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    customer_id: str | None
    started: int
    """Event time of the first event, microseconds."""
    last_seen: int
    actions: dict[str, int]
    """How often each action was seen."""


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """What one batch of the log changes. Applying the same projection twice changes nothing the second time."""

    transactions: Sequence[dict[str, Any]] = ()
    """Protected transactions."""
    decisions: Sequence[Decision] = ()
    revisions: Sequence[Revision] = ()
    labels: Sequence[dict[str, Any]] = ()
    sessions: Sequence[dict[str, Any]] = ()


class HotStore(Protocol):
    def apply(self, projection: Projection, positions: Positions) -> None:
        """Write the projection and how far the log is read, in one transaction."""
        ...

    def positions(self) -> Positions: ...

    def transaction(self, event_id: str) -> dict[str, Any] | None:
        """The protected transaction, sealed envelope included."""
        ...

    def decision(self, event_id: str) -> Decision | None: ...

    def revision(self, event_id: str, detector: str) -> Revision | None:
        """The newest of a detector's decision."""
        ...

    def recent(self, by: Literal["pan", "customer_id"], token: str, limit: int) -> list[RecentTransaction]:
        """The newest first, by event time."""
        ...

    def session(self, session_id: str) -> Session | None: ...

    def expire(self, now_ms: int) -> int:
        """Drop sessions and transactions that are past their keeping; how many."""
        ...

    def close(self) -> None: ...
