"""The kernel: a batch of events in, a batch of decisions out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.kernel.arrivals import LABELS, Arrived
from tidegate.kernel.asof import Joins
from tidegate.kernel.conversions import raw
from tidegate.kernel.detector import Detector
from tidegate.kernel.evaluate import Program
from tidegate.kernel.freshness import lacks
from tidegate.kernel.hashing import combine, hash_column
from tidegate.kernel.lanes import decode, encode
from tidegate.kernel.policy import OUTCOMES
from tidegate.kernel.windows import FRAUD, GENUINE, ROW, Answers, Arrivals, Windows
from tidegate.streams.decision import Decision, decision_hash


@dataclass(frozen=True)
class Decisions:
    """One row a decision, in order of arrival; a duplicate event has none."""

    detector: Detector
    index: npt.NDArray[np.int64]
    """Row of the batch of events that each decision is about."""
    events: pa.RecordBatch
    features: pa.RecordBatch
    rules: pa.RecordBatch
    """A boolean column a rule that runs."""
    late: npt.NDArray[np.bool_]
    score: npt.NDArray[np.int64]
    outcome: pa.Array[Any]

    def table(self) -> pa.Table:
        """event_id, event_time, every feature by name, rules (list<string>: those that fired), score, outcome, late."""
        names = {
            "event_id": self.events.column("event_id"),
            "event_time": self.events.column("event_time"),
            **dict(zip(self.features.schema.names, self.features.columns, strict=True)),
            "rules": self._fired(),
            "score": pa.array(self.score),
            "outcome": self.outcome,
            "late": pa.array(self.late),
        }
        return pa.table(names)

    def _fired(self) -> pa.Array[Any]:
        """list<string>[m]: the names of the rules that fired, in the order of rules.yaml."""
        names = pa.array(self.rules.schema.names, pa.string())
        if not len(names):
            return pa.array([[]] * len(self.index), pa.list_(pa.string()))
        fired = np.stack([column.to_numpy(zero_copy_only=False) for column in self.rules.columns], axis=1)
        offsets: Any = pa.array(np.concatenate([[0], np.cumsum(fired.sum(axis=1))]), pa.int32())
        which: Any = pa.array(np.nonzero(fired)[1])
        return pa.ListArray.from_arrays(offsets, names.take(which))

    def take(self, rows: npt.NDArray[np.int64]) -> Decisions:
        """Only these of the decisions."""
        which: Any = pa.array(rows)
        return Decisions(
            detector=self.detector,
            index=self.index[rows],
            events=self.events.take(which),
            features=self.features.take(which),
            rules=self.rules.take(which) if self.rules.num_columns else _batch([], [], len(rows)),
            late=self.late[rows],
            score=self.score[rows],
            outcome=self.outcome.take(which),
        )

    def records(self) -> list[Decision]:
        """With reasons in words and the hash."""
        return list(self._records())

    def _records(self) -> Iterator[Decision]:
        detector = self.detector
        running = [rule for rule in detector.rules if rule.runs]
        live = sorted((rule for rule in running if rule.status == "live"), key=lambda rule: -rule.points)
        shadow = [rule.name for rule in running if rule.status == "shadow"]
        ids, times = self.events.column("event_id").to_pylist(), _values(self.events.column("event_time"))
        names, rule_names = self.features.schema.names, self.rules.schema.names
        features = zip(*(_values(column) for column in self.features.columns), strict=True)
        fired = zip(*(column.to_pylist() for column in self.rules.columns), strict=True) if rule_names else None
        own = {name: _values(self.events.column(name)) for name in _own_placeholders(detector)}
        since = {join.name: _values(self.events.column(join.column("event_time"))) for join in detector.joined}
        lacking = lacks(detector.joins, self.events)
        for row, (event_id, time, late, score, outcome, values) in enumerate(
            zip(ids, times, self.late.tolist(), self.score.tolist(), self.outcome.to_pylist(), features, strict=True)
        ):
            by_name = dict(zip(names, values, strict=True))
            outcomes = next(fired) if fired else ()
            holds: dict[str, bool] = dict(zip(rule_names, outcomes, strict=True))
            heaviest = [rule for rule in live if holds[rule.name]]
            known = by_name | {name: column[row] for name, column in own.items()} if own else by_name
            said = [(rule.points, rule.name, rule.reason.words(known)) for rule in heaviest]
            lacked = [lack for lack in lacking if lack.rows[row]]
            if any(lack.effect for lack in lacked):
                said += [(lack.effect.points, lack.name, lack.reason) for lack in lacked if lack.effect]
                said.sort(key=lambda part: -part[0])
            decision = Decision(
                event_id=event_id,
                event_time=time,
                stream=detector.stream.name,
                detector=detector.name,
                detector_version=detector.version,
                features=by_name,
                rules=holds,
                shadow=shadow,
                points={name: points for points, name, _ in said},
                versions={name: column[row] for name, column in since.items() if column[row] is not None},
                freshness={name: lack.state for lack in lacked for name in detector.readers[lack.join]},
                late=late,
                score=score,
                outcome=outcome,
                reasons=[reason for _, _, reason in said],
            )
            yield msgspec.structs.replace(decision, hash=decision_hash(decision))


def _values(column: pa.Array[Any]) -> list[Any]:
    """A column as a decision holds it: times are integers of microseconds."""
    return (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()


def _own_placeholders(detector: Detector) -> set[str]:
    """The event's own columns that reasons show."""
    return {name for rule in detector.rules for name in rule.reason.names if name not in detector.features}


