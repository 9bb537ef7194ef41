"""The match engine against its naive twin, over patterns and timelines that hypothesis draws, and others."""

import itertools
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernel.match_twin import Match, Row, Twin, referred

from tidegate.errors import StateError
from tidegate.kernel.language.sql import Source
from tidegate.kernel.sequences import conditions as op
from tidegate.kernel.sequences import matches as matches_module
from tidegate.kernel.sequences.matches import Matches, Taken
from tidegate.kernel.sequences.matchplan import ANY, Instruction, MatchPlan, Reference
from tidegate.kernel.sequences.matchtables import registers_of
from tidegate.kernel.sequences.patterns import automaton, parse_pattern

# A row has two values: the first says by its bits which variables it may be, the second is compared with earlier ones.
KIND, VALUE = 0, 1

REFERENCES = tuple(
    Reference(function, variable, lane, offset)
    for variable in (ANY, 0, 1)
    for function, lane, offset in (
        ("first", VALUE, 0),
        ("first", VALUE, 1),
        ("last", VALUE, 0),
        ("last", VALUE, 2),
        ("count", -1, 0),
        ("count", VALUE, 0),
        ("sum", VALUE, 0),
        ("min", VALUE, 0),
        ("max", VALUE, 0),
    )
)

COMPARISONS = {
    op.EQUAL: operator.eq,
    op.NOT_EQUAL: operator.ne,
    op.LESS: operator.lt,
    op.LESS_EQUAL: operator.le,
    op.GREATER: operator.gt,
    op.GREATER_EQUAL: operator.ge,
}


