"""What is registered by name, as the log tells it: each change is a record, of each name the newest counts."""

from __future__ import annotations

import re
from typing import Generic, Protocol, TypeVar

import msgspec

from tidegate.errors import NotFoundError, UsageError
from tidegate.ports.log import Entry, Log, TopicPartition, read_on
from tidegate.streams.webhooks import NAME

_encoder = msgspec.json.Encoder()


class Registered(Protocol):
    """A record of a registry. One whose state is `removed` ends what is known of its name."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def at_ms(self) -> int: ...


Entered = TypeVar("Entered", bound=Registered)


class Registry(Generic[Entered]):
    """The newest record of each name in `topic`, which has one partition. Read anew by `refresh`."""

    def __init__(self, log: Log, topic: str, kind: type[Entered]) -> None:
        self._log, self._topic = log, topic
        self._decoder = msgspec.json.Decoder(kind)
        self._positions = {TopicPartition(topic, 0): 0}
        self.entries: dict[str, Entered] = {}

    def refresh(self) -> list[str]:
        """Read what is new; the names that it is about."""
        changed: dict[str, None] = {}
        for record in read_on(self._log, self._positions):
            entry = self._decoder.decode(record.value)
            changed[entry.name] = None
            if entry.state == "removed":
                self.entries.pop(entry.name, None)
            else:
                self.entries[entry.name] = entry
        return list(changed)

    def put(self, entry: Entered) -> None:
        """Durable when it returns; everybody else sees it at the next `refresh`."""
        self._log.append([Entry(self._topic, entry.name, _encoder.encode(entry), entry.at_ms)])
        self.refresh()

    def check_new(self, name: str) -> None:
        """Whether the name can be given to someone new.

        Raises:
            UsageError: it is there, or is written in letters that a name may not have.
        """
        if not re.fullmatch(NAME, name):
            raise UsageError(f"{self._topic}: wanted a name of up to 64 letters, digits and . _ -, got another")
        if name in self.entries:
            raise UsageError(f"{self._topic}: {name} is there; remove it first, or give another name")

    def named(self, name: str) -> Entered:
        """
        Raises:
            NotFoundError: nothing is registered under that name.
        """
        if name not in self.entries:
            known = ", ".join(sorted(self.entries)) or "none"
            raise NotFoundError(f"{self._topic}: {name!r} is not registered; there are: {known}")
        return self.entries[name]
