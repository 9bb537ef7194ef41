"""The control stream: which version of which detector decides, from which place of the log on.

Its records are JSON in the topic `detectors`, which has one partition and keeps them for ever. A record holds from its
own place in the log: events before it are decided as it was before, events after it as it says.

A text that is larger than a record may be, such as a model, comes before it in parts, and the record names its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

import msgspec

DETECTORS = "detectors"

#: Characters of one part of a large text: however they are escaped, it is smaller than a record of any log may be.
PART_CHARACTERS = 131_072

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
    """All that decides, by file name; in a record without those in `large`."""
    by: str
    at_ms: int
    large: dict[str, str] = {}
    """In a record: SHA-256, in hex, of the texts that come in parts, by file name."""
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


class Candidate(msgspec.Struct, frozen=True, kw_only=True, tag="candidate", tag_field="kind"):
    """A version is soon to be live, and nothing changes yet: whoever decides fills its windows beforehand."""

    detector: str
    version: str
    texts: dict[str, str]
    large: dict[str, str] = {}
    at_ms: int


class Warm(msgspec.Struct, frozen=True, kw_only=True, tag="warm", tag_field="kind"):
    """The windows of a candidate are filled: it can go live at any moment."""

    detector: str
    version: str
    at_ms: int


class Part(msgspec.Struct, frozen=True, kw_only=True, tag="part", tag_field="kind"):
    """A part of a large text, which records after it name by its hash. A text is kept once."""

    sha256: str
    number: int
    text: str


Control = Release | Demotion | Candidate | Warm


def to_records(control: Release | Candidate) -> list[tuple[str, bytes]]:
    """The records of the control stream that say this, each with its id: parts of large texts first."""
    large = {file: text for file, text in control.texts.items() if len(text) > PART_CHARACTERS}
    hashes = {file: _sha256(text) for file, text in large.items()}
    parts = [
        Part(sha256=hashes[file], number=number, text=text[at : at + PART_CHARACTERS])
        for file, text in large.items()
        for number, at in enumerate(range(0, len(text), PART_CHARACTERS))
    ]
    small = {file: text for file, text in control.texts.items() if file not in large}
    whole = msgspec.json.encode(msgspec.structs.replace(control, texts=small, large=hashes))
    what = control.status if isinstance(control, Release) else "candidate"
    entry_id = f"{control.detector}:{control.version}:{what}:{control.at_ms}"
    return [*((f"{part.sha256}:{part.number}", msgspec.json.encode(part)) for part in parts), (entry_id, whole)]


_decoder: msgspec.json.Decoder[Control | Part] = msgspec.json.Decoder(Control | Part)


def decode_control(value: bytes) -> Control | Part | None:
    """A record of the control stream, without its large texts; None if that is not what it is."""
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


class Controls:
    """Reads the records of the control stream, in their order from the first one on."""

    def __init__(self) -> None:
        self._parts: dict[str, dict[int, str]] = {}

    def read(self, value: bytes) -> Control | Part | None:
        """What a record says, with whole texts; None if it is no record of the control stream, or names a text that
        does not stand before it.
        """
        control = decode_control(value)
        if isinstance(control, Part):
            self._parts.setdefault(control.sha256, {})[control.number] = control.text
        elif isinstance(control, Release | Candidate) and control.large:
            texts = {file: self._text(sha256) for file, sha256 in control.large.items()}
            if any(_sha256(texts[file]) != sha256 for file, sha256 in control.large.items()):
                return None
            control = msgspec.structs.replace(control, texts={**control.texts, **texts}, large={})
        return control

    def _text(self, sha256: str) -> str:
        parts = self._parts.get(sha256, {})
        return "".join(parts[number] for number in sorted(parts))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
        if not isinstance(control, Release):
            return self
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
