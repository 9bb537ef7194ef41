"""Running values of a key's windows, and the cursors that keep them as of one time.

A key's state is as of its clock, the time of its newest row. A row that comes in its time moves the clock forward; for
one that is out of order the state is moved back to its time, the row placed and answered, and the state moved forward
again. Either way what a move costs is the number of rows that enter and leave the frames.

A window's low cursor is the first row of the key not older than the frame's lower edge, its high cursor the last row
not newer than the upper edge: what lies between them is counted.

MIN and MAX have no inverse, so their state does not move back: each keeps, as of the clock, the chain of rows that are
better than all that follow them in the frame (the monotone queue of sliding-window extremes); an answer at an earlier
time is the chain's first row, if that is old enough, or else found by a look at the rows.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tidegate.kernel import rowlog, table
from tidegate.kernel.layout import COUNT, DISTINCT, SUM
from tidegate.kernel.rowlog import NIL

_LOW_HALF = 0xFFFFFFFF

BEGIN_OF_TIME, END_OF_TIME = -(2**63), 2**63 - 1


@numba.njit(cache=True, nogil=True)
def _count_value(log: Any, slot: Any, column: Any, accumulator: Any, value: Any, sign: Any) -> None:
    """Count a value in or out of a COUNT DISTINCT."""
    owner = (slot << 16) | accumulator
    at = table.find(log.bag_table, log.bag, value, owner)
    if at == table.EMPTY:
        record = rowlog.take(log, log.free_bag, rowlog.FREE_BAG)
        log.bag[record, rowlog.VALUE], log.bag[record, rowlog.OWNER] = value, owner
        log.bag[record, rowlog.COUNT] = 1
        table.insert(log.bag_table, value, owner, record)
        log.slots[slot, column] += 1
        return
    record = log.bag_table[at] & 0xFFFFFFFF
    log.bag[record, rowlog.COUNT] += sign
    if log.bag[record, rowlog.COUNT] == 0:
        table.remove(log.bag_table, at)
        rowlog.give_back(log, log.free_bag, rowlog.FREE_BAG, record)
        log.slots[slot, column] -= 1


@numba.njit(cache=True, nogil=True)
def _count(log: Any, layout: Any, slot: Any, accumulator: Any, row: Any, verdict: Any, sign: Any) -> None:
    """Count a row in (sign 1) or out (-1) of an accumulator."""
    lane = layout.lane[verdict, accumulator]
    column = layout.column[accumulator]
    if lane < 0:
        log.slots[slot, column] += sign
    elif (log.rows[row, rowlog.VALID] >> lane) & 1:
        kind = layout.kind[accumulator]
        value = log.rows[row, rowlog.LANES + lane]
        if kind == COUNT:
            log.slots[slot, column] += sign
        elif kind == SUM:
            log.slots[slot, column] += sign * (value >> 32)
            log.slots[slot, column + 1] += sign * (value & _LOW_HALF)
        else:
            _count_value(log, slot, column, accumulator, value, sign)


@numba.njit(cache=True, nogil=True)
def _count_row(log: Any, layout: Any, slot: Any, window: Any, row: Any, time: Any, sign: Any) -> None:
    """Count a row in or out of a window, with what is known of it at `time`."""
    verdict = rowlog.verdict_at(log, row, time)
    for accumulator in range(layout.accumulators_of_window[window], layout.accumulators_of_window[window + 1]):
        _count(log, layout, slot, accumulator, row, verdict, sign)


@numba.njit(cache=True, nogil=True)
def is_counted(log: Any, layout: Any, slot: Any, window: Any, row: Any) -> Any:
    """Whether a row of the key is in the window's frame."""
    low, high = np.int64(log.cursors[slot, layout.edges[window]]), np.int64(log.cursors[slot, layout.edges[window] + 1])
    if low == NIL or high == NIL:
        return False
    time = rowlog.time_of(log, row)
    return rowlog.time_of(log, low) <= time <= rowlog.time_of(log, high)


