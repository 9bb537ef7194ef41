"""Claims in files: envelopes one behind the other in a segment of the process that writes it.

Many envelopes share a file, and those of one group its sync: a file for each would cost a sync for each. A claim is
`<day>/<segment>:<offset>:<bytes>`. Segments of old days can be moved or deleted whole.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from pathlib import Path

from tidegate.errors import DamagedError, NotFoundError, OverloadError

#: A segment ends here, so that a day can be moved in parts and a lost file is not the whole day.
SEGMENT_BYTES = 256 * 1024 * 1024

#: How long it takes until somebody has made room.
_RETRY_AFTER_S = 10

_CLAIM = re.compile(r"(\d{4}-\d\d-\d\d/[0-9a-f]{16}):(\d{1,12}):(\d{1,12})")


class EmbeddedClaims:
    """Claims in `folder`, made if it is not there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()
        self._segment = ""
        self._file: int | None = None
        self._end = self._durable = 0
        self._failed = False

    def put(self, envelope: bytes) -> str:
        with self._lock:
            try:
                file = self._open()
                _write(file, envelope, self._end)
            except OSError as error:
                raise _not_now(str(error.strerror)) from None
            claim = f"{self._segment}:{self._end}:{len(envelope)}"
            self._end += len(envelope)
            return claim

    def sync(self) -> None:
        with self._lock:
            self._sync()

    def get(self, claim: str) -> bytes:
        named = _CLAIM.fullmatch(claim)
        if named is None:
            raise NotFoundError("claims: wanted a claim as a record of the log has it, got something else")
        path, size = self._folder / f"{named[1]}.claims", int(named[3])
        try:
            with path.open("rb") as file:
                envelope = os.pread(file.fileno(), size, int(named[2]))
        except FileNotFoundError:
            raise NotFoundError(f"claims: segment {named[1]} is not there; bring back the folder of its day") from None
        if len(envelope) != size:
            raise DamagedError(f"claims: segment {named[1]} ends before an envelope does; bring it back from a backup")
        return envelope

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._sync()
                os.close(self._file)
                self._file = None

    def _sync(self) -> None:
        if self._failed:
            raise _not_now("the disk has failed: mend it and start again")
        if self._file is None or self._durable == self._end:
            return
        try:
            os.fdatasync(self._file)
        except OSError as error:
            # What the disk has lost since the last sync it does not say again: nothing more may be built on it.
            self._failed = True
            raise _not_now(str(error.strerror)) from None
        self._durable = self._end

    def _open(self) -> int:
        """The segment that is written, a new one if there is none or it is full."""
        if self._file is not None and self._end < SEGMENT_BYTES:
            return self._file
        if self._file is not None:
            self._sync()
            os.close(self._file)
            self._file = None
        day = time.strftime("%Y-%m-%d", time.gmtime())
        folder = self._folder / day
        folder.mkdir(exist_ok=True)
        self._segment = f"{day}/{secrets.token_hex(8)}"
        self._file = os.open(self._folder / f"{self._segment}.claims", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        self._end = self._durable = 0
        _sync_folder(folder)
        _sync_folder(self._folder)
        return self._file


def _write(file: int, envelope: bytes, offset: int) -> None:
    left = memoryview(envelope)
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _not_now(why: str) -> OverloadError:
    return OverloadError(f"claims: cannot be written now ({why}); nothing was taken", retry_after_s=_RETRY_AFTER_S)
