"""The control stream: which version of which detector decides, from which place of the log on.

Its records are JSON in the topic `detectors`, which has one partition and keeps them for ever. A record holds from its
own place in the log: events before it are decided as it was before, events after it as it says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

DETECTORS = "detectors"

#: The record `by` which a deployment begins: nobody signed in.
SETTINGS = "settings"

Status = Literal["draft", "shadow", "live", "retired"]


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a version would have decided before it was released: of so many events, how often each live rule fired."""

    decided: int
    fired: dict[str, int]


class Release(msgspec.Struct, frozen=True, kw_only=True, tag="release", tag_field="kind"):
    """A version of a detector has this status from here on.

    `live` decides; the version that was live before no longer does. `shadow` decides beside it and is not acted on.
    `draft` and `retired` decide nothing.
    """

    detector: str
    version: str
    status: Status
    texts: dict[str, str]
    """All that decides, by file name."""
    by: str
    at_ms: int
    forecast: Forecast | None = None
    from_start: bool = False
    """It holds from the log's first record on, wherever this record lies: the version that a deployment begins with."""


class Demotion(msgspec.Struct, frozen=True, kw_only=True, tag="demotion", tag_field="kind"):
    """A rule of the live version fired far beyond its forecast: from here on its points lead to `review` at most, until
    a version is released again.
    """

    detector: str
    version: str
    rule: str
    fired: int
    decided: int
    """The rule fired so often among the last so many decisions."""
    forecast: float
    """How often it should have."""
    at_ms: int


Control = Release | Demotion

_decoder: msgspec.json.Decoder[Control] = msgspec.json.Decoder(Control)


def decode_control(value: bytes) -> Control | None:
    """A record of the control stream, or None if that is not what it is."""
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How it is with one detector at one place of the log."""

    live: Release | None = None
    shadow: Release | None = None
    demoted: dict[str, Demotion] = {}
    """By rule of the live version."""

    def after(self, control: Control) -> Standing:
        """How it is once a record about this detector has come."""
        if isinstance(control, Demotion):
            if self.live is None or self.live.version != control.version or control.rule in self.demoted:
                return self
            return msgspec.structs.replace(self, demoted={**self.demoted, control.rule: control})
        match control.status:
            case "live":
                same = self.shadow is not None and self.shadow.version == control.version
                return Standing(live=control, shadow=None if same else self.shadow)
            case "shadow":
                return msgspec.structs.replace(self, shadow=control)
            case _:
                ended = self
                if self.shadow is not None and self.shadow.version == control.version:
                    ended = msgspec.structs.replace(ended, shadow=None)
                if self.live is not None and self.live.version == control.version:
                    ended = msgspec.structs.replace(ended, live=None, demoted={})
                return ended


def standings(controls: Iterable[Control]) -> dict[str, Standing]:
    """How it is with every detector once all these records have come, in their order."""
    found: dict[str, Standing] = {}
    for control in controls:
        found[control.detector] = found.get(control.detector, Standing()).after(control)
    return found
