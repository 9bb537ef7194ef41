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

import numpy as np

from tidegate.errors import StateError
from tidegate.kernel import frames, labels, rowlog, table
from tidegate.kernel.compiled import compiled
from tidegate.kernel.extremes import extreme_of
from tidegate.kernel.layout import (
    AGGREGATE,
    ANSWER_FROM,
    ANSWER_KIND,
    ANSWER_LANE,
    ANSWER_WINDOW,
    ANSWER_WORDS,
    ANSWERS,
    ANSWERS_END,
    COUNT,
    CURSOR_WORDS,
    DISTINCT,
    DISTINCTS,
    ENTITIES,
    ENTITIES_END,
    ENTITY_ANSWERS,
    ENTITY_ANSWERS_END,
    ENTITY_NUMBER,
    ENTITY_WORDS,
    EDGES,
    EXTREME,
    HORIZON,
    LABELLED,
    LATENESS,
    SLOT_WORDS,
    SUM,
    UPPER,
    VALID_COUNT,
    WINDOW_WORDS,
    WINDOWS,
    WINDOWS_END,
    lay_out,
)
from tidegate.kernel.plan import WindowPlan
from tidegate.kernel.rowlog import END_OF_TIME, NIL, Log
from tidegate.kernel.storage import (
    ENOUGH,
    MORE_HEAP,
    MORE_ROWS,
    MORE_SLOTS,
    MORE_VALUES,
    MORE_WAITING,
    STATE_VERSION,
    empty_log,
    with_more,
)

#: What arrives: a row, or a label for one.
ROW, GENUINE, FRAUD = 0, rowlog.GENUINE, rowlog.FRAUD

_LARGEST, _SMALLEST = 2**63 - 1, -(2**63)

# What the upper half of an int64 is below.
_HALF_RANGE = 2**31


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


class Answers(NamedTuple):
    """One answer to each arrival, a aggregates. A label's and a duplicate's values mean nothing."""

    values: np.ndarray
    """int64[a, n]. A sum beyond int64 is answered as the nearest that int64 holds."""
    valid: np.ndarray
    """bool[a, n]: SUM, MIN and MAX over no valid row are NULL, counts never are."""
    duplicate: np.ndarray
    """bool[n]: the id is that of a row that is kept; it was neither placed nor answered."""
    late: np.ndarray
    """bool[n]: older than the newest row by more than the plan's lateness."""


@compiled
def _sum(log: Any, running: Any) -> Any:
    lower = log.heap[running + 1]
    upper = log.heap[running] + (lower >> 32)
    if upper >= _HALF_RANGE:
        return _LARGEST
    if upper < -_HALF_RANGE:
        return _SMALLEST
    return (upper << 32) | (lower & 0xFFFFFFFF)


@compiled
def _answer(
    log: Any, layout: Any, entity: Any, slot: Any, row: Any, clock: Any, floor: Any, unlabelled: Any, answers: Any, i: Any
) -> None:  # fmt: skip
    """Answer a row just counted in. Its key's state is as of the row's time, the chains as of the clock. `unlabelled`:
    there are labels between these times.
    """
    for answer in range(layout[entity + ENTITY_ANSWERS], layout[entity + ENTITY_ANSWERS_END], ANSWER_WORDS):
        kind, source = layout[answer + ANSWER_KIND], layout[answer + ANSWER_FROM]
        known = True
        if kind == SUM:
            value = _sum(log, slot + source)
            known = log.heap[slot + layout[answer + VALID_COUNT]] > 0
        elif kind == EXTREME:
            window, number = layout[answer + ANSWER_WINDOW], layout[entity + ENTITY_NUMBER]
            known, value = extreme_of(log, layout, number, slot, window, source, row, clock, floor, unlabelled)
        else:
            value = log.heap[slot + source]
        answers.values[i, layout[answer + AGGREGATE]] = value
        answers.valid[i, layout[answer + AGGREGATE]] = known


@compiled
def _answer_alone(layout: Any, arrivals: Any, answers: Any, i: Any) -> None:
    """Answer a row that sees nothing but itself, and of which no label is known."""
    for answer in range(layout[ANSWERS], layout[ANSWERS_END], ANSWER_WORDS):
        kind, lane = layout[answer + ANSWER_KIND], layout[answer + ANSWER_LANE]
        seen = layout[layout[answer + ANSWER_WINDOW] + UPPER] == 0 and (
            lane < 0 or (arrivals.valid[i] >> lane) & 1 == 1
        )
        is_count = kind == COUNT or kind == DISTINCT  # noqa: PLR1714 - numba would build a set
        value = 0
        if seen:
            value = 1 if is_count else arrivals.lanes[lane, i]
        answers.values[i, layout[answer + AGGREGATE]] = value
        answers.valid[i, layout[answer + AGGREGATE]] = is_count or seen


