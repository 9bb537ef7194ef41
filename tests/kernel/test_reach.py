"""Rules that can never fire: what is refused never holds, whatever the values."""

from __future__ import annotations

import itertools
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.hosts.stream import FEATURES, POLICY, RULES, detector

from tidegate.errors import DetectorError
from tidegate.kernel.detector import compile_detector
from tidegate.kernel.language.expressions import BIGINT, BOOLEAN, DOUBLE, Call, Column, Expression, Literal
from tidegate.kernel.reach import can_hold

PLAN = detector().compiled.plan
COLUMNS = {"n": BIGINT, "x": DOUBLE}
COMPARED = {
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
}
#: Between and at all constants, for the integer and the double.
GRID = [{"n": n, "x": x / 4} for n, x in itertools.product(range(-2, 6), range(-5, 20))]


@st.composite
def comparisons(draw: st.DrawFn) -> Expression:
    name = draw(st.sampled_from(list(COLUMNS)))
    sides = [Column(name, COLUMNS[name]), Literal(draw(st.sampled_from([-1, 0, 1, 2, 3, 4, 0.5, 2.5])), COLUMNS[name])]
    return Call(draw(st.sampled_from(list(COMPARED))), tuple(draw(st.permutations(sides))), BOOLEAN)


CONDITIONS = st.recursive(
    comparisons(),
    lambda parts: st.one_of(
        st.builds(lambda part: Call("not", (part,), BOOLEAN), parts),
        st.builds(lambda f, a, b: Call(f, (a, b), BOOLEAN), st.sampled_from(["and", "or"]), parts, parts),
    ),
    max_leaves=8,
)


def value(expression: Expression, row: dict[str, float]):
    match expression:
        case Column(name):
            return row[name]
        case Literal(constant):
            return constant
        case Call("not", (part,)):
            return not value(part, row)
        case Call("and" | "or" as function, parts):
            return (all if function == "and" else any)(value(part, row) for part in parts)
        case Call(function, (left, right)):
            return COMPARED[function](value(left, row), value(right, row))
        case _:
            raise AssertionError(expression)


@given(CONDITIONS)
def test_what_is_said_to_hold_never_is_met_by_nothing(condition: Expression) -> None:
    met = any(value(condition, row) for row in GRID)
    if met:
        assert can_hold(condition, PLAN)
    elif "not_equal" not in repr(condition) and "equal'" not in repr(condition).replace("less_equal'", "").replace(
        "greater_equal'", ""
    ):
        # Order alone is understood in full.
        assert not can_hold(condition, PLAN)


def compile_rule(when: str, points: int = 50) -> None:
    rules = RULES.replace("when: payments > 3, points: 50", f'when: "{when}", points: {points}')
    compile_detector("small", {"features.sql": FEATURES, "rules.yaml": rules, "policy.yaml": POLICY})


@pytest.mark.parametrize(
    "when",
    [
        "payments < 0",
        "payments > 5 AND payments < 3",
        "payments > 3 AND payments < 4",
        "spent > 5.5 AND NOT spent > 5",
        "channel = 'pos' AND channel = 'ecommerce'",
        "amount BETWEEN 5 AND 3",
        "card_present AND NOT card_present",
        "merchants + 1 > 3 AND (merchants + 1 < 2 OR payments < 0)",
        "FALSE",
        "2 < 1",
        "amount > 3 AND NULL",
        "terminal_id IS NULL AND terminal_id IS NOT NULL",
    ],
)
def test_a_rule_that_can_never_fire_is_refused_where_it_stands(when: str) -> None:
    with pytest.raises(DetectorError, match=r"rules\.yaml:3:\d+: found a condition that no event can meet"):
        compile_rule(when)


@pytest.mark.parametrize(
    "when",
    [
        "payments = 0",
        "payments >= 3 AND payments <= 3",
        "amount > 3 AND amount < 4",
        "channel IN ('pos', 'ecommerce') AND channel = 'ecommerce'",
        "payments <> 3",
        "amount > 5 OR amount < 3",
        "spent > 5 AND frauds < 3",
        "TRUE",
    ],
)
def test_a_rule_that_may_fire_is_taken(when: str) -> None:
    compile_rule(when)
