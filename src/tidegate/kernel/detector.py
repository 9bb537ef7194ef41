"""A detector compiled: its features, sequences, rules and policy, ready for the kernel."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from tidegate.errors import DetectorError
from tidegate.kernel.arrivals import LABELS
from tidegate.kernel.explained import check_explained
from tidegate.kernel.features import Features, compile_features
from tidegate.kernel.freshness import MODEL_SCORE, JoinPolicy, compile_freshness, compile_missing
from tidegate.kernel.joins.ended import with_ends
from tidegate.kernel.language.expressions import (
    DOUBLE,
    VARCHAR,
    AggregateRef,
    Column,
    SqlType,
    columns_of,
    from_arrow,
)
from tidegate.kernel.language.yamltext import Yaml
from tidegate.kernel.model import CARD, Loader, Model, compile_card
from tidegate.kernel.plan import Join, JoinPlan
from tidegate.kernel.policy import Policy, check_keep, compile_policy
from tidegate.kernel.rules import Rule, compile_rules
from tidegate.kernel.sequences.sequences import Sequence, compile_sequences, with_matches
from tidegate.streams.schema import Schema, load_schema

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
    sequences: tuple[Sequence, ...]
    joins: dict[str, JoinPolicy]
    """What policy.yaml says of joins, by name."""
    model: Model | None = None

    @property
    def model_score(self) -> AggregateRef:
        """Where expressions find the model's score: after the answers of the windows."""
        return _model_score(self.compiled)

    @property
    def stream(self) -> Schema:
        """The schema of the stream whose events it decides."""
        return self.compiled.stream

    @property
    def joined(self) -> tuple[Join, ...]:
        """What is joined to its events."""
        return self.compiled.joins.joins

    @cached_property
    def columns(self) -> dict[str, SqlType]:
        """What an event has, that which is joined to it, sequences tell of it and windows gather by included."""
        columns = dict(self.stream.protected_columns)
        for join in self.joined:
            schema = load_schema(self.compiled.joins.tables[join.table].stream)
            columns |= {join.column(name): schema.protected_columns[name] for name in join.columns}
        told = {name: type_ for sequence in self.sequences for name, type_ in sequence.columns.items()}
        derived = {name: expression.type for name, expression in self.compiled.derived.items()}
        return {name: from_arrow(arrow) for name, arrow in columns.items()} | told | derived

    @cached_property
    def streams(self) -> tuple[str, ...]:
        """The streams that it reads: the one that it decides, labels where its windows count by them, those joined and
        those of its sequences.
        """
        labels = (LABELS,) if self.compiled.plan.label_lanes else ()
        joined = (table.stream for table in self.compiled.joins.tables)
        followed = (rows.stream.name for sequence in self.sequences for rows in sequence.inputs)
        return tuple(dict.fromkeys((self.stream.name, *labels, *joined, *followed)))

    @cached_property
    def readers(self) -> dict[str, list[str]]:
        """The features that read a join, outside of windows, by its name; of the model its score."""
        read = {name: columns_of(expression) for name, expression in self.compiled.expressions.items()}
        return {
            join: [name for name, columns in read.items() if any(column.startswith(f"{join}.") for column in columns)]
            for join in self.joins
        } | {MODEL_SCORE: [MODEL_SCORE]}

    @cached_property
    def features(self) -> dict[str, str]:
        """SQL type by name, in the order of the SELECT; then what the sequences tell."""
        return {name: str(expression.type) for name, expression in self.compiled.expressions.items()}

    @cached_property
    def running(self) -> tuple[Rule, ...]:
        """The rules that are run, in the order of rules.yaml."""
        return tuple(rule for rule in self.rules if rule.runs)

    @cached_property
    def heaviest_first(self) -> dict[int, Rule]:
        """The live rules, by their place among those that run."""
        live = [(place, rule) for place, rule in enumerate(self.running) if rule.status == "live"]
        return dict(sorted(live, key=lambda placed: -placed[1].points))

    @property
    def explains(self) -> bool:
        """Whether there is more to say of a decision than its reasons."""
        return bool(self.model or self.policy.explain)

    @cached_property
    def shown(self) -> frozenset[str]:
        """The event's own columns that reasons show."""
        return frozenset(name for rule in self.rules for name in rule.reason.names if name not in self.features) - {
            MODEL_SCORE
        }


def _model_score(features: Features) -> AggregateRef:
    return AggregateRef(len(features.plan.aggregates), DOUBLE)


def compile_detector(name: str, texts: Mapping[str, str], models: Loader | None = None) -> Detector:
    """Compile a detector's texts, by file name: features.sql, rules.yaml, policy.yaml and, if there are such,
    sequences.sql and the model's card with what `models` makes of it. Without `models` the model is missing.

    Raises:
        DetectorError: a text is missing or wrong: file, line, column, what was found, what was expected.
    """
    version = version_of(texts)
    root = Yaml.parse(POLICY, texts[POLICY])
    policy = compile_policy(root)
    features = compile_features(
        FEATURES,
        texts[FEATURES],
        lateness_us=policy.lateness_us,
        dedupe_us=policy.dedupe_us,
        keep_us=policy.keep_us,
    )
    check_keep(root, reads_keep=features.reads_keep)
    check_explained(root, features)
    joins = compile_freshness(root, (join.name for join in features.joins.joins))
    features = replace(features, joins=_with_ends(features, joins))
    sequences: tuple[Sequence, ...] = ()
    if SEQUENCES in texts:
        taken = {name.lower() for name in (*features.expressions, *features.stream.protected_columns)}
        sequences = compile_sequences(SEQUENCES, texts[SEQUENCES], taken=taken, lateness_us=policy.lateness_us)
        features = with_matches(features, sequences)
    model = _model(texts, root, features, models) if CARD in texts else None
    more = {MODEL_SCORE: _model_score(features)} if model else {}
    rules = compile_rules(RULES, texts[RULES], features, more)
    return Detector(name, version, features, rules, policy, sequences, joins, model)


def _with_ends(features: Features, policies: Mapping[str, JoinPolicy]) -> JoinPlan:
    gathered = (Column(name, VARCHAR) for entity in features.plan.entities for name in entity.columns)
    reads = [*features.expressions.values(), *features.values, *features.lanes, *features.derived.values(), *gathered]
    keep_us = {name: policy.keep_us for name, policy in policies.items() if policy.keep_us is not None}
    return with_ends(features.joins, reads, keep_us, policies)


def _model(texts: Mapping[str, str], policy: Yaml, features: Features, models: Loader | None) -> Model:
    types = {name: str(expression.type) for name, expression in features.expressions.items()}
    return compile_card(CARD, texts, types, missing=compile_missing(policy), models=models)


def version_of(texts: Mapping[str, str]) -> str:
    """The version that a detector of these texts has: see `Detector.version`.

    Raises:
        DetectorError: a text that every detector has is missing.
    """
    for file in TEXTS:
        if file not in texts:
            raise DetectorError(file, 0, 0, "no such text", f"the texts {', '.join(TEXTS)}")
    digest = hashlib.sha256()
    # The card holds the hash of the model's file.
    for file in (*TEXTS, *(name for name in (SEQUENCES, CARD) if name in texts)):
        for part in (file.encode(), texts[file].encode("utf-8", "surrogatepass")):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:VERSION_DIGITS]
