"""Proof: what was decided holds, and what was changed since is found and named."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.hosts.stream import FEATURES, PARTITIONS, POLICY, RULES, decisions, detector, entry, open_log, stream
from tests.hosts.stream import transaction as event_of

from tidegate import cli
from tidegate.adapters.embedded import log as embedded
from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.adapters.embedded.snapshots import EmbeddedSnapshots
from tidegate.errors import NotFoundError, UsageError
from tidegate.hosts import arrivals as reading
from tidegate.hosts import local
from tidegate.hosts import verify as module
from tidegate.hosts.differences import Difference
from tidegate.hosts.local import LocalHost
from tidegate.hosts.promotion import begin
from tidegate.hosts.verify import Verdict, verify
from tidegate.kernel.detector import Detector
from tidegate.ports.log import Entry
from tidegate.streams.decision import DECISIONS, Decision, decision_hash

SMALL = detector()
OTHER = detector("other", RULES.replace("> 3", "> 1"))
NEWER = detector("small", RULES.replace("> 3", "> 10"))
NEVER_MS = 10**12
COUNT = 400


class HandClock:
    def now_ms(self) -> int:
        return 1_700_000_000_000


class Company:
    """A log in a folder, an engine that decides on it, and someone who reaches into the file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log: EmbeddedLog = open_log(folder)

    def host(self, *detectors: Detector) -> LocalHost:
        snapshots = EmbeddedSnapshots(self.folder / "snapshots")
        return LocalHost(self.log, snapshots, detectors or [SMALL], HandClock(), snapshot_every_ms=NEVER_MS)

    def decide(self, *detectors: Detector) -> None:
        host = self.host(*detectors)
        while host.step(0):
            pass

    def verify(self, *detectors: Detector, **chosen: Any) -> list[Verdict]:
        return list(verify(self.log, detectors or [SMALL], progress=lambda _done, _total: None, **chosen))

    def execute(self, statement: str, *values: object) -> None:
        with sqlite3.connect(self.folder / "log.sqlite") as connection:
            assert connection.execute(statement, values).rowcount > 0
        connection.close()

    def change(self, topic: str, record_id: str, how: Callable[[dict[str, Any]], object]) -> None:
        """Change a record behind the log's back."""
        place = "id = ? AND topic_id = (SELECT topic_id FROM topic WHERE name = ?)"
        with sqlite3.connect(self.folder / "log.sqlite") as connection:
            (value,) = connection.execute(f"SELECT value FROM record WHERE {place}", (record_id, topic)).fetchone()
        connection.close()
        content = json.loads(value)
        how(content)
        self.execute(f"UPDATE record SET value = ? WHERE {place}", json.dumps(content).encode(), record_id, topic)


@pytest.fixture
def company(tmp_path: Path) -> Generator[Company]:
    company = Company(tmp_path / "company")
    yield company
    company.log.close()


@pytest.fixture
def decided(company: Company) -> Company:
    company.log.append(stream(COUNT, seed=7))
    company.decide()
    return company


