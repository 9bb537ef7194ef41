"""Revisions: what was decided too early is amended as if all had come in the order of its time, and once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hosts.stream import START, decisions, detector, entry, everything, label, open_log, transaction
from tests.hosts.test_rollout import HandClock, texts

from tidegate.adapters.embedded.snapshots import EmbeddedSnapshots
from tidegate.errors import FencedError
from tidegate.hosts.arrivals import arrivals, schemas_of
from tidegate.hosts.local import LocalHost
from tidegate.hosts.revisions import RevisionHost
from tidegate.hosts.verify_revisions import verify_revisions
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import Detector
from tidegate.ports.log import Entry, Record, TopicPartition
from tidegate.streams.control import DETECTORS, Release
from tidegate.streams.decision import ALERTS, Alert, Decision
from tidegate.streams.revision import REVISIONS, Missed, Revision, decode_revision, revision_hash
from tidegate.streams.schema import STREAMS

NEVER_MS = 10**12
WAIT_MS = 10_000
RULES = """
rules:
  - {name: often, when: payments > 2, points: 50, reason: "{payments} payments", status: live}
  - {name: risky_terminal, when: frauds > 0, points: 35, reason: "{frauds} frauds at the terminal", status: live}
  - {name: denied, when: is_denied, points: 10, reason: The merchant is on the list, status: live}
"""
SMALL = detector("small", RULES)


class Company:
    """A log, an engine and what revises it."""

    def __init__(self, folder: Path, *detectors: Detector) -> None:
        self.log, self.snapshots = open_log(folder), EmbeddedSnapshots(folder / "snapshots")
        self.log.create(REVISIONS, partitions=3)
        self.clock, self.detectors = HandClock(), detectors or (SMALL,)
        self.engine = LocalHost(self.log, self.snapshots, self.detectors, self.clock, snapshot_every_ms=NEVER_MS)
        self.restart()

    def restart(self, keep_every_ms: int = 1) -> None:
        """As after a kill: nothing is told to the one before."""
        self.host = RevisionHost(
            self.log, self.snapshots, self.detectors, self.clock, wait_ms=WAIT_MS, keep_every_ms=keep_every_ms
        )

    def decide(self, *entries: Entry) -> None:
        self.log.append(entries)
        while self.engine.step(0):
            pass

    def revise(self) -> None:
        revise(self.host)

    def records(self) -> list[Revision | Missed]:
        found = [decode_revision(record.value) for record in everything(self.log, REVISIONS)]
        return [each for each in found if each is not None]

    def revisions(self) -> list[Revision]:
        return [each for each in self.records() if isinstance(each, Revision)]

    def alerts(self) -> list[Alert]:
        return [msgspec.json.decode(record.value, type=Alert) for record in everything(self.log, ALERTS)]

    def final(self) -> dict[str, str]:
        """Each event's outcome as the last revision has it."""
        return {decision.event_id: decision.outcome for decision in decisions(self.log)} | {
            revision.event_id: revision.new_outcome for revision in self.revisions()
        }

    def in_order(self, detector: Detector = SMALL) -> dict[str, Decision]:
        """What one kernel decides that is given all in the order of its time."""
        places = {TopicPartition(stream, partition): 0 for stream in STREAMS for partition in range(3)}
        records = sorted(self.log.read(places, 10**9), key=time_of)
        made = Kernel(detector).decide(arrivals(records, schemas_of(detector.streams)).by_stream)
        return {decision.event_id: decision for decision in made.records()}


def time_of(record: Record) -> int:
    return msgspec.json.decode(record.value)["event_time"]


def denial(number: int, seconds: float, merchant: str = "m1", *, removed: bool = False) -> Entry:
    event = {"event_id": f"list-{number}", "event_time": START + int(seconds * 1e6), "list": "deny"}
    return entry("lists", {**event, "merchant_id": merchant, "removed": removed})


def payment(number: int, seconds: float, **fields: Any) -> Entry:
    return entry("transactions", transaction(number, event_time=START + int(seconds * 1e6), **fields))


def end(after_s: float) -> list[Entry]:
    """Payments of nobody else's card, long after: all before them is settled."""
    return [
        payment(1_000_000 + n, after_s + 3 * 3600 + n, pan=f"p{n}", customer_id="z", terminal_id=None)
        for n in range(40)
    ]


def test_a_payment_that_came_late_revises_those_after_it(tmp_path: Path) -> None:
    company = Company(tmp_path)
    company.decide(*(payment(n, n) for n in (0, 2, 3)), payment(4, 4, pan="pan_b"), payment(1, 1))
    company.decide(*end(4))
    company.revise()
    assert {d.event_id: d.outcome for d in decisions(company.log)}["tx-2"] == "approve"
    (revision,) = company.revisions()
    assert revision.event_id == "tx-2"
    assert (revision.old_outcome, revision.new_outcome, revision.number) == ("approve", "review", 1)
    assert (revision.old_score, revision.new_score) == (0, 50)
    assert (revision.fired, revision.ceased, revision.reasons) == (["often"], [], ["3 payments"])
    (cause,) = revision.causes
    assert (cause.stream, cause.event_id, cause.event_time) == ("transactions", "tx-1", START + 1_000_000)
    topic, partition, offset = cause.place.replace("@", "/").split("/")
    assert company.log.read({TopicPartition(topic, int(partition)): int(offset)}, 1)[0].id == "tx-1"
    first = next(d for d in decisions(company.log) if d.event_id == "tx-2")
    assert revision.decision_hash == first.hash
    assert revision.revised_hash == company.in_order()["tx-2"].hash
    assert revision.hash == revision_hash(revision)


