"""The matches of one sequence.

What a row is answered depends on the rows that came before it and on nothing else: it is told of the match that it
completes in its partition, which has the rows up to it, by time (those of equal time as they came). Rows that come
later than the lateness take no part, nor does one whose id and time a row of its partition has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.errors import StateError
from tidegate.kernel.machine import table
from tidegate.kernel.machine.hashing import fingerprint
from tidegate.kernel.machine.table import TABLE_AT, TABLE_COUNT, TABLE_REGISTERS, TABLE_SIZE
from tidegate.kernel.plan import NEVER, Size
from tidegate.kernel.sequences import matchloop as loop
from tidegate.kernel.sequences import matchstore
from tidegate.kernel.sequences.conditions import new_work
from tidegate.kernel.sequences.matchloop import Rows, run_matches
from tidegate.kernel.sequences.matchplan import MatchPlan
from tidegate.kernel.sequences.matchstore import Store
from tidegate.kernel.sequences.matchtables import REGISTERS, tabulate
from tidegate.kernel.sequences.threads import Found

#: Counts up when the arrays of a snapshot change their meaning.
_STATE_VERSION = 1

# Powers of two, small: a sequence that few rows enter stays small, and doubling is soon done.
_FIRST_ROWS = 1024
_FIRST_SLOTS = 512
_FIRST_THREADS = 512
_FIRST_MATCHES = 64


@dataclass(frozen=True, slots=True)
class Taken:
    """n rows in the order in which they arrived; l lanes and t texts of the plan."""

    times: npt.NDArray[np.int64]
    before: npt.NDArray[np.int64]
    """int64[n]: the newest time of all that arrived before each."""
    clock: npt.NDArray[np.int64]
    """int64[n + 1]: the newest time of all up to each; last of all that arrived."""
    keys: npt.NDArray[np.uint64]
    """uint64[n, 2]: the hash of the partition's key."""
    ids: npt.NDArray[np.int64]
    """int64[n]: a hash of the event's id."""
    mask: npt.NDArray[np.int64]
    """int64[n]: the variables that it may be, as bits."""
    lanes: npt.NDArray[np.int64]
    """int64[l, n]"""
    valid: npt.NDArray[np.uint64]
    """uint64[n]: bit i says that lane i is valid."""
    texts: list[npt.NDArray[np.object_]]
    """object[n], t of them."""

    def take(self, rows: Sequence[int]) -> Taken:
        """Only these, without a clock."""
        chosen, nothing = np.array(rows, np.int64), np.empty(0, np.int64)
        texts = [each[chosen] for each in self.texts]
        own = (self.keys[chosen], self.ids[chosen], self.mask[chosen], self.lanes[:, chosen], self.valid[chosen])
        return Taken(self.times[chosen], nothing, nothing, *own, texts)


@dataclass(frozen=True, slots=True)
class Complete:
    """m matches, in the order in which they became complete; r references of the plan."""

    by: npt.NDArray[np.int64]
    """int64[m]: the row that completed it; the number of rows: none of them."""
    times: npt.NDArray[np.int64]
    """int64[m]: of that row, or when its duration had passed."""
    values: npt.NDArray[np.int64]
    """int64[r, m]: what lanes hold; of a text nothing."""
    valid: npt.NDArray[np.bool_]
    """bool[r, m]"""
    texts: dict[int, npt.NDArray[np.object_]]
    """object[m] by reference, of those that are texts."""
    ids: npt.NDArray[np.object_]
    """object[m]: the first text of the match's first row, its id. Empty if it is not by duration."""


