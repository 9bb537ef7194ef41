"""Webhooks out: every alert at least once to every subscriber, signed; who is down or gone holds up no other."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.readers.receiver import Receiver

from tidegate.adapters.embedded.keys import EmbeddedKeys
from tidegate.adapters.embedded.log import EmbeddedLog
from tidegate.errors import UsageError
from tidegate.governance.registry import Registry
from tidegate.governance.secrets import seal_secret
from tidegate.ports.log import Entry
from tidegate.readers import delivering, posting, webhooks
from tidegate.readers.delivering import DISABLE_MS, GIVE_UP_MS, LONGEST_WAIT_MS, MAX_WAITING, Delivering
from tidegate.readers.posting import Answer, Poster, check_url, is_public
from tidegate.readers.webhooks import GROUP, WebhookReader
from tidegate.streams.decision import ALERTS, Alert
from tidegate.streams.revision import REVISIONS, Cause, Missed, Revision
from tidegate.streams.signature import new_secret
from tidegate.streams.webhooks import DELIVERIES, SUBSCRIBERS, Delivery, Subscriber

LOOPBACK = [ip_network("127.0.0.0/8"), ip_network("::1/128")]
NOW_MS = 1_780_000_000_000


class HandClock:
    def __init__(self) -> None:
        # What is signed is checked by the standard's own library, which goes by the time of day.
        import time

        self.ms = int(time.time() * 1000)

    def now_ms(self) -> int:
        return self.ms


class Company:
    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, HandClock()
        self.log, self.keys = EmbeddedLog(folder / "log.sqlite"), EmbeddedKeys(folder / "keys")
        for topic in (ALERTS, REVISIONS):
            self.log.create(topic, partitions=2, retention_ms=1)
        for topic in (SUBSCRIBERS, DELIVERIES):
            self.log.create(topic, partitions=1, retention_ms=1 if topic == DELIVERIES else None)
        self.registry = Registry(self.log, SUBSCRIBERS, Subscriber)
        self.count = 0

    def subscribe(self, name: str, url: str, *topics: Any) -> str:
        subscriber = Subscriber(
            name=name,
            url=url,
            topics=list(topics or (ALERTS,)),
            secrets=[],
            start={place.name: offset for place, offset in self.log.ends(topics or (ALERTS,)).items()},
            start_ms=self.clock.ms,
            at_ms=self.clock.ms,
        )
        secret = new_secret()
        sealed = seal_secret(self.keys, subscriber.owner, secret)
        self.registry.put(msgspec.structs.replace(subscriber, secrets=[sealed]))
        return secret

    def change(self, name: str, **given: Any) -> None:
        self.registry.refresh()
        self.registry.put(msgspec.structs.replace(self.registry.entries[name], **given))

    def alert(self, count: int) -> list[str]:
        """Raise alerts; the ids of their events."""
        names = [f"e{number}" for number in range(self.count, self.count + count)]
        self.count += count
        self.log.append([Entry(ALERTS, name, msgspec.json.encode(alert(name)), self.clock.ms, name) for name in names])
        return names

    def delivery(self, name: str) -> Delivery:
        records = self.log.read(dict.fromkeys(self.log.ends([DELIVERIES]), 0), 100_000)
        states = [msgspec.json.decode(record.value, type=Delivery) for record in records if record.key == name]
        return states[-1]

    def close(self) -> None:
        self.log.close()
        self.keys.close()


def alert(name: str) -> Alert:
    return Alert(
        event_id=name,
        event_time=NOW_MS * 1000,
        detector="card_fraud",
        detector_version="1",
        outcome="decline",
        score=97,
        reasons=["many cards"],
        customer_id="customer_A",
        pan="pan_B",
        pan_bin="411111",
        pan_last4="1111",
        amount_minor=1999,
        currency="EUR",
        accepted_ms=NOW_MS,
        decided_ms=NOW_MS,
    )


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Company]:
    monkeypatch.setattr(webhooks, "COMMIT_EVERY_S", 0.02)
    monkeypatch.setattr(delivering, "_POLL_S", 0.01)
    company = Company(tmp_path)
    yield company
    company.close()


@pytest.fixture
def receivers() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def make(*answers: Any) -> Receiver:
        made.append(Receiver(*answers))
        return made[-1]

    yield make
    for each in made:
        each.close()


class Running:
    """The reader in a thread, until the block ends."""

    def __init__(self, company: Company, poster: Poster | None = None) -> None:
        reader = WebhookReader(company.log, company.keys, company.clock, poster or Poster(LOOPBACK))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=reader.run, args=(self._stop,))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def events(receiver: Receiver) -> list[str]:
    return [message["data"]["event_id"] for _, message in receiver.got]


def test_alerts_are_signed_and_hold_nothing_in_clear(company: Company, receivers: Callable[..., Receiver]) -> None:
    receiver = receivers()
    company.alert(2)
    receiver.secrets.append(company.subscribe("soc", receiver.url + "/hook?x=1"))
    names = company.alert(20)
    with Running(company):
        receiver.wait(lambda: len(receiver.got) == 20)
    assert sorted(events(receiver)) == sorted(names), "from when it subscribed on"
    message = receiver.got[0][1]
    assert (message["type"], message["timestamp"]) == ("alert.raised", "2026-05-28T20:26:40.000+00:00")
    assert not {"pan_bin", "pan_last4"} & set(message["data"])
    assert message["data"]["pan"] == "pan_B"
    with Running(company):
        pass
    assert len(receiver.requests) == 20, "what was taken is not sent again"
    lag = company.log.lag(GROUP)
    assert (lag[ALERTS], lag[REVISIONS], lag[DELIVERIES] <= 2) == (0, 0, True)


def test_revisions_are_sent_to_who_wants_them(company: Company, receivers: Callable[..., Receiver]) -> None:
    receiver = receivers()
    receiver.secrets.append(company.subscribe("crm", receiver.url, REVISIONS))
    cause = Cause(stream="transactions", event_id="c", event_time=1, place="transactions/0@1")
    revision = Revision(
        event_id="e", event_time=1, stream="transactions", detector="card_fraud", detector_version="1", number=1,
        decision_hash="d", old_outcome="approve", new_outcome="decline", old_score=1, new_score=99, fired=["r"],
        ceased=[], rules=["r"], reasons=["many"], causes=[cause], revised_hash="h", inputs={}, hash="x",
        revised_ms=NOW_MS,
    )  # fmt: skip
    missed = Missed(detector="card_fraud", cause=cause, settled_until=1, reason="late")
    company.alert(1)
    company.log.append(
        [Entry(REVISIONS, "k", msgspec.json.encode(each), company.clock.ms) for each in (missed, revision)]
        + [Entry(REVISIONS, "k", b"what is this", company.clock.ms)]
    )
    with Running(company):
        receiver.wait(lambda: bool(receiver.got))
    ((_, message),) = receiver.got
    assert (message["type"], message["data"]["new_outcome"]) == ("decision.revised", "decline")
    assert "causes" not in message["data"]


def test_one_that_is_down_holds_up_no_other_and_gets_all_once_it_is_back(
    company: Company, receivers: Callable[..., Receiver]
) -> None:
    up = [False]
    down = receivers(lambda number, message: 204 if up[0] else random.choice([500, 404, 302, 429]))
    well = receivers()
    company.subscribe("down", down.url)
    company.subscribe("well", well.url)
    names = company.alert(MAX_WAITING + 30)
    with Running(company):
        well.wait(lambda: len(well.got) == len(names))
        down.wait(lambda: len(down.requests) >= MAX_WAITING)
    state = company.delivery("down")
    assert len(state.waiting) == MAX_WAITING
    assert state.failing_since_ms
    assert not down.got
    assert company.log.expire(company.clock.ms + 10**9) == 0 or company.log.lag(GROUP)[ALERTS] > 0

    up[0] = True
    company.clock.ms += LONGEST_WAIT_MS
    with Running(company):
        down.wait(lambda: len(down.got) == len(names))
    assert sorted(events(down)) == sorted(names)
    assert len(well.requests) == len(names)
    state = company.delivery("down")
    assert (state.waiting, state.delivered, state.failing_since_ms) == ([], len(names), None)


def test_one_message_that_is_never_taken_is_given_up_and_holds_up_no_other(
    company: Company, receivers: Callable[..., Receiver]
) -> None:
    receiver = receivers(lambda number, message: 400 if message["data"]["event_id"] == "e1" else 200)
    company.subscribe("picky", receiver.url)
    company.alert(5)
    with Running(company):
        receiver.wait(lambda: len(receiver.got) == 4)
    company.clock.ms += GIVE_UP_MS
    requests = len(receiver.requests)
    with Running(company):
        receiver.wait(lambda: len(receiver.requests) > requests)
    state = company.delivery("picky")
    assert (state.waiting, state.given_up, state.delivered, state.failed) == ([], 1, 4, "status 400")


def test_waits_grow_to_their_limit_and_are_left_to_chance(company: Company) -> None:
    sent = delivering.Waiting(topic=ALERTS, partition=0, offset=0, attempts=0, first_ms=0, due_ms=0)
    longest = 5_000
    for _ in range(12):
        dues = {delivering._again(sent, Answer(500), 0).due_ms for _ in range(50)}
        assert longest / 2 <= min(dues) < max(dues) <= longest
        sent = delivering._again(sent, Answer(500), 0)
        longest = min(3 * longest, LONGEST_WAIT_MS)
    assert delivering._again(sent, Answer(429, None, 10**9), 0).due_ms == LONGEST_WAIT_MS


@pytest.mark.parametrize("state", ["removed", "disabled"])
def test_who_is_gone_or_silent_for_days_is_sent_nothing_more(
    company: Company, receivers: Callable[..., Receiver], state: str
) -> None:
    receiver = receivers(lambda number, message: 410 if state == "removed" else 503)
    company.subscribe("gone", receiver.url)
    company.alert(1)
    if state == "disabled":
        with Running(company):
            receiver.wait(lambda: len(receiver.requests) == 1)
        company.clock.ms += DISABLE_MS
    told = company.log.consumer("test", [SUBSCRIBERS])
    with Running(company):
        while True:
            (record,) = told.poll(1, 60_000)
            if (notice := msgspec.json.decode(record.value, type=Subscriber)).state == state:
                break
    told.close()
    assert notice.reason
    assert ("410" in notice.reason) == (state == "removed")
    assert (notice.secrets == []) == (state == "removed")
    requests = len(receiver.requests)
    company.alert(3)
    with Running(company):
        pass
    assert len(receiver.requests) == requests
    assert company.log.lag(GROUP)[ALERTS] == 0, "it keeps the log from expiring no more"


def test_what_comes_while_it_is_paused_is_sent_once_it_goes_on(
    company: Company, receivers: Callable[..., Receiver]
) -> None:
    receiver = receivers()
    receiver.secrets.append(company.subscribe("soc", receiver.url))
    first = company.alert(3)
    with Running(company):
        receiver.wait(lambda: len(receiver.got) == 3)
        company.change("soc", state="paused")
    second = company.alert(3)
    with Running(company):
        pass
    assert company.log.lag(GROUP)[ALERTS] == 3
    company.change("soc", state="active")
    with Running(company):
        receiver.wait(lambda: len(receiver.got) == 6)
    assert sorted(events(receiver)) == sorted(first + second)


def test_a_newer_reader_takes_over(company: Company, receivers: Callable[..., Receiver]) -> None:
    receiver = receivers()
    company.subscribe("soc", receiver.url)
    older = Running(company)
    with older, Running(company):
        names = company.alert(3)
        receiver.wait(lambda: set(events(receiver)) == set(names))
        older._thread.join()


CLOSED = [
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1"),
    *("224.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1"),
    *("ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1", "64:ff9b::7f00:1"),
    *("::127.0.0.1", "2001:db8::1"),
]


@pytest.mark.parametrize("address", CLOSED)
def test_what_is_not_public_is_closed(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:8.8.8.8"])
def test_what_is_public_is_open(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_nothing_is_sent_into_the_company(receivers: Callable[..., Receiver], host: str, scheme: str) -> None:
    receiver = receivers()
    port = receiver.url.rpartition(":")[2]
    answer = _post(f"{scheme}://{host}:{port}/", [])
    assert answer.status is None
    assert not receiver.requests


def test_a_name_that_means_another_address_a_moment_later_gains_nothing(
    receivers: Callable[..., Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is asked for once, and one closed address among several closes all."""
    receiver, asked = receivers(), list[str]()
    answers = [["93.184.215.14", "127.0.0.1"], ["127.0.0.1"]]

    async def resolved(host: str, port: int) -> list[Any]:
        asked.append(host)
        return [ip_address(address) for address in answers[min(len(asked), 2) - 1]]

    connected: list[str] = []

    async def connect(self: object, host: str, *_: object) -> None:
        connected.append(host)
        raise posting.httpcore.ConnectError

    monkeypatch.setattr(posting, "_resolved", resolved)
    monkeypatch.setattr(posting.httpcore.AnyIOBackend, "connect_tcp", connect)
    url = f"https://rebind.example:{receiver.url.rpartition(':')[2]}/"
    assert "not public" in (_post(url, []).error or "")
    assert (asked, connected) == (["rebind.example"], [])
    answers[:] = [["93.184.215.14"], ["127.0.0.1"]]
    asked.clear()
    assert _post(url, []).error == "ConnectError"
    assert (asked, connected) == (["rebind.example"], ["93.184.215.14"]), "the checked address, not the name again"


