"""A sequence followed over what arrives: rows out of the streams' events, and what the matches found come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.errors import StateError
from tidegate.kernel.arrivals import Arrived
from tidegate.kernel.language.times import DAY_US
from tidegate.kernel.machine.clock import Clock
from tidegate.kernel.machine.hashing import combine, hash_column
from tidegate.kernel.machine.program import Evaluation, Program, lane
from tidegate.kernel.machine.words import raw
from tidegate.kernel.plan import Size
from tidegate.kernel.sequences.matches import Complete, Matches, Taken
from tidegate.kernel.sequences.otherwise import Others, had_been
from tidegate.kernel.sequences.remembered import text_column
from tidegate.kernel.sequences.sequences import Input, Sequence

_Integers = npt.NDArray[np.int64]


#: The stages of a row's way: what the match engine takes as words, and the rest.
_WORDS, _OTHERS = 0, 1

#: A row's valid bits are one word.
_WORD_BYTES = 8


#: An event that is further ahead of a sequence's clock does not move it alone: as with windows, but a stream of few
#: events may be silent for a night, and what did not happen is to be told with the next event.
AHEAD_US = DAY_US

_CLOCK = "clock"


class _Rows:
    """The rows that one input gives."""

    def __init__(self, input_: Input) -> None:
        self.stream = input_.stream.name
        self._conditions, self._keys = len(input_.conditions), len(input_.key)
        words = [input_.where, *input_.conditions, *(lane(expression) for expression in input_.lanes)]
        self._program = Program([words, [*input_.key, *input_.texts]])
        self._others = len(input_.key) + len(input_.texts)
        self._no_rows: Taken | None = None

    def of(self, events: pa.RecordBatch) -> tuple[npt.NDArray[np.bool_], Taken]:
        """Which of the events are rows, and these without a clock."""
        evaluation = Evaluation(self._program, events)
        evaluation.run(_WORDS)
        values, known = evaluation.outputs(_WORDS)
        kept = (values[0] != 0) & (known[0] != 0)
        chosen = np.nonzero(kept)[0]
        if not len(chosen) and self._no_rows is not None:
            return kept, self._no_rows
        evaluation.run(_OTHERS)
        values, known = values[1:, chosen], known[1:, chosen]
        mask = np.zeros(len(chosen), np.int64)
        for variable in range(self._conditions):
            mask |= ((values[variable] != 0) & (known[variable] != 0)).astype(np.int64) << variable
        lanes, known = values[self._conditions :] * known[self._conditions :], known[self._conditions :]
        valid = np.zeros((len(chosen), _WORD_BYTES), np.uint8)
        packed = np.packbits(known.T, axis=1, bitorder="little")
        valid[:, : packed.shape[1]] = packed
        others = [evaluation.array(_OTHERS, index) for index in range(self._others)]
        nothing = np.empty(0, np.int64)
        taken = Taken(
            times=raw(events.column("event_time"))[chosen],
            before=nothing,
            clock=nothing,
            keys=combine([hash_column(column) for column in others[: self._keys]])[chosen],
            ids=hash_column(events.column("event_id"))[chosen, 0].view(np.int64),
            mask=mask,
            lanes=lanes,
            valid=valid.view(np.uint64)[:, 0],
            texts=[column.to_numpy(zero_copy_only=False)[chosen] for column in others[self._keys :]],
        )
        if not len(chosen):
            self._no_rows = taken
        return kept, taken


class Tracker:
    """One sequence and its matches."""

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.batch = 0
        """Counts what was taken in."""
        self._places = self._numbers = np.empty(0, np.int64)
        """Of the rows that came last: where they stood among all that arrived, and their numbers."""
        self._inputs = [_Rows(input_) for input_ in sequence.inputs]
        self._measures = Program([list(sequence.measures.values())])
        self._matches = Matches(sequence.plan)
        self._clock = Clock(max(sequence.plan.lateness_us, AHEAD_US))

    def apply(self, arrived: Mapping[str, Arrived], own: Arrived) -> tuple[dict[str, pa.Array[Any]], Arrived | None]:
        """Take in what arrived. The columns that it gives to the events that are decided, `own`: whether each completes
        a match, and that match's measures, NULL if it does not. And what has become complete without one of these
        events, if anything, with the columns: by an event of another stream, event_id then is `sequence:id of that
        event` and event_time its time; or by duration, event_id `sequence:id of the first row` and event_time when the
        duration had passed.
        """
        parts = [(arrived[rows.stream], rows) for rows in self._inputs if rows.stream in arrived]
        taken = [(arrival, *rows.of(arrival.events)) for arrival, rows in parts]
        clock_at, newest = self._told_by(list({id(arrival): arrival for arrival, _ in parts}.values()))
        self.batch += 1
        if not self.sequence.plan.by_duration and not any(len(part.times) for *_, part in taken):
            self._places = self._numbers = np.empty(0, np.int64)
            return self._told(np.full(len(own.at), -1), self._no_measures), None
        at = _joined([arrival.at[kept] for arrival, kept, _ in taken])
        # The rows of one input are in order.
        order = slice(None) if len(parts) == 1 else np.argsort(at, kind="stable")
        until = np.searchsorted(clock_at, at[order])
        rows = Taken(
            times=_joined([part.times for *_, part in taken])[order],
            before=newest[until],
            clock=np.append(newest[until + 1], newest[-1]),
            keys=_joined([part.keys for *_, part in taken], (0, 2), np.uint64)[order],
            ids=_joined([part.ids for *_, part in taken])[order],
            mask=_joined([part.mask for *_, part in taken])[order],
            lanes=_across([part.lanes for *_, part in taken], self.sequence.plan.lane_count)[:, order],
            valid=_joined([part.valid for *_, part in taken], dtype=np.uint64)[order],
            texts=[
                _joined([part.texts[index] for *_, part in taken], dtype=np.object_)[order]
                for index in range(self.sequence.plan.text_count)
            ],
        )
        self._places, self._numbers = at[order], self._matches.end + np.arange(len(at))
        complete = self._matches.apply(rows)
        measures = self._measures_of(complete) if len(complete.by) else self._no_measures
        if not self.sequence.plan.by_duration:
            places = at[order][complete.by]
            return self._columns(own.at, places, measures), self._foreign(own.at, places, parts, complete, measures)
        by = np.searchsorted(newest[1:], complete.times + self.sequence.plan.lateness_us)
        due = self._due(complete.ids, complete.times, clock_at[by], measures) if len(by) else None
        return self._columns(own.at, np.empty(0, np.int64), measures), due

    def _told_by(self, arrivals: list[Arrived]) -> tuple[_Integers, _Integers]:
        """The places of all that arrived in the sequence's streams, and the clock before and with each."""
        at = _joined([arrival.at for arrival in arrivals])
        order = np.argsort(at, kind="stable")
        times = _joined([raw(arrival.events.column("event_time")) for arrival in arrivals])[order]
        return at[order], self._clock.tell(times)

    def _columns(self, own: _Integers, at: _Integers, measures: list[pa.Array[Any]]) -> dict[str, pa.Array[Any]]:
        """The matches that arrivals completed, put beside the events that are decided."""
        match = np.full(len(own), -1)
        if len(own) and len(at):
            row = np.minimum(np.searchsorted(own, at), len(own) - 1)
            ours = np.nonzero(own[row] == at)[0]
            match[row[ours]] = ours
        return self._told(match, measures)

    def had_been(
        self, stream: str, places: _Integers, events: pa.RecordBatch
    ) -> tuple[dict[str, pa.Array[Any]], npt.NDArray[np.bool_]]:
        """The columns that would have been given to events of a stream, which stood at `places` of what arrived last,
        had they been others; and bool[n]: whether that can be told.
        """
        inputs = [rows for rows in self._inputs if rows.stream == stream]
        if self.sequence.plan.by_duration or not inputs:
            # No match is told with an event of the stream.
            return {}, np.ones(len(places), np.bool_)
        if len(inputs) > 1:
            return {}, np.zeros(len(places), np.bool_)
        numbers = dict(zip(self._places.tolist(), self._numbers.tolist(), strict=True))
        were = np.array([numbers.get(place, -1) for place in places.tolist()], np.int64)
        kept, others = inputs[0].of(events)
        complete, match, told = had_been(self._matches, self.sequence.plan, Others(were, kept, others))
        return self._told(match, self._measures_of(complete) if complete else self._no_measures), told

    @cached_property
    def _no_measures(self) -> list[pa.Array[Any]]:
        return self._measures_of(self._matches.nothing)

    def _told(self, match: _Integers, measures: list[pa.Array[Any]]) -> dict[str, pa.Array[Any]]:
        """The columns of events, of which each completes a match (-1: none)."""
        if not len(match) or match.max() < 0:
            nulls = [pa.nulls(len(match), column.type) for column in measures]
            return dict(zip(self.sequence.columns, [pa.array(match >= 0), *nulls], strict=True))
        which: Any = pa.array(match, mask=match < 0)
        columns = [pa.array(match >= 0), *(column.take(which) for column in measures)]
        return dict(zip(self.sequence.columns, columns, strict=True))

    def _foreign(
        self,
        own: _Integers,
        places: _Integers,
        parts: list[tuple[Arrived, _Rows]],
        complete: Complete,
        measures: list[pa.Array[Any]],
    ) -> Arrived | None:
        """The matches that were completed by events which are not decided, if any."""
        foreign = np.nonzero(~np.isin(places, own))[0] if len(places) else places
        if not len(foreign):
            return None
        at, which = places[foreign], cast("Any", pa.array(foreign))
        ids: dict[int, str] = {}
        for arrival in {id(arrival): arrival for arrival, _ in parts}.values():
            rows = np.nonzero(np.isin(arrival.at, at))[0]
            found: list[Any] = arrival.events.column("event_id").take(cast("Any", pa.array(rows))).to_pylist()
            ids |= dict(zip(arrival.at[rows].tolist(), found, strict=True))
        told = [ids[place] for place in at.tolist()]
        return self._due(told, complete.times[foreign], at, [column.take(which) for column in measures])

    def _due(self, ids: Iterable[str], times: _Integers, at: _Integers, measures: list[pa.Array[Any]]) -> Arrived:
        columns: dict[str, pa.Array[Any]] = {
            "event_id": pa.array([f"{self.sequence.name}:{each}" for each in ids], pa.string()),
            "event_time": pa.array(times, pa.timestamp("us")),
            self.sequence.name: pa.array(np.full(len(at), fill_value=True)),
            **dict(zip(self.sequence.measures, measures, strict=True)),
        }
        return Arrived(at, pa.RecordBatch.from_arrays(list(columns.values()), list(columns)))

    def _measures_of(self, complete: Complete) -> list[pa.Array[Any]]:
        count = len(complete.times)
        columns = {text_column(index): pa.array(texts, pa.string()) for index, texts in complete.texts.items()}
        # A record batch that may have rows and no columns.
        nothing: Any = pa.array([{}] * count, pa.struct([]))
        texts = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
        evaluation = Evaluation(self._measures, texts if columns else pa.RecordBatch.from_struct_array(nothing))
        answers = self._measures.answers
        evaluation.answer(complete.values[:answers], complete.valid[:answers], {})
        evaluation.run(0)
        return [evaluation.array(0, index) for index in range(len(self.sequence.measures))]

    def size(self) -> Size:
        return self._matches.size()

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All state, as flat arrays, named after the sequence."""
        arrays = self._matches.state() | {_CLOCK: self._clock.registers}
        return {f"{self.sequence.name}.{name}": array for name, array in arrays.items()}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """
        Raises:
            StateError: the arrays are not those of a snapshot of this sequence.
        """
        start = f"{self.sequence.name}."
        own = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
        self._matches.restore(own)
        if _CLOCK not in own:
            raise StateError(f"sequence {self.sequence.name}: the snapshot lacks its clock; restore an older snapshot")
        self._clock.registers = np.array(own[_CLOCK])


class Followed(NamedTuple):
    """A sequence as it was after a batch."""

    tracker: Tracker
    batch: int

    @property
    def is_last(self) -> bool:
        """Whether nothing has come since."""
        return self.tracker.batch == self.batch


def follow(trackers: Iterable[Tracker], arrived: Mapping[str, Arrived], own: Arrived) -> tuple[Arrived, list[Arrived]]:
    """The events that are decided with the columns of all sequences; and the matches that have become complete by
    duration, or by an event of another stream, with the same columns, of which only their own are not NULL.
    """
    columns = dict(zip(own.events.schema.names, own.events.columns, strict=True))
    found: list[Arrived] = []
    for tracker in trackers:
        told, due = tracker.apply(arrived, own)
        columns |= told
        if due is not None:
            found.append(due)
    events = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
    return Arrived(own.at, events), [Arrived(due.at, _widened(due.events, events.schema)) for due in found]


def _widened(events: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """With all columns of the schema: NULL if they are not there."""
    types: dict[str, Any] = {field.name: field.type for field in schema}
    columns = [
        events.column(name) if name in events.schema.names else pa.nulls(events.num_rows, type_)
        for name, type_ in types.items()
    ]
    return pa.RecordBatch.from_arrays(columns, list(types))


def _joined(parts: list[npt.NDArray[Any]], shape: tuple[int, ...] = (0,), dtype: Any = np.int64) -> npt.NDArray[Any]:
    """The parts one after the other; of none, an empty array of that shape."""
    return np.concatenate(parts) if parts else np.empty(shape, dtype)


def _across(parts: list[npt.NDArray[np.int64]], rows: int) -> npt.NDArray[np.int64]:
    return np.concatenate(parts, axis=1) if parts else np.empty((rows, 0), np.int64)
