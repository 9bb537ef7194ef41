"""The feed: what is newest in the log, kept in memory, so that no page ever reads the log itself."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from threading import Event, Lock, Thread
from typing import NamedTuple

import msgspec

from tidegate.desk.meter import Meter
from tidegate.errors import NotFoundError, OverloadError
from tidegate.ports.clock import Clock
from tidegate.ports.log import Log, Positions, Record, after
from tidegate.streams.control import DETECTORS, Demotion, Part, Standing, decode_control
from tidegate.streams.decision import ALERTS, DECISIONS, Alert

_LABELS = "labels"
_TRANSACTIONS = "transactions"

#: Alerts kept for the pages: some hours of a busy desk, about 20 MB.
ALERTS_KEPT = 10_000

#: Verdicts kept: what is older is asked of the hot store.
VERDICTS_KEPT = 50_000

#: Verdicts kept for pages that look for new ones a few times a second.
VERDICT_NEWS_KEPT = 1000

#: How long the feed waits when there is nothing new: half of it is what waiting adds to an alert's way on average.
_POLL_MS = 10

#: Records taken at once, so that a burst does not hold the pages up.
_READ_LIMIT = 1000

_DAY_US = 86_400_000_000

_log = logging.getLogger(__name__)
_alert_decoder = msgspec.json.Decoder(Alert)


class Verdict(msgspec.Struct, frozen=True):
    """What became known of a transaction, as the labels stream has it. `time` is in microseconds."""

    transaction_id: str
    is_fraud: bool
    source: str
    event_time: int
    reason: str | None = None


_verdict_decoder = msgspec.json.Decoder(Verdict)


class Filter(msgspec.Struct, frozen=True):
    """Which alerts an analyst wants to see. An empty text asks for nothing."""

    outcome: str = ""
    detector: str = ""
    min_score: int = 0
    text: str = ""
    open_only: bool = False


class Listed(NamedTuple):
    """An alert in the feed. `number` grows by one from alert to alert, `text` is what the text filter looks through."""

    number: int
    alert: Alert
    text: str


class Counters(msgspec.Struct, frozen=True):
    """Over the alerts kept, but for `reviewed_today`: analysts' verdicts since midnight UTC."""

    kept: int
    open: int
    declined: int
    reviewed_today: int