@numba.njit(cache=True, nogil=True)
def rank_of(log: Any, layout: Any, extreme: Any, row: Any, time: Any) -> Any:
    """Whether the row has a valid value for an extreme, and the value, turned so that the greatest is best."""
    lane = layout.extreme_lane[rowlog.verdict_at(log, row, time), extreme]
    valid = (log.rows[row, rowlog.VALID] >> lane) & 1 == 1
    return valid, log.rows[row, rowlog.LANES + lane] ^ layout.turn[extreme]


@numba.njit(cache=True, nogil=True)
def _follows(log: Any, row: Any, other: Any) -> Any:
    """Whether a row comes after another in the order of time, then of arrival."""
    mask, first = len(log.rows) - 1, log.registers[rowlog.FIRST]
    time, other_time = rowlog.time_of(log, row), rowlog.time_of(log, other)
    return time > other_time or (time == other_time and (row - first) & mask > (other - first) & mask)


@numba.njit(cache=True, nogil=True)
def _chain(log: Any, layout: Any, slot: Any, extreme: Any, row: Any, time: Any) -> None:
    """Put a row of the frame into the chain where it belongs, if it is better than all that follow."""
    valid, rank = rank_of(log, layout, extreme, row, time)
    if not valid:
        return
    column, ends = layout.chain[extreme], layout.ends[extreme]
    after = np.int64(NIL)
    before = np.int64(log.cursors[slot, ends + 1])
    while before != NIL and _follows(log, before, row):
        after = before
        before = np.int64(log.links[before, column + 1])
    if after != NIL and rank_of(log, layout, extreme, after, time)[1] >= rank:
        return
    while before != NIL and rank_of(log, layout, extreme, before, time)[1] <= rank:
        before = np.int64(log.links[before, column + 1])
    log.links[row, column] = after
    log.links[row, column + 1] = before
    if before == NIL:
        log.cursors[slot, ends] = row
    else:
        log.links[before, column] = row
    if after == NIL:
        log.cursors[slot, ends + 1] = row
    else:
        log.links[after, column + 1] = row


@numba.njit(cache=True, nogil=True)
def _chain_row(log: Any, layout: Any, slot: Any, window: Any, row: Any, time: Any) -> None:
    for extreme in range(layout.extremes_of_window[window], layout.extremes_of_window[window + 1]):
        _chain(log, layout, slot, extreme, row, time)


@numba.njit(cache=True, nogil=True)
def _unchain_first(log: Any, layout: Any, slot: Any, window: Any, row: Any) -> None:
    """Take a row that leaves the frame off the chains: if it is in one, it is the first."""
    for extreme in range(layout.extremes_of_window[window], layout.extremes_of_window[window + 1]):
        column, ends = layout.chain[extreme], layout.ends[extreme]
        if log.cursors[slot, ends] == row:
            after = log.links[row, column]
            log.cursors[slot, ends] = after
            if after == NIL:
                log.cursors[slot, ends + 1] = NIL
            else:
                log.links[after, column + 1] = NIL


@numba.njit(cache=True, nogil=True)
def _chain_again(log: Any, layout: Any, entity: Any, slot: Any, window: Any, time: Any) -> None:
    """Make the chains that read labels anew, as of `time`, which is the clock."""
    at = layout.edges[window]
    low, high = np.int64(log.cursors[slot, at]), np.int64(log.cursors[slot, at + 1])
    for extreme in range(layout.extremes_of_window[window], layout.extremes_of_window[window + 1]):
        if not _reads_labels(layout, extreme):
            continue
        ends = layout.ends[extreme]
        log.cursors[slot, ends] = NIL
        log.cursors[slot, ends + 1] = NIL
        row = low
        while row != NIL and rowlog.time_of(log, row) <= rowlog.time_of(log, high):
            _chain(log, layout, slot, extreme, row, time)
            row = rowlog.following(log, entity, row)


