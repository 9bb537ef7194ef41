"""The audit trail's contract, and how the embedded one shows that it was changed."""

import multiprocessing
import os
import stat
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.adapters.embedded.audit import EmbeddedAudit
from tidegate.errors import DamagedError
from tidegate.ports.audit import AuditEntry

KEY = bytes(range(32))
DAY_MS = 24 * 3600 * 1000
START_MS = 1_764_000_000_000


def entry(number, *, day=0):
    return AuditEntry(
        time_ms=START_MS + day * DAY_MS + number,
        who="anna",
        what="reveal",
        on=f"customer_{number}",
        where="192.0.2.7",
        outcome="done",
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "audit"


@pytest.fixture(params=["embedded"])
def audit(folder):
    return EmbeddedAudit(folder, KEY)


def files(folder):
    return sorted(folder.glob("*.jsonl"))


def test_an_empty_trail(audit):
    assert list(audit.entries()) == []


def test_entries_come_back_in_order_across_days(audit, folder):
    written = [entry(number, day=number // 4) for number in range(12)]
    for each in written:
        audit.write(each)
    assert list(audit.entries()) == written
    assert list(EmbeddedAudit(folder, KEY).entries()) == written
    assert len(files(folder)) == 3


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=50))
def test_any_text_is_kept(tmp_path_factory, text):
    audit = EmbeddedAudit(tmp_path_factory.mktemp("audit"), KEY)
    odd = AuditEntry(time_ms=START_MS, who=text, what='","link":"' + text, on=text, where=text, outcome="refused")
    audit.write(odd)
    audit.write(odd)
    assert list(audit.entries()) == [odd, odd]


def test_a_clock_that_steps_back_does_not_tear_the_chain(audit, folder):
    written = [entry(1, day=1), entry(2, day=0), entry(3, day=2), entry(4, day=1)]
    for each in written:
        audit.write(each)
    assert list(audit.entries()) == written
    assert len(files(folder)) == 2


# --- tampering --------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(folder):
    """A trail of nine entries over three days."""
    audit = EmbeddedAudit(folder, KEY)
    for number in range(9):
        audit.write(entry(number, day=number // 3))
    return folder


def noticed(folder):
    with pytest.raises(DamagedError) as damage:
        list(EmbeddedAudit(folder, KEY).entries())
    return str(damage.value)


@pytest.mark.parametrize("number", range(9))
def test_a_changed_entry_is_noticed(written, number):
    file = files(written)[number // 3]
    file.write_bytes(file.read_bytes().replace(f'"customer_{number}"'.encode(), b'"customer_x"'))
    message = noticed(written)
    assert file.name in message
    if number < 8:
        assert f"entry {number + 1} of" in message


@pytest.mark.parametrize("number", range(9))
def test_a_dropped_entry_is_noticed(written, number):
    file = files(written)[number // 3]
    lines = file.read_bytes().splitlines(keepends=True)
    del lines[number % 3]
    file.write_bytes(b"".join(lines))
    noticed(written)


@pytest.mark.parametrize("number", range(10))
def test_an_entry_put_in_is_noticed(written, number):
    file = files(written)[min(number // 3, 2)]
    lines = file.read_bytes().splitlines(keepends=True)
    lines.insert(number - 3 * min(number // 3, 2), lines[0].replace(b"customer_", b"customer_9"))
    file.write_bytes(b"".join(lines))
    noticed(written)


def test_entries_changing_places_are_noticed(written):
    for first, second in pairwise(range(3)):
        file = files(written)[1]
        lines = file.read_bytes().splitlines(keepends=True)
        lines[first], lines[second] = lines[second], lines[first]
        file.write_bytes(b"".join(lines))
        noticed(written)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_noticed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("audit")
    audit = EmbeddedAudit(folder, KEY)
    for number in range(4):
        audit.write(entry(number, day=number // 2))
    file = data.draw(st.sampled_from(files(folder)))
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    noticed(folder)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_cut_end_is_noticed_by_reader_and_writer(written, kept):
    file = files(written)[-1]
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:kept]))
    assert "missing" in noticed(written)
    with pytest.raises(DamagedError):
        EmbeddedAudit(written, KEY).write(entry(10, day=3))


@pytest.mark.parametrize("day", range(3))
def test_a_removed_day_is_noticed(written, day):
    files(written)[day].unlink()
    noticed(written)


def test_a_removed_head_is_noticed(written):
    (written / "head.json").unlink()
    noticed(written)


def test_a_head_put_back_to_an_older_one_is_noticed_when_more_than_one_entry_is_beyond_it(folder):
    audit = EmbeddedAudit(folder, KEY)
    audit.write(entry(1))
    head = (folder / "head.json").read_bytes()
    audit.write(entry(2))
    audit.write(entry(3))
    (folder / "head.json").write_bytes(head)
    noticed(folder)


def test_a_head_that_is_none_is_noticed(written):
    (written / "head.json").write_bytes(b"{")
    noticed(written)


def test_whoever_lacks_the_key_cannot_add_to_the_trail(written):
    stranger = EmbeddedAudit(written, bytes(32))
    with pytest.raises(DamagedError):
        list(stranger.entries())
    stranger.write(entry(10, day=2))
    noticed(written)


# --- kills ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def before_head(folder):
    """A trail as a writer leaves it that was killed after the line, before the head."""
    audit = EmbeddedAudit(folder, KEY)
    audit.write(entry(1))
    head = (folder / "head.json").read_bytes()
    audit.write(entry(2, day=1))
    (folder / "head.json").write_bytes(head)
    return folder


def test_a_line_without_its_head_is_taken_in(before_head):
    audit = EmbeddedAudit(before_head, KEY)
    assert list(audit.entries()) == [entry(1), entry(2, day=1)]
    audit.write(entry(3, day=1))
    assert list(audit.entries()) == [entry(1), entry(2, day=1), entry(3, day=1)]


@pytest.mark.parametrize("left", [0, 1, 50, -1])
def test_half_a_line_is_dropped(before_head, left):
    file = files(before_head)[-1]
    file.write_bytes(file.read_bytes()[:left])
    audit = EmbeddedAudit(before_head, KEY)
    assert list(audit.entries()) == [entry(1)]
    audit.write(entry(3))
    assert list(audit.entries()) == [entry(1), entry(3)]


def test_a_first_line_without_a_head_is_taken_in(folder):
    audit = EmbeddedAudit(folder, KEY)
    audit.write(entry(1))
    (folder / "head.json").unlink()
    assert list(audit.entries()) == [entry(1)]


# --- many writers -----------------------------------------------------------------------------------------------------


def _write(folder, number):
    audit = EmbeddedAudit(folder, KEY)
    for each in range(25):
        audit.write(entry(number * 100 + each))


def test_processes_share_a_trail(folder):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(folder, number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = [each.time_ms - START_MS for each in EmbeddedAudit(folder, KEY).entries()]
    assert sorted(found) == sorted(number * 100 + each for number in range(3) for each in range(25))
    for number in range(3):
        own = [each for each in found if each // 100 == number]
        assert own == sorted(own)


def test_the_trail_is_for_nobody_else(written):
    assert stat.S_IMODE(written.stat().st_mode) == 0o700
    assert {stat.S_IMODE(os.stat(file).st_mode) for file in written.iterdir()} == {0o600}  # noqa: PTH116 - plain
