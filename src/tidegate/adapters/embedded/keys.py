"""The key ring in a folder: one root key, and in SQLite a wrapped data key for every subject.

    keys/root.key     32 random bytes
    keys/ring.sqlite  data keys, each wrapped under a key derived from the root; subjects stand there as keyed hashes

The folder is built aside and renamed into place, so that it is there as a whole or not at all: a part that is missing
later was lost, and is never made anew in silence. All else is derived from the root key by HKDF-SHA-256 (RFC 5869).

Many processes may hold the ring at once. SQLite's write lock makes two that create the first key of one subject agree;
its data version tells each that another has erased a key, which is then forgotten here too.

After an erasure the subject's next event gets a new key: a customer who comes back is protected and checked like any
other, and what was erased stays unreadable. The ring keeps the erased key's number, so that an envelope under it is
known as erased rather than damaged.
"""

from __future__ import annotations

import hmac
import os
import shutil
import sqlite3
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, get_args

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tidegate.adapters.embedded._sqlite import open_database, transaction, translated
from tidegate.errors import DamagedError, NotFoundError, OverloadError, StateError
from tidegate.streams.personal import normalise
from tidegate.streams.schema import PersonalClass

#: AES-256 and HMAC-SHA-256 take keys of this size.
KEY_BYTES = 32

#: 26 letters of base32 are 130 bits of the MAC: two of 10^12 values meet with a probability below 10^-15.
TOKEN_BITS = 130

#: AES-GCM with random 96-bit nonces: at most this many messages under one key keep the probability that a nonce comes
#: twice below 2^-32 (NIST SP 800-38D, 8.3). A subject would need 136 events a second for a year to get there; the
#: wrapping key gets there at as many subjects, which is checked.
MAX_MESSAGES_PER_KEY = 2**32

#: Data keys kept unwrapped in memory: about 30 MB, and more customers than are active within minutes.
MAX_KEYS_IN_MEMORY = 50_000

_ROOT_FILE, _RING_FILE = "root.key", "ring.sqlite"

#: "TGKR" in the file's header.
_APPLICATION_ID = 0x54474B52
_LAYOUT = 1

_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_BASE32_PAIRS = [first + second for first in _BASE32 for second in _BASE32]

_VERSION = b"\x01"
_KEY_NUMBER_BYTES = 8
_NONCE_BYTES = 12
_HEADER_BYTES = len(_VERSION) + _KEY_NUMBER_BYTES
_TAG_BYTES = 16

_TABLES = """
CREATE TABLE ring (root_check BLOB NOT NULL, erasures INTEGER NOT NULL);
CREATE TABLE data_keys (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    subject BLOB NOT NULL,
    wrapped BLOB  -- NULL: erased
);
CREATE UNIQUE INDEX one_living_key ON data_keys (subject) WHERE wrapped IS NOT NULL
"""


class _DataKey(NamedTuple):
    number: int
    cipher: AESGCM


