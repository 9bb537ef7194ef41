"""The key ring's contract, and what only the embedded one promises."""

import base64
import hashlib
import hmac
import multiprocessing
import sqlite3
import stat
import subprocess
import sys
import threading
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.adapters.embedded.keys import EmbeddedKeys
from tidegate.errors import DamagedError, NotFoundError, StateError
from tidegate.streams.schema import PersonalClass

CLASSES = get_args(PersonalClass)
ROOT = bytes(range(32))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "keys"


@pytest.fixture(params=[EmbeddedKeys])
def keys(request, folder):
    ring = request.param(folder)
    yield ring
    ring.close()


def subject(keys, number=1):
    return keys.token("customer", f"C-{number}")


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("personal", CLASSES)
def test_a_token_names_its_class_and_stays_equal(keys, personal):
    token = keys.token(personal, "192.0.2.7")
    assert token == keys.token(personal, " 192.0.2.7 ")
    assert token.startswith(f"{personal}_")
    letters = token.removeprefix(f"{personal}_")
    assert len(letters) == 26
    assert set(letters) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    assert "192" not in token


def test_one_value_has_another_token_in_each_class(keys):
    assert len({keys.token(personal, "4111").rpartition("_")[2] for personal in CLASSES}) == len(CLASSES)


def test_another_ring_gives_other_tokens(keys, tmp_path):
    other = EmbeddedKeys(tmp_path / "other")
    assert other.token("pan", "4111111111111111") != keys.token("pan", "4111111111111111")
    other.close()


def test_a_ring_gives_the_same_tokens_when_opened_again(keys, folder):
    again = EmbeddedKeys(folder)
    assert again.token("email", "a@example.com") == keys.token("email", "a@example.com")
    assert again.signing_key("identity") == keys.signing_key("identity")
    again.close()


# --- envelopes --------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(plaintext=st.binary(max_size=2000), context=st.binary(max_size=100))
def test_what_is_sealed_is_opened(ring, plaintext, context):
    name = subject(ring)
    sealed = ring.seal(name, plaintext, context)
    assert ring.open(name, sealed, context) == plaintext
    if len(plaintext) > 3:
        assert plaintext not in sealed


@settings(deadline=None)
@given(data=st.data())
def test_an_envelope_that_was_changed_is_noticed(ring, data):
    sealed = ring.seal(subject(ring), b"4111111111111111", b"transactions/1")
    changed = bytearray(sealed)
    place = data.draw(st.integers(0, len(sealed) - 1))
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((DamagedError, NotFoundError)):
        ring.open(subject(ring), bytes(changed), b"transactions/1")


@pytest.mark.parametrize("place", range(9))
def test_an_envelope_under_a_number_that_is_none_is_refused(keys, place):
    sealed = bytearray(keys.seal(subject(keys), b"value", b""))
    sealed[place] = 0xFF
    with pytest.raises(NotFoundError if place else DamagedError):
        keys.open(subject(keys), bytes(sealed), b"")


@settings(deadline=None)
@given(length=st.integers(0, 52))
def test_an_envelope_that_was_cut_is_noticed(ring, length):
    sealed = ring.seal(subject(ring), b"4111111111111111", b"")
    with pytest.raises(DamagedError):
        ring.open(subject(ring), sealed[:length], b"")


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    ring = EmbeddedKeys(tmp_path_factory.mktemp("ring") / "keys")
    yield ring
    ring.close()


def test_context_and_subject_are_bound(keys):
    one, two = subject(keys, 1), subject(keys, 2)
    sealed = keys.seal(one, b"value", b"transactions/1")
    keys.seal(two, b"value", b"transactions/1")
    for name, context in ((one, b"transactions/2"), (one, b""), (two, b"transactions/1")):
        with pytest.raises(DamagedError):
            keys.open(name, sealed, context)


def test_the_same_plaintext_is_never_sealed_alike(keys):
    assert len({keys.seal(subject(keys), b"value", b"") for _ in range(100)}) == 100


def test_a_subject_without_a_key_has_nothing_to_open(keys, tmp_path):
    elsewhere = EmbeddedKeys(tmp_path / "elsewhere")
    sealed = elsewhere.seal(subject(keys), b"value", b"")
    elsewhere.close()
    with pytest.raises(NotFoundError):
        keys.open(subject(keys), sealed, b"")


def test_prepared_keys_are_used(keys, folder):
    names = [subject(keys, number) for number in range(600)]
    keys.prepare([*names, *names])
    keys.prepare([])
    assert count(folder) == 600
    sealed = [keys.seal(name, name.encode(), b"") for name in names]
    assert count(folder) == 600
    assert [keys.open(name, envelope, b"") for name, envelope in zip(names, sealed, strict=True)] == [
        name.encode() for name in names
    ]


def test_signing_keys_differ_by_purpose(keys):
    assert len({keys.signing_key("identity"), keys.signing_key("audit")}) == 2
    assert len(keys.signing_key("identity")) == 32


# --- erasure ----------------------------------------------------------------------------------------------------------


