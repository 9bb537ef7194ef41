"""Decisions: what the kernel computed, as a table and as records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.kernel.detector import Detector
from tidegate.kernel.expressions import BOOLEAN, DOUBLE
from tidegate.kernel.freshness import lacks
from tidegate.kernel.policy import OUTCOMES
from tidegate.kernel.words import raw, to_arrow
from tidegate.streams.decision import Decision, Outcome, Value, decision_hash


@dataclass(frozen=True)
class Decisions:
    """One row a decision, in order of arrival; a duplicate event has none."""

    detector: Detector
    index: npt.NDArray[np.int64]
    """Row of the batch of events that each decision is about."""
    events: pa.RecordBatch
    values: npt.NDArray[np.int64]
    """int64[f, m]: the features, a row each, doubles by their bits; those of a text mean nothing."""
    known: npt.NDArray[np.uint8]
    """uint8[f, m]: 0 where a feature is NULL."""
    texts: Mapping[int, pa.Array[Any]]
    """The features that are texts, by row."""
    fired: npt.NDArray[np.bool_]
    """bool[r, m]: which of the rules that run fired."""
    late: npt.NDArray[np.bool_]
    score: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.int8]
    """By their number in OUTCOMES."""

    @cached_property
    def features(self) -> pa.RecordBatch:
        """In the order of the SELECT."""
        expressions = self.detector.compiled.expressions
        columns = [
            self.texts[row] if row in self.texts else to_arrow(self.values[row : row + 1], self.known[row], kept.type)
            for row, kept in enumerate(expressions.values())
        ]
        return pa.RecordBatch.from_arrays(columns, list(expressions))

    @property
    def outcomes(self) -> list[Outcome]:
        """approve, review or decline."""
        return [OUTCOMES[step] for step in self.outcome.tolist()]

    def table(self) -> pa.Table:
        """event_id, event_time, every feature by name, rules (list<string>: those that fired), score, outcome, late."""
        names = {
            "event_id": self.events.column("event_id"),
            "event_time": self.events.column("event_time"),
            **dict(zip(self.features.schema.names, self.features.columns, strict=True)),
            "rules": self._fired(),
            "score": pa.array(self.score),
            "outcome": pa.array(self.outcomes, pa.string()),
            "late": pa.array(self.late),
        }
        return pa.table(names)

    def _fired(self) -> pa.Array[Any]:
        """list<string>[m]: the names of the rules that fired, in the order of rules.yaml."""
        names = pa.array([rule.name for rule in self.detector.running], pa.string())
        fired = self.fired.T
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
            values=self.values[:, rows],
            known=self.known[:, rows],
            texts={row: column.take(which) for row, column in self.texts.items()},
            fired=self.fired[:, rows],
            late=self.late[rows],
            score=self.score[rows],
            outcome=self.outcome[rows],
        )

    def records(self) -> list[Decision]:
        """With reasons in words and the hash."""
        return list(self._records())

    def _records(self) -> Iterator[Decision]:
        detector = self.detector
        shadow = [rule.name for rule in detector.running if rule.status == "shadow"]
        names, rule_names = list(detector.compiled.expressions), [rule.name for rule in detector.running]
        own = {name: _values(self.events.column(name)) for name in detector.shown}
        since = {join.name: _values(self.events.column(join.column("event_time"))) for join in detector.joined}
        lacking = lacks(detector.joins, self.events)
        heads = zip(
            self.events.column("event_id").to_pylist(),
            _values(self.events.column("event_time")),
            self.late.tolist(),
            self.score.tolist(),
            self.outcomes,
            self.fired.T.tolist(),
            self._features(),
            strict=True,
        )
        for row, (event_id, time, late, score, outcome, fired, values) in enumerate(heads):
            by_name = dict(zip(names, values, strict=True))
            heaviest = [rule for place, rule in detector.heaviest_first if fired[place]]
            known = by_name | {name: column[row] for name, column in own.items()} if own and heaviest else by_name
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
                rules=dict(zip(rule_names, fired, strict=True)),
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

    def _features(self) -> Iterator[tuple[Value, ...]]:
        """The features of each decision."""
        columns: list[list[Value]] = self.values.tolist()
        rows = self.detector.compiled.rows
        doubles, conditions = rows.get(DOUBLE, []), rows.get(BOOLEAN, [])
        for row, column in zip(doubles, self.values[doubles].view(np.float64).tolist(), strict=True):
            columns[row] = column
        for row, column in zip(conditions, (self.values[conditions] != 0).tolist(), strict=True):
            columns[row] = column
        for row, texts in self.texts.items():
            columns[row] = texts.to_pylist()
        for row, place in zip(*(found.tolist() for found in np.nonzero(self.known == 0)), strict=True):
            columns[row][place] = None
        return zip(*columns, strict=True)


def _values(column: pa.Array[Any]) -> list[Any]:
    """A column as a decision holds it: times are integers of microseconds."""
    if not pa.types.is_timestamp(column.type):
        return column.to_pylist()
    return column.cast(pa.int64()).to_pylist() if column.null_count else raw(column).tolist()