@pytest.fixture(autouse=True, scope="module")
def small_first_arrays():
    """So that a short timeline makes every array grow."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_FIRST_ROWS", "_FIRST_SLOTS", "_FIRST_MATCHES", "_FIRST_THREADS"):
            patch.setattr(matches_module, name, 2)
        yield


def define(letter, earlier):
    """A variable's condition: its letter's bit, and perhaps that the value compares with what a reference gives."""

    def holds(mapped, row):
        if not (row.values[KIND] >> letter) & 1:
            return False
        if earlier is None:
            return True
        comparison, reference = earlier
        left, right = row.values[VALUE], referred(reference, mapped)
        return None if left is None or right is None else COMPARISONS[comparison](left, right)

    return holds


def instructions(earlier):
    if earlier is None:
        return ()
    comparison, reference = earlier
    register = registers_of(REFERENCES)[1][REFERENCES.index(reference)]
    match reference.function:
        case "first" | "last":
            load = Instruction(op.AT, register, reference.lane)
        case "count":
            load = Instruction(op.REGISTER, register, -1)
        case _:
            load = Instruction(op.REGISTER, register, register + 1)
    return (Instruction(op.LANE, VALUE), load, Instruction(comparison))


class Case:
    """One sequence, for the engine and for the twin."""

    def __init__(self, text, earlier=None, *, span=10, lateness=4, skip="past last row", by_duration=False):
        self.pattern, names = parse_pattern(Source("pattern", text))
        earlier = earlier or {}
        conditions = [earlier.get(name) for name in names]
        states = automaton(self.pattern, 0, first_end=not by_duration)
        self.span, self.lateness, self.by_duration = span, lateness, by_duration
        self.skip, _, variable = skip.partition(" of ")
        self.skip_variable = names.get(variable, -1)
        self.letters = ["ABC".index(name) for name in names]
        self.define = [define(*given) for given in zip(self.letters, conditions, strict=True)]
        self.plan = MatchPlan(
            branches=states.branches,
            accepting=states.accepting,
            conditions=tuple(instructions(condition) for condition in conditions),
            references=REFERENCES,
            lane_count=2,
            text_count=int(by_duration),
            span_us=span,
            by_duration=by_duration,
            skip=self.skip,
            skip_variable=self.skip_variable,
            lateness_us=lateness,
        )

        self.told = f"{text} {earlier} {span=} {lateness=} {skip=} {by_duration=}"

    def __repr__(self):
        return self.told

    def twin(self):
        return Twin(
            self.pattern, self.define, self.span, self.lateness, self.skip, self.skip_variable, self.by_duration
        )

    def by_twin(self, rows):
        """(place among arrivals, id of the first row, time, references) of each match."""
        twin, found = self.twin(), []
        for number, row in enumerate(rows):
            completed, due = twin.apply(row, number)
            found += [(number, *told(match)) for match in [*due, *([completed] if completed else [])]]
        return found

    def by_engine(self, rows, cuts=(), restore_at=()):
        """The same from the engine; a match of rows has no id of its first row there."""
        engine, found = Matches(self.plan), []
        for start, end in itertools.pairwise([0, *sorted({cut for cut in cuts if cut < len(rows)}), len(rows)]):
            if start in restore_at:
                arrays = engine.state()
                engine = Matches(self.plan)
                engine.restore(arrays)
            piece = rows[start:end]
            complete = engine.apply(self.taken(piece, engine.newest))
            by = np.minimum(complete.by, len(piece) - 1) + start
            for match in range(len(by)):
                values = [
                    int(value) if valid else None
                    for value, valid in zip(complete.values[:, match], complete.valid[:, match], strict=True)
                ]
                first = complete.ids[match] if self.by_duration else None
                found.append((int(by[match]), first, int(complete.times[match]), values))
        return found

    def taken(self, rows, newest):
        times = np.array([row.time for row in rows], np.int64)
        clock = np.maximum.accumulate([newest, *times]).astype(np.int64)
        values = [[row.values[lane] for row in rows] for lane in (KIND, VALUE)]
        return Taken(
            times=times,
            before=clock[:-1],
            clock=np.array([*clock[1:], clock[-1]]),
            keys=np.array([(ord(row.key), 7) for row in rows], np.uint64).reshape(-1, 2),
            ids=np.array([hash(row.id) for row in rows], np.int64),
            mask=sum((np.array(values[KIND], np.int64) >> letter & 1) << n for n, letter in enumerate(self.letters)),
            lanes=np.array([[value or 0 for value in lane] for lane in values], np.int64).reshape(2, -1),
            valid=np.array([1 | (value is not None) << 1 for value in values[VALUE]], np.uint64),
            texts=[np.array([f"row {row.id}" for row in rows], np.object_)] if self.by_duration else [],
        )


def told(match: Match):
    return f"row {match.first}", match.time, [referred(reference, match.mapped) for reference in REFERENCES]


def without_first(found):
    return [(by, None, time, values) for by, _, time, values in found]


def check(case, rows, cuts=(), restore_at=()):
    engine, twin = case.by_engine(rows, cuts, restore_at), case.by_twin(rows)
    assert engine == (twin if case.by_duration else without_first(twin))
    return twin


QUANTIFIERS = ["", "", "", "*", "+", "?", "{2}", "{1,2}", "{2,}", "{,2}", "*?", "+?", "??", "{1,3}?", "{2,}?"]


@st.composite
def patterns(draw, depth=2):
    if depth and draw(st.integers(0, 2)):
        parts = [draw(patterns(depth - 1)) for _ in range(draw(st.integers(1, 3)))]
        joined = draw(st.sampled_from([" ", " ", " | "])).join(parts)
        return f"({joined}){draw(st.sampled_from(QUANTIFIERS))}"
    return draw(st.sampled_from("ABC")) + draw(st.sampled_from(QUANTIFIERS))


@st.composite
def cases(draw):
    text = draw(patterns().filter(lambda text: not Case(text).plan.accepting[0]))
    names = [name for name in "ABC" if name in text]
    earlier = st.none() | st.tuples(st.sampled_from(list(COMPARISONS)), st.sampled_from(REFERENCES))
    skips = ["past last row", "to next row", *(f"{to} of {name}" for to in ("to first", "to last") for name in names)]
    return Case(
        text,
        {name: draw(earlier) for name in names},
        span=draw(st.sampled_from([1, 5, 10, 30])),
        lateness=draw(st.sampled_from([0, 3, 8])),
        skip=draw(st.sampled_from(skips)),
        by_duration=draw(st.booleans()),
    )


@st.composite
def timelines(draw, count=25):
    """Rows around a clock that goes on, with times mostly near it: ties, out of order, late, the same again."""
    rows, clock = [], 0
    for number in range(draw(st.integers(1, count))):
        clock += draw(st.sampled_from([0, 0, 1, 1, 2, 3, 8]))
        if rows and draw(st.integers(0, 9)) == 0:
            rows.append(draw(st.sampled_from(rows)))
            continue
        time = clock - draw(st.sampled_from([0, 0, 0, 0, 1, 2, 4, 9]))
        values = draw(st.integers(0, 7)), draw(st.none() | st.integers(-2, 2))
        rows.append(Row(time, number, draw(st.sampled_from("kkl")), values))
    return rows


@settings(max_examples=200, deadline=None)
@given(cases(), timelines(), st.lists(st.integers(0, 25), max_size=6), st.sets(st.integers(0, 25)))
def test_engine_equals_its_twin(case, rows, cuts, restore_at):
    check(case, rows, cuts, restore_at)


# By hand: A is bit 1, B is bit 2, C is bit 4. -------------------------------------------------------------------------

A, B, C = 1, 2, 4


def row(time, kind, value=None, key="k"):
    return Row(time, f"{key}{time}", key, (kind, value))


def ends(case, *rows):
    """The places of the rows that complete matches, or with which durations have passed."""
    return [by for by, *_ in check(case, list(rows), cuts=range(len(rows)))]


def test_a_match_lasts_less_than_its_span():
    #  0        9  10
    #  A        B           within 10
    #  A           B        not
    assert ends(Case("A B", span=10), row(0, A), row(9, B)) == [1]
    assert ends(Case("A B", span=10), row(0, A), row(10, B)) == []


def test_rows_follow_each_other_at_once():
    assert ends(Case("A B"), row(0, A), row(1, C), row(2, B)) == []
    assert ends(Case("A C*? B"), row(0, A), row(1, C), row(2, B)) == [2]


def test_a_greedy_variable_keeps_its_rows():
    #  A  B+C       greedy: the second row is a B, so no C
    #  A  B+C  C    ... until a row comes that is no B
    assert ends(Case("A B* C"), row(0, A), row(1, B | C)) == []
    assert ends(Case("A B* C"), row(0, A), row(1, B | C), row(2, C)) == [2]
    assert ends(Case("A B*? C"), row(0, A), row(1, B | C)) == [1]
    assert ends(Case("A B? C"), row(0, A), row(1, B | C)) == [1]


def test_skipping():
    #  A  A  B  B      past the last row: the first B completes one match, the second none
    rows = [row(0, A), row(1, A), row(2, B), row(3, B)]
    assert ends(Case("A C*? B"), *rows) == [2]
    assert ends(Case("A A*? B", skip="past last row"), *rows) == [2]
    (match,) = Case("A A*? B", skip="to next row").by_twin(rows)
    assert match[1] == "row k0"
    assert ends(Case("A B", skip="to last of B"), row(0, A), row(1, A | B), row(2, B)) == [1, 2]
    assert ends(Case("A B", skip="past last row"), row(0, A), row(1, A | B), row(2, B)) == [1]


def test_a_row_out_of_order_is_put_where_it_belongs():
    #  0      2      4       arrive as A, C, B: no match; then C's place is taken by ... a B at 1
    assert ends(Case("A B C"), row(0, A), row(2, C), row(1, B)) == []  # C has been decided already
    assert ends(Case("A B+? C", skip="to next row"), row(0, A), row(2, C), row(1, B), row(3, C)) == []
    assert ends(Case("A B C C"), row(0, A), row(2, C), row(1, B), row(3, C)) == [3]
    # Later than the lateness: it takes no part.
    assert ends(Case("A B", lateness=4), row(0, A), row(6, C), row(1, B)) == []
    assert ends(Case("A B", lateness=5), row(0, A), row(6, C), row(1, B)) == [2]


def test_the_same_event_again_takes_no_part():
    assert ends(Case("A A B"), row(0, A), row(0, A), row(1, B)) == []


def test_a_duration_passes_by_the_clock_of_events():
    #  0    5         10     14: of another partition, later by the lateness
    #  A    C         due    told of
    case = Case("A C*", span=10, lateness=4, by_duration=True)
    assert ends(case, row(0, A), row(5, C), row(13, C, key="l"), row(14, C, key="l")) == [3]
    assert ends(case, row(0, A), row(5, B), row(14, C, key="l")) == []
    # What comes at its end is after it.
    assert ends(case, row(0, A), row(10, B), row(14, C, key="l")) == [2]


def test_partitions_have_nothing_to_do_with_each_other():
    assert ends(Case("A B"), row(0, A), row(1, B, key="l"), row(2, B)) == [2]


def test_a_snapshot_of_another_plan_is_refused():
    one, other = Matches(Case("A B").plan), Matches(Case("A B", span=11).plan)
    with pytest.raises(StateError, match="another plan"):
        other.restore(one.state())
    with pytest.raises(StateError, match="lacks rows"):
        one.restore({"plan": one.state()["plan"]} | {n: a for n, a in one.state().items() if n != "rows"})


def test_state_is_bounded_by_time():
    case = Case("A B", span=10, lateness=5)
    engine = Matches(case.plan)
    for time in range(0, 5000, 50):
        rows = [row(time + n % 50, A, key=chr(97 + n % 26)) for n in range(50)]
        engine.apply(case.taken(rows, engine.newest))
    assert len(engine._store.rows) <= 256
    assert len(engine._store.slots) <= 128
    assert len(engine._store.threads) <= 256
