"""A sequence followed over what arrives: rows out of the streams' events, and what the matches found come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.kernel.arrivals import Arrived
from tidegate.kernel.conversions import raw
from tidegate.kernel.evaluate import Program
from tidegate.kernel.hashing import combine, hash_column
from tidegate.kernel.lanes import decode, encode
from tidegate.kernel.matches import Complete, Matches, Taken
from tidegate.kernel.sequences import Input, Sequence

_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Due:
    """Matches by duration that have become complete, in that order."""

    at: _Integers
    """int64[m]: the place among all arrivals of the one with which the time had passed."""
    ids: pa.Array[Any]
    """string[m]: of the decision on each, `sequence:id of the first event`."""
    times: _Integers
    """int64[m]: when the duration had passed."""
    measures: list[pa.Array[Any]]


class _Rows:
    """The rows that one input gives."""

    def __init__(self, input_: Input) -> None:
        self.stream = input_.stream.name
        self._counts = (1, len(input_.key), len(input_.conditions), len(input_.lanes), len(input_.texts))
        self._program = Program(
            [input_.where, *input_.key, *input_.conditions, *input_.lanes, *input_.texts],
        )

    def of(self, events: pa.RecordBatch) -> tuple[npt.NDArray[np.bool_], Taken]:
        """Which of the events are rows, and these without a clock."""
        parts = iter(self._program.run(events))
        (where,), key, conditions, lanes, texts = ([next(parts) for _ in range(count)] for count in self._counts)
        kept = _bits(where)
        chosen = np.nonzero(kept)[0]
        mask = np.zeros(len(chosen), np.int64)
        for variable, condition in enumerate(conditions):
            mask |= _bits(condition)[chosen].astype(np.int64) << variable
        values, valid = encode(lanes, events.num_rows)
        nothing = np.empty(0, np.int64)
        return kept, Taken(
            times=raw(events.column("event_time"))[chosen],
            before=nothing,
            clock=nothing,
            keys=combine([hash_column(column) for column in key])[chosen],
            ids=hash_column(events.column("event_id"))[chosen, 0].view(np.int64),
            mask=mask,
            lanes=values[:, chosen],
            valid=valid[chosen],
            texts=[column.to_numpy(zero_copy_only=False)[chosen] for column in texts],
        )


class Tracker:
    """One sequence and its matches. `stream` is the one whose events are decided."""

    def __init__(self, sequence: Sequence, stream: str) -> None:
        self.sequence = sequence
        self._stream = stream
        self._inputs = [_Rows(input_) for input_ in sequence.inputs]
        self._measures = Program(list(sequence.measures.values()))
        self._matches = Matches(sequence.plan)

    def apply(self, arrived: Mapping[str, Arrived]) -> tuple[list[pa.Array[Any]], Due]:
        """Take in what arrived, without duplicates. For each of the stream's events whether it completes a match, and
        that match's measures, NULL if it does not; and what has become complete by duration.
        """
        parts = [(arrived[rows.stream], rows) for rows in self._inputs if rows.stream in arrived]
        taken = [(arrival, *rows.of(arrival.events)) for arrival, rows in parts]
        at = _joined([arrival.at[kept] for arrival, kept, _ in taken])
        order = np.argsort(at, kind="stable")
        clock_at, newest = self._clock(list({id(arrival): arrival for arrival, _ in parts}.values()))
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
        complete = self._matches.apply(rows)
        measures = self._measures_of(complete)
        own = arrived[self._stream].at if self._stream in arrived else np.empty(0, np.int64)
        if self.sequence.plan.by_duration:
            return self._columns(own, np.empty(0, np.int64), measures), self._due(complete, clock_at, newest, measures)
        return self._columns(own, at[order][complete.by], measures), _nothing_due()

    def _clock(self, arrivals: list[Arrived]) -> tuple[_Integers, _Integers]:
        """The places of all that arrived in the sequence's streams, and the newest time before and with each."""
        at = _joined([arrival.at for arrival in arrivals])
        order = np.argsort(at, kind="stable")
        times = _joined([raw(arrival.events.column("event_time")) for arrival in arrivals])[order]
        return at[order], np.maximum.accumulate(np.concatenate([[self._matches.newest], times]))

    def _columns(self, own: _Integers, at: _Integers, measures: list[pa.Array[Any]]) -> list[pa.Array[Any]]:
        """The matches that arrivals completed, put beside the stream's events."""
        row = np.searchsorted(own, at)
        ours = (row < len(own)) & (own[np.minimum(row, len(own) - 1)] == at) if len(own) else np.zeros(len(at), bool)
        match = np.full(len(own), -1)
        match[row[ours]] = np.nonzero(ours)[0]
        which: Any = pa.array(match, mask=match < 0)
        return [pa.array(match >= 0), *(column.take(which) for column in measures)]

    def _due(self, complete: Complete, at: _Integers, newest: _Integers, measures: list[pa.Array[Any]]) -> Due:
        ids = [f"{self.sequence.name}:{first}" for first in complete.ids]
        by = np.searchsorted(newest[1:], complete.times + self.sequence.plan.lateness_us)
        return Due(at[by], pa.array(ids, pa.string()), complete.times, measures)

    def _measures_of(self, complete: Complete) -> list[pa.Array[Any]]:
        answers = [
            pa.array(complete.texts[index], pa.string())
            if index in complete.texts
            else decode(complete.values[index], complete.valid[index], type_)
            for index, type_ in enumerate(self.sequence.types)
        ]
        nothing: Any = pa.array([{}] * len(complete.times), pa.struct([]))
        return self._measures.run(pa.RecordBatch.from_struct_array(nothing), answers)

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """All state, as flat arrays, named after the sequence."""
        return {f"{self.sequence.name}.{name}": array for name, array in self._matches.snapshot().items()}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """
        Raises:
            StateError: the arrays are not those of a snapshot of this sequence.
        """
        start = f"{self.sequence.name}."
        self._matches.restore(
            {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
        )


def _nothing_due() -> Due:
    nothing = np.empty(0, np.int64)
    return Due(nothing, pa.array([], pa.string()), nothing, [])


def _bits(column: pa.Array[Any]) -> npt.NDArray[np.bool_]:
    """bool[n]: NULL does not hold."""
    return (column.fill_null(fill_value=False) if column.null_count else column).to_numpy(zero_copy_only=False)


def _joined(parts: list[npt.NDArray[Any]], shape: tuple[int, ...] = (0,), dtype: Any = np.int64) -> npt.NDArray[Any]:
    """The parts one after the other; of none, an empty array of that shape."""
    return np.concatenate(parts) if parts else np.empty(shape, dtype)


def _across(parts: list[npt.NDArray[np.int64]], rows: int) -> npt.NDArray[np.int64]:
    return np.concatenate(parts, axis=1) if parts else np.empty((rows, 0), np.int64)