class Feed:
    """Follows the topics `alerts`, `labels` and `detectors` in one thread, which drives the meter too.

    `on_failure` is called, from that thread, once it can't go on. Everything public may be called from any thread.
    """

    def __init__(self, log: Log, clock: Clock, meter: Meter, *, on_failure: Callable[[], None]) -> None:
        self._log, self._clock, self._meter, self._on_failure = log, clock, meter, on_failure
        self._lock = Lock()
        self._stop = Event()
        self._thread = Thread(target=self._run, name="desk-feed", daemon=True)
        self._positions: Positions = {}
        self._alerts: deque[Listed] = deque(maxlen=ALERTS_KEPT)
        self._verdicts: dict[str, Verdict] = {}
        self._next_number = 0
        self._news: deque[Verdict] = deque(maxlen=VERDICT_NEWS_KEPT)
        self._verdict_count = 0
        self._standings: dict[str, Standing] = {}

    # The thread

    def start(self) -> None:
        """Load what is newest in the log, then follow it.

        Raises:
            NotFoundError: the log lacks a topic that the desk shows.
        """
        missing = {ALERTS, _LABELS, DETECTORS, DECISIONS, _TRANSACTIONS} - self._log.topics().keys()
        if missing:
            raise NotFoundError(f"desk: the log has no topic {', '.join(sorted(missing))}; create it before the desk")
        self._load()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _load(self) -> None:
        ends = self._log.ends([ALERTS, _LABELS, DETECTORS])
        kept = {ALERTS: ALERTS_KEPT, _LABELS: VERDICTS_KEPT}
        positions = {at: max(0, end - kept.get(at.topic, end)) for at, end in ends.items()}
        while unread := {at: position for at, position in positions.items() if position < ends[at]}:
            records = self._log.read(unread, _READ_LIMIT)
            if not records:
                break
            self._take([record for record in records if record.offset < ends[record.place]])
            positions |= after(records)
        self._positions = ends

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    if not self._follow():
                        self._stop.wait(_POLL_MS / 1000)
                except OverloadError as error:
                    _log.warning("desk: the feed waits: %s", error)
                    self._stop.wait(error.retry_after_s)
        except Exception:  # noqa: BLE001  # whatever it is, the thread must not end unseen
            _log.exception("desk: the feed cannot go on")
            self._on_failure()

    def _follow(self) -> bool:
        """Take what came since the last time; whether anything did."""
        records = self._log.read(self._positions, _READ_LIMIT)
        if records:
            self._meter.readable(self._take(records))
            self._positions |= after(records)
        self._meter.count()
        return bool(records)

    def _take(self, records: Sequence[Record]) -> list[Alert]:
        alerts = [_alert_decoder.decode(record.value) for record in records if record.topic == ALERTS]
        verdicts = [_verdict_decoder.decode(record.value) for record in records if record.topic == _LABELS]
        controls = [decode_control(record.value) for record in records if record.topic == DETECTORS]
        with self._lock:
            for alert in alerts:
                self._alerts.append(Listed(self._next_number, alert, _searched(alert)))
                self._next_number += 1
            for verdict in verdicts:
                # The newest stands last, so that the first is the one to forget.
                self._verdicts.pop(verdict.transaction_id, None)
                self._verdicts[verdict.transaction_id] = verdict
                self._news.append(verdict)
                self._verdict_count += 1
            while len(self._verdicts) > VERDICTS_KEPT:
                del self._verdicts[next(iter(self._verdicts))]
            for control in controls:
                if control is not None and not isinstance(control, Part):
                    standing = self._standings.get(control.detector, Standing())
                    self._standings[control.detector] = standing.after(control)
        return alerts

    # What the pages ask

    def newest(self, wanted: Filter, limit: int) -> tuple[list[Listed], int]:
        """Up to `limit` alerts, the newest first, and the number from which `since` goes on."""
        with self._lock:
            found: list[Listed] = []
            for listed in reversed(self._alerts):
                if len(found) == limit:
                    break
                if self._is_wanted(listed, wanted):
                    found.append(listed)
            return found, self._next_number

    def since(self, number: int, wanted: Filter) -> tuple[list[Listed], int]:
        """The alerts from `number` on, the newest first, and the number from which the next call goes on."""
        with self._lock:
            found: list[Listed] = []
            for listed in reversed(self._alerts):
                if listed.number < number:
                    break
                if self._is_wanted(listed, wanted):
                    found.append(listed)
            return found, self._next_number

    def beside(self, event_id: str, wanted: Filter) -> tuple[str | None, str | None]:
        """The event ids of the next newer and the next older alert among those wanted."""
        newer: str | None = None
        seen = False
        with self._lock:
            for listed in reversed(self._alerts):
                if listed.alert.event_id == event_id:
                    seen = True
                elif self._is_wanted(listed, wanted):
                    if seen:
                        return newer, listed.alert.event_id
                    newer = listed.alert.event_id
        return (newer, None) if seen else (None, None)

    def find(self, event_id: str) -> Alert | None:
        """The newest alert of an event, if it is among those kept."""
        with self._lock:
            return next((listed.alert for listed in reversed(self._alerts) if listed.alert.event_id == event_id), None)

    def verdict(self, transaction_id: str) -> Verdict | None:
        with self._lock:
            return self._verdicts.get(transaction_id)

    def verdicts_since(self, number: int) -> tuple[list[Verdict], int]:
        """The verdicts from `number` on, the oldest first, and the number from which the next call goes on."""
        with self._lock:
            new = min(self._verdict_count - number, len(self._news))
            return list(self._news)[len(self._news) - new :], self._verdict_count

    def demotions(self) -> list[Demotion]:
        """The rules that are demoted now, the newest first."""
        with self._lock:
            found = [demotion for standing in self._standings.values() for demotion in standing.demoted.values()]
        return sorted(found, key=lambda demotion: -demotion.at_ms)

    def detectors(self) -> list[str]:
        with self._lock:
            return sorted({listed.alert.detector for listed in self._alerts})

    def counters(self) -> Counters:
        midnight_us = self._clock.now_ms() * 1000 // _DAY_US * _DAY_US
        with self._lock:
            return Counters(
                kept=len(self._alerts),
                open=sum(listed.alert.event_id not in self._verdicts for listed in self._alerts),
                declined=sum(listed.alert.outcome == "decline" for listed in self._alerts),
                reviewed_today=sum(
                    verdict.source == "analyst" and verdict.event_time >= midnight_us
                    for verdict in self._verdicts.values()
                ),
            )

    def _is_wanted(self, listed: Listed, wanted: Filter) -> bool:
        alert = listed.alert
        return (
            (not wanted.outcome or alert.outcome == wanted.outcome)
            and (not wanted.detector or alert.detector == wanted.detector)
            and alert.score >= wanted.min_score
            and (not wanted.text or wanted.text.casefold() in listed.text)
            and not (wanted.open_only and alert.event_id in self._verdicts)
        )


def _searched(alert: Alert) -> str:
    parts = (
        alert.event_id,
        alert.customer_id,
        alert.pan,
        alert.pan_bin,
        alert.pan_last4,
        alert.merchant_id,
        alert.channel,
        alert.detector,
        *alert.reasons,
    )
    return "\n".join(part for part in parts if part).casefold()
