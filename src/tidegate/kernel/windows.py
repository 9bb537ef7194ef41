"""Exact sliding windows by event time.

A row is kept while its time is not older than the newest row's by more than the plan's horizon: the widest frame and
the lateness, or the dedupe span if that is longer. What a row is answered depends on the arrivals before it and on
nothing else:

    it sees the rows that came before it, itself, and of the others those that are kept as of the newest row so far
    a row counts with the label that has the newest time not after the seeing row's (of equal times, the last to come)
    a row whose id is that of a row that is kept is a duplicate: it changes nothing
    a row that would not be kept is answered from itself alone, and changes nothing
    a label whose transaction is not kept waits for it, as long as a row of the label's time would be kept
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np

from tidegate.errors import StateError
from tidegate.kernel import frames, rowlog
from tidegate.kernel.layout import COUNT, DISTINCT, EXTREME, SUM, lay_out
from tidegate.kernel.plan import WindowPlan
from tidegate.kernel.rowlog import NIL, Log
from tidegate.kernel.storage import (
    ENOUGH,
    LAYOUT_VERSION,
    MORE_BAG,
    MORE_LABELS,
    MORE_ROWS,
    MORE_SLOTS,
    MORE_WAITING,
    arrays_of,
    empty_log,
    with_more,
)

#: What arrives: a row, or a label for one.
ROW, GENUINE, FRAUD = 0, rowlog.GENUINE, rowlog.FRAUD


@dataclass(frozen=True, slots=True)
class Arrivals:
    """n rows and labels in the order in which they arrived; e entities and l lanes of the plan."""

    times: np.ndarray
    """int64[n], microseconds since 1970."""
    ids: np.ndarray
    """uint64[n, 2]: the hash of the row's own event id, or of the id of the transaction that a label labels."""
    kinds: np.ndarray
    """int8[n]: ROW, GENUINE or FRAUD."""
    keys: np.ndarray
    """uint64[e, n, 2]: the hash of the row's key by entity. Of a label, anything."""
    lanes: np.ndarray
    """int64[l, n]. Of a label, anything."""
    valid: np.ndarray
    """uint64[n]: bit i says that lane i is valid."""


@dataclass(frozen=True, slots=True)
class Answers:
    """One answer to each arrival, a aggregates. A label's and a duplicate's values mean nothing."""

    values: np.ndarray
    """int64[a, n]. A sum beyond int64 is answered as the nearest that int64 holds."""
    valid: np.ndarray
    """bool[a, n]: SUM, MIN and MAX over no valid row are NULL, counts never are."""
    duplicate: np.ndarray
    """bool[n]: the id is that of a row that is kept; it was neither placed nor answered."""
    late: np.ndarray
    """bool[n]: older than the newest row by more than the plan's lateness."""


@numba.njit(cache=True, nogil=True)
def _answer_sum(log: Any, slot: Any, column: Any) -> Any:
    upper, lower = log.slots[slot, column], log.slots[slot, column + 1]
    upper += lower >> 32
    if upper >= 2**31:
        return np.int64(2**63 - 1)
    if upper < -(2**31):
        return np.int64(-(2**63))
    return (upper << 32) | (lower & 0xFFFFFFFF)


@numba.njit(cache=True, nogil=True)
def _answer(
    log: Any,
    layout: Any,
    entity: Any,
    slot: Any,
    row: Any,
    clock: Any,
    floor: Any,
    unlabelled: Any,
    values: Any,
    valid: Any,
) -> None:
    """Answer a row just counted in, in values and valid [aggregates]. Its key's state is as of the row's time, the
    chains as of the clock. `unlabelled`: there are labels between these times."""
    time = rowlog.time_of(log, row)
    for i in range(layout.answers_of_entity[entity], layout.answers_of_entity[entity + 1]):
        aggregate, kind, at = layout.answer[i], layout.answer_kind[i], layout.answer_from[i]
        if kind == SUM:
            values[aggregate] = _answer_sum(log, slot, at)
            valid[aggregate] = log.slots[slot, layout.answer_valid[i]] > 0
        elif kind == EXTREME:
            found, value = frames.extreme(
                log, layout, entity, slot, layout.answer_window[i], at, row, clock, floor, unlabelled
            )
            values[aggregate], valid[aggregate] = value, found
        else:
            values[aggregate] = log.slots[slot, at]
            valid[aggregate] = True


