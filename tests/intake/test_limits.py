"""Rates, sizes and slowness: who sends too much is told so, who is in is served."""

import http.client
import json
import threading

import pytest
from tests.intake.house import bearer, transaction
from tests.intake.test_events import EVENTS, JSON, problem

from tidegate.errors import OverloadError
from tidegate.intake import body as body_module
from tidegate.intake.limits import MAX_BODY_BYTES


def connection(door):
    return http.client.HTTPConnection(door.base_url.host, door.base_url.port, timeout=30)


def begin(link, house, **headers):
    link.putrequest("POST", EVENTS)
    for name, value in (JSON | house.source | headers).items():
        link.putheader(name, value)
    link.endheaders()


def test_a_body_that_says_it_is_too_large_is_refused_unread(house, door):
    link = connection(door)
    begin(link, house, **{"Content-Length": str(MAX_BODY_BYTES + 1)})
    answer = link.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["type"] == "/problems/too-large"
    link.close()


def test_a_body_that_does_not_say_its_size_is_refused_on_the_way(house, door):
    link = connection(door)
    begin(link, house, **{"Transfer-Encoding": "chunked"})
    sent = 0
    while sent <= MAX_BODY_BYTES:
        link.send(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        sent += 0x10000
    answer = link.getresponse()  # the body has not ended, and never will
    assert answer.status == 413
    assert answer.headers["Connection"] == "close"
    link.close()
    assert door.get("/healthz").status_code == 200


def test_a_slow_body_is_given_up(house, door, monkeypatch):
    monkeypatch.setattr(body_module, "BODY_TIMEOUT_S", 0.05)
    link = connection(door)
    begin(link, house, **{"Content-Length": "100"})
    link.send(b'{"event_id":')
    answer = link.getresponse()
    assert answer.status == 408
    assert json.loads(answer.read())["type"] == "/problems/slow-body"
    link.close()
    assert not house.rejected()


def test_a_sender_that_goes_away_leaves_nothing_behind(house, door):
    link = connection(door)
    begin(link, house, **{"Content-Length": "100"})
    link.send(b'{"event_id":')
    link.close()
    assert door.post(EVENTS, json=transaction()).status_code == 202
    assert not house.rejected()


def test_a_full_door_sheds_load_and_takes_again(house, door, monkeypatch):
    monkeypatch.setattr(body_module, "MAX_BYTES_IN_FLIGHT", 2000)
    waiting = connection(door)
    begin(waiting, house, **{"Content-Length": "1500"})
    waiting.send(b" " * 1500 + b"")
    waiting.getresponse().read()
    held = connection(door)
    begin(held, house, **{"Content-Length": "1600"})
    held.send(b" " * 1599)
    while "bytes_in_flight 1599" not in door.get("/metrics").text:
        pass
    answer = door.post(EVENTS, json=transaction())
    assert problem(answer, 503)["type"] == "/problems/overload"
    assert int(answer.headers["Retry-After"]) >= 1
    assert not house.records("transactions")
    held.close()
    while "bytes_in_flight 0.0" not in door.get("/metrics").text:
        pass
    assert door.post(EVENTS, json=transaction()).status_code == 202


def test_a_principal_is_held_to_its_rate(house):
    with house.open_door(rate_limit_per_s=3) as door:
        assert [door.post(EVENTS, json=transaction()).status_code for _ in range(4)] == [202, 202, 202, 429]
        answer = door.post(EVENTS, json=transaction())
        assert problem(answer, 429)["type"] == "/problems/rate-limit"
        assert answer.headers["Retry-After"] == "1"
        other = bearer(house.identity.add_source("till", frozenset({"transactions"})))
        assert door.post(EVENTS, json=transaction(), headers=other).status_code == 202
        house.clock.ms += 1000
        assert [door.post(EVENTS, json=transaction()).status_code for _ in range(4)] == [202, 202, 202, 429]
        house.clock.ms -= 60_000
        assert door.post(EVENTS, json=transaction()).status_code == 429
        house.clock.ms += 3_600_000
        assert [door.post(EVENTS, json=transaction()).status_code for _ in range(4)] == [202, 202, 202, 429]


class BrokenLog:
    """The real log behind a wall that comes and goes."""

    def __init__(self, log):
        self._log, self.error = log, None
        self.appends = []

    def __getattr__(self, name):
        return getattr(self._log, name)

    def append(self, entries):
        if self.error:
            raise self.error
        self.appends.append(len(entries))
        return self._log.append(entries)


@pytest.mark.parametrize(
    "error", [OverloadError("disk full at /secret/place", retry_after_s=60), RuntimeError("4111111111111111")]
)
def test_while_the_log_cannot_be_written_nothing_is_taken_and_it_is_said(house, caplog, error):
    log = house.log = BrokenLog(house.log)
    with house.open_door() as door:
        log.error = error
        answer = door.post(EVENTS, json=transaction())
        said = problem(answer, 503)
        assert answer.headers["Retry-After"] == str(getattr(error, "retry_after_s", 1))
        assert str(error) not in json.dumps(said)
        assert problem(door.get("/readyz"), 503)
        assert door.get("/healthz").status_code == 200
        log.error = None
        assert door.get("/readyz").status_code == 200
        assert door.post(EVENTS, json=transaction()).json()["results"][0]["duplicate"] is False
    assert "4111111111111111" not in caplog.text
    assert any(
        json.loads(record.message)["error"] == type(error).__name__
        for record in caplog.records
        if record.levelname == "ERROR"
    )


def test_requests_that_wait_share_a_commit(house):
    log = house.log = BrokenLog(house.log)
    written, hold = log._log.append, threading.Event()

    def append_held(entries):
        hold.wait()
        return written(entries)

    log._log.append = append_held
    with house.open_door() as door:
        senders = [
            threading.Thread(target=door.post, args=(EVENTS,), kwargs={"json": transaction(f"tx-{i}")})
            for i in range(20)
        ]
        for sender in senders:
            sender.start()
        while "tidegate_door_queued_events 20.0" not in door.get("/metrics").text:
            pass
        hold.set()
        for sender in senders:
            sender.join()
    assert sum(log.appends) == 20
    assert len(log.appends) <= 3


def test_what_was_taken_is_written_before_the_door_closes(house):
    with house.open_door() as door:
        door.post(EVENTS, json=[transaction(f"tx-{i}") for i in range(100)])
    assert len(house.records("transactions")) == 100


def test_a_log_without_its_topics_is_not_ready(house):
    log = house.log = BrokenLog(house.log)
    with house.open_door() as door:
        log.topics = lambda: {"transactions": 2}
        assert "carts, customers" in problem(door.get("/readyz"), 503)["detail"]
