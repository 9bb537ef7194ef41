"""Alerts: decisions that someone must act on, with what is seen of the event first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tidegate.kernel.decisions import Decisions
from tidegate.streams.decision import Alert, Decision

#: What an alert shows of the event.
_SHOWN = ("customer_id", "pan", "pan_bin", "pan_last4", "amount_minor", "currency", "channel", "merchant_id")


def shown(decisions: Decisions, rows: Sequence[int]) -> list[dict[str, Any]]:
    """What alerts show of the events of these decisions."""
    columns = [name for name in _SHOWN if name in decisions.events.schema.names]
    return decisions.events.select(columns).take(pa.array(rows, pa.int64())).to_pylist()


def alert_of(decision: Decision, event: dict[str, Any], **more: Any) -> Alert:
    """The alert of a decision; `event` is what is shown of its event."""
    return Alert(
        event_id=decision.event_id,
        event_time=decision.event_time,
        detector=decision.detector,
        detector_version=decision.detector_version,
        outcome=decision.outcome,
        score=decision.score,
        reasons=decision.reasons,
        **more,
        **event,
    )