class EmbeddedKeys:
    """The key ring in `folder`, made at its first use with a root key of its own. Threads may share it."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            DamagedError: a part of the ring is missing, or root key and database do not belong together.
        """
        if not folder.exists() or not any(folder.iterdir()):
            _create(folder)
        self._root = _read_root(folder)
        self._token_keys = {personal: _derive(self._root, f"token/{personal}") for personal in get_args(PersonalClass)}
        self._subject_key = _derive(self._root, "subject")
        self._wrapping = AESGCM(_derive(self._root, "wrapping"))
        self._lock = threading.Lock()
        self._keys: OrderedDict[str, _DataKey] = OrderedDict()
        self._path = folder / _RING_FILE
        self._database = _connect(self._path)
        self._data_version = self._erasures = -1
        _check_root(self._database, self._root, folder)

    def token(self, personal: PersonalClass, value: str) -> str:
        mac = hmac.digest(self._token_keys[personal], normalise(personal, value).encode(), "sha256")
        return f"{personal}_{_letters(mac)}"

    def prepare(self, subjects: Iterable[str]) -> None:
        with self._lock, translated(self._path):
            self._forget_if_erased()
            self._make([subject for subject in set(subjects) if self._remembered(subject) is None])

    def seal(self, subject: str, plaintext: bytes, context: bytes) -> bytes:
        with self._lock, translated(self._path):
            self._forget_if_erased()
            key = self._remembered(subject)
            if key is None:
                key = self._make([subject])[0]
        header = _VERSION + key.number.to_bytes(_KEY_NUMBER_BYTES, "big", signed=True)
        nonce = os.urandom(_NONCE_BYTES)
        return header + nonce + key.cipher.encrypt(nonce, plaintext, _bound(header, subject, context))

    def open(self, subject: str, sealed: bytes, context: bytes) -> bytes:
        header, nonce = sealed[:_HEADER_BYTES], sealed[_HEADER_BYTES : _HEADER_BYTES + _NONCE_BYTES]
        if len(sealed) < _HEADER_BYTES + _NONCE_BYTES + _TAG_BYTES or not header.startswith(_VERSION):
            raise DamagedError("open envelope: wanted an envelope of version 1, got something else; read it again")
        # Signed, as SQLite's integers are: a forged number may be any, but must not be more than the database takes.
        number = int.from_bytes(header[len(_VERSION) :], "big", signed=True)
        with self._lock, translated(self._path):
            self._forget_if_erased()
            key = self._remembered(subject)
            if key is None or key.number != number:
                key = self._load(subject, number)
        try:
            return key.cipher.decrypt(nonce, sealed[_HEADER_BYTES + _NONCE_BYTES :], _bound(header, subject, context))
        except InvalidTag:
            raise DamagedError(
                "open envelope: its tag does not fit: envelope, subject or context is not the one that was sealed"
            ) from None

    def destroy(self, subject: str) -> bool:
        """As the port says; the ring's write-ahead log is emptied too, where a copy of the wrapped key would lie on.

        Raises:
            OverloadError: the key is gone, but another process kept its copy in the write-ahead log from being
                overwritten. Destroy again.
        """
        with self._lock, translated(self._path):
            with transaction(self._database, self._path):
                erased = self._database.execute(
                    "UPDATE data_keys SET wrapped = NULL WHERE subject = ? AND wrapped IS NOT NULL",
                    (self._hidden(subject),),
                ).rowcount
                self._database.execute("UPDATE ring SET erasures = erasures + ?", (erased,))
            self._keys.pop(subject, None)
            busy, _, _ = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise OverloadError("erase key: the key ring is in use by another process; erase again", retry_after_s=1)
        return bool(erased)

    def signing_key(self, purpose: str) -> bytes:
        return _derive(self._root, f"signing/{purpose}")

    def close(self) -> None:
        with self._lock:
            self._keys.clear()
            self._database.close()

    def _hidden(self, subject: str) -> bytes:
        """How a subject stands in the database: even a subject that is not a token could not be read there."""
        return hmac.digest(self._subject_key, subject.encode(), "sha256")

    def _forget_if_erased(self) -> None:
        """Drop the keys in memory if any process has erased one since we looked."""
        (data_version,) = self._database.execute("PRAGMA data_version").fetchone()
        if data_version != self._data_version:
            (erasures,) = self._database.execute("SELECT erasures FROM ring").fetchone()
            if erasures != self._erasures:
                self._keys.clear()
            self._data_version, self._erasures = data_version, erasures

    def _remembered(self, subject: str) -> _DataKey | None:
        key = self._keys.get(subject)
        if key is not None:
            self._keys.move_to_end(subject)
        return key

    def _remember(self, subject: str, key: _DataKey) -> None:
        self._keys[subject] = key
        if len(self._keys) > MAX_KEYS_IN_MEMORY:
            self._keys.popitem(last=False)

    def _unwrap(self, number: int, hidden: bytes, wrapped: bytes) -> _DataKey:
        try:
            data_key = self._wrapping.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], hidden)
        except InvalidTag:
            raise DamagedError(f"key ring: data key {number} is not what was written; restore the ring") from None
        return _DataKey(number, AESGCM(data_key))

    def _load(self, subject: str, number: int) -> _DataKey:
        """The key under which an envelope was sealed, which need not be the subject's newest."""
        row = self._database.execute("SELECT subject, wrapped FROM data_keys WHERE number = ?", (number,)).fetchone()
        if row is None:
            raise NotFoundError(
                f"open envelope: the ring holds no data key {number}; was another ring used to seal it?"
            )
        hidden, wrapped = row
        if hidden != self._hidden(subject):
            raise DamagedError(f"open envelope: data key {number} is another subject's")
        if wrapped is None:
            raise NotFoundError(f"open envelope: data key {number} was erased at its subject's wish, for good")
        key = self._unwrap(number, hidden, wrapped)
        self._remember(subject, key)
        return key

    def _make(self, subjects: list[str]) -> list[_DataKey]:
        """The living data keys of the subjects, made where there is none yet, in one durable transaction."""
        hidden = {subject: self._hidden(subject) for subject in subjects}
        found = self._living(hidden)
        if missing := [subject for subject in subjects if subject not in found]:
            with transaction(self._database, self._path):
                # Another process may have been here first: then its key stays, and is read below.
                last = (
                    self._database.executemany(
                        "INSERT OR IGNORE INTO data_keys (subject, wrapped) VALUES (?, ?)",
                        [(hidden[subject], self._new_wrapped_key(hidden[subject])) for subject in missing],
                    )
                    .execute("SELECT max(number) FROM data_keys")
                    .fetchone()[0]
                )
                if last > MAX_MESSAGES_PER_KEY:
                    raise StateError(f"key ring: {MAX_MESSAGES_PER_KEY} data keys made, all that one root key may wrap")
            found |= self._living({subject: hidden[subject] for subject in missing})
        for subject, key in found.items():
            self._remember(subject, key)
        return [found[subject] for subject in subjects]

    def _living(self, hidden: dict[str, bytes]) -> dict[str, _DataKey]:
        found: dict[str, _DataKey] = {}
        for subject, name in hidden.items():
            row = self._database.execute(
                "SELECT number, wrapped FROM data_keys WHERE subject = ? AND wrapped IS NOT NULL", (name,)
            ).fetchone()
            if row is not None:
                found[subject] = self._unwrap(row[0], name, row[1])
        return found

    def _new_wrapped_key(self, hidden: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._wrapping.encrypt(nonce, os.urandom(KEY_BYTES), hidden)


def _derive(root: bytes, purpose: str) -> bytes:
    # The root key is uniformly random, so HKDF's extract step has nothing to add (RFC 5869, 3.3).
    return HKDFExpand(SHA256(), KEY_BYTES, f"tidegate/1/{purpose}".encode()).derive(root)


def _letters(mac: bytes) -> str:
    """The first TOKEN_BITS bits in base32 (RFC 4648): pair by pair, three times as fast as the standard library."""
    bits = int.from_bytes(mac, "big") >> (8 * len(mac) - TOKEN_BITS)
    return "".join([_BASE32_PAIRS[bits >> shift & 0x3FF] for shift in range(TOKEN_BITS - 10, -1, -10)])


def _bound(header: bytes, subject: str, context: bytes) -> bytes:
    """What an envelope is bound to: its header, its subject and the caller's context, none of which can be confused."""
    name = subject.encode()
    return header + len(name).to_bytes(4, "big") + name + context


def _connect(path: Path) -> sqlite3.Connection:
    database = open_database(path, application_id=_APPLICATION_ID, version=_LAYOUT, tables=_TABLES, synchronous="FULL")
    # Overwrites with zeros what is deleted: an erased key must not lie on in a free page.
    database.execute("PRAGMA secure_delete = ON")
    return database


def _create(folder: Path) -> None:
    """Build the ring beside its place and rename it into place; if another process was faster, its ring stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    built = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        root = os.urandom(KEY_BYTES)
        for name in (_ROOT_FILE, _RING_FILE):
            (built / name).touch(mode=0o600)
        (built / _ROOT_FILE).write_bytes(root)
        database = _connect(built / _RING_FILE)
        database.execute("INSERT INTO ring VALUES (?, 0)", (_derive(root, "check"),))
        database.close()
        for path in (*built.iterdir(), built):
            _sync(path)
        try:
            built.rename(folder)
        except OSError:
            if not (folder / _ROOT_FILE).exists():
                raise
        _sync(folder.parent)
    finally:
        shutil.rmtree(built, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_root(folder: Path) -> bytes:
    for name in (_ROOT_FILE, _RING_FILE):
        if not (folder / name).is_file():
            raise DamagedError(f"key ring: {name} is missing from {folder}; restore the whole folder from its backup")
    root = (folder / _ROOT_FILE).read_bytes()
    if len(root) != KEY_BYTES:
        raise DamagedError(f"key ring: {_ROOT_FILE} has {len(root)} bytes, wanted {KEY_BYTES}; restore it")
    return root


def _check_root(database: sqlite3.Connection, root: bytes, folder: Path) -> None:
    with translated(folder / _RING_FILE):
        row = database.execute("SELECT root_check FROM ring").fetchone()
    if row is None or not hmac.compare_digest(row[0], _derive(root, "check")):
        raise DamagedError(f"key ring: {_ROOT_FILE} and {_RING_FILE} in {folder} do not belong together; restore both")
