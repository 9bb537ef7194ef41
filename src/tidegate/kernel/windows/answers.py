"""From running values to a row's answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.kernel.machine.compiled import compiled
from tidegate.kernel.windows.columns import cell
from tidegate.kernel.windows.extremes import extreme_of
from tidegate.kernel.windows.layout import (
    AGGREGATE,
    ALONE_BIT,
    ALONE_VALUE,
    ANSWER_FRONT,
    ANSWER_KIND,
    ANSWER_WINDOW,
    ANSWER_WORDS,
    COUNT,
    COUNTED_ANSWERS,
    CURSOR,
    DISTINCT,
    ENTITY_ANSWERS,
    ENTITY_ANSWERS_END,
    ENTITY_NUMBER,
    EXCLUDES_ROW,
    FIRST,
    HIGH,
    HIGH_TIME,
    LAST,
    LOW,
    LOW_TIME,
    QUANTILE_DISC,
    SOURCE,
    SQUARES_AT,
    SUM,
    UPPER,
    VALID_COUNT,
    VAR_POP,
    VAR_SAMP,
)
from tidegate.kernel.windows.quantiles import quantile_of
from tidegate.kernel.windows.rowlog import NIL, VALID, is_from, of_slot, place, verdict_of_row
from tidegate.kernel.windows.variance import variance_bits

_LARGEST, _SMALLEST = 2**63 - 1, -(2**63)

# What the upper half of an int64 is below.
_HALF_RANGE = 2**31


@compiled
def _sum(heap: Any, running: Any) -> Any:
    lower = heap[running + 1]
    upper = heap[running] + (lower >> 32)
    if upper >= _HALF_RANGE:
        return _LARGEST
    if upper < -_HALF_RANGE:
        return _SMALLEST
    return (upper << 32) | (lower & 0xFFFFFFFF)


@compiled
def _end_of_frame(rows: Any, layout: Any, answer: Any, slot: Any) -> Any:
    """Whether the first or the last row of a frame is there and has a value, and the value."""
    window, source = layout[answer + ANSWER_WINDOW], layout[answer + SOURCE]
    row = of_slot(rows, slot, layout[layout[answer + ANSWER_FRONT] + HIGH])
    low, low_time = of_slot(rows, slot, layout[window + LOW]), rows.heap[slot + layout[window + LOW_TIME]]
    if row == NIL or not is_from(
        rows, row, rows.heap[slot + layout[layout[answer + ANSWER_FRONT] + HIGH_TIME]], low, low_time
    ):
        return False, np.int64(0)
    if layout[answer + ANSWER_KIND] == FIRST:
        row = low
    word, verdict = place(rows, row), verdict_of_row(rows, row)
    is_valid = (rows.heap[word + VALID] >> layout[source + verdict]) & 1 == 1
    return is_valid, rows.heap[word + layout[source + 3 + verdict]]


@compiled
def answer_row(rows: Any, layout: Any, entity: Any, slot: Any, counted: Any, answers: Any, i: Any) -> None:
    """Answer a row: what excludes it before it is counted in, the rest once it is (`counted`). Its key's state is as of
    the row's time.
    """
    first = layout[entity + (COUNTED_ANSWERS if counted else ENTITY_ANSWERS)]
    end = layout[entity + (ENTITY_ANSWERS_END if counted else COUNTED_ANSWERS)]
    for answer in range(first, end, ANSWER_WORDS):
        kind, source = layout[answer + ANSWER_KIND], layout[answer + SOURCE]
        known, value = True, np.int64(0)
        if kind in (COUNT, DISTINCT):
            value = of_slot(rows, slot, source)
        elif kind == SUM:
            value = _sum(rows.heap, slot + source)
            known = of_slot(rows, slot, layout[answer + VALID_COUNT]) > 0
        elif kind in (VAR_SAMP, VAR_POP):
            count = of_slot(rows, slot, layout[answer + VALID_COUNT])
            divisor = count - 1 if kind == VAR_SAMP else count
            known = divisor > 0
            if known:
                value = variance_bits(rows.heap, slot + source, slot + layout[answer + SQUARES_AT], count, divisor)
        elif kind in (FIRST, LAST):
            known, value = _end_of_frame(rows, layout, answer, slot)
        elif kind >= QUANTILE_DISC:
            known, value = quantile_of(rows, layout, slot, kind, source)
        else:
            front, cursor = layout[answer + ANSWER_FRONT], layout[answer + CURSOR]
            window = layout[answer + ANSWER_WINDOW]
            low, low_time = of_slot(rows, slot, layout[window + LOW]), rows.heap[slot + layout[window + LOW_TIME]]
            known, value = extreme_of(rows, layout, front, source, cursor, slot, low, low_time)
        where = cell(answers, layout[answer + AGGREGATE], i)
        answers.values[where] = value
        answers.valid[where] = known


@compiled
def answer_alone(layout: Any, entity: Any, arrivals: Any, answers: Any, i: Any) -> None:
    """Answer a row that sees nothing of an entity's rows but itself, and of which no label is known."""
    valid = arrivals.valid[cell(arrivals, layout[entity + ENTITY_NUMBER], i)]
    for answer in range(layout[entity + ENTITY_ANSWERS], layout[entity + ENTITY_ANSWERS_END], ANSWER_WORDS):
        kind, bit = layout[answer + ANSWER_KIND], layout[answer + ALONE_BIT]
        seen = (
            layout[layout[answer + ANSWER_FRONT] + UPPER] == 0
            and not layout[answer + EXCLUDES_ROW]
            and (bit < 0 or (valid >> bit) & 1 == 1)
        )
        is_count = kind in (COUNT, DISTINCT)
        value = np.int64(0)
        if seen and is_count:
            value = np.int64(1)
        elif seen and kind != VAR_POP:
            value = arrivals.values[cell(arrivals, layout[answer + ALONE_VALUE], i)]
        where = cell(answers, layout[answer + AGGREGATE], i)
        answers.values[where] = value
        answers.valid[where] = is_count or (seen and kind != VAR_SAMP)
