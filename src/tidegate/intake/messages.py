"""What stands in a webhook: one message or several, each with an id that is the same when it is sent again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from tidegate.intake.decode import decode, split_json
from tidegate.intake.salesforce import is_outbound_message, notifications
from tidegate.intake.verifiers import Sent
from tidegate.streams.signature import ID
from tidegate.streams.webhooks import Kind

CLOUD_EVENTS = "application/cloudevents+json"
CLOUD_EVENT_BATCH = "application/cloudevents-batch+json"

#: Attributes of a CloudEvent that come as headers when the body is its data alone (CloudEvents' HTTP binding, 3.1).
_ATTRIBUTE = "ce-"

_encoder = msgspec.json.Encoder()


class Message(NamedTuple):
    """`content` is JSON."""

    id: str
    content: bytes | msgspec.Raw


def messages(kind: Kind, sent: Sent) -> list[Message]:
    """The messages of what was sent.

    Raises:
        DecodeError: it is not what this kind of source sends.
    """
    return list(_READERS[kind](sent))


def _standard(sent: Sent) -> Iterator[Message]:
    yield Message(sent.headers[ID], sent.body)


def _stripe(sent: Sent) -> Iterator[Message]:
    yield Message(_text(_fields(sent.body), "id") or _digest(sent.body), sent.body)


def _shopify(sent: Sent) -> Iterator[Message]:
    # The ids that come as headers are not signed.
    yield Message(_digest(sent.body), sent.body)


def _salesforce(sent: Sent) -> Iterator[Message]:
    if is_outbound_message(sent.media_type):
        for name, content in notifications(sent.body):
            yield Message(name, content)
        return
    for raw in split_json(sent.body):
        header = _within(_fields(raw), "ChangeEventHeader")
        number = header.get("sequenceNumber")
        transaction = _text(header, "transactionKey")
        named = transaction and isinstance(number, int)
        yield Message(f"{transaction}-{number}" if named else _digest(bytes(raw)), raw)


def _sap(sent: Sent) -> Iterator[Message]:
    """CloudEvents as one, as a batch, or with its attributes as headers; otherwise IDocs."""
    if sent.media_type in (CLOUD_EVENTS, CLOUD_EVENT_BATCH):
        for raw in split_json(sent.body):
            yield Message(_cloud_event_id(_fields(raw), bytes(raw)), raw)
    elif f"{_ATTRIBUTE}specversion" in sent.headers:
        attributes = {
            name.removeprefix(_ATTRIBUTE): value for name, value in sent.headers.items() if name.startswith(_ATTRIBUTE)
        }
        content = _encoder.encode({**attributes, "data": _fields(sent.body)})
        yield Message(_cloud_event_id(attributes, content), content)
    else:
        for raw in split_json(sent.body):
            yield from _idocs(raw)


def _idocs(raw: bytes | msgspec.Raw) -> Iterator[Message]:
    """`{"ORDERS05": {"IDOC": {...} or [{...}, ...]}}`: a message an IDoc, whatever else there is as it is."""
    fields = _fields(raw)
    kind, body = next(iter(fields.items()), ("", None))
    found = cast("dict[str, Any]", body).get("IDOC") if isinstance(body, dict) else None
    if len(fields) != 1 or not isinstance(found, dict | list):
        yield Message(_digest(bytes(raw)), raw)
        return
    documents: Sequence[Any] = cast("list[Any]", found) if isinstance(found, list) else [found]
    for document in documents:
        content = _encoder.encode({kind: {"IDOC": document}})
        control = _within(cast("dict[str, Any]", document), "EDI_DC40") if isinstance(document, dict) else {}
        number = _text(control, "DOCNUM")
        # Numbers of IDocs are a client's own (MANDT).
        yield Message(f"{_text(control, 'MANDT')}-{number}" if number else _digest(content), content)


_READERS: Mapping[Kind, Callable[[Sent], Iterator[Message]]] = {
    "standard": _standard,
    "stripe": _stripe,
    "shopify": _shopify,
    "salesforce": _salesforce,
    "sap": _sap,
}


def _cloud_event_id(event: Mapping[str, Any], content: bytes) -> str:
    """`source` and `id` together name a CloudEvent (specification 1.0, 3.1)."""
    name = _text(event, "id")
    return f"{_text(event, 'source')} {name}" if name else _digest(content)


def _fields(raw: bytes | msgspec.Raw) -> dict[str, Any]:
    return decode(raw)


def _within(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object of this name, at the top or one below it: what carries change events wraps them."""
    for value in (fields, *fields.values()):
        if isinstance(value, dict) and isinstance(found := cast("dict[str, Any]", value).get(name), dict):
            return cast("dict[str, Any]", found)
    return {}


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
