"""The host of the revisions: a settled pass a detector, in a process beside the engine.

    revisions   id `<detector>:<event_id>:<number>`, key `<event_id>`; of what came too late `<detector>:missed:<place>`
    alerts      the same id, of revisions to a harder outcome

A revision is written if its outcome is not the newest that is written of its event, by one member of a group at a time:
so each is written once, through any number of kills, wherever a pass begins again. No commit of the engine waits for
it, and no decision.
"""

from __future__ import annotations

import bisect
import logging
import threading
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tidegate.errors import FencedError, StateError
from tidegate.hosts.arrivals import records_before
from tidegate.hosts.controls import CONTROL, beginnings, controls, version_named
from tidegate.hosts.recovery import restore
from tidegate.hosts.settled import SettledPass, State
from tidegate.hosts.settled_states import SettledStates
from tidegate.hosts.time_order import First, TimeOrder
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import Detector
from tidegate.ports.clock import Clock
from tidegate.ports.log import Log, Positions, TopicPartition
from tidegate.ports.models import Models
from tidegate.ports.snapshots import Snapshots
from tidegate.streams.control import DETECTORS, Standing
from tidegate.streams.decision import DECISIONS
from tidegate.streams.revision import REVISIONS, Revision, decode_revision
from tidegate.streams.schema import STREAMS

GROUP = "revisions"

#: How long `run` waits once all is read: revisions are not in a hurry, and larger batches cost less.
_PAUSE_S = 0.5

#: Newest revisions kept in mind, by event.
_KNOWN_KEPT = 100_000

_log = logging.getLogger(__name__)


class _Following(NamedTuple):
    states: SettledStates
    settling: SettledPass


