"""The rows of a file, a chunk at a time, in their order: what is wrong with one row is told of that row.

What is wrong with the file itself (damaged, cut off, packed beyond all measure) ends the reading. `check_file` goes
through all of it beforehand, so that nothing is taken of a file that cannot be read to its end.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec
import pyarrow as pa

from tidegate.errors import DecodeError
from tidegate.files.columnar import Part, open_columnar
from tidegate.files.csvtext import Cells
from tidegate.files.formats import Kind, kind_of, open_unpacked, refusal
from tidegate.files.lines import cut_lines

#: Rows of a chunk: as many as one commit of the log takes without holding others up.
CHUNK_ROWS = 2_000

#: A JSON text that is one array or one object is read at once. What is longer is sent as JSON lines.
MAX_DOCUMENT_BYTES = 128 << 20

_any = msgspec.json.Decoder()
_array = msgspec.json.Decoder(list[msgspec.Raw])

Row = bytes | dict[str, Any] | DecodeError
"""A row as it was read: the bytes of a JSON value, the cells by column, or why it is none."""


class Chunk(NamedTuple):
    """Rows that follow one another: the number of the first, counted from 0, how many, and what decodes them: into
    typed columns where the format has types of its own.
    """

    first: int
    rows: int
    read: Callable[[], Sequence[Row] | pa.RecordBatch]


class Rows(NamedTuple):
    """What a file holds. `names` are its columns, of JSON those seen at its beginning; `types` are those that the
    format itself has, None where they are guessed. The chunks can be gone through once.
    """

    kind: Kind
    names: list[str]
    types: pa.Schema | None
    chunks: Iterator[Chunk]


def open_rows(path: Path, *, most: int) -> Rows:
    """Open a file. Of a JSON line longer than `most` bytes only the beginning is given.

    Raises:
        NotFoundError: there is no such file.
        UsageError: its name ends with none of the suffixes that are read.
        DecodeError: it is not what its name says; also raised while going through the chunks.
    """
    kind = kind_of(path)
    if kind.format in ("parquet", "orc", "avro"):
        columnar = open_columnar(path, kind, CHUNK_ROWS)
        return Rows(kind, columnar.schema.names, columnar.schema, _numbered(columnar.parts))
    stream = open_unpacked(path, kind.encoding)
    if kind.format == "csv":
        cells = Cells(path.name, stream)
        return Rows(kind, cells.names, None, _chunked(_by_column(cells)))
    lines = _json_rows(path, kind, stream, most)
    ahead = list(islice(lines, CHUNK_ROWS))
    return Rows(kind, _names(ahead), None, _chunked(chain(ahead, lines)))


def check_file(path: Path) -> Iterator[int]:
    """Go through all of a file; how many rows it has so far, chunk by chunk.

    Raises:
        DecodeError: it cannot be read to its end: says where.
    """
    rows = 0
    for chunk in open_rows(path, most=1).chunks:
        content = chunk.read()
        if isinstance(content, pa.RecordBatch):
            _check_texts(path, chunk, content)
        rows += chunk.rows
        yield rows


def _check_texts(path: Path, chunk: Chunk, batch: pa.RecordBatch) -> None:
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        last = chunk.first + chunk.rows
        raise refusal(path.name, f"rows {chunk.first + 1} to {last} hold what their types do not allow") from None


def _numbered(parts: Iterator[Part]) -> Iterator[Chunk]:
    """Chunks of some parts each: what a format keeps together may be a few rows."""
    first, gathered, size = 0, list[Part](), 0
    for part in parts:
        if gathered and size + part.rows > CHUNK_ROWS:
            yield Chunk(first, size, partial(_together, gathered))
            first, gathered, size = first + size, [], 0
        gathered.append(part)
        size += part.rows
    if gathered:
        yield Chunk(first, size, partial(_together, gathered))


def _together(parts: Sequence[Part]) -> pa.RecordBatch:
    if len(parts) == 1:
        return parts[0].read()
    return pa.Table.from_batches([part.read() for part in parts]).combine_chunks().to_batches()[0]


def _chunked(rows: Iterator[Row]) -> Iterator[Chunk]:
    first = 0
    while chunk := list(islice(rows, CHUNK_ROWS)):
        yield Chunk(first, len(chunk), partial(_same, chunk))
        first += len(chunk)


def _same(rows: list[Row]) -> list[Row]:
    return rows


def _by_column(cells: Cells) -> Iterator[Row]:
    for row in cells:
        yield row if isinstance(row, DecodeError) else dict(zip(cells.names, row, strict=True))


def _json_rows(path: Path, kind: Kind, stream: BinaryIO, most: int) -> Iterator[Row]:
    """The lines of JSON lines; the elements of an array; one value. A *.json that is more than one value and no array
    is JSON lines by another name.
    """
    if kind.format == "ndjson":
        yield from cut_lines(stream, most)
        return
    document = stream.read(MAX_DOCUMENT_BYTES + 1)
    if len(document) > MAX_DOCUMENT_BYTES:
        raise refusal(path.name, f"wanted JSON of up to {MAX_DOCUMENT_BYTES >> 20} MB, got more; send it as JSON lines")
    if document.lstrip().startswith(b"["):
        try:
            elements = _array.decode(document)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise refusal(path.name, "wanted a JSON array, got what is not or is cut off") from None
        yield from (bytes(element)[: most + 1] for element in elements)
    elif _is_json(document) or b"\n" not in document.strip():
        yield document.strip()[: most + 1]
    else:
        yield from cut_lines(io.BytesIO(document), most)


def _is_json(document: bytes) -> bool:
    try:
        _any.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _names(rows: Sequence[Row]) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        try:
            found = _any.decode(row) if isinstance(row, bytes) else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        if isinstance(found, dict):
            names |= dict.fromkeys(cast("dict[str, Any]", found))
    return list(names)
