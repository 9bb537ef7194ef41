"""Who sends webhooks to the door and who gets alerts, as the log tells it: one record a change, the newest counts."""

from __future__ import annotations

from typing import Literal

import msgspec

#: Topics that are kept for ever, of one partition each: what is told of a name comes in order.
SOURCES = "sources"
SUBSCRIBERS = "subscribers"

#: What may name one: it stands in an address.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Kind = Literal["standard", "stripe", "shopify", "salesforce", "sap"]
"""By whose rules a source signs, and what its messages look like."""


class SealedSecret(msgspec.Struct, frozen=True):
    """A secret under a key of its own in the key ring. Once that is destroyed nobody can read it, here or in a copy of
    the log.
    """

    id: str
    sealed: str
    """The envelope, base64."""
    until_ms: int | None = None
    """It no longer counts from then on; None: it does until it is taken away."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Someone who sends webhooks, from this record on."""

    name: str
    kind: Kind
    stream: str
    """The stream that the messages become events of."""
    mapping: str | None = None
    """The text of the mapping (YAML) from a message to an event; None: a message is an event."""
    secrets: list[SealedSecret]
    """All that count, so that one can follow the other."""
    org_id: str | None = None
    """Salesforce: the organisation that messages must be of."""
    issuer: str | None = None
    """SAP: who must have signed the tokens, where the secret is a set of public keys."""
    audience: str | None = None
    """SAP: for whom the tokens must be."""
    state: Literal["active", "paused", "removed"] = "active"
    at_ms: int

    @property
    def owner(self) -> str:
        """Whose its secrets are."""
        return f"source:{self.name}"
