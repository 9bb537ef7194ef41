"""Running values of a key's windows, and the cursors that keep them as of one time.

A key's state is as of its clock, the time of its newest row. A row that comes in its time moves the clock forward; for
one that is out of order the state is moved back to its time, the row placed and answered, and the state moved forward
again. Either way what a move costs is the number of rows that enter and leave the frames.

A window's low cursor is the first row of the key not older than the frame's lower edge, its high cursor the last row
not newer than the upper edge: what lies between them is counted.
"""

from __future__ import annotations

from typing import Any

from tidegate.kernel import extremes, rowlog, table, variance
from tidegate.kernel.compiled import compiled, inlined
from tidegate.kernel.layout import (
    ACCUMULATOR_BITS,
    ACCUMULATOR_WORDS,
    ACCUMULATORS,
    ACCUMULATORS_END,
    COUNT,
    EDGES,
    ENTITY_NUMBER,
    KIND,
    LANE_BY_VERDICT,
    LOWER,
    NUMBER,
    RUNNING,
    SQUARES,
    SUM,
    UPPER,
    WINDOW_DISTINCTS,
    WINDOW_WORDS,
    WINDOWS,
    WINDOWS_END,
)
from tidegate.kernel.rowlog import (
    APPLIED,
    BEGIN_OF_TIME,
    CLOCK,
    EARLIER,
    END_OF_TIME,
    FREE_VALUE,
    HEAD,
    HIGH,
    LABEL_TIME,
    LABELLED,
    LATER,
    LINKS_A_LABEL_AND_ENTITY,
    LOW,
    LOW_TIME,
    NIL,
    OLDER,
    PENDING,
    TAIL,
    VALUE_TABLE,
    VERDICT,
)

_LOW_HALF = 0xFFFFFFFF


@compiled
def _count_value(log: Any, slot: Any, kind: Any, running: Any, number: Any, value: Any, sign: Any) -> None:
    """Count a value in or out of a sum of squares or a COUNT DISTINCT."""
    if kind == SQUARES:
        variance.count_square(log, running, value, sign)
        return
    heap = log.heap
    owner = (slot << ACCUMULATOR_BITS) | number
    at = rowlog.find(log, VALUE_TABLE, value, owner)
    if at == table.EMPTY:
        counted = rowlog.take(log, FREE_VALUE, rowlog.VALUE_WORDS)
        rowlog.enter(log, VALUE_TABLE, value, owner, counted)
        heap[counted + rowlog.TIMES] = 1
        heap[running] += 1
        return
    counted = rowlog.named(log, VALUE_TABLE, at)
    heap[counted + rowlog.TIMES] += sign
    if heap[counted + rowlog.TIMES] == 0:
        rowlog.strike(log, VALUE_TABLE, at)
        rowlog.give_back(log, FREE_VALUE, counted)
        heap[running] -= 1


@inlined
def _count(log: Any, layout: Any, slot: Any, accumulator: Any, at: Any, verdict: Any, sign: Any) -> None:
    """Count a row, given by its place, in (sign 1) or out (-1) of an accumulator."""
    heap = log.heap
    lane = layout[accumulator + LANE_BY_VERDICT + verdict]
    running = slot + layout[accumulator + RUNNING]
    if lane < 0:
        heap[running] += sign
    elif (log.rows[at, rowlog.VALID] >> lane) & 1:
        kind, value = layout[accumulator + KIND], log.rows[at, rowlog.LANES + lane]
        if kind == COUNT:
            heap[running] += sign
        elif kind == SUM:
            heap[running] += sign * (value >> 32)
            heap[running + 1] += sign * (value & _LOW_HALF)
        else:
            _count_value(log, slot, kind, running, layout[accumulator + NUMBER], value, sign)


@inlined
def _count_row(log: Any, layout: Any, slot: Any, window: Any, row: Any, time: Any, sign: Any) -> None:
    """Count a row in or out of a window, with what is known of it at `time`."""
    verdict, at = rowlog.verdict_at(log, row, time), rowlog.place(log, row)
    for accumulator in range(layout[window + ACCUMULATORS], layout[window + ACCUMULATORS_END], ACCUMULATOR_WORDS):
        _count(log, layout, slot, accumulator, at, verdict, sign)


@inlined
def _is_counted(log: Any, layout: Any, slot: Any, window: Any, row: Any) -> Any:
    """Whether a row of the key is in the window's frame."""
    edges, time = slot + layout[window + EDGES], rowlog.time_of(log, row)
    high = log.heap[edges + HIGH]
    return high != NIL and log.heap[edges + LOW_TIME] <= time <= rowlog.time_of(log, high)


