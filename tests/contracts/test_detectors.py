"""What every place that detectors are read from does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.adapters.embedded.detectors import EmbeddedDetectors
from tidegate.errors import NotFoundError
from tidegate.ports.detectors import Detectors


@pytest.fixture(params=["embedded"])
def detectors(tmp_path: Path) -> Detectors:
    for name in ("card", "cart"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "features.sql").write_text(f"SELECT 1 AS {name} FROM transactions", "utf-8")
        (tmp_path / name / "rules.yaml").write_text("rules: []", "utf-8")
    (tmp_path / "card" / "notes.ipynb").write_text("{}", "utf-8")
    (tmp_path / "not_a_detector").mkdir()
    return EmbeddedDetectors(tmp_path)


def test_its_names_are_sorted(detectors: Detectors) -> None:
    assert detectors.names() == ["card", "cart"]


def test_its_texts_come_by_file_name_and_notes_beside_them_are_left_alone(detectors: Detectors) -> None:
    assert detectors.read("card") == {"features.sql": "SELECT 1 AS card FROM transactions", "rules.yaml": "rules: []"}


@pytest.mark.parametrize("name", ["cards", "not_a_detector", "../card", ""])
def test_an_unknown_name_says_which_there_are(detectors: Detectors, name: str) -> None:
    with pytest.raises(NotFoundError, match="there are: card, cart"):
        detectors.read(name)
