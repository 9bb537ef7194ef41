"""The kernel: a batch of events in, a batch of decisions out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.kernel.arrivals import LABELS, Arrived
from tidegate.kernel.decisions import Decisions
from tidegate.kernel.detector import Detector
from tidegate.kernel.explain import Answered
from tidegate.kernel.joins.asof import Joins
from tidegate.kernel.machine.hashing import hash_column, hash_keys
from tidegate.kernel.machine.program import Evaluation, Program
from tidegate.kernel.machine.words import raw
from tidegate.kernel.plan import Size
from tidegate.kernel.sequences.tracking import Followed, Tracker, follow
from tidegate.kernel.stages import EVENT_ID, Lanes, Stages
from tidegate.kernel.windows.windows import FRAUD, GENUINE, ROW, Arrivals, Windows
from tidegate.kernel.windowtexts import WindowTexts


class Kernel:
    """Decides the events of a detector's stream, one batch of arrivals after the other."""

    def __init__(self, detector: Detector) -> None:
        features = detector.compiled
        self.detector = detector
        self._stages = Stages(detector)
        keys = self._stages.keys
        self._parts = np.zeros((len(keys), 1 + max(map(len, keys), default=0)), np.int64)
        """Of each entity, how many parts its key has and the number of each in the program."""
        for place, key in zip(self._parts, keys, strict=True):
            place[: 1 + len(key)] = [len(key), *map(self._stages.program.text_number, key)]
        self._id = np.array([self._stages.program.text_number(EVENT_ID)])
        self._derived = Program([[*features.derived.values()]])
        self._joins = Joins(features.joins)
        self._trackers = [Tracker(sequence) for sequence in detector.sequences]
        self._windows = Windows(features.plan)
        self._texts = WindowTexts(features.texts)
        self._nothing = Arrived.alone(detector.stream.nothing)

    def demote(self, rules: frozenset[str]) -> None:
        """From now on the points of these live rules lead to review at most. It is no part of a snapshot."""
        self._stages.demote(rules)

    def decide(self, arrived: Mapping[str, Arrived]) -> Decisions:
        """Decide the events of the detector's stream, in their order of arrival, each by what arrived before it.

        `arrived` is by stream; a stream of `detector.streams` that is not there had nothing to give, others are passed
        over. How arrivals are cut into calls changes nothing.
        """
        own = arrived.get(self.detector.stream.name, self._nothing)
        if self.detector.joined:
            own = self._joins.widen(arrived, own)
        if self.detector.compiled.derived:
            own = Arrived(own.at, self._with_derived(own.events))
        labels = arrived.get(LABELS) if LABELS in self.detector.streams else None
        due: list[Arrived] = []
        if self._trackers:
            own, due = follow(self._trackers, arrived, own)
        events = own.events
        # Where each event stands among all that the windows take.
        at = np.arange(events.num_rows)
        if labels is not None:
            at += np.searchsorted(labels.at, own.at)
        evaluation = self._stages.begin(events)
        lanes = self._stages.lanes(evaluation)
        self._texts.take(lanes)
        answers = self._windows.apply(self._arrivals(evaluation, lanes, own, labels, at))
        if labels is not None:
            answers = answers.take(at)
        texts = self._texts.answered(answers.values, answers.valid)
        answered = Answered(answers.values, answers.valid, texts)
        self._texts.forget(self._windows)
        index = np.arange(events.num_rows)
        decisions = self._decisions(evaluation, Arrived(own.at, events), index, answers.late, answered)
        if answers.duplicate.any():
            decisions = decisions.take(np.nonzero(~answers.duplicate)[0])
        return decisions.and_([self._due(matches) for matches in due]) if due else decisions

    def _due(self, due: Arrived) -> Decisions:
        """Decide matches by duration: of such a one only its measures are known."""
        rows = due.events.num_rows
        nothing = np.zeros((len(self.detector.compiled.plan.aggregates), rows), np.int64)
        answered = Answered(nothing, nothing != 0, self._texts.answered(nothing, nothing != 0))
        index, late = np.full(rows, -1), np.zeros(rows, np.bool_)
        return self._decisions(self._stages.begin(due.events), due, index, late, answered)

    def _decisions(
        self,
        evaluation: Evaluation,
        arrived: Arrived,
        index: npt.NDArray[np.int64],
        late: npt.NDArray[np.bool_],
        answered: Answered,
    ) -> Decisions:
        events = arrived.events
        return Decisions(
            detector=self.detector,
            index=index,
            at=arrived.at,
            events=events,
            late=late,
            judged=self._stages.judge(evaluation, events, *answered),
            answered=answered,
            demoted=self._stages.demoted,
            stages=self._stages,
            followed=[Followed(tracker, tracker.batch) for tracker in self._trackers],
        )

    def _with_derived(self, events: pa.RecordBatch) -> pa.RecordBatch:
        """The events and what windows gather them by that no stream has."""
        evaluation = Evaluation(self._derived, events)
        evaluation.run(0)
        names = self.detector.compiled.derived
        columns = [evaluation.array(0, place) for place in range(len(names))]
        return pa.RecordBatch.from_arrays([*events.columns, *columns], [*events.schema.names, *names])

    def _arrivals(
        self,
        evaluation: Evaluation,
        lanes: Lanes,
        own: Arrived,
        labels: Arrived | None,
        at: npt.NDArray[np.int64],
    ) -> Arrivals:
        rows = own.events.num_rows
        times, values, valid, _ = lanes
        keys = np.empty((len(self._parts), rows, 2), np.int64)
        places = self._parts.copy()
        places[:, 1:] = evaluation.first_hash(places[:, 1:])
        hash_keys(places, evaluation.hashes, keys)
        (first_id,) = evaluation.first_hash(self._id)
        ids = evaluation.hashes[first_id : first_id + rows]
        kinds = np.full(rows, ROW, np.int8)
        if labels is None or not len(labels.at):
            return Arrivals(times, ids, kinds, keys, values, valid)
        label_at = np.arange(len(labels.at)) + np.searchsorted(own.at, labels.at)
        fraud = labels.events.column("is_fraud").to_numpy(zero_copy_only=False)
        total = rows + len(label_at)

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
            ids=spread(ids, hash_column(labels.events.column("transaction_id")).view(np.int64)),
            kinds=spread(kinds, np.where(fraud, FRAUD, GENUINE).astype(np.int8)),
            keys=spread(keys, 0, axis=1),
            values=spread(values, 0, axis=1),
            valid=spread(valid, 0, axis=1),
        )

    def sizes(self) -> list[tuple[str, str, Size]]:
        """What each part of the state takes: `windows`, `join` or `sequence`, and whose."""
        parts = {
            "windows": self._windows.sizes(),
            "join": self._joins.sizes(),
            "sequence": {tracker.sequence.name: tracker.size() for tracker in self._trackers},
        }
        return [(part, name, size) for part, sizes in parts.items() for name, size in sizes.items()]

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """The whole state as flat arrays, to be copied or done with before more is decided."""
        arrays = self._windows.state() | self._texts.state() | self._joins.state()
        for tracker in self._trackers:
            arrays |= tracker.state()
        return arrays

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """The whole state as flat arrays, copied."""
        return {name: array.copy() for name, array in self.state().items()}

    def restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Take up the state of a snapshot of the same detector version.

        Raises:
            DamagedError: the arrays are not those of a snapshot of this detector.
        """
        self._windows.restore(arrays)
        self._texts.restore(arrays)
        self._joins.restore(arrays)
        for tracker in self._trackers:
            tracker.restore(arrays)
