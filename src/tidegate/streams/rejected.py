"""What could not be taken, with the reason and the sealed original: nothing is dropped."""

from __future__ import annotations

from typing import Literal

import msgspec

Step = Literal["decode", "map", "validate", "protect", "engine"]


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """One event that went to the `rejected` topic, JSON in the log. Nothing but what is sealed holds a personal value:
    `reason` names the field at fault and what was wanted, never what was got in it.
    """

    stream: str
    """The stream it was meant for."""
    step: Step
    """Where it was refused: a step of the door, or the engine."""
    reason: str
    field: str | None = None
    """The field at fault, if it was one."""
    source: str | None = None
    """Who sent it, if that is known."""
    file: str | None = None
    """The name of the file that it stood in, without its folder."""
    row: int | None = None
    """Its row there, counted from 1, without a header and blank lines. None of a file: the file itself was refused.
    Without a file it was the message of a webhook, and this is 1."""
    accepted_ms: int
    """When the door accepted it, milliseconds since 1970 by the door's clock."""
    sealed: str | None = None
    """The original, sealed, base64."""
    claim: str | None = None
    """Where the sealed original is, if it is large."""

    @property
    def has_original(self) -> bool:
        """Whether the original was sealed; if not, the record in the log, or the file, is the original."""
        return self.sealed is not None or self.claim is not None


#: The topic of what became of rejected events that were tried again.
RETRIES = "retries"


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """A rejected event was tried again: it is in its stream now, or was refused for this reason. JSON in the log."""

    place: str
    """Where the event stands in the topic `rejected`, as partition-offset."""
    taken: bool
    step: Step | None = None
    reason: str | None = None
    field: str | None = None
    by: str
    at_ms: int
