"""What a sequence would have told of an event, had it been another: the rows of its partition and it, matched anew."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidegate.kernel.sequences.matches import Complete, Matches, Taken
from tidegate.kernel.sequences.matchplan import MatchPlan

#: Rows of a partition that are matched anew: more would take longer than a decision may wait for its explanation.
MOST_ROWS = 256


class Others(NamedTuple):
    """What n events would have been, had they been others."""

    numbers: npt.NDArray[np.int64]
    """int64[n]: the rows that they were, -1: none."""
    kept: npt.NDArray[np.bool_]
    """bool[n]: whether they would have been rows."""
    rows: Taken
    """Those that would have been."""


def had_been(
    matches: Matches, plan: MatchPlan, others: Others
) -> tuple[Complete | None, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """What events would have completed, which came last and were others: int64[n], which match of all (-1: none), and
    bool[n], whether that can be told.
    """
    closing, count = _closing(plan), len(others.numbers)
    match, told = np.full(count, -1), np.zeros(count, np.bool_)
    before: dict[int, npt.NDArray[np.int64] | None] = {}
    parts: list[Taken] = []
    asked: list[int] = []
    for each, (number, is_kept, row) in enumerate(
        zip(others.numbers.tolist(), others.kept, np.cumsum(others.kept) - 1, strict=True)
    ):
        if not is_kept or not int(others.rows.mask[row]) & closing:
            # Whatever came before it, it is the last row of no match.
            told[each] = True
            continue
        if number not in before:
            before[number] = matches.before(number, MOST_ROWS) if number >= 0 else None
        rows = before[number]
        if rows is not None and np.array_equal(matches.key(number), others.rows.keys[row]):
            told[each] = True
            parts += [matches.kept(rows), others.rows.take([row])]
            asked.append(each)
    if not asked:
        return None, match, told
    sizes = [len(part.times) for part in parts]
    # Each event has a partition to itself.
    partitions = np.repeat(np.arange(len(asked)), [first + 1 for first in sizes[::2]])
    complete = Matches(plan).apply(_together(parts, partitions))
    completed = dict(zip(complete.by.tolist(), range(len(complete.by)), strict=True))
    for each, end in zip(asked, np.cumsum(sizes)[1::2].tolist(), strict=True):
        match[each] = completed.get(end - 1, -1)
    return complete, match, told


def _closing(plan: MatchPlan) -> int:
    """The variables, as bits, that the last row of a match can be."""
    ways = (branch for state in plan.branches for branch in state)
    return reduce(or_, (1 << branch.variable for branch in ways if plan.accepting[branch.state]), 0)


def _together(parts: list[Taken], partitions: npt.NDArray[np.int64]) -> Taken:
    """All rows, none of them too late and none to be let go."""
    times = np.concatenate([part.times for part in parts])
    return Taken(
        times=times,
        before=times,
        clock=np.full(len(times) + 1, times.min(initial=0)),
        keys=np.stack([partitions, np.zeros_like(partitions)], axis=1).view(np.uint64),
        ids=np.concatenate([part.ids for part in parts]),
        mask=np.concatenate([part.mask for part in parts]),
        lanes=np.concatenate([part.lanes for part in parts], axis=1),
        valid=np.concatenate([part.valid for part in parts]),
        texts=[np.concatenate(texts) for texts in zip(*(part.texts for part in parts), strict=True)],
    )
