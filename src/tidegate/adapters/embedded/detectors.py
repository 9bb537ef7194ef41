"""Detectors as folders on the disk."""

from __future__ import annotations

from pathlib import Path

from tidegate.errors import NotFoundError

#: What makes a folder a detector.
_FEATURES = "features.sql"

#: Files that a detector is made of. Others (notes, notebooks) may lie beside them and change nothing.
_SUFFIXES = (".sql", ".yaml", ".txt")


class EmbeddedDetectors:
    """Reads `folder/<name>/*.sql|yaml|txt`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> dict[str, str]:
        folder = self._folder / name
        if not (folder / _FEATURES).is_file():
            known = ", ".join(self.names()) or "none"
            raise NotFoundError(
                f"detector {name!r}: wanted a folder with {_FEATURES} in {self._folder}, found none; there are: {known}"
            )
        return {
            path.relative_to(folder).as_posix(): path.read_text("utf-8")
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix in _SUFFIXES
        }

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self._folder.glob(f"*/{_FEATURES}"))
