"""The way to the door: the desk writes nothing itself, it asks like anyone else, in the name of whoever sits at it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx

from tidegate.desk.text import moment
from tidegate.errors import AccessError, NotFoundError, OverloadError, StateError, TidegateError, UsageError

#: An analyst waits for the answer: longer than this, and it's better to be told.
_TIMEOUT_S = 10

#: Longest part of a refusal that is shown.
_SHOWN_CHARS = 400


class Door:
    """The door's HTTP interface, as far as the desk needs it. Tokens are the signed tokens of people."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S)

    async def give_verdict(
        self, token: str, transaction_id: str, *, verdict_id: str, is_fraud: bool, reason: str, now_ms: int
    ) -> None:
        """Append an analyst's label to the labels stream. The same `verdict_id` sent again counts once.

        Raises:
            TidegateError: the door refused or could not be reached; the message is for the analyst.
        """
        answer = await self._post(
            "/v1/streams/labels/events",
            token,
            {
                "event_id": verdict_id,
                "event_time": moment(now_ms * 1000).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "transaction_id": transaction_id,
                "is_fraud": is_fraud,
                "source": "analyst",
                "reason": reason or None,
            },
        )
        # The answer to many events, of which this is one: it is told of each whether it was taken.
        for result in answer["results"]:
            if "problem" in result:
                raise UsageError(f"The door refused: {_said(result['problem'])}")

    async def reveal(self, token: str, event_id: str) -> dict[str, str]:
        """The personal values of a transaction, by field. The door writes down who asked.

        Raises:
            TidegateError: the door refused or could not be reached; the message is for the analyst.
        """
        answer = await self._post(f"/v1/transactions/{quote(event_id, safe='')}/reveal", token, None)
        return {str(field): str(value) for field, value in answer.items() if value is not None}

    async def close(self) -> None:
        await self._client.aclose()

    async def _post(self, path: str, token: str, content: dict[str, Any] | None) -> dict[str, Any]:
        try:
            response = await self._client.post(path, json=content, headers={"Authorization": f"Bearer {token}"})
        except httpx.HTTPError as error:
            raise OverloadError(
                f"The door gave no answer ({type(error).__name__}). Try again: nothing counts twice.", retry_after_s=1
            ) from None
        if response.is_success:
            return response.json()
        raise _refusal(response)


def _refusal(response: httpx.Response) -> TidegateError:
    try:
        said = _said(response.json())
    except ValueError:
        said = ""
    message = f"The door refused ({response.status_code}): {said or response.reason_phrase}"
    match response.status_code:
        case 401 | 403 as status:
            return AccessError(message, known=status == HTTPStatus.FORBIDDEN)
        case 404:
            return NotFoundError(message)
        case 429 | 503:
            return OverloadError(message, retry_after_s=int(response.headers.get("Retry-After", "1")))
        case status if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return UsageError(message)
        case _:
            return StateError(message)


def _said(problem: object) -> str:
    """What the door says of itself: the detail or title of a problem (RFC 9457)."""
    if isinstance(problem, dict):
        for name in ("detail", "title"):
            if isinstance(said := problem.get(name), str):
                return said[:_SHOWN_CHARS]
    return ""
