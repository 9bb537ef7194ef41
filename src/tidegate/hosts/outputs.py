"""What a host writes about records that arrived: decisions, alerts, and the demotion of a rule that fires too often."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import msgspec

from tidegate.hosts.alerts import alert_of, shown
from tidegate.hosts.arrivals import arrivals, inputs_of, schemas_of
from tidegate.hosts.forecast import Excess
from tidegate.hosts.rollout import Deciding
from tidegate.kernel.decisions import Decisions
from tidegate.ports.clock import Clock
from tidegate.ports.log import Entry, Positions, Record
from tidegate.streams.control import DETECTORS, Demotion
from tidegate.streams.decision import ALERTS, DECISIONS, REJECTED, Decision
from tidegate.streams.rejected import Rejected

#: Decisions explained of one batch: enough for any hour but that of an attack, when those that follow must not wait.
_MAX_EXPLAINED = 32

#: What a record of a stream is to be that the kernel takes.
UNFIT = "an event of stream {} whose event_id is the record's id"

_encode = msgspec.json.Encoder().encode

_log = logging.getLogger(__name__)


def outputs(
    deciding: Sequence[Deciding], records: Sequence[Record], read: Positions, polled_ms: int, clock: Clock
) -> tuple[list[Entry], list[Record]]:
    """What is to be written about records without any of the control stream's, `read` being how far the log was read
    before them; and those that are no events of their stream.
    """
    streams = list(dict.fromkeys(stream for each in deciding for stream in each.detector.streams))
    started_ns = time.perf_counter_ns()
    arrived = arrivals(records, schemas_of(streams))
    decode_us = (time.perf_counter_ns() - started_ns) // 1000
    inputs = inputs_of(records, read, streams)
    entries: list[Entry] = []
    for each in deciding:
        started_ns = time.perf_counter_ns()
        decisions = each.kernel.decide(arrived.by_stream)
        made = decisions.records()
        spent = {"decode": decode_us, "decide": (time.perf_counter_ns() - started_ns) // 1000}
        sources = [(records[i], inputs[i]) for i in decisions.at.tolist()]
        entries += _entries(decisions, made, sources, polled_ms=polled_ms, spent_us=spent, clock=clock)
        entries += [_demotion(each, excess, clock.now_ms()) for excess in each.watch.count(decisions)]
    return entries, arrived.refused


def rejected(record: Record, wanted: str, at_ms: int) -> Entry:
    """What is written about a record that the engine can't take."""
    told = Rejected(
        stream=record.topic,
        step="engine",
        reason=f"record {record.name}: wanted {wanted}",
        accepted_ms=record.timestamp_ms,
    )
    return Entry(REJECTED, record.key, _encode(told), at_ms, f"engine:{record.name}")


def _demotion(deciding: Deciding, excess: Excess, at_ms: int) -> Entry:
    detector = deciding.detector
    demotion = Demotion(
        detector=detector.name,
        version=detector.version,
        rule=excess.rule,
        fired=excess.fired,
        decided=excess.decided,
        forecast=excess.forecast,
        at_ms=at_ms,
    )
    _log.warning("detector %s: rule %s fires far beyond its forecast, demoted", detector.name, excess.rule)
    # Once a release and rule, whoever finds it again after a restart.
    entry_id = f"{detector.name}:{detector.version}:{deciding.release.at_ms}:{excess.rule}"
    return Entry(DETECTORS, detector.name, _encode(demotion), at_ms, entry_id)


def _entries(
    decisions: Decisions,
    made: Sequence[Decision],
    sources: Sequence[tuple[Record, dict[str, int]]],
    *,
    polled_ms: int,
    spent_us: dict[str, int],
    clock: Clock,
) -> list[Entry]:
    entries: list[Entry] = []
    acted_on = [row for row, decision in enumerate(made) if decision.outcome != "approve"]
    events = dict(zip(acted_on, shown(decisions, acted_on), strict=True))
    started_ns, explained = time.perf_counter_ns(), [row for row in acted_on if decisions.index[row] >= 0]
    explained = explained[:_MAX_EXPLAINED] if decisions.detector.explains else []
    explanations = dict(zip(explained, decisions.explain(explained), strict=True))
    explain_us = (time.perf_counter_ns() - started_ns) // 1000
    spent_us = {**spent_us, "explain": explain_us} if explained else spent_us
    decided_ms = clock.now_ms()
    for row, (decision, (record, inputs)) in enumerate(zip(made, sources, strict=True)):
        entry_id = f"{decision.detector}:{decision.event_id}"
        # The clocks of door and engine may differ where they run on two machines.
        queue_us = max(0, polled_ms - record.timestamp_ms) * 1000
        whole = msgspec.structs.replace(
            decision,
            explanation=explanations.get(row),
            inputs=inputs,
            stages_us={"queue": queue_us, **spent_us},
        )
        entries.append(Entry(DECISIONS, decision.event_id, _encode(whole), decided_ms, entry_id))
        if row in events:
            alert = alert_of(decision, events[row], accepted_ms=record.timestamp_ms, decided_ms=decided_ms)
            entries.append(Entry(ALERTS, decision.event_id, _encode(alert), decided_ms, entry_id))
    return entries
