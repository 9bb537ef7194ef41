"""The way of a request's events: decode, validate, protect, append. What fails goes to the rejected stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
from starlette.exceptions import HTTPException

from tidegate.errors import DecodeError
from tidegate.intake.answers import Refused, Taken
from tidegate.intake.append import Appender
from tidegate.intake.decode import Decoded, Raw, Split, decoded
from tidegate.intake.envelopes import Envelopes
from tidegate.intake.journal import told
from tidegate.intake.limits import MAX_EVENT_BYTES, MAX_EVENTS, PREPARING_THREADS
from tidegate.intake.metrics import Metrics
from tidegate.intake.prepare import Origin, Preparer, Result
from tidegate.intake.problems import event_problem
from tidegate.intake.protect import Protected
from tidegate.ports.clock import Clock
from tidegate.ports.log import Appended, Entry


class Prepared(msgspec.Struct, frozen=True):
    """A request's events, ready to be written, in order: each protected, or refused and the entry that tells of it."""

    events: Sequence[Result]

    @property
    def entries(self) -> list[Entry]:
        return [event.entry if isinstance(event, Protected) else event[1] for event in self.events]


class Intake:
    """Takes events of every stream. Checking and protecting run in threads, so that a large request does not keep small
    ones waiting, and a remote key service may take its time.
    """

    def __init__(self, envelopes: Envelopes, clock: Clock, appender: Appender, metrics: Metrics) -> None:
        self._clock, self._appender, self._metrics = clock, appender, metrics
        self._preparer = Preparer(envelopes)
        self._threads = ThreadPoolExecutor(PREPARING_THREADS, "prepare")

    def stop(self) -> None:
        self._threads.shutdown()

    async def prepare(self, stream: str, split: Split, body: bytes, source: str) -> Prepared:
        """Decode, validate and protect all events of a body.

        Raises:
            HTTPException: 413, too many events or one too large. Nothing is written of such a request.
            OverloadError: there is no room for what is large.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._prepare, stream, split, body, source
        )

    async def prepared(self, work: Callable[[Preparer], Sequence[Result]]) -> Prepared:
        """What `work` makes of what it holds, in a thread of those that prepare.

        Raises:
            HTTPException: as `work` does.
        """
        results = await asyncio.get_running_loop().run_in_executor(self._threads, work, self._preparer)
        return Prepared(results)

    async def append(self, stream: str, prepared: Prepared) -> list[Taken | Refused]:
        """Write what was prepared; durable when it returns.

        Raises:
            OverloadError: the log cannot be written now. Nothing was written.
        """
        appended = await self._appender.append(prepared.entries)
        results = [_result(event, place) for event, place in zip(prepared.events, appended, strict=True)]
        self._tell(stream, results)
        return results

    def _tell(self, stream: str, results: Sequence[Taken | Refused]) -> None:
        taken = [result for result in results if isinstance(result, Taken)]
        refused = [result.problem for result in results if isinstance(result, Refused)]
        duplicates = sum(result.duplicate for result in taken)
        events = self._metrics.events
        events.labels(stream, "taken").inc(len(taken) - duplicates)
        events.labels(stream, "duplicate").inc(duplicates)
        events.labels(stream, "refused").inc(len(refused))
        for problem in refused:
            self._metrics.rejected.labels(stream, problem.step).inc()
        if refused:
            told("rejected", stream=stream, events=len(refused), step=refused[0].step, field=refused[0].field)

    def _prepare(self, stream: str, split: Split, body: bytes, source: str) -> Prepared:
        origin = Origin(source, self._clock.now_ms())
        try:
            raw_events = split(body)
            if not raw_events:
                raise DecodeError("decode", "decode: wanted at least one event, got none; send events as JSON objects")
        except DecodeError as error:
            return Prepared([(error, self._preparer.refuse(stream, Decoded(error, body), error, origin))])
        check_size(raw_events)
        events = [raw if isinstance(raw, Decoded) else decoded(raw) for raw in raw_events]
        return Prepared(self._preparer.prepare(stream, events, origin))


def _result(event: Result, place: Appended) -> Taken | Refused:
    if isinstance(event, Protected):
        return Taken(event_id=event.event_id, partition=place.partition, offset=place.offset, duplicate=place.duplicate)
    return Refused(problem=event_problem(event[0]))


def check_size(raw_events: Sequence[Raw | Decoded]) -> None:
    """
    Raises:
        HTTPException: 413, too many events for one request, or one too large.
    """
    if len(raw_events) > MAX_EVENTS:
        raise HTTPException(413, f"size: wanted up to {MAX_EVENTS} events, got {len(raw_events)}; send them in parts")
    largest = max((len(bytes(raw)) for raw in raw_events if not isinstance(raw, Decoded)), default=0)
    if largest > MAX_EVENT_BYTES:
        raise HTTPException(
            413, f"size: wanted events of up to {MAX_EVENT_BYTES} bytes, got one of {largest}; send less"
        )
