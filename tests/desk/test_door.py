import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
import pytest

from tidegate.desk.door import Door
from tidegate.errors import AccessError, NotFoundError, OverloadError, StateError, UsageError

Result = TypeVar("Result")


def call(question: Callable[[Door], Awaitable[Result]], answer: Callable[[httpx.Request], httpx.Response]) -> Result:
    """What the desk makes of the door's answer to one question."""

    async def run() -> Result:
        door = Door("http://door")
        door._client = httpx.AsyncClient(base_url="http://door", transport=httpx.MockTransport(answer))
        try:
            return await question(door)
        finally:
            await door.close()

    return asyncio.run(run())


def ask(answer: Callable[[httpx.Request], httpx.Response]) -> dict[str, str]:
    return call(lambda door: door.reveal("her token", "tx/1?#"), answer)


def give_verdict(answer: Callable[[httpx.Request], httpx.Response]) -> None:
    call(
        lambda door: door.give_verdict(
            "her token", "tx-1", verdict_id="verdict-1", is_fraud=True, reason="", now_ms=1_772_373_731_123
        ),
        answer,
    )


def test_a_verdict_is_a_label_of_an_analyst():
    def answer(request: httpx.Request) -> httpx.Response:
        assert json.loads(request.content) == {
            "event_id": "verdict-1",
            "event_time": "2026-03-01T14:02:11.123Z",
            "transaction_id": "tx-1",
            "is_fraud": True,
            "source": "analyst",
            "reason": None,
        }
        return httpx.Response(202, json={"results": [{"status": 202, "event_id": "verdict-1", "duplicate": False}]})

    give_verdict(answer)


def test_a_label_refused_among_results_is_a_refusal():
    results = {"results": [{"status": 422, "problem": {"title": "A title", "detail": "reason: too long"}}]}
    with pytest.raises(UsageError, match="refused: reason: too long"):
        give_verdict(lambda _: httpx.Response(207, json=results))


def test_the_event_id_and_the_token_reach_the_door_whole():
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.raw_path == b"/v1/transactions/tx%2F1%3F%23/reveal"
        assert request.headers["authorization"] == "Bearer her token"
        return httpx.Response(200, json={"email": "ada@example.org", "geo": None, "extra": {"a": 1}})

    assert ask(answer) == {"email": "ada@example.org", "extra": "{'a': 1}"}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, UsageError),
        (401, AccessError),
        (403, AccessError),
        (404, NotFoundError),
        (410, UsageError),
        (422, UsageError),
        (429, OverloadError),
        (500, StateError),
        (503, OverloadError),
    ],
)
def test_a_refusal_is_told_in_the_door_s_own_words(status, error):
    with pytest.raises(error, match=rf"refused \({status}\): the key was erased"):
        ask(lambda _: httpx.Response(status, json={"title": "A title", "detail": "the key was erased"}))


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'"text"', b'{"detail": 7}'])
def test_a_refusal_without_a_problem_is_told_all_the_same(content):
    with pytest.raises(StateError, match=r"refused \(502\)"):
        ask(lambda _: httpx.Response(502, content=content))


def test_a_door_that_is_not_there_is_told():
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    with pytest.raises(OverloadError, match="gave no answer"):
        ask(answer)
