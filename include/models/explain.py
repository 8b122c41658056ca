"""Why a transaction is an alert, in an analyst's words.

A reason is {"feature", "value", "text"}: the feature that raised the score, its value in the unit that the text
speaks of, and a sentence. At most one reason comes from a topic, so that an unusual amount is not told three
times. Texts name countries, device, merchant and category of the payment, never a person.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from include.features.behaviour import FEATURES, TRAVEL_MEMORY, country_of

if TYPE_CHECKING:
    from include.events.transaction import Transaction
    from include.models.scorer import Scorer

MOST = 3

TOPICS = {
    "amount": ("amount", "amount_ratio", "amount_z"),
    "pace": ("count_1h", "count_1d", "rate_1h", "rate_1d", "rate_7d", "since_last", "gap_ratio"),
    "spending": ("spend_1h", "spend_1d", "spend_7d"),
    "recent amounts": ("mean_1d", "mean_7d", "growth"),
    "spread": ("spread_1d", "spread_7d", "spread"),
    "device": ("new_device", "known_devices"),
    "country": ("new_country", "known_countries", "foreign", "country_change"),
    "travel": ("speed", "distance"),
    "merchant": ("new_merchant", "new_category", "known_merchants"),
    "newness": ("newness",),
    "history": ("history",),
    "hour": ("hour_surprise",),
    "tiny amounts": ("tiny_burst", "large_after_tiny"),
    "merchant's amounts": ("merchant_amount_z", "merchant_mean_1d"),
    "merchant's reports": ("merchant_frauds", "merchant_fraud_share"),
    "merchant's pace": ("merchant_rate_1h", "merchant_rate_1d", "merchant_tiny", "merchant_history"),
}
_TOPIC_OF = {feature: topic for topic, features in TOPICS.items() for feature in features}


def reasons(
    scorer: Scorer,
    X: np.ndarray,
    transactions: Sequence[Transaction],
    previous_countries: Sequence[bytes] | None = None,
) -> list[list[dict]]:
    """Up to three reasons for each of N alerts, the strongest first.

    Args:
        scorer: the model that raised the alerts.
        X: (N, len(FEATURES)) their feature vectors.
        transactions: the N transactions.
        previous_countries: (N,) `Columns.previous_country` of them, to name where the last payment was.

    Raises:
        UnusableFeatures: X is not finite or has another width.
    """
    evidence = scorer.evidence(X)
    previous = [b""] * len(transactions) if previous_countries is None else previous_countries
    result = []
    for vector, weight, transaction, country in zip(X, evidence, transactions, previous, strict=True):
        said = Said(dict(zip(FEATURES, vector.tolist(), strict=True)), transaction, bytes(country))
        chosen: dict[str, dict] = {}
        for j in np.argsort(-weight, kind="stable"):
            if len(chosen) == MOST or weight[j] <= 0:
                break
            chosen.setdefault(_TOPIC_OF[FEATURES[j]], said.reason(FEATURES[j]))
        result.append(list(chosen.values()))
    return result


class Said:
    """One transaction and its feature vector, put into words."""

    def __init__(self, vector: dict[str, float], transaction: Transaction, previous_country: bytes = b""):
        self.vector = vector
        self.transaction = transaction
        self.previous = previous_country.decode("utf-8", "ignore").title()

    def reason(self, feature: str) -> dict:
        """The reason that `feature` gives."""
        value, text = _WORDS[feature](self, self.vector[feature])
        return {"feature": feature, "value": round(float(value), 4), "text": text}

    @property
    def place(self) -> str:
        """Where the payment was made."""
        return _short(country_of(self.transaction.transaction_location).title()) or "an unknown country"

    @property
    def since_other_country(self) -> str:
        """How long after the payment in the previous country, when that is recent enough to be told."""
        change = self.vector["country_change"]
        if change < 0.01:
            return ""
        where = f"one in {self.previous}" if self.previous else "one in another country"
        return f"{_duration(-TRAVEL_MEMORY * np.log(change))} after {where}"

    @property
    def new_things(self) -> str:
        """Which of device, country, category and merchant are new."""
        return ", ".join(
            thing
            for thing in ("device", "country", "category", "merchant")
            if self.vector[f"new_{thing}"] > 0
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 9.95 else f"{value:.1f}".removesuffix(".0")


def _short(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= 40 else text[:39] + "…"


def _duration(seconds: float) -> str:
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= 1.5 * size or size == 1:
            count = round(seconds / size)
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    raise AssertionError("seconds are the smallest unit")


Words = Callable[[Said, float], tuple[float, str]]


def _ratio(what: str, against: str = "this customer's usual") -> Words:
    def words(said: Said, value: float) -> tuple[float, str]:
        ratio = float(np.exp(value))
        if ratio >= 0.995:
            return ratio, f"{what} {_number(ratio)} times {against}"
        return ratio, f"{what} {100 * ratio:.2g} % of {against}"

    return words


def _deviations(what: str) -> Words:
    def words(said: Said, value: float) -> tuple[float, str]:
        side = "above" if value >= 0 else "below"
        return value, f"amount {_number(abs(value))} standard deviations {side} {what} usual"

    return words


def _count(text: str) -> Words:
    def words(said: Said, value: float) -> tuple[float, str]:
        count = float(np.expm1(value))
        return count, text.format(_number(count))

    return words


def _known(what: str) -> Words:
    return lambda said, value: (value, f"{value:.0f} {what} known of this customer")


def _new(text: Callable[[Said], str], known: str) -> Words:
    """`value` is n / (n + 3) after n payments without this value, 0 for a known one."""

    def words(said: Said, value: float) -> tuple[float, str]:
        before = 3 * value / max(1 - value, 1e-6)
        return (before, text(said)) if value > 0 else (0.0, known)

    return words


def _new_country(said: Said) -> str:
    since = said.since_other_country
    return f"first payment from {said.place}" + (f", {since}" if since else "")


def _foreign(said: Said, value: float) -> tuple[float, str]:
    if value <= 0:
        return value, "payment in the customer's home country"
    home = _short(country_of(said.transaction.location).title())
    return value, f"payment from {said.place}" + (f", home is {home}" if home else ", not the home country")


def _country_change(said: Said, value: float) -> tuple[float, str]:
    since = said.since_other_country
    if not since:
        return 0.0, "same country as the last payment"
    return -TRAVEL_MEMORY / 3600 * float(np.log(value)), f"payment from {said.place} {since}"


def _speed(said: Said, value: float) -> tuple[float, str]:
    speed = float(np.expm1(value))
    return speed, f"position reachable only at {_number(speed)} km/h since the last payment"


def _hour(said: Said, value: float) -> tuple[float, str]:
    rarely = "rarely" if value > 0 else "usually"
    return value, f"paid at {said.transaction.timestamp:%H:%M} UTC, when this customer {rarely} pays"


def _amount(said: Said, value: float) -> tuple[float, str]:
    amount, currency = said.transaction.amount, said.transaction.currency
    return amount, f"amount of {amount:,.2f}" + (f" {currency}" if currency else "")


def _since_last(said: Said, value: float) -> tuple[float, str]:
    seconds = float(np.expm1(value))
    return seconds, f"{_duration(seconds)} after this customer's last payment"


def _gap(said: Said, value: float) -> tuple[float, str]:
    ratio = float(np.exp(abs(value)))
    return float(np.exp(value)), (
        f"last payment {_number(ratio)} times {'longer ago' if value >= 0 else 'more recent'} than usual"
    )


def _large_after_tiny(said: Said, value: float) -> tuple[float, str]:
    return value, f"{said.transaction.amount:,.2f} right after tiny payments"


def _newness(said: Said, value: float) -> tuple[float, str]:
    things = said.new_things
    return value, f"new for this customer: {things}" if things else "nothing new for this customer"


def _reported(said: Said, value: float) -> tuple[float, str]:
    frauds = round(float(np.expm1(said.vector["merchant_frauds"])))
    payments = (
        "1 payment at this merchant was" if frauds == 1 else f"{frauds:,} payments at this merchant were"
    )
    return frauds, f"{payments} reported as fraud in the last 30 days"


def _reported_share(said: Said, value: float) -> tuple[float, str]:
    frauds, text = _reported(said, value)
    return frauds, f"{text}, many for its size" if value > 0 else text


_WORDS: dict[str, Words] = {
    "amount": _amount,
    "amount_ratio": _ratio("amount"),
    "amount_z": _deviations("this customer's"),
    "count_1h": _count("about {} other payments in the last hour"),
    "count_1d": _count("about {} other payments in the last day"),
    "rate_1h": _ratio("payments in the last hour", "this customer's own rate"),
    "rate_1d": _ratio("payments in the last day", "this customer's own rate"),
    "rate_7d": _ratio("payments in the last 7 days", "this customer's own rate"),
    "spend_1h": _ratio("money spent in the last hour"),
    "spend_1d": _ratio("money spent in the last day"),
    "spend_7d": _ratio("money spent in the last 7 days"),
    "mean_1d": _ratio("mean amount of the last day"),
    "mean_7d": _ratio("mean amount of the last 7 days"),
    "growth": _ratio("mean amount of the last 7 days", "that of the last 30 days"),
    "spread_1d": _ratio("spread of amounts in the last day"),
    "spread_7d": _ratio("spread of amounts in the last 7 days"),
    "spread": lambda said, value: (value, f"this customer's amounts vary by a factor of {np.exp(value):.1f}"),
    "since_last": _since_last,
    "gap_ratio": _gap,
    "new_device": _new(
        lambda said: f"first payment with {_short(said.transaction.device) or 'this device'}", "known device"
    ),
    "new_country": _new(_new_country, "known country"),
    "new_category": _new(
        lambda said: f"first payment in category {_short(said.transaction.merchant_category) or 'unknown'}",
        "known merchant category",
    ),
    "new_merchant": _new(
        lambda said: f"first payment at {_short(said.transaction.merchant_id) or 'this merchant'}",
        "known merchant",
    ),
    "newness": _newness,
    "known_devices": _known("devices"),
    "known_countries": _known("countries"),
    "known_merchants": _known("merchants"),
    "history": _count("{} earlier payments of this customer"),
    "foreign": _foreign,
    "country_change": _country_change,
    "speed": _speed,
    "distance": _count("{} km from the position of the last payment"),
    "hour_surprise": _hour,
    "tiny_burst": _count("about {} tiny payments within half an hour"),
    "large_after_tiny": _large_after_tiny,
    "merchant_amount_z": _deviations("this merchant's"),
    "merchant_rate_1h": _ratio("payments at the merchant in the last hour", "its own rate"),
    "merchant_rate_1d": _ratio("payments at the merchant in the last day", "its own rate"),
    "merchant_mean_1d": _ratio("mean amount at the merchant in the last day", "its usual"),
    "merchant_tiny": _ratio("tiny payments at the merchant in the last half hour", "its own rate"),
    "merchant_history": _count("{} earlier payments at this merchant"),
    "merchant_frauds": _reported,
    "merchant_fraud_share": _reported_share,
}
