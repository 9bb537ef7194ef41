"""MIN and MAX. They have no inverse, so their state does not move back: each keeps, as of its key's clock, the chain
of rows that are better than all that follow them in the frame (the monotone queue of sliding-window extremes). An
answer at an earlier time is the chain's first row, if that is old enough, or else found by a look at the rows.
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
from tidegate.kernel.rowlog import BEGIN_OF_TIME, END_OF_TIME, HIGH, LANES, LOW, NIL, VALID


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
def _chain(log: Any, layout: Any, slot: Any, extreme: Any, row: Any, time: Any) -> None:
    """Put a row of the frame into the chain where it belongs, if it is better than all that follow."""
    valid, rank = _rank(log, layout, extreme, row, time)
    if not valid:
        return
    chain = layout[extreme + CHAIN]
    before, after = log.heap[slot + layout[extreme + ENDS] + 1], NIL
    while before != NIL and _follows(log, before, row):
        after = before
        before = rowlog.link(log, before, chain + 1)
    if after != NIL and _rank(log, layout, extreme, after, time)[1] >= rank:
        return
    while before != NIL and _rank(log, layout, extreme, before, time)[1] <= rank:
        before = rowlog.link(log, before, chain + 1)
    at = rowlog.place(log, row)
    log.links[at, chain], log.links[at, chain + 1] = after, before
    _join(log, layout, slot, extreme, before, after, row, row)


@compiled
def chain_row(log: Any, layout: Any, slot: Any, window: Any, row: Any, time: Any) -> None:
    """A row came into the window's frame."""
    for extreme in range(layout[window + EXTREMES], layout[window + EXTREMES_END], EXTREME_WORDS):
        _chain(log, layout, slot, extreme, row, time)


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
            _chain(log, layout, slot, extreme, row, time)
            row = rowlog.following(log, entity, row)


@compiled
def _better(log: Any, layout: Any, extreme: Any, row: Any, time: Any, found: Any, best: Any) -> Any:
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
            found, best = _better(log, layout, extreme, first, time, found, best)
        return found, best ^ layout[extreme + TURN]
    edges = slot + layout[window + EDGES]
    low, high = log.heap[edges + LOW], log.heap[edges + HIGH]
    newest = rowlog.time_of(log, high) if high != NIL else BEGIN_OF_TIME
    # Rows from here on need no look: the chain's first row is the best of them, or there is none.
    looked_at = END_OF_TIME
    if not unlabelled and (first == NIL or rowlog.time_of(log, first) <= newest):
        looked_at = max(clock - layout[window + LOWER], floor)
        if first != NIL:
            found, best = _better(log, layout, extreme, first, time, found, best)
    while low != NIL and rowlog.time_of(log, low) <= newest and rowlog.time_of(log, low) < looked_at:
        found, best = _better(log, layout, extreme, low, time, found, best)
        low = rowlog.following(log, entity, low)
    if counted and layout[window + UPPER] == 0:
        found, best = _better(log, layout, extreme, row, time, found, best)
    return found, best ^ layout[extreme + TURN]
