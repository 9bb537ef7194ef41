"""The schema registry: what producers write with, by subject and version, and what a new version must keep to."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

Compatibility = Literal[
    "NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"
]
"""Backward: the new version reads what was written by the one before. Forward: the one before reads what is written by
the new one. Full: both. Transitive: not the one before alone, but all of them.
"""

#: What holds where nothing else was said.
DEFAULT_COMPATIBILITY: Compatibility = "BACKWARD"

#: Versions of one subject. Who registers more makes a schema an event.
MAX_VERSIONS = 1_000


class SchemaVersion(msgspec.Struct, frozen=True):
    """A version of a subject, counted from 1. `id` is the schema's own: the same wherever it is registered."""

    subject: str
    version: int
    id: int
    schema: str
    """Avro, as JSON."""


class Schemas(Protocol):
    """Schemas in Avro. What is registered stays: messages name it for as long as they are kept."""

    def subjects(self) -> list[str]:
        """In order of their names."""
        ...

    def versions(self, subject: str) -> list[SchemaVersion]:
        """The oldest first; none of a subject that is not known."""
        ...

    def named(self, schema_id: int) -> list[SchemaVersion]:
        """Where a schema is registered.

        Raises:
            NotFoundError: no schema has this id.
        """
        ...

    def register(self, subject: str, schema: str) -> SchemaVersion:
        """Make it the subject's newest version, durable when it returns. If the subject has it already, that version is
        answered and nothing is written.

        Raises:
            UsageError: the schema is not Avro, the versions before are not compatible with it, or are MAX_VERSIONS.
        """
        ...

    def conflicts(self, subject: str, schema: str, version: int | None = None) -> list[str]:
        """Why the schema can't be the subject's next version by its compatibility; empty if it can. With `version`:
        beside that one alone.

        Raises:
            UsageError: the schema is not Avro.
            NotFoundError: there is no such version.
        """
        ...

    def compatibility(self, subject: str | None = None) -> Compatibility | None:
        """What was set for the subject; None if nothing was. Without a subject: what holds for all others."""
        ...

    def set_compatibility(self, compatibility: Compatibility, subject: str | None = None) -> None: ...

    def close(self) -> None: ...