@numba.njit(cache=True, nogil=True)
def _answer_alone(layout: Any, lanes: Any, valid_lanes: Any, values: Any, valid: Any) -> None:
    """Answer a row that sees nothing but itself, and of which no label is known."""
    for i in range(len(layout.answer)):
        aggregate, kind, lane = layout.answer[i], layout.answer_kind[i], layout.answer_lane[i]
        seen = layout.upper[layout.answer_window[i]] == 0 and (lane < 0 or (valid_lanes >> lane) & 1 == 1)
        if kind == COUNT or kind == DISTINCT:  # noqa: PLR1714 - numba builds a set at every turn
            values[aggregate], valid[aggregate] = seen, True
        else:
            values[aggregate], valid[aggregate] = lanes[lane] if seen else 0, seen


@numba.njit(cache=True, nogil=True)
def _place(
    log: Any, layout: Any, entity: Any, key0: Any, key1: Any, row: Any, floor: Any, values: Any, valid: Any
) -> None:
    """Put a row into the list of one of its keys, count it and answer it."""
    slot = rowlog.slot_of(log, entity, key0, key1)
    if slot == NIL:
        slot = rowlog.open_slot(log, entity, key0, key1)
    time = rowlog.time_of(log, row)
    tail = np.int64(log.cursors[slot, rowlog.TAIL])
    clock = rowlog.time_of(log, tail) if tail != NIL else time
    in_order = time >= clock
    unlabelled = False
    if in_order:
        if frames.apply_labels(log, layout, entity, slot, time):
            frames.chain_labelled(log, layout, entity, slot, time)
        frames.move_edges_forward(log, layout, entity, slot, time, floor, True)
    else:
        frames.move_edges_forward(log, layout, entity, slot, clock, floor, True)
        unlabelled = frames.take_back_labels(log, layout, entity, slot, time)
        frames.move_edges_back(log, layout, entity, slot, time, floor)
    rowlog.link_row(log, entity, slot, row)
    label = np.int64(log.links[row, rowlog.LABEL])
    while label != NIL:
        rowlog.link_label(log, entity, slot, label, time)
        label = np.int64(log.label_links[label, rowlog.OLDER])
    frames.count_in(log, layout, entity, slot, row, in_order)
    _answer(log, layout, entity, slot, row, max(time, clock), floor, unlabelled, values, valid)
    if not in_order:
        frames.apply_labels(log, layout, entity, slot, clock)
        frames.move_edges_forward(log, layout, entity, slot, clock, floor, False)
        frames.chain_in(log, layout, entity, slot, row, clock)


@numba.njit(cache=True, nogil=True)
def _retire(log: Any, layout: Any, row: Any, floor: Any) -> None:
    """Free the ring's first row, which is older than `floor`."""
    newest = np.int64(log.links[row, rowlog.LABEL])
    for entity in range(len(layout.windows_of_entity) - 1):
        slot = np.int64(log.links[row, rowlog.SLOT + rowlog.LINKS_AN_ENTITY * entity])
        clock = rowlog.time_of(log, np.int64(log.cursors[slot, rowlog.TAIL]))
        frames.move_edges_forward(log, layout, entity, slot, clock, floor, True)
        for window in range(layout.windows_of_entity[entity], layout.windows_of_entity[entity + 1]):
            high = layout.edges[window] + 1
            if log.cursors[slot, high] == row:
                log.cursors[slot, high] = rowlog.preceding(log, entity, row)
        rowlog.unlink_row(log, entity, slot, row)
        label = newest
        while label != NIL:
            rowlog.unlink_label(log, entity, slot, label)
            label = np.int64(log.label_links[label, rowlog.OLDER])
        if log.cursors[slot, rowlog.HEAD] == NIL:
            rowlog.close_slot(log, slot)
    rowlog.free_older(log, newest, frames.END_OF_TIME)
    rowlog.drop_first_row(log)


