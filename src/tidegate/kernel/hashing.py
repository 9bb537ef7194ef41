"""One 128-bit hash stands for a value: of a key that rows are gathered by, of an event id."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def hash_column(values: pa.Array) -> np.ndarray:
    """uint64[n, 2]: the hash of each value."""
    raise NotImplementedError


def combine(hashes: Sequence[np.ndarray]) -> np.ndarray:
    """uint64[n, 2]: the hash of a composite key from those of its parts, in order."""
    raise NotImplementedError


def ordered_bits(values: np.ndarray) -> np.ndarray:
    """int64[n] that compare as the doubles float64[n] do."""
    raise NotImplementedError


def from_ordered_bits(bits: np.ndarray) -> np.ndarray:
    """The inverse of `ordered_bits`: float64[n]."""
    raise NotImplementedError
