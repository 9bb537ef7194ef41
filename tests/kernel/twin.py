"""The naive twin of the window engine: every row and label that ever came in one list each, every answer by a look at
all of them. It is the referee of `tidegate.kernel.windows.windows`: slow, and meant to be seen to be right."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor

import numpy as np

from tidegate.kernel.machine.clock import WITNESSES
from tidegate.kernel.machine.hashing import ordered_bits
from tidegate.kernel.plan import NO_VALUE, Aggregate, Window, WindowPlan
from tidegate.kernel.windows.windows import FRAUD, GENUINE, ROW, Answers, Arrivals

_LARGEST, _SMALLEST = 2**63 - 1, -(2**63)


@dataclass(frozen=True)
class Row:
    time: int
    id: Hashable
    keys: tuple[Hashable, ...]
    """By entity."""
    lanes: tuple[int | None, ...] = ()
    """None is not valid."""


@dataclass(frozen=True)
class Label:
    time: int
    id: Hashable
    """Of the transaction that it labels."""
    fraud: bool


@dataclass(frozen=True)
class Answer:
    values: tuple[int | None, ...] = ()
    """By aggregate; None is NULL. Empty for a label and a duplicate."""
    duplicate: bool = False
    late: bool = False


class Twin:
    def __init__(self, plan: WindowPlan) -> None:
        self.plan = plan
        self.rows: list[Row] = []
        self.labels: list[tuple[Label, Row | None]] = []
        """With the row that the label was put on; None while it waits for one."""
        self.clock = float("-inf")
        self.ahead: list[int] = []
        """The times of the events since the last that was not too far ahead of the clock."""
        labelled = {lane.lane for lane in plan.label_lanes}
        reading = {plan.windows[aggregate.window].entity for aggregate in plan.aggregates if aggregate.lane in labelled}
        self.remembered = max([plan.dedupe_us, *map(self.horizon, reading)])
        """How long event ids are."""

    def horizon(self, entity: int) -> int:
        """How long an entity's rows are kept."""
        widest = max((window.lower_us for window in self.plan.windows if window.entity == entity), default=0)
        return widest + self.plan.lateness_us

    def apply(self, event: Row | Label) -> Answer:
        if isinstance(event, Label):
            floor = self.clock - self.remembered
            row = self.kept(event.id, floor)
            if row or event.time >= floor:
                self.labels.append((event, row))
            return Answer()
        if self.kept(event.id, max(self.clock, event.time) - self.remembered):
            return Answer(duplicate=True)
        late = event.time < self.clock - self.plan.lateness_us
        self.pass_time(event.time)
        floor = self.clock - self.remembered
        if event.time >= floor:
            for at, (label, row) in enumerate(self.labels):
                if row is None and label.id == event.id and label.time >= floor:
                    self.labels[at] = (label, event)
        self.rows.append(event)
        return Answer(tuple(self.value(aggregate, event) for aggregate in self.plan.aggregates), late=late)

    def pass_time(self, time: int) -> None:
        if time <= self.clock + self.plan.ahead_us or self.clock == float("-inf"):
            self.clock, self.ahead = max(self.clock, time), []
            return
        self.ahead.append(time)
        if len(self.ahead) == WITNESSES:
            self.clock, self.ahead = min(self.ahead), []

    def kept(self, event_id: Hashable, floor: float) -> Row | None:
        """The row that an id is remembered of."""
        found = [row for row in self.rows if row.id == event_id and row.time >= floor]
        return found[-1] if found else None

    def value(self, aggregate: Aggregate, event: Row) -> int | None:
        window = self.plan.windows[aggregate.window]
        frame = [row for row in self.frame(window, event) if not (aggregate.excludes_row and row is event)]
        if aggregate.lane < 0:
            return len(frame)
        return combined(aggregate, [self.lane(row, aggregate.lane, event.time) for row in frame])

    def frame(self, window: Window, event: Row) -> list[Row]:
        """In order of time, then of arrival."""
        floor = self.clock - self.horizon(window.entity)
        before = [
            row
            for row in self.rows
            if (row is event or min(row.time, event.time) >= floor)
            and row.keys[window.entity] == event.keys[window.entity]
            and row.time <= event.time
        ]
        before.sort(key=lambda row: row.time)
        if window.gap_us is not None:
            ends = [at for at, (row, after) in enumerate(pairwise(before)) if after.time - row.time > window.gap_us]
            before = before[ends[-1] + 1 if ends else 0 :]
        if window.rows is not None:
            first, last = (len(before) - 1 - rows for rows in window.rows)
            before = before[max(first, 0) : max(last + 1, 0)]
        return [row for row in before if event.time - window.lower_us <= row.time <= event.time - window.upper_us]

    def lane(self, row: Row, lane: int, time: int) -> int | None:
        """A lane's value with what was known of the row at a time."""
        for labelled in self.plan.label_lanes:
            if labelled.lane == lane:
                verdict = self.verdict(row, time)
                if verdict is not None:
                    return row.lanes[labelled.if_fraud if verdict else labelled.if_genuine]
        return row.lanes[lane]

    def verdict(self, row: Row, time: int) -> bool | None:
        known: Label | None = None
        for label, labelled in self.labels:
            if labelled is row and label.time <= time and (known is None or label.time >= known.time):
                known = label
        return known.fraud if known else None