@numba.njit(cache=True, nogil=True)
def _label(log: Any, layout: Any, id0: Any, id1: Any, time: Any, verdict: Any, floor: Any) -> None:
    """A label changes how its row counts from the label's time on."""
    row = rowlog.kept_row(log, id0, id1, floor)
    if row == NIL:
        if time >= floor:
            rowlog.keep_waiting(log, id0, id1, time, verdict)
        return
    known = rowlog.label_at(log, np.int64(log.links[row, rowlog.LABEL]), time)
    before = rowlog.verdict_of(log, known)
    newest, label = rowlog.add_to_history(log, np.int64(log.links[row, rowlog.LABEL]), time)
    log.links[row, rowlog.LABEL] = newest
    log.labels[label, rowlog.VERDICT] = verdict
    log.label_links[label, rowlog.LABELLED] = row
    for entity in range(len(layout.windows_of_entity) - 1):
        slot = np.int64(log.links[row, rowlog.SLOT + rowlog.LINKS_AN_ENTITY * entity])
        clock = rowlog.time_of(log, np.int64(log.cursors[slot, rowlog.TAIL]))
        if label != known:
            rowlog.link_label(log, entity, slot, label, clock)
        if rowlog.label_at(log, newest, clock) == label and frames.swap_verdict(
            log, layout, entity, slot, row, before, verdict
        ):
            frames.chain_labelled(log, layout, entity, slot, clock)


@numba.njit(cache=True, nogil=True)
def _shortage(log: Any, layout: Any, arrivals: Any, i: Any, floor: Any) -> Any:
    """What the log must have more of before the arrival can be taken."""
    registers = log.registers
    if arrivals.kinds[i] != ROW:
        if registers[rowlog.FREE_LABELS] == 0:
            return MORE_LABELS
        if registers[rowlog.FREE_WAITING] == 0:
            return MORE_WAITING
        return MORE_BAG if registers[rowlog.FREE_BAG] < len(layout.kind) else ENOUGH
    if registers[rowlog.ROWS] == len(log.rows):
        return MORE_ROWS
    entity_count = len(layout.windows_of_entity) - 1
    if registers[rowlog.FREE_SLOTS] < entity_count:
        return MORE_SLOTS
    if layout.distinct:
        demand = len(layout.kind)
        for entity in range(entity_count):
            slot = rowlog.slot_of(log, entity, arrivals.keys[entity, i, 0], arrivals.keys[entity, i, 1])
            if slot != NIL:
                demand += frames.bag_demand(log, layout, entity, slot, arrivals.times[i], floor)
        if registers[rowlog.FREE_BAG] < demand:
            return MORE_BAG
    return ENOUGH


@numba.njit(cache=True, nogil=True)
def _run(log: Any, layout: Any, arrivals: Any, start: Any, values: Any, valid: Any, duplicate: Any, late: Any) -> Any:
    """Take arrivals from `start` on until one finds no room: how many are taken now, and what is short."""
    for i in range(start, len(arrivals.times)):
        time, id0, id1 = arrivals.times[i], arrivals.ids[i, 0], arrivals.ids[i, 1]
        newest = log.registers[rowlog.NEWEST]
        is_row = arrivals.kinds[i] == ROW
        floor = (max(newest, time) if is_row else newest) - layout.horizon
        short = _shortage(log, layout, arrivals, i, floor)
        if short != ENOUGH:
            return i, short
        if not is_row:
            if layout.labelled:
                _label(log, layout, id0, id1, time, np.int64(arrivals.kinds[i]), floor)
            continue
        if rowlog.kept_row(log, id0, id1, floor) != NIL:
            duplicate[i] = True
            continue
        late[i] = time < newest - layout.lateness
        if time < floor:
            _answer_alone(layout, arrivals.lanes[:, i], arrivals.valid[i], values[i], valid[i])
            continue
        log.registers[rowlog.NEWEST] = max(newest, time)
        while log.registers[rowlog.ROWS] and rowlog.time_of(log, log.registers[rowlog.FIRST]) < floor:
            _retire(log, layout, log.registers[rowlog.FIRST], floor)
        row = rowlog.new_row(log, id0, id1, time, arrivals.valid[i])
        for lane in range(len(arrivals.lanes)):
            log.rows[row, rowlog.LANES + lane] = arrivals.lanes[lane, i]
        log.links[row, rowlog.LABEL] = rowlog.end_waiting(log, id0, id1, row, floor)
        for entity in range(len(layout.windows_of_entity) - 1):
            key0, key1 = arrivals.keys[entity, i, 0], arrivals.keys[entity, i, 1]
            _place(log, layout, entity, key0, key1, row, floor, values[i], valid[i])
    return len(arrivals.times), ENOUGH