def test_what_was_erased_stays_unreadable_and_a_customer_may_come_back(keys):
    one, two = subject(keys, 1), subject(keys, 2)
    before, other = keys.seal(one, b"before", b""), keys.seal(two, b"other", b"")
    assert keys.destroy(one)
    with pytest.raises(NotFoundError, match="erased"):
        keys.open(one, before, b"")
    assert not keys.destroy(one)
    after = keys.seal(one, b"after", b"")
    assert keys.open(one, after, b"") == b"after"
    with pytest.raises(NotFoundError, match="erased"):
        keys.open(one, before, b"")
    assert keys.open(one, after, b"") == b"after"
    assert keys.open(two, other, b"") == b"other"


def test_keys_prepared_after_an_erasure_are_new(keys):
    name = subject(keys)
    before = keys.seal(name, b"before", b"")
    keys.destroy(name)
    keys.prepare([name])
    with pytest.raises(NotFoundError):
        keys.open(name, before, b"")
    assert keys.open(name, keys.seal(name, b"after", b""), b"") == b"after"


def test_a_subject_never_seen_cannot_be_erased(keys):
    assert not keys.destroy(subject(keys))


def test_an_erasure_reaches_every_ring_at_once(keys, folder):
    other = EmbeddedKeys(folder)
    name = subject(keys)
    before = keys.seal(name, b"before", b"")
    assert other.open(name, before, b"") == b"before"
    assert other.destroy(name)
    with pytest.raises(NotFoundError):
        keys.open(name, before, b"")
    after = keys.seal(name, b"after", b"")
    assert other.open(name, after, b"") == b"after"
    other.close()


@settings(max_examples=25, deadline=None)
@given(erased=st.sets(st.integers(0, 59), min_size=1))
def test_nothing_of_an_erased_key_is_left_on_disk(tmp_path_factory, erased):
    folder = tmp_path_factory.mktemp("ring") / "keys"
    keys = EmbeddedKeys(folder)
    names = [subject(keys, number) for number in range(60)]
    keys.prepare(names)
    wrapped = wrapped_keys(folder)
    hidden = {name: keys._hidden(name) for name in names}
    gone = [wrapped[hidden[names[number]]] for number in erased]
    for number in erased:
        keys.destroy(names[number])
    on_disk = b"".join(path.read_bytes() for path in folder.iterdir())
    keys.close()
    assert not [1 for key in gone if key[12:28] in on_disk]


# --- the embedded ring ------------------------------------------------------------------------------------------------


def count(folder):
    return len(wrapped_keys(folder))


def wrapped_keys(folder):
    database = sqlite3.connect(folder / "ring.sqlite")
    rows = dict(database.execute("SELECT subject, wrapped FROM data_keys WHERE wrapped IS NOT NULL"))
    database.close()
    return rows


@pytest.fixture
def known(tmp_path, monkeypatch):
    """A ring whose root key is known."""
    monkeypatch.setattr("os.urandom", lambda size: bytes(range(size)))
    ring = EmbeddedKeys(tmp_path / "known")
    yield ring
    ring.close()


def golden(personal, normalised):
    """HKDF-Expand (RFC 5869, 2.3) of one block, then HMAC, then base32, with nothing but the standard library."""
    key = hmac.new(ROOT, f"tidegate/1/token/{personal}".encode() + b"\x01", hashlib.sha256).digest()
    mac = hmac.new(key, normalised.encode(), hashlib.sha256).digest()
    return f"{personal}_{base64.b32encode(mac).decode()[:26]}"


@pytest.mark.parametrize(
    ("personal", "value", "normalised"),
    [
        ("pan", "4111 1111-1111 1111", "4111111111111111"),
        ("email", " Anna.Berg+x@Example.COM ", "anna.berg+x@example.com"),
        ("phone", "00 1 (555) 010-0123", "+15550100123"),
        ("name", "  Ａnna   BERG\tStraße", "anna berg strasse"),
        ("address", "1  High Street,\nTown", "1 high street, town"),
        ("ip", "::ffff:192.0.2.1", "192.0.2.1"),
        ("ip", "2001:DB8:0:0::1", "2001:db8::1"),
        ("geo", "52.5163, 13.3777", "52.52,13.38"),
        ("birth_date", "19800203", "1980-02-03"),
        ("national_id", "ab-12.34 / 5", "AB12345"),
        ("customer", " C-1 ", "C-1"),
        ("device", "d1\n", "d1"),
    ],
)
def test_golden_tokens(known, personal, value, normalised):
    assert known.token(personal, value) == golden(personal, normalised)


def test_golden_tokens_do_not_move(known):
    assert known.token("pan", "4111111111111111") == "pan_KJQ276LA4IYDCXGY2QT2Q3QRVL"
    assert known.token("customer", "C-1") == "customer_ALSIMFPWOLVOXP5DMOIMZQPWSA"


