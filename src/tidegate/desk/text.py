"""How the desk writes a value for people: short, even, and never as HTML."""

from __future__ import annotations

from datetime import UTC, datetime

from tidegate.streams.control import Demotion
from tidegate.streams.decision import Counterfactual, Value
from tidegate.streams.revision import Cause, Revision

#: Stands where there is no value.
NONE = "—"

#: ISO 4217 currencies whose minor unit is not a hundredth: the decimals they have.
_DECIMALS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV"), 0),
    **dict.fromkeys(("XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}

#: Words that are written in capitals.
_SHORT_FORMS = {word: word.upper() for word in ("ip", "pan", "id")}

#: Letters of a token shown: enough to tell a page's customers apart, too few to stand for the token.
_TOKEN_LETTERS = 8

#: Below this a fraction is written to four significant digits, above it with one decimal.
_LARGE = 1000


def money(amount_minor: int | None, currency: str | None) -> str:
    """`123456, "EUR"` is "1,234.56 EUR". Without a currency the minor unit is taken to be a hundredth."""
    if amount_minor is None:
        return NONE
    decimals = _decimals(currency)
    whole, fraction = divmod(amount_minor, 10**decimals)
    point = f".{fraction:0{decimals}}" if decimals else ""
    return f"{whole:,}{point} {currency or ''}".rstrip()


def major(amount_minor: int, currency: str | None) -> float:
    """The amount in the currency's major unit, for charts only: a float is no money."""
    return amount_minor / 10 ** _decimals(currency)


def _decimals(currency: str | None) -> int:
    return _DECIMALS.get(currency or "", 2)


def card(pan_bin: str | None, pan_last4: str | None) -> str:
    """The two parts of a card's number that PCI DSS 3.4.1 lets everyone see."""
    if not pan_bin and not pan_last4:
        return NONE
    return f"{pan_bin or '······'} ···· {pan_last4 or '····'}"


def short_token(token: str | None) -> str:
    """`customer_ABCDEFGHIJKLMNOPQRSTUVWXYZ` is "ABCDEFGH"."""
    return token.rpartition("_")[2][:_TOKEN_LETTERS] if token else NONE


def moment(time_us: int) -> datetime:
    """Microseconds since 1970 as a datetime in UTC; a time no calendar has is taken to be its nearest end."""
    earliest, latest = -62_135_596_800_000_000, 253_402_300_799_000_000
    return datetime.fromtimestamp(min(max(time_us, earliest), latest) / 1e6, UTC)


def clock_time(time_us: int, now_ms: int) -> str:
    """The time of day in UTC; with the date if it is not today's."""
    at = moment(time_us)
    return f"{at:%H:%M:%S}" if at.date() == moment(now_ms * 1000).date() else f"{at:%d %b %H:%M}"


def full_time(time_us: int) -> str:
    """`2026-03-01 14:02:11.123 UTC`."""
    return f"{moment(time_us):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


def span(duration_us: int) -> str:
    """A length of time in the unit that fits it."""
    for unit, size_us in (("s", 1_000_000), ("ms", 1000)):
        if abs(duration_us) >= size_us:
            return f"{duration_us / size_us:,.1f} {unit}"
    return f"{duration_us} µs"


def feature(name: str, value: Value, currency: str | None) -> str:
    """A feature's value; one whose name ends with `_minor` is money, as units stand last in names."""
    match value:
        case None:
            return NONE
        case bool():
            return "yes" if value else "no"
        case int() if name.endswith("_minor"):
            return money(value, currency)
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.1f}" if abs(value) >= _LARGE else f"{value:.4g}"
        case str():
            return value


#: What an outcome does to a payment.
_DONE = {"approve": "approved", "review": "reviewed", "decline": "declined"}


def would_have_been(told: Counterfactual, currency: str | None) -> str:
    """`Had the amount been 480.00 EUR, it would have been approved.`"""
    name = words(told.column.removesuffix("_minor"))
    value = feature(told.column, told.value, currency)
    return f"Had the {name[:1].lower()}{name[1:]} been {value}, it would have been {_DONE[told.outcome]}."


def demoted(demotion: Demotion) -> str:
    """Why a rule was demoted, and what that means."""
    return (
        f"It fired {demotion.fired:,} times in {demotion.decided:,} decisions; {demotion.forecast:g} in 1,000 were "
        "forecast. Its points now lead to review at most, until a version is released again."
    )


def after_demotion(demotion: Demotion) -> list[str]:
    """What to do about it, step by step."""
    promote = f"tidegate detector promote {demotion.detector}"
    diff = f"tidegate detector diff {demotion.detector}@live FOLDER --on log"
    look = "Look at its alerts below. From here on they are in review: it declines none."
    lift = f"If they are fraud, an attack is on: an analyst lifts the demotion: {promote} --version {demotion.version}"
    mend = "If they are not, the rule or what it reads has changed: an analyst mends rules.yaml, looks at what changes"
    return [look, f"{lift} --as NAME", f"{mend}: {diff}, and releases it: {promote} --as NAME"]


def revised(revision: Revision) -> str:
    """`Revised from approve to review on 2026-03-01 14:02:11.123 UTC, score 0 to 50.`"""
    on = full_time(revision.revised_ms * 1000)
    scores = f"score {revision.old_score} to {revision.new_score}"
    return f"Revised from {revision.old_outcome} to {revision.new_outcome} on {on}, {scores}."


def cause(one: Cause) -> str:
    """`Because transactions tx-1 of 2026-03-01 14:02:11.123 UTC had not arrived yet.`"""
    return f"Because {one.stream} {one.event_id} of {full_time(one.event_time)} had not arrived yet."


def moved(amount: float) -> str:
    """What a feature did to the model's score, from its contribution in log-odds."""
    return f"{'towards' if amount > 0 else 'away from'} fraud, {amount:+.2f}"


def words(name: str) -> str:
    """`ip_country` is "IP country"."""
    spaced = " ".join(_SHORT_FORMS.get(word, word) for word in name.split("_"))
    return spaced[:1].upper() + spaced[1:]
