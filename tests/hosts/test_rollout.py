"""Versions that come and go along the control stream: which decides, from where on, and with which windows."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Generator
from decimal import Decimal, getcontext
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.hosts.stream import FEATURES, POLICY, RULES, decisions, detector, entry, everything, open_log, stream
from tests.hosts.stream import transaction as event_of

from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.adapters.embedded.snapshots import EmbeddedSnapshots
from tidegate.errors import DetectorError, NotFoundError
from tidegate.hosts import forecast as watching
from tidegate.hosts import local
from tidegate.hosts.arrivals import arrivals, schemas_of
from tidegate.hosts.controls import controls
from tidegate.hosts.forecast import BLOCK_DECISIONS, MAX_CHANCE, limit
from tidegate.hosts.local import LocalHost
from tidegate.hosts.promotion import begin, first_detectors, release, standing_now, texts_of
from tidegate.hosts.verify import verify
from tidegate.kernel.decide import Kernel
from tidegate.kernel.detector import Detector
from tidegate.ports.lake import Lake
from tidegate.ports.log import Entry, Record
from tidegate.streams.control import DETECTORS, Demotion, Forecast, Release, Status
from tidegate.streams.decision import REJECTED, Decision

NEVER_MS = 10**12
STRICT = RULES.replace("> 3", "> 1")
LAX = RULES.replace("> 3", "> 10")
SMALL, NEWER = detector(), detector("small", LAX)


def texts(rules: str = RULES) -> dict[str, str]:
    return {"features.sql": FEATURES, "rules.yaml": rules, "policy.yaml": POLICY}


class HandClock:
    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def now_ms(self) -> int:
        self.ms += 1
        return self.ms


def no_lake() -> Lake:
    raise AssertionError("the log holds all there is")


class Company:
    def __init__(self, folder: Path) -> None:
        self.log: EmbeddedLog = open_log(folder)
        self.snapshots = EmbeddedSnapshots(folder / "snapshots")
        self.clock = HandClock()

    def release(
        self, rules: str, status: Status = "live", name: str = "small", patience_s: float = 0, **more: str
    ) -> Release:
        return release(
            self.log,
            self.snapshots,
            no_lake,
            name,
            texts(rules) | more,
            status=status,
            by="anton",
            clock=self.clock,
            patience_s=patience_s,
        )

    def append_release(self, rules: str, status: Status = "live", **changes: object) -> Release:
        """A record without windows that were filled for it."""
        made = Release(
            detector="small",
            version=detector("small", rules).version,
            status=status,
            texts=texts(rules),
            by="anton",
            at_ms=self.clock.now_ms(),
        )
        made = msgspec.structs.replace(made, **changes)
        self.log.append([Entry(DETECTORS, "small", msgspec.json.encode(made), made.at_ms)])
        return made

    def host(self, *detectors: Detector) -> LocalHost:
        return LocalHost(self.log, self.snapshots, detectors or [SMALL], self.clock, snapshot_every_ms=NEVER_MS)

    def decide(self, *detectors: Detector) -> None:
        host = self.host(*detectors)
        while host.step(0):
            pass

    def holds(self, *detectors: Detector) -> set[bool | None]:
        return {each.holds for each in verify(self.log, detectors or [SMALL], progress=lambda _done, _total: None)}


@pytest.fixture
def company(tmp_path: Path) -> Generator[Company]:
    company = Company(tmp_path / "company")
    yield company
    company.log.close()


def leave(host: LocalHost) -> None:
    stop = threading.Event()
    stop.set()
    host.run(stop)


def test_a_version_goes_live_at_its_place_with_the_windows_of_the_whole_log(company: Company) -> None:
    entries = stream(300, seed=3)
    company.log.append(entries[:150])
    company.release(LAX)
    company.log.append(entries[150:])
    company.decide()
    made = decisions(company.log)
    place = sum(entry.topic == "transactions" for entry in entries[:150])
    assert [decision.detector_version for decision in made] == [SMALL.version] * place + [NEWER.version] * (
        len(made) - place
    )
    assert [decision.inputs["detectors/0"] for decision in made] == [0] * place + [1] * (len(made) - place)
    records = sorted((r for t in SMALL.streams for r in everything(company.log, t)), key=lambda r: r.timestamp_ms)
    assert len(records) == len(entries)
    alone = {d.event_id: d.features for d in whole(company, NEWER)}
    assert all(decision.features == alone[decision.event_id] for decision in made[place:])
    assert company.holds() == {True}


def whole(company: Company, version: Detector) -> list[Decision]:
    """What one kernel decides that has the log to itself."""
    places = dict.fromkeys(company.log.ends(version.streams), 0)
    records = company.log.read(places, 10**6)
    return Kernel(version).decide(arrivals(records, schemas_of(version.streams)).by_stream).records()


@pytest.mark.parametrize("seed", range(4))
def test_neither_batches_nor_restarts_nor_snapshots_change_what_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    entries, at_once, piecemeal = stream(300, seed=seed), Company(tmp_path / "once"), Company(tmp_path / "piecemeal")
    acts: list[Callable[[Company], object]] = [
        lambda c: c.release(LAX),
        lambda c: c.append_release(STRICT),
        lambda c: c.append_release(STRICT, "shadow"),
        lambda c: c.append_release(RULES),
        lambda c: c.append_release(LAX, "retired"),
        lambda c: c.append_release("no rules"),
        lambda c: c.release(LAX, name="other"),
    ]
    monkeypatch.setattr(local, "_BATCH_RECORDS", chance.choice([3, 40]))
    while entries:
        cut = chance.randrange(1, 80)
        act = chance.choice(acts)
        for each in (at_once, piecemeal):
            each.log.append(entries[:cut])
            if "no rules" not in act.__code__.co_consts:
                act(each)
            else:
                each.append_release(LAX, texts=texts("no rules"))
        entries = entries[cut:]
        host = piecemeal.host()
        while chance.random() < 0.8 and host.step(0):
            pass
        if chance.random() < 0.5:
            leave(host)
        if chance.random() < 0.2:
            newest = sorted((tmp_path / "piecemeal" / "snapshots").glob("*.snapshot"))[-1:]
            for path in newest:
                path.write_bytes(b"damaged")
    piecemeal.decide()
    monkeypatch.setattr(local, "_BATCH_RECORDS", 10**6)
    at_once.decide()
    # A batch gives the decisions of one detector after those of another.
    for name in ("small", "other"):
        made, expected = ([d for d in decisions(each.log) if d.detector == name] for each in (piecemeal, at_once))
        assert made == expected
    assert len({decision.detector_version for decision in decisions(at_once.log)}) > 1
    assert piecemeal.holds() == {True}
    at_once.log.close()
    piecemeal.log.close()


def test_what_is_no_version_goes_to_rejected_and_what_decides_goes_on(company: Company) -> None:
    company.log.append([Entry(DETECTORS, "small", b"{", 1), Entry(DETECTORS, "small", b"\xff", 1)])
    company.append_release(LAX, texts=texts("rules: 1"))
    company.append_release(LAX, version="000000000000")
    company.log.append(stream(20, seed=1))
    company.decide()
    assert {decision.detector_version for decision in decisions(company.log)} == {SMALL.version}
    assert len(everything(company.log, REJECTED)) == 4
    assert company.holds() == {True}


def test_a_retired_detector_decides_nothing(company: Company) -> None:
    entries = stream(60, seed=2)
    company.log.append(entries[:30])
    company.append_release(RULES, "retired")
    company.log.append(entries[30:])
    company.decide()
    assert len(decisions(company.log)) == sum(entry.topic == "transactions" for entry in entries[:30])
    assert company.holds() == {True}


def test_a_decision_by_another_version_than_the_live_one_does_not_hold(company: Company) -> None:
    company.log.append(stream(20, seed=1))
    company.decide(NEWER)
    company.append_release(LAX)
    assert company.holds(SMALL) == {False}


def test_the_first_version_is_recorded_once_and_holds_from_the_start(company: Company) -> None:
    company.log.append(stream(20, seed=1))
    begin(company.log, "small", texts(), company.clock)
    begin(company.log, "small", texts(LAX), company.clock)
    [first] = first_detectors(company.log)
    assert (first.name, first.version) == ("small", SMALL.version)
    company.decide(first)
    assert len(decisions(company.log)) == 20
    assert company.holds(first) == {True}
    assert texts_of(company.log, "small", SMALL.version) == texts()
    with pytest.raises(NotFoundError, match=SMALL.version):
        texts_of(company.log, "small", "000000000000")
    with pytest.raises(DetectorError):
        company.release("rules: 1")


def test_a_shadow_that_goes_live_is_no_longer_a_shadow(company: Company) -> None:
    company.release(STRICT, "shadow")
    company.release(LAX)
    standing = standing_now(company.log)["small"]
    assert standing.live
    assert standing.shadow
    assert standing.live.version == NEWER.version
    company.release(STRICT)
    standing = standing_now(company.log)["small"]
    assert standing.live
    assert (standing.live.version, standing.shadow) == (detector("small", STRICT).version, None)


# --- rules that fire far beyond their forecast

EAGER = RULES.replace("payments > 3, points: 50", "payments > 3, points: 90")


def quiet_then_busy(quiet: int, busy: int) -> list[Entry]:
    """Payments of many cards, then of one card."""
    return [
        entry("transactions", event_of(n, pan=f"pan_{n if n < quiet else 'x'}", customer_id=f"customer_{n}"))
        for n in range(quiet + busy)
    ]


def test_a_rule_that_fires_far_beyond_its_forecast_leads_to_review_at_most(company: Company) -> None:
    entries = quiet_then_busy(1500, 500)
    company.log.append(entries[:1000])
    company.decide()
    made = company.release(EAGER)
    assert made.forecast == Forecast(decided=1000, fired={"often": 0, "risky_terminal": 0, "denied": 0})
    company.log.append(entries[1000:1700])
    first = company.host()
    first.step(0)
    leave(first)
    company.log.append(entries[1700:])
    company.decide()
    [demotion] = [control for _, control in controls(company.log) if isinstance(control, Demotion)]
    assert (demotion.detector, demotion.version, demotion.rule) == ("small", made.version, "often")
    assert demotion.fired == limit(3 * 1000 / 1001) + 1
    assert demotion.decided == 500 + 3 + demotion.fired
    assert demotion.forecast == pytest.approx(1000 / 1001, abs=0.001)
    fired = [decision for decision in decisions(company.log) if decision.rules["often"]]
    assert {(d.outcome, d.score, tuple(d.demoted)) for d in fired} == {("decline", 90, ()), ("review", 79, ("often",))}
    assert [decision.outcome for decision in fired] == sorted(decision.outcome for decision in fired)
    assert fired[-1].points == {"often": 90}
    assert company.holds() == {True}
    assert standing_now(company.log)["small"].demoted == {"often": demotion}
    # Released again, it begins anew.
    company.release(EAGER)
    company.log.append([entry("transactions", event_of(2000, pan="pan_x"))])
    company.decide()
    assert decisions(company.log)[-1].outcome == "decline"
    assert company.holds() == {True}


@pytest.mark.parametrize("batch", [37, 300, 5000])
def test_where_a_rule_crosses_does_not_depend_on_batches(batch: int) -> None:
    kernel, watch = Kernel(SMALL), watching.Watch(Forecast(decided=2000, fired={"often": 2}))
    columns = [event_of(n, pan=f"pan_{n if n % 1500 < 1200 else 'x'}") for n in range(4000)]
    found: list[watching.Excess] = []
    for start in range(0, len(columns), batch):
        entries = [entry("transactions", event) for event in columns[start : start + batch]]
        found += watch.count(kernel.decide(arrivals(records(entries), schemas_of(SMALL.streams)).by_stream))
        watch = watching.Watch(Forecast(decided=2000, fired={"often": 2}), watch.counts)
    assert found == [
        watching.Excess("often", limit(3 * 3000 / 2001) + 1, 204 + limit(3 * 3000 / 2001), 1.499),
        watching.Excess("often", limit(3 * 3000 / 2001) + 1, 704 + limit(3 * 3000 / 2001), 1.499),
    ]


def records(entries: list[Entry]) -> list[Record]:
    return [Record(e.topic, 0, n, e.key, e.value, e.timestamp_ms, e.id) for n, e in enumerate(entries)]


@pytest.mark.parametrize("mean", [0.0003, 0.5, 3.0, 40.0, 700.0])
def test_the_limit_is_the_least_beyond_which_chance_does_not_reach(mean: float) -> None:
    drawn = np.random.default_rng(1).poisson(mean, 10**6)
    most = limit(mean)
    assert drawn.max() <= most
    assert most < BLOCK_DECISIONS
    assert tail(mean, most + 1) < MAX_CHANCE <= tail(mean, most)
    assert limit(5000.0) == BLOCK_DECISIONS


def tail(mean: float, least: int) -> float:
    """P(X >= least), by the sum of what is below it, to 60 digits."""
    getcontext().prec = 60
    exact, term, below = Decimal(mean), (-Decimal(mean)).exp(), Decimal(0)
    for k in range(least):
        below += term
        term *= exact / (k + 1)
    return float(1 - below)
