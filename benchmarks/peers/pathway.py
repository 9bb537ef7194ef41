"""Pathway: each event joined with those of its key within the widest window (`interval_join`), reduced by window.
From memory, through a Python connector.

Its tables are always of now: a late event changes the answers given before, so answers are those that stand at last.
"""

from __future__ import annotations

from typing import Any

import pathway as pw

from benchmarks.peers.plain import Judge
from benchmarks.peers.serve import Job, serve
from benchmarks.workload import (
    ENTITIES,
    FEATURES,
    LARGE_MINOR,
    SEQUENCE_US,
    TINY_MINOR,
    WINDOWS_US,
)

#: How often the connector hands on what it has.
_COMMIT_MS = 100


class _Event(pw.Schema):
    number: int = pw.column_definition(primary_key=True)
    event_time: int
    pan: str
    device_id: str
    ip: str
    merchant_id: str
    amount_minor: int


class _Source(pw.io.python.ConnectorSubject):
    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job, self._rows = job, job.events.to_pylist()

    def run(self) -> None:
        self._job.begin()
        for event in self._rows:
            self.next(**event)


def run(job: Job) -> None:
    pw.internals.parse_graph.G.clear()
    events = pw.io.python.read(_Source(job), schema=_Event, autocommit_duration_ms=_COMMIT_MS)
    columns: dict[str, Any] = {"number": events.number}
    for entity, (key, other) in ENTITIES.items():
        columns |= _features(events, entity, key, other)
    if job.full:
        columns |= {"amount_minor": events.amount_minor, "card_tested": _tested(events)}
    answers = events.select(**columns)
    if job.full:
        answers = answers.select(
            pw.this.number,
            *(pw.this[name] for name in FEATURES),
            pw.this.card_tested,
            judged=_judge(job)(*(pw.this[name] for name in (*FEATURES, "amount_minor", "card_tested"))),
        )
    standing: dict[int, tuple[Any, ...]] = {}

    def on_change(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:  # noqa: ARG001 - its signature
        if is_addition:
            judged = row.pop("judged", ())
            standing[row["number"]] = (
                *(row[name] for name in ("number", *FEATURES)),
                *([row["card_tested"]] if job.full else ()),
                *judged,
            )
            job.answered(1)

    pw.io.subscribe(answers, on_change=on_change)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    if job.exact:
        job.keep(standing.values())


def _features(events: pw.Table, entity: str, key: str, other: str) -> dict[str, Any]:
    before = events.copy()
    gathered = events.interval_join(
        before,
        events.event_time,
        before.event_time,
        pw.temporal.interval(-max(WINDOWS_US.values()), 0),
        events[key] == before[key],
    ).select(row=events.id, age=events.event_time - before.event_time, amount=before.amount_minor, other=before[other])
    columns = {}
    for window, length_us in WINDOWS_US.items():
        reduced = (
            gathered.filter(pw.this.age <= length_us)
            .groupby(id=pw.this.row)
            .reduce(
                count=pw.reducers.count(),
                sum=pw.reducers.sum(pw.this.amount),
                avg=pw.reducers.avg(pw.this.amount),
                max=pw.reducers.max(pw.this.amount),
                distinct=pw.reducers.count_distinct(pw.this.other),
            )
            .with_universe_of(events)
        )
        columns |= {f"{entity}_{of}_{window}": reduced[of] for of in ("count", "sum", "avg", "max", "distinct")}
    return columns


def _tested(events: pw.Table) -> Any:
    """The card's last tiny or large payment before a large one is a tiny one, and within the span."""
    telling = events.filter((pw.this.amount_minor < TINY_MINOR) | (pw.this.amount_minor > LARGE_MINOR))
    telling += telling.sort(key=pw.this.event_time, instance=pw.this.pan)
    before = telling.ix(telling.prev, optional=True)
    done = telling.filter(
        (telling.amount_minor > LARGE_MINOR)
        & (pw.coalesce(before.amount_minor, LARGE_MINOR) < TINY_MINOR)
        & (telling.event_time - pw.coalesce(before.event_time, 0) < SEQUENCE_US)
    )
    return events.select(done=False).update_cells(done.select(done=True)).done


def _judge(job: Job) -> Any:
    judge = Judge(job.model).judge

    @pw.udf(max_batch_size=500, deterministic=True)
    def judged(*columns: list[Any]) -> list[tuple[float, int, int]]:
        *features, amounts, tested = columns
        return judge(list(zip(map(list, zip(*features, strict=True)), amounts, tested, strict=True)))

    return judged


if __name__ == "__main__":
    serve(run)
