"""A plan laid out as one array of int64, as the loops of the window engine read it.

It begins with what is said once, then come the records of entities, of their fronts (the windows whose frames end
alike), windows, accumulators, chains (for MIN and MAX), occurrences (for COUNT DISTINCT) and answers, each named by
where it lies; a record's words are named below. A record names what belongs to it by a start and an end.

Every entity's rows and slots have their own words: a slot has room for its entity's windows and no others. A word is
said by its number in the row or slot, a half of one by that of the half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tidegate.kernel.machine.table import TABLE_REGISTERS
from tidegate.kernel.plan import EVERY_ROW, MAX_ROWS, NO_VALUE, Aggregate, Window, WindowPlan
from tidegate.kernel.windows import rowlog

#: Longest span of time in a plan, some 146,000 years: times within as much of 1970 can be added to it in 64 bits.
MAX_SPAN_US = 2**62

# What is said once. EVENT_HORIZON: how much older than the clock an event may be to be remembered, microseconds, as
# LATENESS and AHEAD are.
EVENT_HORIZON, LATENESS, AHEAD, ENTITIES, ENTITIES_END, EVENT_SIZE, LABEL_SIZE, ONCE = range(8)

# REGISTERS: of the entity, in the heap. HORIZON: as EVENT_HORIZON, for its rows. EVERY: whether a row counts that no
# lane counts. LABELS: which of the entities that read labels it is, or -1. NAMES_END: the slot's first half that is
# not a name. Of the fronts, those from ROW_FRONTS on are of `rowframes`, and TIP is the slot's half that is their tip,
# or -1. The first row's value comes from the arrivals' column that stands at VALUES.
(
    ENTITY_NUMBER,
    REGISTERS,
    HORIZON,
    EVERY,
    LABELS,
    ROW_SIZE,
    SLOT_SIZE,
    NAMES_END,
    VALUES,
    VALUES_END,
    FRONTS,
    ROW_FRONTS,
    FRONTS_END,
    TIP,
    OCCURRENCES,
    OCCURRENCES_END,
    ENTITY_ANSWERS,
    COUNTED_ANSWERS,
    ENTITY_ANSWERS_END,
    ENTITY_WORDS,
) = range(20)

# UPPER: how much before the row the frames end, in microseconds, or in rows. HIGH: the slot's half that is the last row
# of the frames. HIGH_TIME: the word that is its time, BEGIN_OF_TIME if there is none: it stands here so that the row
# need not be looked at. BEHIND: the half that counts the rows between it and the tip.
UPPER, HIGH, HIGH_TIME, WINDOWS, WINDOWS_END, CHAINS, CHAINS_END, BEHIND, FRONT_WORDS = range(9)

# LOW: the slot's half that is the first row not older than the frame's start. LOW_TIME: the word that is its time,
# END_OF_TIME if there is none: as HIGH_TIME, to see that the row stays.
# Of `rowframes`, MOST: how many rows there may be in the frame, IN_FRAME: the slot's half that counts them, and GAP:
# the microseconds that end a session, or NO_GAP.
LOWER, LOW, LOW_TIME, ACCUMULATORS, ACCUMULATORS_END, WINDOW_FRONT, MOST, IN_FRAME, GAP, WINDOW_WORDS = range(10)
NO_GAP = -1

# RUNNING: the running value in the slot. A count is a half. A sum has two words: of the upper halves of its values,
# which are signed, and of the lower ones, so that it is exact for as many rows as a log can hold, whatever their
# values. A sum of squares has four, each of 32 bits of the squares. A tree (for quantiles) has a half that is its root.
# ROW_LINKS: of a COUNT DISTINCT, the row's half that links it to the one before of the same value, the next follows; of
# a tree, the first of a row's three halves. BITS: three words, by verdict: the lane's bit
# among the row's valid bits, -1 for every row. VALUE_WORDS: three words too: the row's word that is its value.
KIND, RUNNING, ROW_LINKS, BITS, VALUE_WORDS, ACCUMULATOR_WORDS = 0, 1, 2, 3, 6, 9
COUNT, SUM, DISTINCT, SQUARES, EXTREME, TREE = range(6)

# TURN: what a value is exclusive-ored with before it is compared: 0 for MAX; -1, which turns the order round, for MIN;
# or EARLIEST or LATEST, where the first or last that is there is best, whatever its value.
# CHAIN: the row's half that links it to the next in the chain; the one before follows. ENDS: the slot's half that is
# the chain's first row; its last, the last row that was looked at, and the first row of each window follow.
TURN, CHAIN, ENDS, CURSORS_END, READS_LABEL, CHAIN_BITS, CHAIN_VALUES, CHAIN_WORDS = 0, 1, 2, 3, 4, 5, 8, 11

EARLIEST, LATEST = 1, 2

# The halves at a chain's ENDS: its first and last row, the last row that was looked at, the windows' first rows.
FIRST_IN_CHAIN, LAST_IN_CHAIN, LOOKED_AT, CURSORS = 0, 1, 2, 3

# VALUE_TABLE: its registers. SAME_COLUMN: the value's number among the arrivals' values, with the label unknown.
VALUE_TABLE, SAME, SAME_BITS, SAME_VALUES, SAME_COLUMN, OCCURRENCE_WORDS = 0, 1, 2, 5, 8, 9

# SOURCE: the slot's word or half that is the running value, or the chain. VALID_COUNT: of a sum or a variance, the
# slot's half that counts its valid rows; SQUARES_AT: the first word that sums their squares. CURSOR: of an extreme, the
# slot's half that is the first row of its window in the chain. ALONE_BIT and ALONE_VALUE: with the label unknown, the
# bit among the arrival's, and the number among its values.
AGGREGATE, ANSWER_KIND, SOURCE, VALID_COUNT, SQUARES_AT, CURSOR = 0, 1, 2, 3, 4, 5
ANSWER_WINDOW, ANSWER_FRONT, EXCLUDES_ROW, ALONE_BIT, ALONE_VALUE, ANSWER_WORDS = 6, 7, 8, 9, 10, 11
# An answer's kind is that of its accumulator, or one of these. SOURCE of a first or last value is a record of three
# bits and three words, as BITS and VALUE_WORDS are.
VAR_SAMP, VAR_POP, FIRST, LAST, QUANTILE_DISC, QUANTILE_FLOOR, QUANTILE_CEIL = range(6, 13)

# SOURCE of a quantile is such a record: its tree's accumulator, and its share.
TREE_ACCUMULATOR, NUMERATOR, DENOMINATOR = 0, 1, 2

_TURNS = {"min": -1, "max": 0, "first_known": EARLIEST, "last_known": LATEST}

_KINDS = {
    "count": COUNT,
    "sum": SUM,
    "count_distinct": DISTINCT,
    **dict.fromkeys(_TURNS, EXTREME),
    "var_samp": VAR_SAMP,
    "var_pop": VAR_POP,
    "first_value": FIRST,
    "last_value": LAST,
    "quantile_disc": QUANTILE_DISC,
    "quantile_floor": QUANTILE_FLOOR,
    "quantile_ceil": QUANTILE_CEIL,
}
_QUANTILES = ("quantile_disc", "quantile_floor", "quantile_ceil")
_WORDS = {SUM: 2, SQUARES: 4}


def _by_verdict(plan: WindowPlan) -> dict[int, tuple[int, int, int]]:
    """The lane that counts, by the verdict: unknown, genuine, fraud."""
    plain = {lane: (lane, lane, lane) for lane in range(EVERY_ROW, len(plan.lanes))}
    return plain | {lane.lane: (lane.lane, lane.if_genuine, lane.if_fraud) for lane in plan.label_lanes}


def lanes_by_entity(plan: WindowPlan) -> list[list[int]]:
    """The lanes that count in each entity's windows: where a lane stands here is its bit among a row's valid bits."""
    by_verdict, lanes = _by_verdict(plan), [set[int]() for _ in plan.entities]
    for aggregate in plan.aggregates:
        lanes[plan.windows[aggregate.window].entity].update(by_verdict[aggregate.lane])
    return [sorted(of_one - {EVERY_ROW}) for of_one in lanes]


def _widest(windows: Sequence[Window]) -> int:
    return max((window.lower_us for window in windows), default=0)


def frame_end(window: Window) -> tuple[bool, int]:
    """Where a frame ends: whether that is so many rows before the row, or microseconds, and how many."""
    if window.rows is not None:
        return True, window.rows[1]
    return window.gap_us is not None, window.upper_us


@dataclass(frozen=True, slots=True)
class _Running:
    """What is kept of a window: an accumulator, an extreme, or nothing: its first or last row is known."""

    window: int
    kind: int
    lane: int
    turn: int = 0


def _running(aggregate: Aggregate) -> list[_Running]:
    """A sum also needs the count of its valid rows, and a variance a sum and the sum of squares; aggregates of the same
    lane share them, with and without the row that is answered.
    """
    match aggregate.function:
        case function if function in _TURNS:
            return [_Running(aggregate.window, EXTREME, aggregate.lane, _TURNS[function])]
        case "sum":
            kinds = [SUM, COUNT]
        case "var_samp" | "var_pop":
            kinds = [SUM, COUNT, SQUARES]
        case function if function in _QUANTILES:
            kinds = [TREE]
        case _:
            kinds = [_KINDS[aggregate.function]]
    return [_Running(aggregate.window, kind, aggregate.lane) for kind in kinds]


@dataclass
class _EntityLayout:
    """Words and halves of one entity's rows and slots, as they are given out while its records are written: `names` and
    `row_halves` of them so far.
    """

    plan: WindowPlan
    number: int
    words: list[int]
    """The layout so far."""
    lanes: list[int]
    where: dict[_Running, int] = field(default_factory=dict[_Running, int])
    """The slot's word or half that is the running value, or the record of the chain."""
    cursors: dict[_Running, int] = field(default_factory=dict[_Running, int])
    windows_at: dict[int, int] = field(default_factory=dict[int, int])
    fronts_at: dict[int, int] = field(default_factory=dict[int, int])
    """By window, as the records of windows are."""

    def __post_init__(self) -> None:
        plan = self.plan
        self.by_verdict = _by_verdict(plan)
        self.windows = [number for number, window in enumerate(plan.windows) if window.entity == self.number]
        aggregates = [aggregate for aggregate in plan.aggregates if aggregate.window in self.windows]
        # A dict keeps each once, in order.
        self.kept = list(dict.fromkeys(running for aggregate in aggregates for running in _running(aggregate)))
        self.values = sorted({plan.lanes[lane] for lane in self.lanes} - {NO_VALUE})
        self.distinct_lanes = list(dict.fromkeys(running.lane for running in self.kept if running.kind == DISTINCT))
        read = {running.lane for running in self.kept}
        self.reads_labels = any(lane.lane in read for lane in plan.label_lanes)
        self.names = rowlog.PENDING + 1 if self.reads_labels else rowlog.APPLIED
        self.row_halves = 2 * (rowlog.ROW_WORDS + len(self.values))
        self.same = {lane: self._of_row(2) for lane in self.distinct_lanes}
        self.trees = {running: self._of_row(3) for running in self.kept if running.kind == TREE}
        self.accumulators_at: dict[_Running, int] = {}
        self.quantiles_at: dict[Aggregate, int] = {}

    def _of_row(self, halves: int) -> int:
        self.row_halves += halves
        return self.row_halves - halves

    def _name(self, halves: int = 1) -> int:
        self.names += halves
        return self.names - halves

    def _bits(self, lane: int) -> list[int]:
        return [-1 if one == EVERY_ROW else self.lanes.index(one) for one in self.by_verdict[lane]]

    def _value_words(self, lane: int) -> list[int]:
        values = [NO_VALUE if one == EVERY_ROW else self.plan.lanes[one] for one in self.by_verdict[lane]]
        return [rowlog.ROW_WORDS + self.values.index(value) if value != NO_VALUE else -1 for value in values]

    def _record(self, size: int) -> int:
        self.words += [0] * size
        return len(self.words) - size

    def write(self, at: int, labels: int, registers: int) -> int:
        """Write the entity's record `at`, and all that belong to it; how many registers it has."""
        plan = self.plan
        windows = [plan.windows[window] for window in self.windows]
        values_at = len(self.words)
        self.words += self.values
        values_end = len(self.words)
        ends = sorted({frame_end(window) for window in windows})
        fronts_at = self._record(FRONT_WORDS * len(ends))
        for front, end in enumerate(ends):
            self._write_front(fronts_at + FRONT_WORDS * front, end)
        row_fronts_at = fronts_at + FRONT_WORDS * sum(not of_rows for of_rows, _ in ends)
        fronts_end = fronts_at + FRONT_WORDS * len(ends)
        tip = self._name() if row_fronts_at != fronts_end else -1
        self.where |= {running: self._name() for running in self.trees}
        names_end = self.names
        self._give_out_running()
        self._write_ends()
        self._write_quantiles()
        occurrences_at = len(self.words)
        for place, lane in enumerate(self.distinct_lanes):
            table = registers + rowlog.ENTITY_REGISTERS + TABLE_REGISTERS * place
            self.words += [table, self.same[lane], *self._bits(lane), *self._value_words(lane)]
            self.words.append(plan.lanes[lane])
        edges = self._write_answers(occurrences_at + OCCURRENCE_WORDS * len(self.distinct_lanes))
        record = [self.number, registers, _widest(windows) + plan.lateness_us]
        every = tip >= 0 or any(running.lane == EVERY_ROW or running.kind in (FIRST, LAST) for running in self.kept)
        record += [every, labels if self.reads_labels else -1]
        record += [(self.row_halves + 1) // 2, self.slot_words, names_end, values_at, values_end]
        record += [fronts_at, row_fronts_at, fronts_end, tip, occurrences_at, edges[0], *edges]
        self.words[at : at + ENTITY_WORDS] = [min(word, MAX_SPAN_US) for word in record]
        return rowlog.ENTITY_REGISTERS + TABLE_REGISTERS * len(self.distinct_lanes)

    def _write_front(self, at: int, end: tuple[bool, int]) -> None:
        windows = [window for window in self.windows if frame_end(self.plan.windows[window]) == end]
        windows_at = self._record(WINDOW_WORDS * len(windows))
        high = self._name()
        for place, window in enumerate(windows):
            self.windows_at[window], self.fronts_at[window] = windows_at + WINDOW_WORDS * place, at
            self.words[self.windows_at[window] + LOWER] = self.plan.windows[window].lower_us
            self.words[self.windows_at[window] + LOW] = self._name()
            self.words[self.windows_at[window] + WINDOW_FRONT] = at
            gap_us = self.plan.windows[window].gap_us
            self.words[self.windows_at[window] + GAP] = NO_GAP if gap_us is None else gap_us
            first, last = self.plan.windows[window].rows or (MAX_ROWS, 0)
            self.words[self.windows_at[window] + MOST] = min(first - last + 1, MAX_ROWS)
        chains_at = len(self.words)
        extremes = [running for running in self.kept if running.kind == EXTREME and running.window in windows]
        for lane, turn in dict.fromkeys((running.lane, running.turn) for running in extremes):
            sharing = [running for running in extremes if (running.lane, running.turn) == (lane, turn)]
            ends = self._name(CURSORS + len(sharing))
            self.cursors |= {running: ends + CURSORS + place for place, running in enumerate(sharing)}
            self.where |= dict.fromkeys(sharing, len(self.words))
            reads_label = len(set(self.by_verdict[lane])) > 1
            self.words += [turn, self._of_row(2), ends, self.names, reads_label]
            self.words += [*self._bits(lane), *self._value_words(lane)]
        self.words[at : at + FRONT_WORDS] = [
            end[1],
            high,
            0,
            windows_at,
            windows_at + WINDOW_WORDS * len(windows),
            chains_at,
            len(self.words),
            0,
        ]

    def _write_ends(self) -> None:
        """The records of first and last values."""
        for running in self.kept:
            if running.kind in (FIRST, LAST):
                self.where[running] = len(self.words)
                self.words += [*self._bits(running.lane), *self._value_words(running.lane)]

    def _write_quantiles(self) -> None:
        for aggregate in self.plan.aggregates:
            if aggregate.function in _QUANTILES and aggregate.window in self.windows:
                self.quantiles_at[aggregate] = len(self.words)
                self.words += [self.accumulators_at[_running(aggregate)[0]], *aggregate.share]

    def _give_out_running(self) -> None:
        """Running values, counts first; and the records of accumulators."""
        accumulators = [running for running in self.kept if running.kind not in (EXTREME, FIRST, LAST)]
        half = self.names
        for running in accumulators:
            if running.kind not in (*_WORDS, TREE):
                self.where[running] = half
                half += 1
        of_rows = [window for window in self.windows if frame_end(self.plan.windows[window])[0]]
        counts = [front + BEHIND for front in dict.fromkeys(self.fronts_at[window] for window in of_rows)]
        for word in [*counts, *(self.windows_at[window] + IN_FRAME for window in of_rows)]:
            self.words[word] = half
            half += 1
        word = (half + 1) // 2
        highs = [front + HIGH_TIME for front in dict.fromkeys(self.fronts_at.values())]
        for time in [*highs, *(self.windows_at[window] + LOW_TIME for window in self.windows)]:
            self.words[time] = word
            word += 1
        for running in accumulators:
            if running.kind in _WORDS:
                self.where[running] = word
                word += _WORDS[running.kind]
        self.slot_words = word
        for window in self.windows:
            self.words[self.windows_at[window] + ACCUMULATORS] = len(self.words)
            for running in accumulators:
                if running.window == window:
                    self.accumulators_at[running] = len(self.words)
                    links = self.trees.get(running, self.same.get(running.lane, -1))
                    self.words += [running.kind, self.where[running], links]
                    self.words += [*self._bits(running.lane), *self._value_words(running.lane)]
            self.words[self.windows_at[window] + ACCUMULATORS_END] = len(self.words)

    def _write_answers(self, at: int) -> list[int]:
        """Where they begin, where those begin that count the row, and where they end."""
        edges = [at]
        for excludes_row in (True, False):
            for place, aggregate in enumerate(self.plan.aggregates):
                if aggregate.window in self.windows and aggregate.excludes_row == excludes_row:
                    self.words += self._answer(place, aggregate)
            edges.append(len(self.words))
        return edges

    def _answer(self, place: int, aggregate: Aggregate) -> list[int]:
        running = _running(aggregate)
        first, count, squares = [*(self.where[one] for one in running), 0, 0][:3]
        value = NO_VALUE if aggregate.lane == EVERY_ROW else self.plan.lanes[aggregate.lane]
        first = self.quantiles_at.get(aggregate, first)
        record = [place, _KINDS[aggregate.function], first, count, squares, self.cursors.get(running[0], 0)]
        record += [self.windows_at[aggregate.window], self.fronts_at[aggregate.window], aggregate.excludes_row]
        return [*record, self._bits(aggregate.lane)[0], value]


def lay_out(plan: WindowPlan) -> np.ndarray:
    """int64[...]: of a plan that can be answered."""
    words = [0] * (ONCE + ENTITY_WORDS * len(plan.entities))
    registers, labelled, event_horizon_us = rowlog.ENTITY_REGISTERS_AT, 0, plan.dedupe_us
    for number, lanes in enumerate(lanes_by_entity(plan)):
        entity = _EntityLayout(plan, number, words, lanes)
        at = ONCE + ENTITY_WORDS * number
        registers += entity.write(at, labelled, registers)
        if entity.reads_labels:  # a label finds the row by the event's id
            labelled += 1
            event_horizon_us = max(event_horizon_us, words[at + HORIZON])
    event_halves = rowlog.EVENT_ROWS + labelled if labelled else 2 * rowlog.EVENT_WORDS
    words[:ONCE] = [
        min(event_horizon_us, MAX_SPAN_US),
        plan.lateness_us,
        plan.ahead_us,
        ONCE,
        ONCE + ENTITY_WORDS * len(plan.entities),
        (event_halves + 1) // 2,
        (rowlog.LABEL_HALVES + rowlog.LINKS_A_LABEL * labelled + 1) // 2 if labelled else 0,
    ]
    return np.array(words, np.int64)
