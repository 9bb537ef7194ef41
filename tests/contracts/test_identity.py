"""The contract of identity, and what only the embedded one promises."""

import base64
import json
import sqlite3

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from tidegate.adapters.embedded import identity as embedded
from tidegate.adapters.embedded.identity import EmbeddedIdentity
from tidegate.errors import AccessError, OverloadError, UsageError
from tidegate.ports.identity import Principal

SIGNING_KEY = bytes(range(32))
PASSWORD = "correct horse battery"
ANALYST = frozenset({"analyst"})


class SetClock:
    """A clock that stands where it is set."""

    ms = 1_760_000_000_000

    def now_ms(self):
        return self.ms


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "identity.sqlite"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """scrypt at its real cost is tested once; elsewhere it would only take time."""
    monkeypatch.setattr(embedded, "SCRYPT_N", 2)


@pytest.fixture(params=["embedded"])
def identity(path, clock):
    made = EmbeddedIdentity(path, SIGNING_KEY, clock)
    yield made
    made.close()


# --- sources ----------------------------------------------------------------------------------------------------------


def test_a_source_is_known_by_its_key(identity):
    api_key = identity.add_source("pos", frozenset({"transactions"}))
    assert api_key.startswith("tg_pos_")
    assert len(api_key.removeprefix("tg_pos_")) == 43
    for _ in range(2):
        assert identity.who(api_key) == Principal("pos", frozenset({"source"}), frozenset({"transactions"}))


def test_a_source_added_again_has_a_new_key_only(identity, path, clock):
    other = EmbeddedIdentity(path, SIGNING_KEY, clock)
    old = identity.add_source("pos", frozenset({"transactions"}))
    assert other.who(old).name == "pos"
    new = identity.add_source("pos", frozenset({"transactions", "labels"}))
    for reader in (identity, other):
        with pytest.raises(AccessError):
            reader.who(old)
        assert reader.who(new).streams == {"transactions", "labels"}
    other.close()


@pytest.mark.parametrize("wrong", ["tg_", "tg_pos_", "tg_pos_" + "A" * 43, "Bearer", "", "a.b.c", "é"])
def test_an_unknown_credential_is_refused_without_being_repeated(identity, wrong):
    api_key = identity.add_source("pos", frozenset({"transactions"}))
    with pytest.raises(AccessError) as refusal:
        identity.who(wrong)
    assert not refusal.value.known
    assert not wrong or wrong not in str(refusal.value)
    with pytest.raises(AccessError):
        identity.who(api_key[:-1])


# --- people -----------------------------------------------------------------------------------------------------------


def test_a_person_signs_in(identity):
    identity.add_user("anna", PASSWORD, frozenset({"analyst", "auditor"}))
    assert identity.who(identity.sign_in("anna", PASSWORD)) == Principal("anna", frozenset({"analyst", "auditor"}))


def test_a_wrong_name_is_answered_like_a_wrong_password(identity):
    identity.add_user("anna", PASSWORD, ANALYST)
    answers = []
    for name, password in (("anna", "wrong horse battery"), ("nobody", PASSWORD), ("", ""), ("x" * 5000, "y" * 5000)):
        with pytest.raises(AccessError) as refusal:
            identity.sign_in(name, password)
        assert not refusal.value.known
        answers.append(str(refusal.value))
    assert len(set(answers)) == 1


def test_a_token_lasts_twelve_hours(identity, clock):
    identity.add_user("anna", PASSWORD, ANALYST)
    token = identity.sign_in("anna", PASSWORD)
    clock.ms += 12 * 3600 * 1000 - 1000
    assert identity.who(token).name == "anna"
    clock.ms += 1000
    with pytest.raises(AccessError, match="expired"):
        identity.who(token)


@pytest.mark.parametrize("change", ["password", "roles"])
def test_a_change_ends_the_tokens_from_before(identity, change):
    identity.add_user("anna", PASSWORD, ANALYST)
    old = identity.sign_in("anna", PASSWORD)
    password = PASSWORD if change == "roles" else "another horse battery"
    roles = ANALYST if change == "password" else frozenset({"auditor"})
    identity.add_user("anna", password, roles)
    with pytest.raises(AccessError):
        identity.who(old)
    assert identity.who(identity.sign_in("anna", password)).roles == roles
    if change == "password":
        with pytest.raises(AccessError):
            identity.sign_in("anna", PASSWORD)


def test_guesses_are_slowed_down_by_name(identity, clock):
    identity.add_user("anna", PASSWORD, ANALYST)
    identity.add_user("berta", PASSWORD, ANALYST)
    for name in ("anna", "nobody"):
        for _ in range(5):
            with pytest.raises(AccessError):
                identity.sign_in(name, "wrong horse battery")
        with pytest.raises(OverloadError) as wait:
            identity.sign_in(name, PASSWORD)
        assert wait.value.retry_after_s == 1800
    assert identity.sign_in("berta", PASSWORD)
    clock.ms += 1799_999
    with pytest.raises(OverloadError) as wait:
        identity.sign_in("anna", PASSWORD)
    assert wait.value.retry_after_s == 1
    clock.ms += 1
    assert identity.sign_in("anna", PASSWORD)