class RevisionHost:
    """A member of the group `revisions`: the newest revises, the one before is fenced.

    `detectors` decide from the log's first record on, until the control stream says otherwise. `wait_ms` is how long,
    in the stream's time, an event waits for those that belong before it.
    """

    def __init__(
        self,
        log: Log,
        snapshots: Snapshots,
        detectors: Sequence[Detector],
        clock: Clock,
        *,
        wait_ms: int,
        keep_every_ms: int,
        models: Models | None = None,
    ) -> None:
        self._log, self._snapshots, self._clock, self._models = log, snapshots, clock, models
        self._wait_us, self._keep_every_ms = wait_ms * 1000, keep_every_ms
        self._first = {detector.name: detector for detector in detectors}
        self._consumer = log.consumer(GROUP, [*STREAMS, DETECTORS, DECISIONS])
        self._known: dict[str, dict[str, Revision]] = {}
        for record in records_before(log, log.ends([REVISIONS])):
            if isinstance(revision := decode_revision(record.value), Revision):
                self._known.setdefault(revision.detector, {})[revision.event_id] = revision
        self._following: dict[str, _Following] = {}
        self._controls_read = -1
        self._standings: dict[str, tuple[Standing, int]] = {}
        self._kept_ms = self._back_from_ms = clock.now_ms()
        self._went_back_ms: int | None = None
        self._resume()

    # What is followed

    def _resume(self) -> None:
        """Go on with what was followed when a host last kept its states."""
        self._read_controls()
        for name in self._standings:
            states = SettledStates(self._snapshots, name)
            found = states.newest()
            if found is None:
                continue
            state, _ = found
            detector = version_named(self._log, self._first.values(), name, state.version, self._models)
            if detector is None:
                continue
            states.open(detector.version)
            kernel = Kernel(detector)
            try:
                state, at = states.restore(kernel)
            except StateError as error:
                _log.warning("%s", error)
                continue
            self._follow(name, states, self._settling(kernel, state, at, states))

    def _read_controls(self) -> None:
        """How it is with every detector, and where its live version was released."""
        end = self._log.ends([DETECTORS])[CONTROL]
        if end == self._controls_read:
            return
        self._controls_read = end
        first = beginnings([*self._first.values()])
        self._standings = {release.detector: (Standing(live=release), -1) for release in first}
        for record, control in controls(self._log, end=end):
            standing, released = self._standings.get(control.detector, (Standing(), -1))
            standing = standing.after(control)
            if (live := standing.live) is control and live is not None:
                released = -1 if live.from_start else record.offset
            self._standings[control.detector] = standing, released

    def _begin(self) -> None:
        """Follow what is live and not followed yet, from where its windows are full."""
        self._read_controls()
        for name, (standing, released) in self._standings.items():
            if name in self._following or standing.live is None:
                continue
            detector = version_named(self._log, self._first.values(), name, standing.live.version, self._models)
            if detector is None:
                continue
            kernel = Kernel(detector)
            places = self._log.ends([*detector.streams, DETECTORS])
            start, _ = restore(self._snapshots, kernel, self._log.ends([*STREAMS, DETECTORS]))
            if not start and self._is_shortened(places):
                # The engine will soon leave a snapshot.
                continue
            at = {place: start.get(place, 0) for place in places} | self._decisions_after(start)
            order = TimeOrder(self._wait_us, detector.policy.lateness_us)
            states = SettledStates(self._snapshots, name)
            states.open(detector.version)
            state = State(version=detector.version, released=released, order=order)
            self._follow(name, states, self._settling(kernel, state, at, states))
            # From where it began is known whatever happens: what was revised is compared from the same place again.
            states.keep(self._following[name].settling)

    def _settling(self, kernel: Kernel, state: State, at: Positions, states: SettledStates) -> SettledPass:
        known = self._known.setdefault(kernel.detector.name, {})
        return SettledPass(self._log, kernel, state, at, known=known, reaches=states.reaches)

    def _follow(self, name: str, states: SettledStates, settling: SettledPass) -> None:
        self._following[name] = _Following(states, settling)
        _log.info("detector %s %s: its decisions are revised", name, settling.state.version)

    def _is_shortened(self, places: Positions) -> bool:
        first = {place: self._log.read({place: 0}, 1) for place in places}
        return any(records[0].offset > 0 if records else places[place] > 0 for place, records in first.items())

    def _decisions_after(self, start: Positions) -> Positions:
        """Of each partition the first decision that was made with more than `start` read."""
        read = {place.name: offset for place, offset in start.items()}

        def is_after(place: TopicPartition, offset: int) -> bool:
            inputs = msgspec.json.decode(self._log.read({place: offset}, 1)[0].value, type=First).inputs
            return any(at > read.get(name, 0) for name, at in inputs.items())

        return {
            place: bisect.bisect_left(range(end), True, key=lambda offset, place=place: is_after(place, offset))
            for place, end in self._log.ends([DECISIONS]).items()
        }

    # The work

    def step(self) -> int:
        """Revise what is settled by now; how many records were read.

        Raises:
            FencedError: a newer host has taken over. Nothing was written.
        """
        self._begin()
        read = sum(self._step(name, *following) for name, following in list(self._following.items()))
        now_ms = self._clock.now_ms()
        if read == 0 and self._went_back_ms is not None:
            # Going back takes half of the time at most.
            self._back_from_ms = 2 * now_ms - self._went_back_ms
            self._went_back_ms = None
        if now_ms - self._kept_ms >= self._keep_every_ms:
            self._kept_ms = now_ms
            self._keep_all()
        return read

    def _step(self, name: str, states: SettledStates, settling: SettledPass) -> int:
        read = settling.read()
        if not read and self._standings[name][0].live is None:
            settling.finish()
        now_ms = self._clock.now_ms()
        if entries := settling.settle(now_ms):
            self._consumer.commit(entries)
        if settling.ended:
            del self._following[name]
        elif not read and settling.state.behind and now_ms >= self._back_from_ms:
            self._go_back(states, settling)
            return 1
        return read

    def run(self, stop: threading.Event) -> None:
        """Revise until `stop` is set or a newer host has taken over."""
        try:
            while not stop.is_set():
                if not self.step():
                    stop.wait(_PAUSE_S)
            self._keep_all()
        except FencedError as error:
            _log.warning("revisions end: %s", error)
        finally:
            self._consumer.close()

    def _go_back(self, states: SettledStates, settling: SettledPass) -> None:
        """Go back for what came late, at once kept: whoever goes on from there has it in its place."""
        name = states.before(min(settling.state.behind), settling.state.lates)
        if name is None:
            settling.miss_earliest()
            return
        settling.go_back(*states.restore(settling.kernel, name))
        states.went_back(settling.state.order.settled)
        states.keep(settling)
        if self._went_back_ms is None:
            self._went_back_ms = self._clock.now_ms()

    def _keep_all(self) -> None:
        """Keep all states, and tell the log what is still needed of it.

        Raises:
            FencedError: a newer host has taken over. Nothing was kept.
        """
        self._consumer.commit()
        needed: Positions = {}
        for states, settling in self._following.values():
            states.keep(settling)
            for positions in states.positions():
                needed |= {place: min(offset, needed.get(place, offset)) for place, offset in positions.items()}
        self._consumer.seek(self._log.ends([*STREAMS, DETECTORS, DECISIONS]) | needed)
        self._consumer.commit()
        for known in self._known.values():
            while len(known) > _KNOWN_KEPT:
                del known[next(iter(known))]
