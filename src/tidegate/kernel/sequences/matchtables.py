"""The tables that the match loop runs over: a match plan as arrays of integers."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tidegate.kernel.sequences.matchplan import MatchPlan, Reference

# Numbers.
SPAN, LATENESS, BY_DURATION, SKIP, SKIP_REGISTER, STATES, MOST_BRANCHES, REGISTERS, NUMBERS = 0, 1, 2, 3, 4, 5, 6, 7, 8

# How matches skip.
PAST_LAST_ROW, TO_NEXT_ROW, TO_A_ROW = 0, 1, 2

# Columns of `states`, `branches` and `groups`.
FIRST_BRANCH, END_BRANCH, ACCEPTING = 0, 1, 2
VARIABLE, UNLESS, TARGET = 0, 1, 2
KIND, OF, LANE, REGISTER, SIZE = 0, 1, 2, 3, 4
# ... and of `answers`, which has KIND, LANE and REGISTER too.
TEXT = 1

# What a group of registers holds: the names of the first rows, of the last rows (the last first), a number of rows or
# of known values, or a sum, least or greatest value and the number of values in it.
FIRSTS, LASTS, COUNTED, SUMMED, LEAST, GREATEST = 0, 1, 2, 3, 4, 5

_KINDS = {"first": FIRSTS, "last": LASTS, "count": COUNTED, "sum": SUMMED, "min": LEAST, "max": GREATEST}


class Tables(NamedTuple):
    """v variables."""

    numbers: np.ndarray
    """int64[NUMBERS]"""
    states: np.ndarray
    """int64[states, 3]: the first of its branches, the one after its last, and whether it is accepting."""
    branches: np.ndarray
    """int64[branches, 3]: variable, the variables as bits that the row may not be, the state it leads to."""
    conditions: np.ndarray
    """int64[v, 2]: the first of its instructions and the one after its last."""
    code: np.ndarray
    """int64[instructions, 3]"""
    groups: np.ndarray
    """int64[groups, 5]: kind, variable, lane, first register and number of registers."""
    answers: np.ndarray
    """int64[references, 4]: kind, whether it is a text, lane, register (of a first or last: that of the row)."""


def registers_of(references: tuple[Reference, ...]) -> tuple[list[tuple[int, int, int, int, int]], list[int]]:
    """The groups of registers, and for each reference its register."""
    sizes: dict[tuple[int, int, int], int] = {}
    for reference in references:
        group = _group(reference)
        size = reference.offset + 1 if group[0] in (FIRSTS, LASTS) else 1 + (group[0] != COUNTED)
        sizes[group] = max(size, sizes.get(group, 0))
    firsts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    groups = [(*group, firsts[group], size) for group, size in sizes.items()]
    return groups, [firsts[_group(reference)] + reference.offset for reference in references]


def _group(reference: Reference) -> tuple[int, int, int]:
    """Firsts and lasts are rows, whichever lane of them is read."""
    kind = _KINDS[reference.function]
    return kind, reference.variable, -1 if kind in (FIRSTS, LASTS) else reference.lane


def all_references(plan: MatchPlan) -> tuple[Reference, ...]:
    """Those of the plan, and the one that says where to go on after a match."""
    if plan.skip == "to first":
        return (*plan.references, Reference("first", plan.skip_variable, -1))
    if plan.skip == "to last":
        return (*plan.references, Reference("last", plan.skip_variable, -1))
    return plan.references


def tabulate(plan: MatchPlan) -> Tables:
    references = all_references(plan)
    groups, registers = registers_of(references)
    branches = [branch for state in plan.branches for branch in state]
    ends = np.cumsum([0, *(len(state) for state in plan.branches)]).tolist()
    code = [instruction for condition in plan.conditions for instruction in condition]
    code_ends = np.cumsum([0, *(len(condition) for condition in plan.conditions)]).tolist()
    skips = {"past last row": PAST_LAST_ROW, "to next row": TO_NEXT_ROW}
    numbers = np.zeros(NUMBERS, np.int64)
    numbers[SPAN], numbers[LATENESS], numbers[BY_DURATION] = plan.span_us, plan.lateness_us, plan.by_duration
    numbers[SKIP] = skips.get(plan.skip, TO_A_ROW)
    numbers[SKIP_REGISTER] = registers[-1] if numbers[SKIP] == TO_A_ROW else -1
    numbers[STATES], numbers[MOST_BRANCHES] = len(plan.branches), max(map(len, plan.branches))
    numbers[REGISTERS] = sum(size for *_, size in groups)
    answers = [
        (_KINDS[reference.function], int(reference.text), reference.lane, register)
        for reference, register in zip(plan.references, registers, strict=False)
    ]
    return Tables(
        numbers=numbers,
        states=_table([(*edges, end) for *edges, end in zip(ends, ends[1:], plan.accepting, strict=False)], 3),
        branches=_table([(branch.variable, branch.unless, branch.state) for branch in branches], 3),
        conditions=_table(list(pairwise(code_ends)), 2),
        code=_table([(part.operation, part.first, part.second) for part in code], 3),
        groups=_table(groups, 5),
        answers=_table(answers, 4),
    )


def _table(rows: list[tuple[int, ...]], columns: int) -> np.ndarray:
    return np.array(rows, np.int64).reshape(-1, columns)
