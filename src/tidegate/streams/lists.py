"""Lists: what may be on one, and who is on it now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

LISTS = "lists"

#: What can be listed: each a field of the stream.
KINDS = (
    *("customer_id", "pan", "email", "phone", "ip", "device_id"),
    *("merchant_id", "terminal_id", "issuer_bin", "country"),
)


class Listed(NamedTuple):
    """A thing on a list. `value` is a token where it is personal; times are microseconds since 1970."""

    kind: str
    value: str
    since: int
    expires_at: int | None
    reason: str | None
    added_by: str | None


def listed(events: Iterable[Mapping[str, Any]], name: str, now_us: int) -> list[Listed]:
    """What is on a list now, the newest last; `events` are the stream's, in order of arrival."""
    newest: dict[tuple[str, str], Mapping[str, Any]] = {}
    for event in events:
        for kind in KINDS if event["list"] == name else ():
            thing = (kind, event[kind])
            if event[kind] is not None and event["event_time"] >= newest.get(thing, event)["event_time"]:
                newest[thing] = event
    standing = [
        Listed(kind, value, event["event_time"], event["expires_at"], event["reason"], event["added_by"])
        for (kind, value), event in newest.items()
        if not event["removed"] and (event["expires_at"] is None or event["expires_at"] > now_us)
    ]
    return sorted(standing, key=lambda each: each.since)