def not_held(verdicts: list[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if not verdict.holds]


def rehash(content: dict[str, Any]) -> None:
    """As one would who knows how the hash is made."""
    content["hash"] = decision_hash(msgspec.convert(content, Decision))


# --- what holds


def test_all_holds_after_an_ordinary_run_with_late_events_and_labels(decided: Company) -> None:
    verdicts = decided.verify()
    made = decisions(decided.log)
    assert any(decision.late or decision.features["frauds"] for decision in made)
    assert [(v.event_id, v.stored_hash, v.recomputed_hash) for v in verdicts] == [
        (decision.event_id, decision.hash, decision.hash) for decision in made
    ]
    assert Counter((v.holds, v.detector, v.differences) for v in verdicts) == {(True, "small", ()): COUNT}


@pytest.mark.parametrize("batch", [5, 70, 4096])
def test_all_holds_after_restarts_with_and_without_snapshots(
    company: Company, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    chance = random.Random(batch)
    entries = stream(COUNT, seed=7)
    while entries:
        cut = chance.randrange(1, 60)
        company.log.append(entries[:cut])
        entries = entries[cut:]
        host = company.host(SMALL, OTHER)
        with monkeypatch.context() as patched:
            patched.setattr(local, "_BATCH_RECORDS", chance.choice([3, 50]))
            while host.step(0) and chance.random() < 0.9:
                pass
        if chance.random() < 0.5:
            stop = threading.Event()
            stop.set()
            host.run(stop)
    company.decide(SMALL, OTHER)
    monkeypatch.setattr(reading, "BATCH_RECORDS", batch)
    monkeypatch.setattr(embedded, "_HISTORY_STEP", batch)
    verdicts = company.verify(SMALL, OTHER)
    assert Counter((v.detector, v.holds) for v in verdicts) == {("small", True): COUNT, ("other", True): COUNT}
    monkeypatch.setattr(module, "_AHEAD", 5)
    assert company.verify(SMALL, OTHER) == verdicts
    assert len({(v.detector, v.event_id) for v in verdicts}) == 2 * COUNT


def test_one_event_is_proved_for_each_detector(company: Company) -> None:
    company.log.append(stream(50, seed=1))
    company.decide(SMALL, OTHER)
    verdicts = company.verify(SMALL, OTHER, event_ids={"tx-30"})
    assert [(v.event_id, v.detector, v.holds) for v in verdicts] == [("tx-30", "small", True), ("tx-30", "other", True)]


@pytest.mark.parametrize("sample", [1, 3, 40, COUNT - 1, COUNT, COUNT + 1])
def test_a_sample_is_spread_evenly_and_is_the_same_again(decided: Company, sample: int) -> None:
    verdicts = decided.verify(sample=sample)
    assert verdicts == decided.verify(sample=sample)
    at = [int(verdict.event_id.removeprefix("tx-")) for verdict in verdicts]
    assert len(at) == min(sample, COUNT)
    assert all(verdict.holds for verdict in verdicts)
    gaps = {second - first for first, second in itertools.pairwise(at)}
    assert all(abs(gap - COUNT / len(at)) <= 1 for gap in gaps)


def test_events_that_come_while_it_runs_are_left_out(decided: Company) -> None:
    checking = verify(decided.log, [SMALL], progress=lambda _done, _total: None)
    first = next(checking)
    decided.log.append([entry("transactions", event_of(COUNT + n)) for n in range(10)])
    decided.decide()
    assert [verdict.holds for verdict in (first, *checking)] == [True] * COUNT


def test_progress_tells_of_records_read(decided: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BATCH_RECORDS", 100)
    monkeypatch.setattr(embedded, "_HISTORY_STEP", 100)
    seen: list[tuple[int, int]] = []
    list(verify(decided.log, [SMALL], progress=lambda done, total: seen.append((done, total))))
    records = sum(decided.log.ends(SMALL.streams).values())
    assert seen[:2] == [(100, records), (200, records)]
    assert seen[-1] == (records, records)


# --- what does not


def test_a_changed_record_is_found_and_what_was_changed_is_named(decided: Company) -> None:
    was = next(decision for decision in decisions(decided.log) if decision.event_id == "tx-200")

    def change(content: dict[str, Any]) -> None:
        content["score"] = 99
        content["features"]["payments"] = float(was.features["payments"] or 0)
        content["rules"]["made_up"] = True

    decided.change(DECISIONS, "small:tx-200", change)
    [verdict] = not_held(decided.verify())
    assert (verdict.event_id, verdict.holds) == ("tx-200", False)
    assert "changed after it was written" in verdict.says
    assert verdict.stored_hash == verdict.recomputed_hash == was.hash
    assert verdict.differences == (
        Difference("features.payments", float(was.features["payments"] or 0), was.features["payments"]),
        Difference("rules.made_up", stored=True),
        Difference("score", 99, was.score),
    )


def test_a_record_changed_together_with_its_hash_is_found(decided: Company) -> None:
    def change(content: dict[str, Any]) -> None:
        content["outcome"] = "decline"
        content["score"] = 100
        rehash(content)

    decided.change(DECISIONS, "small:tx-1", change)
    [verdict] = not_held(decided.verify(event_ids={"tx-1", "tx-2"}))
    assert (verdict.event_id, verdict.holds) == ("tx-1", False)
    assert verdict.stored_hash != verdict.recomputed_hash
    assert [d.name for d in verdict.differences] == ["score", "outcome"]


def test_a_changed_place_in_the_log_is_found(decided: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    decided.change(DECISIONS, "small:tx-7", lambda content: content["inputs"].update({"labels/0": 77}))
    [verdict] = not_held(decided.verify())
    assert (verdict.event_id, verdict.holds) == ("tx-7", False)
    assert [(d.name, d.stored) for d in verdict.differences] == [("inputs.labels/0", 77)]
    monkeypatch.setattr(reading, "BATCH_RECORDS", 10)
    monkeypatch.setattr(embedded, "_HISTORY_STEP", 10)
    assert not_held(decided.verify()) == [verdict]


def test_a_changed_transaction_is_found(decided: Company) -> None:
    decided.change("transactions", "tx-100", lambda content: content.update(amount_minor=content["amount_minor"] + 1))
    wrong = {verdict.event_id: verdict for verdict in not_held(decided.verify())}
    assert {d.name for d in wrong["tx-100"].differences} == {"features.amount", "features.spent"}
    assert "the log does not give this decision" in wrong["tx-100"].says
    # Those that counted it name what they counted; nothing before it is touched.
    assert len(wrong) > 1
    assert all(
        d.name == "features.spent" for event_id, v in wrong.items() if event_id != "tx-100" for d in v.differences
    )
    assert all(int(event_id.removeprefix("tx-")) >= 100 for event_id in wrong)


def test_a_changed_label_is_found(decided: Company) -> None:
    # Every label says the contrary.
    with sqlite3.connect(decided.folder / "log.sqlite") as connection:
        ids = connection.execute("SELECT id FROM record WHERE id LIKE 'label-%'").fetchall()
    connection.close()
    for (label_id,) in ids:
        decided.change("labels", label_id, lambda content: content.update(is_fraud=not content["is_fraud"]))
    names = {d.name.partition(":")[0] for verdict in not_held(decided.verify()) for d in verdict.differences}
    assert "features.frauds" in names
    assert "features.payments" not in names


@pytest.mark.parametrize("batch", [10, 4096])
def test_a_decision_whose_event_is_gone_is_found(decided: Company, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    ends = decided.log.ends(["transactions"])
    decided.execute("DELETE FROM record WHERE id IN ('tx-150', 'tx-399')")
    monkeypatch.setattr(reading, "BATCH_RECORDS", batch)
    monkeypatch.setattr(embedded, "_HISTORY_STEP", batch)
    found = decided.verify()
    assert decided.log.ends(["transactions"]) == ends
    verdicts = {verdict.event_id: verdict for verdict in found}
    assert len(verdicts) == len(found) == COUNT
    assert all(verdicts[f"tx-{n}"].holds for n in range(150))
    without = [v.event_id for v in found if v.says == "the log holds no such event where the record says"]
    assert without == ["tx-150", "tx-399"]
    assert not any(verdicts[event_id].holds for event_id in without)
    assert decided.verify(event_ids={"tx-399"}) == [verdicts["tx-399"]]


def test_an_event_made_unreadable_is_found(decided: Company) -> None:
    decided.execute("UPDATE record SET value = ? WHERE id = 'tx-399'", b"\xff{")
    [verdict] = not_held(decided.verify())
    assert (verdict.event_id, verdict.holds) == ("tx-399", False)


def test_what_is_no_decision_or_another_events_is_found(decided: Company) -> None:
    decided.execute("UPDATE record SET value = ? WHERE id = 'small:tx-5'", b"[]")
    decided.execute(
        "UPDATE record SET value = (SELECT value FROM record WHERE id = 'small:tx-8') WHERE id = 'small:tx-6'"
    )
    decided.log.append([Entry(DECISIONS, "tx-0", b"{}", 1, "small:")])
    wrong = not_held(decided.verify())
    assert [(v.event_id, v.holds) for v in wrong] == [("tx-5", False), ("tx-6", False), ("tx-0", False)]
    assert "tx-8" in wrong[1].says


# --- what can't be told


def test_an_unknown_event_is_said_to_be_unknown(decided: Company) -> None:
    with pytest.raises(NotFoundError, match="nobody"):
        decided.verify(event_ids={"tx-1", "nobody"})


def test_a_log_without_decisions_is_said_to_have_none(company: Company) -> None:
    for chosen in ({}, {"sample": 3}):
        with pytest.raises(NotFoundError, match="no decision"):
            company.verify(**chosen)
    with pytest.raises(UsageError, match="at least 1"):
        company.verify(sample=0)


def test_another_version_is_not_called_wrong(company: Company) -> None:
    entries = stream(100, seed=3)
    company.log.append(entries[:60])
    company.decide(SMALL)
    older = len(decisions(company.log))
    company.log.append(entries[60:])
    company.decide(NEWER)
    verdicts = company.verify(NEWER)
    assert [v.holds for v in verdicts] == sorted([None] * older + [True] * (100 - older), key=bool)
    assert SMALL.version in verdicts[0].says
    assert NEWER.version in verdicts[0].says
    assert Counter(v.holds for v in company.verify(SMALL)) == {True: older, None: 100 - older}
    # A record whose content does not give its hash is wrong in any version.
    company.change(DECISIONS, "small:tx-1", lambda content: content.update(score=1))
    assert [v.event_id for v in company.verify(NEWER) if v.holds is False] == ["tx-1"]


def test_a_detector_that_is_not_at_hand_is_not_called_wrong(company: Company) -> None:
    company.log.append(stream(20, seed=3))
    company.decide(SMALL, OTHER)
    verdicts = company.verify(SMALL)
    assert Counter((v.detector, v.holds) for v in verdicts) == {("small", True): 20, ("other", None): 20}
    assert all("'other' is not at hand" in v.says for v in verdicts if v.holds is None)


def expiring(folder: Path) -> Company:
    folder.mkdir()
    log = EmbeddedLog(folder / "log.sqlite")
    for topic in ("transactions", "labels"):
        log.create(topic, partitions=PARTITIONS, retention_ms=1)
    log.close()
    return Company(folder)


def expire(company: Company, before: int) -> None:
    """Let go all transactions and labels before second `before` of the stream."""
    company.log.consumer("engine.snapshots", ["transactions", "labels"]).close()
    for group in ("engine", "engine.snapshots"):
        consumer = company.log.consumer(group, ["transactions", "labels"])
        consumer.seek(company.log.ends(["transactions", "labels"]))
        consumer.commit()
        consumer.close()
    assert company.log.expire(entry("transactions", event_of(before)).timestamp_ms + 1)


def test_what_retention_has_removed_is_not_called_wrong(tmp_path: Path) -> None:
    company = expiring(tmp_path / "short")
    # Labels count for a day, which is more than there is.
    company.log.append([entry for entry in stream(4000, seed=5) if entry.topic == "transactions"])
    company.decide()
    expire(company, 1000)
    verdicts = {v.event_id: v for v in company.verify()}
    assert Counter(v.holds for v in verdicts.values()).keys() == {True, None}
    assert all("retention" in v.says for v in verdicts.values() if v.holds is None)
    assert verdicts["tx-10"].holds is None
    assert verdicts["tx-1010"].holds is None
    # What is left gives the same once it fills the windows.
    assert all(verdicts[f"tx-{n}"].holds for n in range(2000, 4000))
    company.change(DECISIONS, "small:tx-10", lambda content: content.update(score=1))
    assert company.verify(event_ids={"tx-10"})[0].holds is False
    company.log.close()


def test_a_log_that_expires_meanwhile_calls_nothing_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BATCH_RECORDS", 100)
    monkeypatch.setattr(embedded, "_HISTORY_STEP", 100)
    company = expiring(tmp_path / "short")
    company.log.append(stream(1000, seed=5))
    company.decide()
    checking = verify(company.log, [SMALL], progress=lambda _done, _total: None)
    verdicts = [next(checking)]
    expire(company, 700)
    verdicts += checking
    assert len(verdicts) == 1000
    assert Counter(v.holds for v in verdicts).keys() == {True, None}
    company.log.close()


# --- the command


@pytest.fixture
def command(
    decided: Company, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`tidegate verify` over the decided log: exit code, what it says, what it complains of."""
    begin(decided.log, "small", {"features.sql": FEATURES, "rules.yaml": RULES, "policy.yaml": POLICY}, HandClock())

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tidegate", "verify", *arguments, "--data", str(decided.folder)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def test_the_command_proves(command: Callable[..., tuple[int, str, str]], decided: Company) -> None:
    code, out, _ = command("tx-3", "--json")
    [verdict] = json.loads(out)["verdicts"]
    assert (code, verdict["holds"], verdict["stored_hash"]) == (0, True, verdict["recomputed_hash"])
    code, out, _ = command("--all", "--sample", "10")
    assert (code, out) == (0, "10 decisions: 10 hold, 0 do not, 0 cannot be told.\n")
    code, _, err = command("nobody")
    assert (code, "'nobody'" in err) == (2, True)
    code, _, err = command()
    assert (code, "--all" in err) == (2, True)
    decided.change(DECISIONS, "small:tx-3", lambda content: content.update(score=77))
    code, out, _ = command("--all")
    assert code == 1
    assert "tx-3" in out
    assert "score: stored 77, comes out as " in out
    assert out.endswith(f"{COUNT} decisions: {COUNT - 1} hold, 1 do not, 0 cannot be told.\n")
    code, out, _ = command("--all", "--json")
    found = json.loads(out)
    assert (code, found["decisions"], found["hold"], found["wrong"]) == (1, COUNT, COUNT - 1, 1)
    assert [v["event_id"] for v in found["verdicts"]] == ["tx-3"]


def test_the_command_does_not_claim_what_it_could_not_check(
    command: Callable[..., tuple[int, str, str]], decided: Company
) -> None:
    decided.execute("DELETE FROM record WHERE id LIKE 'small:%:live:%'")
    code, out, _ = command("--all")
    assert code == 2
    assert f"{COUNT} of them: cannot be told: detector 'small' is not at hand" in out
