"""docs/tutorial.md, followed to the letter."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import duckdb
from tests.e2e.running import ROOT, TIDEGATE

PAGE = (ROOT / "docs" / "tutorial.md").read_text("utf-8")


def _save_files(folder: Path) -> None:
    for name, text in re.findall(r"^```\w+ (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, "utf-8")


def _tidegate(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    words = [*TIDEGATE, *shlex.split(line)[1:]]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def _promised_rows() -> list[tuple[str, ...]]:
    lines = [line for line in PAGE.splitlines() if line.startswith("| p")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]


def test_its_commands_do_what_it_says(tmp_path: Path) -> None:
    _save_files(tmp_path)
    commands = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(commands) == 2
    for command in commands:
        done = _tidegate(tmp_path, command)
        assert done.returncode == 0, done.stderr
    columns = "event_id, amount, tiny_amounts_3m, rules, score, outcome"
    decided = duckdb.sql(f"SELECT {columns} FROM '{tmp_path}/decided.parquet' ORDER BY event_id").fetchall()
    assert [tuple(str(value).replace("'", "") for value in row) for row in decided] == _promised_rows()


def test_the_mistake_it_suggests_is_told_with_its_place(tmp_path: Path) -> None:
    _save_files(tmp_path)
    rules = tmp_path / "first" / "rules.yaml"
    rules.write_text(rules.read_text("utf-8").replace("amount > 500", "amont > 500"), "utf-8")
    done = _tidegate(tmp_path, "tidegate detector check first")
    assert done.returncode == 2
    assert re.search(r"rules\.yaml:3:\d+: .*amont", done.stderr), done.stderr
    assert "amount" in done.stderr
