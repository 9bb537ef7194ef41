"""Who asks: API keys of sources, signed tokens of people."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

Role = Literal["source", "fraud_ops", "analyst", "data_scientist", "auditor", "admin"]


class Principal(msgspec.Struct, frozen=True):
    """Whoever asks, once known. `streams` are the streams a source may write to."""

    name: str
    roles: frozenset[Role]
    streams: frozenset[str] = frozenset()


class Identity(Protocol):
    def add_user(self, name: str, password: str, roles: frozenset[Role]) -> None:
        """Add a person, or replace password and roles of one. Only a salted scrypt hash of the password is kept."""
        ...

    def add_source(self, name: str, streams: frozenset[str]) -> str:
        """Add a source and return its API key, which is shown this once: only its hash is kept."""
        ...

    def sign_in(self, name: str, password: str) -> str:
        """A signed token (JWT) for a person.

        Raises:
            AccessError: no such name and password. The message does not say which of them.
        """
        ...

    def who(self, credential: str) -> Principal:
        """The principal of an API key or a signed token.

        Raises:
            AccessError: unknown, expired or forged.
        """
        ...
