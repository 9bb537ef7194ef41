"""A shard: one detector's kernel, on a state that Flink keeps.

What arrives is put in order, decided, and kept as a change; after a restart, or on another slot, the shard is made anew
from its snapshot and the changes since. Nothing of what it decides depends on where that was, nor on how the stream
fell into micro-batches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence

from tidegate.hosts.arrivals import BATCH_RECORDS, arrivals, runs, schemas_of
from tidegate.hosts.controls import beginnings
from tidegate.hosts.flink.merge import Merge
from tidegate.hosts.flink.state import Change, Snapshot, State
from tidegate.hosts.flink.texts import read_records, write_records
from tidegate.hosts.forecast import Watch
from tidegate.hosts.outputs import UNFIT, outputs, rejected
from tidegate.hosts.rollout import Deciding
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import Detector
from tidegate.ports.clock import Clock
from tidegate.ports.log import Entry, Positions, Record, TopicPartition, after
from tidegate.streams.control import Demotion, Release, Standing, decode_control

_log = logging.getLogger(__name__)


class Shard:
    """Made where its key is met, for the first time or again.

    `ends`: how far the log reaches by now, of every partition that the detector reads. `refuses`: the topics whose
    unfit records it is this shard's part to write to `rejected`. `ordered` makes the record that tells in which order
    the log was read.
    """

    def __init__(
        self,
        detector: Detector,
        state: State,
        clock: Clock,
        *,
        ends: Mapping[TopicPartition, int],
        refuses: Collection[str],
        ordered: Callable[[Positions], Entry],
    ) -> None:
        self._state, self._clock, self._refuses, self._ordered = state, clock, refuses, ordered
        self._schemas = schemas_of(detector.streams)
        self._read: Positions = dict.fromkeys(ends, 0)
        self._merge = Merge(ends)
        (release,) = beginnings([detector])
        self._standing = Standing(live=release)
        self._deciding = Deciding(Kernel(detector), release, Watch(None))
        self.taken_ms = clock.now_ms()
        """When something was taken last."""
        self._restore()

    def _restore(self) -> None:
        kept = self._state.snapshot()
        if kept is not None:
            snapshot, arrays = kept
            self._deciding.kernel.restore(arrays)
            watch = Watch(snapshot.release.forecast, snapshot.counts)
            self._deciding = Deciding(self._deciding.kernel, snapshot.release, watch)
            self._stand(snapshot.standing)
            self._read |= {TopicPartition.named(name): offset for name, offset in snapshot.read.items()}
            self._merge.start_at(self._read)
            self._merge.add(read_records(snapshot.waiting))
        for change in self._state.changes():
            self._merge.add(read_records(change.arrived))
            self._see(self._merge.take_again(change.taken))

    @property
    def waits(self) -> bool:
        """Whether something has arrived and waits for what belongs before it."""
        return bool(self._merge.waiting)

    def take(self, text: str) -> list[Entry]:
        """What is to be written once these records of the log have arrived."""
        self._merge.add(read_records(text))
        return self._decide(text)

    def give_up(self) -> list[Entry]:
        """What is to be written if nothing is waited for any more."""
        self._merge.give_up()
        return self._decide("")

    def _decide(self, arrived: str) -> list[Entry]:
        now_ms, records = self._clock.now_ms(), self._merge.take()
        if records:
            self.taken_ms = now_ms
        entries: list[Entry] = []
        for run, control in runs(records):
            for first in range(0, len(run), BATCH_RECORDS):
                entries += self._decide_run(run[first : first + BATCH_RECORDS], now_ms)
            if control is not None and not self._follow(control):
                wanted = "the version that this job was submitted with, or a rule's demotion"
                entries.append(rejected(control, wanted, self._clock.now_ms()))
        if records:
            entries.append(self._ordered(self._read))
        if self._state.change(Change(len(records), arrived)):
            self._keep()
        return entries

    def _decide_run(self, records: Sequence[Record], now_ms: int) -> list[Entry]:
        entries, refused = outputs([self._deciding], records, self._read, now_ms, self._clock)
        self._read |= after(records)
        mine = [record for record in refused if record.topic in self._refuses]
        if self._standing.live is None:
            # A retired version decides nothing, and is ready for its return.
            entries = []
        return entries + [rejected(record, UNFIT.format(record.topic), self._clock.now_ms()) for record in mine]

    def _see(self, records: Sequence[Record]) -> None:
        """What was decided before."""
        for run, control in runs(records):
            for first in range(0, len(run), BATCH_RECORDS):
                part = run[first : first + BATCH_RECORDS]
                decisions = self._deciding.kernel.decide(arrivals(part, self._schemas).by_stream)
                self._deciding.watch.count(decisions)
            if control is not None:
                self._follow(control)
        self._read |= after(records)

    def _follow(self, record: Record) -> bool:
        """Take a control record in its place; False if it can't be followed, and all stays as it was."""
        self._read |= after([record])
        control = decode_control(record.value)
        if control is None:
            return False
        if not isinstance(control, Release | Demotion) or control.detector != self._deciding.detector.name:
            return True
        if isinstance(control, Release) and control.status == "live":
            if control.version != self._deciding.detector.version:
                _log.warning(
                    "detector %s: version %s goes live, but this job has %s; submit it with the new one",
                    control.detector,
                    control.version,
                    self._deciding.detector.version,
                )
                return False
            self._deciding = Deciding(self._deciding.kernel, control, Watch(control.forecast))
        self._stand(self._standing.after(control))
        return True

    def _stand(self, standing: Standing) -> None:
        self._standing = standing
        self._deciding.kernel.demote(frozenset(standing.demoted))

    def _keep(self) -> None:
        snapshot = Snapshot(
            read={place.name: offset for place, offset in self._read.items()},
            waiting=write_records(self._merge.waiting),
            release=self._deciding.release,
            standing=self._standing,
            counts=self._deciding.watch.counts,
        )
        self._state.keep(snapshot, self._deciding.kernel.state())
