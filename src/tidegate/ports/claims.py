"""The claims: what is too large for a record of the log lies here, and the record says where."""

from __future__ import annotations

from typing import Protocol


class Claims(Protocol):
    """Envelopes that are written once and never changed. What they hold is sealed: to forget a person its key is
    destroyed, and the envelope may stay.
    """

    def put(self, envelope: bytes) -> str:
        """Keep an envelope; the claim that `get` gives it out for. Durable after the next `sync`.

        Threads may put at the same time.

        Raises:
            OverloadError: there is no room, or the disk has failed. Nothing was kept.
        """
        ...

    def sync(self) -> None:
        """Make all that was put durable. A record that names a claim is written after it: what was put and never named,
        because the process ended, is nobody's, and does no harm.

        Raises:
            OverloadError: the disk has failed. What was put since the last `sync` may be lost.
        """
        ...

    def get(self, claim: str) -> bytes:
        """
        Raises:
            NotFoundError: there is no such claim.
            DamagedError: not all of the envelope is there.
        """
        ...

    def close(self) -> None: ...
