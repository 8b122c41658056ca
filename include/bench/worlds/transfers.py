"""A bank's online transfers: payees instead of merchants, sessions, mules, salary days and Christmas.

After papers on online banking: M. Carminati et al., "BankSealer: A decision support system for online banking
fraud analysis and investigation" (Computers & Security, 2015): stolen credentials from a foreign network,
hijacked transactions from the customer's own device, stealthy small transfers over weeks; W. Wei et al.,
"Effective detection of sophisticated online banking fraud on extremely imbalanced data" (World Wide Web,
2013) on how rare they are. A fourth kind, customers talked into paying, follows reports on authorised push
payment fraud.
"""

from __future__ import annotations

from typing import Any

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
)

BEGIN, DAYS = start(2025, 10, 1), 120
CUSTOMERS, PAYEES = 2_800, 9_000
NETWORKS, PLACES = (
    40,
    ("Bologna, Italy", "Milan, Italy", "Rome, Italy", "Bucharest, Romania", "Riga, Latvia", "Lagos, Nigeria"),
)
REPORTS = Reports(median=4, spread=1.1, least=0.1, most=45, reported=0.8)


def simulate(seed: int, payments: int = 90_000) -> History:
    """A world of about `payments` transactions."""
    rng = np.random.default_rng([seed, 6])
    level = np.exp(rng.normal(5.2, 0.8, CUSTOMERS))
    home, network = weighted(rng, np.array([0.3, 0.4, 0.3]), CUSTOMERS), rng.integers(0, NETWORKS, CUSTOMERS)
    pace = np.exp(rng.normal(5.0, 0.4, CUSTOMERS))
    abroad = rng.random(PAYEES) < 0.06

    def block(
        time: np.ndarray, who: np.ndarray, payee: np.ndarray, amount: np.ndarray, kind: str, **other: Any
    ) -> Block:
        n = len(time)
        destination = other.get(
            "place", np.where(rng.random(n) < 0.012, 3 + rng.integers(0, 3, n), home[who])
        )
        device = other.get("device", who * 4 + (rng.random(n) ** 3 * 2.2).astype(int))
        return {
            "time": time,
            "user_id": names("holder", who),
            "amount": amount,
            "scenario": constant(kind, n),
            "merchant_id": names("payee", payee),
            "currency": constant("EUR", n),
            "device": names("browser", device),
            "location": np.array(PLACES, object)[home[who]],
            "transaction_location": np.array(PLACES, object)[destination],
            "network": names(
                "AS",
                other.get(
                    "network", np.where(rng.random(n) < 0.9, network[who], rng.integers(0, NETWORKS, n))
                ),
            ),
            "payee_bank": np.where(
                other.get("payee_abroad", abroad[payee % PAYEES]), "abroad", "Italy"
            ).astype(object),
            "session_seconds": pace[who] * np.exp(rng.normal(0, 0.5, n) + other.get("longer", 0.0)),
        }

    n = round(payments * 0.996)
    day = np.arange(DAYS)
    weekday = (BEGIN // DAY + 3 + day) % 7
    by_day = (
        np.where(weekday > 4, 0.35, 1.0)
        * np.where((day % 30 > 25) | (day % 30 < 3), 1.8, 1.0)
        * np.where((day > 68) & (day < 84), 1.5, 1)
    )
    by_hour = np.array([1, 1, 0, 0, 0, 1, 2, 5, 10, 12, 11, 10, 8, 8, 9, 9, 9, 9, 9, 10, 10, 9, 5, 2.0])
    who = weighted(rng, rng.gamma(1.5, 1, CUSTOMERS), n)
    regular = rng.random(n)
    slot = (regular**2 * 12).astype(int)
    payee = np.where(
        rng.random(n) < 0.88, (who * 37 + slot * 911) % PAYEES, weighted(rng, rng.gamma(0.3, 1, PAYEES), n)
    )
    amount = level[who] * np.exp(rng.normal((slot % 4 - 1.5) * 0.5, 0.6))
    large = rng.random(n) < 0.004
    amount = np.where(large, level[who] * rng.uniform(5, 40, n), amount)
    time = moments(rng, BEGIN, by_day, by_hour, n)
    # one payment of twenty goes to an account that nobody paid before: each gets one to nine, within weeks
    fresh = np.flatnonzero(rng.random(n) < 0.05)
    fresh = fresh[np.argsort(time[fresh])]
    account = np.repeat(np.arange(len(fresh)), rng.integers(1, 10, len(fresh)))[: len(fresh)]
    payee[fresh] = (
        1_000_000 + account[np.argsort(np.arange(len(fresh)) + rng.uniform(0, len(fresh) / 8, len(fresh)))]
    )
    blocks = [block(time, who, payee, amount, "", longer=np.where(large, 0.4, 0.0))]

    frauds = payments - n
    mules = PAYEES + np.arange(max(4, frauds // 8))
    opened = np.sort(rng.integers(0, DAYS - 10, len(mules)))

    def mule_at(begin_day: np.ndarray) -> np.ndarray:
        """A mule that was opened in the week or two before."""
        position = np.searchsorted(opened, begin_day, side="right") - 1 - rng.integers(0, 4, len(begin_day))
        return np.asarray(mules[np.maximum(position, 0)])

    def times(begin_day: np.ndarray, over_days: float | np.ndarray) -> np.ndarray:
        hour = weighted(rng, by_hour + 2, len(begin_day)) * HOUR + rng.integers(0, HOUR, len(begin_day))
        return (
            BEGIN + begin_day * DAY + hour + (rng.random(len(begin_day)) * over_days * DAY).astype(np.int64)
        )

    def victims(count: int, least: int, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        of = np.repeat(np.arange(count), rng.integers(least, most + 1, count))
        return of, rng.integers(CUSTOMERS, size=count)[of], rng.integers(1, DAYS - 26, count)[of]

    of, who, begin = victims(max(1, round(frauds * 0.35 / 2.5)), 1, 4)
    blocks.append(
        block(
            times(begin, 0.3),
            who,
            mule_at(begin),
            level[who] * rng.uniform(2, 9, len(of)),
            "stolen credentials",
            place=rng.integers(3, 6, len(of)),
            device=90_000 + of,
            network=NETWORKS + of % 9,
            longer=-0.7,
            payee_abroad=rng.random(len(of)) < 0.5,
        )
    )
    of, who, begin = victims(max(1, round(frauds * 0.25 / 1.5)), 1, 2)
    blocks.append(
        block(
            times(begin, 0.5),
            who,
            mule_at(begin),
            level[who] * rng.uniform(1, 5, len(of)),
            "hijacked transfer",
        )
    )
    of, who, begin = victims(max(1, round(frauds * 0.2 / 9)), 6, 12)
    to = mule_at(begin)[np.searchsorted(of, of)]
    blocks.append(
        block(times(begin, 24), who, to, level[who] * rng.uniform(0.4, 1.2, len(of)), "stealthy transfers")
    )
    of, who, begin = victims(max(1, round(frauds * 0.2 / 1.5)), 1, 2)
    blocks.append(
        block(
            times(begin, 1),
            who,
            mule_at(begin),
            level[who] * rng.uniform(4, 25, len(of)),
            "talked into paying",
            longer=0.8,
        )
    )
    return history(blocks, REPORTS, rng)
