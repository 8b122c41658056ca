"""Feature values in an analyst's words, in the unit that the words speak of.

Words name countries, device, merchant and category of a payment, never a person.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from include.features.aggregates import HOUR
from include.features.geography import country_of

if TYPE_CHECKING:
    from include.events.transaction import Transaction

TRAVEL_MEMORY = 6 * HOUR  # a change of country is told as long as it is this recent
TOLD = 0.01  # the value of country_change below which it is not told
LONGEST_NAME = 40


class ScoredPayment(NamedTuple):
    """A payment, its feature values by name, and the country of the customer's payment before it, if known."""

    values: dict[str, float]
    transaction: Transaction
    previous_country: str = ""

    @property
    def country(self) -> str:
        """Where the payment was made."""
        return short(country_of(self.transaction.transaction_location).title()) or "an unknown country"

    @property
    def since_other_country(self) -> str:
        """How long after the payment in the previous country, when that is recent enough to be told."""
        change = self.values["country_change"]
        if change < TOLD:
            return ""
        previous = f"one in {self.previous_country}" if self.previous_country else "one in another country"
        return f"{duration(-TRAVEL_MEMORY * np.log(change))} after {previous}"

    @property
    def new_values(self) -> str:
        """Which of device, country, category and merchant are new."""
        return ", ".join(
            name for name in ("device", "country", "category", "merchant") if self.values[f"new_{name}"] > 0
        )


Words = Callable[[ScoredPayment, float], tuple[float, str]]
"""Of a payment and one feature's value: the value in the unit of the text, and the text."""


def number(value: float) -> str:
    """A number with at most one decimal.

    >>> number(1234.6), number(2.04), number(2.5)
    ('1,235', '2', '2.5')
    """
    return f"{value:,.0f}" if abs(value) >= 9.95 else f"{value:.1f}".removesuffix(".0")


def short(text: str | None) -> str:
    """The text, cut to `LONGEST_NAME` characters; empty for None.

    >>> len(short("a" * 50)), short(None)
    (40, '')
    """
    text = text or ""
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def duration(seconds: float) -> str:
    """A time span in its largest fitting unit.

    >>> duration(90), duration(86_400), duration(3 * 86_400)
    ('2 minutes', '24 hours', '3 days')
    """
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= 1.5 * size or size == 1:
            count = round(seconds / size)
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    raise AssertionError("seconds are the smallest unit")


def ratio(what: str, against: str = "this customer's usual") -> Words:
    """Words of a log ratio.

    >>> payment = ScoredPayment({}, None)
    >>> ratio("amount")(payment, np.log(8))[1], ratio("amount")(payment, np.log(0.1))[1]
    ("amount 8 times this customer's usual", "amount 10 % of this customer's usual")
    """

    def words(payment: ScoredPayment, value: float) -> tuple[float, str]:
        times = float(np.exp(value))
        if times >= 0.995:
            return times, f"{what} {number(times)} times {against}"
        return times, f"{what} {100 * times:.2g} % of {against}"

    return words


def deviations(whose: str) -> Words:
    """Words of an amount in standard deviations.

    >>> deviations("this merchant's")(ScoredPayment({}, None), 3.14)
    (3.14, "amount 3.1 standard deviations above this merchant's usual")
    """

    def words(payment: ScoredPayment, value: float) -> tuple[float, str]:
        side = "above" if value >= 0 else "below"
        return value, f"amount {number(abs(value))} standard deviations {side} {whose} usual"

    return words


def count(text: str) -> Words:
    """Words of log(1 + n), whose text has n in place of {}.

    >>> count("{} earlier payments")(ScoredPayment({}, None), np.log(41))[1]
    '40 earlier payments'
    """

    def words(payment: ScoredPayment, value: float) -> tuple[float, str]:
        n = float(np.expm1(value))
        return n, text.format(number(n))

    return words


def known(what: str) -> Words:
    """Words of a number of values known of the customer.

    >>> known("devices")(ScoredPayment({}, None), 2.0)
    (2.0, '2 devices known of this customer')
    """
    return lambda payment, value: (value, f"{value:.0f} {what} known of this customer")


