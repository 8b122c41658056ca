"""Features of the numbers and categories that a shop has beside the named fields (include.features.extra_fields).

Of a number x the signed logarithm s(x) = sign(x) log(1 + |x|) is compared: with the customer's own mean, whose memory
is 90 days, and with the partition's closed days (include.features.closed_days). So is log(1 + amount) - s(x): how large
the amount is beside the number. Of a category counts whether it is new to the customer, and how rare it was.
"""

from __future__ import annotations

import numpy as np

from include.events.transaction import CATEGORIES, NUMBERS
from include.features.aggregates import HABIT
from include.features.rounds import Kept, Latest, Rounds, decayed_sums

MOST_DEVIATIONS = 20.0
KEPT = 8  # latest values of a category that are kept of each customer
LEAST_WEIGHT = 1e-6  # payments: less has decayed away
PRIOR_SPREAD, PRIOR_WEIGHT = 0.6, 4.0  # of logarithms; payments that the spread weighs as much as

# At the end of a customer's state. All zero where the customer has none of them, and zeros at the end are not stored.
STATE = [
    ("number_latest", "<i8", (len(NUMBERS),)),  # microseconds, of a payment with the number
    ("number_sums", "<f8", (len(NUMBERS), 2)),  # payments and s(x), decayed to that time
    ("categories", "<u8", (len(CATEGORIES), KEPT)),
]


def signed_log(x: np.ndarray) -> np.ndarray:
    """s(x) = sign(x) log(1 + |x|).

    >>> signed_log(np.array([0.0, np.expm1(2), -np.expm1(2)])).round(6).tolist()
    [0.0, 2.0, -2.0]
    """
    return np.asarray(np.sign(x) * np.log1p(np.abs(x)))


def measures(numbers: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """What is summed up over closed days (N, len(NUMBERS), 4): s(x), its square, and the same of the amount beside x.

    >>> measures(np.array([[0.0, np.nan]]), np.array([np.expm1(3)])).round(6)[0, 0].tolist()
    [0.0, 0.0, 3.0, 9.0]
    """
    level = signed_log(numbers)
    beside = np.log1p(amount)[:, None] - level
    return np.stack([level, level**2, beside, beside**2], axis=2)


def against_shop(given: np.ndarray, count: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """How many standard deviations a payment's measures lie from those of the partition's closed days.

    Args:
        given: (N, 4) measures of one number, NaN where the payment lacks it.
        count: (N,) payments with the number, decayed.
        sums: (N, 4) of the measures, decayed.

    Returns:
        (N, 2) of the number and of the amount beside it, in [-20, 20]; 0 where nothing is known.

    Of 96 payments s(x) is 2 in the mean and varies by 0.6, and the amount is as large as x:

    >>> sums = 96.0 * np.array([[2.0, 4.36, 0.0, 0.36]])
    >>> against_shop(np.array([[3.2, 3.2**2, 0.0, 0.0]]), np.array([96.0]), sums).round(2).tolist()
    [[2.0, 0.0]]
    """
    there = ~np.isnan(given[:, 0]) & (count > LEAST_WEIGHT)
    weight = np.where(there, count, 1.0)[:, None]
    mean = sums[:, ::2] / weight
    variance = np.maximum(sums[:, 1::2] / weight - mean**2, 0)
    spread = np.sqrt((weight * variance + PRIOR_WEIGHT * PRIOR_SPREAD**2) / (weight + PRIOR_WEIGHT))
    deviations = np.clip((given[:, ::2] - mean) / spread, -MOST_DEVIATIONS, MOST_DEVIATIONS)
    return np.where(there[:, None], deviations, 0)


def against_habit(
    state: np.ndarray, index: np.ndarray, time: np.ndarray, level: np.ndarray, number: int
) -> np.ndarray:
    """(N,) s(x) of one number against the customer's own mean, 0 without one; it is then added to the states.

    Args:
        state: (U,) of customers, changed in place.
        index: (N,) which of them each row belongs to; rows in log order.
        level: (N,) s(x), NaN where the payment lacks the number.

    >>> customer, second = np.zeros(1, STATE), 1_000_000
    >>> time = np.array([1, 2, 3]) * second
    >>> against_habit(customer, np.zeros(3, int), time, np.array([1.0, np.nan, 3.0]), number=0).round(2).tolist()
    [0.0, 0.0, 2.0]
    """
    result = np.zeros(len(level))
    rows = np.flatnonzero(~np.isnan(level))
    rounds = Rounds(index[rows])
    rows = rows[rounds.order]
    clock, own = (
        state["number_latest"][rounds.entities, number],
        state["number_sums"][rounds.entities, number],
    )
    latest = Latest(rounds, time[rows, None], clock[:, None])
    stood, now = latest.before[:, 0], np.maximum(latest.before[:, 0], time[rows])
    added = np.column_stack([np.ones(len(rows)), level[rows]])
    added *= np.exp((time[rows] - now) / (1e6 * HABIT))[:, None]
    before = decayed_sums(rounds, own, np.exp((stood - now) / (1e6 * HABIT))[:, None], added)
    state["number_latest"][rounds.entities, number] = latest.final[:, 0]
    state["number_sums"][rounds.entities, number] = own
    known = before[:, 0] > LEAST_WEIGHT
    result[rows] = np.where(known, level[rows] - before[:, 1] / np.where(known, before[:, 0], 1), 0)
    return result


def novelty(
    state: np.ndarray,
    index: np.ndarray,
    time: np.ndarray,
    hashes: np.ndarray,
    payments: np.ndarray,
    category: int,
) -> np.ndarray:
    """(N,) n / (n + 3) after n payments for a value that is not among the customer's latest, which it then joins.

    A customer of whom no value is known has no new one.

    Args:
        state, index: as in `against_habit`.
        hashes: (N,) uint32 of the values, 0 where the payment has none.
        payments: (N,) of the customer before each row.

    >>> customer, time = np.zeros(1, STATE), np.array([1, 2, 3]) * 1_000_000
    >>> hashes = np.array([7, 7, 8], np.uint32)
    >>> novelty(customer, np.zeros(3, int), time, hashes, np.array([4, 5, 6]), category=0).round(2).tolist()
    [0.0, 0.0, 0.67]
    """
    result = np.zeros(len(hashes))
    rows = np.flatnonzero(hashes)
    rounds = Rounds(index[rows])
    rows = rows[rounds.order]
    second = np.clip(time[rows] // 1_000_000, 1, 2**32 - 1).astype(np.uint64) << np.uint64(32)
    own = state["categories"][rounds.entities, category]
    kept = Kept(rounds, own[:, None], (second | hashes[rows])[:, None])
    state["categories"][rounds.entities, category] = kept.slots[:, 0]
    new = ~kept.known[:, 0] & (kept.sizes[:, 0] > 0)
    result[rows] = np.where(new, payments[rows] / (payments[rows] + 3), 0)
    return result


def rarity(of_value: np.ndarray, of_all: np.ndarray) -> np.ndarray:
    """-log((count of the value + 1) / (count of all payments + 1)).

    >>> rarity(np.array([9.0]), np.array([99.0])).round(2).tolist()
    [2.3]
    """
    return np.asarray(np.log((of_all + 1) / (of_value + 1)))
