"""Explanations: which features moved the model, and what the event would have had to say for a milder outcome.

What would have been is found by asking: copies of the event with one value changed go through the same stages, model
and rules, with the answers that the windows would have given them, and the matches that the sequences would have told.
The answers follow from those to the event itself: the rows beside it are the same, and only what the event itself put
into a sum, a count or an extreme is changed. Matches are found anew, over the rows before it. Where that can't be told
(a count of different values, a variance, a key) nothing is said, so what is said is true.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.kernel.machine.program import Evaluation
from tidegate.kernel.plan import NO_VALUE, Aggregate, WindowPlan
from tidegate.kernel.policy import OUTCOMES
from tidegate.kernel.sequences.tracking import Followed
from tidegate.kernel.stages import Judged, Stages
from tidegate.streams.decision import Contribution, Counterfactual, Explanation, Value
from tidegate.streams.schema import Field

#: How many features are named: more than an analyst reads says nothing.
MAX_CONTRIBUTIONS = 5

#: Contributions are rounded to so many decimals: they are log-odds, of which a thousandth moves nothing.
_DECIMALS = 3

#: Values that a search tries at once, between one that gives a milder outcome and one that does not. A round costs
#: about as much however many they are, up to here.
_TRIED = 32

#: Sums beyond this could have been cut off at what 64 bits hold.
_LARGEST_SUM = 2**61


class Answered(NamedTuple):
    """What the windows answered to n events: a aggregates."""

    values: npt.NDArray[np.int64]
    """int64[a, n]"""
    valid: npt.NDArray[np.bool_]
    """bool[a, n]"""
    texts: Mapping[int, pa.Array[Any]]
    """The answers that are texts, by their number."""

    def take(self, rows: npt.NDArray[np.int64]) -> Answered:
        """Only those to these events."""
        which: Any = pa.array(rows)
        texts = {number: column.take(which) for number, column in self.texts.items()}
        return Answered(self.values[:, rows], self.valid[:, rows], texts)

    @classmethod
    def together(cls, parts: Sequence[Answered]) -> Answered:
        """To all these events, one part after the other."""
        return cls(
            np.concatenate([part.values for part in parts], axis=1),
            np.concatenate([part.valid for part in parts], axis=1),
            {number: pa.concat_arrays([part.texts[number] for part in parts]) for number in parts[0].texts},
        )


class _Counted(NamedTuple):
    """What windows count of n events, by lane."""

    values: npt.NDArray[np.int64]
    """int64[l, n]"""
    valid: npt.NDArray[np.bool_]
    """bool[l, n]"""


class Explainer:
    """Explains decisions of one batch: n events, which stood at `at` (int64[n]) among all that arrived."""

    def __init__(
        self,
        stages: Stages,
        followed: Sequence[Followed],
        at: npt.NDArray[np.int64],
        events: pa.RecordBatch,
        answered: Answered,
        judged: Judged,
    ) -> None:
        self._stages, self._followed = stages, followed
        self._at, self._events, self._answered, self._judged = at, events, answered, judged
        self._detector = stages.detector

    def explain(self, rows: Sequence[int]) -> list[Explanation]:
        """Explain the decisions of these rows, in their order."""
        chosen = np.array(rows, np.int64)
        found: list[list[Counterfactual]] = [[] for _ in rows]
        fields = {field.name: field for field in self._detector.stream.fields}
        for column in self._detector.policy.explain:
            told = self._searched if fields[column].kind == "long" else self._tried
            for place, counterfactual in told(chosen, fields[column]):
                found[place].append(counterfactual)
        return [
            Explanation(contributions, counterfactuals)
            for contributions, counterfactuals in zip(self._contributions(chosen), found, strict=True)
        ]

    def _contributions(self, rows: npt.NDArray[np.int64]) -> list[list[Contribution]]:
        model = self._detector.model
        if model is None:
            return [[] for _ in rows]
        judged = self._judged.take(rows)
        moved = model.contributions(self._stages.inputs(judged.values, judged.known)).round(_DECIMALS)
        strongest = np.argsort(-np.abs(moved), axis=1, kind="stable")[:, :MAX_CONTRIBUTIONS]
        return [
            [Contribution(model.features[feature], float(each[feature])) for feature in order if each[feature]]
            for each, order in zip(moved, strongest, strict=True)
        ]

    def _tried(self, rows: npt.NDArray[np.int64], field: Field) -> Iterator[tuple[int, Counterfactual]]:
        """Each other value that the field may have, and what it leads to if that is milder."""
        tried: list[tuple[int, Value]] = []
        which: Any = pa.array(rows)
        for place, event in enumerate(self._events.take(which).to_pylist()):
            tried += [(place, value) for value in self._others(field, event)]
        if not tried:
            return
        places, values = np.array([place for place, _ in tried]), [value for _, value in tried]
        outcomes = self._outcomes(rows[places], field.name, pa.array(values, field.arrow_type))
        for (place, value), outcome in zip(tried, outcomes.tolist(), strict=True):
            if outcome < self._judged.outcome[rows[place]]:
                yield place, Counterfactual(field.name, value, OUTCOMES[outcome])

    def _others(self, field: Field, event: dict[str, Value]) -> list[Value]:
        own = event[field.name]
        if field.kind == "boolean":
            return [] if own is None else [not own]
        if field.kind == "enum":
            return [symbol for symbol in field.symbols if symbol != own]
        # Another text of the same kind: the card's country in the place of the merchant's.
        kind = field.name.rpartition("_")[2]
        others = {event[name] for name in self._detector.stream.protected_columns if name.rpartition("_")[2] == kind}
        return [*sorted(value for value in others - {own} if isinstance(value, str))]

    def _searched(self, rows: npt.NDArray[np.int64], field: Field) -> Iterator[tuple[int, Counterfactual]]:
        """The greatest number below the event's own that leads to each milder outcome, in whole steps between those
        that are tried.
        """
        least = max(field.bounds[0], 0)
        values = self._events.column(field.name)
        searches = [
            _Search(place, target, least, own)
            for place, row in enumerate(rows.tolist())
            for target in range(int(self._judged.outcome[row]))
            if (own := values[row].as_py()) is not None and own > least
        ]
        going = searches
        while going:
            tried = [number for search in going for number in search.numbers()]
            copied = np.concatenate([np.full(len(search.numbers()), rows[search.place]) for search in going])
            outcomes = iter(self._outcomes(copied, field.name, pa.array(tried, pa.int64())).tolist())
            for search in going:
                search.narrow([next(outcomes) for _ in search.numbers()])
            going = [search for search in going if not search.over]
        said: set[tuple[int, int]] = set()
        for search in searches:
            if search.found is not None and (search.place, search.found) not in said:
                said.add((search.place, search.found))
                yield search.place, Counterfactual(field.name, search.found, OUTCOMES[search.outcome])

    def _outcomes(self, rows: npt.NDArray[np.int64], column: str, values: pa.Array[Any]) -> npt.NDArray[np.int8]:
        """int8[n]: what events would have come to with other values in a column, by number in OUTCOMES; the number of
        outcomes where it can't be told.
        """
        which: Any = pa.array(rows)
        before = self._events.take(which)
        after, told = self._with_matches(rows, column, _with(before, {column: values}))
        counted = self._lanes(self._stages.begin(before))
        evaluation = self._stages.begin(after)
        plan = self._detector.compiled.plan
        answered, counts = with_other_rows(plan, self._answered.take(rows), counted, self._lanes(evaluation))
        judged = self._stages.judge(evaluation, after, *answered)
        return np.where(told & counts, judged.outcome, len(OUTCOMES)).astype(np.int8)

    def _with_matches(
        self, rows: npt.NDArray[np.int64], column: str, events: pa.RecordBatch
    ) -> tuple[pa.RecordBatch, npt.NDArray[np.bool_]]:
        """Events that have other values in a column, with the matches that they would have completed; and bool[n]:
        whether these can be told.
        """
        told, stream = np.ones(len(rows), np.bool_), self._detector.stream
        for each in self._followed:
            if column not in each.tracker.sequence.reads(stream):
                continue
            if not each.is_last:
                return events, np.zeros(len(rows), np.bool_)
            columns, can_be = each.tracker.had_been(stream.name, self._at[rows], events)
            events, told = _with(events, columns), told & can_be
        return events, told

    def _lanes(self, evaluation: Evaluation) -> _Counted:
        """What the windows take of each event."""
        _, values, valid, _ = self._stages.lanes(evaluation)
        of_lane = self._detector.compiled.plan.lanes
        words = np.zeros((len(of_lane), values.shape[1]), np.int64)
        for word, number in zip(words, of_lane, strict=True):
            if number != NO_VALUE:
                word[:] = values[number]
        return _Counted(words, valid)


def _with(events: pa.RecordBatch, columns: Mapping[str, pa.Array[Any]]) -> pa.RecordBatch:
    """The events with these columns in the place of their own."""
    for name, column in columns.items():
        events = events.set_column(events.schema.get_field_index(name), events.schema.field(name), column)
    return events


class _Search:
    """For the greatest number from `least` on and below `most` that leads to `target` or something milder."""

    def __init__(self, place: int, target: int, least: int, most: int) -> None:
        self.place, self._target, self._least, self._most = place, target, least, most
        self.found: int | None = None
        self.outcome = target
        self.over = False

    def numbers(self) -> list[int]:
        """What to try next, ascending."""
        width = self._most - self._least
        if width <= _TRIED:
            return list(range(self._least, self._most))
        return [self._least + width * step // _TRIED for step in range(_TRIED)]

    def narrow(self, outcomes: list[int]) -> None:
        """Take up what these numbers led to."""
        numbers = self.numbers()
        fits = [step for step, outcome in enumerate(outcomes) if outcome <= self._target]
        if not fits:
            self.over = True
            return
        step = fits[-1]
        self.found, self.outcome = numbers[step], outcomes[step]
        self._least = numbers[step]
        self._most = numbers[step + 1] if step + 1 < len(numbers) else self._most
        self.over = self._most - self._least <= 1


def with_other_rows(
    plan: WindowPlan, answered: Answered, before: _Counted, after: _Counted
) -> tuple[Answered, npt.NDArray[np.bool_]]:
    """What the windows would have answered, had the lanes of the events themselves been others, and bool[n]: whether
    that can be told. The keys are the same.
    """
    values, valid = answered.values.copy(), answered.valid.copy()
    told = np.ones(values.shape[1], np.bool_)
    changed = (before.valid != after.valid) | (before.valid & after.valid & (before.values != after.values))
    by_label = {lane for part in plan.label_lanes for lane in (part.lane, part.if_fraud, part.if_genuine)}
    for part in plan.label_lanes:
        # Which of the three counts depends on what is known of the event, which is not at hand.
        told &= ~changed[[part.lane, part.if_fraud, part.if_genuine]].any(axis=0)
    for number, aggregate in enumerate(plan.aggregates):
        lane = aggregate.lane
        sees_itself = plan.windows[aggregate.window].has_row and not aggregate.excludes_row
        if lane < 0 or lane in by_label or not sees_itself or not changed[lane].any():
            continue
        old, new = ((np.where(each.valid[lane], each.values[lane], 0), each.valid[lane]) for each in (before, after))
        match aggregate.function:
            case "count":
                values[number] += new[1].astype(np.int64) - old[1]
            case "sum":
                sums = np.maximum(np.abs(values[number]), np.maximum(np.abs(old[0]), np.abs(new[0])))
                told &= ~changed[lane] | (sums < _LARGEST_SUM)
                count = _count(plan, aggregate)
                others = np.zeros_like(told) if count is None else answered.values[count] > old[1]
                # Whether anything is left to be added up, if the event itself no longer is.
                told &= new[1] | ~old[1] | (count is not None)
                values[number] += new[0] - old[0]
                valid[number] = new[1] | np.where(old[1], others, valid[number])
            case "min" | "max":
                sign = 1 if aggregate.function == "max" else -1
                count = _count(plan, aggregate)
                # Without the event itself there may be none, or, where it is the extreme, a next one that is not known.
                none = ~valid[number] | (old[1] & (answered.values[count] == 1) if count is not None else False)
                beaten = new[1] & (none | (sign * new[0] >= sign * values[number]))
                told &= ~changed[lane] | beaten | none | ~(old[1] & (old[0] == values[number]))
                values[number] = np.where(beaten, new[0], values[number])
                valid[number] = new[1] | ~none
            case _:
                told &= ~changed[lane]
    return Answered(values, valid, answered.texts), told


def _count(plan: WindowPlan, aggregate: Aggregate) -> int | None:
    """The aggregate that counts what another one adds up."""
    counts = (aggregate.window, aggregate.lane, aggregate.excludes_row)
    for number, other in enumerate(plan.aggregates):
        if other.function == "count" and (other.window, other.lane, other.excludes_row) == counts:
            return number
    return None
