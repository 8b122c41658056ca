"""Every feature: one entry says what it means, how an alert tells it, and where it stands in a vector.

A feature is an entry here, its formula in include.features.behaviour, and a new FEATURE_SET. docs/features.md is
compared with the entries; reasons take topics, neutral values and words from them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from include.events.transaction import CATEGORIES, NUMBERS
from include.features import words
from include.features.aggregates import DAY
from include.features.known_frauds import WINDOWS
from include.features.words import Words

FEATURE_SET = 4

PRIOR_SPREAD = 0.6  # spread of log amounts that a short history is pulled towards

LOG_RATIO, LOG_COUNT, DEVIATIONS = "log ratio", "log(1 + count)", "standard deviations"
FRACTION, LOG_COUNT_TO_500 = "0 to 1", "log(1 + count up to 500)"


class Feature(NamedTuple):
    """One number of a vector.

    formula says in words what it is, in `unit`. neutral is its value where nothing is known: for a customer or merchant
    without history, or a missing optional field; None where it depends on the payment alone. An alert has at most one
    reason of a topic, in `words`; a value that is too ordinary for words gives none.
    """

    name: str
    formula: str
    unit: str
    neutral: float | None
    topic: str
    words: Words


# fmt: off
OF_CUSTOMER = (
    Feature("amount", "the amount", "log(1 + amount)", None, "amount", words.amount),
    Feature("amount_ratio", "amount against the customer's usual", LOG_RATIO, 0, "amount", words.amount_ratio),
    Feature("amount_z", "amount against the customer's usual, in standard deviations of the customer's log amounts, "
            "wider for a short history", DEVIATIONS, 0, "amount", words.amount_z),
    Feature("count_1h", "payments in the last hour, without this one", LOG_COUNT, 0, "pace",
            words.pace("1h", "hour")),
    Feature("count_1d", "payments in the last day, without this one", LOG_COUNT, 0, "pace",
            words.pace("1d", "day")),
    Feature("rate_1h", "payments in the last hour against the customer's own rate", LOG_RATIO, 0, "pace",
            words.pace("1h", "hour")),
    Feature("rate_1d", "payments in the last day against the customer's own rate", LOG_RATIO, 0, "pace",
            words.pace("1d", "day")),
    Feature("rate_7d", "payments in the last 7 days against the customer's own rate", LOG_RATIO, 0, "pace",
            words.ratio("payments in the last 7 days", "this customer's usual number")),
    Feature("spend_1h", "money spent in the last hour with this payment, against usual amount times own rate",
            LOG_RATIO, 0, "spending", words.ratio("money spent in the last hour", "this customer's usual")),
    Feature("spend_1d", "money spent in the last day with this payment, against usual amount times own rate",
            LOG_RATIO, 0, "spending", words.ratio("money spent in the last day", "this customer's usual")),
    Feature("spend_7d", "money spent in the last 7 days with this payment, against usual amount times own rate",
            LOG_RATIO, 0, "spending", words.ratio("money spent in the last 7 days", "this customer's usual")),
    Feature("mean_1d", "mean amount of the last day against usual", LOG_RATIO, 0, "recent amounts",
            words.mean("last day")),
    Feature("mean_7d", "mean amount of the last 7 days against usual", LOG_RATIO, 0, "recent amounts",
            words.mean("last 7 days")),
    Feature("growth", "mean amount of the last 7 days against the last 30", LOG_RATIO, 0, "recent amounts",
            words.ratio("mean amount of the last 7 days", "that of the last 30 days")),
    Feature("spread_1d", "how far amounts of the last day lie from usual, against the customer's own spread",
            LOG_RATIO, 0, "spread", words.variation("last day")),
    Feature("spread_7d", "how far amounts of the last 7 days lie from usual, against the customer's own spread",
            LOG_RATIO, 0, "spread", words.variation("last 7 days")),
    Feature("spread", f"the customer's own spread of log amounts, pulled towards {PRIOR_SPREAD} for a short history",
            LOG_RATIO, PRIOR_SPREAD, "spread", words.spread),
    Feature("since_last", "time to the customer's latest payment, at most 30 days; a day without history",
            "log(1 + seconds)", float(np.log1p(DAY)), "pace", words.interval),
    Feature("gap_ratio", "time to the customer's latest payment against the customer's mean interval", LOG_RATIO, 0,
            "pace", words.interval),
    Feature("new_device", "a device that is not among the customer's latest 8: n / (n + 3) after n payments",
            FRACTION, 0, "device", words.new(words.new_device)),
    Feature("new_country", "a country that is not among the customer's latest 8: n / (n + 3) after n payments",
            FRACTION, 0, "country", words.new(words.new_country)),
    Feature("new_category", "a merchant category that is not among the customer's latest 8: n / (n + 3) after n "
            "payments", FRACTION, 0, "merchant", words.new(words.new_category)),
    Feature("new_merchant", "a merchant that is not among the customer's latest 16: n / (n + 3) after n payments",
            FRACTION, 0, "merchant", words.new(words.new_merchant)),
    Feature("new_merchants_1d", "new_merchant of this payment and of those in the last day", LOG_COUNT, 0,
            "new merchants", words.count("{} payments at new merchants within a day")),
    Feature("new_merchants_7d", "new_merchant of this payment and of those in the last 7 days, against the customer's "
            "own share of them", "(count - expected) / √(expected + 1)", 0, "new merchants", words.new_merchants_7d),
    Feature("newness", "the sum of new_device, new_country, new_category and new_merchant", "0 to 4", 0, "newness",
            words.newness),
    Feature("known_devices", "devices known of the customer", "count up to 8", 0, "device", words.many("devices")),
    Feature("known_countries", "countries known of the customer", "count up to 8", 0, "country",
            words.many("countries")),
    Feature("known_merchants", "merchants known of the customer", "count up to 16", 0, "merchant",
            words.many("merchants")),
    Feature("history", "payments before this one", LOG_COUNT_TO_500, 0, "history",
            words.few("only {} of this customer")),
    Feature("foreign", "the payment's country is not the customer's home country", "0 or 1", 0, "country",
            words.foreign),
    Feature("country_change", "another country than the last payment's: exp(-time between them / 6 hours)", FRACTION, 0,
            "country", words.country_change),
    Feature("speed", "distance to the last position over time plus 15 minutes, at most 2,000 km/h", "log(1 + km/h)", 0,
            "travel", words.speed),
    Feature("distance", "distance to the last position", "log(1 + km)", 0, "travel",
            words.distance),
    Feature("hour", "the hour of the day (UTC)", "0 to 24", None, "hour", words.hour_of_day),
    Feature("weekday", "the day of the week (UTC)", "0 (Monday) to 6", None, "weekday", words.weekday),
    Feature("hour_surprise", "how rare this hour of the day (UTC) is among the customer's own, 0 if as frequent as any",
            "minus log density", 0, "hour", words.hour),
    Feature("tiny_burst", "amounts of at most 5 in the last half hour, with this one", LOG_COUNT, 0, "tiny amounts",
            words.count("{} tiny payments within half an hour")),
    Feature("large_after_tiny", "tiny amounts in the last half hour, times how far this amount lies above 5",
            "log(1 + count) × log ratio", 0, "tiny amounts", words.large_after_tiny),
)
OF_MERCHANT = (
    Feature("merchant_amount_z", "amount against the merchant's mean of 30 days", DEVIATIONS, 0, "merchant's amounts",
            words.merchant_amount),
    Feature("merchant_rate_1h", "payments at the merchant in the last hour against its own rate", LOG_RATIO, 0,
            "merchant's pace", words.ratio("payments at the merchant in the last hour", "its own rate")),
    Feature("merchant_rate_1d", "payments at the merchant in the last day against its own rate", LOG_RATIO, 0,
            "merchant's pace", words.ratio("payments at the merchant in the last day", "its own rate")),
    Feature("merchant_mean_1d", "the merchant's mean amount of the last day against its 30 days", LOG_RATIO, 0,
            "merchant's amounts", words.ratio("mean amount at the merchant in the last day", "its usual")),
    Feature("merchant_tiny", "amounts of at most 5 at the merchant in the last half hour against its own rate of them",
            LOG_RATIO, 0, "merchant's pace",
            words.ratio("tiny payments at the merchant in the last half hour", "its own rate")),
    Feature("merchant_history", "payments at the merchant before this one", LOG_COUNT_TO_500, 0, "merchant's pace",
            words.few("only {} at this merchant")),
)


_KNOWN = {
    "customer": ("of the customer", words.of_this_customer),
    "merchant": ("at the merchant", words.at_this_merchant),
    "device": ("with the device", words.with_device),
    "category": ("in the merchant category", words.in_category),
    "country": ("from the country", words.from_country),
}
OF_KNOWN_FRAUDS = tuple(
    Feature(f"{kind}_frauds_{window}d", f"payments {of} that were reported as fraud {words.days(window)}", LOG_COUNT, 0,
            f"reports {of}", words.frauds(kind, named, window, against_share=kind in ("category", "country")))
    for kind, (of, named) in _KNOWN.items()
    for window in WINDOWS
)
LIFTED = ("merchant", "category", "country")
LIFT_WINDOWS = WINDOWS[1:]
OF_LIFTS = tuple(
    Feature(f"{kind}_fraud_lift_{window}d", f"payments {of} that were reported as fraud {words.days(window)}, "
            "against the whole shop's times its share of the payments", "log((count + 1) / (expected + 1))", 0,
            f"reports {of}", words.frauds(kind, named, window, against_share=True))
    for kind in LIFTED
    for of, named in [_KNOWN[kind]]
    for window in LIFT_WINDOWS
)
OF_NUMBERS = tuple(
    feature
    for name in NUMBERS
    for feature in (
        Feature(f"{name}_ratio", f"`{name}` against the customer's usual", "signed log ratio", 0, name,
                words.number_ratio(name)),
        Feature(f"{name}_z", f"`{name}` against that of all payments of 30 days", DEVIATIONS, 0, name,
                words.number_z(name)),
        Feature(f"{name}_amount_z", f"the amount against `{name}`, compared with that ratio of all payments of 30 days",
                DEVIATIONS, 0, name, words.amount_beside(name)),
    )
)
OF_CATEGORIES = tuple(
    feature
    for name in CATEGORIES
    for feature in (
        Feature(f"new_{name}", f"a value of `{name}` that is not among the customer's latest 8, if there is any: "
                "n / (n + 3) after n payments", FRACTION, 0, name, words.new_value(name)),
        Feature(f"{name}_rarity", f"how rare the value of `{name}` was in 30 days", "log((payments + 1) / (count + 1))",
                0, name, words.rarity(name)),
        *(Feature(f"{name}_fraud_lift_{window}d", f"payments with the value of `{name}` that were reported as fraud "
                  f"{words.days(window)}, against the whole shop's times its share of the payments",
                  "log((count + 1) / (expected + 1))", 0, f"reports of {name}", words.lift(name, window))
          for window in LIFT_WINDOWS),
    )
)
# fmt: on

_GROUPS = (OF_CUSTOMER, OF_MERCHANT, OF_LIFTS, OF_KNOWN_FRAUDS, (*OF_NUMBERS, *OF_CATEGORIES))
DEFINITIONS = tuple(feature for group in _GROUPS for feature in group)
FEATURES = tuple(feature.name for feature in DEFINITIONS)
CUSTOMER_FEATURES, MERCHANT_FEATURES, LIFT_FEATURES, KNOWN_FRAUD_FEATURES, EXTRA_FEATURES = (
    tuple(feature.name for feature in group) for group in _GROUPS
)
_OF_OWN_EXTRAS = [*(f"{name}_ratio" for name in NUMBERS), *(f"new_{name}" for name in CATEGORIES)]
# These depend on the payments of other customers.
PARTITION_FEATURES = (
    *MERCHANT_FEATURES,
    *LIFT_FEATURES,
    *(name for name in EXTRA_FEATURES if name not in _OF_OWN_EXTRAS),
)
NEUTRAL = np.array(
    [np.nan if feature.neutral is None else feature.neutral for feature in DEFINITIONS], np.float32
)

# Where no fraud is known, a high value of these is suspicious (include.models.isolation_forest).
SUSPICIOUS = (
    "amount", "amount_ratio", "spend_1d", "rate_1h", "rate_1d", "newness", "new_device", "new_country", "foreign",
    "country_change", "tiny_burst", "hour_surprise", "merchant_amount_z", "merchant_rate_1d", "merchant_tiny",
    "customer_frauds_30d", "merchant_frauds_30d", "device_frauds_30d",
)  # fmt: skip
