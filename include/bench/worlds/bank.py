"""A bank's card payments in one town: day, merchant and category, and nothing else to compare with.

After BankSim (E. A. Lopez-Rojas and S. Axelsson, "BankSim: A bank payment simulation for fraud detection
research", EMSS 2014): steps are days, four of five payments are for transport, amounts follow the category,
thieves take a card over and spend as much as they can at few merchants of dear categories within days.
Postcodes are all the same, age groups and gender come with the customer.
"""

from __future__ import annotations

import numpy as np

from include.bench.worlds.history import (
    DAY,
    Block,
    History,
    Reports,
    constant,
    history,
    names,
    start,
    weighted,
    weighted_rows,
)

BEGIN, DAYS = start(2024, 2, 1), 150
CUSTOMERS = 2_400
# mean amount, spread of its logarithm, share of payments, merchants, share of thefts
CATEGORIES = {
    "transport": (24, 0.5, 0.72, 2, 0.0),
    "food": (34, 0.5, 0.06, 4, 0.0),
    "health": (95, 0.7, 0.05, 5, 0.16),
    "hypermarket": (38, 0.6, 0.03, 3, 0.04),
    "bars": (40, 0.6, 0.03, 4, 0.02),
    "fashion": (60, 0.7, 0.02, 4, 0.02),
    "beauty": (64, 0.7, 0.03, 6, 0.10),
    "technology": (102, 0.8, 0.01, 4, 0.03),
    "sports and toys": (90, 0.8, 0.01, 5, 0.28),
    "home": (115, 0.8, 0.01, 4, 0.04),
    "hotels": (108, 0.6, 0.008, 5, 0.08),
    "services": (70, 0.8, 0.005, 4, 0.03),
    "leisure": (72, 0.6, 0.002, 2, 0.07),
    "travel": (520, 0.9, 0.002, 2, 0.13),
}
ESCALATION = 3.2  # thieves' amounts against the category's
REPORTS = Reports(median=7, spread=0.7, least=1, most=40, reported=0.94, wrong=0.0003)


def simulate(seed: int, payments: int = 80_000) -> History:
    """A world of `payments` transactions."""
    rng = np.random.default_rng([seed, 2])
    mean, spread, share, merchants, stolen = np.array(list(CATEGORIES.values())).T
    first = np.cumsum(merchants) - merchants
    taste = share * rng.gamma(1.5, 1 / 1.5, (CUSTOMERS, len(share)))
    level = np.exp(rng.normal(0, 0.2, CUSTOMERS))
    age, gender = rng.integers(0, 7, CUSTOMERS), rng.random(CUSTOMERS)

    def block(
        day: np.ndarray, customer: np.ndarray, category: np.ndarray, shop: np.ndarray, fraud: bool
    ) -> Block:
        n = len(day)
        amount = mean[category] * np.exp(spread[category] * rng.normal(size=n) - spread[category] ** 2 / 2)
        amount *= ESCALATION * np.exp(rng.normal(0, 0.5, n)) if fraud else level[customer]
        return {
            "time": BEGIN + day * DAY,
            "user_id": names("C", customer),
            "amount": amount,
            "scenario": constant("theft" if fraud else "", n),
            "merchant_id": names("M", shop),
            "merchant_category": np.array(list(CATEGORIES), object)[category],
            "currency": constant("EUR", n),
            "age_group": names("age ", age[customer]),
            "postcode": constant("28007", n),
            "gender": np.where(
                gender[customer] < 0.54, "F", np.where(gender[customer] < 0.99, "M", "E")
            ).astype(object),
        }

    thefts = round(0.012 * payments / 3.2)
    sizes = rng.integers(1, 7, thefts)
    victim = np.repeat(rng.integers(CUSTOMERS, size=thefts), sizes)
    day = np.repeat(rng.integers(0, DAYS - 3, thefts), sizes) + rng.integers(0, 3, len(victim))
    category = weighted(rng, stolen, len(victim))
    risky = first[category] + np.minimum(rng.geometric(0.6, len(victim)) - 1, merchants[category] - 1)
    theft = block(day, victim, category, risky.astype(int), True)

    n = payments - len(victim)
    customer = weighted(rng, rng.gamma(3, 1 / 3, CUSTOMERS), n)
    category = weighted_rows(rng, taste[customer])
    favourite = (customer * 31 + category * 17) % merchants[category]
    shop = (
        np.where(rng.random(n) < 0.8, favourite, rng.integers(0, 1 << 30, n) % merchants[category])
        + first[category]
    )
    honest = block(np.sort(rng.integers(0, DAYS, n)), customer, category, shop.astype(int), False)
    return history([honest, theft], REPORTS, rng)
