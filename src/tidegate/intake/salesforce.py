"""Salesforce's outbound messages: SOAP, up to a hundred notifications in one, answered by its acknowledgement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import msgspec
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from tidegate.errors import DecodeError
from tidegate.intake.limits import MAX_DEPTH

_SOAP = "{http://schemas.xmlsoap.org/soap/envelope/}"
_OUTBOUND = "{http://soap.sforce.com/2005/09/outbound}"
_INSTANCE = "{http://www.w3.org/2001/XMLSchema-instance}"

MEDIA_TYPES = ("text/xml", "application/xml", "application/soap+xml")

#: What Salesforce must be answered, or it sends again for a day.
ACKNOWLEDGEMENT = (
    b'<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/">'
    b'<soapenv:Body><notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack>'
    b"</notificationsResponse></soapenv:Body></soapenv:Envelope>"
)

_encoder = msgspec.json.Encoder()


def is_outbound_message(media_type: str) -> bool:
    return media_type in MEDIA_TYPES


def organisation_of(body: bytes) -> str | None:
    """The id of the organisation that a message says it is of; None if it is no outbound message."""
    try:
        return _notifications(body).findtext(f"{_OUTBOUND}OrganizationId")
    except DecodeError:
        return None


def notifications(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Of each notification its id, and the object's fields as JSON: texts by name, `sobject` names what it is. The
    session that a message may bring along is left out: it would open Salesforce.

    Raises:
        DecodeError: it is no outbound message.
    """
    for notification in _notifications(body).iterfind(f"{_OUTBOUND}Notification"):
        told = notification.find(f"{_OUTBOUND}sObject")
        name = notification.findtext(f"{_OUTBOUND}Id")
        if told is None or not name:
            raise _fault("wanted an Id and an sObject in each Notification")
        fields = _fields(told, 0)
        what = told.get(f"{_INSTANCE}type", "").rpartition(":")[2]
        yield name, _encoder.encode({"sobject": what, **(fields if isinstance(fields, dict) else {})})


def _notifications(body: bytes) -> Element:
    try:
        # No document type at all: with it go entities, inner and outer.
        envelope = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        # The parser's own message may quote what it was given.
        raise _fault(f"wanted XML without a document type, got what is not ({type(error).__name__})") from None
    found = envelope.find(f"{_SOAP}Body/{_OUTBOUND}notifications")
    if envelope.tag != f"{_SOAP}Envelope" or found is None:
        raise _fault("wanted a SOAP envelope with notifications in its body")
    return found


def _fields(element: Element, depth: int) -> dict[str, Any] | str | None:
    """An element's children by name, one that comes more than once as a list; without any its text."""
    if depth > MAX_DEPTH:
        raise _fault(f"wanted at most {MAX_DEPTH} elements within each other")
    if not len(element):
        return None if element.get(f"{_INSTANCE}nil") in ("true", "1") else element.text or ""
    fields: dict[str, Any] = {}
    for child in element:
        name, value = child.tag.rpartition("}")[2], _fields(child, depth + 1)
        if name not in fields:
            fields[name] = value
        elif isinstance(fields[name], list):
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
    return fields


def _fault(what: str) -> DecodeError:
    return DecodeError("decode", f"decode: {what}; send Salesforce's outbound message as it is")
