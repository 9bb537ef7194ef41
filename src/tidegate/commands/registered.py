"""What is registered by name with secrets, as commands change it: sources of webhooks and those who get them."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from tidegate.governance.registry import Registry
from tidegate.governance.secrets import destroy_secret, seal_secret
from tidegate.settings import Settings
from tidegate.streams.webhooks import Source, Subscriber
from tidegate.wiring import open_clock, open_keys, open_log

_HOUR_MS = 3_600_000

Entered = TypeVar("Entered", Source, Subscriber)


class Register(Generic[Entered]):
    """The names of a topic, and what their secrets are sealed with."""

    def __init__(self, settings: Settings, topic: str, kind: type[Entered]) -> None:
        self.log, self.keys, self.clock = open_log(settings), open_keys(settings), open_clock()
        self.registry = Registry(self.log, topic, kind)
        self.registry.refresh()

    @property
    def all(self) -> list[Entered]:
        """In the order of their names."""
        return [self.registry.entries[name] for name in sorted(self.registry.entries)]

    def put(self, entry: Entered, secret: str | None = None) -> None:
        """Write how it is from now on, with one more secret if there is one."""
        sealed = [seal_secret(self.keys, entry.owner, secret)] if secret else []
        secrets = [*entry.secrets, *sealed]
        self.registry.put(msgspec.structs.replace(entry, secrets=secrets, at_ms=self.clock.now_ms()))

    def rotate(self, name: str, secret: str, keep_hours: int) -> int:
        """Give it a new secret; how many go on to count beside it, for so many hours at most."""
        entry, now_ms = self.registry.named(name), self.clock.now_ms()
        ends_ms = now_ms + keep_hours * _HOUR_MS
        ending = [
            msgspec.structs.replace(sealed, until_ms=min(sealed.until_ms or ends_ms, ends_ms))
            for sealed in entry.secrets
        ]
        kept = [sealed for sealed in ending if (sealed.until_ms or 0) > now_ms]
        self.put(msgspec.structs.replace(entry, secrets=kept), secret)
        self._destroy(entry, {sealed.id for sealed in kept})
        return len(kept)

    def remove(self, name: str) -> None:
        """Nobody knows it any more, and its secrets are destroyed."""
        entry = self.registry.named(name)
        self.put(msgspec.structs.replace(entry, state="removed", secrets=[]))
        self._destroy(entry, set())

    def _destroy(self, entry: Entered, kept: set[str]) -> None:
        for sealed in entry.secrets:
            if sealed.id not in kept:
                destroy_secret(self.keys, entry.owner, sealed)
