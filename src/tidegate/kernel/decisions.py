"""Decisions: what the kernel computed, as a table and as records."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.kernel.detector import Detector
from tidegate.kernel.explain import Answered, Explainer
from tidegate.kernel.freshness import MODEL_SCORE
from tidegate.kernel.language.expressions import BOOLEAN, DOUBLE
from tidegate.kernel.machine.words import raw, to_arrow
from tidegate.kernel.policy import OUTCOMES
from tidegate.kernel.sequences.tracking import Followed
from tidegate.kernel.stages import Judged, Stages, lacking
from tidegate.streams.decision import Decision, Explanation, Outcome, Value, decision_hash


@dataclass(frozen=True)
class Decisions:
    """One row a decision, in order of arrival; a duplicate event has none. A match by duration has one of its own,
    before that of the event with which its time had passed, and so has one that an event of another stream completed.
    """

    detector: Detector
    index: npt.NDArray[np.int64]
    """Row of the batch of events that each decision is about, -1: of none, a match is complete without one."""
    at: npt.NDArray[np.int64]
    """The place among all arrivals of the one that gave rise to it: the event, or that with which the time passed."""
    events: pa.RecordBatch
    late: npt.NDArray[np.bool_]
    judged: Judged
    answered: Answered
    demoted: frozenset[str]
    """Live rules whose points led to review at most."""
    stages: Stages
    followed: Sequence[Followed]
    """The detector's sequences, as they were after the batch."""

    @cached_property
    def features(self) -> pa.RecordBatch:
        """In the order of the SELECT."""
        expressions = self.detector.compiled.expressions
        values, known, texts = self.judged.values, self.judged.known, self.judged.texts
        columns = [
            texts[row] if row in texts else to_arrow(values[row : row + 1], known[row], kept.type)
            for row, kept in enumerate(expressions.values())
        ]
        return pa.RecordBatch.from_arrays(columns, list(expressions))

    @property
    def outcomes(self) -> list[Outcome]:
        """approve, review or decline."""
        return [OUTCOMES[step] for step in self.judged.outcome.tolist()]

    def table(self) -> pa.Table:
        """event_id, event_time, every feature by name, model_score if the detector has a model, rules (list<string>:
        those that fired), score, outcome, late.
        """
        model_score = self.judged.model_score
        names = {
            "event_id": self.events.column("event_id"),
            "event_time": self.events.column("event_time"),
            **dict(zip(self.features.schema.names, self.features.columns, strict=True)),
            **({MODEL_SCORE: pa.array(model_score, mask=np.isnan(model_score))} if self.detector.model else {}),
            "rules": self._fired(),
            "score": pa.array(self.judged.score),
            "outcome": pa.array(self.outcomes, pa.string()),
            "late": pa.array(self.late),
        }
        return pa.table(names)

    def _fired(self) -> pa.Array[Any]:
        """list<string>[m]: the names of the rules that fired, in the order of rules.yaml."""
        names = pa.array([rule.name for rule in self.detector.running], pa.string())
        fired = self.judged.fired.T
        offsets: Any = pa.array(np.concatenate([[0], np.cumsum(fired.sum(axis=1))]), pa.int32())
        which: Any = pa.array(np.nonzero(fired)[1])
        return pa.ListArray.from_arrays(offsets, names.take(which))

    def take(self, rows: npt.NDArray[np.int64]) -> Decisions:
        """Only these of the decisions."""
        which: Any = pa.array(rows)
        return Decisions(
            detector=self.detector,
            index=self.index[rows],
            at=self.at[rows],
            events=self.events.take(which),
            late=self.late[rows],
            judged=self.judged.take(rows),
            answered=self.answered.take(rows),
            demoted=self.demoted,
            stages=self.stages,
            followed=self.followed,
        )

    def explain(self, rows: Sequence[int]) -> list[Explanation]:
        """Explain these of the decisions, in their order: to be asked in the thread of the kernel."""
        explainer = Explainer(self.stages, self.followed, self.at, self.events, self.answered, self.judged)
        return explainer.explain(rows)

    def and_(self, others: Sequence[Decisions]) -> Decisions:
        """With others in their places; of one place, the others come first."""
        parts = [*others, self]
        at = np.concatenate([part.at for part in parts])
        batches: Any = [part.events for part in parts]
        return Decisions(
            detector=self.detector,
            index=np.concatenate([part.index for part in parts]),
            at=at,
            events=pa.Table.from_batches(batches).combine_chunks().to_batches()[0],
            late=np.concatenate([part.late for part in parts]),
            judged=Judged.together([part.judged for part in parts]),
            answered=Answered.together([part.answered for part in parts]),
            demoted=self.demoted,
            stages=self.stages,
            followed=self.followed,
        ).take(np.argsort(at, kind="stable"))

    def records(self) -> list[Decision]:
        """With reasons in words and the hash."""
        return list(self._records())

    def _records(self) -> Iterator[Decision]:
        detector = self.detector
        shadow = [rule.name for rule in detector.running if rule.status == "shadow"]
        demoted = sorted(self.demoted)
        names, rule_names = list(detector.compiled.expressions), [rule.name for rule in detector.running]
        live = list(detector.heaviest_first.values())
        own = {name: _values(self.events.column(name)) for name in detector.shown}
        since = {join.name: _values(self.events.column(join.column("event_time"))) for join in detector.joined}
        lacks = lacking(detector, self.events, self.judged.model_score)
        heads = zip(
            self.events.column("event_id").to_pylist(),
            _values(self.events.column("event_time")),
            self.late.tolist(),
            self.judged.score.tolist(),
            self.outcomes,
            self.judged.fired.T.tolist(),
            self.judged.fired[list(detector.heaviest_first)].T.tolist(),
            self._features(),
            [None if math.isnan(score) else score for score in self.judged.model_score.tolist()],
            strict=True,
        )
        for row, (event_id, time, late, score, outcome, fired, counted, values, model_score) in enumerate(heads):
            by_name = dict(zip(names, values, strict=True))
            heaviest = list(compress(live, counted))
            known = by_name
            if heaviest and (own or detector.model):
                known = {**by_name, **{name: column[row] for name, column in own.items()}, MODEL_SCORE: model_score}
            said = [(rule.points, rule.name, rule.reason.words(known)) for rule in heaviest]
            lacked = [lack for lack in lacks if lack.rows[row]]
            if any(lack.effect for lack in lacked):
                said += [(lack.effect.points, lack.name, lack.reason) for lack in lacked if lack.effect]
                said.sort(key=lambda part: -part[0])
            decision = Decision(
                event_id=event_id,
                event_time=time,
                stream=detector.stream.name,
                detector=detector.name,
                detector_version=detector.version,
                model_version=detector.model.id if detector.model else None,
                model_score=model_score,
                features=by_name,
                rules=dict(zip(rule_names, fired, strict=True)),
                shadow=shadow,
                points={name: points for points, name, _ in said},
                demoted=demoted,
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
        values = self.judged.values
        columns: list[list[Value]] = values.tolist()
        rows = self.detector.compiled.rows
        doubles, conditions = rows.get(DOUBLE, []), rows.get(BOOLEAN, [])
        for row, column in zip(doubles, values[doubles].view(np.float64).tolist(), strict=True):
            columns[row] = column
        for row, column in zip(conditions, (values[conditions] != 0).tolist(), strict=True):
            columns[row] = column
        for row, texts in self.judged.texts.items():
            columns[row] = texts.to_pylist()
        for row, place in zip(*(found.tolist() for found in np.nonzero(self.judged.known == 0)), strict=True):
            columns[row][place] = None
        return zip(*columns, strict=True)


def _values(column: pa.Array[Any]) -> list[Any]:
    """A column as a decision holds it: times are integers of microseconds."""
    if not pa.types.is_timestamp(column.type):
        return column.to_pylist()
    return column.cast(pa.int64()).to_pylist() if column.null_count else raw(column).tolist()
