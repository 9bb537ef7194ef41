"""What the door answers. The OpenAPI description is made from these, so that it is true."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tidegate.ports.hotstore import RecentTransaction
from tidegate.streams.decision import Decision
from tidegate.streams.revision import Revision


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem as RFC 9457 has it. `step` and `field` say where an event was refused."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    step: str | None = None
    field: str | None = None


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is in the log. `duplicate`: its id was there already, and this is where."""

    status: Literal[202] = 202
    event_id: str
    partition: int
    offset: int
    duplicate: bool


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is not in the log; its sealed original is in the stream `rejected`."""

    status: Literal[422] = 422
    problem: Problem


class DecisionAnswer(Decision, frozen=True, kw_only=True):
    """A decision as it was first made, what may be shown of the card (411111******1111), and the decision's newest
    revision if there is one.
    """

    card: str | None = None
    revision: Revision | None = None


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """The transaction is taken; its decision is not there yet."""

    event_id: str
    outcome: Literal["pending"] = "pending"
    card: str | None = None


class Recent(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's newest transactions, the newest first."""

    transactions: list[RecentTransaction]


class ListEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing, in the field of its kind, put on a list or (`removed`) taken off it."""

    customer_id: str | None = None
    pan: str | None = None
    email: str | None = None
    phone: str | None = None
    ip: str | None = None
    device_id: str | None = None
    merchant_id: str | None = None
    terminal_id: str | None = None
    issuer_bin: str | None = None
    country: str | None = None
    expires_at: str | None = None
    """RFC 3339, with an offset; null: it stays until it is taken off."""
    removed: bool = False
    reason: str | None = None


class GraphqlRequest(msgspec.Struct, frozen=True, kw_only=True):
    """As GraphQL over HTTP has it."""

    query: str
    variables: dict[str, Any] | None = None
    operationName: str | None = None  # noqa: N815  # GraphQL's own name
    extensions: dict[str, Any] | None = None


class SignIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    password: str


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """Send it as `Authorization: Bearer <token>`."""

    token: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    status: Literal["ok"] = "ok"


Revealed = dict[str, Any]
"""The personal values and unknown fields of a transaction, by field."""
