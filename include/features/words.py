"""Feature values in an analyst's words, in the unit that the words speak of.

Words say what is unusual, with what is usual for this customer or merchant beside it. A value that is too ordinary for
that has none. Words name countries, device, merchant and category of a payment, never a person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from include.features.aggregates import HOUR
from include.features.geography import country_of

if TYPE_CHECKING:
    from include.events.transaction import Transaction

TRAVEL_MEMORY = 6 * HOUR  # a change of country counts as long as it is this recent
LEAST_CHANGE = 0.01  # of country_change; below it the other country was too long ago
LONGEST_NAME = 40

# From where on a value is worth a sentence.
TIMES_MORE, TIMES_LESS = 1.5, 0.5  # as often, or as much, as usual
LEAST_DEVIATIONS = 2.0
LEAST_SPEED = 300.0  # km/h
LEAST_DISTANCE = 100.0  # km
RARE_HOUR = 0.4  # minus log density
SHORT_HISTORY = 5  # payments
LARGE_SPREAD = 0.9  # of log amounts
RARE = 100.0  # payments, of which one has the value
LONGER, SHORTER = 3.0, 0.25  # times the usual interval
MORNING, SATURDAY = 6.0, 5  # hour of the day, day of the week


class ScoredPayment(NamedTuple):
    """A payment, its feature values by name, the country of the customer's payment before it, if known, and what the
    shop calls its own fields."""

    values: dict[str, float]
    transaction: Transaction
    previous_country: str = ""
    names: Mapping[str, str] = MappingProxyType({})

    def name(self, field: str) -> str:
        """What the shop calls a field, or a topic."""
        return self.names.get(field, field.replace("_", " "))

    @property
    def money(self) -> str:
        """The amount with its currency."""
        return self.in_currency(self.transaction.amount)

    def in_currency(self, amount: float) -> str:
        """An amount in the payment's currency, if it names one."""
        currency = self.transaction.currency
        return f"{amount:,.2f}" + (f" {currency}" if currency else "")

    def usual_amount(self, deviations: float = 0.0) -> float | None:
        """The customer's usual amount, or that many standard deviations from it; None without a history."""
        ratio, z = self.values["amount_ratio"], self.values["amount_z"]
        if self.values["history"] == 0 or (deviations and z == 0):
            return None
        spread = ratio / z if deviations else 0.0
        return max(float(np.expm1(self.values["amount"] - ratio + deviations * spread)), 0.0)

    @property
    def usual_interval(self) -> float | None:
        """Seconds between the customer's payments; None without a history."""
        if self.values["history"] == 0:
            return None
        since = float(np.expm1(self.values["since_last"]))
        return max((since + 60) / float(np.exp(self.values["gap_ratio"])) - 60, 1.0)

    @property
    def country(self) -> str:
        """Where the payment was made."""
        return short(country_of(self.transaction.transaction_location).title()) or "an unknown country"

    @property
    def since_other_country(self) -> str:
        """How long after the payment in the previous country, when that is recent."""
        change = self.values["country_change"]
        if change < LEAST_CHANGE:
            return ""
        previous = f"one in {self.previous_country}" if self.previous_country else "one in another country"
        return f"{duration(-TRAVEL_MEMORY * np.log(change))} after {previous}"

    @property
    def new_values(self) -> str:
        """Which of device, country, category and merchant are new."""
        return ", ".join(
            name for name in ("device", "country", "category", "merchant") if self.values[f"new_{name}"] > 0
        )


Words = Callable[[ScoredPayment, float], tuple[float, str] | None]
"""Of a payment and one feature's value: the value in the unit of the text, and the text; None when it is ordinary."""


def number(value: float) -> str:
    """A number with at most one decimal.

    >>> number(1234.6), number(2.04), number(2.5)
    ('1,235', '2', '2.5')
    """
    return f"{value:,.0f}" if abs(value) >= 9.95 else f"{value:.1f}".removesuffix(".0")


