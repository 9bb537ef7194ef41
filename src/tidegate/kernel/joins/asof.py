"""ASOF LEFT JOINs: the events of a batch with the columns of the versions that each saw.

Versions that have not arrived yet are not seen. The floor of the versions that are kept follows the clock of the
decided stream, duplicates included: whether an event is one is known only after its windows are answered, and they may
read joined columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.errors import StateError
from tidegate.kernel.arrivals import Arrived
from tidegate.kernel.joins import versions
from tidegate.kernel.joins.ended import EXPIRES, REMOVED
from tidegate.kernel.joins.versions import (
    IN_USE,
    KEYS,
    LENGTH_BITS,
    NIL,
    TEXTS_END,
    TIME,
    VALID,
    VALUES,
    Asked,
    New,
    Table,
)
from tidegate.kernel.machine.clock import Clock
from tidegate.kernel.machine.hashing import combine, fingerprint, hash_column
from tidegate.kernel.machine.program import Evaluation, Program
from tidegate.kernel.machine.words import raw
from tidegate.kernel.plan import Join, JoinPlan, Size, VersionedTable
from tidegate.streams.schema import load_schema

#: Counts up when the arrays of a snapshot change their meaning.
STATE_VERSION = 2

_TIME = "event_time"


class Joins:
    """The joins of one plan, and all versions that they need. One thread at a time."""

    def __init__(self, plan: JoinPlan) -> None:
        self._plan = plan
        self._clock = Clock(plan.lateness_us)
        self._tables = [
            _Table(table, [join for join in plan.joins if join.table == number])
            for number, table in enumerate(plan.tables)
        ]

    def widen(self, arrived: Mapping[str, Arrived], own: Arrived) -> Arrived:
        """The events of `own` with a column for each joined one, named `join.column`: NULL where no version was found.
        The same arrivals, cut into calls in whatever way, give the same columns.
        """
        times = np.array(raw(own.events.column(_TIME)))
        floors = self._clock.tell(times) - self._plan.lateness_us
        events = own.events
        names, columns = list(events.schema.names), list(events.columns)
        for table in self._tables:
            for name, column in table.look_up(arrived.get(table.stream), own, times, floors):
                names.append(name)
                columns.append(column)
        return Arrived(own.at, pa.RecordBatch.from_arrays(columns, names))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All state: arrays by name, to be copied or done with before more is taken in. Nothing, where nothing is
        joined.
        """
        if not self._tables:
            return {}
        arrays = {
            f"table{number}.{name}": array
            for number, table in enumerate(self._tables)
            for name, array in table.table._asdict().items()
        }
        return arrays | {"joins": self._fingerprint(), "clock": self._clock.registers}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from a snapshot, which is copied.

        Raises:
            StateError: the snapshot is not one of joins of this plan.
        """
        if not self._tables:
            return
        if "joins" not in arrays or not np.array_equal(arrays["joins"], self._fingerprint()):
            raise StateError("joins: the snapshot was taken under another plan; fill the tables from the log instead")
        wanted = [f"table{number}.{name}" for number in range(len(self._tables)) for name in Table._fields]
        if missing := [name for name in (*wanted, "clock") if name not in arrays]:
            raise StateError(f"joins: the snapshot lacks {', '.join(missing)}; restore an older snapshot")
        self._clock.registers = np.array(arrays["clock"])
        for number, table in enumerate(self._tables):
            table.table = Table(*(np.array(arrays[f"table{number}.{name}"]) for name in Table._fields))

    def sizes(self) -> dict[str, Size]:
        """What each table takes, by its stream and keys; tables of the same are one here."""
        sizes: dict[str, Size] = {}
        for table in self._tables:
            name, size = f"{table.stream} by {', '.join(table.keys)}", table.size()
            sizes[name] = Size(*map(sum, zip(size, sizes.get(name, (0, 0, 0)), strict=True)))
        return sizes

    def _fingerprint(self) -> npt.NDArray[np.uint8]:
        """uint8[32]: of the plan and of how its state is laid out."""
        return fingerprint(STATE_VERSION, self._plan)


class _Table:
    """One versioned table and the joins that read it."""

    def __init__(self, plan: VersionedTable, joins: list[Join]) -> None:
        schema = load_schema(plan.stream)
        self.stream, self.keys = plan.stream, plan.keys
        self.table = versions.empty_table(len(plan.columns))
        self._plan, self._joins = plan, joins
        self._types = [schema.protected_columns[name] for name in plan.columns]
        self._texts = [index for index, type_ in enumerate(self._types) if pa.types.is_string(type_)]
        self._where = Program([[plan.where]]) if plan.where else None
        self._nothing = Arrived.alone(schema.nothing)
        self._no_new: New | None = None

    def size(self) -> Size:
        registers, room = self.table.registers, sum(array.nbytes for array in self.table)
        return Size(int(registers[IN_USE]), int(registers[KEYS]), room)

    def look_up(
        self,
        arrived: Arrived | None,
        own: Arrived,
        times: npt.NDArray[np.int64],
        floors: npt.NDArray[np.int64],
    ) -> list[tuple[str, pa.Array[Any]]]:
        """Take versions in, and give the columns of all joins. `floors` (int64[events + 1]) is the floor before each
        event, and after all.
        """
        new = self._new(arrived, own, floors) if arrived and len(arrived.at) else self._none_new(own, floors)
        keys = [_keys(own.events, join.keys) for join in self._joins]
        asked = Asked(
            at=own.at,
            times=times,
            floors=floors[1:],
            keys=np.stack([hashes for hashes, _ in keys]),
            known=np.stack([known for _, known in keys]),
        )
        found = np.empty((len(self._joins), len(own.at)), np.int64)
        versions.look_up(self.table, new, asked, found)
        return [
            (join.column(name), self._column(name, found[number]))
            for number, join in enumerate(self._joins)
            for name in join.columns
        ]

    def _none_new(self, own: Arrived, floors: npt.NDArray[np.int64]) -> New:
        """Of a table that nothing came to, as of most in a small batch."""
        if self._no_new is None:
            self._no_new = self._new(self._nothing, own, floors)
        versions.let_go(self.table)
        return self._no_new

    def _new(self, arrived: Arrived, own: Arrived, floors: npt.NDArray[np.int64]) -> New:
        at, events = arrived.at, arrived.events
        hashes, counts = _keys(events, self._plan.keys)
        if self._where:
            evaluation = Evaluation(self._where, events)
            evaluation.run(0)
            values, known = evaluation.outputs(0)
            counts &= (values[0] & known[0]) != 0
        if not counts.all():
            rows: Any = pa.array(np.nonzero(counts)[0])
            at, hashes, events = at[counts], hashes[counts], events.take(rows)
        columns = [events.column(name) for name in self._plan.columns]
        text_bytes = sum(columns[index].nbytes for index in self._texts)
        self.table = versions.with_room(self.table, len(at), text_bytes, self._texts, int(floors[0]))
        values = np.zeros((len(columns), len(at)), np.int64)
        valid = np.zeros(len(at), np.int64)
        for index, column in enumerate(columns):
            values[index] = self._add_texts(column) if index in self._texts else _words(column)
            valid |= column.is_valid().to_numpy(zero_copy_only=False).astype(np.int64) << index
        return New(
            at=at,
            keys=hashes,
            ids=hash_column(events.column("event_id")).view(np.int64),
            times=np.array(raw(events.column(_TIME))),
            floors=floors[np.searchsorted(own.at, at)],
            ends=self._ends(events),
            valid=valid,
            values=values,
        )

    def _ends(self, events: pa.RecordBatch) -> npt.NDArray[np.int64]:
        """int64[m]: from when on each version is none any more."""
        times = raw(events.column(_TIME))
        ends = np.full(len(times), np.iinfo(np.int64).max)
        if self._plan.keep_us is not None:
            # The last instant at which it may be asked for is still one.
            ends = times + self._plan.keep_us + 1
        if EXPIRES in self._plan.ends:
            expires = events.column(EXPIRES)
            known = expires.is_valid().to_numpy(zero_copy_only=False)
            ends = np.where(known, np.minimum(ends, raw(expires)), ends)
        if REMOVED in self._plan.ends:
            ends = np.where(events.column(REMOVED).to_numpy(zero_copy_only=False), times, ends)
        return np.maximum(ends, times)

    def _add_texts(self, column: pa.Array[Any]) -> npt.NDArray[np.int64]:
        """Take the texts of a column in; int64[n]: their names."""
        _, offsets_buffer, content_buffer = cast("Any", column).buffers()
        if content_buffer is None or not len(column):
            return np.zeros(len(column), np.int64)
        offsets = np.frombuffer(offsets_buffer, np.int32)[column.offset : column.offset + len(column) + 1]
        content = np.frombuffer(content_buffer, np.uint8)[offsets[0] : offsets[-1]]
        end = int(self.table.registers[TEXTS_END])
        self.table.texts[end : end + len(content)] = content
        self.table.registers[TEXTS_END] += len(content)
        starts = offsets.astype(np.int64) - offsets[0]
        return ((end + starts[:-1]) << LENGTH_BITS) | np.diff(starts)

    def _type_of(self, name: str) -> pa.DataType:
        return pa.timestamp("us") if name == _TIME else self._types[self._plan.columns.index(name)]

    def _column(self, name: str, found: npt.NDArray[np.int64]) -> pa.Array[Any]:
        """A column of the versions found."""
        there = found != NIL
        if not there.any():
            return pa.nulls(len(found), cast("Any", self._type_of(name)))
        if name == _TIME:
            return _array(self.table.versions[found, TIME], there, pa.timestamp("us"))
        index = self._plan.columns.index(name)
        there &= (self.table.versions[found, VALID] >> index) & 1 == 1
        words = self.table.versions[found, VALUES + index]
        if index not in self._texts:
            return _array(words, there, self._types[index])
        named = np.where(there, words, 0)
        offsets = np.zeros(len(named) + 1, np.int32)
        np.cumsum(versions.lengths(named), out=offsets[1:])
        content = np.empty(int(offsets[-1]), np.uint8)
        versions.copy_texts(self.table, named, offsets, content)
        bitmap = None if there.all() else pa.array(there).buffers()[1]
        buffers = [bitmap, *(pa.py_buffer(cast("Any", part)) for part in (offsets, content))]
        return pa.Array.from_buffers(pa.string(), len(named), buffers)


def _keys(events: pa.RecordBatch, columns: tuple[str, ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """int64[n, 2] and bool[n]: the hash of the events' keys, and whether all parts are there: NULL equals nothing."""
    parts = [events.column(name) for name in columns]
    known = np.ones(events.num_rows, np.bool_)
    for part in parts:
        if part.null_count:
            known &= part.is_valid().to_numpy(zero_copy_only=False)
    return combine([hash_column(part) for part in parts]).view(np.int64), known


def _words(column: pa.Array[Any]) -> npt.NDArray[np.int64]:
    """int64[n]: what holds the values of a column. What stands for NULL means nothing."""
    if pa.types.is_boolean(column.type):
        return column.fill_null(fill_value=False).to_numpy(zero_copy_only=False).astype(np.int64)
    return raw(column)


def _array(words: npt.NDArray[np.int64], there: npt.NDArray[np.bool_], type_: pa.DataType) -> pa.Array[Any]:
    mask = None if there.all() else ~there
    if pa.types.is_boolean(type_):
        return pa.array(words != 0, mask=mask)
    if pa.types.is_floating(type_):
        return pa.array(words.view(np.float64), mask=mask)
    return pa.array(words, mask=mask) if pa.types.is_integer(type_) else pa.array(words, mask=mask).cast(type_)
