"""The sources of webhooks that the door knows, with their secrets in clear, which stand in memory alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tidegate.errors import DecodeError, EventError, MappingError, SchemaError, TidegateError
from tidegate.governance.registry import Registry
from tidegate.governance.secrets import open_secret
from tidegate.intake.decode import stripped
from tidegate.intake.journal import failed
from tidegate.ports.clock import Clock
from tidegate.ports.keys import Keys
from tidegate.ports.log import Log
from tidegate.streams.webhooks import SOURCES, SealedSecret, Source

#: How long a change of a source may take to be seen by a door: an answer from memory costs nothing.
REFRESH_EVERY_MS = 1000

Fields = dict[str, Any]
Map = Callable[[Sequence[Fields]], Sequence[Fields | EventError]]
"""From each message to an event, or why there is none."""


class KnownSource(NamedTuple):
    source: Source
    secrets: list[tuple[str, int | None]]
    """Each with when it ends, in milliseconds since 1970."""
    map: Map | None

    def secrets_at(self, now_ms: int) -> list[str]:
        return [secret for secret, until_ms in self.secrets if until_ms is None or until_ms > now_ms]


class Sources:
    """Threads may share it."""

    def __init__(self, log: Log, keys: Keys, clock: Clock) -> None:
        self._keys, self._clock = keys, clock
        self._registry = Registry(log, SOURCES, Source)
        self._known: dict[str, KnownSource] = {}
        self._lock = threading.Lock()
        self._looked_ms: int | None = None

    def find(self, name: str) -> KnownSource | None:
        """The source of this name, as it was within the last second.

        Raises:
            OverloadError: the log cannot be read now.
        """
        now_ms = self._clock.now_ms()
        with self._lock:
            if self._looked_ms is None or not 0 <= now_ms - self._looked_ms < REFRESH_EVERY_MS:
                for changed in self._registry.refresh():
                    self._learn(changed)
                self._looked_ms = now_ms
            return self._known.get(name)

    def _learn(self, name: str) -> None:
        source = self._registry.entries.get(name)
        self._known.pop(name, None)
        if source is None:
            return
        secrets = [
            (secret, sealed.until_ms)
            for sealed in source.secrets
            if (secret := self._opened(source, sealed)) is not None
        ]
        self._known[name] = KnownSource(source, secrets, _map_of(source))

    def _opened(self, source: Source, sealed: SealedSecret) -> str | None:
        """None: it was destroyed, or cannot be read; what it signs is then refused."""
        try:
            return open_secret(self._keys, source.owner, sealed)
        except TidegateError as error:
            failed("source", error, source=source.name)
            return None


def map_of(name: str, text: str) -> Map:
    """How a mapping makes events of messages. A message is no file whose columns could be guessed from its beginning:
    every field that the mapping reads has its type under `columns`.

    Raises:
        MappingError: the mapping is wrong, or reads a field that does not stand there.
    """
    # What maps brings DuckDB along, which takes a second to load.
    from tidegate.files.mapped import Mapper
    from tidegate.files.mapping import parse_mapping

    mapper = Mapper(parse_mapping(name, text.encode()), [], None, [], is_text=False)
    one_at_a_time = threading.Lock()

    def map_messages(messages: Sequence[Fields]) -> Sequence[Fields | EventError]:
        with one_at_a_time:
            mapped = mapper.map(messages)
        return [_stripped(event) for event in mapped]

    return map_messages


def _stripped(event: Fields | EventError) -> Fields | EventError:
    try:
        return event if isinstance(event, EventError) else stripped(event)
    except DecodeError as error:
        return error


def _map_of(source: Source) -> Map | None:
    try:
        return map_of(source.name, source.mapping) if source.mapping is not None else None
    except MappingError as error:
        # It fitted when the source was registered; the stream is another one now. Other sources go on.
        reason = str(error)
        return lambda messages: [SchemaError("map", reason)] * len(messages)