@compiled
def _open_slot(log: Any, layout: Any, entity: Any, arrivals: Any, i: Any) -> Any:
    """A slot for a row's key, which has none: nothing counted, no cursor set."""
    number = layout[entity + ENTITY_NUMBER]
    key0, key1 = arrivals.keys[number, i, 0] + number, arrivals.keys[number, i, 1]
    slot = rowlog.take(log, rowlog.FREE_SLOT, layout[SLOT_WORDS])
    rowlog.enter(log, rowlog.SLOT_TABLE, key0, key1, slot)
    log.heap[slot + rowlog.HEAD : slot + layout[CURSOR_WORDS]] = NIL
    log.heap[slot + layout[CURSOR_WORDS] : slot + layout[SLOT_WORDS]] = 0
    for window in range(layout[entity + WINDOWS], layout[entity + WINDOWS_END], WINDOW_WORDS):
        log.heap[slot + layout[window + EDGES] + rowlog.LOW_TIME] = END_OF_TIME
    log.heap[slot + rowlog.CLOCK] = arrivals.times[i]
    return slot


@compiled
def _slot_of(log: Any, layout: Any, entity: Any, arrivals: Any, i: Any) -> Any:
    """The slot of a row's key, NIL if it has none. A slot's key is the key's hash moved by the entity's number."""
    number = layout[entity + ENTITY_NUMBER]
    at = rowlog.find(log, rowlog.SLOT_TABLE, arrivals.keys[number, i, 0] + number, arrivals.keys[number, i, 1])
    return NIL if at == table.EMPTY else rowlog.named(log, rowlog.SLOT_TABLE, at)


@compiled
def _place_out_of_order(
    log: Any, layout: Any, entity: Any, slot: Any, row: Any, floor: Any, answers: Any, i: Any
) -> None:
    time, clock = rowlog.time_of(log, row), log.heap[slot + rowlog.CLOCK]
    frames.move_forward(log, layout, entity, slot, clock, floor, True)  # noqa: FBT003 - numba knows no keywords here
    unlabelled = frames.take_back_labels(log, layout, entity, slot, time)
    frames.move_back(log, layout, entity, slot, time, floor)
    _enlist(log, layout, entity, slot, row)
    frames.count_in(log, layout, entity, slot, row, False)  # noqa: FBT003
    _answer(log, layout, entity, slot, row, clock, floor, unlabelled, answers, i)
    frames.apply_labels(log, layout, entity, slot, clock)
    frames.move_forward(log, layout, entity, slot, clock, floor, False)  # noqa: FBT003
    frames.chain_in(log, layout, entity, slot, row, clock)


@compiled
def _place(log: Any, layout: Any, entity: Any, slot: Any, row: Any, floor: Any, answers: Any, i: Any) -> None:
    """Put a row that is not older than its key's clock into the key's list, count it and answer it."""
    time = rowlog.time_of(log, row)
    if frames.apply_labels(log, layout, entity, slot, time):
        frames.chain_labelled(log, layout, entity, slot, time)
    frames.move_forward(log, layout, entity, slot, time, floor, True)  # noqa: FBT003
    _enlist(log, layout, entity, slot, row)
    frames.count_in(log, layout, entity, slot, row, True)  # noqa: FBT003
    _answer(log, layout, entity, slot, row, time, floor, False, answers, i)  # noqa: FBT003


@compiled
def _enlist(log: Any, layout: Any, entity: Any, slot: Any, row: Any) -> None:
    """Put a row, and the labels that waited for it, into their key's lists. The key's state is as of the row's time."""
    number = layout[entity + ENTITY_NUMBER]
    rowlog.link_row(log, number, slot, row)
    label = rowlog.link(log, row, rowlog.LABEL)
    while label != NIL:
        labels.link_label(log, number, slot, label, rowlog.time_of(log, row))
        label = log.heap[label + rowlog.OLDER]


