"""Models: what gives a row of features a score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Model(Protocol):
    """A model that is loaded. Its answer to a row depends on the row alone, to the bit: not on the rows beside it."""

    @property
    def sha256(self) -> str:
        """Of the model's file, in hex: what the card must say."""
        ...

    @property
    def width(self) -> int:
        """How many features it takes."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its features, in order; empty if its file holds none."""
        ...

    def scores(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n], one score a row of float64[n, width]; NaN is a value that is missing.

        Raises:
            StateError: the model can't answer now. No row has a score.
        """
        ...

    def contributions(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n, width]: how much each feature moved each row's score, by Lundberg and Lee, "A unified approach to
        interpreting model predictions" (2017). Beside the score's average they add up to it, as it is before it becomes
        a probability. float64[n, 0] if the model can't tell.

        Raises:
            StateError: the model can't answer now.
        """
        ...


class Models(Protocol):
    def load(self, texts: Mapping[str, str]) -> Model:
        """The model of a detector with these texts (see port `detectors`): what its card, `model/card.yaml`, is about.

        Raises:
            NotFoundError: it has none.
            DamagedError: what is there is no model that can be run.
        """
        ...
