"""Where detectors are read from: a folder of texts each."""

from __future__ import annotations

from typing import Protocol


class Detectors(Protocol):
    def read(self, name: str) -> dict[str, str]:
        """The detector's texts by file name (`features.sql`, `rules.yaml`, ...). What is bytes (`model/model.onnx`) is
        a text as base64.

        Raises:
            NotFoundError: there is no such detector.
        """
        ...

    def names(self) -> list[str]: ...
