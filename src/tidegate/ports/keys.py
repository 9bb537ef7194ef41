"""The keys: tokens that hide a value and stay equal for equal values, and envelopes under a key of the person."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from tidegate.streams.schema import PersonalClass


class Keys(Protocol):
    def token(self, personal: PersonalClass, value: str) -> str:
        """HMAC-SHA-256 of the normalised value under the class's own key, as `<class>_<26 base32 letters>`.

        130 bits of the MAC are kept. The same value always gives the same token; without the key nobody can go back or
        try values out (PCI DSS 3.5.1.1).
        """
        ...

    def prepare(self, subjects: Iterable[str]) -> None:
        """Make the data keys that these subjects (tokens) lack, durable in one step: `seal` then writes nothing."""
        ...

    def seal(self, subject: str, plaintext: bytes, context: bytes) -> bytes:
        """Encrypt with AES-256-GCM under the data key of `subject` (a token), made at its first use. `context` is
        authenticated, not stored: `open` wants the same. The data key is durable before this returns.
        """
        ...

    def open(self, subject: str, sealed: bytes, context: bytes) -> bytes:
        """
        Raises:
            NotFoundError: the subject's key was destroyed, or there never was one.
            DamagedError: the envelope or its context is not the one that was sealed.
        """
        ...

    def destroy(self, subject: str) -> bool:
        """Erase the subject's data key for good; False if there was none. What it sealed can't be read any more, by
        any process from now on. If the subject comes back, `seal` makes it a new key.
        """
        ...

    def signing_key(self, purpose: str) -> bytes:
        """32 bytes for signing tokens of one purpose, derived from the root key."""
        ...

    def close(self) -> None: ...