def test_the_ring_is_for_nobody_else(keys, folder):
    keys.seal(subject(keys), b"value", b"")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_nothing_but_wrapped_keys_is_on_disk(keys, folder):
    keys.seal("C-SECRET-NUMBER", b"4111111111111111", b"context-in-clear")
    data_key_subjects = b"".join(path.read_bytes() for path in folder.iterdir())
    for clear in (b"C-SECRET-NUMBER", b"4111111111111111", b"context-in-clear"):
        assert clear not in data_key_subjects


def test_the_ring_is_made_into_an_empty_folder(folder):
    folder.mkdir()
    EmbeddedKeys(folder).close()
    assert {path.name for path in folder.iterdir()} == {"root.key", "ring.sqlite"}
    assert [path.name for path in folder.parent.iterdir()] == ["keys"]


@pytest.mark.parametrize("lost", ["root.key", "ring.sqlite"])
def test_a_lost_part_is_never_made_anew(folder, lost):
    EmbeddedKeys(folder).close()
    (folder / lost).unlink()
    with pytest.raises(DamagedError, match=lost):
        EmbeddedKeys(folder)
    assert not (folder / lost).exists()


def test_another_root_key_is_refused(folder):
    EmbeddedKeys(folder).close()
    (folder / "root.key").write_bytes(bytes(32))
    with pytest.raises(DamagedError, match="belong"):
        EmbeddedKeys(folder)
    (folder / "root.key").write_bytes(bytes(31))
    with pytest.raises(DamagedError, match="31 bytes"):
        EmbeddedKeys(folder)


def test_a_database_that_is_none_is_refused(folder):
    EmbeddedKeys(folder).close()
    (folder / "ring.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(StateError):
        EmbeddedKeys(folder)


def test_a_wrapped_key_of_another_subject_is_refused(keys, folder):
    one, two = subject(keys, 1), subject(keys, 2)
    sealed = keys.seal(one, b"value", b"")
    keys.prepare([two])
    keys.close()
    database = sqlite3.connect(folder / "ring.sqlite", isolation_level=None)
    database.execute("UPDATE data_keys SET wrapped = (SELECT wrapped FROM data_keys WHERE number = 2) WHERE number = 1")
    database.close()
    again = EmbeddedKeys(folder)
    with pytest.raises(DamagedError, match="data key 1"):
        again.open(one, sealed, b"")
    with pytest.raises(DamagedError, match="data key 1"):
        again.seal(one, b"value", b"")
    again.close()


def test_memory_holds_a_bounded_number_of_keys(keys, monkeypatch):
    monkeypatch.setattr("tidegate.adapters.embedded.keys.MAX_KEYS_IN_MEMORY", 10)
    names = [subject(keys, number) for number in range(25)]
    sealed = [keys.seal(name, b"value", b"") for name in names]
    assert len(keys._keys) == 10
    assert {keys.open(name, envelope, b"") for name, envelope in zip(names, sealed, strict=True)} == {b"value"}


def test_the_wrapping_keys_limit_is_kept(keys, folder, monkeypatch):
    keys.prepare([subject(keys, number) for number in range(3)])
    monkeypatch.setattr("tidegate.adapters.embedded.keys.MAX_MESSAGES_PER_KEY", 3)
    with pytest.raises(StateError, match="3 data keys"):
        keys.seal(subject(keys, 3), b"value", b"")
    assert count(folder) == 3


def _seal_all(folder, ready, answers):
    ready.wait()
    keys = EmbeddedKeys(folder)
    names = [subject(keys, number) for number in range(40)]
    answers.put([(name, keys.seal(name, b"value", b"")) for name in names])
    keys.close()


def test_processes_agree_on_the_ring_and_on_every_first_key(folder):
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_seal_all, args=(folder, ready, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    sealed = [pair for _ in processes for pair in answers.get(timeout=60)]
    for process in processes:
        process.join()
    keys = EmbeddedKeys(folder)
    assert {keys.open(name, envelope, b"") for name, envelope in sealed} == {b"value"}
    assert count(folder) == 40
    assert [path.name for path in folder.parent.iterdir()] == ["keys"]
    keys.close()


def test_threads_share_a_ring(keys, folder):
    names = [subject(keys, number) for number in range(50)]
    sealed = []

    def seal():
        sealed.extend((name, keys.seal(name, b"value", b"")) for name in names)

    threads = [threading.Thread(target=seal) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {keys.open(name, envelope, b"") for name, envelope in sealed} == {b"value"}
    assert len(sealed) == 200
    assert count(folder) == 50


def test_a_key_is_durable_once_seal_returns(folder):
    script = (
        "import os, signal, sys; from pathlib import Path; from tidegate.adapters.embedded.keys import EmbeddedKeys\n"
        "keys = EmbeddedKeys(Path(sys.argv[1]))\n"
        "sys.stdout.buffer.write(keys.seal('customer_A', b'value', b'')); sys.stdout.flush()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    sealed = subprocess.run([sys.executable, "-c", script, folder], stdout=subprocess.PIPE, check=False).stdout
    keys = EmbeddedKeys(folder)
    assert keys.open("customer_A", sealed, b"") == b"value"
    keys.close()