@numba.njit(cache=True, nogil=True)
def _reads_labels(layout: Any, extreme: Any) -> Any:
    lane = layout.extreme_lane
    return lane[0, extreme] != lane[1, extreme] or lane[0, extreme] != lane[2, extreme]


@numba.njit(cache=True, nogil=True)
def swap_verdict(log: Any, layout: Any, entity: Any, slot: Any, row: Any, before: Any, after: Any) -> Any:
    """Count a row by another verdict in all frames that it is in; whether it is in any."""
    anywhere = False
    if before == after:
        return anywhere
    for window in range(layout.windows_of_entity[entity], layout.windows_of_entity[entity + 1]):
        if not is_counted(log, layout, slot, window, row):
            continue
        anywhere = True
        for accumulator in range(layout.accumulators_of_window[window], layout.accumulators_of_window[window + 1]):
            if layout.lane[before, accumulator] != layout.lane[after, accumulator]:
                _count(log, layout, slot, accumulator, row, before, -1)
                _count(log, layout, slot, accumulator, row, after, 1)
    return anywhere


@numba.njit(cache=True, nogil=True)
def apply_labels(log: Any, layout: Any, entity: Any, slot: Any, time: Any) -> Any:
    """Apply the pending labels up to `time`; whether any counted row changed."""
    changed = False
    column = rowlog.LINKS_A_LABEL_AND_ENTITY * entity
    label = np.int64(log.cursors[slot, rowlog.PENDING])
    while label != NIL and log.labels[label, rowlog.LABEL_TIME] <= time:
        row = np.int64(log.label_links[label, rowlog.LABELLED])
        before = rowlog.verdict_of(log, np.int64(log.label_links[label, rowlog.OLDER]))
        changed |= swap_verdict(log, layout, entity, slot, row, before, log.labels[label, rowlog.VERDICT])
        log.cursors[slot, rowlog.APPLIED] = label
        label = np.int64(log.label_links[label, rowlog.LATER + column])
    log.cursors[slot, rowlog.PENDING] = label
    return changed


@numba.njit(cache=True, nogil=True)
def take_back_labels(log: Any, layout: Any, entity: Any, slot: Any, time: Any) -> Any:
    """Take back the labels after `time`; whether there were any."""
    column = rowlog.LINKS_A_LABEL_AND_ENTITY * entity
    label = np.int64(log.cursors[slot, rowlog.APPLIED])
    any_taken = label != NIL and log.labels[label, rowlog.LABEL_TIME] > time
    while label != NIL and log.labels[label, rowlog.LABEL_TIME] > time:
        row = np.int64(log.label_links[label, rowlog.LABELLED])
        before = rowlog.verdict_of(log, np.int64(log.label_links[label, rowlog.OLDER]))
        swap_verdict(log, layout, entity, slot, row, log.labels[label, rowlog.VERDICT], before)
        log.cursors[slot, rowlog.PENDING] = label
        label = np.int64(log.label_links[label, rowlog.EARLIER + column])
    log.cursors[slot, rowlog.APPLIED] = label
    return any_taken


@numba.njit(cache=True, nogil=True)
def chain_labelled(log: Any, layout: Any, entity: Any, slot: Any, time: Any) -> None:
    for window in range(layout.windows_of_entity[entity], layout.windows_of_entity[entity + 1]):
        _chain_again(log, layout, entity, slot, window, time)


