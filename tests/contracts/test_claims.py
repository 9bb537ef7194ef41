"""What every place for claims does: what was put is given out as it was, by whoever asks, and durable after a sync."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tidegate.adapters.embedded import claims as embedded
from tidegate.adapters.embedded.claims import EmbeddedClaims
from tidegate.errors import DamagedError, NotFoundError, OverloadError
from tidegate.ports.claims import Claims

Opener = Callable[[Path], Claims]

JOIN_TIMEOUT_S = 60


@pytest.fixture(params=[EmbeddedClaims], ids=["embedded"])
def opener(request: pytest.FixtureRequest) -> Opener:
    return request.param


@pytest.fixture
def claims(opener: Opener, tmp_path: Path) -> Claims:
    return opener(tmp_path / "claims")


def test_what_was_put_is_given_out_to_whoever_asks(claims: Claims, opener: Opener, tmp_path: Path) -> None:
    envelopes = [b"", b"one", os.urandom(300_000), b"one"]
    given = [claims.put(envelope) for envelope in envelopes]
    assert [claims.get(claim) for claim in given] == envelopes
    claims.sync()
    other = opener(tmp_path / "claims")
    assert [other.get(claim) for claim in given] == envelopes
    assert other.get(other.put(b"its own")) == b"its own"
    assert claims.get(given[2]) == envelopes[2]
    other.close()
    claims.close()
    assert opener(tmp_path / "claims").get(given[1]) == b"one"


def test_threads_put_at_the_same_time(claims: Claims) -> None:
    envelopes = [bytes([number]) * (1000 + number) for number in range(200)]

    def put(envelope: bytes) -> str:
        claim = claims.put(envelope)
        claims.sync()
        return claim

    with ThreadPoolExecutor(8) as threads:
        given = list(threads.map(put, envelopes))
    assert [claims.get(claim) for claim in given] == envelopes


@pytest.mark.parametrize("claim", ["", "x", "../../etc/passwd:0:10", "2026-01-01/0123456789abcdef:0:1", "a/b:0:1:2"])
def test_what_is_no_claim_is_not_found(claims: Claims, claim: str) -> None:
    with pytest.raises(NotFoundError):
        claims.get(claim)


def _put_and_die(opener: Opener, folder: Path, link: Any) -> None:
    claims = opener(folder)
    link.send([claims.put(bytes([number]) * 100_000) for number in range(5)])
    claims.sync()
    link.send("synced")
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_was_synced_outlives_its_process(opener: Opener, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_put_and_die, args=(opener, tmp_path / "claims", theirs))
    process.start()
    given = ours.recv()
    assert ours.recv() == "synced"
    process.join(JOIN_TIMEOUT_S)
    assert process.exitcode == -signal.SIGKILL
    claims = opener(tmp_path / "claims")
    assert [claims.get(claim) for claim in given] == [bytes([number]) * 100_000 for number in range(5)]


# Of the embedded ones alone: the files they are.


def test_a_full_segment_gives_way_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "SEGMENT_BYTES", 1000)
    claims = EmbeddedClaims(tmp_path)
    given = [claims.put(bytes([number]) * 400) for number in range(20)]
    assert [claims.get(claim) for claim in given] == [bytes([number]) * 400 for number in range(20)]
    assert len(list(tmp_path.glob("*/*.claims"))) == 20 * 400 // 1200 + 1


def test_an_envelope_that_is_cut_is_named_as_damaged(tmp_path: Path) -> None:
    claims = EmbeddedClaims(tmp_path)
    first, last = claims.put(b"first"), claims.put(b"last")
    (segment,) = tmp_path.glob("*/*.claims")
    os.truncate(segment, 7)
    assert claims.get(first) == b"first"
    with pytest.raises(DamagedError, match=segment.stem):
        claims.get(last)


def test_nothing_is_promised_once_the_disk_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = EmbeddedClaims(tmp_path)
    claims.put(b"lost")

    def fails(file: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(os, "fdatasync", fails)
        with pytest.raises(OverloadError, match="Input/output error"):
            claims.sync()
    # The disk would say now that all is well; what it had was lost.
    with pytest.raises(OverloadError, match="has failed"):
        claims.sync()


def test_what_was_written_in_part_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = EmbeddedClaims(tmp_path)
    before, write = claims.put(b"before"), os.pwrite

    def full(file: int, content: memoryview, offset: int) -> int:
        write(file, content[:3], offset)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as failing:
        failing.setattr(os, "pwrite", full)
        with pytest.raises(OverloadError, match="No space left"):
            claims.put(b"too much")
    after = claims.put(b"after")
    assert (claims.get(before), claims.get(after)) == (b"before", b"after")
