"""The signature of Standard Webhooks: checked on the way in, made on the way out.

What is signed is `id.timestamp.body`, by HMAC-SHA-256 under a shared secret (`v1`) or by Ed25519 (`v1a`). See
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tidegate.errors import UsageError

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"

#: Clocks differ, and networks hold back: what is older, or further ahead, may be someone else's copy.
TOLERANCE_S = 300

SECRET, PUBLIC_KEY = "whsec_", "whpk_"

#: Signatures of one message that are looked at. A sender that changes its key sends two.
MAX_SIGNATURES = 16

_SECRET_BYTES = 32
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_MAX_ID_CHARS = 256

Key = bytes | Ed25519PublicKey
"""A shared secret, or whose private half signs."""


def new_secret() -> str:
    """256 random bits, as the standard writes them."""
    return SECRET + b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def key_of(written: str) -> Key:
    """The key that is written as `whsec_<base64>` (the prefix may be left out) or `whpk_<base64>`.

    Raises:
        UsageError: it is written in another way, or is empty.
    """
    kind = PUBLIC_KEY if written.startswith(PUBLIC_KEY) else SECRET
    try:
        key = b64decode(written.removeprefix(kind), validate=True)
        if key:
            return Ed25519PublicKey.from_public_bytes(key) if kind == PUBLIC_KEY else key
    except (Base64Error, ValueError):
        pass
    raise UsageError(
        f"secret: wanted {SECRET} and base64, or {PUBLIC_KEY} and the base64 of an Ed25519 public key; copy it again"
    )


def sign(keys: Sequence[bytes], message_id: str, timestamp_s: int, body: bytes) -> str:
    """The value of the signature's header: one signature a key, so that a receiver may hold the old one or the new."""
    content = _signed(message_id, timestamp_s, body)
    return " ".join("v1," + b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys)


def is_signed(keys: Sequence[Key], message_id: str, timestamp_s: int, body: bytes, signatures: str) -> bool:
    """Whether one of the signatures is by one of the keys. Takes the same time wherever a signature differs."""
    content = _signed(message_id, timestamp_s, body)
    given = [signature.partition(",") for signature in signatures.split(" ")[:MAX_SIGNATURES]]
    by_version = {name: [text for version, _, text in given if version == name] for name in ("v1", "v1a")}
    return any(
        _is_by_secret(key, content, by_version["v1"])
        if isinstance(key, bytes)
        else _is_by_owner(key, content, by_version["v1a"])
        for key in keys
    )


def timestamp_of(text: str, now_s: int) -> int | None:
    """Seconds since 1970 if that is what it says and it is within the tolerance of now."""
    if not _TIMESTAMP.fullmatch(text) or abs(int(text) - now_s) > TOLERANCE_S:
        return None
    return int(text)


def is_id(text: str) -> bool:
    """A full stop parts what is signed, so that an id must not hold one."""
    return 0 < len(text) <= _MAX_ID_CHARS and "." not in text and text.isprintable()


def _signed(message_id: str, timestamp_s: int, body: bytes) -> bytes:
    return f"{message_id}.{timestamp_s}.".encode() + body


def _is_by_secret(key: bytes, content: bytes, signatures: Sequence[str]) -> bool:
    # Compared as text: base64 has more than one way to write the same bytes.
    wanted = b64encode(hmac.digest(key, content, "sha256"))
    return any(hmac.compare_digest(wanted, signature.encode()) for signature in signatures)


def _is_by_owner(key: Ed25519PublicKey, content: bytes, signatures: Sequence[str]) -> bool:
    for signature in signatures:
        try:
            key.verify(b64decode(signature, validate=True), content)
        except (InvalidSignature, Base64Error, ValueError):
            continue
        return True
    return False