def new(text: Callable[[ScoredPayment], str], otherwise: str) -> Words:
    """Words of n / (n + 3) after n payments without this value, and of 0 for a known one; told in payments.

    >>> words = new(lambda payment: "first payment with this device", "known device")
    >>> words(ScoredPayment({}, None), 0.75), words(ScoredPayment({}, None), 0.0)
    ((9.0, 'first payment with this device'), (0.0, 'known device'))
    """

    def words(payment: ScoredPayment, value: float) -> tuple[float, str]:
        before = 3 * value / max(1 - value, 1e-6)
        return (before, text(payment)) if value > 0 else (0.0, otherwise)

    return words


def amount(payment: ScoredPayment, value: float) -> tuple[float, str]:
    """The amount with its currency."""
    amount, currency = payment.transaction.amount, payment.transaction.currency
    return amount, f"amount of {amount:,.2f}" + (f" {currency}" if currency else "")


def spread(payment: ScoredPayment, value: float) -> tuple[float, str]:
    """The factor by which the customer's amounts vary."""
    return value, f"this customer's amounts vary by a factor of {np.exp(value):.1f}"


def since_last(payment: ScoredPayment, value: float) -> tuple[float, str]:
    """Seconds since the last payment."""
    seconds = float(np.expm1(value))
    return seconds, f"{duration(seconds)} after this customer's last payment"


def gap(payment: ScoredPayment, value: float) -> tuple[float, str]:
    """The time since the last payment against the usual one."""
    times = number(float(np.exp(abs(value))))
    return float(
        np.exp(value)
    ), f"last payment {times} times {'longer ago' if value >= 0 else 'more recent'} than usual"


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


def newness(payment: ScoredPayment, value: float) -> tuple[float, str]:
    """All that is new."""
    values = payment.new_values
    return value, f"new for this customer: {values}" if values else "nothing new for this customer"


def foreign(payment: ScoredPayment, value: float) -> tuple[float, str]:
    """The payment's country against the home country."""
    if value <= 0:
        return value, "payment in the customer's home country"
    home = short(country_of(payment.transaction.location).title())
    return value, f"payment from {payment.country}" + (
        f", home is {home}" if home else ", not the home country"
    )


def country_change(payment: ScoredPayment, value: float) -> tuple[float, str]:
    """Hours since the payment in another country."""
    since = payment.since_other_country
    if not since:
        return 0.0, "same country as the last payment"
    return -TRAVEL_MEMORY / HOUR * float(np.log(value)), f"payment from {payment.country} {since}"


def speed(payment: ScoredPayment, value: float) -> tuple[float, str]:
    """The speed of the journey since the last position."""
    speed = float(np.expm1(value))
    return speed, f"position reachable only at {number(speed)} km/h since the last payment"


def hour(payment: ScoredPayment, value: float) -> tuple[float, str]:
    """The hour of the day."""
    rarely = "rarely" if value > 0 else "usually"
    return value, f"paid at {payment.transaction.timestamp:%H:%M} UTC, when this customer {rarely} pays"


def large_after_tiny(payment: ScoredPayment, value: float) -> tuple[float, str]:
    """The amount that followed tiny ones."""
    return value, f"{payment.transaction.amount:,.2f} right after tiny payments"


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


def frauds(of: Callable[[ScoredPayment], str], when: str) -> Words:
    """Words of log(1 + n) reported frauds.

    >>> frauds(at_this_merchant, "in the last 7 days")(ScoredPayment({}, None), np.log(3))[1]
    '2 payments at this merchant were reported as fraud in the last 7 days'
    """

    def words(payment: ScoredPayment, value: float) -> tuple[float, str]:
        n = round(float(np.expm1(value)))
        payments = f"1 payment {of(payment)} was" if n == 1 else f"{n:,} payments {of(payment)} were"
        return n, f"{payments} reported as fraud {when}"

    return words
