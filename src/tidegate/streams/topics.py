"""The topics of the company's log that are kept for as long as its retention says."""

from __future__ import annotations

from tidegate.streams.decision import ALERTS, DECISIONS, REJECTED
from tidegate.streams.revision import REVISIONS
from tidegate.streams.schema import STREAMS

TOPICS = (*STREAMS, DECISIONS, ALERTS, REJECTED, REVISIONS)
