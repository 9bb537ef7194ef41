"""The settled pass: one version of a detector decides again, in the order of event time, what the engine has decided in
the order of arrival; where the outcome is another one now, the first decision is amended by a revision.

A record goes in once the stream's clock is past its time by `wait_us`. One that comes later than that goes in as it
comes, so that all after it count it; what had been decided since its time is decided again by going back, to a state
from before its time (see `settled_states`), with all that came late in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np

from tidegate.hosts.alerts import alert_of, shown
from tidegate.hosts.arrivals import BATCH_RECORDS, GROUP, arrivals, schemas_of
from tidegate.hosts.causes import Causes, Stray, cause_of
from tidegate.hosts.time_order import First, Item, TimeOrder
from tidegate.kernel.decide import Kernel
from tidegate.kernel.policy import OUTCOMES
from tidegate.ports.log import Entry, Log, Positions, Record, TopicPartition
from tidegate.streams.control import DETECTORS, Release, decode_control
from tidegate.streams.decision import ALERTS, DECISIONS, Decision
from tidegate.streams.revision import REVISIONS, Missed, Revision, revision_hash

#: Late records that are kept for going back: what comes when so many are is missed.
MAX_LATE = 10_000

_encode = msgspec.json.Encoder().encode


class _Stamp(msgspec.Struct):
    event_time: int


_stamps = msgspec.json.Decoder(_Stamp)
_firsts = msgspec.json.Decoder(First)


class State(msgspec.Struct, kw_only=True):
    """All of a pass but its kernel and how far it has read."""

    version: str
    released: int
    """The offset of the version's release in the control stream; -1: it holds from the log's first record on."""
    order: TimeOrder
    count: int = 0
    """Records taken: a record's number is that it has among them."""
    firsts: dict[str, First] = {}
    """By event, of records that were not taken yet."""
    decided: dict[str, int] = {}
    """How far the engine has decided, as "topic/partition" -> next offset."""
    lates: list[Item] = []
    """What came late since the states that are kept: whoever goes back to one takes it in its place."""
    behind: list[int] = []
    """The times, in microseconds, of what came late and has not been gone back for."""
    strays: list[Stray] = []


