import asyncio
from collections.abc import Callable

import httpx
import pytest

from tidegate.desk.door import Door
from tidegate.errors import AccessError, NotFoundError, OverloadError, StateError, UsageError


def ask(answer: Callable[[httpx.Request], httpx.Response]):
    """One reveal, answered by `answer`."""

    async def run() -> dict[str, str]:
        door = Door("http://door")
        door._client = httpx.AsyncClient(base_url="http://door", transport=httpx.MockTransport(answer))
        try:
            return await door.reveal("her token", "tx/1?#")
        finally:
            await door.close()

    return asyncio.run(run())


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
