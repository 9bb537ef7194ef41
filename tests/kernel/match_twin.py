"""The naive twin of the match engine: every row that ever came in one list a partition, every answer by backtracking
over all of them. It is the referee of `tidegate.kernel.sequences.matches`: slow, and meant to be seen to be right."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidegate.kernel.sequences.matchplan import ANY, Reference
from tidegate.kernel.sequences.patterns import Either, One, Pattern, Repeat, Then

Mapped = list[tuple[int, "Row"]]
"""Rows of a match, each with the variable that it is."""


@dataclass(frozen=True)
class Row:
    time: int
    id: Hashable
    key: Hashable
    values: tuple[int | None, ...] = ()
    number: int = -1
    """Of its arrival."""


@dataclass(frozen=True)
class Match:
    """`time` is when it became complete, by event time."""

    first: Hashable
    time: int
    mapped: Mapped


@dataclass
class Twin:
    pattern: Pattern
    define: Sequence[Callable[[Mapped, Row], bool | None]]
    """By variable: whether a row may be it. The row is the last of what is mapped."""
    span: int
    lateness: int
    skip: str = "past last row"
    skip_variable: int = -1
    by_duration: bool = False
    rows: list[Row] = field(default_factory=list)
    newest: float = float("-inf")
    ended: set[int] = field(default_factory=set)
    """Numbers of the rows that no match by duration may start with any more."""

    def apply(self, row: Row, number: int) -> tuple[Match | None, list[Match]]:
        """The match that the row completes, and those by duration that have become due."""
        row = Row(row.time, row.id, row.key, row.values, number)
        late = row.time < self.newest - self.lateness
        self.newest = max(self.newest, row.time)
        due = list(self.due()) if self.by_duration else []
        known = any((row.id, row.time, row.key) == (other.id, other.time, other.key) for other in self.rows)
        if late or known:
            return None, due
        self.rows.append(row)
        if self.by_duration:
            return None, due
        partition = self.partition(row.key)
        return self.completed(partition[: partition.index(row) + 1]), due

    def partition(self, key: Hashable) -> list[Row]:
        return sorted((row for row in self.rows if row.key == key), key=lambda row: (row.time, row.number))

    def completed(self, rows: list[Row]) -> Match | None:
        """The match that ends with the last row, if those that end before it are told too."""
        ended: set[int] = set()
        found = None
        for end in range(len(rows)):
            found = None
            for start in range(end + 1):
                if rows[start].number in ended:
                    continue
                mapped = self.whole(rows[start : end + 1])
                if mapped is not None:
                    found = found or Match(rows[start].id, rows[end].time, mapped)
                    ended |= self.ended_by(rows, start, mapped)
        return found

    def due(self) -> Iterator[Match]:
        for first in sorted(self.rows, key=lambda row: (row.time, row.number)):
            if first.number in self.ended or first.time + self.span > self.newest - self.lateness:
                continue
            rows = self.partition(first.key)
            start = rows.index(first)
            mapped = self.whole([row for row in rows[start:] if row.time < first.time + self.span])
            self.ended.add(first.number)
            if mapped is not None:
                self.ended |= self.ended_by(rows, start, mapped)
                yield Match(first.id, first.time + self.span, mapped)

    def ended_by(self, rows: list[Row], start: int, mapped: Mapped) -> set[int]:
        """Numbers of the rows that no match may start with after this one."""
        upto = 0
        if self.skip == "past last row":
            upto = rows.index(mapped[-1][1]) + 1
        elif self.skip != "to next row":
            ours = [row for variable, row in mapped if variable == self.skip_variable]
            if ours:
                upto = rows.index(ours[0] if self.skip == "to first" else ours[-1])
        return {row.number for row in rows[:upto]} | {rows[start].number}

    def whole(self, rows: list[Row]) -> Mapped | None:
        """The rows, all of them, as the pattern: of the ways there are the one that SQL prefers."""
        if rows[-1].time - rows[0].time >= self.span:
            return None
        seen: set[Any] = set()

        def go(to_come: tuple[Pattern, ...], at: int, mapped: Mapped, unless: frozenset[int]) -> Mapped | None:  # noqa: PLR0911
            if (to_come, at, unless) in seen:
                return None
            seen.add((to_come, at, unless))
            if not to_come:
                return mapped if at == len(rows) else None
            first, rest = to_come[0], to_come[1:]
            match first:
                case One():
                    if at == len(rows) or any(self.is_a(variable, mapped, rows[at]) for variable in unless):
                        return None
                    if not self.is_a(first.variable, mapped, rows[at]):
                        return None
                    return go(rest, at + 1, [*mapped, (first.variable, rows[at])], frozenset())
                case Then():
                    return go((*first.parts, *rest), at, mapped, unless)
                case Either():
                    ways = [((part, *rest), unless) for part in first.parts]
                case Repeat():
                    most = None if first.most is None else first.most - 1
                    again = Repeat(first.part, max(0, first.least - 1), most, first.greedy, first.keeps)
                    more = [((first.part, again, *rest), unless)] if first.most != 0 else []
                    keeps = {first.keeps} - {-1}
                    end = [(rest, unless | keeps)] if first.least == 0 else []
                    ways = more + end if first.greedy else end + more
            return next((found for way, others in ways if (found := go(way, at, mapped, others)) is not None), None)

        return go((self.pattern,), 0, [], frozenset())

    def is_a(self, variable: int, mapped: Mapped, row: Row) -> bool:
        return bool(self.define[variable]([*mapped, (variable, row)], row))


def referred(reference: Reference, mapped: Mapped) -> int | None:
    """What a reference gives over a match."""
    rows = [row for variable, row in mapped if reference.variable in (ANY, variable)]
    values = [1 if reference.lane < 0 else row.values[reference.lane] for row in rows]
    known = [value for value in values if value is not None]
    match reference.function:
        case "first":
            return values[reference.offset] if reference.offset < len(values) else None
        case "last":
            return values[-1 - reference.offset] if reference.offset < len(values) else None
        case "count":
            return len(known)
        case "sum":
            return sum(known) if known else None
        case "min":
            return min(known, default=None)
        case "max":
            return max(known, default=None)
