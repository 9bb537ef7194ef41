"""A detector compiled: its features, rules and policy, ready for the kernel."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from tidegate.streams.schema import Schema


@dataclass(frozen=True)
class Detector:
    name: str
    version: str
    """First 12 hex digits of SHA-256 over the texts."""
    stream: Schema
    features: dict[str, str]
    """SQL type by name, in the order of the SELECT."""


def compile_detector(name: str, texts: dict[str, str]) -> Detector:
    """Compile a detector's texts, by file name: features.sql, rules.yaml, policy.yaml.

    Raises:
        DetectorError: a text is missing or wrong: file, line, column, what was found, what was expected.
    """
    raise NotImplementedError