@compiled
def swap_verdict(log: Any, layout: Any, entity: Any, slot: Any, row: Any, before: Any, after: Any) -> Any:
    """Count a row by another verdict in all frames that it is in; whether it is in any."""
    anywhere = False
    if before == after:
        return anywhere
    at = rowlog.place(log, row)
    for window in range(layout[entity + WINDOWS], layout[entity + WINDOWS_END], WINDOW_WORDS):
        if not _is_counted(log, layout, slot, window, row):
            continue
        anywhere = True
        for accumulator in range(layout[window + ACCUMULATORS], layout[window + ACCUMULATORS_END], ACCUMULATOR_WORDS):
            lanes = accumulator + LANE_BY_VERDICT
            if layout[lanes + before] != layout[lanes + after]:
                _count(log, layout, slot, accumulator, at, before, -1)
                _count(log, layout, slot, accumulator, at, after, 1)
    return anywhere


@compiled
def apply_labels(log: Any, layout: Any, entity: Any, slot: Any, time: Any) -> Any:
    """Apply the pending labels up to `time`; whether any counted row changed."""
    heap = log.heap
    changed = False
    later = LATER + LINKS_A_LABEL_AND_ENTITY * layout[entity + ENTITY_NUMBER]
    label = heap[slot + PENDING]
    while label != NIL and heap[label + LABEL_TIME] <= time:
        before = rowlog.verdict_of(log, heap[label + OLDER])
        changed |= swap_verdict(log, layout, entity, slot, heap[label + LABELLED], before, heap[label + VERDICT])
        heap[slot + APPLIED] = label
        label = heap[label + later]
        heap[slot + PENDING] = label
    return changed


@compiled
def take_back_labels(log: Any, layout: Any, entity: Any, slot: Any, time: Any) -> Any:
    """Take back the labels after `time`; whether there were any."""
    heap = log.heap
    any_taken = False
    earlier = EARLIER + LINKS_A_LABEL_AND_ENTITY * layout[entity + ENTITY_NUMBER]
    label = heap[slot + APPLIED]
    while label != NIL and heap[label + LABEL_TIME] > time:
        any_taken = True
        before = rowlog.verdict_of(log, heap[label + OLDER])
        swap_verdict(log, layout, entity, slot, heap[label + LABELLED], heap[label + VERDICT], before)
        heap[slot + PENDING] = label
        label = heap[label + earlier]
        heap[slot + APPLIED] = label
    return any_taken


@compiled
def chain_labelled(log: Any, layout: Any, entity: Any, slot: Any, time: Any) -> None:
    """Labels changed what counts, as of `time`, which is the clock."""
    for window in range(layout[entity + WINDOWS], layout[entity + WINDOWS_END], WINDOW_WORDS):
        extremes.chain_labelled(log, layout, layout[entity + ENTITY_NUMBER], slot, window, time)


@compiled
def move_forward(log: Any, layout: Any, entity: Any, slot: Any, time: Any, floor: Any, with_chains: Any) -> None:
    """Move the cursors to the frames of a later time; rows older than `floor` are in no frame."""
    heap, number = log.heap, layout[entity + ENTITY_NUMBER]
    for window in range(layout[entity + WINDOWS], layout[entity + WINDOWS_END], WINDOW_WORDS):
        lower, upper = max(time - layout[window + LOWER], floor), time - layout[window + UPPER]
        edges = slot + layout[window + EDGES]
        high = heap[edges + HIGH]
        if heap[edges + LOW_TIME] < lower:
            newest_counted = rowlog.time_of(log, high) if high != NIL else BEGIN_OF_TIME
            low, low_time = heap[edges + LOW], heap[edges + LOW_TIME]
            while low_time < lower:
                if low_time <= newest_counted:
                    _count_row(log, layout, slot, window, low, time, -1)
                    if with_chains:
                        extremes.unchain_row(log, layout, slot, window, low)
                low = rowlog.following(log, number, low)
                low_time = rowlog.time_of(log, low) if low != NIL else END_OF_TIME
            heap[edges + LOW], heap[edges + LOW_TIME] = low, low_time
        if high != heap[slot + TAIL]:
            row = rowlog.following(log, number, high) if high != NIL else heap[slot + HEAD]
            while row != NIL and rowlog.time_of(log, row) <= upper:
                if rowlog.time_of(log, row) >= lower:
                    _count_row(log, layout, slot, window, row, time, 1)
                    if with_chains:
                        extremes.append_row(log, layout, slot, window, row, time)
                high = row
                row = rowlog.following(log, number, row)
            heap[edges + HIGH] = high


