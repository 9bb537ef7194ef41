"""Boosted trees, from LightGBM's text format to sums of leaves, bit for bit as LightGBM adds them up.

LightGBM walks a row from node to node, which a processor can't foresee: 30 us for 500 trees. Here a tree's nodes are
asked one after another, each for many rows at once. The leaves of a tree are bits, from left to right; a node that
sends a row to the right rules out all leaves on its left; the row's leaf is the first that is left (Lucchese et al.,
"QuickScorer: a fast algorithm to rank documents with additive ensembles of regression trees", 2015).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tidegate.errors import DamagedError
from tidegate.kernel.machine.compiled import entry

#: Leaves of one tree at most: the bits of a word.
MAX_LEAVES = 64

#: Rows that a node is asked for at once: enough to keep the processor's vectors full, few enough that they stay near.
_BLOCK_ROWS = 64

#: Fewer rows are asked one by one: a vector would be mostly empty.
_FEW_ROWS = 4

#: Multiplied by it, each of the 64 words of one bit has another pattern in its upper six bits (a de Bruijn sequence:
#: Leiserson, Prokop and Randall, "Using de Bruijn sequences to index a 1 in a computer word", 1998).
_DE_BRUIJN = 0x03F79D71B4CB0A89
_UPPER_SIX = 58
_ALL = -1

#: What LightGBM takes for zero, where zeros stand for what is missing.
_ZERO = 1e-35

#: Infinite values and thresholds are this instead: what is missing is beyond them.
_LARGEST = sys.float_info.max

# Bits of `decision_type`.
_CATEGORICAL, _DEFAULT_LEFT, _MISSING_SHIFT = 1, 2, 2
_MISSING_NONE, _MISSING_ZERO, _MISSING_NAN = 0, 1, 2


class Trees(NamedTuple):
    """t trees with k nodes in all, over w columns made of a row's features."""

    firsts: npt.NDArray[np.int64]
    """int64[t + 1]: where each tree's nodes begin."""
    columns: npt.NDArray[np.int64]
    """int64[k]"""
    thresholds: npt.NDArray[np.float64]
    """float64[k]: what is greater goes to the right."""
    masks: npt.NDArray[np.int64]
    """int64[k]: all leaves but those on the node's left."""
    leaves: npt.NDArray[np.float64]
    """float64[t * 64]: of each tree, by the upper six bits of the leaf's bit times `_DE_BRUIJN`."""


@dataclass(frozen=True)
class _Reader:
    """`columns`: a feature and where it goes if it is missing, by the order in which nodes first ask for it."""

    columns: dict[tuple[int, int, bool], int] = field(default_factory=dict[tuple[int, int, bool], int])
    nodes: list[tuple[int, float, int]] = field(default_factory=list[tuple[int, float, int]])

    def tree(self, lines: Mapping[str, str]) -> list[float]:
        """Add a tree's nodes; its leaves from left to right."""
        values = [float(value) for value in lines["leaf_value"].split()]
        if len(values) > MAX_LEAVES:
            raise DamagedError(f"model: wanted at most {MAX_LEAVES} leaves a tree, got {len(values)}: set num_leaves")
        if lines["num_cat"] != "0" or lines.get("is_linear", "0") != "0":
            raise DamagedError(
                "model: wanted splits by a threshold and constant leaves, got categories or linear trees"
            )
        if len(values) == 1:
            return values
        left, right, features, types = (
            [int(number) for number in lines[name].split()]
            for name in ("left_child", "right_child", "split_feature", "decision_type")
        )
        thresholds = [min(max(float(number), -_LARGEST), _LARGEST) for number in lines["threshold"].split()]
        ordered: list[float] = []

        def visit(node: int) -> int:
            """The bits of the leaves below."""
            if node < 0:
                ordered.append(values[~node])
                return 1 << (len(ordered) - 1)
            lefts = visit(left[node])
            treatment = features[node], types[node] >> _MISSING_SHIFT, bool(types[node] & _DEFAULT_LEFT)
            column = self.columns.setdefault(treatment, len(self.columns))
            self.nodes.append((column, thresholds[node], _signed(~lefts)))
            return lefts | visit(right[node])

        visit(0)
        return ordered


def _signed(word: int) -> int:
    word &= 2**64 - 1
    return word - 2**64 if word >= 2**63 else word


def _slot(bit: int) -> int:
    return (((1 << bit) * _DE_BRUIJN) & (2**64 - 1)) >> _UPPER_SIX


