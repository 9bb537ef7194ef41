"""Group commit: entries of all requests that are waiting are written in one transaction, with one sync of the disk.

While one group is being written the next one gathers, so that a slow disk makes larger groups, not a longer queue.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue

from tidegate.errors import OverloadError, TidegateError
from tidegate.intake.envelopes import Envelopes
from tidegate.intake.journal import failed
from tidegate.intake.limits import MAX_GROUP_EVENTS, RETRY_AFTER_S
from tidegate.intake.metrics import Metrics
from tidegate.ports.log import Appended, Entry, Log


class _Job:
    """The entries of one request, and who waits for them."""

    __slots__ = ("entries", "future")

    def __init__(self, entries: Sequence[Entry], future: asyncio.Future[list[Appended]]) -> None:
        self.entries, self.future = entries, future


class Appender:
    """Appends for the event loop that it is started in, by one thread of its own."""

    def __init__(self, log: Log, envelopes: Envelopes, metrics: Metrics) -> None:
        self._log, self._envelopes, self._metrics = log, envelopes, metrics
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._open = False
        self._thread = threading.Thread(target=self._run, name="appender", daemon=True)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        self._open = True

    async def append(self, entries: Sequence[Entry]) -> list[Appended]:
        """Durable when it returns. The entries of one call are written together or not at all.

        Raises:
            OverloadError: the log cannot be written now. Nothing was written.
        """
        if not self._open:
            raise OverloadError("append: the door is closed; try again", retry_after_s=RETRY_AFTER_S)
        job = _Job(entries, self._loop.create_future())
        self._metrics.queued.inc(len(entries))
        self._jobs.put(job)
        try:
            return await job.future
        finally:
            self._metrics.queued.dec(len(entries))

    async def stop(self) -> None:
        """Write what is waiting, then end."""
        self._open = False
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (first := self._jobs.get()) is not None:
            group, over = self._gather(first)
            result = self._write([entry for job in group for entry in job.entries])
            self._loop.call_soon_threadsafe(_settle, group, result)
            if over:
                return

    def _gather(self, first: _Job) -> tuple[list[_Job], bool]:
        """All jobs that are there by now, up to the size of a group; whether the last one was said to be the last."""
        group, size = [first], len(first.entries)
        while size < MAX_GROUP_EVENTS:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is None:
                return group, True
            group.append(job)
            size += len(job.entries)
        return group, False

    def _write(self, entries: Sequence[Entry]) -> list[Appended] | OverloadError:
        try:
            with self._metrics.append_seconds.time():
                self._envelopes.sync()
                appended = self._log.append(entries)
        except Exception as error:  # noqa: BLE001  # whatever stops the log: those who wait must be told
            failed("append", error)
            wait_s = error.retry_after_s if isinstance(error, OverloadError) else RETRY_AFTER_S
            return OverloadError(
                "append: the log cannot be written now; nothing was taken, send again", retry_after_s=wait_s
            )
        self._metrics.group_events.observe(len(entries))
        return appended


def _settle(group: Sequence[_Job], result: list[Appended] | TidegateError) -> None:
    start = 0
    for job in group:
        end = start + len(job.entries)
        if job.future.done():  # who waited has gone
            pass
        elif isinstance(result, TidegateError):
            job.future.set_exception(result)
        else:
            job.future.set_result(result[start:end])
        start = end
