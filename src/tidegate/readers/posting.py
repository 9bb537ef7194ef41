"""Posts to addresses that others chose: never into the networks of this company, never on by a redirect.

A name is resolved once, every address that it has is looked at, and the connection goes to one of these: a name that
means another address a moment later (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import httpcore

from tidegate.errors import UsageError

#: How long one message may take, from the look-up of the name to the answer.
TIMEOUT_S = 15

#: Connections to all subscribers together, and how long one that is not used is kept.
_MAX_CONNECTIONS = 100
_KEEP_S = 30

#: Of an answer's body, read so that the connection can be used again. More is not: it is not looked at.
_MAX_ANSWER_BYTES = 16_384

#: The hundreds of the statuses that say so.
_SUCCESS = 2

#: Addresses of IPv6 that stand for one of IPv4 behind a translator (RFC 6052).
_NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Answer(NamedTuple):
    """`status` None: there was no answer, `error` says why."""

    status: int | None
    error: str | None = None
    retry_after_s: int = 0

    @property
    def is_taken(self) -> bool:
        return self.status is not None and self.status // 100 == _SUCCESS


class Poster:
    """Posts over HTTPS to addresses of the internet, and over HTTP or HTTPS to those of `networks`."""

    def __init__(self, networks: Sequence[Network] = (), context: ssl.SSLContext | None = None) -> None:
        self._pools = {
            scheme: httpcore.AsyncConnectionPool(
                ssl_context=context or ssl.create_default_context(),
                max_connections=_MAX_CONNECTIONS,
                keepalive_expiry=_KEEP_S,
                network_backend=_Guarded(networks, inside_only=scheme == "http"),
            )
            for scheme in ("https", "http")
        }

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send once; whatever happens is told by the answer."""
        pool = self._pools[urlsplit(url).scheme]
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                pool.stream("POST", url, headers=list(headers.items()), content=body) as response,
            ):
                size = 0
                async for chunk in response.aiter_stream():
                    size += len(chunk)
                    if size > _MAX_ANSWER_BYTES:
                        break
                return Answer(response.status, None, _seconds(response.headers))
        except _ForbiddenError as error:
            return Answer(None, str(error))
        except TimeoutError:
            return Answer(None, f"no answer within {TIMEOUT_S} s")
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
            # A library's message may quote the address, which may hold a secret.
            return Answer(None, type(error).__name__)

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()


def check_url(url: str, networks: Sequence[Network]) -> None:
    """
    Raises:
        UsageError: nothing can be sent there. Where its name leads is looked at whenever something is.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    schemes = ("https", "http") if networks else ("https",)
    if parts.scheme not in schemes or not parts.hostname or port == 0 or not url.isascii() or not url.isprintable():
        raise UsageError(f"url: wanted {' or '.join(schemes)}://host/path")
    if parts.username or parts.password or parts.fragment or " " in url:
        raise UsageError("url: wanted one without a name, a password, a blank and a #; messages are signed instead")


class _ForbiddenError(httpcore.ConnectError):
    """The name leads where nothing may be sent."""


class _Guarded(httpcore.AsyncNetworkBackend):
    def __init__(self, networks: Sequence[Network], *, inside_only: bool) -> None:
        self._networks, self._inside_only = networks, inside_only
        self._backend = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface of httpcore
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await _resolved(host, port)
        for address in addresses:
            self._check(address)
        for address in addresses[:-1]:
            try:
                return await self._backend.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except httpcore.ConnectError:
                continue
        return await self._backend.connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options)

    def _check(self, address: Address) -> None:
        if any(address.version == network.version and address in network for network in self._networks):
            return
        if self._inside_only:
            raise _ForbiddenError("http goes only to TIDEGATE_WEBHOOK_NETWORKS; send by https")
        if not is_public(address):
            raise _ForbiddenError("its name leads to an address that is not public; see TIDEGATE_WEBHOOK_NETWORKS")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def is_public(address: Address) -> bool:
    """Whether it is an address of the internet, and stands for no other that is not."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        inner = address.sixtofour or (address.teredo or (None, None))[1]
        # Addresses of a site (RFC 3879) are no longer told apart by all who route.
        if address.is_site_local or (inner is not None and not is_public(inner)):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def _resolved(host: str, port: int) -> list[Address]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise _ForbiddenError("its name is not known") from None
    # An address of IPv6 may have its interface behind it.
    return [ip_address(str(place[0]).partition("%")[0]) for *_, place in found]


def _seconds(headers: Sequence[tuple[bytes, bytes]]) -> int:
    for name, value in headers:
        if name.lower() == b"retry-after" and value.isdigit():
            return int(value[:9])
    return 0
