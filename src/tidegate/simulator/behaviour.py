"""Ordinary life: what honest customers, tills, sensors and the office do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from tidegate.simulator.company import Article, Shop
from tidegate.simulator.story import Story

#: Shares of what happens now and then.
DECLINED_SHARE = 0.03
REFUNDED_SHARE = 0.02
CLEARED_SHARE = 0.01
SEEN_BY_SENSOR_SHARE = 0.5
CHECKOUT_SHARE = 0.6
DECIDED_SHARE = 0.5
MOVED_SHARE = 0.3
LOGIN_FAILED_SHARE = 0.05
LOGOUT_SHARE = 0.3

Stock = dict[tuple[str, str], int]
"""Pieces on the shelf, by shop and article."""


def shopping(story: Story, stock: Stock) -> None:
    """A purchase at a till near home; the shelf's sensor sees it, some bring it back."""
    rng = story.rng
    customer = story.customer()
    shop = rng.choice(customer.shops)
    terminal = rng.choice(shop.terminals)
    amount_minor = story.usual_amount_minor(customer)
    declined = rng.random() < DECLINED_SHARE
    purchase = story.buy_at_terminal(customer, shop, terminal, amount_minor, declined=declined)
    if declined:
        return
    if rng.random() < CLEARED_SHARE:
        story.label(purchase, is_fraud=False)
    if rng.random() < SEEN_BY_SENSOR_SHARE:
        _take_from_shelf(story, stock, shop, rng.choice(story.company.articles))
    if rng.random() < REFUNDED_SHARE:
        story.wait(10, 60)
        story.refund(customer, shop, terminal, amount_minor, purchase)


def browsing(story: Story, stock: Stock) -> None:
    """A visit to the web shop: a look round, a cart, and mostly a purchase."""
    del stock
    rng = story.rng
    customer = story.customer()
    payer, session_id = story.payer(customer), story.new_session()
    if rng.random() < LOGIN_FAILED_SHARE:
        story.session("shop", session_id, "login_failed", payer, known=False)
        story.wait(1, 3)
    story.session("shop", session_id, "login", payer)
    for _ in range(rng.randrange(1, 3)):
        story.wait(0.5, 3)
        story.session("shop", session_id, "view", payer)
    cart, article = story.new_cart(customer, session_id), rng.choice(story.company.articles)
    story.wait(0.5, 2)
    story.cart(cart, "add", article, rng.randrange(1, 4))
    if rng.random() < CHECKOUT_SHARE:
        story.wait(1, 4)
        story.cart(cart, "checkout")
        story.wait(0.3, 1)
        purchase = story.buy_online(
            payer,
            customer,
            story.usual_amount_minor(customer),
            session_id=session_id,
            declined=rng.random() < DECLINED_SHARE,
            decide=rng.random() < DECIDED_SHARE,
        )
        if rng.random() < CLEARED_SHARE:
            story.label(purchase, is_fraud=False)
    else:
        story.wait(1, 4)
        story.cart(cart, "remove", article, 1)
    if rng.random() < LOGOUT_SHARE:
        story.wait(0.5, 2)
        story.session("shop", session_id, "logout", payer)


def tapping(story: Story, stock: Stock) -> None:
    """A purchase in the app, which waits for the decision."""
    del stock
    customer = story.customer()
    payer, session_id = story.payer(customer), story.new_session()
    story.session("app", session_id, "login", payer)
    story.wait(0.5, 3)
    story.session("app", session_id, "view", payer)
    story.wait(0.5, 3)
    story.buy_online(
        payer,
        customer,
        story.usual_amount_minor(customer),
        session_id=session_id,
        mobile=True,
        declined=story.rng.random() < DECLINED_SHARE,
        decide=True,
    )


def keeping_data(story: Story, stock: Stock) -> None:
    """The CRM sends a customer's master data; some have moved."""
    del stock
    customer = story.customer()
    story.master_data(customer, customer.contacts[story.rng.random() < MOVED_SHARE])


def pricing(story: Story, stock: Stock) -> None:
    """The office changes a price a little."""
    del stock
    article = story.rng.choice(story.company.articles)
    story.price(article, round(article.price_minor * story.rng.uniform(0.9, 1.1)))


def raining(story: Story, stock: Stock) -> None:
    """The weather service tells of a shop's weather."""
    del stock
    story.weather(story.rng.choice(story.company.shops_in(story.customer().city)))


def _take_from_shelf(story: Story, stock: Stock, shop: Shop, article: Article) -> None:
    place = (shop.shop_id, article.sku)
    left = stock.get(place, article.shelf) - story.rng.randrange(1, 6)
    stock[place] = max(0, left)
    story.wait(0.1, 0.5)
    story.stock(shop, article, stock[place])
    if left <= article.reorder_at:
        stock[place] = article.shelf
        story.wait(5, 20)
        story.stock(shop, article, article.shelf)


#: How often each happens, of 100.
VISITS: Mapping[Callable[[Story, Stock], None], int] = MappingProxyType(
    {shopping: 61, browsing: 17, tapping: 15, keeping_data: 4, pricing: 2, raining: 1}
)
