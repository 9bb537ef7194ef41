"""Those who send webhooks to the tests' door, each as the real ones do it."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwt
from joserfc.jwk import ECKey
from tests.intake.house import NOW_US, PERSONAL

from tidegate.streams.signature import key_of, new_secret, sign

CUSTOMER = PERSONAL["customer_id"]
ISSUER, AUDIENCE = "https://login.example", "tidegate"

COMMON = """
stream: transactions
fields:
  event_time: {time}
  transaction_type: "'purchase'"
  channel: "'ecommerce'"
  card_present: "false"
  authorisation: "'approved'"
  currency: "'EUR'"
  customer_id: {customer}
  amount_minor: {amount}
  event_id: {id}
columns: {{{columns}}}
"""


class Sender(NamedTuple):
    """`send` makes a request that is signed with a secret at a time, in milliseconds since 1970."""

    name: str
    kind: str
    send: Callable[[httpx.Client, str, str, int], httpx.Request]
    mapping: str | None
    secret: str
    old_secret: str
    status: int = 202
    events: int = 1
    is_timed: bool = False
    settings: dict[str, Any] = {}  # noqa: RUF012  # never changed

    def request(self, client: httpx.Client, source: str, secret: str, now_ms: int) -> httpx.Request:
        return self.send(client, source, secret, now_ms)

    def forged(self, client: httpx.Client, good: httpx.Request) -> Iterator[httpx.Request]:
        """Without any signature, and where it is the body that is signed, with another body."""
        url = good.url.copy_remove_param("token")
        media = {"content-type": good.headers["content-type"]}
        yield client.build_request("POST", url, content=good.content, headers=media | {"authorization": ""})
        if self.kind in ("standard", "stripe", "shopify"):
            signed = {name: value for name, value in good.headers.items() if name != "content-length"}
            yield client.build_request("POST", good.url, content=good.content + b" ", headers=signed)


def _post(client: httpx.Client, source: str, content: bytes, **headers: str) -> httpx.Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.build_request(
        "POST",
        f"/v1/webhooks/{source}",
        content=content,
        headers={"content-type": "application/json", "authorization": ""} | named,
    )


def standard(
    client: httpx.Client, source: str, secret: str, now_ms: int, body: Any, *, message: str = "msg_1"
) -> httpx.Request:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    key = key_of(secret)
    assert isinstance(key, bytes)
    return _post(
        client,
        source,
        content,
        webhook_id=message,
        webhook_timestamp=str(now_ms // 1000),
        webhook_signature=sign([key], message, now_ms // 1000, content),
    )


def _shop(client: httpx.Client, source: str, secret: str, now_ms: int) -> httpx.Request:
    return standard(client, source, secret, now_ms, ORDER)


ORDER = {"id": "o-1", "at": NOW_US // 1_000_000, "buyer": {"id": CUSTOMER, "names": ["Zoë"]}, "total": "19.99"}
ORDER_MAPPING = COMMON.format(
    time="to_timestamp(at)",
    customer="buyer->>'$.id'",
    amount="CAST(round(CAST(total AS DECIMAL(18,2)) * 100) AS BIGINT)",
    id="coalesce(note->>'$.x', id)",
    columns="id: string, at: long, buyer: json, total: string, note: json",
)

#: A private half by public key, so that a sender can be given the public one.
_OWNERS: dict[str, Ed25519PrivateKey] = {}


def _public() -> str:
    owner = Ed25519PrivateKey.generate()
    public = "whpk_" + b64encode(owner.public_key().public_bytes_raw()).decode()
    _OWNERS[public] = owner
    return public


def _shop_with_key(client: httpx.Client, source: str, public: str, now_ms: int) -> httpx.Request:
    content, at = json.dumps(ORDER).encode(), now_ms // 1000
    signature = "v1a," + b64encode(_OWNERS[public].sign(f"msg_1.{at}.".encode() + content)).decode()
    return _post(client, source, content, webhook_id="msg_1", webhook_timestamp=str(at), webhook_signature=signature)


def _stripe(client: httpx.Client, source: str, secret: str, now_ms: int) -> httpx.Request:
    payment = {"id": "pi_1", "object": "payment_intent", "amount": 1999, "customer": CUSTOMER}
    event = {"id": "evt_1", "created": NOW_US // 1_000_000, "livemode": True, "data": {"object": payment}}
    content, at = json.dumps(event | {"pending_webhooks": now_ms % 7}).encode(), now_ms // 1000
    mac = hmac.digest(secret.encode(), f"{at}.".encode() + content, "sha256").hex()
    return _post(client, source, content, stripe_signature=f"t={at},v1={'0' * 64},v1={mac},v0=x")


def _shopify(client: httpx.Client, source: str, secret: str, now_ms: int) -> httpx.Request:
    content = json.dumps(ORDER, ensure_ascii=False).encode()
    mac = b64encode(hmac.new(secret.encode(), content, hashlib.sha256).digest()).decode()
    return _post(client, source, content, x_shopify_hmac_sha256=mac, x_shopify_webhook_id=str(now_ms))


NOTIFICATION = """<Notification><Id>04l80000000000{n}</Id><sObject xsi:type="sf:Opportunity"
 xmlns:sf="urn:sobject.enterprise.soap.sforce.com"><sf:Id>006{n}</sf:Id><sf:Amount>19.99</sf:Amount>
 <sf:Buyer__c>{customer}</sf:Buyer__c><sf:CloseDate>2026-05-28T00:00:00Z</sf:CloseDate>
 <sf:NextStep xsi:nil="true"/></sObject></Notification>"""
OUTBOUND = """<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>
<notifications xmlns="http://soap.sforce.com/2005/09/outbound"><OrganizationId>{org}</OrganizationId>
<ActionId>04k800000000001</ActionId><SessionId xsi:nil="true"/><EnterpriseUrl>https://x.example</EnterpriseUrl>
<PartnerUrl>https://x.example</PartnerUrl>{notifications}</notifications></soapenv:Body></soapenv:Envelope>"""
ORG = "00D5g0000004CX9EAM"
OUTBOUND_MAPPING = COMMON.format(
    time="CAST(CloseDate AS TIMESTAMP)",
    customer="Buyer__c",
    amount="CAST(round(CAST(Amount AS DECIMAL(18,2)) * 100) AS BIGINT)",
    id="sobject || Id",
    columns="Id: string, sobject: string, Buyer__c: string, Amount: string, CloseDate: string",
)