def test_what_was_changed_in_a_revision_is_found(tmp_path: Path) -> None:
    company = Company(tmp_path)
    company.decide(*(payment(n, n) for n in (0, 2)), payment(3, 3, pan="pan_b"), payment(1, 1), *end(4))
    company.revise()
    (revision,) = company.revisions()
    (verdict,) = verify_revisions(company.log)
    assert (verdict.event_id, verdict.revision, verdict.holds) == ("tx-2", 1, True)
    assert not list(verify_revisions(company.log, {"tx-0"}))
    (cause,) = revision.causes
    elsewhere = msgspec.structs.replace(cause, event_id="tx-0")
    for number, changes in enumerate(
        ({"new_score": 51}, {"old_outcome": "decline"}, {"decision_hash": "0"}, {"causes": [elsewhere]}), start=1
    ):
        changed = msgspec.structs.replace(revision, **changes)
        if number > 1:
            changed = msgspec.structs.replace(changed, hash=revision_hash(changed))
        spoiled = Company(tmp_path / str(number))
        spoiled.decide(*(payment(n, n) for n in (0, 2)), payment(3, 3, pan="pan_b"), payment(1, 1), *end(4))
        spoiled.log.append([Entry(REVISIONS, "tx-2", msgspec.json.encode(changed), 0, "small:tx-2:1")])
        (verdict,) = verify_revisions(spoiled.log)
        assert verdict.holds is False, changes
        spoiled.log.close()


def test_a_revision_to_a_harder_outcome_is_an_alert_that_says_so(tmp_path: Path) -> None:
    company = Company(tmp_path)
    company.decide(*(payment(n, n) for n in (0, 2)), payment(3, 3, pan="pan_b"), payment(1, 1), *end(4))
    company.revise()
    (alert,) = company.alerts()
    assert (alert.event_id, alert.outcome, alert.revision, alert.revised_from) == ("tx-2", "review", 1, "approve")
    assert alert.pan == "pan_a"


def test_a_label_that_came_late_revises_and_is_named(tmp_path: Path) -> None:
    company = Company(tmp_path)
    company.decide(*(payment(n, n, pan=f"p{n}") for n in range(4)), denial(1, 3.2), payment(4, 4, pan="p4"))
    late = label(90, "tx-1", is_fraud=True) | {"event_time": START + 3_500_000}
    company.decide(entry("labels", late), *end(6))
    company.revise()
    found = company.revisions()
    assert [(r.event_id, r.old_outcome, r.new_outcome) for r in found] == [("tx-4", "approve", "review")]
    assert [cause.event_id for cause in found[0].causes] == ["label-90"]


def test_it_is_revised_again_when_more_comes(tmp_path: Path) -> None:
    """First what is not in order, then what comes a quarter of an hour later."""
    company = Company(tmp_path)
    company.decide(*(payment(n, n) for n in (0, 2)), payment(1, 1), payment(5, 30, pan="pan_b"))
    company.revise()
    company.decide(*(payment(n, 900 + n, pan=f"p{n}") for n in range(10)))
    company.revise()
    assert [(r.event_id, r.number, r.new_outcome) for r in company.revisions()] == [("tx-2", 1, "review")]
    company.decide(denial(1, 1.5), entry("labels", label(1, "tx-0", is_fraud=True)))
    company.decide(*end(1000))
    company.revise()
    second = next(revision for revision in company.revisions() if revision.number == 2)
    assert (second.event_id, second.number, second.old_outcome, second.new_outcome) == ("tx-2", 2, "review", "decline")
    assert {cause.event_id for cause in second.causes} >= {"list-1"}
    assert company.final() == {event: decision.outcome for event, decision in company.in_order().items()}


def test_what_comes_too_late_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.hosts.settled_states.SPANS_US", (1_000_000,))
    company = Company(tmp_path)
    for n in range(0, 400, 20):
        company.decide(payment(n, n))
        company.revise()
    company.decide(payment(1, 1))
    company.decide(*end(500))
    company.revise()
    (missed,) = [each for each in company.records() if isinstance(each, Missed)]
    assert missed.cause.event_id == "tx-1"
    assert missed.settled_until >= START + 360_000_000


def test_a_score_that_changes_alone_is_no_revision(tmp_path: Path) -> None:
    company = Company(tmp_path)
    company.decide(payment(0, 0), payment(2, 2), denial(1, 1), *end(4))
    company.revise()
    assert company.in_order()["tx-2"].score == 10
    assert not company.records()