class SettledPass:
    """`state` and `at` are where it begins: the kernel has seen what is before `at`. `known` are the newest revisions,
    by event. `reaches` tells whether there is a state to go back to from before a time.
    """

    def __init__(
        self,
        log: Log,
        kernel: Kernel,
        state: State,
        at: Positions,
        *,
        known: dict[str, Revision],
        reaches: Callable[[int], bool],
    ) -> None:
        self._log, self.kernel, self.at, self._known, self._reaches = log, kernel, dict(at), known, reaches
        self._name, self._own = kernel.detector.name, kernel.detector.stream.name
        self._schemas = schemas_of(kernel.detector.streams)
        self._due: list[Item] = []
        self._missed: list[Missed] = []
        self.ended = False
        """Whether another version was released in its place, or none."""
        self._take_up(state)

    def _take_up(self, state: State) -> None:
        self.state, self._order = state, state.order
        self._causes = Causes(self.kernel.detector, state.strays)
        self._late_places = {item.record.name for item in state.lates}

    def snapshot(self) -> State:
        """All but the kernel and the position, to be kept; the pass has settled what it read."""
        self.state.strays = self._causes.kept
        return self.state

    def go_back(self, state: State, at: Positions) -> None:
        """To a state that was kept, the kernel being put to it already; what came late since then is in its place."""
        lates = self.state.lates
        self.at, self.ended = dict(at), False
        state.lates, state.behind = lates, []
        self._take_up(state)
        for item in lates:
            if item.record.offset >= at[item.record.place]:
                self._order.take(item)
                self._causes.add(item)

    def read(self) -> int:
        """Take what the engine has decided by now; how many records."""
        at = self._places(streams=True)
        batch = next(self._log.history(GROUP, at, [*self._schemas, DETECTORS]), [])
        # What it has committed it has decided: the decisions are there.
        while not all(map(self._is_decided, batch)) and self._read_decisions():
            pass
        for record in batch:
            self.at[record.place] = record.offset + 1
            self._take(record)
            if self.ended:
                self.finish()
                break
        return len(batch)

    def _is_decided(self, record: Record) -> bool:
        return record.topic != self._own or record.offset < self.state.decided.get(record.place.name, 0)

    def _places(self, *, streams: bool) -> Positions:
        return {place: offset for place, offset in self.at.items() if (place.topic != DECISIONS) == streams}

    def _read_decisions(self) -> int:
        """Read on in the decisions; how many."""
        records = self._log.read(self._places(streams=False), BATCH_RECORDS)
        for record in records:
            self.at[record.place] = record.offset + 1
            try:
                first = _firsts.decode(record.value)
            except msgspec.MsgspecError:
                continue
            if first.detector == self._name:
                self.state.decided |= first.inputs
                self.state.firsts[first.event_id] = first
        return len(records)

    def _take(self, record: Record) -> None:
        self.state.count += 1
        if record.topic == DETECTORS:
            self._follow(record)
            return
        own = record.topic == self._own
        first = self.state.firsts.pop(record.id or "", None) if own else None
        if record.name in self._late_places or (own and first is None and self._is_live):
            return
        try:
            time = _stamps.decode(record.value).event_time
        except msgspec.MsgspecError:
            return
        self._put(Item(time, self.state.count, record, first))
        if own:
            self._order.pass_time(time)
        self._due += self._order.due()

    @property
    def _is_live(self) -> bool:
        """Whether its release was read: from there on it decided every event of its stream that is none twice."""
        return self.at[TopicPartition(DETECTORS, 0)] > self.state.released

    def _put(self, item: Item) -> None:
        match self._order.take(item):
            case "last":
                pass
            case "between":
                self._causes.add(item)
            case "ahead":
                self._miss(item, "it is dated too far ahead, as too many others are: it is left out")
            case "late":
                self._causes.add(item)
                self._due.append(item)
                if self._reaches(item.time) and len(self.state.lates) < MAX_LATE:
                    self.state.lates.append(item)
                    self.state.behind.append(item.time)
                    self._late_places.add(item.record.name)
                else:
                    self._miss(item, "no state from before its time is kept")

    def _follow(self, record: Record) -> None:
        control = decode_control(record.value)
        if not isinstance(control, Release) or control.detector != self._name or record.offset <= self.state.released:
            return
        same = control.version == self.state.version
        self.ended = not same if control.status == "live" else same and control.status in ("retired", "draft")

    def miss_earliest(self) -> None:
        """There is no state to go back to for the earliest of what came late."""
        earliest = min(self.state.behind)
        for item in self.state.lates:
            if item.time == earliest:
                self._miss(item, "no state from before its time serves any more")
        self.state.lates = [item for item in self.state.lates if item.time != earliest]
        self.state.behind = [time for time in self.state.behind if time != earliest]

    def _miss(self, item: Item, reason: str) -> None:
        cause, settled = cause_of(item.record, item.time), self._order.settled
        self._missed.append(Missed(detector=self._name, cause=cause, settled_until=settled, reason=reason))

    def finish(self) -> None:
        """It decides no more: what is held is due."""
        self.ended = True
        self._due += self._order.all()

    def settle(self, now_ms: int) -> list[Entry]:
        """Decide what is due; what is to be written about it."""
        entries = [self._missed_entry(missed, now_ms) for missed in self._missed]
        due, self._due, self._missed = self._due, [], []
        for run in _runs(due):
            entries += self._decide(run, now_ms)
        return entries

    def _decide(self, run: Sequence[Item], now_ms: int) -> Iterator[Entry]:
        self.kernel.demote(frozenset(next((item.first.demoted for item in run if item.first), ())))
        decisions = self.kernel.decide(arrivals([item.record for item in run], self._schemas).by_stream)
        outcomes, changed, items = decisions.judged.outcome.tolist(), list[int](), list[tuple[Item, First]]()
        for row, (index, at) in enumerate(zip(decisions.index.tolist(), decisions.at.tolist(), strict=True)):
            item = run[at]
            if index < 0 or item.first is None or item.first.detector_version != self.state.version:
                continue
            if OUTCOMES[outcomes[row]] != self._outcome(item.first):
                changed.append(row)
                items.append((item, item.first))
        if not changed:
            return
        made = decisions.take(np.array(changed, np.int64))
        events = shown(made, range(len(changed)))
        for (item, first), decision, event in zip(items, made.records(), events, strict=True):
            revision = self._revision(item, first, decision, now_ms)
            self._known[first.event_id] = revision
            entry_id = f"{self._name}:{first.event_id}:{revision.number}"
            yield Entry(REVISIONS, first.event_id, _encode(revision), now_ms, entry_id)
            if OUTCOMES.index(revision.new_outcome) > OUTCOMES.index(revision.old_outcome):
                alert = alert_of(
                    decision,
                    event,
                    accepted_ms=item.record.timestamp_ms,
                    decided_ms=now_ms,
                    revision=revision.number,
                    revised_from=revision.old_outcome,
                )
                yield Entry(ALERTS, first.event_id, _encode(alert), now_ms, entry_id)

    def _outcome(self, first: First) -> str:
        known = self._known.get(first.event_id)
        return known.new_outcome if known else first.outcome

    def _revision(self, item: Item, first: First, decision: Decision, now_ms: int) -> Revision:
        before = self._known.get(first.event_id)
        rules = [name for name, fired in decision.rules.items() if fired]
        rules_before = before.rules if before else [name for name, fired in first.rules.items() if fired]
        causes, more = self._causes.of(item)
        revision = Revision(
            event_id=first.event_id,
            event_time=item.time,
            stream=decision.stream,
            detector=self._name,
            detector_version=decision.detector_version,
            number=before.number + 1 if before else 1,
            decision_hash=first.hash,
            old_outcome=before.new_outcome if before else first.outcome,
            new_outcome=decision.outcome,
            old_score=before.new_score if before else first.score,
            new_score=decision.score,
            fired=[name for name in rules if name not in rules_before],
            ceased=[name for name in rules_before if name not in rules],
            rules=rules,
            reasons=decision.reasons,
            causes=causes,
            more_causes=more,
            revised_hash=decision.hash,
            inputs={place.name: at for place, at in self._places(streams=True).items()},
        )
        return msgspec.structs.replace(revision, hash=revision_hash(revision), revised_ms=now_ms)

    def _missed_entry(self, missed: Missed, now_ms: int) -> Entry:
        entry_id = f"{self._name}:missed:{missed.cause.place}"
        return Entry(REVISIONS, missed.cause.event_id, _encode(missed), now_ms, entry_id)


def _runs(due: Sequence[Item]) -> Iterator[list[Item]]:
    """Parts of which all first decisions were made with the same rules demoted."""
    run: list[Item] = []
    demoted: list[str] | None = None
    for item in due:
        if item.first is not None:
            if demoted is not None and item.first.demoted != demoted:
                yield run
                run = []
            demoted = item.first.demoted
        run.append(item)
    if run:
        yield run
