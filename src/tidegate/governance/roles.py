"""What each role may do, as plain data, and the one question asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from tidegate.errors import AccessError
from tidegate.ports.identity import Principal, Role

Permission = Literal[
    "events:write",
    "events:read",
    "decisions:request",
    "decisions:read",
    "alerts:read",
    "labels:write",
    "lists:write",
    "personal:reveal",
    "rejected:retry",
    "audit:read",
    "lake:query",
    "metrics:read",
    "detectors:release",
    "admin",
]

#: Nobody holds more than the work needs (PCI DSS 7.2). Whoever runs the system sees no personal value, and whoever
#: reveals one cannot read the trail of those who did.
PERMISSIONS: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {
        "source": frozenset({"events:write", "decisions:request"}),
        "fraud_ops": frozenset(
            {
                *("alerts:read", "decisions:read", "metrics:read"),
                *("labels:write", "lists:write", "personal:reveal", "rejected:retry"),
            }
        ),
        "analyst": frozenset(
            {
                *("alerts:read", "decisions:read", "events:read", "lake:query", "metrics:read"),
                *("detectors:release", "rejected:retry"),
            }
        ),
        "data_scientist": frozenset({"decisions:read", "events:read", "lake:query", "metrics:read"}),
        "auditor": frozenset({"alerts:read", "decisions:read", "audit:read", "metrics:read"}),
        "admin": frozenset({"alerts:read", "decisions:read", "metrics:read", "admin"}),
    }
)

#: The stream of verdicts: people write it too, by their own permission.
_VERDICTS = "labels"


def may(principal: Principal, permission: Permission) -> bool:
    """Whether any of the principal's roles holds the permission."""
    return any(permission in PERMISSIONS[role] for role in principal.roles)


def require(principal: Principal, permission: Permission) -> None:
    """Let through whoever holds the permission.

    Raises:
        AccessError: none of the principal's roles holds it.
    """
    if not may(principal, permission):
        holders = ", ".join(role for role, held in PERMISSIONS.items() if permission in held)
        raise AccessError(
            f"access: {principal.name} lacks the permission {permission}; a role that holds it: {holders}", known=True
        )


def require_stream(principal: Principal, stream: str) -> None:
    """Let through whoever may write to the stream: a source registered for it, or, to `labels`, who gives verdicts.

    Raises:
        AccessError: the principal may not write to this stream.
    """
    if stream == _VERDICTS and may(principal, "labels:write"):
        return
    require(principal, "events:write")
    if stream not in principal.streams:
        raise AccessError(
            f"access: source {principal.name} is not registered for the stream {stream}; register it for that stream",
            known=True,
        )
