import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.desk.stream import GROUPS, Ports, Stream

from tidegate.desk import feed as feed_module
from tidegate.desk.feed import Feed, Filter
from tidegate.desk.meter import Meter
from tidegate.errors import NotFoundError
from tidegate.ports.log import Entry

ALL = Filter()


@pytest.fixture
def ports(tmp_path: Path) -> Ports:
    return Ports(tmp_path)


@pytest.fixture
def stream(ports: Ports) -> Stream:
    return Stream(ports)


@pytest.fixture
def start(ports: Ports) -> Iterator[Callable[[], Feed]]:
    started: list[Feed] = []

    def start() -> Feed:
        feed = Feed(ports.log, ports.clock, Meter(ports.log, ports.clock, GROUPS), on_failure=lambda: None)
        feed.start()
        started.append(feed)
        return feed

    yield start
    for feed in started:
        feed.stop()


def until(true: Callable[[], bool]) -> None:
    """Waits for the feed's thread; a feed that never gets there fails here."""
    wait = threading.Event()
    for _ in range(2000):
        if true():
            return
        wait.wait(0.005)
    raise AssertionError("the feed did not get there within 10 s")


def ids(feed: Feed, wanted: Filter = ALL, limit: int = 100) -> list[str]:
    return [listed.alert.event_id for listed in feed.newest(wanted, limit)[0]]


def test_what_was_there_is_loaded_and_what_comes_is_followed(stream, start):
    old = [stream.decide(stream.transaction()).event_id for _ in range(3)]
    feed = start()
    assert ids(feed) == old[::-1]
    _, number = feed.newest(ALL, 100)
    new = [stream.decide(stream.transaction()).event_id for _ in range(3)]
    until(lambda: len(ids(feed)) == 6)
    found, following = feed.since(number, ALL)
    assert [listed.alert.event_id for listed in found] == new[::-1]
    assert feed.since(following, ALL)[0] == []


def test_only_the_newest_are_kept_whatever_the_partition(monkeypatch, stream, start):
    monkeypatch.setattr(feed_module, "ALERTS_KEPT", 5)
    all_ids = [stream.decide(stream.transaction()).event_id for _ in range(30)]
    assert ids(start()) == all_ids[:-6:-1]


def test_every_alert_comes_once_while_pages_ask(stream, start):
    feed = start()
    _, number = feed.newest(ALL, 0)
    seen: list[str] = []
    wanted = [stream.decide(stream.transaction()).event_id for _ in range(100)]

    def all_seen() -> bool:
        nonlocal number
        found, number = feed.since(number, ALL)
        seen.extend(listed.alert.event_id for listed in reversed(found))
        return len(seen) >= len(wanted)

    until(all_seen)
    assert seen == wanted


def test_filters(stream, start):
    low = stream.decide(stream.transaction(merchant_id="Shop-7"), outcome="review", score=41).event_id
    high = stream.decide(stream.transaction(), detector="account_takeover", score=97).event_id
    stream.label(high, is_fraud=True)
    feed = start()
    assert ids(feed, Filter(outcome="review")) == [low]
    assert ids(feed, Filter(detector="account_takeover")) == [high]
    assert ids(feed, Filter(min_score=42)) == [high]
    assert ids(feed, Filter(text="shop-7")) == [low]
    assert ids(feed, Filter(text="SHOP-7")) == [low]
    assert ids(feed, Filter(open_only=True)) == [low]
    assert ids(feed, Filter(outcome="review", min_score=42)) == []
    assert feed.detectors() == ["account_takeover", "card_fraud"]


def test_the_alerts_beside_one_are_those_of_the_list(stream, start):
    first, passed_over, second, third = (
        stream.decide(stream.transaction(), score=score).event_id for score in (90, 10, 91, 92)
    )
    feed = start()
    wanted = Filter(min_score=50)
    assert feed.beside(second, wanted) == (third, first)
    assert feed.beside(first, wanted) == (second, None)
    assert feed.beside(third, wanted) == (None, second)
    assert feed.beside(passed_over, wanted) == (second, first)
    assert feed.beside("nobody's", wanted) == (None, None)


def test_verdicts_are_told_once_and_the_last_one_stands(stream, start):
    event_id = stream.decide(stream.transaction()).event_id
    stream.label(event_id, is_fraud=True)
    feed = start()
    _, number = feed.verdicts_since(0)
    stream.label(event_id, is_fraud=False, source="analyst", reason="Known travel")
    until(lambda: feed.verdict(event_id).reason == "Known travel")
    news, following = feed.verdicts_since(number)
    assert [(verdict.transaction_id, verdict.is_fraud) for verdict in news] == [(event_id, False)]
    assert feed.verdicts_since(following)[0] == []


def test_counters(stream, start):
    judged = stream.decide(stream.transaction()).event_id
    stream.decide(stream.transaction(), outcome="review")
    stream.label(judged, is_fraud=True, source="analyst")
    counters = start().counters()
    assert (counters.kept, counters.open, counters.declined, counters.reviewed_today) == (2, 1, 1, 1)


def test_the_log_must_have_its_topics(ports, start):
    ports.log.create("alerts", partitions=1)
    with pytest.raises(NotFoundError, match="decisions, detectors, labels, transactions"):
        start()


def test_a_feed_that_cannot_go_on_says_so(ports, stream):
    failed = threading.Event()
    feed = Feed(ports.log, ports.clock, Meter(ports.log, ports.clock, ()), on_failure=failed.set)
    feed.start()
    ports.log.append([Entry("alerts", "key", b"no alert at all", 0)])
    assert failed.wait(10)
    feed.stop()
    assert not feed.alive


def test_the_meter_measures_what_comes_not_what_was_there(ports, stream):
    stream.decide(stream.transaction(), accepted_ms=1)
    meter = Meter(ports.log, ports.clock, GROUPS)
    feed = Feed(ports.log, ports.clock, meter, on_failure=lambda: None)
    feed.start()
    assert meter.pulse()["latency_ms"] == {"p50": None, "p99": None, "max": None}
    stream.decide(stream.transaction())
    until(lambda: meter.pulse()["alerts"] == 1)
    until(lambda: meter.pulse()["streams"].get("alerts") == 2)
    until(lambda: bool(meter.samples()))
    # What a revision raises has waited for what came late.
    meter.readable([msgspec.structs.replace(stream.decide(stream.transaction()), revision=1)])
    until(lambda: meter.pulse()["streams"].get("alerts") == 3)
    assert meter.pulse()["alerts"] == 2
    feed.stop()
    pulse = meter.pulse()
    assert 0 <= pulse["latency_ms"]["p50"] <= pulse["latency_ms"]["max"]
    assert pulse["streams"]["transactions"] == pulse["streams"]["decisions"] == 3
    assert pulse["lag"] == {"engine": 0, "hotstore": 0}


def test_a_demoted_rule_is_told_until_a_version_is_released_again(stream, start):
    stream.release()
    old = stream.demote("card_burst")
    # Of a version that is not live.
    stream.demote("other", version="2")
    feed = start()
    assert feed.demotions() == [old]
    new = stream.demote("round_amounts")
    until(lambda: feed.demotions() == [new, old])
    stream.release(status="shadow", version="4")
    stream.release("account_takeover")
    stream.release()
    until(lambda: feed.demotions() == [])
