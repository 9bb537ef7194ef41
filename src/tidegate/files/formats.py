"""What a file is, told by its first bytes and its name, and its bytes once they are unpacked, within limits."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import pyarrow as pa

from tidegate.errors import DecodeError, NotFoundError, UsageError

Format = Literal["json", "ndjson", "csv", "parquet", "avro", "orc"]
Encoding = Literal["gzip", "zstd"]

FORMATS: dict[str, Format] = {
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".avro": "avro",
    ".orc": "orc",
}
_ENCODINGS: dict[str, Encoding] = {".gz": "gzip", ".zst": "zstd"}

_PACKED: tuple[tuple[bytes, Encoding], ...] = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
_MARKS: tuple[tuple[bytes, Format], ...] = ((b"PAR1", "parquet"), (b"Obj\x01", "avro"), (b"ORC", "orc"))
_MARK_BYTES = 4

#: Texts pack to a tenth, seldom to a fiftieth. What packs to less than this is made to fill the memory or the disk of
#: whoever unpacks it; a small file may be all zeros.
MAX_UNPACKED_RATIO = 200
UNPACKED_FREE_BYTES = 16 << 20

#: Bytes that are unpacked at once.
_BLOCK_BYTES = 1 << 20


class Kind(NamedTuple):
    """What a file is: its format, and how it is packed, if it is."""

    format: Format
    encoding: Encoding | None


def kind_of(path: Path) -> Kind:
    """What a file is. Its name says it, and its first bytes must not say otherwise.

    Raises:
        NotFoundError: there is no such file.
        UsageError: its name ends with none of the suffixes that are read.
        DecodeError: its first bytes are those of another format than its name says.
    """
    if not path.is_file():
        raise NotFoundError(f"file {path.name}: there is no such file")
    form = format_of(path.name)
    named = _ENCODINGS.get(path.suffix.lower())
    with path.open("rb") as file:
        begin = file.read(_MARK_BYTES)
    packed: Encoding | None = next((encoding for mark, encoding in _PACKED if begin.startswith(mark)), None)
    marked = next((form for mark, form in _MARKS if begin.startswith(mark)), None)
    if packed != named or (packed is None and marked not in (form, None)):
        found = packed or marked or "something else"
        raise refusal(path.name, f"its name says {path.suffix[1:]}, its first bytes are those of {found}")
    if form in ("parquet", "orc") and packed:
        raise refusal(path.name, f"{form} packs its own columns; send it without {packed}")
    return Kind(form, packed)


def format_of(name: str) -> Format:
    """The format that a file's name says.

    Raises:
        UsageError: its name ends with none of the suffixes that are read.
    """
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    if suffixes and suffixes[-1] in _ENCODINGS:
        suffixes.pop()
    if not suffixes or suffixes[-1] not in FORMATS:
        raise UsageError(
            f"file {name}: wanted a file named *{', *'.join(FORMATS)}, or one of them packed as .gz or .zst"
        )
    return FORMATS[suffixes[-1]]


def refusal(name: str, what: str) -> DecodeError:
    """A whole file that cannot be read."""
    return DecodeError("decode", f"decode: file {name}: {what}; nothing of it was taken")


def open_unpacked(path: Path, encoding: Encoding | None) -> BinaryIO:
    """The file's bytes, unpacked as they are read.

    Reading raises:
        DecodeError: the packing is damaged or cut off, or the bytes grow beyond MAX_UNPACKED_RATIO.
    """
    if encoding is None:
        return path.open("rb")
    most = path.stat().st_size * MAX_UNPACKED_RATIO + UNPACKED_FREE_BYTES
    return io.BufferedReader(_Unpacked(path.name, path.open("rb"), encoding, most), _BLOCK_BYTES)


def unpack(content: bytes, encoding: Encoding, most: int) -> bytes:
    """A body's bytes unpacked.

    Raises:
        DecodeError: the packing is damaged or cut off, or the bytes are more than `most`.
    """
    unpacked = _Unpacked("body", io.BytesIO(content), encoding, most)
    return b"".join(iter(lambda: unpacked.read(_BLOCK_BYTES) or b"", b""))


class _Unpacked(io.RawIOBase):
    """Unpacks `file` as it is read, up to `most` bytes."""

    def __init__(self, name: str, file: BinaryIO, encoding: Encoding, most: int) -> None:
        self._name, self._file, self._encoding, self._most = name, file, encoding, most
        source: Any = file
        self._stream: Any = pa.CompressedInputStream(pa.PythonFile(source, mode="r"), encoding)
        self._done = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block: bytes = self._stream.read(len(buffer))
        except OSError:
            # Arrow's message says what of the packing is wrong, in words that only help who knows its format.
            raise refusal(
                self._name,
                f"its {self._encoding} packing is damaged or cut off behind byte {self._done} of what it holds",
            ) from None
        self._done += len(block)
        if self._done > self._most:
            raise refusal(self._name, f"it unpacks to more than the {self._most} bytes that are taken of it")
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._file.close()
        super().close()
