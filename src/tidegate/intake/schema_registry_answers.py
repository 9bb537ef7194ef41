"""What clients of the schema registry send and are answered, under the names that they know."""

from __future__ import annotations

from typing import Literal

import msgspec

from tidegate.ports.schemas import Compatibility


class RegisterSchema(msgspec.Struct, frozen=True, kw_only=True):
    schema: str
    schemaType: Literal["AVRO"] = "AVRO"  # noqa: N815  # the registry's own name


class RegisteredSchema(msgspec.Struct, frozen=True, kw_only=True):
    id: int


class SubjectVersion(msgspec.Struct, frozen=True, kw_only=True):
    subject: str
    version: int


class RegistryVersion(msgspec.Struct, frozen=True, kw_only=True):
    subject: str
    version: int
    id: int
    schema: str


class RegistrySchema(msgspec.Struct, frozen=True, kw_only=True):
    schema: str


class CompatibilityLevel(msgspec.Struct, frozen=True, kw_only=True):
    compatibilityLevel: Compatibility  # noqa: N815  # the registry's own name


class CompatibilityChange(msgspec.Struct, frozen=True, kw_only=True):
    compatibility: Compatibility


class CompatibilityCheck(msgspec.Struct, frozen=True, kw_only=True):
    is_compatible: bool
    messages: list[str] = []


ANSWERS = (
    RegisterSchema,
    RegisteredSchema,
    SubjectVersion,
    RegistryVersion,
    RegistrySchema,
    CompatibilityLevel,
    CompatibilityChange,
    CompatibilityCheck,
)
"""What the OpenAPI description makes its schemas of."""
