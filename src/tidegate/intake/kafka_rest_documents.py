"""Cuts a stream of JSON objects, with nothing or white space between them, into the objects."""

from __future__ import annotations

import re

from tidegate.intake.kafka_rest_errors import RestError
from tidegate.intake.limits import MAX_EVENT_BYTES

#: Largest record of a stream: the largest event in base64, and what stands around it.
MAX_DOCUMENT_BYTES = 2 * MAX_EVENT_BYTES

#: What matters for where an object ends. Within a text, a backslash hides the character behind it.
_MARK = re.compile(rb'\\.|["{}\[\]]', re.DOTALL)


class Documents:
    """Cuts concatenated JSON objects apart, as their bytes come."""

    def __init__(self) -> None:
        self.rest = b""
        """What has come of the object that has not ended yet."""
        self._seen, self._depth, self._in_text = 0, 0, False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The objects that end within this chunk.

        Raises:
            RestError: 413, one is too large.
        """
        self.rest += chunk
        found: list[bytes] = []
        start = 0
        for mark in _MARK.finditer(self.rest, self._seen):
            self._seen = mark.end()
            if self._ends(mark[0]):
                found.append(self.rest[start : mark.end()])
                start = mark.end()
        # A backslash at the end waits for what it hides.
        self._seen = max(self._seen, len(self.rest) - self.rest.endswith(b"\\")) - start
        self.rest = self.rest[start:]
        if max(map(len, [*found, self.rest])) > MAX_DOCUMENT_BYTES:
            raise RestError(413, f"produce: wanted records of up to {MAX_DOCUMENT_BYTES} bytes, got a larger one")
        return found

    def _ends(self, mark: bytes) -> bool:
        if mark == b'"':
            self._in_text = not self._in_text
        elif not self._in_text and mark in (b"{", b"["):
            self._depth += 1
        elif not self._in_text and mark in (b"}", b"]"):
            self._depth = max(0, self._depth - 1)
            return self._depth == 0
        return False