def combined(aggregate: Aggregate, lanes: Sequence[int | None]) -> int | None:
    """What an aggregate makes of its frame's values, in order."""
    values = [value for value in lanes if value is not None]
    match aggregate.function:
        case "first_value":
            return lanes[0] if lanes else None
        case "last_value":
            return lanes[-1] if lanes else None
        case "count":
            return len(values)
        case "count_distinct":
            return len(set(values))
        case "var_samp" | "var_pop" as function:
            return variance(values, len(values) - (function == "var_samp"))
        case function:
            return some(function, aggregate.share, values) if values else None


def some(function: str, share: tuple[int, int], values: Sequence[int]) -> int:
    """What is made of one value or more."""
    match function:
        case "first_known":
            return values[0]
        case "last_known":
            return values[-1]
        case "sum":
            return nearest_sum(values)
        case "min" | "max":
            return min(values) if function == "min" else max(values)
        case _:
            return quantile(function, share, sorted(values))


def quantile(function: str, share: tuple[int, int], values: Sequence[int]) -> int:
    numerator, denominator = share
    if function == "quantile_disc":
        return next(value for n, value in enumerate(values, 1) if n * denominator >= len(values) * numerator)
    place = (len(values) - 1) * (numerator / denominator)
    return values[floor(place) if function == "quantile_floor" else ceil(place)]


def nearest_sum(values: Sequence[int]) -> int:
    return max(_SMALLEST, min(_LARGEST, sum(values)))


def variance(values: Sequence[int], divisor: int) -> int | None:
    """The bits of the double nearest to the variance: Python rounds the quotient of two integers but once."""
    if divisor < 1:
        return None
    count, total = len(values), sum(values)
    nearest = sum((count * value - total) ** 2 for value in values) / (count * count * divisor)
    return int(ordered_bits(np.array([nearest]))[0])


def hash_of(name: Hashable) -> tuple[int, int]:
    """Any hash will do that tells the names of a test apart."""
    return hash(("first", name)) % 2**64, hash(("second", name)) % 2**64


def to_arrivals(plan: WindowPlan, events: Sequence[Row | Label]) -> Arrivals:
    count = len(events)
    ids, kinds = np.zeros((count, 2), np.uint64), np.zeros(count, np.int8)
    keys = np.zeros((len(plan.entities), count, 2), np.uint64)
    values, valid = np.zeros((plan.value_count, count), np.int64), np.zeros((len(plan.lanes), count), np.bool_)
    for i, event in enumerate(events):
        ids[i] = hash_of(event.id)
        if isinstance(event, Label):
            kinds[i] = FRAUD if event.fraud else GENUINE
            continue
        kinds[i] = ROW
        for entity, key in enumerate(event.keys):
            keys[entity, i] = hash_of(key)
        for lane, value in enumerate(event.lanes):
            if value is not None:
                valid[lane, i] = True
                if plan.lanes[lane] != NO_VALUE:
                    values[plan.lanes[lane], i] = value
    times = np.array([event.time for event in events], np.int64)
    return Arrivals(times=times, ids=ids, kinds=kinds, keys=keys, values=values, valid=valid)


def from_answers(events: Sequence[Row | Label], answers: Answers) -> list[Answer]:
    """The engine's answers as the twin gives them."""
    given: list[Answer] = []
    for i, event in enumerate(events):
        if isinstance(event, Label):
            given.append(Answer())
        elif answers.duplicate[i]:
            given.append(Answer(duplicate=True))
        else:
            values = tuple(
                int(value) if valid else None
                for value, valid in zip(answers.values[:, i], answers.valid[:, i], strict=True)
            )
            given.append(Answer(values, late=bool(answers.late[i])))
    return given
