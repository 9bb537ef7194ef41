"""Whether a condition can hold at all: rules that can never fire are found before they go live.

Only comparisons with constants are understood, and that a count is 0 or more; of anything else it is assumed that it
may hold. So a rule that is refused can never fire, and one that is taken may still be one that never does.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor, isfinite

from tidegate.kernel.language.expressions import DOUBLE, INTEGER_DIGITS, AggregateRef, Call, Expression, Literal
from tidegate.kernel.plan import WindowPlan

#: Steps after which a condition is taken to hold: each is a call within the one before, and Python allows 1,000.
_MAX_STEPS = 500

#: Integers up to here are the same as doubles.
_EXACT_DOUBLES = 2**53

_NEGATED = {
    "equal": "not_equal",
    "not_equal": "equal",
    "less": "greater_equal",
    "less_equal": "greater",
    "greater": "less_equal",
    "greater_equal": "less",
}
_SWAPPED = {"less": "greater", "less_equal": "greater_equal", "greater": "less", "greater_equal": "less_equal"}

_Value = Fraction | str | bool


_Wanted = tuple[Expression, bool]
"""A condition, and whether it is to be true or false."""


@dataclass(frozen=True)
class _Known:
    """What the comparisons so far say of one value: least and greatest (and whether it is these themselves), or that it
    equals something that has no order here.
    """

    low: Fraction | None = None
    above_low: bool = False
    high: Fraction | None = None
    below_high: bool = False
    equal: str | bool | None = None

    @property
    def possible(self) -> bool:
        if self.low is None or self.high is None:
            return True
        return self.low < self.high or (self.low == self.high and not self.above_low and not self.below_high)

    def at_least(self, low: Fraction, *, above: bool) -> _Known:
        if self.low is not None and (self.low, self.above_low) >= (low, above):
            return self
        return _Known(low, above, self.high, self.below_high, self.equal)

    def at_most(self, high: Fraction, *, below: bool) -> _Known:
        if self.high is not None and (-self.high, self.below_high) >= (-high, below):
            return self
        return _Known(self.low, self.above_low, high, below, self.equal)


def can_hold(condition: Expression, plan: WindowPlan) -> bool:
    """False only if no event at all can meet the condition."""
    return _Search(plan).possible([(condition, True)], {})


class _Search:
    def __init__(self, plan: WindowPlan) -> None:
        self._plan = plan
        self._steps = 0

    def possible(self, wanted: list[_Wanted], known: dict[Expression, _Known]) -> bool:
        """Whether all these can be as wanted, together with what is known."""
        self._steps += 1
        if not wanted or self._steps > _MAX_STEPS:
            return True
        (condition, holds), *others = wanted
        if isinstance(condition, Call) and condition.function in ("and", "or", "not"):
            parts = [(part, holds != (condition.function == "not")) for part in condition.arguments]
            if condition.function == "not" or (condition.function == "and") == holds:
                return self.possible([*parts, *others], known)
            return any(self.possible([part, *others], known) for part in parts)
        after = self._once(condition, known, holds=holds)
        return after is not None and self.possible(others, after)

    def _once(
        self, condition: Expression, known: dict[Expression, _Known], *, holds: bool
    ) -> dict[Expression, _Known] | None:
        """What is known once a condition of one part is as wanted; None if it can't be."""
        match condition:
            case Literal(value):
                return known if value is holds else None
            case Call(function, (left, right)) if function in _NEGATED:
                return self._compared(function if holds else _NEGATED[function], left, right, known)
            case _:
                possible = known.get(condition, _Known()).equal in (None, holds)
                return {**known, condition: _Known(equal=holds)} if possible else None

    def _compared(
        self, function: str, left: Expression, right: Expression, known: dict[Expression, _Known]
    ) -> dict[Expression, _Known] | None:
        """What is known once a comparison holds; None if it can't."""
        if _constant(right) is None:
            function, left, right = _SWAPPED.get(function, function), right, left
        value = _constant(right)
        if value is None or function == "not_equal":
            return known
        if not isinstance(value, Fraction):
            before = known.get(left, _Known()).equal
            if function != "equal":
                return known
            return {**known, left: _Known(equal=value)} if before in (None, value) else None
        key = _plain(left) if abs(value) < _EXACT_DOUBLES else left
        after = known.get(key) or self._from_start(key)
        whole = key.type in INTEGER_DIGITS
        if function in ("greater", "greater_equal", "equal"):
            above = function == "greater"
            least = Fraction(floor(value) + 1 if above else ceil(value)) if whole else value
            after = after.at_least(least, above=above and not whole)
        if function in ("less", "less_equal", "equal"):
            below = function == "less"
            most = Fraction(ceil(value) - 1 if below else floor(value)) if whole else value
            after = after.at_most(most, below=below and not whole)
        return {**known, key: after} if after.possible else None

    def _from_start(self, key: Expression) -> _Known:
        value = _constant(key)
        if isinstance(value, Fraction):
            return _Known(low=value, high=value)
        # The model's score stands behind the windows' answers.
        if isinstance(key, AggregateRef) and key.index < len(self._plan.aggregates):
            function = self._plan.aggregates[key.index].function
            return _Known(low=Fraction(0)) if function in ("count", "count_distinct") else _Known()
        return _Known()


def _plain(expression: Expression) -> Expression:
    """An integer that was only cast so that it could be compared."""
    match expression:
        case Call("cast", (part,)) if part.type in INTEGER_DIGITS:
            return part
        case _:
            return expression


def _constant(expression: Expression) -> _Value | None:
    """The value that an expression always has, if that is seen."""
    match expression:
        case Literal(bool() | str() as value):
            return value
        case Literal(int() | float() | Decimal() as value):
            return Fraction(value) if isfinite(value) else None
        case Call("cast", (part,), type_):
            value = _constant(part)
            return Fraction(float(value)) if isinstance(value, Fraction) and type_ == DOUBLE else value
        case _:
            return None
