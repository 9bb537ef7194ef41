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
    ANSWER_SQUARES,
    ANSWER_WINDOW,
    ANSWER_WORDS,
    ANSWERS,
    ANSWERS_END,
    COUNT,
    COUNTED_ANSWERS,
    DISTINCT,
    ENTITY_ANSWERS,
    ENTITY_ANSWERS_END,
    ENTITY_NUMBER,
    EXCLUDES_ROW,
    EXTREME,
    SUM,
    UPPER,
    VALID_COUNT,
    VAR_POP,
    VAR_SAMP,
)
from tidegate.kernel.variance import variance_bits

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
    counted: Any,
    clock: Any,
    floor: Any,
    unlabelled: Any,
    answers: Any,
    i: Any,
) -> None:
    """Answer a row: what excludes it before it is counted in, the rest once it is (`counted`). Its key's state is as of
    the row's time, the chains as of the clock. `unlabelled`: there are labels between these times.
    """
    first = layout[entity + (COUNTED_ANSWERS if counted else ENTITY_ANSWERS)]
    end = layout[entity + (ENTITY_ANSWERS_END if counted else COUNTED_ANSWERS)]
    for answer in range(first, end, ANSWER_WORDS):
        kind, source = layout[answer + ANSWER_KIND], layout[answer + ANSWER_FROM]
        known = True
        if kind == SUM:
            value = _sum(log, slot + source)
            known = log.heap[slot + layout[answer + VALID_COUNT]] > 0
        elif kind == EXTREME:
            window, number = layout[answer + ANSWER_WINDOW], layout[entity + ENTITY_NUMBER]
            known, value = extreme_of(log, layout, number, slot, window, source, row, counted, clock, floor, unlabelled)
        elif kind == VAR_SAMP or kind == VAR_POP:  # noqa: PLR1714, SIM109 - numba would build a set
            count = log.heap[slot + layout[answer + VALID_COUNT]]
            divisor = count - 1 if kind == VAR_SAMP else count
            known, value = divisor > 0, 0
            if known:
                value = variance_bits(log, slot + source, slot + layout[answer + ANSWER_SQUARES], count, divisor)
        else:
            value = log.heap[slot + source]
        answers.values[i, layout[answer + AGGREGATE]] = value
        answers.valid[i, layout[answer + AGGREGATE]] = known


@compiled
def answer_alone(layout: Any, arrivals: Any, answers: Any, i: Any) -> None:
    """Answer a row that sees nothing but itself, and of which no label is known."""
    for answer in range(layout[ANSWERS], layout[ANSWERS_END], ANSWER_WORDS):
        kind, lane = layout[answer + ANSWER_KIND], layout[answer + ANSWER_LANE]
        seen = (
            layout[layout[answer + ANSWER_WINDOW] + UPPER] == 0
            and not layout[answer + EXCLUDES_ROW]
            and (lane < 0 or (arrivals.valid[i] >> lane) & 1 == 1)
        )
        is_count = kind == COUNT or kind == DISTINCT  # noqa: PLR1714 - numba would build a set
        value = 0
        if seen and is_count:
            value = 1
        elif seen and kind != VAR_POP:
            value = arrivals.lanes[lane, i]
        answers.values[i, layout[answer + AGGREGATE]] = value
        answers.valid[i, layout[answer + AGGREGATE]] = is_count or (seen and kind != VAR_SAMP)