def about(count: float) -> str:
    """A decayed count, in whole numbers where it is not small.

    >>> about(4.7), about(0.23), about(0.01)
    ('about 5', 'about 0.2', 'hardly any')
    """
    if count < 0.05:
        return "hardly any"
    return f"about {count:,.0f}" if count >= 1.5 else f"about {number(count)}"


def days(window: int) -> str:
    """A window of closed days.

    >>> days(1), days(7)
    ('on the day before', 'in the last 7 days')
    """
    return "on the day before" if window == 1 else f"in the last {window} days"


def short(text: str | None) -> str:
    """The text, cut to `LONGEST_NAME` characters; empty for None.

    >>> len(short("a" * 50)), short(None)
    (40, '')
    """
    text = text or ""
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def duration(seconds: float, one: str = "1 ") -> str:
    """A time span in its largest fitting unit; `one` stands before a single unit.

    >>> duration(90), duration(86_400), duration(3 * 86_400), duration(1, one="")
    ('2 minutes', '24 hours', '3 days', 'second')
    """
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= 1.5 * size or size == 1:
            count = round(seconds / size)
            return f"{one}{unit}" if count == 1 else f"{count} {unit}s"
    raise AssertionError("seconds are the smallest unit")


def times(value: float) -> float | None:
    """The factor of a log ratio, where it is far enough from 1.

    >>> times(np.log(3)), times(np.log(0.25)), times(np.log(1.2))
    (3.0, 0.25, None)
    """
    factor = round(float(np.exp(value)), 4)
    return factor if factor >= TIMES_MORE or factor <= TIMES_LESS else None


