"""Who sends webhooks to the door and who gets alerts, as the log tells it: one record a change, the newest counts."""

from __future__ import annotations

from typing import Literal

import msgspec

#: Topics of one partition each: what is told of a name comes in order. The first two are kept for ever.
SOURCES = "sources"
SUBSCRIBERS = "subscribers"
DELIVERIES = "deliveries"

Topic = Literal["alerts", "revisions"]
"""What may be subscribed to."""

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


class Subscriber(msgspec.Struct, frozen=True, kw_only=True):
    """Someone whose address gets what comes into some topics, from this record on."""

    name: str
    url: str
    topics: list[Topic]
    secrets: list[SealedSecret]
    """All that what is sent is signed with."""
    state: Literal["active", "paused", "disabled", "removed"] = "active"
    reason: str | None = None
    """Why it was disabled or removed, if nobody did it."""
    start: dict[str, int]
    """What comes from here on is sent, as "topic/partition" -> offset."""
    start_ms: int
    at_ms: int

    @property
    def owner(self) -> str:
        """Whose its secrets are."""
        return f"subscriber:{self.name}"


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was sent and not taken, and is to be sent again."""

    topic: str
    partition: int
    offset: int
    attempts: int
    first_ms: int
    due_ms: int


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """How far the sending to one subscriber is: the newest record of a subscriber is all that is known of it."""

    subscriber: str
    start_ms: int
    """Of the subscriber's record: with another one it begins anew."""
    positions: dict[str, int]
    """The next offset to send, by "topic/partition": those before it were taken, are waiting, or were given up."""
    waiting: list[Waiting] = []
    delivered: int = 0
    given_up: int = 0
    failing_since_ms: int | None = None
    """When the first failed of those since the last that was taken."""
    failed: str | None = None
    """Why the last failed: a status, or what happened."""
    at_ms: int