@numba.njit(cache=True, nogil=True)
def move_edges_forward(log: Any, layout: Any, entity: Any, slot: Any, time: Any, floor: Any, with_chains: Any) -> None:
    """Move the cursors to the frames of a later time; rows older than `floor` are in no frame."""
    for window in range(layout.windows_of_entity[entity], layout.windows_of_entity[entity + 1]):
        lower, upper = max(time - layout.lower[window], floor), time - layout.upper[window]
        at = layout.edges[window]
        low, high = np.int64(log.cursors[slot, at]), np.int64(log.cursors[slot, at + 1])
        if low != NIL and rowlog.time_of(log, low) < lower:
            newest_counted = rowlog.time_of(log, high) if high != NIL else BEGIN_OF_TIME
            while low != NIL and rowlog.time_of(log, low) < lower:
                if rowlog.time_of(log, low) <= newest_counted:
                    _count_row(log, layout, slot, window, low, time, -1)
                    if with_chains:
                        _unchain_first(log, layout, slot, window, low)
                low = rowlog.following(log, entity, low)
            log.cursors[slot, at] = low
        if high != log.cursors[slot, rowlog.TAIL]:
            row = rowlog.following(log, entity, high) if high != NIL else np.int64(log.cursors[slot, rowlog.HEAD])
            while row != NIL and rowlog.time_of(log, row) <= upper:
                if rowlog.time_of(log, row) >= lower:
                    _count_row(log, layout, slot, window, row, time, 1)
                    if with_chains:
                        _chain_row(log, layout, slot, window, row, time)
                high = row
                row = rowlog.following(log, entity, row)
            log.cursors[slot, at + 1] = high


@numba.njit(cache=True, nogil=True)
def move_edges_back(log: Any, layout: Any, entity: Any, slot: Any, time: Any, floor: Any) -> None:
    """Move the cursors to the frames of an earlier time. The chains stay as of the clock."""
    for window in range(layout.windows_of_entity[entity], layout.windows_of_entity[entity + 1]):
        lower, upper = max(time - layout.lower[window], floor), time - layout.upper[window]
        at = layout.edges[window]
        low, high = np.int64(log.cursors[slot, at]), np.int64(log.cursors[slot, at + 1])
        oldest_counted = rowlog.time_of(log, low) if low != NIL else END_OF_TIME
        while high != NIL and rowlog.time_of(log, high) > upper:
            if rowlog.time_of(log, high) >= oldest_counted:
                _count_row(log, layout, slot, window, high, time, -1)
            high = rowlog.preceding(log, entity, high)
        log.cursors[slot, at + 1] = high
        row = rowlog.preceding(log, entity, low) if low != NIL else np.int64(log.cursors[slot, rowlog.TAIL])
        while row != NIL and rowlog.time_of(log, row) >= lower:
            if rowlog.time_of(log, row) <= upper:
                _count_row(log, layout, slot, window, row, time, 1)
            low = row
            row = rowlog.preceding(log, entity, row)
        log.cursors[slot, at] = low


@numba.njit(cache=True, nogil=True)
def count_in(log: Any, layout: Any, entity: Any, slot: Any, row: Any, with_chains: Any) -> None:
    """Count a row that was just put into the list of its key, whose state is as of the row's time."""
    time = rowlog.time_of(log, row)
    for window in range(layout.windows_of_entity[entity], layout.windows_of_entity[entity + 1]):
        at = layout.edges[window]
        low = np.int64(log.cursors[slot, at])
        if low == NIL or rowlog.time_of(log, low) > time:
            log.cursors[slot, at] = row
        if layout.upper[window] == 0:
            log.cursors[slot, at + 1] = row
            _count_row(log, layout, slot, window, row, time, 1)
            if with_chains:
                _chain_row(log, layout, slot, window, row, time)


@numba.njit(cache=True, nogil=True)
def chain_in(log: Any, layout: Any, entity: Any, slot: Any, row: Any, clock: Any) -> None:
    """Put a row that came out of order into the chains of the frames that it is in as of the clock."""
    for window in range(layout.windows_of_entity[entity], layout.windows_of_entity[entity + 1]):
        if is_counted(log, layout, slot, window, row):
            _chain_row(log, layout, slot, window, row, clock)


@numba.njit(cache=True, nogil=True)
def _better(log: Any, layout: Any, extreme: Any, row: Any, time: Any, found: Any, best: Any) -> Any:
    valid, rank = rank_of(log, layout, extreme, row, time)
    return (True, rank) if valid and (not found or rank > best) else (found, best)


