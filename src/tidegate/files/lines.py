"""JSON lines: the lines of a text that may be longer than memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

_BLOCK_BYTES = 1 << 20


def cut_lines(stream: BinaryIO, most: int) -> Iterator[bytes]:
    """The lines that are not blank, without their ends. Of a line of more than `most` bytes the first `most` and one
    more, so that who gets it knows.
    """
    rest, passing = b"", False
    while block := stream.read(_BLOCK_BYTES):
        lines = block.split(b"\n")
        if passing:
            if len(lines) == 1:
                continue
            passing = False
            lines[0] = rest
        else:
            lines[0] = rest + lines[0]
        rest = lines.pop()
        for line in lines:
            if line.strip():
                yield line[: most + 1]
        if len(rest) > most:
            rest, passing = rest[: most + 1], True
    if rest.strip():
        yield rest