def ratio(what: str, against: str) -> Words:
    """Words of a log ratio of which only a high value is suspicious.

    >>> words = ratio("money spent in the last hour", "this customer's usual")
    >>> words(ScoredPayment({}, None), np.log(8)), words(ScoredPayment({}, None), np.log(0.1))
    ((8.0, "money spent in the last hour 8 times this customer's usual"), None)
    """

    def words(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
        factor = times(value)
        return (factor, f"{what} {number(factor)} times {against}") if factor and factor > 1 else None

    return words


def variation(days: str) -> Words:
    """Words of the log ratio of a spread of amounts to the customer's own.

    >>> variation("last day")(ScoredPayment({}, None), np.log(2))[1]
    "amounts of the last day vary 2 times as much as this customer's usually do"
    """

    def words(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
        factor = times(value)
        if factor is None or factor < 1:
            return None
        return (
            factor,
            f"amounts of the {days} vary {number(factor)} times as much as this customer's usually do",
        )

    return words


def pace(feature: str, window: str) -> Words:
    """Words of the number of payments in a window, with the usual number; `feature` is the number's log(1 + n).

    >>> payment = ScoredPayment({"count_1h": np.log(8), "rate_1h": np.log(8 / 1.2)}, None)
    >>> pace("1h", "hour")(payment, 0.0)
    (7.0, 'about 7 other payments in the last hour, usually about 0.2')
    """

    def words(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
        n = float(np.expm1(payment.values[f"count_{feature}"]))
        usual = max((n + 1) / float(np.exp(payment.values[f"rate_{feature}"])) - 1, 0.0)
        if n < TIMES_MORE or n < TIMES_MORE * usual:
            return None
        return round(n, 4), f"{about(n)} other payments in the last {window}, usually {about(usual)}"

    return words


def mean(days: str) -> Words:
    """Words of the log ratio of recent amounts to the customer's usual amount.

    >>> from include.events.transaction import FIELDS, Transaction
    >>> payment = Transaction(*[field.example for field in FIELDS])
    >>> values = {"amount": np.log1p(60), "amount_ratio": np.log(2), "amount_z": 2, "history": 3}
    >>> mean("last day")(ScoredPayment(values, payment), np.log(3))[1]
    'payments of the last day average about 3 times the usual 29.50 EUR'
    """

    def words(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
        factor, usual = times(value), payment.usual_amount()
        if factor is None or usual is None:
            return None
        size = f"{number(factor)} times" if factor > 1 else f"{100 * factor:.0f} % of"
        return factor, f"payments of the {days} average about {size} the usual {payment.in_currency(usual)}"

    return words


def count(text: str) -> Words:
    """Words of log(1 + n), at least 2, whose text has n in place of {}.

    >>> count("{} tiny payments")(ScoredPayment({}, None), np.log(9))[1]
    'about 8 tiny payments'
    """

    def words(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
        n = float(np.expm1(value))
        return (n, text.format(about(n))) if n >= TIMES_MORE else None

    return words


def few(text: str) -> Words:
    """Words of log(1 + n) earlier payments, of which only few are unusual; the text has them in place of {}.

    >>> words = few("only {} of this customer")
    >>> words(ScoredPayment({}, None), np.log(3)), words(ScoredPayment({}, None), np.log(40))
    ((2.0, 'only 2 earlier payments of this customer'), None)
    """

    def words(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
        n = round(float(np.expm1(value)))
        if n > SHORT_HISTORY:
            return None
        return float(n), text.format("1 earlier payment" if n == 1 else f"{n} earlier payments")

    return words


def many(what: str) -> Words:
    """Words of a large number of values that the customer used.

    >>> many("devices")(ScoredPayment({}, None), 6.0)
    (6.0, 'this customer has used 6 different devices lately')
    """
    return lambda payment, value: (
        (value, f"this customer has used {value:.0f} different {what} lately") if value >= 4 else None
    )


def new(text: Callable[[ScoredPayment], str]) -> Words:
    """Words of n / (n + 3) after n payments without this value; the unit is payments.

    >>> words = new(lambda payment: "first payment with this device")
    >>> words(ScoredPayment({}, None), 0.75), words(ScoredPayment({}, None), 0.0)
    ((9.0, 'first payment with this device'), None)
    """

    def words(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
        return (3 * value / max(1 - value, 1e-6), text(payment)) if value > 0 else None

    return words


def amount(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
    """The amount, with the customer's usual one."""
    usual = payment.usual_amount()
    beside = "" if usual is None else f", this customer usually pays about {payment.in_currency(usual)}"
    return payment.transaction.amount, f"amount of {payment.money}{beside}"


def amount_ratio(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
    """The amount against the customer's usual one."""
    factor, usual = times(value), payment.usual_amount()
    if factor is None or usual is None:
        return None
    size = f"{number(factor)} times" if factor > 1 else f"{100 * factor:.2g} % of"
    return factor, f"amount of {payment.money}, {size} this customer's usual {payment.in_currency(usual)}"


def amount_z(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
    """The amount against the range of the customer's amounts."""
    low, high = payment.usual_amount(-LEAST_DEVIATIONS), payment.usual_amount(LEAST_DEVIATIONS)
    if abs(value) < LEAST_DEVIATIONS or low is None or high is None:
        return None
    side = "above" if value > 0 else "below"
    return value, f"amount of {payment.money} {side} this customer's range of {low:,.2f} to {high:,.2f}"


def merchant_amount(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
    """The amount against the merchant's amounts."""
    if abs(value) < LEAST_DEVIATIONS:
        return None
    side = "above" if value > 0 else "below"
    deviations = number(abs(value))
    return value, f"amount of {payment.money} {deviations} standard deviations {side} this merchant's usual"


def spread(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
    """The factor by which the customer's amounts vary."""
    if value < LARGE_SPREAD:
        return None
    return value, f"this customer's amounts vary by a factor of {np.exp(value):.1f}"


def interval(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
    """The time since the last payment against the usual one, in seconds."""
    seconds, usual = float(np.expm1(payment.values["since_last"])), payment.usual_interval
    if usual is None or SHORTER < float(np.exp(payment.values["gap_ratio"])) < LONGER:
        return None
    pays = f"this customer usually pays every {duration(usual, one='')}"
    if seconds > usual:
        return seconds, f"first payment for {duration(seconds)}, {pays}"
    return seconds, f"{duration(seconds)} after the last payment, {pays}"


def new_device(payment: ScoredPayment) -> str:
    """The new device."""
    return f"first payment with {short(payment.transaction.device) or 'this device'}"


def new_country(payment: ScoredPayment) -> str:
    """The new country, and how recent the one before is."""
    since = payment.since_other_country
    return f"first payment from {payment.country}" + (f", {since}" if since else "")


def new_category(payment: ScoredPayment) -> str:
    """The new category."""
    return f"first payment in category {short(payment.transaction.merchant_category) or 'unknown'}"


def new_merchant(payment: ScoredPayment) -> str:
    """The new merchant."""
    return f"first payment at {short(payment.transaction.merchant_id) or 'this merchant'}"


def newness(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
    """All that is new, if that is more than one value."""
    values = payment.new_values
    return (value, f"new for this customer: {values}") if "," in values else None


def foreign(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
    """The payment's country against the home country."""
    if value <= 0:
        return None
    home = short(country_of(payment.transaction.location).title())
    return value, f"payment from {payment.country}" + (
        f", home is {home}" if home else ", not the home country"
    )


def country_change(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
    """Hours since the payment in another country."""
    since = payment.since_other_country
    if not since:
        return None
    return -TRAVEL_MEMORY / HOUR * float(np.log(value)), f"payment from {payment.country} {since}"


def speed(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
    """The speed of the journey since the last position."""
    speed = float(np.expm1(value))
    if speed < LEAST_SPEED:
        return None
    return speed, f"position reachable only at {number(speed)} km/h since the last payment"


def distance(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
    """The journey since the last position."""
    distance = float(np.expm1(value))
    if distance < LEAST_DISTANCE:
        return None
    return distance, f"{number(distance)} km from the position of the last payment"


def new_merchants_7d(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
    """Payments at new merchants against the customer's usual number of them."""
    if value < 1:
        return None
    return value, "more new merchants in the last 7 days than this customer usually tries"


def hour_of_day(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
    """An hour of the night."""
    at = payment.transaction.timestamp
    return (value, f"paid in the night (UTC), at {at:%H:%M}") if value < MORNING else None


def weekday(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
    """A day of the weekend."""
    return (value, f"paid on a {payment.transaction.timestamp:%A}") if value >= SATURDAY else None


def hour(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
    """The hour of the day."""
    if value < RARE_HOUR:
        return None
    return value, f"paid at {payment.transaction.timestamp:%H:%M} UTC, when this customer rarely pays"


def large_after_tiny(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
    """The amount that followed tiny ones."""
    return (value, f"{payment.money} right after tiny payments") if value > 0 else None


def of_this_customer(payment: ScoredPayment) -> str:
    """The customer, who is not named."""
    return "of this customer"


def at_this_merchant(payment: ScoredPayment) -> str:
    """The merchant, which the alert names beside its reasons."""
    return "at this merchant"


def with_device(payment: ScoredPayment) -> str:
    """The device."""
    return f"with {short(payment.transaction.device) or 'this device'}"


def in_category(payment: ScoredPayment) -> str:
    """The merchant's category."""
    return f"in category {short(payment.transaction.merchant_category) or 'unknown'}"


def from_country(payment: ScoredPayment) -> str:
    """The country of the payment."""
    return f"from {payment.country}"


def frauds(kind: str, of: Callable[[ScoredPayment], str], window: int, against_share: bool = False) -> Words:
    """Words of log(1 + n) reported frauds of a kind of entity in a window of days.

    Where most customers share an entity, only frauds beyond its share of the payments are unusual.

    >>> values = {"country_frauds_7d": np.log(3), "country_fraud_lift_7d": np.log(4)}
    >>> payment = ScoredPayment(values, None)
    >>> frauds("country", lambda payment: "from Kenya", 7)(payment, 0.0)[1]
    '2 payments from Kenya were reported as fraud in the last 7 days'
    >>> frauds("country", lambda payment: "from Kenya", 7, against_share=True)(payment, 0.0)[1]
    '2 payments from Kenya were reported as fraud in the last 7 days, 4 times as many as its share of all payments'
    """

    def words(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
        n = round(float(np.expm1(payment.values[f"{kind}_frauds_{window}d"])))
        if n < 1:
            return None
        payments = f"1 payment {of(payment)} was" if n == 1 else f"{n:,} payments {of(payment)} were"
        text = f"{payments} reported as fraud {days(window)}"
        if not against_share:
            return n, text
        factor = times(payment.values[f"{kind}_fraud_lift_{max(window, 7)}d"])
        if factor is None or factor < 1:
            return None
        return n, f"{text}, {number(factor)} times as many as its share of all payments"

    return words


def value_of(payment: ScoredPayment, number: str) -> float:
    """The value of a number of the shop's own; NaN where the payment lacks it."""
    value = getattr(payment.transaction, number)
    return float("nan") if value is None else float(value)


def number_ratio(field: str) -> Words:
    """Words of the signed log ratio of a number of the shop's own to the customer's usual one."""

    def words(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
        given = value_of(payment, field)
        level = float(np.sign(given) * np.log1p(abs(given))) - value
        usual = float(np.sign(level) * np.expm1(abs(level)))
        if times(value) is None or not np.isfinite(usual):
            return None
        return given, f"{payment.name(field)} of {number(given)}, this customer's usual is {number(usual)}"

    return words


def number_z(field: str) -> Words:
    """Words of how far a number of the shop's own lies from that of all payments."""

    def words(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
        if abs(value) < LEAST_DEVIATIONS:
            return None
        given = number(value_of(payment, field))
        return value, f"{payment.name(field)} of {given}, {_beyond(value)} that of all payments"

    return words


def amount_beside(field: str) -> Words:
    """Words of how large the amount is beside a number of the shop's own."""

    def words(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
        given = value_of(payment, field)
        if abs(value) < LEAST_DEVIATIONS or not given > 0:
            return None
        share = 100 * payment.transaction.amount / given
        size = f"{number(share / 100)} times" if share >= 200 else f"{share:.2g} % of"
        return (
            value,
            f"amount of {payment.money} is {size} {payment.name(field)}, {_beyond(value)} what is usual",
        )

    return words


def _beyond(deviations: float) -> str:
    side = "above" if deviations > 0 else "below"
    return f"{number(abs(deviations))} standard deviations {side}"


def named_value(payment: ScoredPayment, field: str) -> str:
    """A category of the shop's own, and its value."""
    return f"{payment.name(field)} {short(getattr(payment.transaction, field)) or 'unknown'}"


def new_value(field: str) -> Words:
    """Words of a value of a category of the shop's own that the customer has not used lately."""
    return new(lambda payment: f"first payment with {named_value(payment, field)}")


def rarity(field: str) -> Words:
    """Words of how rare a value of a category of the shop's own is."""

    def words(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
        one_of = float(np.exp(value))
        if one_of < RARE:
            return None
        return one_of, f"{named_value(payment, field)}, which about 1 payment of {one_of:,.0f} has"

    return words


def lift(field: str, window: int) -> Words:
    """Words of the known frauds with a value of a category of the shop's own, against its share of the payments."""

    def words(payment: ScoredPayment, value: float) -> tuple[float, str] | None:
        factor = times(value)
        if factor is None or factor < 1:
            return None
        of = f"payments with {named_value(payment, field)} were reported as fraud {days(window)}"
        return factor, f"{of}, {number(factor)} times as many as its share of all payments"

    return words
