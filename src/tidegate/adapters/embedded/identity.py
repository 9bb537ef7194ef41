"""People and sources in a SQLite file: scrypt hashes of passwords, SHA-256 of API keys, JSON web tokens.

An API key is `tg_<name>_<43 letters>`: 256 random bits, so a plain hash keeps it (there is nothing to guess). A
person's token (RFC 7519) is signed with HS256 and names the version of her entry: once password or roles are replaced,
the tokens from before are worth nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import threading
from pathlib import Path
from typing import get_args

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from tidegate.adapters.embedded._sqlite import open_database, transaction, translated
from tidegate.errors import AccessError, OverloadError, UsageError
from tidegate.ports.clock import Clock
from tidegate.ports.identity import Principal, Role
from tidegate.streams.schema import STREAMS

#: scrypt's cost (RFC 7914): 32 MiB and three passes, one of OWASP's equal choices; the one that lets a small machine
#: take several sign-ins at once.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 3
SALT_BYTES = 16
HASH_BYTES = 32

#: PCI DSS 8.3.6.
MIN_PASSWORD_CHARS = 12

#: A token outlives a shift and no more.
TOKEN_LIFE_S = 12 * 3600

#: PCI DSS 8.3.4 wants a name locked for 30 minutes after 10 wrong passwords at most.
MAX_FAILURES = 5
LOCK_MS = 30 * 60 * 1000

_ISSUER = "tidegate"
_ALGORITHM = "HS256"
_API_KEY_BYTES = 32
_API_KEY_PREFIX = "tg_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")

#: "TGID" in the file's header.
_APPLICATION_ID = 0x54474944
_LAYOUT = 1
_TABLES = """
CREATE TABLE people (
    name TEXT PRIMARY KEY, salt BLOB NOT NULL, hash BLOB NOT NULL, roles TEXT NOT NULL, version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE sources (name TEXT PRIMARY KEY, key_hash BLOB NOT NULL UNIQUE, streams TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE failures (name_hash BLOB PRIMARY KEY, count INTEGER NOT NULL, last_ms INTEGER NOT NULL) WITHOUT ROWID
"""


class EmbeddedIdentity:
    """People and sources in the file `path`; `signing_key` (32 bytes) signs their tokens. Threads may share it;
    `sign_in` and `add_user` take some 100 ms of one core.
    """

    def __init__(self, path: Path, signing_key: bytes, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._signing_key = OctKey.import_key(signing_key)
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite gives the files it makes beside this one the same mode.
        path.touch(mode=0o600)
        self._database = open_database(
            path, application_id=_APPLICATION_ID, version=_LAYOUT, tables=_TABLES, synchronous="FULL"
        )
        self._lock = threading.Lock()
        self._sources: dict[str, Principal] = {}
        self._data_version = -1

    def add_user(self, name: str, password: str, roles: frozenset[Role]) -> None:
        """As the port says; tokens from before are worth nothing any more.

        Raises:
            UsageError: the name has other letters than allowed, the password is too short, a role is unknown.
        """
        _check_name(name)
        if len(password) < MIN_PASSWORD_CHARS:
            raise UsageError(f"add user {name}: wanted a password of {MIN_PASSWORD_CHARS} characters or more")
        if unknown := roles - set(get_args(Role)):
            raise UsageError(f"add user {name}: roles {sorted(unknown)} are not among {', '.join(get_args(Role))}")
        salt = os.urandom(SALT_BYTES)
        hashed = _stretch(password, salt)
        with self._lock, transaction(self._database, self._path):
            self._database.execute(
                "INSERT INTO people VALUES (?, ?, ?, ?, 1) ON CONFLICT (name) DO UPDATE SET"
                " salt = excluded.salt, hash = excluded.hash, roles = excluded.roles, version = version + 1",
                (name, salt, hashed, " ".join(sorted(roles))),
            )
            self._database.execute("DELETE FROM failures WHERE name_hash = ?", (_hashed(name),))

    def add_source(self, name: str, streams: frozenset[str]) -> str:
        """As the port says; a source that is there gets a new key and these streams, its old key is worth nothing.

        Raises:
            UsageError: the name has other letters than allowed, a stream is unknown.
        """
        _check_name(name)
        if unknown := streams - set(STREAMS):
            raise UsageError(f"add source {name}: streams {sorted(unknown)} are not among {', '.join(STREAMS)}")
        api_key = f"{_API_KEY_PREFIX}{name}_{secrets.token_urlsafe(_API_KEY_BYTES)}"
        with self._lock:
            with transaction(self._database, self._path):
                self._database.execute(
                    "INSERT OR REPLACE INTO sources VALUES (?, ?, ?)",
                    (name, _hashed(api_key), " ".join(sorted(streams))),
                )
            self._sources.clear()
        return api_key

    def sign_in(self, name: str, password: str) -> str:
        """As the port says. A wrong name costs as much time as a wrong password.

        Raises:
            AccessError: no such name and password.
            OverloadError: MAX_FAILURES wrong passwords for this name: it waits for LOCK_MS.
        """
        self._count_attempt(name)
        with self._lock, translated(self._path):
            row = self._database.execute(
                "SELECT salt, hash, roles, version FROM people WHERE name = ?", (name,)
            ).fetchone()
        salt, wanted, roles, version = row or (bytes(SALT_BYTES), bytes(HASH_BYTES), "", 0)
        if not hmac.compare_digest(_stretch(password, salt), wanted):
            raise AccessError("sign in: no such name and password", known=False)
        with self._lock, transaction(self._database, self._path):
            self._database.execute("DELETE FROM failures WHERE name_hash = ?", (_hashed(name),))
        now_s = self._clock.now_ms() // 1000
        claims = {
            "iss": _ISSUER,
            "sub": name,
            "roles": roles.split(),
            "version": version,
            "iat": now_s,
            "exp": now_s + TOKEN_LIFE_S,
        }
        return jwt.encode({"alg": _ALGORITHM}, claims, self._signing_key)

    def who(self, credential: str) -> Principal:
        if credential.startswith(_API_KEY_PREFIX):
            return self._source(credential)
        return self._person(credential)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _count_attempt(self, name: str) -> None:
        """Count the attempt as a failure before it is tried, so that many at once cannot slip through."""
        now_ms = self._clock.now_ms()
        name_hash = _hashed(name)
        with self._lock, transaction(self._database, self._path):
            self._database.execute("DELETE FROM failures WHERE last_ms <= ?", (now_ms - LOCK_MS,))
            count, last_ms = self._database.execute(
                "SELECT count, last_ms FROM failures WHERE name_hash = ?", (name_hash,)
            ).fetchone() or (0, 0)
            if count >= MAX_FAILURES:
                raise OverloadError(
                    f"sign in: {MAX_FAILURES} wrong passwords for this name; wait, or have a new one set",
                    retry_after_s=-(-(last_ms + LOCK_MS - now_ms) // 1000),
                )
            self._database.execute("INSERT OR REPLACE INTO failures VALUES (?, ?, ?)", (name_hash, count + 1, now_ms))

    def _source(self, api_key: str) -> Principal:
        with self._lock, translated(self._path):
            # Another process may have given the source a new key.
            (data_version,) = self._database.execute("PRAGMA data_version").fetchone()
            if data_version != self._data_version:
                self._sources.clear()
                self._data_version = data_version
            principal = self._sources.get(api_key)
            if principal is None:
                row = self._database.execute(
                    "SELECT name, streams FROM sources WHERE key_hash = ?", (_hashed(api_key),)
                ).fetchone()
                if row is None:
                    raise AccessError("sign in: unknown API key; ask for a new one", known=False)
                principal = Principal(row[0], frozenset(("source",)), frozenset(row[1].split()))
                self._sources[api_key] = principal
        return principal

    def _person(self, token: str) -> Principal:
        try:
            claims = jwt.decode(token, self._signing_key, algorithms=[_ALGORITHM]).claims
            jwt.JWTClaimsRegistry(
                now=self._clock.now_ms() // 1000,
                iss={"essential": True, "value": _ISSUER},
                sub={"essential": True},
                exp={"essential": True},
            ).validate(claims)
        except (JoseError, ValueError):
            raise AccessError("sign in: the token is forged or has expired; sign in again", known=False) from None
        with self._lock, translated(self._path):
            row = self._database.execute("SELECT version FROM people WHERE name = ?", (claims["sub"],)).fetchone()
        if row is None or row[0] != claims.get("version"):
            raise AccessError("sign in: password or roles were changed since; sign in again", known=False)
        return Principal(claims["sub"], frozenset(claims["roles"]))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError("add name: wanted up to 64 letters, digits and . _ @ -, the first a letter or digit")


def _stretch(password: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=HASH_BYTES, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P).derive(password.encode())


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
