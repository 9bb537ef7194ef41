"""What a system's answers are compared with: the naive twins of the tests, over a sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from tests.kernel import match_twin, twin

from benchmarks.peers.plain import Judge
from benchmarks.workload import (
    AGGREGATES,
    ENTITIES,
    FEATURES,
    LARGE_MINOR,
    LATENESS_US,
    OUTPUTS,
    SEQUENCE_US,
    TINY_MINOR,
    WINDOWS_US,
)
from tidegate.kernel.plan import EVERY_ROW, Aggregate, Entity, Window, WindowPlan
from tidegate.kernel.sequences.patterns import One, Repeat, Then

#: How far two systems' doubles may be apart: they add up in another order, or divide otherwise.
SAME = 1e-9

_TINY, _OTHER, _LARGE = range(3)


def expected(events: pa.Table, model: Path) -> pa.Table:
    """number, and all that the full workload asks for."""
    rows = events.to_pylist()
    features = [[*row.values()][1:] for row in expected_features(events).to_pylist()]
    tested = _tested(rows)
    judged = Judge(model).judge(
        [(values, row["amount_minor"], done) for values, row, done in zip(features, rows, tested, strict=True)]
    )
    whole = [
        (row["number"], *values, done, *judgement)
        for row, values, done, judgement in zip(rows, features, tested, judged, strict=True)
    ]
    return pa.table(dict(zip(("number", *OUTPUTS["full"]), map(list, zip(*whole, strict=True)), strict=True)))


def expected_features(events: pa.Table) -> pa.Table:
    """number, and all that the workload of windows asks for."""
    rows = events.to_pylist()
    windows = tuple(Window(entity, length_us) for entity in range(len(ENTITIES)) for length_us in WINDOWS_US.values())
    others = sorted({other for _, other in ENTITIES.values()})
    lane_of = {other: 1 + place for place, other in enumerate(others)}
    aggregates = tuple(
        Aggregate(function, place, lane)
        for place, window in enumerate(windows)
        for function, lane in (
            ("count", EVERY_ROW),
            ("sum", 0),
            ("max", 0),
            ("count_distinct", lane_of[tuple(ENTITIES.values())[window.entity][1]]),
        )
    )
    naive = twin.Twin(
        WindowPlan(
            entities=tuple(Entity((key,)) for key, _ in ENTITIES.values()),
            windows=windows,
            lanes=tuple(range(1 + len(others))),
            label_lanes=(),
            aggregates=aggregates,
            lateness_us=LATENESS_US,
            dedupe_us=0,
            ahead_us=max(WINDOWS_US.values()),
        )
    )
    answers = [
        naive.apply(
            twin.Row(
                row["event_time"],
                row["number"],
                tuple(row[key] for key, _ in ENTITIES.values()),
                (row["amount_minor"], *(hash(row[other]) for other in others)),
            )
        )
        for row in rows
    ]
    whole = [
        (
            row["number"],
            *(
                value
                for count, total, most, distinct in zip(*[iter(answer.values)] * 4, strict=True)
                for value in (count, total, total / count, most, distinct)
            ),
        )
        for row, answer in zip(rows, answers, strict=True)
    ]
    return pa.table(dict(zip(("number", *FEATURES), map(list, zip(*whole, strict=True)), strict=True)))


def _tested(rows: list[dict]) -> list[bool]:
    naive = match_twin.Twin(
        Then((One(_TINY), Repeat(One(_OTHER), 0, None, greedy=False), One(_LARGE))),
        (
            lambda _, row: row.values[0] < TINY_MINOR,
            lambda _, __: True,
            lambda _, row: row.values[0] > LARGE_MINOR,
        ),
        SEQUENCE_US,
        LATENESS_US,
    )
    return [
        naive.apply(
            match_twin.Row(row["event_time"], row["number"], row["pan"], (row["amount_minor"],)), row["number"]
        )[0]
        is not None
        for row in rows
    ]


def mismatches(answers: pa.Table, wanted: pa.Table, workload: str) -> tuple[int, list[str]]:
    """How many of the values differ, and the kinds of outputs that do; an event without an answer differs in all."""
    answers = answers.sort_by("number")
    place = np.searchsorted(answers["number"].to_numpy(), wanted["number"].to_numpy())
    found = np.isin(wanted["number"].to_numpy(), answers["number"].to_numpy())
    wrong, kinds = 0, set[str]()
    for name in OUTPUTS[workload]:
        right = _doubles(wanted[name])
        told = np.full(len(right), np.nan)
        told[found] = _doubles(answers[name])[place[found]]
        differs = ~(np.abs(told - right) <= SAME * np.maximum(1, np.abs(right)))
        wrong += int(differs.sum())
        if differs.any():
            kinds.add(next((of for of in AGGREGATES if name in FEATURES and f"_{of}_" in name), name))
    return wrong, sorted(kinds)


def _doubles(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.cast(pa.int8() if pa.types.is_boolean(column.type) else column.type).to_pylist(), float)