@numba.njit(cache=True, nogil=True)
def extreme(
    log: Any,
    layout: Any,
    entity: Any,
    slot: Any,
    window: Any,
    number: Any,
    row: Any,
    clock: Any,
    floor: Any,
    unlabelled: Any,
) -> Any:
    """Whether an extreme has a value, and the value, for a row just counted in: the cursors are as of its time, the
    chains as of the clock. `unlabelled`: there are labels between the two.
    """
    time = rowlog.time_of(log, row)
    found, best = False, np.int64(0)
    first = np.int64(log.cursors[slot, layout.ends[number]])
    if time == clock:
        if first != NIL:
            found, best = _better(log, layout, number, first, time, found, best)
        return found, best ^ layout.turn[number]
    at = layout.edges[window]
    low, high = np.int64(log.cursors[slot, at]), np.int64(log.cursors[slot, at + 1])
    newest = rowlog.time_of(log, high) if high != NIL else BEGIN_OF_TIME
    # Rows from here on need no look: the chain's first row is the best of them, or there is none.
    looked_at = END_OF_TIME
    if not unlabelled and (first == NIL or rowlog.time_of(log, first) <= newest):
        looked_at = max(clock - layout.lower[window], floor)
        if first != NIL:
            found, best = _better(log, layout, number, first, time, found, best)
    while low != NIL and rowlog.time_of(log, low) <= newest and rowlog.time_of(log, low) < looked_at:
        found, best = _better(log, layout, number, low, time, found, best)
        low = rowlog.following(log, entity, low)
    if layout.upper[window] == 0:
        found, best = _better(log, layout, number, row, time, found, best)
    return found, best ^ layout.turn[number]


@numba.njit(cache=True, nogil=True)
def bag_demand(log: Any, layout: Any, entity: Any, slot: Any, time: Any, floor: Any) -> Any:
    """How many values a row of that time can at most add to the bag when it is placed."""
    demand = 0
    tail = np.int64(log.cursors[slot, rowlog.TAIL])
    clock = max(time, rowlog.time_of(log, tail))
    label_count = 0
    label = np.int64(log.cursors[slot, rowlog.PENDING])
    while label != NIL and log.labels[label, rowlog.LABEL_TIME] <= clock:
        label_count += 1
        label = np.int64(log.label_links[label, rowlog.LATER + rowlog.LINKS_A_LABEL_AND_ENTITY * entity])
    label = np.int64(log.cursors[slot, rowlog.APPLIED])
    while label != NIL and log.labels[label, rowlog.LABEL_TIME] > time:
        label_count += 1
        label = np.int64(log.label_links[label, rowlog.EARLIER + rowlog.LINKS_A_LABEL_AND_ENTITY * entity])
    for window in range(layout.windows_of_entity[entity], layout.windows_of_entity[entity + 1]):
        distinct_count = 0
        for accumulator in range(layout.accumulators_of_window[window], layout.accumulators_of_window[window + 1]):
            distinct_count += layout.kind[accumulator] == DISTINCT
        if distinct_count == 0:
            continue
        at = layout.edges[window]
        low, high = np.int64(log.cursors[slot, at]), np.int64(log.cursors[slot, at + 1])
        entering = label_count
        row = rowlog.following(log, entity, high) if high != NIL else np.int64(log.cursors[slot, rowlog.HEAD])
        while row != NIL and rowlog.time_of(log, row) <= clock - layout.upper[window]:
            entering += 1
            row = rowlog.following(log, entity, row)
        if time < clock:
            row = rowlog.preceding(log, entity, low) if low != NIL else tail
            while row != NIL and rowlog.time_of(log, row) >= max(time - layout.lower[window], floor):
                entering += 1
                row = rowlog.preceding(log, entity, row)
        demand += entering * distinct_count
    return demand
