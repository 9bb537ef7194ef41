"""YAML read by hand, node by node, so that an error can say where in the text it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn

import yaml

from tidegate.errors import DetectorError
from tidegate.kernel.language.bind import near
from tidegate.kernel.language.sql import Source
from tidegate.kernel.language.times import UNITS_US, parse_duration

#: Longest YAML text taken.
MAX_YAML_CHARS = 1_000_000


@dataclass(frozen=True)
class Yaml:
    """A node of a YAML text: a text, a number, a list or a mapping, as the caller asks for it."""

    file: str
    text: str
    node: yaml.Node

    @classmethod
    def parse(cls, file: str, text: str) -> Yaml:
        """
        Raises:
            DetectorError: the text is not one YAML document.
        """
        if len(text) > MAX_YAML_CHARS:
            raise DetectorError(file, 0, 0, f"{len(text):,} characters", f"at most {MAX_YAML_CHARS:,}")
        try:
            node: yaml.Node | None = yaml.compose(text, yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            raise DetectorError(file, line, column, error.problem or "a fault", "YAML that parses") from None
        except yaml.YAMLError:
            raise DetectorError(file, 0, 0, "a character that YAML does not allow", "YAML that parses") from None
        except RecursionError:
            raise DetectorError(file, 0, 0, "lists or mappings nested too deep", "YAML that parses") from None
        if node is None:
            raise DetectorError(file, 1, 1, "nothing", "a YAML mapping")
        return cls(file, text, node)

    def fail(self, found: str, expected: str) -> NoReturn:
        """
        Raises:
            DetectorError: always, at this node.
        """
        mark = self.node.start_mark
        raise DetectorError(self.file, mark.line + 1, mark.column + 1, found, expected)

    def mapping(self, names: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Yaml]:
        """A mapping of all of these keys, and perhaps of the optional ones.

        Raises:
            DetectorError: it is no mapping, a key is unknown, there twice or missing.
        """
        names = tuple(names)
        known = (*names, *optional)
        values: dict[str, Yaml] = {}
        for at, value in self._pairs():
            if at.words() not in known:
                at.fail(f"the unknown key {at.words()!r}", near(at.words(), known))
            values[at.words()] = value
        for name in names:
            if name not in values:
                self.fail(f"no key {name!r}", f"the keys {', '.join(names)}")
        return values

    def items(self) -> dict[str, Yaml]:
        """A mapping whose keys are not known beforehand.

        Raises:
            DetectorError: it is no mapping, or a key is there twice.
        """
        return {at.words(): value for at, value in self._pairs()}

    def _pairs(self) -> Iterator[tuple[Yaml, Yaml]]:
        """Keys, each once, and their values."""
        if not isinstance(self.node, yaml.MappingNode):
            self.fail(self._kind(), "a mapping (name: value)")
        seen: set[str] = set()
        for key, value in self.node.value:
            at = Yaml(self.file, self.text, key)
            if at.words() in seen:
                at.fail(f"a second {at.words()!r}", "each key once")
            seen.add(at.words())
            yield at, Yaml(self.file, self.text, value)

    def list(self) -> list[Yaml]:
        if not isinstance(self.node, yaml.SequenceNode):
            self.fail(self._kind(), "a list (- ...)")
        return [Yaml(self.file, self.text, node) for node in self.node.value]

    def words(self) -> str:
        """A text."""
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag != "tag:yaml.org,2002:str":
            self.fail(self._kind(), "a text")
        return self.node.value

    def number(self) -> int:
        """A whole number."""
        if not isinstance(self.node, yaml.ScalarNode) or not re.fullmatch(r"[+-]?\d{1,9}", self.node.value):
            self.fail(self._kind(), "a whole number of up to 9 digits")
        return int(self.node.value)

    def duration_us(self) -> int:
        """A span of time: a whole number and a unit."""
        words = self.words()
        duration_us = parse_duration(words)
        if duration_us is None:
            self.fail(repr(words[:60]), f"a duration as '10 minutes', in {', '.join(UNITS_US)}s or weeks")
        return duration_us

    def sql(self) -> Source:
        """A text of SQL, with its place: to the letter for one line and for a block after `|`."""
        if not isinstance(self.node, yaml.ScalarNode):
            self.fail(self._kind(), "a text of SQL")
        words: str = self.node.value  # whatever YAML takes it for: TRUE is SQL too
        start, end = self.node.start_mark, self.node.end_mark
        written = self.text[start.index : end.index]
        line, column = start.line + 1, start.column + 1
        if written.startswith("|"):
            lines = written.split("\n")[1:]
            indent = next((len(text) - len(text.lstrip(" ")) for text in lines if text.strip()), 0)
            return Source(self.file, words, line + 1, indent + 1, indent)
        quoted = written[:1] in ("'", '"')
        exact = written == words or (quoted and written[1:-1] == words)
        return Source(self.file, words, line, column + quoted, exact=exact)

    def _kind(self) -> str:
        if isinstance(self.node, yaml.ScalarNode):
            return repr(self.node.value[:60]) if self.node.value else "nothing"
        return "a list" if isinstance(self.node, yaml.SequenceNode) else "a mapping"
