"""The statements of sequences.sql, cut into their clauses. Expressions are left as texts, each with its place.

    SELECT * FROM stream MATCH_RECOGNIZE (
        PARTITION BY columns ORDER BY event_time
        [MEASURES expression AS name, ...]
        [ONE ROW PER MATCH]
        AFTER MATCH SKIP {PAST LAST ROW | TO NEXT ROW | TO {FIRST | LAST} variable}
        PATTERN (...) {WITHIN | DURATION} INTERVAL 'n' unit
        DEFINE variable AS condition, ...
    ) AS name;

In the place of the stream there may be
`(SELECT expression AS name, ... FROM stream [WHERE condition] [UNION ALL ...])`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

from sqlglot.tokenizer_core import Token

from tidegate.kernel.language.sql import Source, tokenize
from tidegate.kernel.sequences.matchplan import Skip

_OPENING, _CLOSING = ("(", "[", "{"), (")", "]", "}")


@dataclass(frozen=True, slots=True)
class Named:
    """An expression and the name that it is given; `at` is the name's place."""

    name: str
    expression: Source
    at: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One MATCH_RECOGNIZE. Places are offsets in `source`."""

    source: Source
    name: str
    at: int
    inputs: tuple[Source, ...]
    """The SELECTs between UNION ALL, or the name of a stream."""
    partition: tuple[tuple[str, int], ...]
    """Columns, each with its place."""
    measures: tuple[Named, ...]
    skip: Skip
    skip_variable: str
    skip_at: int
    pattern: Source
    by_duration: bool
    interval: Source
    defines: tuple[Named, ...]


def statements(source: Source) -> list[Statement]:
    """
    Raises:
        DetectorError: the text is not statements of that form.
    """
    cursor = _Cursor(source, tokenize(source))
    found: list[Statement] = []
    while not cursor.is_at_end():
        found.append(_statement(cursor))
        if not cursor.is_at_end():
            cursor.expect(";")
    if not found:
        source.fail(0, "nothing", "SELECT * FROM ... MATCH_RECOGNIZE (...) AS name")
    return found


def _statement(cursor: _Cursor) -> Statement:
    cursor.expect("SELECT")
    cursor.expect("*", "*: a match gives its measures and is named after the closing parenthesis")
    cursor.expect("FROM")
    inputs = _inputs(cursor)
    cursor.expect("MATCH_RECOGNIZE")
    cursor.expect("(")
    cursor.expect("PARTITION BY")
    partition = [cursor.name("a column to partition by")]
    while cursor.take(","):
        partition.append(cursor.name("a column to partition by"))
    cursor.expect("ORDER BY")
    if cursor.peek() != "EVENT_TIME":
        cursor.fail("event_time: rows are in its order, those of equal time as they came")
    cursor.step()
    cursor.take("ASC")
    measures: list[Named] = []
    if cursor.take("MEASURES"):
        measures = _named_items(cursor, ("ONE", "AFTER", "PATTERN"), name_first=False)
    if cursor.take("ONE"):
        for word in ("ROW", "PER", "MATCH"):
            cursor.expect(word)
    skip_at = cursor.offset()
    skip, skip_variable = _skip(cursor)
    cursor.expect("PATTERN")
    pattern = cursor.parenthesised()
    by_duration = cursor.peek() == "DURATION"
    if not by_duration and cursor.peek() != "WITHIN":
        cursor.fail("WITHIN INTERVAL 'n' unit, without which nothing would ever be forgotten")
    cursor.step()
    interval = cursor.until(lambda word: word in ("DEFINE", ")"), "INTERVAL 'n' unit")
    defines: list[Named] = []
    if cursor.take("DEFINE"):
        defines = _named_items(cursor, (")",), name_first=True)
    cursor.expect(")")
    cursor.take("AS")
    name, at = cursor.name("AS name: what the match is called in rules.yaml")
    return Statement(
        source=cursor.source,
        name=name,
        at=at,
        inputs=inputs,
        partition=tuple(partition),
        measures=tuple(measures),
        skip=skip,
        skip_variable=skip_variable,
        skip_at=skip_at,
        pattern=pattern,
        by_duration=by_duration,
        interval=interval,
        defines=tuple(defines),
    )


def _inputs(cursor: _Cursor) -> tuple[Source, ...]:
    if not cursor.take("("):
        return (cursor.until(lambda word: word == "MATCH_RECOGNIZE", "a stream"),)
    inputs = [cursor.until(lambda word: word in ("UNION", ")"), "SELECT ... FROM stream")]
    while cursor.take("UNION"):
        cursor.expect("ALL")
        inputs.append(cursor.until(lambda word: word in ("UNION", ")"), "SELECT ... FROM stream"))
    cursor.expect(")")
    return tuple(inputs)


def _skip(cursor: _Cursor) -> tuple[Skip, str]:
    wanted = "AFTER MATCH SKIP PAST LAST ROW, TO NEXT ROW, TO FIRST variable or TO LAST variable"
    for word in ("AFTER", "MATCH", "SKIP"):
        cursor.expect(word, wanted)
    if cursor.take("PAST"):
        cursor.expect("LAST", wanted)
        cursor.expect("ROW", wanted)
        return "past last row", ""
    cursor.expect("TO", wanted)
    if cursor.take("NEXT"):
        cursor.expect("ROW", wanted)
        return "to next row", ""
    if cursor.take("FIRST"):
        return "to first", cursor.name("a variable")[0].upper()
    cursor.expect("LAST", wanted)
    return "to last", cursor.name("a variable")[0].upper()


def _named_items(cursor: _Cursor, ends: tuple[str, ...], *, name_first: bool) -> list[Named]:
    """`name AS expression`, or `expression AS name`, as often as there are commas."""
    items: list[Named] = []
    while True:
        if name_first:
            name, at = cursor.name("variable AS condition")
            cursor.expect("AS")
            expression = cursor.until(lambda word: word == "," or word in ends, "a condition")
        else:
            expression = cursor.until(lambda word: word in ("AS", ",") or word in ends, "expression AS name")
            cursor.expect("AS", "expression AS name")
            name, at = cursor.name("a name")
        items.append(Named(name, expression, at))
        if not cursor.take(","):
            return items


class _Cursor:
    """Goes over the tokens of a text."""

    def __init__(self, source: Source, tokens: list[Token]) -> None:
        self.source = source
        self._tokens = tokens
        self._at = 0

    def is_at_end(self) -> bool:
        return self._at == len(self._tokens)

    def peek(self) -> str:
        """The next token in upper case; nothing at the end."""
        return "" if self.is_at_end() else " ".join(self._tokens[self._at].text.upper().split())

    def offset(self) -> int:
        return len(self.source.text) if self.is_at_end() else self._tokens[self._at].start

    def step(self) -> None:
        self._at += 1

    def take(self, word: str) -> bool:
        found = self.peek() == word
        self._at += found
        return found

    def expect(self, word: str, wanted: str = "") -> None:
        if not self.take(word):
            self.fail(wanted or word)

    def name(self, wanted: str) -> tuple[str, int]:
        at = self.offset()
        text = "" if self.is_at_end() else self._tokens[self._at].text
        if not text.isidentifier() or not text.isascii():
            self.fail(wanted)
        self.step()
        return text, at

    def until(self, ends: Callable[[str], bool], wanted: str) -> Source:
        """The text up to a word outside of all parentheses, or to the closing parenthesis around it all."""
        first, depth = self._at, 0
        while not self.is_at_end() and (depth or not ends(self.peek())):
            depth += (self.peek() in _OPENING) - (self.peek() in _CLOSING)
            if depth < 0:
                break
            self.step()
        if first == self._at:
            self.fail(wanted)
        return self._piece(self._tokens[first].start, self._tokens[self._at - 1].end + 1)

    def parenthesised(self) -> Source:
        """The text between parentheses."""
        self.expect("(")
        piece = self.until(lambda word: word == ")", "a pattern")
        self.expect(")")
        return piece

    def _piece(self, start: int, end: int) -> Source:
        line, column = self.source.place(start)
        return replace(self.source, text=self.source.text[start:end], line=line, column=column)

    def fail(self, wanted: str) -> NoReturn:
        found = "the end" if self.is_at_end() else repr(self._tokens[self._at].text[:60])
        self.source.fail(self.offset(), found, wanted)