def test_a_version_that_is_released_settles_what_came_before(tmp_path: Path) -> None:
    company = Company(tmp_path)
    company.decide(*(payment(n, n) for n in (0, 2)), payment(3, 3, pan="pan_b"))
    company.revise()
    company.decide(payment(1, 1))
    newer = detector("small", RULES.replace("points: 50", "points: 90"))
    release(company, newer, RULES.replace("points: 50", "points: 90"))
    company.decide(*(payment(n, 3600 + n, pan="pan_c") for n in (10, 12)), payment(14, 3615))
    company.decide(payment(11, 3611, pan="pan_c"))
    company.decide(*end(4000))
    company.revise()
    found = {revision.event_id: revision for revision in company.revisions()}
    assert (found["tx-2"].detector_version, found["tx-2"].new_outcome) == (SMALL.version, "review")
    assert (found["tx-12"].detector_version, found["tx-12"].new_outcome) == (newer.version, "decline")
    assert len(found) == 2


def test_the_newest_host_revises_and_the_one_before_ends(tmp_path: Path) -> None:
    company = Company(tmp_path)
    before = company.host
    company.restart()
    company.decide(*(payment(n, n) for n in (0, 2)), payment(3, 3, pan="pan_b"), payment(1, 1), *end(4))
    with pytest.raises(FencedError):
        revise(before)
    company.revise()
    assert len(company.revisions()) == 1


def revise(host: RevisionHost) -> None:
    while host.step():
        pass


def release(company: Company, newer: Detector, rules: str) -> None:
    made = Release(
        detector="small",
        version=newer.version,
        status="live",
        texts=texts(rules),
        by="anton",
        at_ms=company.clock.now_ms(),
    )
    company.log.append([Entry(DETECTORS, "small", msgspec.json.encode(made), made.at_ms)])


# Timelines

_DELAYS_S = st.one_of(st.just(0), st.integers(0, 8), st.integers(0, 40), st.integers(0, 1000))


@st.composite
def timelines(draw: st.DrawFn) -> list[tuple[list[Entry], str]]:
    """What comes, piece by piece, and what is done after each: entries out of order and late, some from a clock that is
    ahead.
    """
    count = draw(st.integers(5, 40))
    entries: list[Entry] = []
    for n in range(count):
        seconds = 15 * n - draw(_DELAYS_S) + (7200 if draw(st.integers(0, 30)) == 0 else 0)
        card, terminal = draw(st.integers(0, 2)), draw(st.integers(0, 1))
        match draw(st.integers(0, 5)):
            case 0:
                of = f"tx-{draw(st.integers(0, n))}"
                known = label(n, of, is_fraud=draw(st.booleans()))
                entries.append(entry("labels", known | {"event_time": START + seconds * 1_000_000}))
            case 1:
                entries.append(denial(n, seconds, f"m{draw(st.integers(0, 1))}", removed=draw(st.booleans())))
            case _:
                merchant = f"m{draw(st.integers(0, 1))}"
                entries.append(payment(n, seconds, pan=f"pan_{card}", terminal_id=f"t{terminal}", merchant_id=merchant))
    pieces: list[tuple[list[Entry], str]] = []
    while entries:
        size = draw(st.integers(1, 12))
        pieces.append((entries[:size], draw(st.sampled_from(["nothing", "step", "step", "all", "restart"]))))
        entries = entries[size:]
    return pieces


@settings(max_examples=25, deadline=None)
@given(timelines())
def test_in_the_end_all_is_as_if_it_had_come_in_order(
    tmp_path_factory: pytest.TempPathFactory, timeline: list[tuple[list[Entry], str]]
) -> None:
    company = Company(tmp_path_factory.mktemp("company"))
    steps: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "step": lambda: company.host.step(),  # noqa: PLW0108 - of the host that is there then
        "all": company.revise,
        "restart": company.restart,
    }
    for entries, what in timeline:
        company.decide(*entries)
        steps[what]()
    company.decide(*end(8000))
    company.revise()
    before = company.records()
    for _ in range(2):
        company.restart()
        company.revise()
    assert company.records() == before
    in_order, final = company.in_order(), company.final()
    settled = [event for event in in_order if not event.startswith("tx-10000")]
    assert {event: final[event] for event in settled} == {event: in_order[event].outcome for event in settled}
    assert all(verdict.holds for verdict in verify_revisions(company.log))
    numbers: dict[str, int] = {}
    outcomes = {decision.event_id: decision.outcome for decision in decisions(company.log)}
    for revision in company.revisions():
        assert revision.number == numbers.get(revision.event_id, 0) + 1
        assert revision.old_outcome == outcomes[revision.event_id] != revision.new_outcome
        assert revision.hash == revision_hash(revision)
        assert revision.causes
        numbers[revision.event_id], outcomes[revision.event_id] = revision.number, revision.new_outcome
    company.log.close()
