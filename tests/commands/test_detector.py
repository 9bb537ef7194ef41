"""`tidegate detector`: compare, release and look at versions, as a person who may."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.csv
import pytest
from tests.commands.conftest import Run
from tests.hosts.stream import FEATURES, POLICY, RULES, detector, entry, stream, transaction

from tidegate.adapters.embedded.clock import SystemClock
from tidegate.hosts.arrivals import arrivals, schemas_of
from tidegate.hosts.promotion import begin, standing_now
from tidegate.kernel.decide import Kernel
from tidegate.readers.lake import LakeReader
from tidegate.settings import Settings
from tidegate.wiring import open_audit, open_identity, open_lake, open_log, open_snapshots

LAX = RULES.replace("> 3", "> 10")
PASSWORD = "correct horse"
SMALL, NEWER = detector(), detector("small", LAX)


def write(folder: Path, rules: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("features.sql", FEATURES), ("rules.yaml", rules), ("policy.yaml", POLICY)):
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A company whose log holds a stream, and whose folder holds another version than the one that decides."""
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TIDEGATE_DETECTORS", str(tmp_path / "detectors"))
    monkeypatch.setenv("TIDEGATE_LIVE", '["small"]')
    settings = Settings()
    log = open_log(settings)
    # The door accepts in the order of the log.
    log.append([msgspec.structs.replace(each, timestamp_ms=n) for n, each in enumerate(stream(200, seed=7))])
    begin(log, "small", {"features.sql": FEATURES, "rules.yaml": RULES, "policy.yaml": POLICY}, SystemClock())
    log.close()
    write(tmp_path / "detectors" / "small", LAX)
    identity = open_identity(settings)
    identity.add_user("anton", PASSWORD, frozenset({"analyst"}))
    identity.add_user("fiona", PASSWORD, frozenset({"fraud_ops"}))
    return settings


@pytest.fixture
def run(settings: Settings, tidegate: Run) -> Run:
    """`tidegate detector`, for an analyst."""
    return partial(tidegate, "detector", password=PASSWORD)


def test_an_analyst_releases_a_version_and_it_is_told(run: Run, settings: Settings) -> None:
    assert run("promote", "small", "--to", "shadow", "--as", "anton")[:2] == (
        0,
        f"small {NEWER.version} is shadow from here on.\n",
    )
    assert run("list")[:2] == (0, f"small: live {SMALL.version}, shadow {NEWER.version}\n")
    code, out, _ = run("promote", "small", "--as", "anton", "--json")
    made = json.loads(out)
    assert (code, made["version"], made["status"], made["by"]) == (0, NEWER.version, "live", "anton")
    assert made["forecast"]["decided"] == 200
    # Back to the version before, which is in no folder any more; then nothing.
    assert run("promote", "small", "--version", SMALL.version, "--as", "anton")[0] == 0
    assert run("retire", "small", "--as", "anton")[0] == 0
    code, out, _ = run("history", "small")
    assert [line.split()[-4:-2] + line.split()[-2:] for line in out.splitlines()] == [
        [SMALL.version, "live,", "by", "settings"],
        [NEWER.version, "shadow,", "by", "anton"],
        [NEWER.version, "live,", "by", "anton"],
        [SMALL.version, "live,", "by", "anton"],
        [SMALL.version, "retired,", "by", "anton"],
    ]
    assert [entry["record"]["status"] for entry in json.loads(run("history", "small", "--json")[1])] == [
        *("live", "shadow", "live", "live", "retired"),
    ]
    assert run("list")[1] == "small: live none, shadow none\n"
    trail = [(e.who, e.what, e.on, e.outcome) for e in open_audit(settings).entries()]
    assert trail[0] == ("anton", "release shadow", f"small {NEWER.version}", "done")
    assert len(trail) == 4


def test_a_shadow_is_held_against_live(run: Run, settings: Settings) -> None:
    assert run("shadow", "small")[0] == 2
    assert run("promote", "small", "--to", "shadow", "--as", "anton")[0] == 0
    code, out, _ = run("shadow", "small", "--json")
    assert (code, json.loads(out)["events"]) == (0, 0)


def test_who_may_not_changes_nothing_and_is_told_of(run: Run, settings: Settings) -> None:
    assert run("promote", "small", "--as", "fiona")[0] == 2
    assert run("promote", "small", "--as", "anton", password="wrong")[0] == 2
    assert run("retire", "small", "--as", "nobody")[0] == 2
    live = standing_now(open_log(settings))["small"].live
    assert live
    assert live.version == SMALL.version
    assert [(e.who, e.outcome) for e in open_audit(settings).entries()] == [
        *(("fiona", "refused"), ("anton", "refused"), ("nobody", "refused")),
    ]


def test_what_is_wrong_is_not_released(run: Run, settings: Settings) -> None:
    folder = settings.detectors / "small"
    assert run("promote", "other", "--as", "anton")[0] == 2
    assert run("promote", "small", "--version", "000000000000", "--as", "anton")[0] == 2
    assert run("retire", "small", "--version", NEWER.version, "--as", "anton")[0] == 2
    assert run("history", "other")[0] == 2
    (folder / "examples.yaml").write_text(
        "kinds: {sale: {}}\nexamples:\n  - {name: one, events: "
        "[{kind: sale, customer_id: c, amount_minor: 1, currency: EUR, transaction_type: purchase, channel: pos, "
        "card_present: true, authorisation: approved, expect: {rules: [often], outcome: decline}}]}\n"
    )
    code, _, err = run("promote", "small", "--as", "anton")
    assert (code, "examples" in err) == (1, True), err
    (folder / "rules.yaml").write_text("rules: 1")
    code, _, err = run("promote", "small", "--as", "anton")
    assert (code, "rules.yaml:1" in err) == (2, True)


