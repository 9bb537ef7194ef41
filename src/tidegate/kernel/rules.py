"""rules.yaml: conditions over features and the event's own columns, the points they add and the reason they give."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np

from tidegate.kernel.features import Features
from tidegate.kernel.language.bind import Binder, near
from tidegate.kernel.language.expressions import TIMESTAMP, Expression, SqlType
from tidegate.kernel.language.joins import stream_columns
from tidegate.kernel.language.sql import check_in_duckdb, parse_expression
from tidegate.kernel.language.yamltext import Yaml
from tidegate.kernel.reach import can_hold
from tidegate.streams.decision import Value

Status = Literal["draft", "shadow", "live", "retired"]

#: Most points of one rule, up or down.
MAX_POINTS = 1_000_000

#: Doubles from here on hold no cents.
_EXACT_CENTS = 2**53 / 100

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Reason:
    """A rule's reason: texts and, between them, the names and types of the values that fill it."""

    texts: tuple[str, ...]
    names: tuple[str, ...]
    types: tuple[SqlType, ...]

    def words(self, values: Mapping[str, Value]) -> str:
        """The reason of one decision."""
        parts = [self.texts[0]]
        for name, type_, text in zip(self.names, self.types, self.texts[1:], strict=True):
            parts += (spell_value(values[name], type_), text)
        return "".join(parts)


@dataclass(frozen=True)
class Rule:
    """`draft` and `retired` are compiled and not run; `shadow` is run and recorded, and adds no points."""

    name: str
    when: Expression
    points: int
    reason: Reason
    status: Status

    @property
    def runs(self) -> bool:
        return self.status in ("shadow", "live")


def spell_value(value: Value, type_: SqlType) -> str:
    """A value as an analyst reads it: 1,234 and 1,234.50, a time in UTC, yes or no."""
    match value:
        case None:
            return "unknown"
        case bool():
            return "yes" if value else "no"
        case int() if type_.name == TIMESTAMP.name:  # hot: to compare whole types takes longer
            return f"{np.datetime64(value, 'us').astype('datetime64[s]')}Z"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.2f}" if not value or 1 <= abs(value) < _EXACT_CENTS else f"{value:.3g}"
        case str():
            return value


def compile_rules(
    file: str, text: str, features: Features, more: Mapping[str, Expression] | None = None
) -> tuple[Rule, ...]:
    """`more` are what else conditions and reasons may name.

    Raises:
        DetectorError: a key is unknown or missing, a value or a condition is wrong, no event can meet a condition, or a
            name is there twice.
    """
    root = Yaml.parse(file, text).mapping(("rules",))
    names = stream_columns(features.stream)
    names |= {name.lower(): expression for name, expression in features.expressions.items()}
    names |= more or {}
    rules: dict[str, Rule] = {}
    for node in root["rules"].list():
        keys = node.mapping(("name", "when", "points", "reason", "status"))
        name = keys["name"].words()
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
            keys["name"].fail(f"the name {name[:60]!r}", "lower case letters, digits and _, a letter first")
        if name in rules:
            keys["name"].fail(f"a second rule {name!r}", "each name once")
        status = keys["status"].words()
        if status not in get_args(Status):
            keys["status"].fail(f"the status {status[:60]!r}", near(status, get_args(Status)))
        points = keys["points"].number()
        if abs(points) > MAX_POINTS:
            keys["points"].fail(f"{points} points", f"at most {MAX_POINTS}")
        expression, source = parse_expression(keys["when"].sql())
        when = Binder(source, names).condition(expression)
        check_in_duckdb(source)
        if not can_hold(when, features.plan):
            keys["when"].fail(
                "a condition that no event can meet", "one that an event can meet: the rule would never fire"
            )
        reason = _reason(keys["reason"], features, names, more or {})
        rules[name] = Rule(name, when, points, reason, cast("Status", status))
    return tuple(rules.values())


def _reason(node: Yaml, features: Features, names: Mapping[str, Expression], more: Mapping[str, Expression]) -> Reason:
    words = node.words()
    if not words.strip():
        node.fail("an empty reason", "a reason in words")
    *parts, last = _PLACEHOLDER.split(words)
    texts, placeholders = (*parts[0::2], last), tuple(parts[1::2])
    if any(brace in text for text in texts for brace in "{}"):
        node.fail(repr(words[:60]), "each { with its }: {feature_name}")
    for name in placeholders:
        if name not in {*features.expressions, *features.stream.protected_columns, *more}:
            node.fail(f"the placeholder {{{name}}}", near(name, names))
        if name in features.personal or name in features.stream.personal:
            node.fail(f"the placeholder {{{name}}}, a personal field", "a placeholder that shows nobody")
    return Reason(texts, placeholders, tuple(names[name.lower()].type for name in placeholders))
