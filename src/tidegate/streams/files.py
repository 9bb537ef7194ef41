"""The journal of files: which was taken, and how far one is that is being taken.

Its records are JSON in the topic `files`, which keeps them for ever. A record about rows is written in one transaction
with the rows it tells of: what was taken of a file and what is told of it are never apart.
"""

from __future__ import annotations

from typing import Literal

import msgspec

FILES = "files"

State = Literal["taking", "taken", "refused"]


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How it is with one file and one stream, from this record on."""

    digest: str
    """SHA-256 of its bytes, hex: a file is known by what it holds, whatever its name."""
    stream: str
    name: str
    """Without its folder."""
    state: State
    rows: int
    """Rows that are done, from the first on."""
    taken: int
    """Rows of them that are in the log."""
    rejected: int
    """Rows of them that are in the stream `rejected`."""
    reason: str | None = None
    """Why it was refused."""
    at_ms: int


def row_id(digest: str, row: int) -> str:
    """What names a row, counted from 1, where nothing in it does. 128 bits of the digest are kept."""
    return f"f-{digest[:32]}-{row}"
