"""The house stands: the walls between rooms, the size of modules, names, and what each room says of itself."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "tidegate"
MODULES = sorted(SOURCE.rglob("*.py"))
ROOMS = sorted(path for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__")

#: A module that grows past this holds two things.
MAX_MODULE_LINES = 400

TESTED = sorted(path for path in (ROOT / "tests").rglob("*.py"))


def _ids(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_the_walls_between_the_rooms_hold() -> None:
    result = subprocess.run([ROOT / ".venv/bin/lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("module", MODULES, ids=_ids(MODULES))
def test_a_module_says_what_it_is_and_stays_small(module: Path) -> None:
    text = module.read_text("utf-8")
    assert len(text.splitlines()) <= MAX_MODULE_LINES
    assert ast.get_docstring(ast.parse(text)), "a module begins by saying what it is"


@pytest.mark.parametrize("room", ROOMS, ids=_ids(ROOMS))
def test_a_room_says_what_it_may_touch_and_what_it_must_never_do(room: Path) -> None:
    doc = ast.get_docstring(ast.parse((room / "__init__.py").read_text("utf-8"))) or ""
    assert "May touch:" in doc
    assert "Never:" in doc


@pytest.mark.parametrize("module", MODULES, ids=_ids(MODULES))
def test_a_module_is_named_for_what_it_holds(module: Path) -> None:
    assert not re.search(r"util|helper|manager|common|misc|base", module.stem)


def test_an_adapter_is_named_like_its_port() -> None:
    ports = {path.stem for path in (SOURCE / "ports").glob("*.py")}
    for place in (path for path in (SOURCE / "adapters").iterdir() if path.is_dir()):
        for adapter in place.glob("*.py"):
            noun = adapter.stem.split("_")[0]
            assert noun in ports or adapter.stem.startswith("_"), f"{adapter}: no port is called {noun}"


def test_every_port_has_a_behaviour_suite() -> None:
    suites = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "contracts").glob("test_*.py")}
    ports = {path.stem for path in (SOURCE / "ports").glob("*.py")} - {"__init__"}
    assert ports <= suites, f"no tests/contracts/test_<port>.py for {ports - suites}"


@pytest.mark.parametrize("module", MODULES, ids=_ids(MODULES))
def test_nothing_is_left_for_later(module: Path) -> None:
    found = re.findall(r"TODO|FIXME|XXX|NotImplementedError|for now", module.read_text("utf-8"))
    assert not found


@pytest.mark.parametrize("module", TESTED, ids=_ids(TESTED))
def test_no_test_is_skipped_without_a_printed_reason(module: Path) -> None:
    tree = ast.parse(module.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("pytest.skip", "pytest.mark.skip")):
            said = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "reason")]
            assert any(isinstance(part, ast.Constant | ast.JoinedStr) for part in said), f"{module}:{node.lineno}"
