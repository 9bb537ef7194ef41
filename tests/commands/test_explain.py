"""`tidegate explain`: a decision in words, from its record and asked again."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from tests.commands.conftest import Run
from tests.hosts.stream import entry, transaction
from tests.hosts.test_rollout import HandClock, texts

from tidegate.hosts.local import LocalHost
from tidegate.hosts.promotion import begin, first_detectors
from tidegate.settings import Settings
from tidegate.wiring import open_log, open_snapshots


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tidegate: Run) -> Run:
    """`tidegate explain` where one card pays six times."""
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path / "data"))
    settings = Settings()
    log = open_log(settings)
    begin(log, "small", {**texts(), "policy.yaml": texts()["policy.yaml"] + "explain: [amount_minor]\n"}, HandClock())
    log.append([entry("transactions", transaction(n)) for n in range(6)])
    host = LocalHost(log, open_snapshots(settings), first_detectors(log), HandClock(), snapshot_every_ms=10**12)
    while host.step(0):
        pass
    log.close()

    return partial(tidegate, "explain")


def test_a_decision_is_told_in_words(run: Run) -> None:
    code, out, _ = run("tx-5")
    first, *lines = out.splitlines()
    assert code == 0
    assert first.startswith("tx-5: review, score 50, by small ")
    assert lines == [
        "Reasons:",
        "  +50  6 payments (often)",
        "Nothing was found that would have led to another outcome.",
    ]
    assert run("tx-0")[1].splitlines()[1:] == ["No rule gave a reason."]


def test_what_would_have_been_is_asked(run: Run) -> None:
    code, out, _ = run("tx-5", "--had", "pan=another", "--had", "amount_minor=5")
    assert code == 0
    assert out.splitlines()[-3:] == [
        "Asked again over the log:",
        "  pan = another: approve, score 0",
        "  amount_minor = 0.05: review, score 50 (6 payments)",
    ]
    code, out, _ = run("tx-5", "--had", "pan=null", "--json")
    [told] = json.loads(out)
    assert told["decision"]["outcome"] == "review"
    assert told["what_if"] == [{"column": "pan", "value": None, "outcome": "approve", "score": 0, "reasons": []}]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nobody"], "the log holds no decision about event 'nobody'"),
        (["tx-5", "--had", "amount_minor"], "wanted COLUMN=VALUE"),
        (["tx-5", "--had", "unknown=1"], "no column 'unknown'"),
    ],
)
def test_what_is_used_wrong_is_said(run: Run, arguments: list[str], complaint: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert complaint in err
