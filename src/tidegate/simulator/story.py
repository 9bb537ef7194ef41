"""How one visit or one fraud becomes events of the streams."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from tidegate.simulator.company import (
    ONLINE_CATEGORY,
    ONLINE_SHOPS_PER_COUNTRY,
    Article,
    Company,
    Contact,
    Customer,
    Shop,
    Terminal,
)

Source = Literal["pos", "shop", "app", "crm", "erp", "issuer", "risk", "weather"]

#: The company's sources, and the streams that each writes to.
SOURCES: Mapping[Source, frozenset[str]] = MappingProxyType(
    {
        "pos": frozenset({"transactions"}),
        "shop": frozenset({"transactions", "sessions", "carts"}),
        "app": frozenset({"transactions", "sessions"}),
        "crm": frozenset({"customers"}),
        "erp": frozenset({"stock", "prices"}),
        "issuer": frozenset({"labels"}),
        "risk": frozenset({"lists"}),
        "weather": frozenset({"weather"}),
    }
)

#: Share of frauds with a stranger's device after which that device goes on the list of those denied, and for how long.
DENIED_SHARE = 0.5
DENIED_FOR = timedelta(days=30)

#: The demo's chargebacks come in seconds, not in weeks.
LABEL_DELAY_S = (5.0, 25.0)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ID_PREFIXES = {
    "transactions": "tx",
    "sessions": "se",
    "carts": "ca",
    "customers": "cu",
    "stock": "st",
    "prices": "pr",
    "labels": "lb",
    "lists": "li",
    "weather": "we",
}


class Planned(NamedTuple):
    """One event, and when and how it is sent."""

    send_us: int
    """Microseconds since 1970."""
    stream: str
    source: Source
    body: dict[str, Any]
    decide: bool = False
    """Sent to where the answer is the decision."""
    fraud: str | None = None
    """The kind of fraud that this transaction is part of."""
    spoiled: bool = False
    """The door must refuse it."""
    again: bool = False
    """Sent before under the same id."""


class Numbers:
    """Ids that no other run gives: seed and start are part of them. They say nothing about anybody."""

    def __init__(self, seed: int, start_us: int) -> None:
        self._run = f"{seed:x}.{start_us // 1000:x}"
        self._count = count()

    def next(self, prefix: str) -> str:
        return f"{prefix}-{self._run}.{next(self._count):x}"


class Payer(NamedTuple):
    """Who pays online, by what the shop or the app sees."""

    customer_id: str
    name: str
    contact: Contact
    device: str
    ip: str
    ip_country: str
    place: str


class Cart(NamedTuple):
    cart_id: str
    session_id: str
    customer: Customer


class Story:
    """A run of events that begins at `start_us`; `wait` moves its time on."""

    def __init__(self, company: Company, numbers: Numbers, rng: Random, start_us: int) -> None:
        self.company, self.rng = company, rng
        self.events: list[Planned] = []
        self._numbers, self._now_us = numbers, start_us
        self._online_shop = rng.randrange(ONLINE_SHOPS_PER_COUNTRY)

    def wait(self, least_s: float, most_s: float) -> None:
        self._now_us += round(self.rng.uniform(least_s, most_s) * 1e6)

    def customer(self) -> Customer:
        """Somebody who is usually up at this hour."""
        hour = self._now_us // 3_600_000_000 % 24
        while not self.company.is_up(number := self.rng.randrange(self.company.customers), hour):
            continue
        return self.company.customer(number)

    def payer(self, customer: Customer) -> Payer:
        """The customer, with a device and at a place of her own."""
        return Payer(
            customer.customer_id,
            customer.name,
            customer.contacts[0],
            self.rng.choice(customer.devices),
            customer.ip,
            customer.city.country,
            self.rng.choice(customer.places),
        )

    def usual_amount_minor(self, customer: Customer) -> int:
        """Near the customer's usual amount; never several times as much."""
        return max(100, round(customer.usual_minor * min(3.0, self.rng.lognormvariate(0, 0.4))))

    def buy_at_terminal(
        self,
        customer: Customer,
        shop: Shop,
        terminal: Terminal,
        amount_minor: int,
        *,
        card_present: bool = True,
        declined: bool = False,
        fraud: str | None = None,
    ) -> str:
        """Returns the transaction's event id."""
        return self._transaction(
            "pos",
            {
                "transaction_type": "purchase",
                "authorisation": "declined" if declined else "approved",
                **_at_terminal(customer, shop, terminal),
                "card_present": card_present,
                "amount_minor": amount_minor,
            },
            fraud=fraud,
        )

    def refund(
        self,
        customer: Customer,
        shop: Shop,
        terminal: Terminal,
        amount_minor: int,
        original_event_id: str,
        *,
        fraud: str | None = None,
    ) -> str:
        """Returns the refund's event id."""
        return self._transaction(
            "pos",
            {
                "transaction_type": "refund",
                "authorisation": "approved",
                **_at_terminal(customer, shop, terminal),
                "amount_minor": amount_minor,
                "original_event_id": original_event_id,
            },
            fraud=fraud,
        )

    def buy_online(
        self,
        payer: Payer,
        card: Customer,
        amount_minor: int,
        *,
        session_id: str,
        mobile: bool = False,
        declined: bool = False,
        decide: bool = False,
        fraud: str | None = None,
    ) -> str:
        """Pay in the shop or the app with the card of `card`. Returns the transaction's event id."""
        typed_in = {
            "cardholder_name": card.name,
            "email": payer.contact.email,
            "phone": payer.contact.phone,
            "billing_address": payer.contact.address,
        }
        if fraud and payer.device not in card.devices and self.rng.random() < DENIED_SHARE:
            known_us = self._now_us
            self.wait(*LABEL_DELAY_S)
            self.deny(payer.device)
            self._now_us = known_us
        return self._transaction(
            "app" if mobile else "shop",
            {
                "transaction_type": "purchase",
                "channel": "mobile" if mobile else "ecommerce",
                "card_present": False,
                "authorisation": "declined" if declined else "approved",
                "customer_id": payer.customer_id,
                "pan": card.pan,
                **({"geo": payer.place} if mobile else typed_in),
                "ip": payer.ip,
                "device_id": payer.device,
                "session_id": session_id,
                "ip_country": payer.ip_country,
                "card_country": card.city.country,
                "merchant_id": f"M-WEB-{card.city.country}-{self._online_shop:02}",
                "merchant_category": ONLINE_CATEGORY,
                "merchant_country": card.city.country,
                "amount_minor": amount_minor,
                "currency": card.city.currency,
            },
            decide=decide,
            fraud=fraud,
        )

    def new_session(self) -> str:
        return self._numbers.next("session")

    def session(self, source: Source, session_id: str, action: str, payer: Payer, *, known: bool = True) -> None:
        """`known`: the visitor has signed in."""
        self._event(
            "sessions",
            source,
            {
                "session_id": session_id,
                "customer_id": payer.customer_id if known else None,
                "action": action,
                "device_id": payer.device,
                "ip": payer.ip,
                "ip_country": payer.ip_country,
            },
        )

    def new_cart(self, customer: Customer, session_id: str) -> Cart:
        return Cart(self._numbers.next("cart"), session_id, customer)

    def cart(self, cart: Cart, action: str, article: Article | None = None, quantity: int = 0) -> None:
        self._event(
            "carts",
            "shop",
            {
                "cart_id": cart.cart_id,
                "session_id": cart.session_id,
                "customer_id": cart.customer.customer_id,
                "action": action,
                "sku": article.sku if article else None,
                "quantity": quantity,
                "price_minor": article.price_minor if article else None,
                "currency": cart.customer.city.currency,
            },
        )

    def master_data(self, customer: Customer, contact: Contact) -> None:
        self._event(
            "customers",
            "crm",
            {
                "customer_id": customer.customer_id,
                "name": customer.name,
                **contact._asdict(),
                "birth_date": customer.birth_date,
                "national_id": customer.national_id,
                "country": customer.city.country,
                "segment": customer.segment,
            },
        )

    def stock(self, shop: Shop, article: Article, quantity: int) -> None:
        self._event(
            "stock",
            "erp",
            {"shop_id": shop.shop_id, "sku": article.sku, "quantity": quantity, "reorder_at": article.reorder_at},
        )

    def price(self, article: Article, price_minor: int) -> None:
        self._event("prices", "erp", {"sku": article.sku, "price_minor": price_minor, "currency": "EUR"})

    def weather(self, shop: Shop) -> None:
        rain_mm = max(0.0, round(self.rng.gauss(0, 2), 1))
        reading = {"temperature_c": round(self.rng.gauss(12, 8), 1), "rain_mm": rain_mm}
        self._event(
            "weather", "weather", {"shop_id": shop.shop_id, **reading, "wind_kmh": self.rng.randrange(60) * 1.0}
        )

    def deny(self, device: str) -> None:
        """The risk team puts a device on its list."""
        fields = {
            "list": "deny",
            "device_id": device,
            "expires_at": self._time(DENIED_FOR),
            "removed": False,
            "reason": "fraud",
            "added_by": "risk",
        }
        self._event("lists", "risk", fields)

    def label(self, transaction_id: str, *, is_fraud: bool) -> None:
        """The bank charges a fraud back, an analyst clears a genuine payment: some time from now."""
        known_us = self._now_us
        self.wait(*LABEL_DELAY_S)
        self._event(
            "labels",
            "issuer",
            {
                "transaction_id": transaction_id,
                "is_fraud": is_fraud,
                "source": "chargeback" if is_fraud else "analyst",
                "reason": "10.4" if is_fraud else "confirmed by the customer",
            },
        )
        self._now_us = known_us

    def _transaction(
        self, source: Source, fields: dict[str, Any], *, decide: bool = False, fraud: str | None = None
    ) -> str:
        event_id = self._event("transactions", source, fields, decide=decide, fraud=fraud)
        if fraud:
            self.label(event_id, is_fraud=True)
        return event_id

    def _time(self, ahead: timedelta = timedelta()) -> str:
        return (_EPOCH + timedelta(microseconds=self._now_us) + ahead).replace(tzinfo=None).isoformat() + "Z"

    def _event(
        self, stream: str, source: Source, fields: dict[str, Any], *, decide: bool = False, fraud: str | None = None
    ) -> str:
        event_id = self._numbers.next(_ID_PREFIXES[stream])
        body = {"event_id": event_id, "event_time": self._time()}
        body |= {name: value for name, value in fields.items() if value is not None}
        self.events.append(Planned(self._now_us, stream, source, body, decide, fraud))
        return event_id


def _at_terminal(customer: Customer, shop: Shop, terminal: Terminal) -> dict[str, Any]:
    return {
        "channel": "pos",
        "card_present": True,
        "customer_id": customer.customer_id,
        "pan": customer.pan,
        "cardholder_name": customer.name,
        "card_country": customer.city.country,
        "merchant_id": shop.shop_id,
        "merchant_category": shop.category,
        "merchant_country": shop.city.country,
        "terminal_id": terminal.terminal_id,
        "terminal_latitude": terminal.latitude,
        "terminal_longitude": terminal.longitude,
        "currency": shop.city.currency,
    }