def test_redirects_are_not_followed(receivers: Callable[..., Receiver]) -> None:
    receiver = receivers(lambda number, message: 307)
    assert _post(receiver.url, LOOPBACK).status == 307
    assert len(receiver.requests) == 1


def _post(url: str, networks: Any) -> Answer:
    async def post() -> Answer:
        poster = Poster(networks)
        try:
            return await poster.post(url, {"webhook-id": "msg_1"}, b"{}")
        finally:
            await poster.close()

    return asyncio.run(post())


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com", "ftp://example.com", "https://", "https://user:word@example.com", "https://a b.c/"),
        *("https://example.com/#x", "https://exämple.com", "https://example.com:99999/", "https://[::1", "x"),
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        check_url(url, [])


def test_what_is_an_address_is_taken() -> None:
    check_url("https://example.com/hook?token=1", [])
    check_url("http://localhost:80/", LOOPBACK)


def test_a_secret_that_ends_signs_until_then(company: Company, receivers: Callable[..., Receiver]) -> None:
    receiver = receivers()
    old = company.subscribe("soc", receiver.url)
    new = new_secret()
    subscriber = company.registry.entries["soc"]
    ending = msgspec.structs.replace(subscriber.secrets[0], until_ms=company.clock.ms + 1000)
    company.change("soc", secrets=[ending, seal_secret(company.keys, subscriber.owner, new)])
    receiver.secrets += [old, new]
    company.alert(1)
    with Running(company):
        receiver.wait(lambda: len(receiver.got) == 1)
        receiver.secrets.remove(old)
        company.clock.ms += 1000
        company.alert(1)
        receiver.wait(lambda: len(receiver.got) == 2)


def test_what_the_log_lost_is_passed_over(company: Company) -> None:
    state = Delivery(
        subscriber="soc", start_ms=0, positions={f"{ALERTS}/0": 9, f"{ALERTS}/1": 9}, at_ms=0,
        waiting=[delivering.Waiting(topic=ALERTS, partition=0, offset=3, attempts=1, first_ms=0, due_ms=0)],
    )  # fmt: skip
    company.subscribe("soc", "https://example.com")
    subscriber = company.registry.entries["soc"]
    sending = Delivering(company.log, company.clock, Poster(), subscriber, keys=[], state=state)
    assert asyncio.run(sending.step()) == 1
    assert sending.state.waiting == []
