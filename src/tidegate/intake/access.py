"""Who asks, and how often."""

from __future__ import annotations

from base64 import b64decode
from collections import OrderedDict
from contextlib import suppress

from fastapi import Request
from starlette.exceptions import HTTPException

from tidegate.errors import AccessError
from tidegate.ports.clock import Clock
from tidegate.ports.identity import Identity, Principal

#: Callers whose buckets are kept; the one that was quiet longest is forgotten, its bucket is full by then.
_MAX_BUCKETS = 10_000

_BEARER, _BASIC = "bearer", "basic"


class RateLimit:
    """A token bucket for each caller: `per_s` requests a second for ever, `burst` of them at once."""

    def __init__(self, per_s: float, burst: float, clock: Clock) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count one request.

        Raises:
            HTTPException: 429, when to come again is in Retry-After.
        """
        now_ms = self._clock.now_ms()
        left, last_ms = self._buckets.pop(caller, (self._burst, now_ms))
        left = min(self._burst, left + max(0, now_ms - last_ms) * self._per_s / 1000)
        enough = left >= 1
        self._buckets[caller] = (left - 1 if enough else left, now_ms)
        if len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if not enough:
            wait_s = max(1, round((1 - left) / self._per_s))
            raise HTTPException(
                429,
                f"rate: wanted at most {self._per_s:g} requests a second, got more; wait, or send many events in one",
                {"Retry-After": str(wait_s)},
            )


class Access:
    """Tells who sends a request, and holds each to the rate."""

    def __init__(self, identity: Identity, rate: RateLimit) -> None:
        self._identity, self._rate = identity, rate

    def count(self, caller: str) -> None:
        """Count one request of someone who was told by other means than a credential.

        Raises:
            HTTPException: 429, the caller sends more than its rate.
        """
        self._rate.take(caller)

    def principal(self, request: Request) -> Principal:
        """The principal whose API key or signed token came as `Authorization: Bearer`, or as the password of `Basic`,
        whose name is not looked at.

        Raises:
            AccessError: none came, or nobody's.
            HTTPException: 429, the principal sends more than its rate.
        """
        principal = self._identity.who(_credential(request.headers.get("authorization", "")))
        self._rate.take(principal.name)
        return principal


def _credential(given: str) -> str:
    scheme, _, credential = given.partition(" ")
    if scheme.lower() == _BEARER:
        return credential.strip()
    if scheme.lower() == _BASIC:
        with suppress(ValueError):  # which those of base64 and of UTF-8 are
            return b64decode(credential.strip(), validate=True).decode().partition(":")[2]
    raise AccessError("access: wanted `Authorization: Bearer <API key or token>`, got none", known=False)


def address_of(request: Request) -> str:
    """The address the request came from, for the audit trail."""
    return request.client.host if request.client else "unknown"
