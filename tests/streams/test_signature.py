"""Standard Webhooks' own vectors hold, its own library agrees, and nothing that was tampered with is taken."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from tidegate.errors import UsageError
from tidegate.streams.signature import is_id, is_signed, key_of, new_secret, sign, timestamp_of

VECTORS = Path(__file__).resolve().parents[2].parent / "shared" / "conformance" / "standard-webhooks"
MORE: dict[str, Any] = json.loads((VECTORS / "more.json").read_text())
NOW_S = 1_780_000_000


@pytest.mark.parametrize("vector", [json.loads((VECTORS / "vector.json").read_text()), *MORE["sign"]])
def test_signs_as_the_vectors(vector: dict[str, Any]) -> None:
    keys = [key_of(vector["secret"])]
    assert sign(keys, vector["id"], vector["timestamp"], vector["body"].encode()) == vector["signature"]


@pytest.mark.parametrize("secret", [*MORE["refused_secrets"], "whsec_!", "whpk_", "whpk_AAAA", "whsec_AA\n"])
def test_refuses_what_is_no_secret(secret: str) -> None:
    with pytest.raises(UsageError):
        key_of(secret)


@pytest.mark.parametrize(
    "timestamp", [*MORE["refused_timestamps"], "", "１６１４２６５３３０", "9" * 4000, " 1614265330"]
)
def test_refuses_what_is_no_timestamp(timestamp: str) -> None:
    assert timestamp_of(timestamp, 1614265330) is None


@given(body=st.text().map(str.encode), message=st.from_regex(r"msg_[A-Za-z0-9]{1,30}", fullmatch=True))
def test_the_standards_own_library_agrees(body: bytes, message: str) -> None:
    secret, timestamp = new_secret(), int(datetime.now(UTC).timestamp())
    key = key_of(secret)
    assert isinstance(key, bytes)
    headers = {
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign([key], message, timestamp, body),
    }
    Webhook(secret).verify(body, headers, json_parse=False)
    theirs = Webhook(secret).sign(message, datetime.fromtimestamp(timestamp, UTC), body.decode())
    assert is_signed([key], message, timestamp, body, theirs)


@given(st.data())
def test_nothing_that_was_tampered_with_is_signed(data: st.DataObject) -> None:
    owner = Ed25519PrivateKey.generate()
    public = "whpk_" + b64encode(owner.public_key().public_bytes_raw()).decode()
    keys = [key_of(new_secret()), key_of(public)]
    body = data.draw(st.binary(min_size=1, max_size=200), "body")
    content = f"msg_1.{NOW_S}.".encode() + body
    if data.draw(st.booleans(), "by secret"):
        signature = sign([key for key in keys if isinstance(key, bytes)], "msg_1", NOW_S, body)
    else:
        signature = "v1a," + b64encode(owner.sign(content)).decode()
    assert is_signed(keys, "msg_1", NOW_S, body, signature)

    at = data.draw(st.integers(0, len(body) - 1), "place")
    other = body[:at] + bytes([body[at] ^ data.draw(st.integers(1, 255), "bits")]) + body[at + 1 :]
    assert not is_signed(keys, "msg_1", NOW_S, other, signature)
    assert not is_signed(keys, "msg_2", NOW_S, body, signature)
    assert not is_signed(keys, "msg_1", NOW_S + 1, body, signature)
    at = data.draw(st.integers(0, len(signature) - 1), "letter")
    letter = data.draw(st.characters(exclude_characters=signature[at]), "other letter")
    assert not is_signed(keys, "msg_1", NOW_S, body, signature[:at] + letter + signature[at + 1 :])


def test_a_full_stop_belongs_into_no_id() -> None:
    assert is_id("msg_2KWPBgLlAfxdpx2AI54pPJ85f4W")
    assert not any(is_id(text) for text in ("", "msg.1", "a\nb", "x" * 257))


def test_one_signature_among_several_is_enough_and_a_header_full_of_them_is_not_read_to_its_end() -> None:
    (key,) = [key_of(new_secret())]
    assert isinstance(key, bytes)
    good = sign([key], "msg_1", NOW_S, b"{}")
    example = MORE["header_example"]["webhook-signature"]
    assert is_signed([key], "msg_1", NOW_S, b"{}", f"{example} {good}")
    assert not is_signed([key], "msg_1", NOW_S, b"{}", " ".join(["v1,AAAA"] * 1000 + [good]))