def outbound(org: str, *numbers: int) -> bytes:
    told = "".join(NOTIFICATION.format(n=number, customer=CUSTOMER) for number in numbers)
    return OUTBOUND.format(org=org, notifications=told).encode()


def _outbound(client: httpx.Client, source: str, secret: str, now_ms: int) -> httpx.Request:
    request = _post(client, source, outbound(ORG, 1, 2), content_type="text/xml; charset=utf-8")
    request.url = request.url.copy_add_param("token", secret)
    return request


def _foreign(client: httpx.Client, source: str, secret: str, now_ms: int) -> httpx.Request:
    """With the secret, of another organisation."""
    request = _post(client, source, outbound("00D000000000001", 1), content_type="text/xml")
    request.url = request.url.copy_add_param("token", secret)
    return request


def _change(client: httpx.Client, source: str, secret: str, now_ms: int) -> httpx.Request:
    header = {"entityName": "Order", "changeType": "UPDATE", "transactionKey": "0003-1", "sequenceNumber": 1}
    payload = {"ChangeEventHeader": header, "Buyer__c": CUSTOMER, "Cents__c": 1999, "At__c": "2026-05-28T00:00:00Z"}
    content = json.dumps({"schema": "x", "payload": payload, "event": {"replayId": now_ms}}).encode()
    return _post(client, source, content, authorization=f"Bearer {secret}")


CHANGE_MAPPING = COMMON.format(
    time="CAST(payload->>'$.At__c' AS TIMESTAMP)",
    customer="payload->>'$.Buyer__c'",
    amount="CAST(payload->>'$.Cents__c' AS BIGINT)",
    id="payload->>'$.ChangeEventHeader.transactionKey'",
    columns="payload: json",
)

EVENT = {
    "specversion": "1.0",
    "type": "sap.s4.beh.salesorder.v1.SalesOrder.Created.v1",
    "source": "/default/sap.s4.beh/S4",
    "id": "QgEK7wzuHtqdhJwqCS",
}
SALE = {"SalesOrder": "1", "SoldToParty": CUSTOMER, "Cents": 1999, "CreatedAt": "2026-05-28T00:00:00Z"}
SALE_MAPPING = COMMON.format(
    time="CAST(data->>'$.CreatedAt' AS TIMESTAMP)",
    customer="data->>'$.SoldToParty'",
    amount="CAST(data->>'$.Cents' AS BIGINT)",
    id="id",
    columns="data: json, id: string",
)


