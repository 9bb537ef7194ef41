"""Who and what the company has, all from the seed. Nobody here is real.

Card numbers lie in the schemes' published test numbers' ranges, phone numbers in ranges that regulators reserve for
fiction, e-mail addresses under example.com and example.org (RFC 2606), public IP addresses in the documentation ranges
(RFC 5737, RFC 3849) or private ones (RFC 1918).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from random import Random
from typing import NamedTuple

from stdnum import luhn

#: So many that a card that pays honestly is not seen every other minute at the demo's rates.
CUSTOMERS = 100_000

#: Customers in memory: some minutes of a busy day. They are made from the seed again when they come back.
CUSTOMERS_IN_MEMORY = 20_000

#: Hours of the day at which a customer buys; each has hours of her own.
ACTIVE_HOURS = 12

SHOPS_PER_CITY = 20
TERMINALS_PER_SHOP = 4
ONLINE_SHOPS_PER_COUNTRY = 40
ARTICLES = 200
FRAUDSTERS = 60

#: Of what is bought in a shop, and what it is called by ISO 18245.
MERCHANT_CATEGORIES = ("5411", "5812", "5541", "5651", "5732")
ONLINE_CATEGORY = "5964"

SEGMENTS = ("new", "regular", "loyal", "at_risk")

#: Of Visa's and Mastercard's published test numbers.
_TEST_BINS = ("411111", "401288", "424242", "555555", "510510", "222300")

_FIRST_NAMES = (  # noqa: SIM905 - as a list it would take sixty lines
    "Ada Alma Amir Anton Aria Ben Bruno Carla Chiara Clara Dalia Dario Edda Elif Elio Emil Enzo Fatou Femke Finn Flora"
    " Gita Greta Hana Hugo Ida Ilse Ivo Jana Jonas Juna Kaan Karla Kofi Lara Lea Lior Luca Mara Mila Milo Nadia Nils"
    " Noor Olga Omar Otto Petra Quinn Rana Remy Rosa Sami Selma Sven Tara Theo Uma Vera Yara Zeno"
).split()
_LAST_NAMES = (  # noqa: SIM905 - as above
    "Abel Adler Amsel Anders Bachmann Baumgart Berger Birke Brook Castell Cordes Dahl Delmar Drossel Eberhard Eichhorn"
    " Falke Farrow Fink Garnier Grau Grimm Hafner Hartwig Heron Hollund Iversen Jordan Kalisch Kestrel Kiefer Lanz"
    " Lerche Linden Lorenz Marlow Meerbaum Mistral Nachtweh Norden Ohlsen Osterloh Pappel Petrel Quist Rabe Reiher"
    " Rosskamp Sander Schilf Seidel Sparrow Stern Thalberg Tormann Ulmer Vogel Wacker Weidner Yarrow Ziegler"
).split()
_STREETS = (  # noqa: SIM905 - as above
    "Ahornweg,Birkenallee,Curlew Lane,Dune Road,Eichenring,Ferry Street,Gull Close,Hafenstieg,Inselweg,Juniper Way,"
    "Kornblumenweg,Lindenplatz,Mill Row,Nordhang,Orchard Rise,Pappelgasse,Quay Walk,Rosenhof,Seeblick,Tide Street"
).split(",")
_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"


class City(NamedTuple):
    name: str
    country: str
    currency: str
    latitude: float
    longitude: float


#: Currencies of about equal worth, so that an amount says as much in one city as in another.
CITIES = (
    City("Berlin", "DE", "EUR", 52.52, 13.405),
    City("Hamburg", "DE", "EUR", 53.551, 9.993),
    City("München", "DE", "EUR", 48.137, 11.575),
    City("Wien", "AT", "EUR", 48.208, 16.373),
    City("Zürich", "CH", "CHF", 47.377, 8.541),
    City("Paris", "FR", "EUR", 48.857, 2.352),
    City("Lyon", "FR", "EUR", 45.764, 4.836),
    City("Madrid", "ES", "EUR", 40.417, -3.704),
    City("London", "GB", "GBP", 51.507, -0.128),
    City("Dublin", "IE", "EUR", 53.35, -6.26),
    City("New York", "US", "USD", 40.713, -74.006),
    City("Toronto", "CA", "CAD", 43.653, -79.383),
    City("Singapore", "SG", "SGD", 1.352, 103.82),
    City("Sydney", "AU", "AUD", -33.869, 151.209),
)


class Terminal(NamedTuple):
    terminal_id: str
    latitude: float
    longitude: float


class Shop(NamedTuple):
    shop_id: str
    category: str
    city: City
    terminals: tuple[Terminal, ...]


class Article(NamedTuple):
    sku: str
    price_minor: int
    reorder_at: int
    shelf: int
    """Pieces on a full shelf."""


class Contact(NamedTuple):
    email: str
    phone: str
    address: str


class Customer(NamedTuple):
    customer_id: str
    name: str
    contacts: tuple[Contact, Contact]
    """As the company knows the customer, and after the next move."""
    birth_date: str
    national_id: str
    segment: str
    city: City
    shops: tuple[Shop, ...]
    pan: str
    devices: tuple[str, ...]
    ip: str
    places: tuple[str, ...]
    """Positions of the phone: at home, at work."""
    usual_minor: int


class Fraudster(NamedTuple):
    customer_id: str
    name: str
    contact: Contact
    device: str
    ip: str
    city: City
    place: str


class Company:
    """A company with so many customers; equal seeds give equal companies."""

    def __init__(self, seed: int, customers: int = CUSTOMERS) -> None:
        self.seed, self.customers = seed, customers
        rng = Random(f"{seed}/company")  # noqa: S311 - to be foreseen is the point
        self.shops = tuple(
            _shop(rng, city, number)
            for number, city in enumerate(city for city in CITIES for _ in range(SHOPS_PER_CITY))
        )
        self.articles = tuple(
            Article(f"SKU-{number:04}", rng.randrange(199, 9_999, 10), rng.randrange(3, 8), rng.randrange(20, 60))
            for number in range(ARTICLES)
        )
        self.fraudsters = tuple(_fraudster(rng, seed, number) for number in range(FRAUDSTERS))
        self.customer = lru_cache(CUSTOMERS_IN_MEMORY)(self._customer)
        """The customer of a number from 0 to `customers` - 1."""

    def is_up(self, number: int, hour: int) -> bool:
        """Whether the customer of this number is usually about at this hour (UTC). Told without making her."""
        return (hour - number) % 24 < ACTIVE_HOURS

    def shops_in(self, city: City) -> tuple[Shop, ...]:
        first = CITIES.index(city) * SHOPS_PER_CITY
        return self.shops[first : first + SHOPS_PER_CITY]

    def personal_values(self) -> Iterator[str]:
        """Every personal value that any event of this company can hold, so that it can be looked for where it must not
        be. The same value may come more than once.
        """
        for number in range(self.customers):
            customer = self._customer(number)
            yield from (customer.customer_id, customer.name, customer.birth_date, customer.national_id)
            yield from (value for contact in customer.contacts for value in contact)
            yield from (customer.pan, spoiled_pan(customer.pan), customer.ip, *customer.devices, *customer.places)
        for fraudster in self.fraudsters:
            yield from (fraudster.customer_id, fraudster.name, *fraudster.contact)
            yield from (fraudster.device, fraudster.ip, fraudster.place)

    def _customer(self, number: int) -> Customer:
        rng = Random(f"{self.seed}/customer/{number}")  # noqa: S311 - as above
        city = rng.choice(CITIES)
        first, last = rng.choice(_FIRST_NAMES), rng.choice(_LAST_NAMES)
        return Customer(
            customer_id=_customer_id(self.seed, number),
            name=f"{first} {last}",
            contacts=(
                _contact(rng, f"{first}.{last}{number}@example.com", city),
                _contact(rng, f"{last}{number}@example.org", city),
            ),
            birth_date=f"{rng.randrange(1945, 2007)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}",
            national_id=f"{city.country}-{''.join(rng.choices(_LETTERS, k=3))}-{rng.randrange(10**6):06}",
            segment=rng.choice(SEGMENTS),
            city=city,
            shops=tuple(rng.sample(self.shops_in(city), 3)),
            pan=_pan(rng.choice(_TEST_BINS), self.seed, number),
            devices=tuple(f"dv-{rng.getrandbits(64):016x}" for _ in range(rng.choice((1, 1, 2)))),
            ip=_home_ip(rng, number),
            places=(_place(rng, city), _place(rng, city)),
            usual_minor=min(12_000, max(400, round(rng.lognormvariate(7.8, 0.6)))),
        )


def spoiled_pan(pan: str) -> str:
    """The number with a wrong check digit."""
    return pan[:-1] + str((int(pan[-1]) + 1) % 10)


def _customer_id(seed: int, number: int) -> str:
    # Multiplying by a number prime to the modulus scatters and never makes two equal.
    return f"KD-{(number * 61_803_399 + seed * 7_919) % 10**8:08}"


def _pan(bin_digits: str, seed: int, number: int) -> str:
    digits = f"{bin_digits}{(number * 618_033_989 + seed * 7_919) % 10**9:09}"
    return digits + luhn.calc_check_digit(digits)


def _contact(rng: Random, email: str, city: City) -> Contact:
    phone = rng.choice(
        (
            f"+336399{rng.randrange(80_000, 90_000)}",  # Arcep: 06 39 98 for works of fiction
            f"+447700900{rng.randrange(1000):03}",  # Ofcom: 07700 900000 to 900999 for drama
            f"+493023125{rng.randrange(1000):03}",  # Bundesnetzagentur: (0)30 23125 000 to 999 for drama
            f"+1{rng.choice((212, 310, 416, 617))}555{rng.randrange(100, 200):04}",  # NANPA: 555-0100 to 555-0199
        )
    )
    address = f"{rng.randrange(1, 200)} {rng.choice(_STREETS)}, {rng.randrange(10_000, 99_999)} {city.name}"
    return Contact(email.lower(), phone, address)


def _home_ip(rng: Random, number: int) -> str:
    """One address a household: rules that count cards by address must find honest ones apart."""
    if rng.random() < 0.5:  # noqa: PLR2004 - as many on IPv6 as on IPv4
        return f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::{rng.randrange(1, 0xFFFF):x}"
    return f"10.{number >> 16 & 0xFF}.{number >> 8 & 0xFF}.{number & 0xFF}"


def _place(rng: Random, city: City) -> str:
    return f"{city.latitude + rng.uniform(-0.05, 0.05):.4f},{city.longitude + rng.uniform(-0.05, 0.05):.4f}"


def _shop(rng: Random, city: City, number: int) -> Shop:
    latitude, longitude = city.latitude + rng.uniform(-0.05, 0.05), city.longitude + rng.uniform(-0.05, 0.05)
    terminals = tuple(
        Terminal(f"T-{number:03}-{till}", round(latitude, 5), round(longitude, 5)) for till in range(TERMINALS_PER_SHOP)
    )
    return Shop(f"M-{number:03}", rng.choice(MERCHANT_CATEGORIES), city, terminals)


def _fraudster(rng: Random, seed: int, number: int) -> Fraudster:
    city = rng.choice(CITIES)
    first, last = rng.choice(_FIRST_NAMES), rng.choice(_LAST_NAMES)
    return Fraudster(
        # Behind all customers' numbers: a fraudster's account is nobody else's.
        customer_id=_customer_id(seed, 10**8 - 1 - number),
        name=f"{first} {last}",
        contact=_contact(rng, f"{last}.{rng.randrange(10**5)}@example.org", city),
        device=f"dv-{rng.getrandbits(64):016x}",
        ip=f"{('198.51.100', '203.0.113')[number % 2]}.{number + 1}",
        city=city,
        place=_place(rng, city),
    )
