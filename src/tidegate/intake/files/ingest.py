"""Files: each is checked to its end, then its rows are taken, exactly once by file and row.

What is taken of a file and how far it is taken is written in one transaction of the log, so that an ingest that was
killed goes on where the log ends. A file is known by the digest of its bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, cast

import msgspec

from tidegate.errors import DecodeError, OverloadError, StateError
from tidegate.intake.envelopes import Envelopes
from tidegate.intake.files.decoding import Answer, Check, Failed, Full, Prepared, Seen, Take, Task, work
from tidegate.intake.limits import MAX_WORKERS
from tidegate.ports.clock import Clock
from tidegate.ports.log import Entry, Log, read_on
from tidegate.streams.decision import REJECTED
from tidegate.streams.files import FILES, FileRecord
from tidegate.streams.rejected import Rejected, Step

#: Who sends what comes in files.
SOURCE = "files"

#: A file of fewer rows is done before another process has started.
ROWS_WORTH_A_WORKER = 10_000

Progress = Callable[[str, int, int | None], None]
"""Told of a file's name, how many of its rows are done, and of how many (None: nobody knows yet)."""

_encoder = msgspec.json.Encoder()


class FileResult(msgspec.Struct, kw_only=True):
    """What became of one file. `known`: it was taken before, and nothing of it is taken again."""

    file: str
    state: Literal["taken", "known", "refused"]
    rows: int = 0
    taken: int = 0
    """Rows that are in the log, by this ingest and those before that did not come to its end."""
    duplicates: int = 0
    """Rows of this ingest whose event_id was in the log already."""
    rejected: int = 0
    """Rows that are in the stream `rejected`."""
    reason: str | None = None
    """Why the file was refused."""


class Worker:
    """A process that decodes and prepares, for one task after the other."""

    def __init__(self, open_envelopes: Callable[[], Envelopes], now_ms: Callable[[], int]) -> None:
        # Started anew, not forked: this process has threads and open databases.
        context = get_context("spawn")
        self._link, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, open_envelopes, now_ms), daemon=True)
        self._process.start()
        theirs.close()
        self.ended = False
        self._file = ""

    def ask(self, task: Task) -> None:
        self._file = task.path.name
        self._link.send(task)

    def answer(self) -> Seen | Prepared | None:
        """The next answer to the task, None after the last.

        Raises:
            DecodeError: the file cannot be read, or the process ended of it.
            OverloadError: there is no room for what is large.
        """
        try:
            answer = cast("Answer", self._link.recv())
        except (EOFError, ConnectionResetError):
            self.stop()
            raise DecodeError(
                "decode",
                f"decode: file {self._file}: the process that read it ended (exit code {self._process.exitcode}): it "
                "is damaged, or made to do harm; nothing more of it was taken",
            ) from None
        if isinstance(answer, Full):
            raise OverloadError(answer.reason, retry_after_s=answer.retry_after_s)
        if isinstance(answer, Failed):
            raise DecodeError(answer.step, answer.reason)
        return answer

    def stop(self) -> None:
        self.ended = True
        self._link.close()
        self._process.terminate()
        self._process.join()


