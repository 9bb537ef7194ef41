"""The stages of an event's way, state aside: what is computed of it before the windows take it, and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.kernel.detector import Detector
from tidegate.kernel.freshness import MODEL_SCORE, Lack, lacks
from tidegate.kernel.language.expressions import BOOLEAN, DOUBLE, TIMESTAMP, VARCHAR, Call, Column, Literal
from tidegate.kernel.machine.hashing import ordered_bits
from tidegate.kernel.machine.program import Evaluation, Program, lane
from tidegate.kernel.policy import OUTCOMES

# What the windows answer is put in before the features, the model's score before the rules.
LANES, FEATURES, RULES = 0, 1, 2

EVENT_ID, EVENT_TIME = Column("event_id", VARCHAR), Column("event_time", TIMESTAMP)

_FALSE = Literal(value=False, type=BOOLEAN)


class Judged(NamedTuple):
    """What came of n events: f features, r rules that run."""

    values: npt.NDArray[np.int64]
    """int64[f, n]: the features, a row each, doubles by their bits; those of a text mean nothing."""
    known: npt.NDArray[np.uint8]
    """uint8[f, n]: 0 where a feature is NULL."""
    texts: Mapping[int, pa.Array[Any]]
    """The features that are texts, by row."""
    model_score: npt.NDArray[np.float64]
    """float64[n]: NaN where there is none."""
    fired: npt.NDArray[np.bool_]
    """bool[r, n]: which of the rules that run fired."""
    score: npt.NDArray[np.int64]
    """int64[n]"""
    outcome: npt.NDArray[np.int8]
    """int8[n]: by their number in OUTCOMES."""

    def take(self, rows: npt.NDArray[np.int64]) -> Judged:
        """Only these of the events."""
        which: Any = pa.array(rows)
        return Judged(
            self.values[:, rows],
            self.known[:, rows],
            {row: column.take(which) for row, column in self.texts.items()},
            self.model_score[rows],
            self.fired[:, rows],
            self.score[rows],
            self.outcome[rows],
        )

    @classmethod
    def together(cls, parts: Sequence[Judged]) -> Judged:
        """Of all these events, one part after the other."""
        return cls(
            np.concatenate([part.values for part in parts], axis=1),
            np.concatenate([part.known for part in parts], axis=1),
            {row: pa.concat_arrays([part.texts[row] for part in parts]) for row in parts[0].texts},
            np.concatenate([part.model_score for part in parts]),
            np.concatenate([part.fired for part in parts], axis=1),
            np.concatenate([part.score for part in parts]),
            np.concatenate([part.outcome for part in parts]),
        )


class Lanes(NamedTuple):
    """What windows take of n events: v values, l lanes."""

    times: npt.NDArray[np.int64]
    """int64[n]"""
    values: npt.NDArray[np.int64]
    """int64[v, n]: 0 where there is none."""
    valid: npt.NDArray[np.bool_]
    """bool[l, n]"""
    texts: Mapping[int, pa.Array[Any]]
    """Of the values that are texts and that windows may answer, by their number."""


class Stages:
    """A detector's expressions, model and policy. One thread at a time."""

    def __init__(self, detector: Detector) -> None:
        features = detector.compiled
        self.detector = detector
        self._points = np.array([rule.points if rule.status == "live" else 0 for rule in detector.running], np.int64)
        self.keys = [
            [Column(name, detector.columns[name]) for name in entity.columns] for entity in features.plan.entities
        ]
        """Of each entity, the parts of its key."""
        texts = sorted({value for values in features.texts.values() for value in values})
        first = len(features.values) + len(features.lanes) + 1
        self._texts = {value: first + place for place, value in enumerate(texts)}
        """Of each value whose texts windows may answer, where these are among the outputs."""
        self.program = Program(
            [
                [*map(lane, features.values), *features.lanes, EVENT_TIME, *(features.values[row] for row in texts)],
                [*features.expressions.values()],
                # A condition that is NULL does not hold.
                [Call("coalesce", (rule.when, _FALSE), BOOLEAN) for rule in detector.running],
            ],
            hashed=dict.fromkeys([EVENT_ID, *(part for key in self.keys for part in key)]),
        )
        names = list(features.expressions)
        self._inputs = [names.index(name) for name in detector.model.features] if detector.model else []
        """The rows of the features that the model takes."""
        self.demote(frozenset())

    def demote(self, rules: frozenset[str]) -> None:
        """From now on the points of these live rules lead to review at most."""
        self.demoted = rules
        demoted = np.array([rule.name in rules for rule in self.detector.running], np.int64)
        self._doubted = np.maximum(self._points, 0) * demoted

    def begin(self, events: pa.RecordBatch) -> Evaluation:
        """Compute what the windows take: `events` have the joined columns."""
        evaluation = Evaluation(self.program, events)
        evaluation.run(LANES)
        return evaluation

    def lanes(self, evaluation: Evaluation) -> Lanes:
        """What `begin` computed."""
        values, known = evaluation.outputs(LANES)
        kept, lanes = len(self.detector.compiled.values), len(self.detector.compiled.lanes)
        texts = {value: evaluation.array(LANES, place) for value, place in self._texts.items()}
        return Lanes(values[kept + lanes], values[:kept] * known[:kept], values[kept : kept + lanes] != 0, texts)

    def judge(
        self,
        evaluation: Evaluation,
        events: pa.RecordBatch,
        answers: npt.NDArray[np.int64],
        valid: npt.NDArray[np.bool_],
        texts: Mapping[int, pa.Array[Any]],
    ) -> Judged:
        """Compute what follows from the answers of the windows: int64[a, n] and bool[a, n] for n events, and by their
        number those that are texts.
        """
        evaluation.answer(answers, valid, texts)
        evaluation.run(FEATURES)
        values, known = evaluation.outputs(FEATURES)
        model_score = self._model_score(values, known)
        evaluation.put(self.detector.model_score, ordered_bits(model_score), ~np.isnan(model_score))
        evaluation.run(RULES)
        fired = evaluation.outputs(RULES)[0]
        points, least = self._points @ fired, np.zeros(events.num_rows, np.int8)
        for lack in lacking(self.detector, events, model_score):
            if lack.effect:
                points += lack.effect.points * lack.rows
                least = np.maximum(least, OUTCOMES.index(lack.effect.least) * lack.rows).astype(np.int8)
        score = self.detector.policy.scores(points, self._doubted @ fired)
        texts = {row: evaluation.array(FEATURES, row) for row in self.detector.compiled.rows.get(VARCHAR, [])}
        outcome = self.detector.policy.outcomes(score, least)
        return Judged(values, known, texts, model_score, fired != 0, score, outcome)

    def inputs(self, values: npt.NDArray[np.int64], known: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """float64[n, k]: the features that the model takes, in its order; NaN is NULL."""
        types = list(self.detector.compiled.expressions.values())
        rows = np.empty((values.shape[1], len(self._inputs)))
        for column, row in enumerate(self._inputs):
            rows[:, column] = values[row].view(np.float64) if types[row].type == DOUBLE else values[row]
        rows[known[self._inputs].T == 0] = np.nan
        return rows

    def _model_score(self, values: npt.NDArray[np.int64], known: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        model = self.detector.model
        return model.scores(self.inputs(values, known)) if model else np.full(values.shape[1], np.nan)


def lacking(detector: Detector, events: pa.RecordBatch, model_score: npt.NDArray[np.float64]) -> list[Lack]:
    """What joins and the model lacked."""
    found = lacks(detector.joins, events)
    if detector.model and np.isnan(model_score).any():
        found.append(Lack(MODEL_SCORE, "defaulted", detector.model.missing, np.isnan(model_score)))
    return found
