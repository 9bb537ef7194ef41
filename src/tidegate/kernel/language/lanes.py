"""What aggregates count of a row: its value, where FILTER holds; each thing once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tidegate.kernel.language.expressions import BOOLEAN, Call, Expression, Literal, columns_of, substitute
from tidegate.kernel.language.joins import LABEL
from tidegate.kernel.plan import LabelLane

TRUE, FALSE = Literal(value=True, type=BOOLEAN), Literal(value=False, type=BOOLEAN)


@dataclass(frozen=True, slots=True)
class Lane:
    value: Expression
    where: Expression | None = None

    @property
    def parts(self) -> tuple[Expression, ...]:
        return (self.value,) if self.where is None else (self.value, self.where)

    @property
    def is_valid(self) -> Expression:
        """Whether a row counts: never NULL."""
        has_value = TRUE
        if not isinstance(self.value, Literal):
            has_value = Call("not", (Call("is_null", (self.value,), BOOLEAN),), BOOLEAN)
        elif self.value.value is None:
            has_value = FALSE
        if self.where is None:
            return has_value
        holds = Call("coalesce", (self.where, FALSE), BOOLEAN)
        return holds if has_value == TRUE else Call("and", (has_value, holds), BOOLEAN)


@dataclass
class Lanes:
    """The lanes of one text."""

    all: list[Lane] = field(default_factory=list[Lane])
    by_label: dict[Lane, LabelLane] = field(default_factory=dict[Lane, LabelLane])
    _shared: dict[Lane, int] = field(default_factory=dict[Lane, int])

    def of(self, value: Expression, where: Expression | None) -> int:
        """The lane of a value, as far as FILTER holds: three lanes if it reads the label."""
        kept = Lane(value, where)
        if not any(LABEL in columns_of(part) for part in kept.parts):
            return self._share(kept)
        if kept not in self.by_label:
            unknown, fraud, genuine = (
                Lane(*(substitute(part, LABEL, Literal(label, BOOLEAN)) for part in kept.parts))
                for label in (None, True, False)
            )
            # A label picks another in this lane's place, so that it may be no other's; the two it picks from are read.
            lane = len(self.all)
            self.all.append(unknown)
            self.by_label[kept] = LabelLane(lane, self._share(fraud), self._share(genuine))
        return self.by_label[kept].lane

    def _share(self, lane: Lane) -> int:
        if lane not in self._shared:
            self._shared[lane] = len(self.all)
            self.all.append(lane)
        return self._shared[lane]

    def counted_with(self, lanes: Iterable[int]) -> set[int]:
        """These lanes and those that a label picks in their place."""
        counted = {*lanes}
        for labelled in self.by_label.values():
            if labelled.lane in counted:
                counted |= {labelled.if_fraud, labelled.if_genuine}
        return counted
