"""The texts that windows may answer. A row keeps the hash of a text; here are the texts, each once, by hash."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidegate.errors import StateError
from tidegate.kernel.stages import Lanes
from tidegate.kernel.windows.windows import Windows

#: So many texts are kept before it is asked which of them a row still has.
_FIRST_TEXTS = 4096


class WindowTexts:
    """`answered_by` are the plan's aggregates that answer a text, and the numbers of the values that it may be. One
    thread at a time.
    """

    def __init__(self, answered_by: Mapping[int, frozenset[int]]) -> None:
        self._answers = sorted(answered_by)
        self._values = frozenset[int]().union(*answered_by.values())
        self._texts: dict[int, str] = {}
        self._most = _FIRST_TEXTS

    def take(self, lanes: Lanes) -> None:
        """Keep what events bring, before the windows take them."""
        for value, texts in lanes.texts.items():
            pairs = zip(lanes.values[value].tolist(), texts.to_pylist(), strict=True)
            self._texts.update((number, text) for number, text in pairs if text is not None)

    def answered(self, values: npt.NDArray[np.int64], valid: npt.NDArray[np.bool_]) -> dict[int, pa.Array[Any]]:
        """The windows' answers to n events that are texts: int64[a, n] and bool[a, n] are all of them."""
        found: dict[int, pa.Array[Any]] = {}
        for answer in self._answers:
            pairs = zip(values[answer].tolist(), valid[answer].tolist(), strict=True)
            found[answer] = pa.array([self._texts[value] if known else None for value, known in pairs], pa.string())
        return found

    def forget(self, windows: Windows) -> None:
        """Let go what no row has any more, once there are twice as many texts as rows had the last time."""
        if len(self._texts) > self._most:
            kept = windows.kept_values(self._values).tolist()
            self._put({value: self._texts[value] for value in kept if value in self._texts})

    def _put(self, texts: dict[int, str]) -> None:
        self._texts, self._most = texts, max(_FIRST_TEXTS, 2 * len(texts))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All texts: their hashes, and their bytes one after the other. Nothing, where no text is answered."""
        if not self._answers:
            return {}
        texts = [text.encode() for text in self._texts.values()]
        return {
            "text_hashes": np.array([*self._texts], np.int64),
            "text_ends": np.cumsum([0, *map(len, texts)], dtype=np.int64),
            "text_bytes": np.frombuffer(b"".join(texts), np.uint8),
        }

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from a snapshot.

        Raises:
            StateError: it lacks the texts.
        """
        if not self._answers:
            return
        if not {"text_hashes", "text_ends", "text_bytes"} <= arrays.keys():
            raise StateError("window texts: the snapshot lacks the texts; restore an older snapshot")
        content = arrays["text_bytes"].tobytes()
        texts = [content[start:end].decode() for start, end in pairwise(arrays["text_ends"].tolist())]
        self._put(dict(zip(arrays["text_hashes"].tolist(), texts, strict=True)))
