"""What the door tells its operators: one JSON object a line, never a value of an event."""

from __future__ import annotations

import logging
import traceback

import msgspec

_logger = logging.getLogger("tidegate.intake")


def told(what: str, **facts: str | int | None) -> None:
    """Something an operator may want to know."""
    _logger.info(msgspec.json.encode({"what": what} | facts).decode())


def failed(where: str, error: BaseException, **facts: str | int | None) -> None:
    """Something an operator must know. Of a library's error only its type and the place in the code are told: its
    message may quote what it was given. Tidegate's own errors never do, and are told in full.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None
    said = str(error) if type(error).__module__ == "tidegate.errors" else None
    line = {"what": "failed", "where": where, "error": type(error).__name__, "said": said, "place": place} | facts
    _logger.error(msgspec.json.encode(line).decode())
