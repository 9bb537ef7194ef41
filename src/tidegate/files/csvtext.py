"""CSV: the dialect of a file, and its rows as cells of text."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from tidegate.errors import DecodeError
from tidegate.files.formats import refusal

DELIMITERS = (",", ";", "\t", "|")

#: Text that the dialect is told from.
_SNIFFED_BYTES = 64 << 10

#: What more than this stands between two quotes was not closed where it should have been.
MAX_CELL_CHARS = 1 << 20

#: Half of a character: how bytes that are not UTF-8 stand in a text that was read with "surrogateescape".
_NOT_UTF8 = range(0xDC80, 0xDD00)


class Dialect(NamedTuple):
    """What parts the cells, and what may stand around one: a quote within is written twice."""

    delimiter: str
    quote: str


def sniff(begin: bytes) -> Dialect:
    """The dialect in which a text has the same number of cells, more than one, in most of its rows."""
    text = begin[:_SNIFFED_BYTES].decode("utf-8-sig", "replace")
    quote = '"' if text.count('"') >= text.count("'") or "\n'" not in f"\n{text}" else "'"
    best, dialect = (0.0, 0), Dialect(",", quote)
    for delimiter in DELIMITERS:
        widths = [len(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote)]
        rows = widths[:-1] if len(begin) >= _SNIFFED_BYTES else widths
        if rows and rows[0] > 1:
            found = (Counter(rows)[rows[0]] / len(rows), rows[0])
            if found > best:
                best, dialect = found, Dialect(delimiter, quote)
    return dialect


class Cells:
    """The rows of a CSV text, which begins with the names of its columns. Blank lines are no rows.

    Raises:
        DecodeError: there is no header, or it names a column twice.
    """

    def __init__(self, name: str, stream: BinaryIO) -> None:
        self._name = name
        buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # pyright: ignore[reportArgumentType]  # whatever reads
        self.dialect = sniff(buffered.peek(_SNIFFED_BYTES))
        text = io.TextIOWrapper(buffered, "utf-8-sig", errors="surrogateescape", newline="")
        csv.field_size_limit(MAX_CELL_CHARS)
        self._reader = csv.reader(text, delimiter=self.dialect.delimiter, quotechar=self.dialect.quote, strict=True)
        header = next(self._rows(), None)
        if not isinstance(header, list) or not all(header):
            raise refusal(name, "wanted CSV that begins with the names of its columns")
        if doubled := [column for column, times in Counter(header).items() if times > 1]:
            raise refusal(name, f"its header names {doubled[0]!r} twice")
        self.names = header

    def __iter__(self) -> Iterator[list[str] | DecodeError]:
        """Each row's cells, one for each name; or why it is none.

        Raises:
            DecodeError: a quote is not closed: nobody can tell where the next row begins.
        """
        wanted = len(self.names)
        for row in self._rows():
            if isinstance(row, list) and len(row) != wanted:
                yield _fault(f"wanted {wanted} cells as the header has, got {len(row)}; mend the row")
            else:
                yield row

    def _rows(self) -> Iterator[list[str] | DecodeError]:
        while True:
            line = self._reader.line_num + 1
            try:
                row = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                # The two after which the reader has lost its place; anything else ends with its line.
                if "limit" in str(error) or "unexpected end" in str(error):
                    raise refusal(self._name, f"line {line}: a quote is not closed") from None
                yield _fault("wanted a quote within quotes written twice, got one that stands alone; mend the row")
                continue
            if not row:
                continue
            joined = "".join(row)
            if not joined.isascii() and any(ord(letter) in _NOT_UTF8 for letter in joined):
                yield _fault("wanted UTF-8, got other bytes; write the file in UTF-8")
            else:
                yield row


def _fault(what: str) -> DecodeError:
    return DecodeError("decode", f"decode: {what}")
