"""The kinds of fraud, each a small story of less than a minute."""

from __future__ import annotations

from collections.abc import Callable

from tidegate.simulator.company import CITIES, City, Customer
from tidegate.simulator.story import Payer, Story


def card_testing(story: Story) -> None:
    """A stolen number is tried with tiny amounts, and then with a large one."""
    card = story.customer()
    payer, session_id = _stranger(story, card), story.new_session()
    for declined in (True, True, False, False):
        amount_minor = story.rng.randrange(20, 99)
        story.buy_online(payer, card, amount_minor, session_id=session_id, declined=declined, fraud="card_testing")
        story.wait(2, 6)
    story.buy_online(
        payer,
        card,
        story.rng.randrange(50_000, 95_000),
        session_id=session_id,
        decide=True,
        fraud="card_testing",
    )


def stolen_card(story: Story) -> None:
    """A card out of somebody's pocket is used in one shop after the other, for far more than its owner spends."""
    victim = story.customer()
    for shop in story.rng.sample(story.company.shops_in(victim.city), 7):
        amount_minor = max(30_000, 10 * victim.usual_minor) + story.rng.randrange(20_000)
        story.buy_at_terminal(victim, shop, story.rng.choice(shop.terminals), amount_minor, fraud="stolen_card")
        story.wait(3, 8)


def account_takeover(story: Story) -> None:
    """Somebody else signs in after some tries, changes password and contact, and buys in the app."""
    victim, session_id = story.customer(), story.new_session()
    stranger = _stranger(story, victim)
    intruder = stranger._replace(customer_id=victim.customer_id)
    for _ in range(3):
        story.session("app", session_id, "login_failed", intruder, known=False)
        story.wait(0.5, 2)
    for action in ("login", "password_change", "contact_change", "payment_method_added"):
        story.session("app", session_id, action, intruder)
        story.wait(0.5, 2)
    story.master_data(victim, stranger.contact)
    for _ in range(3):
        story.wait(2, 6)
        story.buy_online(
            intruder,
            victim,
            story.rng.randrange(200_000, 300_000),
            session_id=session_id,
            mobile=True,
            decide=True,
            fraud="account_takeover",
        )


def impossible_travel(story: Story) -> None:
    """A card pays at home, and seconds later its copy pays on another continent."""
    victim = story.customer()
    shop = story.rng.choice(victim.shops)
    story.buy_at_terminal(victim, shop, story.rng.choice(shop.terminals), story.usual_amount_minor(victim))
    far = story.rng.choice([city for city in CITIES if _are_far(city, victim.city)])
    for shop in story.rng.sample(story.company.shops_in(far), 2):
        story.wait(5, 15)
        amount_minor = 4 * victim.usual_minor + story.rng.randrange(5_000)
        story.buy_at_terminal(victim, shop, story.rng.choice(shop.terminals), amount_minor, fraud="impossible_travel")


def compromised_terminal(story: Story) -> None:
    """At one manipulated terminal, numbers of many cards are keyed in for round amounts."""
    shop = story.rng.choice(story.company.shops)
    terminal = story.rng.choice(shop.terminals)
    for _ in range(8):
        amount_minor = story.rng.choice((20_000, 25_000, 30_000, 40_000))
        story.buy_at_terminal(
            story.customer(), shop, terminal, amount_minor, card_present=False, fraud="compromised_terminal"
        )
        story.wait(4, 8)


def refund_abuse(story: Story) -> None:
    """One purchase is refunded again and again."""
    customer = story.customer()
    shop = story.rng.choice(customer.shops)
    terminal = story.rng.choice(shop.terminals)
    amount_minor = 3 * customer.usual_minor
    purchase = story.buy_at_terminal(customer, shop, terminal, amount_minor)
    for _ in range(4):
        story.wait(3, 9)
        story.refund(customer, shop, terminal, amount_minor, purchase, fraud="refund_abuse")


KINDS: tuple[Callable[[Story], None], ...] = (
    card_testing,
    stolen_card,
    account_takeover,
    impossible_travel,
    compromised_terminal,
    refund_abuse,
)

#: Degrees of longitude between two cities of different continents, here.
_FAR_DEGREES = 50


def _are_far(one: City, other: City) -> bool:
    return abs(one.longitude - other.longitude) > _FAR_DEGREES


def _stranger(story: Story, victim: Customer) -> Payer:
    """A fraudster in another country than the victim's."""
    abroad = [each for each in story.company.fraudsters if each.city.country != victim.city.country]
    fraudster = story.rng.choice(abroad)
    return Payer(
        fraudster.customer_id,
        fraudster.name,
        fraudster.contact,
        fraudster.device,
        fraudster.ip,
        fraudster.city.country,
        fraudster.place,
    )
