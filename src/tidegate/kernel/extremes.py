"""MIN and MAX. They have no inverse, so their state does not move back. Each row of a frame keeps its better: the last
row before it that has a better value (before a row without a value: that has any). The frame's newest row, its better,
the better of that and so on hold the best of every run of rows that ends there, so that an answer at an earlier time is
found along them. As of a key's clock, the ones with a value are a chain with two ends: the monotone queue of
sliding-window extremes, whose first row is the answer.
"""

from __future__ import annotations

from typing import Any

from tidegate.kernel import rowlog
from tidegate.kernel.compiled import compiled
from tidegate.kernel.layout import (
    CHAIN,
    EDGES,
    ENDS,
    EXTREME_LANE_BY_VERDICT,
    EXTREME_WORDS,
    EXTREMES,
    EXTREMES_END,
    LOWER,
    TURN,
    UPPER,
)
from tidegate.kernel.rowlog import BEGIN_OF_TIME, END_OF_TIME, HIGH, LANES, LOW, LOW_TIME, NIL, VALID


@compiled
def _rank(log: Any, layout: Any, extreme: Any, row: Any, time: Any) -> Any:
    """Whether the row has a valid value for an extreme, and the value, turned so that the greatest is best."""
    lane = layout[extreme + EXTREME_LANE_BY_VERDICT + rowlog.verdict_at(log, row, time)]
    at = rowlog.place(log, row)
    return (log.rows[at, VALID] >> lane) & 1 == 1, log.rows[at, LANES + lane] ^ layout[extreme + TURN]


@compiled
def _follows(log: Any, row: Any, other: Any) -> Any:
    """Whether a row comes after another in the order of time, then of arrival."""
    time, other_time, first = rowlog.time_of(log, row), rowlog.time_of(log, other), log.heap[rowlog.FIRST]
    return time > other_time or (
        time == other_time and rowlog.place(log, row - first) > rowlog.place(log, other - first)
    )


@compiled
def _join(log: Any, layout: Any, slot: Any, extreme: Any, before: Any, after: Any, first: Any, last: Any) -> None:
    """Make `first` follow `before` in the chain, and `after` follow `last`; NIL is the chain's end."""
    chain, ends = layout[extreme + CHAIN], slot + layout[extreme + ENDS]
    if before == NIL:
        log.heap[ends] = first
    else:
        log.links[rowlog.place(log, before), chain] = first
    if after == NIL:
        log.heap[ends + 1] = last
    else:
        log.links[rowlog.place(log, after), chain + 1] = last


@compiled
def _better_of(log: Any, layout: Any, extreme: Any, row: Any, oldest: Any) -> Any:
    """A row's better if it is not older than `oldest`. One that left the frame may be gone, and its place taken."""
    better = rowlog.link(log, row, layout[extreme + CHAIN] + 1)
    if better != NIL and rowlog.is_kept(log, better) and rowlog.time_of(log, better) >= oldest:
        return better
    return NIL


@compiled
def _append(log: Any, layout: Any, slot: Any, extreme: Any, row: Any, time: Any) -> None:
    """The frame's newest row goes to the chain's end, in the place of all that are not better."""
    valid, rank = _rank(log, layout, extreme, row, time)
    chain, at = layout[extreme + CHAIN], rowlog.place(log, row)
    better = log.heap[slot + layout[extreme + ENDS] + 1]
    while valid and better != NIL and _rank(log, layout, extreme, better, time)[1] <= rank:
        better = rowlog.link(log, better, chain + 1)
    log.links[at, chain + 1] = better
    if valid:
        log.links[at, chain] = NIL
        _join(log, layout, slot, extreme, better, NIL, row, row)


@compiled
def _insert(
    log: Any, layout: Any, entity: Any, slot: Any, window: Any, extreme: Any, row: Any, time: Any
) -> None:  # fmt: skip
    """A row in the midst of the frame finds its better, becomes that of those after it, and a link of the chain if it
    is better than all of them.
    """
    valid, rank = _rank(log, layout, extreme, row, time)
    chain, edges = layout[extreme + CHAIN], slot + layout[window + EDGES]
    oldest = log.heap[edges + LOW_TIME]
    better = rowlog.preceding(log, entity, row)
    if better != NIL and rowlog.time_of(log, better) < oldest:
        better = NIL
    while better != NIL:
        better_valid, better_rank = _rank(log, layout, extreme, better, time)
        if better_valid and (not valid or better_rank > rank):
            break
        better = _better_of(log, layout, extreme, better, oldest)
    log.links[rowlog.place(log, row), chain + 1] = better
    if not valid:
        return
    newest = rowlog.time_of(log, log.heap[edges + HIGH])
    later = rowlog.following(log, entity, row)
    while later != NIL and rowlog.time_of(log, later) <= newest:
        later_valid, later_rank = _rank(log, layout, extreme, later, time)
        if later_valid and later_rank >= rank:
            return
        later_better = _better_of(log, layout, extreme, later, oldest)
        if later_better == NIL or not _follows(log, later_better, row):
            log.links[rowlog.place(log, later), chain + 1] = row
        later = rowlog.following(log, entity, later)
    after, before = NIL, log.heap[slot + layout[extreme + ENDS] + 1]
    while before != NIL and _follows(log, before, row):
        after = before
        before = rowlog.link(log, before, chain + 1)
    log.links[rowlog.place(log, row), chain] = after
    _join(log, layout, slot, extreme, better, after, row, row)


