"""A plan laid out as one array of int64, as the loops of the window engine read it.

It begins with what is said once, then come the records of entities, windows, accumulators, extremes and answers, each
named by where it lies; a record's words are named below. Windows are ordered by entity, accumulators and extremes by
window, answers by entity, so that a record names what belongs to it by a start and an end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tidegate.errors import UsageError
from tidegate.kernel import rowlog
from tidegate.kernel.plan import MAX_LANES, Aggregate, WindowPlan

#: Longest span of time in a plan, some 146,000 years: times within as much of 1970 can be added to it in 64 bits.
MAX_SPAN_US = 2**62

#: An accumulator's number shares a 64-bit word with the slot that it is of.
ACCUMULATOR_BITS = 16

# What is said once. HORIZON: how much older than the newest row a row may be to be kept, microseconds, as LATENESS is.
# LABELLED: whether any lane reads a label. DISTINCTS: how many accumulators are of COUNT DISTINCT.
HORIZON, LATENESS, LABELLED, DISTINCTS, ENTITIES, ENTITIES_END, ANSWERS, ANSWERS_END = 0, 1, 2, 3, 4, 5, 6, 7
# SLOT_WORDS: of the widest slot. CURSOR_WORDS: how many of them, at the start, are its key and its cursors.
SLOT_WORDS, CURSOR_WORDS, ONCE = 8, 9, 10

# The answers up to COUNTED_ANSWERS exclude the row, and are given before it is counted in; the others after.
ENTITY_NUMBER, WINDOWS, WINDOWS_END, ENTITY_ANSWERS, COUNTED_ANSWERS, ENTITY_ANSWERS_END = 0, 1, 2, 3, 4, 5
ENTITY_WORDS = 6

# EDGES: the first of the slot's words that are the window's edges. WINDOW_DISTINCTS: as DISTINCTS, of the window.
LOWER, UPPER, EDGES, WINDOW_DISTINCTS = 0, 1, 2, 3
ACCUMULATORS, ACCUMULATORS_END, EXTREMES, EXTREMES_END, WINDOW_WORDS = 4, 5, 6, 7, 8

# RUNNING: the slot's word that is the running value. A sum has two: of the upper halves of its values, which are
# signed, and of the lower ones, so that it is exact for as many rows as a log can hold, whatever their values.
# A sum of squares has four, each of 32 bits of the squares. LANE_BY_VERDICT: three words; a lane of -1 counts every
# row.
KIND, RUNNING, NUMBER, LANE_BY_VERDICT, ACCUMULATOR_WORDS = 0, 1, 2, 3, 6
COUNT, SUM, DISTINCT, SQUARES, EXTREME = 0, 1, 2, 3, 4

# TURN: what a value is exclusive-ored with before it is compared: 0 for MAX; -1, which turns the order round, for MIN.
# CHAIN: the row's link to its next in the chain; its previous follows. ENDS: the slot's word that is the chain's first
# row; its last follows.
TURN, CHAIN, ENDS, EXTREME_LANE_BY_VERDICT, EXTREME_WORDS = 0, 1, 2, 3, 6

# ANSWER_FROM: the slot's word that is the running value, or the record of the extreme. VALID_COUNT: of a sum or a
# variance, the slot's word that counts its valid rows; ANSWER_SQUARES: the first that sums their squares. ANSWER_LANE:
# with the label unknown.
AGGREGATE, ANSWER_WINDOW, ANSWER_KIND, ANSWER_FROM, VALID_COUNT, ANSWER_SQUARES, ANSWER_LANE = 0, 1, 2, 3, 4, 5, 6
EXCLUDES_ROW, ANSWER_WORDS = 7, 8
# An answer's kind is that of its accumulator, or one of these.
VAR_SAMP, VAR_POP = 5, 6

_EVERY_ROW = -1
_KINDS = {
    "count": COUNT,
    "sum": SUM,
    "count_distinct": DISTINCT,
    "min": EXTREME,
    "max": EXTREME,
    "var_samp": VAR_SAMP,
    "var_pop": VAR_POP,
}
_WORDS = {COUNT: 1, SUM: 2, DISTINCT: 1, SQUARES: 4}


def check(plan: WindowPlan) -> None:
    """
    Raises:
        UsageError: the plan asks for what cannot be answered.
    """
    if plan.lane_count > MAX_LANES:
        raise UsageError(f"window plan: {plan.lane_count} lanes; at most {MAX_LANES} can be kept; use fewer aggregates")
    for window in plan.windows:
        if not 0 <= window.upper_us <= window.lower_us <= MAX_SPAN_US:
            raise UsageError(
                f"window plan: a frame from {window.lower_us} to {window.upper_us} us before the row; wanted "
                f"0 <= end <= start <= {MAX_SPAN_US}"
            )
        if window.entity not in range(len(plan.entities)):
            raise UsageError(f"window plan: no entity {window.entity}; there are {len(plan.entities)}")
    for aggregate in plan.aggregates:
        first_lane = _EVERY_ROW if aggregate.function == "count" else 0
        if aggregate.window not in range(len(plan.windows)) or aggregate.lane not in range(first_lane, plan.lane_count):
            raise UsageError(f"window plan: {aggregate} names a window or a lane that is not there")
    if not (0 <= plan.lateness_us <= MAX_SPAN_US and 0 <= plan.dedupe_us <= MAX_SPAN_US):
        raise UsageError(f"window plan: lateness and dedupe must be from 0 to {MAX_SPAN_US} us")


@dataclass(frozen=True, slots=True)
class _Running:
    """What is kept of a window: an accumulator, or an extreme (MIN or MAX)."""

    window: int
    kind: int
    lane: int
    turn: int = 0


def _running(aggregate: Aggregate) -> list[_Running]:
    """A sum also needs the count of its valid rows, and a variance a sum and the sum of squares; aggregates of the same
    lane share them, with and without the row that is answered.
    """
    match aggregate.function:
        case "min" | "max":
            return [_Running(aggregate.window, EXTREME, aggregate.lane, -1 if aggregate.function == "min" else 0)]
        case "sum":
            kinds = [SUM, COUNT]
        case "var_samp" | "var_pop":
            kinds = [SUM, COUNT, SQUARES]
        case _:
            kinds = [_KINDS[aggregate.function]]
    return [_Running(aggregate.window, kind, aggregate.lane) for kind in kinds]


def _answer(
    place: int, aggregate: Aggregate, window_at: Mapping[int, int], where: Mapping[_Running, int]
) -> tuple[int, ...]:
    """The record of an answer."""
    first, count, squares = [*(where[running] for running in _running(aggregate)), 0, 0][:3]
    kind, window = _KINDS[aggregate.function], window_at[aggregate.window]
    return place, window, kind, first, count, squares, aggregate.lane, aggregate.excludes_row


def lay_out(plan: WindowPlan) -> np.ndarray:
    """int64[...]

    Raises:
        UsageError: the plan asks for what cannot be answered.
    """
    check(plan)
    by_verdict = {lane.lane: (lane.lane, lane.if_genuine, lane.if_fraud) for lane in plan.label_lanes}
    entity_count = len(plan.entities)
    windows_of = [
        [number for number, window in enumerate(plan.windows) if window.entity == entity]
        for entity in range(entity_count)
    ]
    # A dict keeps each once, in order.
    kept = list(dict.fromkeys(running for aggregate in plan.aggregates for running in _running(aggregate)))

    def kept_of(window: int, *, extremes: bool) -> list[_Running]:
        return [running for running in kept if running.window == window and (running.kind == EXTREME) == extremes]

    cursor_words = max(
        (
            rowlog.CURSORS
            + rowlog.EDGE_WORDS * len(windows)
            + 2 * sum(len(kept_of(window, extremes=True)) for window in windows)
            for windows in windows_of
        ),
        default=rowlog.CURSORS,
    )
    words = [0] * (ONCE + ENTITY_WORDS * entity_count)
    where: dict[_Running, int] = {}
    """The slot's word that is the running value, or the record of the extreme."""
    window_at: dict[int, int] = {}
    slot_words, chain, number = cursor_words, 1 + rowlog.LINKS_AN_ENTITY * entity_count, 0
    for entity, windows in enumerate(windows_of):
        entity_at = ONCE + ENTITY_WORDS * entity
        words[entity_at : entity_at + 3] = [entity, len(words), len(words) + WINDOW_WORDS * len(windows)]
        window_at |= {window: len(words) + WINDOW_WORDS * place for place, window in enumerate(windows)}
        words += [0] * (WINDOW_WORDS * len(windows))
        cursor, word = rowlog.CURSORS, cursor_words
        for window in windows:
            frame, accumulators = plan.windows[window], kept_of(window, extremes=False)
            record = [frame.lower_us, frame.upper_us, cursor]
            record.append(sum(running.kind == DISTINCT for running in accumulators))
            cursor += rowlog.EDGE_WORDS
            record.append(len(words))
            for running in accumulators:
                where[running] = word
                words += [running.kind, word, number, *by_verdict.get(running.lane, (running.lane,) * 3)]
                word += _WORDS[running.kind]
                number += 1
            record += [len(words), len(words)]
            for running in kept_of(window, extremes=True):
                where[running] = len(words)
                words += [running.turn, chain, cursor, *by_verdict.get(running.lane, (running.lane,) * 3)]
                chain, cursor = chain + 2, cursor + 2
            record.append(len(words))
            words[window_at[window] : window_at[window] + WINDOW_WORDS] = record
        slot_words = max(slot_words, word)
    if number > 2**ACCUMULATOR_BITS:
        raise UsageError(f"window plan: {number} running values; at most {2**ACCUMULATOR_BITS}; use fewer aggregates")
    answers_at = len(words)
    for entity, windows in enumerate(windows_of):
        edges = [len(words)]
        for excludes_row in (True, False):
            chosen = [
                place
                for place, aggregate in enumerate(plan.aggregates)
                if aggregate.window in windows and aggregate.excludes_row == excludes_row
            ]
            for place in chosen:
                words += _answer(place, plan.aggregates[place], window_at, where)
            edges.append(len(words))
        entity_at = ONCE + ENTITY_WORDS * entity
        words[entity_at + ENTITY_ANSWERS : entity_at + ENTITY_WORDS] = edges
    widest = max((window.lower_us for window in plan.windows), default=0)
    words[:ONCE] = [
        min(max(widest + plan.lateness_us, plan.dedupe_us), MAX_SPAN_US),
        plan.lateness_us,
        bool(plan.label_lanes),
        sum(running.kind == DISTINCT for running in kept),
        ONCE,
        ONCE + ENTITY_WORDS * entity_count,
        answers_at,
        len(words),
        slot_words,
        cursor_words,
    ]
    return np.array(words, np.int64)


def link_count(plan: WindowPlan) -> int:
    """How many links a row has."""
    extremes = {(aggregate.function, aggregate.window, aggregate.lane) for aggregate in plan.aggregates}
    chains = sum(function in {"min", "max"} for function, _, _ in extremes)
    return 1 + rowlog.LINKS_AN_ENTITY * len(plan.entities) + 2 * chains
