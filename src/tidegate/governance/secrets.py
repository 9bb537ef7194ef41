"""Secrets of others that have to be used in clear: sealed wherever they are kept, and gone once they are destroyed."""

from __future__ import annotations

import secrets
from base64 import b64decode, b64encode

from tidegate.ports.keys import Keys
from tidegate.streams.webhooks import SealedSecret

_CONTEXT = b"secret"
_ID_BYTES = 8


def seal_secret(keys: Keys, owner: str, secret: str) -> SealedSecret:
    """`owner` says whose it is, such as `source:shop`."""
    name = secrets.token_hex(_ID_BYTES)
    sealed = keys.seal(_subject(owner, name), secret.encode(), _CONTEXT)
    return SealedSecret(id=name, sealed=b64encode(sealed).decode())


def open_secret(keys: Keys, owner: str, sealed: SealedSecret) -> str:
    """
    Raises:
        NotFoundError: it was destroyed.
        DamagedError: it is not the one that was sealed, or not this owner's.
    """
    return keys.open(_subject(owner, sealed.id), b64decode(sealed.sealed), _CONTEXT).decode()


def destroy_secret(keys: Keys, owner: str, sealed: SealedSecret) -> None:
    keys.destroy(_subject(owner, sealed.id))


def _subject(owner: str, name: str) -> str:
    return f"secret:{owner}:{name}"
