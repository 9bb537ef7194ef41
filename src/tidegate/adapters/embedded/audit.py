"""The audit trail in files, one a UTC day: JSON lines, each linked to the line before.

A line's `link` is the HMAC-SHA-256, under a key of its own, of the link before and the line's own bytes. A line that
was changed, removed or put in between breaks the chain, and without the key nobody can mend it or add to it. So that
the end cannot be cut off unseen, `head.json` keeps where the newest line ends and its link. Whoever can write both
could still put an older copy of both back: only a store that forbids overwriting (S3 Object Lock) holds against that.

A line is written and synced before the head. After a kill in between, the next to open the trail finds a sound line
beyond the head and takes it in, or half a line, which nobody was told was written, and drops it.
"""

from __future__ import annotations

import fcntl
import hmac
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import msgspec

from tidegate.errors import DamagedError
from tidegate.ports.audit import AuditEntry

_HEAD_FILE, _LOCK_FILE = "head.json", "lock"
_LINK = b',"link":"'
_LINK_END = b'"}\n'


class _Head(msgspec.Struct, frozen=True):
    """The end of the trail: `end` bytes of `file`, the newest, hold lines of the chain, whose last link is `link`."""

    file: str = ""
    end: int = 0
    lines: int = 0
    link: str = "0" * 64


class EmbeddedAudit:
    """The audit trail in `folder`, linked under `key` (32 bytes). Any number of processes may write at once."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self._folder, self._key = folder, key
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)

    def write(self, entry: AuditEntry) -> None:
        """As the port says.

        Raises:
            DamagedError: the end of the trail is not what was written. What cannot be put on record must not be done.
        """
        with self._locked():
            head = self._settled()
            day = f"{datetime.fromtimestamp(entry.time_ms / 1000, UTC):%Y-%m-%d}.jsonl"
            # A clock that steps back stays in the newest file: the files' order is the chain's order.
            file, end = (head.file, head.end) if day <= head.file else (day, 0)
            line, link = self._line(msgspec.json.encode(entry), head.link)
            with _open(self._folder / file, "ab") as opened:
                opened.write(line)
                os.fsync(opened)
            self._write_head(_Head(file, end + len(line), head.lines + 1, link))

    def entries(self) -> Iterator[AuditEntry]:
        with self._locked():
            head = self._settled()
        link, lines = _Head().link, 0
        for file in self._files():
            if file.name > head.file:
                break
            end = head.end if file.name == head.file else file.stat().st_size
            with file.open("rb") as opened:
                while opened.tell() < end:
                    lines += 1
                    link, entry = self._checked(opened.readline(), link, f"{file.name}, entry {lines} of the trail")
                    yield entry
        if (link, lines) != (head.link, head.lines):
            raise DamagedError(
                f"audit: {head.lines} entries were written, the files hold {lines}; restore {self._folder}"
            )

    def _line(self, body: bytes, before: str) -> tuple[bytes, str]:
        link = hmac.digest(self._key, before.encode() + body, "sha256").hex()
        return body.removesuffix(b"}") + _LINK + link.encode() + _LINK_END, link

    def _checked(self, line: bytes, before: str, place: str) -> tuple[str, AuditEntry]:
        body = line.rpartition(_LINK)[0] + b"}"
        wanted, link = self._line(body, before)
        if not hmac.compare_digest(line, wanted):
            raise DamagedError(
                f"audit: {place} was changed, or one before it removed or put in; restore {self._folder}"
            )
        return link, msgspec.json.decode(body, type=AuditEntry)

    def _settled(self) -> _Head:
        """The head, once what a killed writer left behind it is taken in or dropped."""
        path = self._folder / _HEAD_FILE
        try:
            head = msgspec.json.decode(path.read_bytes(), type=_Head) if path.exists() else _Head()
        except msgspec.MsgspecError:
            raise DamagedError(f"audit: {path} is not what was written; restore {self._folder}") from None
        beyond = [file for file in self._files() if file.name >= head.file]
        if head.file and (not beyond or beyond[0].name != head.file or beyond[0].stat().st_size < head.end):
            raise DamagedError(f"audit: the end of {head.file} is missing; restore {self._folder}")
        for file in beyond:
            start = head.end if file.name == head.file else 0
            tail = file.read_bytes()[start:]
            if b"\n" not in tail:
                os.truncate(file, start)
                continue
            link, _ = self._checked(tail, head.link, f"{file.name}, entry {head.lines + 1} of the trail")
            head = _Head(file.name, start + len(tail), head.lines + 1, link)
            self._write_head(head)
        return head

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.jsonl"))

    def _write_head(self, head: _Head) -> None:
        written = self._folder / f".{_HEAD_FILE}"
        with _open(written, "wb") as opened:
            opened.write(msgspec.json.encode(head))
            os.fsync(opened)
        written.replace(self._folder / _HEAD_FILE)
        _sync(self._folder)

    @contextmanager
    def _locked(self) -> Generator[None]:
        with _open(self._folder / _LOCK_FILE, "ab") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX)
            yield


def _open(path: Path, mode: str) -> IO[bytes]:
    """Open without a buffer, for nobody but us."""
    return open(path, mode, buffering=0, opener=lambda name, flags: os.open(name, flags, 0o600))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
