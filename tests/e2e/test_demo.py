"""The demo as a user runs it: what it says of itself is true, and nobody's personal data lies about."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.e2e.running import ROOT, TIDEGATE

from tidegate.settings import Settings
from tidegate.simulator.company import Company
from tidegate.streams.schema import STREAMS
from tidegate.wiring import open_lake

SEED = 7
RATE = 200

#: A label follows its payment by some seconds: on a machine that does other things too, none comes within the demo.
pytestmark = pytest.mark.timed

#: The key ring is the one place that could open what is sealed.
KEY_RING = "keys"

#: Shorter values ("Li") would be found in any text by chance.
MIN_SCANNED_BYTES = 6


def _run(data: Path, seconds: int) -> tuple[dict[str, Any], str]:
    """One run of the demo: its summary, and all it printed."""
    options = ["--duration", f"{seconds}s", "--headless", "--json", "--rate", str(RATE), "--seed", str(SEED)]
    result = subprocess.run(
        [*TIDEGATE, "demo", *options, "--data", str(data)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), result.stdout + result.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def first(data: Path) -> tuple[dict[str, Any], str]:
    return _run(data, 20)


def test_it_tells_what_happened(first: tuple[dict[str, Any], str]) -> None:
    summary, _ = first
    assert summary["events"]["in"] == sum(summary["streams"].values())
    assert set(summary["streams"]) == set(STREAMS)
    assert all(count > 0 for count in summary["streams"].values()), summary["streams"]
    assert summary["decisions"] == summary["streams"]["transactions"] == sum(summary["outcomes"].values())
    acted_on = summary["outcomes"]["review"] + summary["outcomes"]["decline"]
    assert summary["alerts"] == acted_on + summary["revisions"]["alerts"] > 0
    assert summary["revisions"]["missed"] == 0
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"] <= summary["latency_ms"]["max"]


def test_only_what_was_spoiled_on_purpose_is_rejected(first: tuple[dict[str, Any], str]) -> None:
    summary, _ = first
    assert summary["events"]["rejected"] == summary["sources"]["spoiled"] > 0


def test_all_of_it_is_in_the_lake(first: tuple[dict[str, Any], str]) -> None:
    summary, _ = first
    rows = summary["lake_rows"]
    assert {stream: rows[f"raw.{stream}"] for stream in STREAMS} == summary["streams"]
    assert rows["raw.rejected"] == summary["events"]["rejected"]
    assert rows["curated.transactions"] == summary["streams"]["transactions"]
    assert rows["curated.decisions"] == summary["decisions"]


def test_no_file_and_no_line_holds_a_personal_value_in_clear(
    data: Path, first: tuple[dict[str, Any], str], tmp_path: Path
) -> None:
    _, printed = first
    values = {value for value in Company(SEED).personal_values() if len(value.encode()) >= MIN_SCANNED_BYTES}
    assert len(values) > 100
    (tmp_path / "values").write_text("\n".join(sorted(values)))
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "printed").write_text(printed)
    # Parquet is compressed: what is in it is read through the lake.
    lake = open_lake(Settings(data=data))
    for table in lake.row_counts():
        duckdb.from_arrow(lake.query(f"SELECT * FROM {table}")).write_csv(str(shown / table))
    assert len(list(shown.iterdir())) > 5
    (tmp_path / "spoiled").mkdir()
    (tmp_path / "spoiled" / "one").write_text(f"x{min(values)}x")
    assert _found(tmp_path / "values", tmp_path / "spoiled") == [str(tmp_path / "spoiled" / "one")]
    assert not _found(tmp_path / "values", data)
    assert not _found(tmp_path / "values", shown)


def _found(values: Path, folder: Path) -> list[str]:
    """The files that hold one of the values, the key ring's aside."""
    search = ["grep", "--recursive", "--text", "--fixed-strings", "--files-with-matches", f"--exclude-dir={KEY_RING}"]
    bytewise = {**os.environ, "LC_ALL": "C"}
    found = subprocess.run([*search, "--file", values, folder], env=bytewise, capture_output=True, check=False)
    assert found.returncode in (0, 1), found.stderr
    return found.stdout.decode().splitlines()


def test_a_second_run_goes_on_where_the_first_ended(data: Path, first: tuple[dict[str, Any], str]) -> None:
    before, _ = first
    after, _ = _run(data, 8)
    for table, rows in after["lake_rows"].items():
        added = {
            **{f"raw.{stream}": count for stream, count in after["streams"].items()},
            "raw.rejected": after["events"]["rejected"],
            "raw.revisions": after["revisions"]["revised"] + after["revisions"]["missed"],
            "curated.transactions": after["streams"]["transactions"],
            "curated.decisions": after["decisions"],
            "curated.revisions": after["revisions"]["revised"],
        }[table]
        assert rows == before["lake_rows"][table] + added, table