@compiled
def _retire(log: Any, layout: Any, row: Any, floor: Any) -> None:
    """Free the ring's first row, which is older than `floor`."""
    newest = rowlog.link(log, row, rowlog.LABEL)
    for entity in range(layout[ENTITIES], layout[ENTITIES_END], ENTITY_WORDS):
        number = layout[entity + ENTITY_NUMBER]
        slot = rowlog.link(log, row, rowlog.SLOT + rowlog.LINKS_AN_ENTITY * number)
        frames.leave(log, layout, entity, slot, row, floor)
        rowlog.unlink_row(log, number, slot, row)
        label = newest
        while label != NIL:
            labels.unlink_label(log, number, slot, label)
            label = log.heap[label + rowlog.OLDER]
        if log.heap[slot + rowlog.HEAD] == NIL:
            key0, key1 = log.heap[slot + rowlog.KEY0], log.heap[slot + rowlog.KEY1]
            rowlog.strike(log, rowlog.SLOT_TABLE, rowlog.find(log, rowlog.SLOT_TABLE, key0, key1))
            rowlog.give_back(log, rowlog.FREE_SLOT, slot)
    if newest != NIL:
        labels.free_older(log, newest, END_OF_TIME)
    rowlog.drop_first_row(log)


@compiled
def _label(log: Any, layout: Any, arrivals: Any, i: Any, floor: Any) -> None:
    """A label changes how its row counts from the label's time on."""
    time, id0, id1 = arrivals.times[i], arrivals.ids[i, 0], arrivals.ids[i, 1]
    verdict = np.int64(arrivals.kinds[i])
    entity_count = (layout[ENTITIES_END] - layout[ENTITIES]) // ENTITY_WORDS
    row = rowlog.kept_row(log, id0, id1, floor)
    if row == NIL:
        if time >= floor:
            labels.keep_waiting(log, id0, id1, time, verdict, entity_count)
        return
    history = rowlog.link(log, row, rowlog.LABEL)
    known = rowlog.label_at(log, history, time)
    before = rowlog.verdict_of(log, known)
    newest, label = labels.add_to_history(log, history, time, entity_count)
    log.links[rowlog.place(log, row), rowlog.LABEL] = newest
    log.heap[label + rowlog.VERDICT], log.heap[label + rowlog.LABELLED] = verdict, row
    for entity in range(layout[ENTITIES], layout[ENTITIES_END], ENTITY_WORDS):
        number = layout[entity + ENTITY_NUMBER]
        slot = rowlog.link(log, row, rowlog.SLOT + rowlog.LINKS_AN_ENTITY * number)
        clock = log.heap[slot + rowlog.CLOCK]
        if label != known:
            labels.link_label(log, number, slot, label, clock)
        applies = rowlog.label_at(log, newest, clock) == label
        if applies and frames.swap_verdict(log, layout, entity, slot, row, before, verdict):
            frames.chain_labelled(log, layout, entity, slot, clock)


@compiled
def _short_of(log: Any, layout: Any, arrivals: Any, i: Any, floor: Any) -> Any:
    """What the log must have more of before the arrival can be taken."""
    heap = log.heap
    entity_count = (layout[ENTITIES_END] - layout[ENTITIES]) // ENTITY_WORDS
    slots, waiting, values, words = 0, 0, layout[DISTINCTS], 0
    if arrivals.kinds[i] == ROW:
        if heap[rowlog.ROWS] == len(log.rows):
            return MORE_ROWS
        slots = entity_count
        words = slots * layout[SLOT_WORDS]
        if values:
            for entity in range(layout[ENTITIES], layout[ENTITIES_END], ENTITY_WORDS):
                slot = _slot_of(log, layout, entity, arrivals, i)
                if slot != NIL:
                    values += frames.value_demand(log, layout, entity, slot, arrivals.times[i], floor)
    else:
        waiting = 1
        words = rowlog.WAITING_WORDS + rowlog.LABEL_WORDS + rowlog.LINKS_A_LABEL_AND_ENTITY * entity_count
    if heap[rowlog.HEAP_END] + words + values * rowlog.VALUE_WORDS > len(heap):
        return MORE_HEAP
    if 2 * (heap[rowlog.SLOT_TABLE + rowlog.COUNT] + slots) > heap[rowlog.SLOT_TABLE + rowlog.MASK]:
        return MORE_SLOTS
    if 2 * (heap[rowlog.WAITING_TABLE + rowlog.COUNT] + waiting) > heap[rowlog.WAITING_TABLE + rowlog.MASK]:
        return MORE_WAITING
    if 2 * (heap[rowlog.VALUE_TABLE + rowlog.COUNT] + values) > heap[rowlog.VALUE_TABLE + rowlog.MASK]:
        return MORE_VALUES
    return ENOUGH