@compiled
def move_back(log: Any, layout: Any, entity: Any, slot: Any, time: Any, floor: Any) -> None:
    """Move the cursors to the frames of an earlier time. The chains stay as of the clock."""
    heap, number = log.heap, layout[entity + ENTITY_NUMBER]
    for window in range(layout[entity + WINDOWS], layout[entity + WINDOWS_END], WINDOW_WORDS):
        lower, upper = max(time - layout[window + LOWER], floor), time - layout[window + UPPER]
        edges = slot + layout[window + EDGES]
        low, high = heap[edges + LOW], heap[edges + HIGH]
        oldest_counted = heap[edges + LOW_TIME]
        while high != NIL and rowlog.time_of(log, high) > upper:
            if rowlog.time_of(log, high) >= oldest_counted:
                _count_row(log, layout, slot, window, high, time, -1)
            high = rowlog.preceding(log, number, high)
        heap[edges + HIGH] = high
        row = rowlog.preceding(log, number, low) if low != NIL else heap[slot + TAIL]
        while row != NIL and rowlog.time_of(log, row) >= lower:
            if rowlog.time_of(log, row) <= upper:
                _count_row(log, layout, slot, window, row, time, 1)
            heap[edges + LOW], heap[edges + LOW_TIME] = row, rowlog.time_of(log, row)
            row = rowlog.preceding(log, number, row)


@compiled
def count_in(log: Any, layout: Any, entity: Any, slot: Any, row: Any, with_chains: Any) -> None:
    """Count a row that was just put into the list of its key, whose state is as of the row's time."""
    heap, time = log.heap, rowlog.time_of(log, row)
    for window in range(layout[entity + WINDOWS], layout[entity + WINDOWS_END], WINDOW_WORDS):
        edges = slot + layout[window + EDGES]
        if heap[edges + LOW_TIME] > time:
            heap[edges + LOW], heap[edges + LOW_TIME] = row, time
        if layout[window + UPPER] == 0:
            heap[edges + HIGH] = row
            _count_row(log, layout, slot, window, row, time, 1)
            if with_chains:
                extremes.append_row(log, layout, slot, window, row, time)


@compiled
def chain_in(log: Any, layout: Any, entity: Any, slot: Any, row: Any, clock: Any) -> None:
    """Put a row that came out of order into the chains of the frames that it is in as of the clock."""
    for window in range(layout[entity + WINDOWS], layout[entity + WINDOWS_END], WINDOW_WORDS):
        if _is_counted(log, layout, slot, window, row):
            extremes.insert_row(log, layout, layout[entity + ENTITY_NUMBER], slot, window, row, clock)


@compiled
def leave(log: Any, layout: Any, entity: Any, slot: Any, row: Any, floor: Any) -> None:
    """Take a row that is older than `floor` out of all frames and off all cursors."""
    heap, number = log.heap, layout[entity + ENTITY_NUMBER]
    move_forward(log, layout, entity, slot, heap[slot + CLOCK], floor, True)
    for window in range(layout[entity + WINDOWS], layout[entity + WINDOWS_END], WINDOW_WORDS):
        high = slot + layout[window + EDGES] + HIGH
        if heap[high] == row:
            heap[high] = rowlog.preceding(log, number, row)


@compiled
def value_demand(log: Any, layout: Any, entity: Any, slot: Any, time: Any, floor: Any) -> Any:
    """How many values a row of that time can at most add to what COUNT DISTINCT counts, while it is placed."""
    heap, number = log.heap, layout[entity + ENTITY_NUMBER]
    clock = max(time, heap[slot + CLOCK])
    label_count = 0
    label = heap[slot + PENDING]
    while label != NIL and heap[label + LABEL_TIME] <= clock:
        label_count += 1
        label = heap[label + LATER + LINKS_A_LABEL_AND_ENTITY * number]
    label = heap[slot + APPLIED]
    while label != NIL and heap[label + LABEL_TIME] > time:
        label_count += 1
        label = heap[label + EARLIER + LINKS_A_LABEL_AND_ENTITY * number]
    demand = 0
    for window in range(layout[entity + WINDOWS], layout[entity + WINDOWS_END], WINDOW_WORDS):
        if layout[window + WINDOW_DISTINCTS] == 0:
            continue
        edges = slot + layout[window + EDGES]
        low, high = heap[edges + LOW], heap[edges + HIGH]
        entering = 1 + label_count
        row = rowlog.following(log, number, high) if high != NIL else heap[slot + HEAD]
        while row != NIL and rowlog.time_of(log, row) <= clock - layout[window + UPPER]:
            entering += 1
            row = rowlog.following(log, number, row)
        if time < clock:
            row = rowlog.preceding(log, number, low) if low != NIL else heap[slot + TAIL]
            while row != NIL and rowlog.time_of(log, row) >= max(time - layout[window + LOWER], floor):
                entering += 1
                row = rowlog.preceding(log, number, row)
        demand += entering * layout[window + WINDOW_DISTINCTS]
    return demand