def test_signing_in_forgives_the_wrong_passwords_before(identity):
    identity.add_user("anna", PASSWORD, ANALYST)
    for _ in range(3):
        for _ in range(4):
            with pytest.raises(AccessError):
                identity.sign_in("anna", "wrong horse battery")
        assert identity.sign_in("anna", PASSWORD)


def test_a_new_password_ends_the_wait(identity):
    identity.add_user("anna", PASSWORD, ANALYST)
    for _ in range(5):
        with pytest.raises(AccessError):
            identity.sign_in("anna", "wrong horse battery")
    identity.add_user("anna", "another horse battery", ANALYST)
    assert identity.sign_in("anna", "another horse battery")


def test_failures_count_across_processes(identity, path, clock):
    other = EmbeddedIdentity(path, SIGNING_KEY, clock)
    for door in (identity, other, identity, other, identity):
        with pytest.raises(AccessError):
            door.sign_in("anna", "wrong horse battery")
    with pytest.raises(OverloadError):
        other.sign_in("anna", "wrong horse battery")
    other.close()


@pytest.mark.parametrize(
    "add",
    [
        lambda identity: identity.add_user("anna", "short", ANALYST),
        lambda identity: identity.add_user("anna", PASSWORD, frozenset({"king"})),
        lambda identity: identity.add_user("", PASSWORD, ANALYST),
        lambda identity: identity.add_user("a b", PASSWORD, ANALYST),
        lambda identity: identity.add_source("-", frozenset()),
        lambda identity: identity.add_source("pos", frozenset({"gold"})),
    ],
)
def test_what_cannot_be_added(identity, add):
    with pytest.raises(UsageError) as refusal:
        add(identity)
    assert "short" not in str(refusal.value)


# --- the embedded one -------------------------------------------------------------------------------------------------


def claims(clock, **changed):
    now_s = clock.ms // 1000
    made = {"iss": "tidegate", "sub": "anna", "roles": ["admin"], "version": 1, "iat": now_s, "exp": now_s + 60}
    return {name: value for name, value in (made | changed).items() if value is not None}


def test_a_token_made_by_hand_with_the_key_is_taken(identity, clock):
    identity.add_user("anna", PASSWORD, ANALYST)
    token = jwt.encode({"alg": "HS256"}, claims(clock), OctKey.import_key(SIGNING_KEY))
    assert identity.who(token).name == "anna"


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "other"},
        {"iss": None},
        {"sub": None},
        {"sub": "berta"},
        {"sub": 7},
        {"exp": None},
        {"exp": 1},
        {"exp": "tomorrow"},
        {"version": 2},
        {"version": None},
    ],
)
def test_a_token_that_says_otherwise_is_refused(identity, clock, changed):
    identity.add_user("anna", PASSWORD, ANALYST)
    token = jwt.encode({"alg": "HS256"}, claims(clock, **changed), OctKey.import_key(SIGNING_KEY))
    with pytest.raises(AccessError):
        identity.who(token)


def test_forged_tokens_are_refused(identity, clock):
    identity.add_user("anna", PASSWORD, ANALYST)

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    genuine = identity.sign_in("anna", PASSWORD)
    header, _, signature = genuine.split(".")
    forged = [
        f"{part({'alg': 'none'})}.{part(claims(clock))}.",
        f"{part({'alg': 'none'})}.{part(claims(clock))}.{signature}",
        f"{header}.{part(claims(clock))}.{signature}",
        jwt.encode({"alg": "HS256"}, claims(clock), OctKey.import_key(bytes(32))),
        jwt.encode({"alg": "HS512"}, claims(clock), OctKey.import_key(SIGNING_KEY), algorithms=["HS512"]),
        genuine[:-2],
        f"{header}.{part([])}.{signature}",
    ]
    for token in forged:
        with pytest.raises(AccessError):
            identity.who(token)


def test_no_secret_is_on_disk_and_the_file_is_for_nobody_else(identity, path):
    api_key = identity.add_source("pos", frozenset({"transactions"}))
    identity.add_user("anna", PASSWORD, ANALYST)
    with pytest.raises(AccessError):
        identity.sign_in("typed-password-as-name", "wrong horse battery")
    on_disk = b"".join(file.read_bytes() for file in path.parent.iterdir())
    for secret in (api_key, api_key.removeprefix("tg_pos_"), PASSWORD, "typed-password-as-name"):
        assert secret.encode() not in on_disk
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_passwords_are_stretched_by_scrypt_at_its_full_cost(path, clock, monkeypatch):
    monkeypatch.undo()
    import hashlib

    identity = EmbeddedIdentity(path, SIGNING_KEY, clock)
    identity.add_user("anna", PASSWORD, ANALYST)
    identity.close()
    database = sqlite3.connect(path)
    salt, kept = database.execute("SELECT salt, hash FROM people").fetchone()
    database.close()
    assert kept == hashlib.scrypt(PASSWORD.encode(), salt=salt, n=2**15, r=8, p=3, maxmem=2**26, dklen=32)