@compiled
def _take_row(log: Any, layout: Any, arrivals: Any, i: Any, floor: Any, answers: Any) -> None:
    time, id0, id1 = arrivals.times[i], arrivals.ids[i, 0], arrivals.ids[i, 1]
    newest = log.heap[rowlog.NEWEST]
    if rowlog.kept_row(log, id0, id1, floor) != NIL:
        answers.duplicate[i] = True
        return
    answers.late[i] = time < newest - layout[LATENESS]
    if time < floor:
        _answer_alone(layout, arrivals, answers, i)
        return
    log.heap[rowlog.NEWEST] = max(newest, time)
    while log.heap[rowlog.ROWS] and rowlog.time_of(log, log.heap[rowlog.FIRST]) < floor:
        _retire(log, layout, log.heap[rowlog.FIRST], floor)
    row = rowlog.new_row(log, id0, id1, time, arrivals.valid[i])
    for lane in range(len(arrivals.lanes)):
        log.rows[rowlog.place(log, row), rowlog.LANES + lane] = arrivals.lanes[lane, i]
    if log.heap[rowlog.WAITING_TABLE + rowlog.COUNT]:
        labels.end_waiting(log, id0, id1, row, floor)
    for entity in range(layout[ENTITIES], layout[ENTITIES_END], ENTITY_WORDS):
        slot = _slot_of(log, layout, entity, arrivals, i)
        if slot == NIL:
            slot = _open_slot(log, layout, entity, arrivals, i)
        elif time < log.heap[slot + rowlog.CLOCK]:
            _place_out_of_order(log, layout, entity, slot, row, floor, answers, i)
            continue
        _place(log, layout, entity, slot, row, floor, answers, i)


@compiled
def _run(log: Any, layout: Any, arrivals: Any, start: Any, answers: Any) -> Any:
    """Take arrivals from `start` on until one finds no room: how many are taken now, and what is short."""
    for i in range(start, len(arrivals.times)):
        floor = log.heap[rowlog.NEWEST]
        if arrivals.kinds[i] == ROW:
            floor = max(floor, arrivals.times[i])
        floor -= layout[HORIZON]
        short = _short_of(log, layout, arrivals, i, floor)
        if short != ENOUGH:
            return i, short
        if arrivals.kinds[i] == ROW:
            _take_row(log, layout, arrivals, i, floor, answers)
        elif layout[LABELLED]:
            _label(log, layout, arrivals, i, floor)
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
        self._log = empty_log(plan)

    def apply(self, arrivals: Arrivals) -> Answers:
        """Take rows and labels in, and answer the rows. The same arrivals, cut into calls in whatever way, give the
        same answers.

        Raises:
            StateError: more rows would be kept than a log can hold. Arrivals before the one that was too many are in.
        """
        columns = _columns(arrivals)
        count = len(columns.times)
        shape = (count, len(self._plan.aggregates))
        # A row's answers lie side by side while they are written.
        answers = Answers(
            values=np.zeros(shape, np.int64),
            valid=np.zeros(shape, np.bool_),
            duplicate=np.zeros(count, np.bool_),
            late=np.zeros(count, np.bool_),
        )
        done, short = 0, ENOUGH
        while done < count:
            done, short = _run(self._log, self._layout, columns, done, answers)
            if short != ENOUGH:
                floor = int(self._log.heap[rowlog.NEWEST] - self._layout[HORIZON])
                self._log = with_more(self._log, short, floor)
        return answers._replace(
            values=np.ascontiguousarray(answers.values.T), valid=np.ascontiguousarray(answers.valid.T)
        )

    def snapshot(self) -> dict[str, np.ndarray]:
        """All state, as a copy: arrays by name."""
        return {name: array.copy() for name, array in self._log._asdict().items()} | {"plan": self._fingerprint()}

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
        return {name: array.nbytes for name, array in self._log._asdict().items()}

    def _fingerprint(self) -> np.ndarray:
        """uint8[32]: of the plan and of how its state is laid out."""
        return np.frombuffer(hashlib.sha256(f"{STATE_VERSION} {self._plan!r}".encode()).digest(), np.uint8)
