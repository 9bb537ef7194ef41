"""Who sent a webhook: one function for each kind of source. What is checked are the bytes as they came."""

from __future__ import annotations

import hmac
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from tidegate.errors import AccessError, UsageError
from tidegate.intake.salesforce import is_outbound_message, organisation_of
from tidegate.streams.signature import ID, MAX_SIGNATURES, SIGNATURE, TIMESTAMP, is_id, is_signed, key_of, timestamp_of
from tidegate.streams.webhooks import Kind, Source

STRIPE_SIGNATURE = "stripe-signature"
SHOPIFY_SIGNATURE = "x-shopify-hmac-sha256"

#: What tokens of OAuth may be signed by: public keys alone, so that who checks them cannot make any.
_ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]

#: Characters of an id of Salesforce that say which; three more may follow, which check their letters' case.
_ORG_ID_CHARS = 15
_ORG_ID = re.compile(r"00D[A-Za-z0-9]{12}([A-Za-z0-9]{3})?")

_BEARER = "bearer "


class Sent(NamedTuple):
    """A message as it came. `headers` are asked in lower case; `token` is the one in the address."""

    headers: Mapping[str, str]
    token: str
    body: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


def verify(source: Source, secrets: Sequence[str], sent: Sent, now_s: int) -> None:
    """Let through what the source sent.

    Raises:
        AccessError: it is not signed by one of the source's secrets, or not by now. Which of it is not told.
    """
    if not _VERIFIERS[source.kind](source, secrets, sent, now_s):
        raise AccessError(
            f"webhook: wanted a message that is signed as {source.kind} does it, with a secret of this source and by a "
            "clock that is right; nothing was taken",
            known=False,
        )


def check_secret(source: Source, secret: str) -> None:
    """
    Raises:
        UsageError: the secret is not one that this kind of source signs with.
    """
    if source.kind == "standard":
        key_of(secret)
    elif source.kind == "sap" and secret.startswith("{"):
        _check_key_set(source, secret)
    elif not secret.strip():
        raise UsageError("secret: wanted one, got nothing; there is no default")
    if source.kind == "salesforce" and not _ORG_ID.fullmatch(source.org_id or ""):
        raise UsageError("source: wanted the organisation's id, such as 00D..., of 15 or 18 letters and digits")


def _standard(_: Source, secrets: Sequence[str], sent: Sent, now_s: int) -> bool:
    message_id = sent.headers.get(ID, "")
    timestamp_s = timestamp_of(sent.headers.get(TIMESTAMP, ""), now_s)
    if timestamp_s is None or not is_id(message_id):
        return False
    keys = [key_of(secret) for secret in secrets]
    return is_signed(keys, message_id, timestamp_s, sent.body, sent.headers.get(SIGNATURE, ""))


def _stripe(_: Source, secrets: Sequence[str], sent: Sent, now_s: int) -> bool:
    """`t=<seconds>,v1=<hex>,...` over `<seconds>.<body>`, as Stripe and those that follow it."""
    parts = [part.strip().partition("=") for part in sent.headers.get(STRIPE_SIGNATURE, "").split(",")]
    times = [value for name, _, value in parts if name == "t"]
    if len(times) != 1 or timestamp_of(times[0], now_s) is None:
        return False
    content = times[0].encode() + b"." + sent.body
    given = [value for name, _, value in parts if name == "v1"][:MAX_SIGNATURES]
    return any(_same(mac.hex(), value) for mac in _macs(secrets, content) for value in given)


def _shopify(_: Source, secrets: Sequence[str], sent: Sent, now_s: int) -> bool:
    """The base64 of the body's HMAC. It has no time in it: what comes again later is known by its content."""
    del now_s
    given = sent.headers.get(SHOPIFY_SIGNATURE, "")
    return any(_same(b64encode(mac).decode(), given) for mac in _macs(secrets, sent.body))


def _salesforce(source: Source, secrets: Sequence[str], sent: Sent, now_s: int) -> bool:
    """Salesforce signs nothing. An outbound message has the secret in its address, since it has no header of its own,
    and says of which organisation it is; a change event is sent with either.
    """
    del now_s
    given = sent.token or _bearer(sent)
    if not any([_same(secret, given) for secret in secrets]):  # noqa: C419  # all, so that it takes the same time
        return False
    if not is_outbound_message(sent.media_type):
        return True
    organisation = organisation_of(sent.body) or ""
    return organisation[:_ORG_ID_CHARS] == (source.org_id or "")[:_ORG_ID_CHARS] != ""


def _sap(source: Source, secrets: Sequence[str], sent: Sent, now_s: int) -> bool:
    """A bearer token: the secret itself, or one of OAuth that is signed by a key of the set that the secret is."""
    given = _bearer(sent)
    return any(
        _is_token_by(source, secret, given, now_s) if secret.startswith("{") else _same(secret, given)
        for secret in secrets
    )


_VERIFIERS: Mapping[Kind, Callable[[Source, Sequence[str], Sent, int], bool]] = {
    "standard": _standard,
    "stripe": _stripe,
    "shopify": _shopify,
    "salesforce": _salesforce,
    "sap": _sap,
}


def _macs(secrets: Sequence[str], content: bytes) -> Iterator[bytes]:
    return (hmac.digest(secret.encode(), content, "sha256") for secret in secrets)


def _same(wanted: str, given: str) -> bool:
    return hmac.compare_digest(wanted.encode(), given.encode("utf-8", "surrogateescape"))


def _bearer(sent: Sent) -> str:
    credential = sent.headers.get("authorization", "")
    return credential[len(_BEARER) :].strip() if credential[: len(_BEARER)].lower() == _BEARER else ""


def _is_token_by(source: Source, key_set: str, token: str, now_s: int) -> bool:
    if not source.issuer or not source.audience:
        return False
    try:
        claims = jwt.decode(token, KeySet.import_key_set(json.loads(key_set)), algorithms=_ALGORITHMS).claims
        jwt.JWTClaimsRegistry(
            now=now_s,
            exp={"essential": True},
            iss={"essential": True, "value": source.issuer},
            aud={"essential": True, "value": source.audience},
        ).validate(claims)
    except (JoseError, ValueError, KeyError, TypeError):
        return False
    return True


def _check_key_set(source: Source, written: str) -> None:
    try:
        keys = KeySet.import_key_set(json.loads(written)).keys
    except (JoseError, ValueError, KeyError, TypeError):
        keys = []
    if not keys or any(key.key_type == "oct" or key.is_private for key in keys):
        raise UsageError("secret: wanted a JSON Web Key Set of public keys, as the issuer publishes it")
    if not source.issuer or not source.audience:
        raise UsageError("source: wanted the issuer and the audience of the tokens with a key set; name both")