class Kernel:
    """Decides the events of a detector's stream, one batch of arrivals after the other."""

    def __init__(self, detector: Detector) -> None:
        features = detector.compiled
        self.detector = detector
        self._rules = [rule for rule in detector.rules if rule.runs]
        self._points = np.array([rule.points if rule.status == "live" else 0 for rule in self._rules], np.int64)
        self._lanes = Program(features.lanes)
        self._program = Program([*features.expressions.values(), *(rule.when for rule in self._rules)])
        self._columns = sorted({name for entity in features.plan.entities for name in entity.columns})
        self._joins = Joins(features.joins)
        self._windows = Windows(features.plan)
        self._nothing = Arrived.alone(pa.RecordBatch.from_pylist([], detector.stream.arrow))

    def decide(self, arrived: Mapping[str, Arrived]) -> Decisions:
        """Decide the events of the detector's stream, in their order of arrival, each by what arrived before it.

        `arrived` is by stream; a stream of `detector.streams` that is not there had nothing to give, others are passed
        over. How arrivals are cut into calls changes nothing.
        """
        own = arrived.get(self.detector.stream.name, self._nothing)
        if self.detector.joined:
            own = self._joins.widen(arrived, own)
        labels = arrived.get(LABELS) if LABELS in self.detector.streams else None
        events = own.events
        # Where each event stands among all that the windows take.
        at = np.arange(events.num_rows)
        if labels is not None:
            at += np.searchsorted(labels.at, own.at)
        answers = self._windows.apply(self._arrivals(own, labels, at))
        kept = np.nonzero(~answers.duplicate[at])[0]
        if len(kept) < events.num_rows:
            rows_kept: Any = pa.array(kept)
            events, at = events.take(rows_kept), at[kept]
        return self._decisions(events, kept, answers, at)

    def _arrivals(self, own: Arrived, labels: Arrived | None, at: npt.NDArray[np.int64]) -> Arrivals:
        events = own.events
        entities = self.detector.compiled.plan.entities
        lanes, valid = encode(self._lanes.run(events), events.num_rows)
        hashes = {name: hash_column(events.column(name)) for name in self._columns}
        keys = np.zeros((len(entities), events.num_rows, 2), np.uint64)
        for index, entity in enumerate(entities):
            keys[index] = combine([hashes[name] for name in entity.columns])
        times = raw(events.column("event_time"))
        ids = hash_column(events.column("event_id"))
        kinds = np.full(events.num_rows, ROW, np.int8)
        if labels is None or not len(labels.at):
            return Arrivals(times, ids, kinds, keys, lanes, valid)
        label_at = np.arange(len(labels.at)) + np.searchsorted(own.at, labels.at)
        fraud = labels.events.column("is_fraud").to_numpy(zero_copy_only=False)
        total = events.num_rows + len(label_at)

        def spread(own: npt.NDArray[Any], other: npt.NDArray[Any] | int, axis: int = 0) -> npt.NDArray[Any]:
            shape = [*own.shape]
            shape[axis] = total
            whole = np.zeros(shape, own.dtype)
            before_axis = (slice(None),) * axis
            whole[(*before_axis, at)] = own
            whole[(*before_axis, label_at)] = other
            return whole

        return Arrivals(
            times=spread(times, raw(labels.events.column("event_time"))),
            ids=spread(ids, hash_column(labels.events.column("transaction_id"))),
            kinds=spread(kinds, np.where(fraud, FRAUD, GENUINE).astype(np.int8)),
            keys=spread(keys, 0, axis=1),
            lanes=spread(lanes, 0, axis=1),
            valid=spread(valid, 0),
        )

    def _decisions(
        self, events: pa.RecordBatch, kept: npt.NDArray[np.int64], answers: Answers, at: npt.NDArray[np.int64]
    ) -> Decisions:
        compiled = self.detector.compiled
        columns = [
            decode(answers.values[index, at], answers.valid[index, at], type_)
            for index, type_ in enumerate(compiled.aggregate_types)
        ]
        values = self._program.run(events, columns)
        features, conditions = values[: len(compiled.expressions)], values[len(compiled.expressions) :]
        # A condition that is NULL does not hold.
        rules = [rule.fill_null(fill_value=False) if rule.null_count else rule for rule in conditions]
        points = np.zeros(len(kept), np.int64)
        for rule, worth in zip(rules, self._points, strict=True):
            points += worth * rule.to_numpy(zero_copy_only=False)
        least = np.zeros(len(kept), np.int8)
        for lack in lacks(self.detector.joins, events):
            if lack.effect:
                points += lack.effect.points * lack.rows
                least = np.maximum(least, OUTCOMES.index(lack.effect.least) * lack.rows).astype(np.int8)
        score = self.detector.policy.scores(points)
        return Decisions(
            detector=self.detector,
            index=kept,
            events=events,
            features=pa.RecordBatch.from_arrays(features, list(compiled.expressions)),
            rules=_batch(rules, [rule.name for rule in self._rules], len(kept)),
            late=answers.late[at],
            score=score,
            outcome=self.detector.policy.outcomes(score, least),
        )

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """The whole state as flat arrays."""
        return self._windows.snapshot() | self._joins.snapshot()

    def restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Take up the state of a snapshot of the same detector version.

        Raises:
            DamagedError: the arrays are not those of a snapshot of this detector.
        """
        self._windows.restore(arrays)
        self._joins.restore(arrays)


def _batch(columns: list[pa.Array[Any]], names: list[str], rows: int) -> pa.RecordBatch:
    """A record batch that may have rows and no columns."""
    if columns:
        return pa.RecordBatch.from_arrays(columns, names)
    nothing: Any = pa.array([{}] * rows, pa.struct([]))
    return pa.RecordBatch.from_struct_array(nothing)
