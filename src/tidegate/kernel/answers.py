"""From running values to a row's answers."""

from __future__ import annotations

from typing import Any

from tidegate.kernel.compiled import compiled
from tidegate.kernel.extremes import extreme_of
from tidegate.kernel.layout import (
    AGGREGATE,
    ANSWER_FROM,
    ANSWER_KIND,
    ANSWER_LANE,
    ANSWER_WINDOW,
    ANSWER_WORDS,
    ANSWERS,
    ANSWERS_END,
    COUNT,
    DISTINCT,
    ENTITY_ANSWERS,
    ENTITY_ANSWERS_END,
    ENTITY_NUMBER,
    EXTREME,
    SUM,
    UPPER,
    VALID_COUNT,
)

_LARGEST, _SMALLEST = 2**63 - 1, -(2**63)

# What the upper half of an int64 is below.
_HALF_RANGE = 2**31


@compiled
def _sum(log: Any, running: Any) -> Any:
    lower = log.heap[running + 1]
    upper = log.heap[running] + (lower >> 32)
    if upper >= _HALF_RANGE:
        return _LARGEST
    if upper < -_HALF_RANGE:
        return _SMALLEST
    return (upper << 32) | (lower & 0xFFFFFFFF)


@compiled
def answer_row(
    log: Any,
    layout: Any,
    entity: Any,
    slot: Any,
    row: Any,
    clock: Any,
    floor: Any,
    unlabelled: Any,
    answers: Any,
    i: Any,
) -> None:
    """Answer a row just counted in. Its key's state is as of the row's time, the chains as of the clock. `unlabelled`:
    there are labels between these times.
    """
    for answer in range(layout[entity + ENTITY_ANSWERS], layout[entity + ENTITY_ANSWERS_END], ANSWER_WORDS):
        kind, source = layout[answer + ANSWER_KIND], layout[answer + ANSWER_FROM]
        known = True
        if kind == SUM:
            value = _sum(log, slot + source)
            known = log.heap[slot + layout[answer + VALID_COUNT]] > 0
        elif kind == EXTREME:
            window, number = layout[answer + ANSWER_WINDOW], layout[entity + ENTITY_NUMBER]
            known, value = extreme_of(log, layout, number, slot, window, source, row, clock, floor, unlabelled)
        else:
            value = log.heap[slot + source]
        answers.values[i, layout[answer + AGGREGATE]] = value
        answers.valid[i, layout[answer + AGGREGATE]] = known


@compiled
def answer_alone(layout: Any, arrivals: Any, answers: Any, i: Any) -> None:
    """Answer a row that sees nothing but itself, and of which no label is known."""
    for answer in range(layout[ANSWERS], layout[ANSWERS_END], ANSWER_WORDS):
        kind, lane = layout[answer + ANSWER_KIND], layout[answer + ANSWER_LANE]
        seen = layout[layout[answer + ANSWER_WINDOW] + UPPER] == 0 and (
            lane < 0 or (arrivals.valid[i] >> lane) & 1 == 1
        )
        is_count = kind == COUNT or kind == DISTINCT  # noqa: PLR1714 - numba would build a set
        value = 0
        if seen:
            value = 1 if is_count else arrivals.lanes[lane, i]
        answers.values[i, layout[answer + AGGREGATE]] = value
        answers.valid[i, layout[answer + AGGREGATE]] = is_count or seen
