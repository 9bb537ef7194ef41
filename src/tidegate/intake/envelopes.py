"""Envelopes: what is sealed under a person's key, small ones within their record, large ones by a claim."""

from __future__ import annotations

from base64 import b64decode, b64encode

import msgspec

from tidegate.errors import NotFoundError
from tidegate.ports.claims import Claims
from tidegate.ports.keys import Keys

#: A larger envelope is not carried by the log but claimed: the log is read by many, most of whom never open it.
CLAIM_BYTES = 16_384


class Envelope(msgspec.Struct, frozen=True):
    """Where a sealed envelope is: in `sealed`, base64, or where `claim` says. Neither: there was nothing to seal."""

    sealed: str | None = None
    claim: str | None = None


class Envelopes:
    """Seals and opens. Threads may share it. What was sealed is durable after `sync`."""

    def __init__(self, keys: Keys, claims: Claims) -> None:
        self.keys, self._claims = keys, claims
        self.sync = claims.sync

    def seal(self, subject: str, plaintext: bytes, context: bytes) -> Envelope:
        """
        Raises:
            OverloadError: there is no room for a large one.
        """
        envelope = self.keys.seal(subject, plaintext, context)
        if len(envelope) > CLAIM_BYTES:
            return Envelope(claim=self._claims.put(envelope))
        return Envelope(sealed=b64encode(envelope).decode())

    def open(self, subject: str, envelope: Envelope, context: bytes) -> bytes:
        """
        Raises:
            NotFoundError: the subject's key was destroyed, there is no such claim, or nothing was sealed.
            DamagedError: the envelope is not the one that was sealed.
        """
        if envelope.claim is not None:
            return self.keys.open(subject, self._claims.get(envelope.claim), context)
        if envelope.sealed is not None:
            return self.keys.open(subject, b64decode(envelope.sealed), context)
        raise NotFoundError("open: nothing was sealed; the record in the log is the original")

    def close(self) -> None:
        self._claims.close()
        self.keys.close()
