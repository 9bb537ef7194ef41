"""`tidegate rejected`: by cause, opened by who may, and taken once what was wrong is mended."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tests.commands.test_files import Run, run  # noqa: F401  # a fixture
from tests.intake.files import MAPPING, encoded, packed, payments

from tidegate.settings import Settings
from tidegate.wiring import open_audit, open_identity

PASSWORD = "correct horse"


@pytest.fixture
def settings(run: Run, tmp_path: Path) -> Settings:  # noqa: F811
    """A company that a file was sent to whose currency nobody takes, and one row of which is spoiled."""
    wrong = packed(tmp_path, "wrong.yaml", MAPPING.replace(b"'EUR'", b"'EURO'"))
    rows = payments(4)
    rows[2]["customer"] = "=cmd|' /C calc'!A0"
    sales = packed(tmp_path, "sales.csv", encoded(rows, "csv") + b"one cell\n")
    assert run("ingest", str(sales), "--stream", "transactions", "--mapping", str(wrong))[0] == 0
    settings = Settings()
    identity = open_identity(settings)
    identity.add_user("fiona", PASSWORD, frozenset({"fraud_ops"}))
    identity.add_user("ada", PASSWORD, frozenset({"admin"}))
    return settings


def test_what_was_rejected_is_mended_and_taken_once(run: Run, settings: Settings, tmp_path: Path) -> None:  # noqa: F811
    found = json.loads(run("rejected", "list", "--json")[1])
    assert [(cause["step"], cause["events"], cause["files"]) for cause in found] == [
        *(("validate", 4, ["sales.csv"]), ("decode", 1, ["sales.csv"])),
    ]
    assert "wanted an ISO # code" in found[0]["reason"]
    mended = ("rejected", "retry", "--mapping", str(tmp_path / "sales.yaml"), "--as", "fiona", "--json")
    code, out, err = run(*mended, password=PASSWORD)
    assert (code, json.loads(out or "{}")) == (1, {"taken": 4, "refused": 1, "left": 0}), err
    assert run("rejected", "list", "--stream", "transactions")[1].endswith(
        "1 events were rejected and not taken since.\n"
    )
    assert json.loads(run(*mended, password=PASSWORD)[1]) == {"taken": 0, "refused": 1, "left": 0}
    again = run("ingest", str(tmp_path / "sales.csv"), "--stream", "transactions")
    assert "sales.csv: known" in again[1]


def test_originals_are_shown_to_who_may_and_it_is_told(run: Run, settings: Settings, tmp_path: Path) -> None:  # noqa: F811
    event = json.loads(run("rejected", "list", "--json")[1])[0]["example"]
    code, out, _ = run("rejected", "show", event, "--as", "fiona", password=PASSWORD)
    assert (code, json.loads(out.splitlines()[1])["card"]) == (0, "4111111111111111")
    assert run("rejected", "show", event, "--as", "ada", password=PASSWORD)[0] == 2
    assert run("rejected", "show", "9-9", "--as", "fiona", password=PASSWORD)[0] == 2
    assert run("rejected", "retry", "--as", "ada", password=PASSWORD)[0] == 2
    for name in ("out.csv", "out.jsonl"):
        told = ("rejected", "export", str(tmp_path / name), "--cause", "ISO", "--as", "fiona")
        assert run(*told, password=PASSWORD)[0] == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["original"] for row in rows] == [line["original"] for line in lines]
    assert [row["row"] for row in rows] == ["1", "2", "3", "4"]
    trail = [(entry.who, entry.what, entry.outcome) for entry in open_audit(settings).entries()]
    assert trail == [
        *(("fiona", "reveal rejected", "done"), ("ada", "reveal rejected", "refused")),
        *(("fiona", "reveal rejected", "done"), ("ada", "retry rejected", "refused")),
        *(("fiona", "export rejected", "done"), ("fiona", "export rejected", "done")),
    ]


def test_a_cell_that_is_a_formula_is_none_in_a_spreadsheet() -> None:
    from tidegate.commands.rejected import _cell

    assert [_cell(value) for value in ("=1+1", "@x", "a=1", None, -1)] == ["'=1+1", "'@x", "a=1", None, -1]
