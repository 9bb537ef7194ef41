"""Quantiles: the rows of a frame that have a value are a search tree by value, in which each knows how many are below
it, so that the one at any place of their order is found in about as many steps as the logarithm of their number.

It is a treap (Seidel and Aragon, Randomized search trees, 1996): by rank it is a heap, and ranks are hashes of the
rows' names, so that its shape depends on the rows that are in it and not on the order in which they came. Rows of the
same value lie by their names.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.kernel.machine.compiled import compiled, inlined
from tidegate.kernel.windows.layout import (
    DENOMINATOR,
    NUMERATOR,
    QUANTILE_CEIL,
    QUANTILE_DISC,
    ROW_LINKS,
    RUNNING,
    TREE_ACCUMULATOR,
    VALUE_WORDS,
)
from tidegate.kernel.windows.rowlog import NIL, link, of_slot, place, set_link, verdict_of_row

# A row's halves: its children, and how many rows there are in the tree from it on.
_LEFT, _RIGHT, _SIZE = 0, 1, 2

_RANK_MASK = 0xFFFFFFFF


@inlined
def _rank(row: Any) -> Any:
    """32 bits that look drawn by chance, no two rows the same: lowbias32 (Wellons, 2018)."""
    rank = ((row ^ (row >> 16)) * 0x7FEB352D) & _RANK_MASK
    rank = ((rank ^ (rank >> 15)) * 0x846CA68B) & _RANK_MASK
    return rank ^ (rank >> 16)


@inlined
def _child(rows: Any, tree: Any, row: Any, side: Any) -> Any:
    return link(rows, row, tree + side)


@inlined
def _size(rows: Any, tree: Any, row: Any) -> Any:
    return link(rows, row, tree + _SIZE) if row != NIL else 0


@inlined
def _half(rows: Any, tree: Any, row: Any, side: Any) -> Any:
    """Where a row's child is named."""
    return 2 * place(rows, row) + tree + side


@inlined
def _value(rows: Any, layout: Any, accumulator: Any, row: Any) -> Any:
    return rows.heap[place(rows, row) + layout[accumulator + VALUE_WORDS + verdict_of_row(rows, row)]]


@inlined
def _is_before(rows: Any, layout: Any, accumulator: Any, row: Any, other: Any, value: Any) -> Any:
    """Whether a row lies before another, of that value."""
    own = _value(rows, layout, accumulator, row)
    return own < value or (own == value and row < other)


@compiled
def _place_of(rows: Any, layout: Any, accumulator: Any, node: Any, row: Any, value: Any) -> Any:
    """How many rows of the tree from a node on lie before a row of that value."""
    tree, before = layout[accumulator + ROW_LINKS], 0
    while node != NIL:
        if _is_before(rows, layout, accumulator, node, row, value):
            before += _size(rows, tree, _child(rows, tree, node, _LEFT)) + 1
            node = _child(rows, tree, node, _RIGHT)
        else:
            node = _child(rows, tree, node, _LEFT)
    return before


@compiled
def _split(rows: Any, layout: Any, accumulator: Any, node: Any, row: Any, value: Any) -> None:
    """Put the tree from a node on below a row: what lies before it to its left, the rest to its right."""
    tree = layout[accumulator + ROW_LINKS]
    before = _place_of(rows, layout, accumulator, node, row, value)
    after = _size(rows, tree, node) - before
    set_link(rows, row, tree + _SIZE, before + after + 1)
    left, right = _half(rows, tree, row, _LEFT), _half(rows, tree, row, _RIGHT)
    while node != NIL:
        if _is_before(rows, layout, accumulator, node, row, value):
            rows.links[left] = node
            set_link(rows, node, tree + _SIZE, before)
            before -= _size(rows, tree, _child(rows, tree, node, _LEFT)) + 1
            left = _half(rows, tree, node, _RIGHT)
            node = _child(rows, tree, node, _RIGHT)
        else:
            rows.links[right] = node
            set_link(rows, node, tree + _SIZE, after)
            after -= _size(rows, tree, _child(rows, tree, node, _RIGHT)) + 1
            right = _half(rows, tree, node, _LEFT)
            node = _child(rows, tree, node, _LEFT)
    rows.links[left], rows.links[right] = NIL, NIL


@compiled
def _join(rows: Any, tree: Any, where: Any, left: Any, right: Any) -> None:
    """Name one tree, where one was named, that has all rows of two of which one lies before the other."""
    while NIL not in (left, right):
        size = _size(rows, tree, left) + _size(rows, tree, right)
        if _rank(left) > _rank(right):
            rows.links[where] = left
            set_link(rows, left, tree + _SIZE, size)
            where = _half(rows, tree, left, _RIGHT)
            left = _child(rows, tree, left, _RIGHT)
        else:
            rows.links[where] = right
            set_link(rows, right, tree + _SIZE, size)
            where = _half(rows, tree, right, _LEFT)
            right = _child(rows, tree, right, _LEFT)
    rows.links[where] = left if right == NIL else right


@compiled
def count_value(rows: Any, layout: Any, slot: Any, accumulator: Any, row: Any, value: Any, sign: Any) -> None:
    """Put a row of that value into the tree (sign 1), or take it out (-1)."""
    tree, where = layout[accumulator + ROW_LINKS], 2 * slot + layout[accumulator + RUNNING]
    node = of_slot(rows, slot, layout[accumulator + RUNNING])
    while node not in (NIL, row) and (sign < 0 or _rank(node) > _rank(row)):
        set_link(rows, node, tree + _SIZE, _size(rows, tree, node) + sign)
        side = _RIGHT if _is_before(rows, layout, accumulator, node, row, value) else _LEFT
        where = _half(rows, tree, node, side)
        node = _child(rows, tree, node, side)
    if sign < 0:
        _join(rows, tree, where, _child(rows, tree, row, _LEFT), _child(rows, tree, row, _RIGHT))
        return
    _split(rows, layout, accumulator, node, row, value)
    rows.links[where] = row


@compiled
def quantile_of(rows: Any, layout: Any, slot: Any, kind: Any, quantile: Any) -> Any:
    """Whether a quantile has a value, and the value: of the n that there are, in order, that which has the share q of
    them up to itself, or one of the two beside the place (n - 1) * q.
    """
    accumulator = layout[quantile + TREE_ACCUMULATOR]
    tree, node = layout[accumulator + ROW_LINKS], of_slot(rows, slot, layout[accumulator + RUNNING])
    count = _size(rows, tree, node)
    numerator, denominator = layout[quantile + NUMERATOR], layout[quantile + DENOMINATOR]
    if count == 0:
        return False, np.int64(0)
    if kind == QUANTILE_DISC:
        at = max((count * numerator + denominator - 1) // denominator - 1, 0)
    else:
        exact = (count - 1) * (numerator / denominator)
        at = np.int64(exact)
        if kind == QUANTILE_CEIL and exact > at:
            at += 1
    before = _size(rows, tree, _child(rows, tree, node, _LEFT))
    while at != before:
        if at < before:
            node = _child(rows, tree, node, _LEFT)
        else:
            at -= before + 1
            node = _child(rows, tree, node, _RIGHT)
        before = _size(rows, tree, _child(rows, tree, node, _LEFT))
    return True, _value(rows, layout, accumulator, node)
