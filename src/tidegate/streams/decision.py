"""What the engine writes: decisions and alerts, JSON in the log, encoded by msgspec in the order of the fields."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

#: The topics that the engine and the door write beside the company's own streams.
DECISIONS = "decisions"
ALERTS = "alerts"
REJECTED = "rejected"

Outcome = Literal["approve", "review", "decline"]
Value = int | float | bool | str | None
Freshness = Literal["stale", "defaulted"]


class Contribution(msgspec.Struct, frozen=True):
    """How much a feature moved the model's score, in log-odds: above 0 towards fraud."""

    feature: str
    amount: float


class Counterfactual(msgspec.Struct, frozen=True):
    """Had the event had this value in this column, and been the same otherwise, this would have been the outcome."""

    column: str
    value: Value
    outcome: Outcome


class Explanation(msgspec.Struct, frozen=True):
    """Why an event was not approved, beyond the reasons of the rules."""

    contributions: list[Contribution]
    """Of the features that moved the model most, the strongest first."""
    counterfactuals: list[Counterfactual]
    """The smallest changes that would have led to a milder outcome."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """All that decided one event, and what was decided.

    `features` holds every feature by name, `rules` every rule's outcome by name (only live rules add `points`; the
    others are told apart by `shadow`). `freshness` names the features that were not fresh. `inputs` is how much of each
    input topic the engine had read, as "topic/partition" -> next offset, so that the decision can be computed again.
    """

    event_id: str
    event_time: int
    """Microseconds since 1970-01-01T00:00:00Z."""
    stream: str
    detector: str
    detector_version: str
    model_version: str | None = None
    model_score: float | None = None
    """What the model said; None also where it was missing or failed, which `freshness` says then."""
    features: dict[str, Value]
    rules: dict[str, bool]
    shadow: list[str] = []
    points: dict[str, int] = {}
    """What each live rule that fired, and each join that lacked something, added to the score: the heaviest first, as
    the reasons are."""
    demoted: list[str] = []
    """Live rules that fired far beyond their forecast: their points lead to review at most."""
    versions: dict[str, int] = {}
    """The event_time, in microseconds, of the version that each join read. A join that is not there found none."""
    freshness: dict[str, Freshness] = {}
    late: bool
    score: int
    outcome: Outcome
    reasons: list[str]
    hash: str = ""
    explanation: Explanation | None = None
    """Of a decision that is not `approve`: outside the hash, since it tells of what decided and is no part of it."""
    inputs: dict[str, int] = {}
    stages_us: dict[str, int] = {}
    """Microseconds spent by stage: outside the hash, since no two runs spend the same."""


#: How a record ends whose fields that are left out of the hash are empty: the hash itself, explanations, where the
#: event lay in the log and how long it took are not what decided it. They are the last fields.
_NOT_HASHED = b',"hash":"","explanation":null,"inputs":{},"stages_us":{}}'

_encoder = msgspec.json.Encoder()


def decision_hash(decision: Decision) -> str:
    """SHA-256, in hex, over all that decides: the record's own JSON up to `,"hash":`, closed by `}`."""
    if decision.hash or decision.explanation or decision.inputs or decision.stages_us:
        decision = msgspec.structs.replace(decision, hash="", explanation=None, inputs={}, stages_us={})
    content = _encoder.encode(decision).removesuffix(_NOT_HASHED)
    return hashlib.sha256(content + b"}").hexdigest()


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A decision that someone or something must act on, with what an analyst sees first. Personal fields are tokens."""

    event_id: str
    event_time: int
    detector: str
    detector_version: str
    outcome: Outcome
    score: int
    reasons: list[str]
    customer_id: str | None = None
    pan: str | None = None
    pan_bin: str | None = None
    pan_last4: str | None = None
    amount_minor: int | None = None
    currency: str | None = None
    channel: str | None = None
    merchant_id: str | None = None
    accepted_ms: int
    """When the door accepted the event: the log record's timestamp, milliseconds since 1970 by the door's clock."""
    decided_ms: int
    revision: int | None = None
    """The number of the revision that raised it; None: the first decision did."""
    revised_from: Outcome | None = None
    """The outcome before that revision."""