class _Columns(NamedTuple):
    """Arrivals as the loops take them: all words signed."""

    times: np.ndarray
    ids: np.ndarray
    kinds: np.ndarray
    keys: np.ndarray
    lanes: np.ndarray
    valid: np.ndarray


def _columns(arrivals: Arrivals) -> _Columns:
    def words(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array).view(np.int64)

    return _Columns(
        times=words(arrivals.times),
        ids=words(arrivals.ids),
        kinds=np.ascontiguousarray(arrivals.kinds, np.int8),
        keys=words(arrivals.keys),
        lanes=words(arrivals.lanes),
        valid=words(arrivals.valid),
    )


class Windows:
    """The windows of one plan, and all rows that they need. One thread at a time."""

    def __init__(self, plan: WindowPlan) -> None:
        """
        Raises:
            UsageError: the plan asks for what cannot be answered.
        """
        self._plan = plan
        self._layout = lay_out(plan)
        self._log = empty_log(self._layout, plan.lane_count)

    def apply(self, arrivals: Arrivals) -> Answers:
        """Take rows and labels in, and answer the rows. The same arrivals, cut into calls in whatever way, give the
        same answers.

        Raises:
            StateError: more rows would be kept than a log can hold. Arrivals before the one that was too many are in.
        """
        columns = _columns(arrivals)
        count = len(columns.times)
        shape = (count, len(self._plan.aggregates))
        values, valid = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
        duplicate, late = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        done = 0
        while True:
            done, short = _run(self._log, self._layout, columns, done, values, valid, duplicate, late)
            if short == ENOUGH:
                return Answers(np.ascontiguousarray(values.T), np.ascontiguousarray(valid.T), duplicate, late)
            floor = int(self._log.registers[rowlog.NEWEST]) - self._layout.horizon
            self._log = with_more(self._log, short, floor)

    def snapshot(self) -> dict[str, np.ndarray]:
        """All state, as a copy: arrays by name."""
        return {name: array.copy() for name, array in arrays_of(self._log).items()} | {"plan": self._fingerprint()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from a snapshot, which is copied.

        Raises:
            StateError: the snapshot is not one of windows of this plan.
        """
        if "plan" not in arrays or not np.array_equal(arrays["plan"], self._fingerprint()):
            raise StateError(
                "window engine: the snapshot was taken under another plan than the one it is to be restored to; fill the "
                "windows from the log or the lake instead"
            )
        missing = [name for name in Log._fields if name not in arrays]
        if missing:
            raise StateError(f"window engine: the snapshot lacks {', '.join(missing)}; restore an older snapshot")
        self._log = Log(*(np.array(arrays[name]) for name in Log._fields))

    def sizes(self) -> dict[str, int]:
        """Bytes by part of the state."""
        return {name: array.nbytes for name, array in arrays_of(self._log).items()}

    def _fingerprint(self) -> np.ndarray:
        """uint8[32]: of the plan and of how its state is laid out."""
        return np.frombuffer(hashlib.sha256(f"{LAYOUT_VERSION} {self._plan!r}".encode()).digest(), np.uint8)