class Forest:
    """The trees of a LightGBM text model."""

    def __init__(self, text: str) -> None:
        """
        Raises:
            DamagedError: the text is no such model, or one that this does not take.
        """
        try:
            head, *trees = list(_sections(text))
            if head.get("num_class") != "1" or head.get("num_tree_per_iteration") != "1" or "average_output" in head:
                raise DamagedError("model: wanted boosted trees with one output, got several outputs or an average")
            self.names = tuple(head["feature_names"].split())
            self.sigmoid = _sigmoid(head["objective"])
            reader, firsts, leaves = _Reader(), [0], np.zeros((len(trees), MAX_LEAVES))
            for number, tree in enumerate(trees):
                for bit, value in enumerate(reader.tree(tree)):
                    leaves[number, _slot(bit)] = value
                firsts.append(len(reader.nodes))
        except (KeyError, ValueError, IndexError, RecursionError) as error:
            raise DamagedError(f"model: wanted LightGBM's text format, got {type(error).__name__}: {error}") from None
        columns, thresholds, masks = zip(*reader.nodes, strict=True) if reader.nodes else ((), (), ())
        self._treatments = np.array(list(reader.columns), np.int64).reshape(-1, 3)
        self._trees = Trees(
            np.array(firsts, np.int64),
            np.array(columns, np.int64),
            np.array(thresholds, np.float64),
            np.array(masks, np.int64),
            leaves.reshape(-1),
        )

    def sums(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n]: the sum of the leaves of each row of float64[n, f]; NaN is what is missing."""
        columns = np.empty(len(self._treatments) * len(rows))
        spread_rows(np.ascontiguousarray(rows), self._treatments, columns)
        sums = np.zeros(len(rows))
        add_leaves(*self._trees, columns, np.empty(_BLOCK_ROWS, np.int64), sums)
        return sums

    def scores(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n]: the sums, made into probabilities if the model was trained to tell them."""
        sums = self.sums(rows)
        # Value by value, with the C library's exp as LightGBM has it: numpy's differs in the last bit.
        return (
            sums if self.sigmoid is None else np.array([1.0 / (1.0 + _exp(-self.sigmoid * x)) for x in sums.tolist()])
        )


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _sections(text: str) -> Iterator[dict[str, str]]:
    """The lines `name=value` of the head, then of each tree."""
    body, end, _ = text.partition("\nend of trees")
    if not text.startswith("tree\n") or not end:
        raise DamagedError("model: wanted LightGBM's text format from `tree` to `end of trees`, got something else")
    for section in body.split("\nTree="):
        parts = [line.partition("=") for line in section.splitlines()]
        yield {name: value for name, _, value in parts}


def _sigmoid(objective: str) -> float | None:
    """What a sum is multiplied by before it becomes a probability; None: it stays as it is."""
    name, *options = objective.split()
    if name == "binary":
        return float(dict(option.split(":") for option in options)["sigmoid"])
    if name == "cross_entropy":
        return 1.0
    if name == "regression":
        return None
    raise DamagedError(f"model: wanted the objective binary, cross_entropy or regression, got {name!r}")


@entry
def spread_rows(rows: Any, treatments: Any, columns: Any) -> None:
    """Make w columns (float64[w * n]) of rows (float64[n, f]), as `treatments` (int64[w, 3]) say: of which feature,
    what is missing there, and whether that goes to the left: it becomes less than all else then, or else greater.
    """
    count = len(rows)
    for column in range(len(treatments)):
        feature, missing, left = treatments[column, 0], treatments[column, 1], treatments[column, 2]
        for row in range(count):
            value = rows[row, feature]
            if math.isnan(value) and missing != _MISSING_NAN:
                value = 0.0
            if math.isinf(value):
                value = math.copysign(_LARGEST, value)
            if math.isnan(value) or (missing == _MISSING_ZERO and abs(value) <= _ZERO):
                value = -math.inf if left else math.inf
            columns[column * count + row] = value


@entry
def add_leaves(  # noqa: PLR0917 - numba knows no keyword arguments
    firsts: Any, columns: Any, thresholds: Any, masks: Any, leaves: Any, values: Any, left: Any, sums: Any
) -> None:
    """Add to `sums` (float64[n]) the leaves of each row, tree after tree. `values` are the columns, float64[w * n];
    `left` (int64[_BLOCK_ROWS]) is room for the leaves that are left of each row.
    """
    count = np.uint64(len(sums))
    for start in range(0, len(sums), _BLOCK_ROWS):
        # Unsigned: numba would else look whether an index counts from the end, and vectors could not be used.
        rows, first_row = np.uint64(min(_BLOCK_ROWS, len(sums) - start)), np.uint64(start)
        for tree in range(len(firsts) - 1):
            if rows < _FEW_ROWS:
                for row in range(rows):
                    bits = _ALL
                    for node in range(firsts[tree], firsts[tree + 1]):
                        at = np.uint64(columns[node]) * count + first_row + row
                        bits &= masks[node] if values[at] > thresholds[node] else _ALL
                    left[row] = bits
            else:
                for row in range(rows):
                    left[row] = _ALL
                for node in range(firsts[tree], firsts[tree + 1]):
                    at = np.uint64(columns[node]) * count + first_row
                    threshold, mask = thresholds[node], masks[node]
                    for row in range(rows):
                        left[row] &= mask if values[at + row] > threshold else _ALL
            for row in range(rows):
                first = left[row] & -left[row]
                slot = ((first * _DE_BRUIJN) >> _UPPER_SIX) & (MAX_LEAVES - 1)
                sums[first_row + row] += leaves[tree * MAX_LEAVES + slot]