def _cloud_event(client: httpx.Client, source: str, secret: str, now_ms: int) -> httpx.Request:
    content = json.dumps(EVENT | {"data": SALE}).encode()
    return _post(client, source, content, content_type="application/cloudevents+json", authorization=f"Bearer {secret}")


def _cloud_event_in_headers(client: httpx.Client, source: str, secret: str, now_ms: int) -> httpx.Request:
    attributes = {f"ce-{name}": value for name, value in EVENT.items()}
    return _post(client, source, json.dumps(SALE).encode(), authorization=f"bearer {secret}", **attributes)


def _cloud_events(client: httpx.Client, source: str, secret: str, now_ms: int) -> httpx.Request:
    content = json.dumps([EVENT | {"id": f"e{number}", "data": SALE} for number in range(3)]).encode()
    return _post(
        client, source, content, content_type="application/cloudevents-batch+json", authorization=f"Bearer {secret}"
    )


#: A private half by public key set.
_ISSUERS: dict[str, ECKey] = {}


def _key_set() -> str:
    key = ECKey.generate_key("P-256", private=True)
    public = json.dumps({"keys": [key.as_dict(private=False)]})
    _ISSUERS[public] = key
    return public


def _idocs(client: httpx.Client, source: str, key_set: str, now_ms: int) -> httpx.Request:
    claims = {"iss": ISSUER, "aud": [AUDIENCE], "exp": now_ms // 1000 + 60}
    token = jwt.encode({"alg": "ES256"}, claims, _ISSUERS[key_set], algorithms=["ES256"])
    idocs = [
        {
            "EDI_DC40": {"MANDT": "100", "DOCNUM": f"00000000000{number}", "MESTYP": "ORDERS"},
            "E1EDK01": {"BELNR": f"45{number}", "SUMME": "19.99", "KUNNR": CUSTOMER, "CREDAT": "2026-05-28"},
        }
        for number in range(2)
    ]
    content = json.dumps({"ORDERS05": {"IDOC": idocs}}).encode()
    return _post(client, source, content, authorization=f"Bearer {token}")


IDOC_MAPPING = COMMON.format(
    time="CAST(ORDERS05->>'$.IDOC.E1EDK01.CREDAT' AS TIMESTAMP)",
    customer="ORDERS05->>'$.IDOC.E1EDK01.KUNNR'",
    amount="CAST(round(CAST(ORDERS05->>'$.IDOC.E1EDK01.SUMME' AS DECIMAL(18,2)) * 100) AS BIGINT)",
    id="ORDERS05->>'$.IDOC.EDI_DC40.DOCNUM'",
    columns="ORDERS05: json",
)

_STRIPE_MAPPING = COMMON.format(
    time="to_timestamp(created)",
    customer="data->>'$.object.customer'",
    amount="CAST(data->>'$.object.amount' AS BIGINT)",
    id="id",
    columns="data: json, id: string, created: long",
)
_TOKENS = ("token-of-today-1a2b3c", "token-of-yesterday-4d5e6f")

SENDERS = [
    Sender("standard", "standard", _shop, ORDER_MAPPING, new_secret(), new_secret(), is_timed=True),
    Sender("asymmetric", "standard", _shop_with_key, ORDER_MAPPING, _public(), _public(), is_timed=True),
    Sender("stripe", "stripe", _stripe, _STRIPE_MAPPING, "whsec_s1", "whsec_s2", is_timed=True),
    Sender("shopify", "shopify", _shopify, ORDER_MAPPING, "hush", "hush hush"),
    Sender(
        "outbound", "salesforce", _outbound, OUTBOUND_MAPPING, *_TOKENS, status=200, events=2, settings={"org_id": ORG}
    ),
    Sender("change", "salesforce", _change, CHANGE_MAPPING, *_TOKENS, settings={"org_id": ORG}),
    Sender("mesh", "sap", _cloud_event, SALE_MAPPING, *_TOKENS),
    Sender("mesh in headers", "sap", _cloud_event_in_headers, SALE_MAPPING, *_TOKENS),
    Sender("mesh in batches", "sap", _cloud_events, SALE_MAPPING, *_TOKENS, events=3),
    Sender(
        "idoc",
        "sap",
        _idocs,
        IDOC_MAPPING,
        _key_set(),
        _key_set(),
        events=2,
        is_timed=False,
        settings={"issuer": ISSUER, "audience": AUDIENCE},
    ),
]
