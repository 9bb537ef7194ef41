"""SQL text into sqlglot's tree, and the place of each of its nodes in the text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, NoReturn

import duckdb
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ParseError, TokenError
from sqlglot.parsers.duckdb import DuckDBParser
from sqlglot.tokenizer_core import Token

from tidegate.errors import DetectorError

#: Longest SQL text taken: a hundred features fit, and sqlglot's recursion over it stays within Python's.
MAX_SQL_CHARS = 100_000


#: Longest piece of SQL shown in a message: the longest frame of a window fits.
MAX_SPELLED_CHARS = 110


class _Parser(DuckDBParser):
    """Leaves every function by the name that the text gives it: which names there are is for the binder to say."""

    FUNCTIONS: ClassVar[dict[str, Callable[..., Any]]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, Callable[..., Any]]] = {
        name: DuckDBParser.FUNCTION_PARSERS[name] for name in ("CAST", "TRY_CAST", "EXTRACT")
    }

    def _parse_unary(self) -> exp.Expr | None:
        token = self._curr
        node = super()._parse_unary()
        if node is not None:
            node.meta.setdefault("start", token.start)
        return node


class _Dialect(DuckDB):
    Parser = _Parser


_dialect = _Dialect()


@dataclass(frozen=True)
class Source:
    """A text and where it stands. `line` and `column` (from 1) of its first character, `indent` of its further lines;
    a text that is not copied letter by letter (a folded YAML scalar) is `exact` False: all of it is in one place.
    `prefix` is parsed before the text and stands in no file.
    """

    file: str
    text: str
    line: int = 1
    column: int = 1
    indent: int = 0
    exact: bool = True
    prefix: str = ""

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1, in the file, of an offset in prefix and text."""
        if not self.exact:
            return self.line, self.column
        before = self.text[: max(0, offset - len(self.prefix))]
        lines = before.count("\n")
        column = len(before) - before.rfind("\n") - 1
        return self.line + lines, column + (self.indent + 1 if lines else self.column)

    def fail(self, node: exp.Expr | int, found: str, expected: str) -> NoReturn:
        """
        Raises:
            DetectorError: always, at the node or the offset.
        """
        offset = node if isinstance(node, int) else _offset(node)
        raise DetectorError(self.file, *self.place(offset), found, expected)

    def runs_on(self, node: exp.Expr) -> bool:
        """Whether a letter stands right after the node: sqlglot reads 0x1F as 0 AS x1F."""
        text = self.prefix + self.text
        end = node.meta.get("end", len(text)) + 1
        return end < len(text) and (text[end].isalnum() or text[end] == "_")


def _offset(node: exp.Expr) -> int:
    """Where a node begins. Operands, names and literals are marked: others begin with their first marked part."""
    place: exp.Expr | None = node
    while place is not None:
        starts = [part.meta["start"] for part in place.walk() if "start" in part.meta]
        if starts:
            return min(starts)
        place = place.parent
    return 0


def spell(node: exp.Expr) -> str:
    """A node as SQL, short enough for a message."""
    text = " ".join(node.sql(dialect=_dialect).split())
    return text if len(text) <= MAX_SPELLED_CHARS else text[: MAX_SPELLED_CHARS - 3] + "..."


def tokenize(source: Source) -> list[Token]:
    """
    Raises:
        DetectorError: the text is too long, or not made of SQL's tokens.
    """
    text = source.prefix + source.text
    if len(text) > MAX_SQL_CHARS:
        source.fail(0, f"{len(text):,} characters", f"at most {MAX_SQL_CHARS:,}")
    try:
        return _dialect.tokenize(text)
    except TokenError:
        source.fail(_unclosed(text), "a text, name or comment that is not closed", "SQL in DuckDB's dialect")


def parse(source: Source) -> exp.Expr:
    """Parse one statement.

    Raises:
        DetectorError: it is not one statement of SQL.
    """
    text = source.prefix + source.text
    tokens = tokenize(source)
    try:
        statements = _dialect.parser().parse(tokens, text)
    except ParseError as error:
        fault: dict[str, Any] = error.errors[0] if error.errors else {}
        highlight: str = fault.get("highlight") or ""
        offset = _offset_of(text, fault.get("line", 1), fault.get("col", 1)) - len(highlight) + 1
        wanted = re.sub(r"<Token.*", "the end", str(fault.get("description", "SQL")))
        source.fail(max(0, offset), repr(highlight) if highlight else "the end", f"SQL that parses ({wanted})")
    except RecursionError:
        source.fail(0, "an expression nested too deep", "fewer parentheses")
    except Exception as error:  # noqa: BLE001 -- whatever an analyst's text makes of the parser is the text's fault
        source.fail(0, f"a text the parser gives up on ({type(error).__name__})", "SQL in DuckDB's dialect")
    found = [statement for statement in statements if statement is not None]
    if len(found) != 1:
        at = _offset(found[1]) if found else 0
        source.fail(at, f"{len(found)} statements" if found else "nothing", "one statement")
    return found[0]


@cache
def _duckdb() -> duckdb.DuckDBPyConnection:
    """A DuckDB that is only asked to parse."""
    return duckdb.connect(":memory:", config={"threads": 1, "errors_as_json": True})


def check_in_duckdb(source: Source) -> None:
    """Let DuckDB parse a text that was taken: sqlglot is milder than any database (`a,, b`).

    Raises:
        DetectorError: DuckDB does not parse it.
    """
    text = source.prefix + source.text
    for at, letter in enumerate(text):
        if letter == "\0" or "\ud800" <= letter <= "\udfff":
            source.fail(at, f"the character U+{ord(letter):04X}", "text that a database can take")
    try:
        _duckdb().extract_statements(text)
    except duckdb.ParserException as error:
        fault = json.loads(str(error).partition(": ")[2])
        source.fail(int(fault.get("position", 0)), fault["exception_message"], "SQL that DuckDB parses")


def parse_expression(source: Source) -> tuple[exp.Expr, Source]:
    """Parse one scalar expression; places of its nodes are told by the source returned.

    Raises:
        DetectorError: it is not one expression.
    """
    # Parsed as the one item of a SELECT: sqlglot's entry for bare expressions takes whole statements too.
    source = replace(source, prefix="SELECT ")
    select = parse(source)
    others = [name for name, part in select.args.items() if part and name != "expressions"]
    if not isinstance(select, exp.Select) or len(select.expressions) != 1 or others:
        source.fail(0, repr(source.text[:60]), "one expression")
    return select.expressions[0], source


def _offset_of(text: str, line: int, column: int) -> int:
    """Offset of the character at sqlglot's line and column, which counts from 1 and marks a token's last character."""
    lines = text.split("\n")
    return sum(len(before) + 1 for before in lines[: line - 1]) + column - 1


def _unclosed(text: str) -> int:
    """Offset of the quote or comment that is never closed."""
    scanner = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|[^'\"/-]+|[-/]|.", re.DOTALL)
    for match in scanner.finditer(text):
        if match.group() in ("'", '"') or (match.group() == "/" and text.startswith("/*", match.start())):
            return match.start()
    return 0