@compiled
def append_row(log: Any, layout: Any, slot: Any, window: Any, row: Any, time: Any) -> None:
    """A row newer than all others came into the window's frame."""
    for extreme in range(layout[window + EXTREMES], layout[window + EXTREMES_END], EXTREME_WORDS):
        _append(log, layout, slot, extreme, row, time)


@compiled
def insert_row(log: Any, layout: Any, entity: Any, slot: Any, window: Any, row: Any, time: Any) -> None:
    """A row came into the midst of the window's frame."""
    for extreme in range(layout[window + EXTREMES], layout[window + EXTREMES_END], EXTREME_WORDS):
        _insert(log, layout, entity, slot, window, extreme, row, time)


@compiled
def unchain_row(log: Any, layout: Any, slot: Any, window: Any, row: Any) -> None:
    """The frame's oldest row leaves it: if it is in a chain, it is the first."""
    for extreme in range(layout[window + EXTREMES], layout[window + EXTREMES_END], EXTREME_WORDS):
        if log.heap[slot + layout[extreme + ENDS]] == row:
            after = rowlog.link(log, row, layout[extreme + CHAIN])
            _join(log, layout, slot, extreme, NIL, after, after, NIL)


@compiled
def chain_labelled(log: Any, layout: Any, entity: Any, slot: Any, window: Any, time: Any) -> None:
    """Make the chains that read labels anew, as of `time`, which is the clock."""
    edges = slot + layout[window + EDGES]
    low, high = log.heap[edges + LOW], log.heap[edges + HIGH]
    for extreme in range(layout[window + EXTREMES], layout[window + EXTREMES_END], EXTREME_WORDS):
        lanes = extreme + EXTREME_LANE_BY_VERDICT
        if layout[lanes] == layout[lanes + 1] == layout[lanes + 2]:
            continue
        log.heap[slot + layout[extreme + ENDS]] = NIL
        log.heap[slot + layout[extreme + ENDS] + 1] = NIL
        row = low
        while row != NIL and high != NIL and rowlog.time_of(log, row) <= rowlog.time_of(log, high):  # noqa: PLR1714
            _append(log, layout, slot, extreme, row, time)
            row = rowlog.following(log, entity, row)


@compiled
def _best_of(log: Any, layout: Any, extreme: Any, row: Any, time: Any, found: Any, best: Any) -> Any:
    valid, rank = _rank(log, layout, extreme, row, time)
    if valid and (not found or rank > best):
        return True, rank
    return found, best


@compiled
def extreme_of(
    log: Any, layout: Any, entity: Any, slot: Any, window: Any, extreme: Any, row: Any, counted: Any, clock: Any,
    floor: Any, unlabelled: Any,
) -> Any:  # fmt: skip
    """Whether an extreme has a value, and the value, for a row: the cursors are as of its time, the chains as of the
    clock. `counted`: the row was just counted in; `unlabelled`: there are labels between the two times.
    """
    time = rowlog.time_of(log, row)
    found, best = False, layout[extreme + TURN]
    first = log.heap[slot + layout[extreme + ENDS]]
    if time == clock:
        if first != NIL:
            found, best = _best_of(log, layout, extreme, first, time, found, best)
        return found, best ^ layout[extreme + TURN]
    edges = slot + layout[window + EDGES]
    low, high = log.heap[edges + LOW], log.heap[edges + HIGH]
    newest = rowlog.time_of(log, high) if high != NIL else BEGIN_OF_TIME
    # Of rows from here on the chain knows the best, if not what labels there were.
    oldest = END_OF_TIME if unlabelled else max(clock - layout[window + LOWER], floor)
    if not unlabelled and first != NIL and newest != BEGIN_OF_TIME:
        better = first
        if rowlog.time_of(log, first) > newest:
            better = rowlog.preceding(log, entity, row) if high == row else high
        while better != NIL and rowlog.time_of(log, better) >= oldest:
            found, best = _best_of(log, layout, extreme, better, time, found, best)
            better = _better_of(log, layout, extreme, better, oldest)
    while low != NIL and rowlog.time_of(log, low) <= newest and rowlog.time_of(log, low) < oldest:
        found, best = _best_of(log, layout, extreme, low, time, found, best)
        low = rowlog.following(log, entity, low)
    if counted and layout[window + UPPER] == 0:
        found, best = _best_of(log, layout, extreme, row, time, found, best)
    return found, best ^ layout[extreme + TURN]
