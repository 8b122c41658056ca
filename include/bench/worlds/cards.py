"""Cards of people with names and towns: payments near home by category, fraud in nights of big spending.

After the published descriptions of the Sparkov card simulator (B. Harris, 2020) and the demographic card data
made by it: people with first names, towns, birth years and jobs; merchants of 14 categories, each payment's
position drawn around the customer's home whatever the merchant is, so that distance tells nothing; a
customer's card is misused for a few days, mostly late in the evening and at night, in few categories and for
sums that are usual there for nobody.
"""

from __future__ import annotations

import numpy as np

from include.bench.worlds.history import (
    DAY,
    HOUR,
    Block,
    History,
    Reports,
    constant,
    history,
    moments,
    names,
    start,
    weighted,
    weighted_rows,
)

BEGIN, DAYS = start(2025, 9, 20), 100
CUSTOMERS, MERCHANTS, TOWNS = 900, 640, 150
# mean amount, share of payments, mean amount and share of misuse
CATEGORIES = {
    "groceries at the till": (115, 0.10, 310, 0.26),
    "groceries online": (55, 0.04, 12, 0.02),
    "petrol": (63, 0.11, 13, 0.08),
    "home": (58, 0.10, 250, 0.03),
    "shopping at the till": (75, 0.09, 880, 0.11),
    "shopping online": (82, 0.08, 990, 0.25),
    "miscellaneous online": (80, 0.05, 790, 0.13),
    "miscellaneous at the till": (62, 0.06, 210, 0.03),
    "children": (58, 0.09, 19, 0.02),
    "entertainment": (64, 0.07, 500, 0.03),
    "food": (51, 0.07, 120, 0.02),
    "personal care": (48, 0.07, 25, 0.01),
    "health": (54, 0.06, 20, 0.01),
    "travel": (110, 0.03, 9, 0.01),
}
FIRST, LAST = (
    ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gina", "Hal"),
    ("Ash", "Bell", "Cole", "Drew", "East"),
)
JOBS = ("nurse", "driver", "teacher", "clerk", "engineer", "farmer", "retired", "student")
REPORTS = Reports(median=6, spread=0.6, least=1, most=30, reported=0.98)


def simulate(seed: int, payments: int = 80_000) -> History:
    """A world of `payments` transactions."""
    rng = np.random.default_rng([seed, 1])
    mean, share, misuse, misused = np.array(list(CATEGORIES.values())).T
    age = np.clip(rng.normal(46, 18, CUSTOMERS), 16, 94).round()
    taste = share * rng.gamma(2.0, 0.5, (CUSTOMERS, len(share)))
    level = np.exp(rng.normal(0, 0.35, CUSTOMERS))
    merchant_of = [
        np.flatnonzero(np.arange(MERCHANTS) % len(share) == category) for category in range(len(share))
    ]
    town = rng.integers(TOWNS, size=CUSTOMERS)
    homes = np.column_stack([rng.uniform(28, 48, TOWNS), rng.uniform(-120, -72, TOWNS)])
    people = np.exp(rng.normal(9, 1.6, TOWNS)).round()

    def block(time: np.ndarray, customer: np.ndarray, category: np.ndarray, fraud: bool) -> Block:
        n = len(time)
        usual = np.where(rng.random(n) < 0.15, 0.25, 1.0) * mean[category] * level[customer]
        amount = np.where(
            fraud, misuse[category] * rng.gamma(9, 1 / 9, n), usual * rng.gamma(1.3, 1 / 1.3, n)
        )
        shop = np.array([rng.choice(merchant_of[kind]) for kind in category], int) if n else np.zeros(0, int)
        position = homes[town[customer]] + rng.uniform(-1, 1, (n, 2))
        first, last = np.array(FIRST, object)[customer % 8], np.array(LAST, object)[customer // 8 % 5]
        return {
            "time": time,
            "user_id": names("card", customer),
            "amount": amount,
            "scenario": constant("misused card" if fraud else "", n),
            "first_name": first,
            "last_name": last,
            "full_name": first + " " + last,
            "location": names("Town ", town[customer]) + ", " + names("State ", town[customer] % 40),
            "merchant_id": names("merchant", shop),
            "merchant_category": np.array(list(CATEGORIES), object)[category],
            "currency": constant("USD", n),
            "latitude": position[:, 0].round(4),
            "longitude": position[:, 1].round(4),
            "age": age[customer],
            "town_population": people[town[customer]],
            "job": np.array(JOBS, object)[customer * 7 % 8],
            "sex": np.where(customer % 2 == 0, "F", "M").astype(object),
        }

    day = np.arange(DAYS)
    weekday = (BEGIN // DAY + 3 + day) % 7
    by_day = np.where(weekday < 2, 1.4, np.where(weekday > 4, 1.3, 0.8)) * np.where(
        day > 70, 1.7, 1.0
    )  # December
    by_hour = np.where(np.arange(24) < 12, 1.0, 1.6)
    fraud = _episodes(rng, taste, misused, round(0.0055 * payments))
    n = payments - len(fraud[0])
    customer = weighted(rng, rng.choice([0.4, 1.0, 2.2], CUSTOMERS), n)
    time = moments(rng, BEGIN, by_day, by_hour, n)
    honest = block(time, customer, weighted_rows(rng, taste[customer]), False)
    return history([honest, block(*fraud, True)], REPORTS, rng)


def _episodes(
    rng: np.random.Generator, taste: np.ndarray, misused: np.ndarray, wanted: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, customers and categories of misuse: 4 to 14 payments over one to three nights."""
    sizes = rng.integers(4, 15, max(1, round(wanted / 9)))
    customer = np.repeat(rng.choice(len(taste), len(sizes), replace=False), sizes)
    night = np.repeat(rng.integers(0, DAYS - 3, len(sizes)), sizes) + rng.integers(0, 3, len(customer))
    hour = np.where(
        rng.random(len(customer)) < 0.85,
        rng.uniform(22, 28, len(customer)),
        rng.uniform(4, 22, len(customer)),
    )
    time = BEGIN + night * DAY + (hour * HOUR).astype(np.int64)
    return time, customer, weighted(rng, misused, len(customer))
