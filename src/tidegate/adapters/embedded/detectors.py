"""Detectors as folders on the disk."""

from __future__ import annotations

import base64
from pathlib import Path

from tidegate.errors import NotFoundError

#: What makes a folder a detector.
_FEATURES = "features.sql"

#: Files that a detector is made of. Others (notes, notebooks) may lie beside them and change nothing.
_SUFFIXES = (".sql", ".yaml", ".txt")

#: Files of bytes, which become texts as base64.
_BYTES = ".onnx"


class EmbeddedDetectors:
    """Reads `folder/<name>/*.sql|yaml|txt|onnx`, also those in its folders."""

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
            path.relative_to(folder).as_posix(): (
                base64.b64encode(path.read_bytes()).decode() if path.suffix == _BYTES else path.read_text("utf-8")
            )
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix in (*_SUFFIXES, _BYTES)
        }

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self._folder.glob(f"*/{_FEATURES}"))
