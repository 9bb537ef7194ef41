"""PATTERN (...): its text, and the automaton that it becomes.

A state is what of the pattern is still to come; a branch takes one row as one variable and leads to another state.
Branches of a state stand in the order in which SQL prefers them: the left of an alternation first, another repetition
first if the quantifier is greedy, last if it is reluctant. (Antimirov, "Partial derivatives of regular expressions",
1996, with the order kept.)

A greedy quantifier of one variable keeps each row that its variable takes: what follows is tried with other rows only.
That is Flink's rule, and `?` is free of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NoReturn

from tidegate.kernel.language.sql import Source
from tidegate.kernel.sequences.matchplan import Branch

#: Variables of one pattern: the conditions that hold for a row are bits of one word.
MAX_VARIABLES = 32

#: States of one automaton: each row tries the branches of those that partial matches are in.
MAX_STATES = 256

#: Branches of one state, and variables that a pattern's text names, again and again.
MAX_WAYS = 256

#: Parentheses within parentheses.
_MAX_DEPTH = 32

_TOKEN = re.compile(r"\s+|--[^\n]*|/\*.*?\*/|(?P<word>[A-Za-z_]\w*)|(?P<number>\d+)|(?P<sign>.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class One:
    """One row that is the variable."""

    variable: int


@dataclass(frozen=True, slots=True)
class Then:
    """All parts, one after the other; none: nothing."""

    parts: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of them, the first preferred."""

    parts: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`least` to `most` times (None: without end). `keeps` is the variable whose rows a greedy one keeps, -1: none."""

    part: Pattern
    least: int
    most: int | None
    greedy: bool
    keeps: int = -1


Pattern = One | Then | Either | Repeat

#: How a state may be left: a row taken as a variable and what is then to come, or the end (variable -1); if the row is
#: none of those that the third, a set of bits, says.
_Way = tuple[int, Pattern, int]

_NOTHING = Then(())

_END = -1


class _TooManyError(Exception):
    """More states or branches than an automaton may have."""


def _then(first: Pattern, rest: tuple[Pattern, ...]) -> Pattern:
    parts = (*(first.parts if isinstance(first, Then) else (first,)), *rest)
    return parts[0] if len(parts) == 1 else Then(parts)


def _ways(pattern: Pattern) -> list[_Way]:
    """In the order of preference.

    Raises:
        _TooManyError: there are more than MAX_WAYS.
    """
    match pattern:
        case One():
            ways = [(pattern.variable, _NOTHING, 0)]
        case Then(parts=()):
            ways = [(_END, _NOTHING, 0)]
        case Then():
            ways = _one_after_the_other(pattern)
        case Either():
            ways = [way for part in pattern.parts for way in _ways(part)]
        case Repeat():
            ways = _repeated(pattern)
    if len(ways) > MAX_WAYS:
        raise _TooManyError
    return list(dict.fromkeys(ways))


def _one_after_the_other(pattern: Then) -> list[_Way]:
    first, rest = pattern.parts[0], pattern.parts[1:]
    later = _ways(Then(rest)) if len(rest) != 1 else _ways(rest[0])
    ways: list[_Way] = []
    for variable, remaining, unless in _ways(first):
        if variable == _END:
            ways += [(next_, after, unless | others) for next_, after, others in later]
        else:
            ways.append((variable, _then(remaining, rest), unless))
    return ways


def _repeated(pattern: Repeat) -> list[_Way]:
    inner = _ways(pattern.part)
    unless = 0 if pattern.keeps < 0 else 1 << pattern.keeps
    # Once all that must be is there it may end, else if the part may be nothing.
    ends = [0] if pattern.least == 0 else [others for variable, _, others in inner if variable == _END]
    end: list[_Way] = [(_END, _NOTHING, unless | others) for others in ends]
    left = None if pattern.most is None else pattern.most - 1
    again = replace(pattern, least=max(0, pattern.least - 1), most=left)
    more = [
        (variable, _then(remaining, (again,)), others)
        for variable, remaining, others in inner
        if variable != _END and pattern.most != 0
    ]
    return [*more, *end] if pattern.greedy else [*end, *more]


@dataclass(frozen=True, slots=True)
class Automaton:
    """State 0 is the start."""

    branches: tuple[tuple[Branch, ...], ...]
    accepting: tuple[bool, ...]
    ends_greedily: bool
    """A match that could be taken for whole might still keep the next row."""

    @property
    def variables(self) -> set[int]:
        """Those that a row can be taken as."""
        return {branch.variable for branches in self.branches for branch in branches}


def automaton(pattern: Pattern, always: int, *, first_end: bool) -> Automaton | None:
    """`always` are the variables, as bits, that every row is. With `first_end` a match goes no further than to where
    it is first whole. None: there are more than MAX_STATES of them, or than MAX_WAYS out of one.
    """
    try:
        return _explore(pattern, always, first_end=first_end)
    except _TooManyError:
        return None


def _explore(pattern: Pattern, always: int, *, first_end: bool) -> Automaton:
    states: dict[Pattern, int] = {pattern: 0}
    branches: list[tuple[Branch, ...]] = []
    accepting: list[bool] = []
    ends_greedily = False
    queue = [pattern]
    for state in queue:
        found: dict[Branch, None] = {}
        whole = False
        for variable, remaining, unless in _ways(state):
            if variable == _END:
                whole = True
                ends_greedily = ends_greedily or bool(unless)
            elif not unless & always:
                if remaining not in states:
                    states[remaining] = len(states)
                    queue.append(remaining)
                found[Branch(variable, unless, states[remaining])] = None
            if len(states) > MAX_STATES:
                raise _TooManyError
        branches.append(() if whole and first_end else tuple(found))
        accepting.append(whole)
    return Automaton(tuple(branches), tuple(accepting), ends_greedily)


def parse_pattern(source: Source) -> tuple[Pattern, dict[str, int]]:
    """The pattern, and its variables by name (in upper case), numbered as they come.

    Raises:
        DetectorError: the text is not a pattern.
    """
    return _Parser(source).pattern()


class _Parser:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._tokens = [
            (match.lastgroup or "", match.group(), match.start())
            for match in _TOKEN.finditer(source.text)
            if match.lastgroup
        ]
        self._at = 0
        self._variables: dict[str, int] = {}
        self._count = 0

    def pattern(self) -> tuple[Pattern, dict[str, int]]:
        pattern = self._either(0)
        if self._at < len(self._tokens):
            self._fail("a variable, a quantifier, | or )")
        return pattern, self._variables

    def _either(self, depth: int) -> Pattern:
        parts = [self._then(depth)]
        while self._take("|"):
            parts.append(self._then(depth))
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _then(self, depth: int) -> Pattern:
        parts = [self._repeat(depth)]
        while self._at < len(self._tokens) and self._peek() not in ("|", ")"):
            parts.append(self._repeat(depth))
        return _then(parts[0], tuple(parts[1:]))

    def _repeat(self, depth: int) -> Pattern:
        part = self._one(depth)
        match self._peek():
            case "*":
                least, most = 0, None
            case "+":
                least, most = 1, None
            case "?":
                least, most = 0, 1
            case "{":
                least, most = self._bounds()
            case _:
                return part
        self._at += 1
        greedy = not self._take("?")
        if self._peek() in ("*", "+", "?", "{"):
            self._fail("one quantifier, or parentheses around what is repeated again")
        keeps = part.variable if isinstance(part, One) and greedy and most not in (1, least) else -1
        return Repeat(part, least, most, greedy, keeps)

    def _bounds(self) -> tuple[int, int | None]:
        """Up to the closing brace."""
        opening = self._at
        text = ""
        while self._peek() not in ("}", ""):
            self._at += 1
            text += self._peek() if self._peek() != "}" else ""
        bounds = re.fullmatch(r"(\d{0,4})(,?)(\d{0,4})", text)
        if bounds and self._peek() == "}" and (bounds[1] or bounds[3]):
            least = int(bounds[1] or 0)
            most = int(bounds[3]) if bounds[3] else (None if bounds[2] else least)
            if most is None or (least <= most and most):
                return least, most
        self._at = opening
        return self._fail("{n}, {n,}, {,m} or {n,m} with n <= m, m at least 1")

    def _one(self, depth: int) -> Pattern:
        if self._peek() == "(" and depth < _MAX_DEPTH:
            self._at += 1
            part = self._either(depth + 1)
            if not self._take(")"):
                self._fail(")")
            return part
        if self._at >= len(self._tokens) or self._tokens[self._at][0] != "word":
            self._fail("the name of a variable, or a pattern in parentheses")
        self._count += 1
        if self._count > MAX_WAYS:
            self._fail(f"at most {MAX_WAYS} names of variables")
        name = self._peek().upper()
        if name not in self._variables and len(self._variables) == MAX_VARIABLES:
            self._fail(f"at most {MAX_VARIABLES} variables")
        self._at += 1
        return One(self._variables.setdefault(name, len(self._variables)))

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _take(self, sign: str) -> bool:
        found = self._peek() == sign
        self._at += found
        return found

    def _fail(self, expected: str) -> NoReturn:
        if self._at < len(self._tokens):
            _, text, offset = self._tokens[self._at]
            self._source.fail(offset, repr(text), expected)
        self._source.fail(len(self._source.text), "the end of the pattern", expected)
