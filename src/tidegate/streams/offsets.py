"""How far the consumers of the Kafka REST Proxy are: what their groups committed, in the topic `offsets`."""

from __future__ import annotations

import msgspec

OFFSETS = "offsets"


class GroupOffsets(msgspec.Struct, frozen=True, kw_only=True):
    """What one commit says. Groups are their owner's: two principals may call theirs by the same name."""

    owner: str
    group: str
    offsets: dict[str, int]
    """The next record to read, by partition, as "topic/partition"."""
