"""A detector compiled: its features, sequences, rules and policy, ready for the kernel."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from tidegate.errors import DetectorError
from tidegate.kernel.arrivals import LABELS
from tidegate.kernel.features import Features, compile_features
from tidegate.kernel.policy import Policy, compile_policy
from tidegate.kernel.rules import Rule, compile_rules
from tidegate.streams.schema import Schema

FEATURES, RULES, POLICY = TEXTS = ("features.sql", "rules.yaml", "policy.yaml")

#: Hex digits of a version: 48 bits tell a company's detectors apart and can be read out over the telephone.
VERSION_DIGITS = 12

#: The text of what happens in which order; a detector may do without.
SEQUENCES = "sequences.sql"


@dataclass(frozen=True)
class Detector:
    name: str
    version: str
    """First 12 hex digits of SHA-256 over the texts that decide: its examples and notes may change without it."""
    compiled: Features
    rules: tuple[Rule, ...]
    policy: Policy

    @property
    def stream(self) -> Schema:
        """The schema of the stream whose events it decides."""
        return self.compiled.stream

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that it reads: the one that it decides, and labels where its windows count by them."""
        return (self.stream.name, LABELS) if self.compiled.plan.label_lanes else (self.stream.name,)

    @cached_property
    def features(self) -> dict[str, str]:
        """SQL type by name, in the order of the SELECT."""
        return {name: str(expression.type) for name, expression in self.compiled.expressions.items()}


def compile_detector(name: str, texts: dict[str, str]) -> Detector:
    """Compile a detector's texts, by file name: features.sql, rules.yaml, policy.yaml.

    Raises:
        DetectorError: a text is missing or wrong: file, line, column, what was found, what was expected.
    """
    for file in TEXTS:
        if file not in texts:
            raise DetectorError(file, 0, 0, "no such text", f"the texts {', '.join(TEXTS)}")
    policy = compile_policy(POLICY, texts[POLICY])
    features = compile_features(FEATURES, texts[FEATURES], lateness_us=policy.lateness_us, dedupe_us=policy.dedupe_us)
    rules = compile_rules(RULES, texts[RULES], features)
    return Detector(name, _version(texts), features, rules, policy)


def _version(texts: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for file in TEXTS:
        for part in (file.encode(), texts[file].encode("utf-8", "surrogatepass")):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:VERSION_DIGITS]