def test_points_that_reach_no_outcome_are_found(run: Run, settings: Settings) -> None:
    assert run("check", str(settings.detectors / "small"))[0] == 0
    folder = write(settings.detectors / "small", RULES.replace("points: 50", "points: 14"))
    code, out, _ = run("check", str(folder))
    assert (code, "review from 40 points on, and its live rules add 38 at most" in out) == (1, True)


def test_a_diff_names_the_decisions_that_change(run: Run, settings: Settings, tmp_path: Path) -> None:
    older = write(tmp_path / "older" / "small", RULES)
    code, out, _ = run("diff", str(older), str(settings.detectors / "small"), "--on", "log", "--json")
    found = json.loads(out)
    assert (code, found["events"]) == (1, 200)
    assert found["changed"] == sum(n for pair, n in found["outcomes"].items() if len(set(pair.split(" to "))) == 2) > 0
    often = found["rules"]["often"]
    assert often["lost"] == often["before"] - often["after"] > 0
    assert often["gained"] == 0
    assert found["examples"][0]["lost"] == ["often"]
    assert found["examples"][0]["scores"] in ([50, 0], [100, 50])
    assert len(found["examples"]) == min(20, found["changed"])
    # By version, and nothing that changes.
    code, out, _ = run("diff", "small@live", str(older), "--on", "log")
    assert (code, out.splitlines()[-1].startswith("200 events: 0 are decided otherwise")) == (0, True)
    assert run("diff", "small@shadow", "small@live", "--on", "log")[0] == 2
    assert run("diff", f"small@{NEWER.version}", "small@live", "--on", "log")[0] == 2
    assert run("diff", str(older), "small@live", "--on", "log", "--mapping", "x")[0] == 2
    assert run("diff", str(older), "small@live", "--on", "x.csv")[0] == 2


def test_a_diff_over_a_file_and_over_the_lake_is_that_over_the_log(
    run: Run, settings: Settings, tmp_path: Path
) -> None:
    folders = [str(write(tmp_path / "older" / "small", RULES)), str(settings.detectors / "small")]
    log = open_log(settings)
    reader = LakeReader(log, open_lake(settings), SystemClock(), commit_every_ms=0)
    while reader.step(0):
        pass
    of_log, of_lake = (json.loads(run("diff", *folders, "--on", on, "--json")[1]) for on in ("log", "lake"))
    assert of_lake == of_log
    # A file has no labels that came late, so payments alone are compared.
    events = [transaction(n, pan=f"pan_{n % 4}") for n in range(100)]
    pyarrow.csv.write_csv(pa.Table.from_pylist(events), tmp_path / "payments.csv")
    fields = ["event_id", "transaction_type", "channel", "card_present", "customer_id", "pan", "merchant_id"]
    fields += ["terminal_id", "amount_minor", "currency", "authorisation"]
    (tmp_path / "mapping.yaml").write_text(
        "stream: transactions\nfields:\n  event_time: make_timestamp(event_time)\n"
        + "".join(f"  {name}: {name}\n" for name in fields)
    )
    arguments = ("--on", str(tmp_path / "payments.csv"), "--mapping", str(tmp_path / "mapping.yaml"))
    code, out, err = run("diff", *folders, *arguments, "--json")
    assert code == 1, err
    assert json.loads(out)["outcomes"] == {"approve to approve": 12, "review to approve": 28, "review to review": 60}


def test_windows_are_filled_from_the_lake_beyond_what_the_log_holds(run: Run, settings: Settings) -> None:
    log = open_log(settings)
    reader = LakeReader(log, open_lake(settings), SystemClock(), commit_every_ms=0)
    while reader.step(0):
        pass
    places = dict.fromkeys(log.ends(NEWER.streams), 0)
    records = log.read(places, 10**6)
    log.expire(SystemClock().now_ms())
    assert log.read(places, 10**6) == []
    log.append([entry("transactions", transaction(200, pan="pan_3", terminal_id="t1"))])
    assert run("promote", "small", "--as", "anton")[0] == 0
    live, snapshot = standing_now(log)["small"].live, open_snapshots(settings).newest("small-next")
    assert live
    assert live.forecast
    assert live.forecast.decided == 201
    assert snapshot
    filled, whole = Kernel(NEWER), Kernel(NEWER)
    filled.restore(snapshot.arrays)
    schemas = schemas_of(NEWER.streams)
    whole.decide(arrivals(records, schemas).by_stream)
    # No engine has taken yet what the log holds.
    filled.decide(arrivals(log.read(places, 1), schemas).by_stream)
    whole.decide(arrivals(log.read(places, 1), schemas).by_stream)
    log.append(
        [entry("transactions", transaction(201 + n, pan=f"pan_{n}", terminal_id=f"t{n % 5}")) for n in range(20)]
    )
    last = arrivals(log.read(places, 100)[1:], schemas).by_stream
    assert filled.decide(last).records() == whole.decide(last).records()