class Matches:
    """The partial matches of one plan, and all rows that they need. One thread at a time."""

    def __init__(self, plan: MatchPlan) -> None:
        self._plan = plan
        self._tables = tabulate(plan)
        self._work = new_work()
        self._store = self._empty()
        self._texts = [np.empty(_FIRST_ROWS, np.object_) for _ in range(plan.text_count)]
        self._found = self._room(_FIRST_MATCHES)

    @property
    def newest(self) -> int:
        """The newest time so far, NEVER if there was none."""
        return int(self._store.registers[matchstore.NEWEST])

    @property
    def end(self) -> int:
        """The number of the next row that arrives."""
        return int(self._store.registers[matchstore.END])

    @property
    def nothing(self) -> Complete:
        """No match."""
        return self._complete(self._found.matches[:0])

    def apply(self, rows: Taken) -> Complete:
        """Take rows in. The same rows, cut into calls in whatever way, complete the same matches."""
        count = len(rows.times)
        self._place(rows)
        arrivals = Rows(
            np.ascontiguousarray(rows.keys).view(np.int64),
            np.ascontiguousarray(rows.before),
            np.ascontiguousarray(rows.clock),
        )
        done, found = 0, []
        while done <= count:
            done, short = run_matches(self._store, self._tables, self._work, arrivals, done, self._found)
            if short == loop.MORE_MATCHES:
                found.append(self._found.matches.copy())
                self._found.filled[0] = 0
            elif short != loop.ENOUGH:
                self._grow(short)
        matches = np.concatenate([*found, self._found.matches[: int(self._found.filled[0])]])
        self._found.filled[0] = 0
        return self._complete(matches)

    def before(self, row: int, most: int) -> npt.NDArray[np.int64] | None:
        """The numbers of the rows of its partition that a match which the row completed could have had, by time. None
        if that can't be told any more: it takes no part, some have been let go or came after it, or there are more than
        `most`.
        """
        rows, ring, plan = self._store.rows, len(self._store.rows) - 1, self._plan
        if row < int(self._store.registers[matchstore.FIRST]):
            return None
        time, slot = rows[row & ring, [matchstore.TIME, matchstore.SLOT]].tolist()
        if slot == matchstore.NIL or time < self.newest - plan.lateness_us:
            return None
        found: list[int] = []
        each = int(rows[row & ring, matchstore.PREV])
        while each != matchstore.NIL:
            if each > row or len(found) == most:
                return None
            found.append(each)
            each = int(rows[each & ring, matchstore.PREV])
        numbers = np.array(found[::-1], np.int64)
        numbers = numbers[rows[numbers & ring, matchstore.TIME] > time - plan.span_us]
        # What matches have ended begins no other, nor is in one that began later.
        ended = rows[numbers & ring, matchstore.SKIPPED]
        places = np.nonzero(np.isin(numbers, ended[ended != matchstore.NIL]))[0]
        upto = int(places[-1]) + (plan.skip == "past last row") if len(places) else 0
        return numbers[upto:]

    def key(self, row: int) -> npt.NDArray[np.uint64]:
        """uint64[2]: the key of the partition that a row takes part in."""
        slot = self._store.rows[row & (len(self._store.rows) - 1), matchstore.SLOT]
        return self._store.slots[slot, [matchstore.KEY0, matchstore.KEY1]].view(np.uint64)

    def kept(self, numbers: npt.NDArray[np.int64]) -> Taken:
        """Rows that are kept, as they arrived, without a clock and a key."""
        places = numbers & (len(self._store.rows) - 1)
        rows = self._store.rows[places]
        return Taken(
            times=rows[:, matchstore.TIME],
            before=np.empty(0, np.int64),
            clock=np.empty(0, np.int64),
            keys=np.zeros((len(rows), 2), np.uint64),
            ids=rows[:, matchstore.ID],
            mask=rows[:, matchstore.MASK],
            lanes=np.ascontiguousarray(rows[:, matchstore.LANES :].T),
            valid=np.ascontiguousarray(rows[:, matchstore.VALID]).view(np.uint64),
            texts=[texts[places] for texts in self._texts],
        )

    def _place(self, rows: Taken) -> None:
        """Put the rows into the ring."""
        count = len(rows.times)
        first, end = (int(self._store.registers[register]) for register in (matchstore.FIRST, matchstore.END))
        while end - first + count > len(self._store.rows):
            self._grow_rows()
        ring, start = self._store.rows, end & (len(self._store.rows) - 1)
        # In one piece where they do not go round the ring's end.
        is_piece = start + count <= len(ring)
        places = slice(start, start + count) if is_piece else (end + np.arange(count)) & (len(ring) - 1)
        ring[places, matchstore.TIME], ring[places, matchstore.ID], ring[places, matchstore.MASK] = (
            rows.times,
            rows.ids,
            rows.mask,
        )
        ring[places, matchstore.VALID] = rows.valid.view(np.int64)
        for lane, values in enumerate(rows.lanes):
            ring[places, matchstore.LANES + lane] = values
        for kept, texts in zip(self._texts, rows.texts, strict=True):
            kept[places] = texts

    def _complete(self, matches: npt.NDArray[np.int64]) -> Complete:
        references = self._plan.references
        values = np.ascontiguousarray(matches[:, matchstore.MATCH_WORDS :].T)
        known = matches[:, matchstore.KNOWN]
        valid = np.array([(known >> index) & 1 for index in range(len(references))], np.bool_).reshape(values.shape)
        ring = len(self._store.rows) - 1
        # No row that came with these was put over one that was kept before.
        texts = {
            index: _known(self._texts[reference.lane][values[index] & ring], valid[index])
            for index, reference in enumerate(references)
            if reference.text
        }
        starts = matches[:, matchstore.MATCH_START] & ring
        ids = self._texts[0][starts] if self._plan.by_duration else np.empty(0, np.object_)
        return Complete(matches[:, matchstore.BY], matches[:, matchstore.MATCH_TIME], values, valid, texts, ids)

    def _empty(self) -> Store:
        registers = np.zeros(matchstore.REGISTERS, np.int64)
        registers[matchstore.NEWEST] = NEVER
        registers[[matchstore.FREE_THREAD, matchstore.FREE_SLOT]] = matchstore.NIL
        registers[matchstore.THREADS_END] = matchstore.SCRATCH + 1
        thread_words = matchstore.THREAD_WORDS + int(self._tables.numbers[REGISTERS])
        return Store(
            registers=registers,
            rows=np.zeros((_FIRST_ROWS, matchstore.LANES + self._plan.lane_count), np.int64),
            slots=np.zeros((_FIRST_SLOTS, matchstore.SLOT_WORDS), np.int64),
            slot_table=_slot_table(2 * _FIRST_SLOTS, 0),
            threads=np.zeros((_FIRST_THREADS, thread_words), np.int64),
            timers=np.zeros(_FIRST_ROWS if self._plan.by_duration else 1, np.int64),
        )

    def _room(self, matches: int) -> Found:
        words = matchstore.MATCH_WORDS + len(self._plan.references)
        return Found(np.zeros((matches, words), np.int64), np.zeros(1, np.int64))

    def _grow(self, short: int) -> None:
        store = self._store
        if short == loop.MORE_THREADS:
            self._store = store._replace(threads=np.concatenate([store.threads, np.zeros_like(store.threads)]))
            return
        entries = store.slot_table[TABLE_REGISTERS:]
        slot_table = _slot_table(2 * len(entries), int(store.slot_table[matchstore.SLOT_TABLE + TABLE_COUNT]))
        table.copy(entries, slot_table[TABLE_REGISTERS:])
        slots = np.concatenate([store.slots, np.zeros_like(store.slots)])
        self._store = store._replace(slots=slots, slot_table=slot_table)

    def _grow_rows(self) -> None:
        """A row keeps its number: only where it lies in the ring changes."""
        store = self._store
        count = len(store.rows)
        numbers = np.arange(int(store.registers[matchstore.FIRST]), int(store.registers[matchstore.END]))
        before, after = numbers & (count - 1), numbers & (2 * count - 1)
        # Untouched zeros take no memory, so that doubling costs only what is used.
        rows = np.zeros((2 * count, store.rows.shape[1]), np.int64)
        rows[after] = store.rows[before]
        for index, kept in enumerate(self._texts):
            texts = np.empty(2 * count, np.object_)
            texts[after] = kept[before]
            self._texts[index] = texts
        timers = store.timers
        if self._plan.by_duration:
            timers = np.concatenate([timers, np.zeros_like(timers)])
        self._store = store._replace(rows=rows, timers=timers)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All state: arrays by name, to be copied or done with before more is taken in."""
        arrays: dict[str, npt.NDArray[Any]] = self._store._asdict()
        for index, texts in enumerate(self._texts):
            column: Any = pa.array(texts, pa.large_string())
            _, offsets, content = column.buffers()
            arrays[f"text{index}_offsets"] = np.frombuffer(offsets, np.int64)[: len(texts) + 1]
            arrays[f"text{index}"] = np.frombuffer(content or b"", np.uint8)
            arrays[f"text{index}_null"] = column.is_null().to_numpy(zero_copy_only=False)
        return arrays | {"plan": self._fingerprint()}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from a snapshot, which is copied.

        Raises:
            StateError: the snapshot is not one of matches of this plan.
        """
        if "plan" not in arrays or not np.array_equal(arrays["plan"], self._fingerprint()):
            raise StateError(
                "match engine: the snapshot was taken under another plan than the one it is to be restored to; fill "
                "the sequences from the log or the lake instead"
            )
        parts = [f"text{index}{part}" for index in range(len(self._texts)) for part in ("", "_offsets", "_null")]
        missing = [name for name in (*Store._fields, *parts) if name not in arrays]
        if missing:
            raise StateError(f"match engine: the snapshot lacks {', '.join(missing)}; restore an older snapshot")
        self._store = Store(*(np.array(arrays[name]) for name in Store._fields))
        for index in range(len(self._texts)):
            offsets, content, null = (arrays[f"text{index}{part}"] for part in ("_offsets", "", "_null"))
            buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(content.tobytes())]
            texts = pa.Array.from_buffers(pa.large_string(), len(null), buffers).to_numpy(zero_copy_only=False)
            self._texts[index] = _known(texts, ~null)

    def size(self) -> Size:
        """What rows, partitions and partial matches take, the bytes of texts aside."""
        store = self._store
        rows = int(store.registers[matchstore.END] - store.registers[matchstore.FIRST])
        keys = int(store.slot_table[matchstore.SLOT_TABLE + TABLE_COUNT])
        return Size(rows, keys, sum(array.nbytes for array in (*store, *self._texts)))

    def _fingerprint(self) -> npt.NDArray[np.uint8]:
        """uint8[32]: of the plan and of how its state is laid out."""
        return fingerprint(_STATE_VERSION, self._plan)


def _slot_table(size: int, count: int) -> npt.NDArray[np.int64]:
    """A table of that size, in which so many entries are to be, and before it the words that tell of it."""
    words = np.full(TABLE_REGISTERS + size, table.EMPTY, np.int64)
    words[[TABLE_AT, TABLE_SIZE, TABLE_COUNT]] = TABLE_REGISTERS, size, count
    return words


def _known(texts: npt.NDArray[np.object_], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.object_]:
    """The texts, None where they are not valid."""
    nothing = np.full(len(texts), None, np.object_)
    return np.where(valid, texts, nothing)
