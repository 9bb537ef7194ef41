"""The routes that take webhooks: what a registered source signed goes the way of every event."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from fastapi import APIRouter, Path, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from tidegate.errors import AccessError, DecodeError, NotFoundError, OverloadError
from tidegate.intake import openapi
from tidegate.intake.body import content_type
from tidegate.intake.decode import JSON, Decoded, decoded
from tidegate.intake.door import Door
from tidegate.intake.limits import MAX_XML_BYTES
from tidegate.intake.messages import CLOUD_EVENT_BATCH, CLOUD_EVENTS, messages
from tidegate.intake.prepare import Origin, Preparer, Result
from tidegate.intake.salesforce import ACKNOWLEDGEMENT, MEDIA_TYPES, is_outbound_message
from tidegate.intake.sources import KnownSource
from tidegate.intake.take import check_size
from tidegate.intake.verifiers import Sent, verify
from tidegate.streams.webhooks import NAME, Kind

#: When a paused source may come again: whoever paused it says when it goes on, and nobody knows.
_PAUSED_RETRY_AFTER_S = 300

_TAKEN: Mapping[Kind, tuple[str, ...]] = {
    "standard": (JSON,),
    "stripe": (JSON,),
    "shopify": (JSON,),
    "salesforce": (JSON, *MEDIA_TYPES),
    "sap": (JSON, CLOUD_EVENTS, CLOUD_EVENT_BATCH),
}

SourceName = Annotated[str, Path(pattern=NAME)]


def webhook_routes(door: Door) -> APIRouter:
    router = APIRouter()

    @router.post(
        "/v1/webhooks/{source}",
        operation_id="takeWebhook",
        summary="Take a webhook of a registered source",
        responses=_text("text/xml", "Salesforce's acknowledgement")
        | openapi.responses({202: openapi.results("Taken", "Refused")}, *(401, 404, 408, 413, 415, 422, 429, 503)),
        openapi_extra=openapi.webhook_body(),
    )
    async def take_webhook(source: SourceName, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Whoever sends is told by the signature over the body, as the source was registered: Standard Webhooks, or as
        Stripe, Shopify, Salesforce or SAP do it. Each message becomes an event of the source's stream. One that does
        not fit is kept, sealed, in the stream `rejected`, and answered as taken: sent again it would not fit either.
        The same message sent again is answered with the place of the first.
        """
        known = await _known(door, source)
        # What is signed are the bytes as they come: a body that is packed is another one.
        content_type(request, among=_TAKEN[known.source.kind])
        async with door.bodies.read(request) as body:
            sent = Sent(request.headers, request.query_params.get("token", ""), body)
            # In a thread: an outbound message has to be parsed to tell whose it is.
            await run_in_threadpool(_check, door, known, sent)
            door.access.count(f"webhook:{source}")
            work = _Work(known, sent, door.clock.now_ms())
            prepared = await door.intake.prepared(work.results)
            results = await door.intake.append(known.source.stream, prepared)
        if is_outbound_message(sent.media_type):
            return Response(ACKNOWLEDGEMENT, 200, media_type="text/xml")
        return Response(msgspec.json.encode({"results": results}), 202, media_type=JSON)

    @router.options(
        "/v1/webhooks/{source}",
        operation_id="agreeToWebhook",
        summary="Agree to be sent CloudEvents",
        responses=_text("text/plain", "Nothing: what is agreed to stands in the headers")
        | openapi.responses({}, 404, 422, 503),
        openapi_extra=openapi.OPEN,
    )
    async def agree_to_webhook(source: SourceName) -> Response:  # pyright: ignore[reportUnusedFunction]
        """What SAP's event mesh asks before it sends (CloudEvents' web hooks 1.0, 4: protection against abuse)."""
        known = await _known(door, source)
        agreed = {"WebHook-Allowed-Origin": "*"} if known.source.kind == "sap" else {}
        return Response(b"", 200, {"Allow": "POST", **agreed}, "text/plain")

    return router


def _text(media_type: str, what: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": what, "content": {media_type: {"schema": {"type": "string"}}}}}


async def _known(door: Door, name: str) -> KnownSource:
    """
    Raises:
        NotFoundError: no source of this name sends webhooks.
        OverloadError: the source is paused.
    """
    known = await run_in_threadpool(door.sources.find, name)
    if known is None:
        raise NotFoundError("webhook: no source of this name is registered; register it with `tidegate source add`")
    if known.source.state == "paused":
        raise OverloadError("webhook: the source is paused; send again later", retry_after_s=_PAUSED_RETRY_AFTER_S)
    return known


def _check(door: Door, known: KnownSource, sent: Sent) -> None:
    """
    Raises:
        HTTPException: 413, it is too large to be looked at.
        AccessError: the source did not sign it.
    """
    if is_outbound_message(sent.media_type) and len(sent.body) > MAX_XML_BYTES:
        raise HTTPException(413, f"size: wanted an outbound message of up to {MAX_XML_BYTES} bytes, got more")
    now_ms = door.clock.now_ms()
    try:
        verify(known.source, known.secrets_at(now_ms), sent, now_ms // 1000)
    except AccessError:
        door.metrics.webhooks.labels(known.source.name, "refused").inc()
        raise
    door.metrics.webhooks.labels(known.source.name, "verified").inc()


class _Work(NamedTuple):
    """From a message that was checked to what is written of it."""

    known: KnownSource
    sent: Sent
    accepted_ms: int

    def results(self, preparer: Preparer) -> list[Result]:
        source = self.known.source
        try:
            found = messages(source.kind, self.sent)
        except DecodeError as error:
            # It has no id of its own: its content tells it when it comes again.
            origin = self._origin(hashlib.sha256(self.sent.body).hexdigest())
            return [(error, preparer.refuse(source.stream, Decoded(error, self.sent.body, 1), error, origin))]
        check_size([message.content for message in found])
        events = self._mapped([decoded(message.content, row=1) for message in found])
        return [
            result
            for message, event in zip(found, events, strict=True)
            for result in preparer.prepare(source.stream, [event], self._origin(message.id))
        ]

    def _mapped(self, given: Sequence[Decoded]) -> list[Decoded]:
        """The events that the messages become, each with the message as its original."""
        if self.known.map is None:
            return list(given)
        mapped = iter(self.known.map([each.event for each in given if isinstance(each.event, dict)]))
        return [each._replace(event=next(mapped)) if isinstance(each.event, dict) else each for each in given]

    def _origin(self, message_id: str) -> Origin:
        """What has no id of its own in its stream is named by its source and the message's id."""
        digest = hashlib.sha256(f"{self.known.source.name}\n{message_id}".encode()).hexdigest()
        return Origin(self.known.source.name, self.accepted_ms, None, digest)