class Ingest:
    """Takes files into one stream. `mapping` is the name and the text of how rows become events; None: the columns have
    the names of the stream's fields. `workers` is how many processes decode; the envelopes are opened in each.
    """

    def __init__(
        self,
        log: Log,
        clock: Clock,
        open_envelopes: Callable[[], Envelopes],
        *,
        stream: str,
        mapping: tuple[str, bytes] | None = None,
        workers: int = 1,
        progress: Progress = lambda name, done, total: None,  # noqa: ARG005  # nobody to tell
    ) -> None:
        self._log, self._clock, self._open_envelopes = log, clock, open_envelopes
        self._stream, self._mapping, self._progress = stream, mapping, progress
        self._wanted = min(workers, MAX_WORKERS)
        self._workers: list[Worker] = []
        self._journal = {record.digest: record for record in journal(log) if record.stream == stream}

    def take(self, path: Path) -> FileResult:
        """Take one file; one that cannot be read is refused, and told of in the stream `rejected`.

        Raises:
            NotFoundError: there is no such file.
            OverloadError: the log or the claims cannot be written now. What is taken so far is not taken again.
        """
        digest = _digest(path)
        before = self._journal.get(digest)
        if before is not None and before.state == "taken":
            return _result(before, "known", 0)
        try:
            rows = self._check(path)
            return self._take(path, digest, before, rows)
        except DecodeError as error:
            return self._refuse(path, digest, self._journal.get(digest), error)

    def _check(self, path: Path) -> int:
        worker, rows = self._worker(0), 0
        worker.ask(Check(path))
        while (seen := worker.answer()) is not None:
            rows = cast("Seen", seen).rows
            self._progress(path.name, 0, rows)
        return rows

    def _take(self, path: Path, digest: str, before: FileRecord | None, rows: int) -> FileResult:
        record = msgspec.structs.replace(before or self._begun(path, digest), state="taking", reason=None)
        duplicates = 0
        for chunk in self._prepared(path, digest, record.rows, rows):
            record = msgspec.structs.replace(
                record,
                rows=record.rows + chunk.rows,
                taken=record.taken + chunk.rows - chunk.rejected,
                rejected=record.rejected + chunk.rejected,
            )
            *appended, _ = self._log.append([*chunk.entries, self._entry(record)])
            self._journal[digest] = record
            duplicates += sum(
                place.duplicate
                for place, entry in zip(appended, chunk.entries, strict=True)
                if entry.topic == self._stream
            )
            self._progress(path.name, record.rows, rows)
        if record.rows != rows:
            raise StateError(f"file {path.name}: had {rows} rows when it was checked, {record.rows} when it was taken")
        record = msgspec.structs.replace(record, state="taken")
        self._log.append([self._entry(record)])
        self._journal[digest] = record
        return _result(record, "taken", duplicates)

    def _prepared(self, path: Path, digest: str, start: int, rows: int) -> Iterator[Prepared]:
        """The chunks of a file from a row on, in order, prepared by the workers in turn."""
        if start == rows:
            return
        turns = max(1, min(self._wanted, (rows - start) // ROWS_WORTH_A_WORKER))
        workers = [self._worker(turn) for turn in range(turns)]
        for turn, worker in enumerate(workers):
            worker.ask(Take(path, self._stream, self._mapping, SOURCE, path.name, digest, start, turn, turns))
        try:
            ended = 0
            for worker in cycle(workers):
                # Who has no chunk at its turn is at the end, and so are all whose turn comes later.
                if (chunk := worker.answer()) is not None:
                    yield cast("Prepared", chunk)
                elif (ended := ended + 1) == turns:
                    return
        except BaseException:
            # What the others still prepare is nobody's.
            if turns > 1:
                self.close()
            raise

    def _begun(self, path: Path, digest: str) -> FileRecord:
        return FileRecord(
            digest=digest, stream=self._stream, name=path.name, state="taking", rows=0, taken=0, rejected=0, at_ms=0
        )

    def _refuse(self, path: Path, digest: str, before: FileRecord | None, error: DecodeError) -> FileResult:
        now_ms, reason = self._clock.now_ms(), str(error)
        told = Rejected(
            stream=self._stream,
            step=cast("Step", error.step),
            reason=reason,
            source=SOURCE,
            file=path.name,
            accepted_ms=now_ms,
        )
        record = msgspec.structs.replace(before or self._begun(path, digest), state="refused", reason=reason)
        # The same file refused again for the same reason is told of once.
        refused = hashlib.sha256(f"{self._stream}\n{reason}".encode()).hexdigest()
        entry = Entry(REJECTED, SOURCE, _encoder.encode(told), now_ms, f"f-{digest[:32]}-{refused[:32]}")
        self._log.append([entry, self._entry(record)])
        self._journal[digest] = record
        return _result(record, "refused", 0)

    def _entry(self, record: FileRecord) -> Entry:
        now_ms = self._clock.now_ms()
        return Entry(FILES, record.digest, _encoder.encode(msgspec.structs.replace(record, at_ms=now_ms)), now_ms)

    def _worker(self, number: int) -> Worker:
        while len(self._workers) <= number:
            self._workers.append(Worker(self._open_envelopes, self._clock.now_ms))
        if self._workers[number].ended:
            self._workers[number] = Worker(self._open_envelopes, self._clock.now_ms)
        return self._workers[number]

    def close(self) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers.clear()


def journal(log: Log) -> Iterator[FileRecord]:
    """All records of the journal of files, in their order."""
    for record in read_on(log, dict.fromkeys(log.ends([FILES]), 0)):
        yield msgspec.json.decode(record.value, type=FileRecord)


def _result(record: FileRecord, state: Literal["taken", "known", "refused"], duplicates: int) -> FileResult:
    return FileResult(
        file=record.name, state=state, rows=record.rows, taken=record.taken, duplicates=duplicates,
        rejected=record.rejected, reason=record.reason,
    )  # fmt: skip


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
