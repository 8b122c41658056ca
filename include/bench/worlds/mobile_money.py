"""Mobile money: cash in and out at agents, transfers between customers, balances before each step.

After PaySim (E. A. Lopez-Rojas, A. Elmir and S. Axelsson, "PaySim: A financial mobile money simulator for
fraud detection", EMSS 2016): steps are hours of a month, five kinds of transactions, many customers with few
of them each. A thief takes an account over, moves its balance to a mule by one or more transfers, and the
mule draws it out at an agent. Unlike the published data, honest customers empty their accounts too, thieves
do not always take everything, and only the balance before is known.
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
    names,
    start,
    weighted,
)

BEGIN, DAYS = start(2025, 5, 1), 45
CUSTOMERS, AGENTS, SHOPS = 9_000, 150, 700
KINDS = ("cash in", "cash out", "payment", "transfer", "debit")
SHARES = np.array([0.24, 0.30, 0.33, 0.11, 0.02])
REPORTS = Reports(median=1.2, spread=0.9, least=0.1, most=20, reported=0.8, wrong=0.0002)


def simulate(seed: int, payments: int = 80_000) -> History:
    """A world of about `payments` transactions."""
    rng = np.random.default_rng([seed, 3])
    wealth = np.exp(rng.normal(9.6, 1.0, CUSTOMERS))  # shillings that come in at a time
    takeovers = round(0.004 * payments / 4)
    n = payments - 4 * takeovers
    hour = weighted(
        rng,
        np.array([1, 1, 1, 1, 1, 2, 4, 7, 10, 12, 12, 11, 11, 11, 10, 10, 11, 12, 12, 9, 6, 4, 2, 1.0]),
        n,
    )
    day = weighted(rng, np.where(np.arange(DAYS) % 30 > 24, 1.5, 1.0), n)
    time = BEGIN + day * DAY + hour * HOUR  # the step is the hour
    customer = weighted(rng, rng.gamma(1.2, 1 / 1.2, CUSTOMERS), n)
    kind, fraud = weighted(rng, SHARES, n), np.zeros(n, np.int64)
    other = np.where(
        kind == 3,
        rng.integers(CUSTOMERS, size=n),
        np.where(kind == 2, rng.integers(SHOPS, size=n), rng.integers(AGENTS, size=n)),
    )

    victims, mules = (
        rng.integers(CUSTOMERS, size=takeovers),
        rng.integers(CUSTOMERS, size=max(2, takeovers // 4)),
    )
    mule = mules[weighted(rng, rng.gamma(1, 1, len(mules)), takeovers)]
    begin = BEGIN + rng.integers(0, DAYS * 24 - 30, takeovers) * HOUR
    pieces = rng.integers(1, 4, takeovers)
    of = np.repeat(np.arange(takeovers), pieces)
    moved = begin[of] + rng.integers(0, 2, len(of)) * HOUR
    drawn_of = np.repeat(np.arange(takeovers), rng.integers(1, 4, takeovers))
    drawn = begin[drawn_of] + rng.integers(1, 12, len(drawn_of)) * HOUR
    rows = {
        "time": np.concatenate([time, moved, drawn]),
        "customer": np.concatenate([customer, victims[of], mule[drawn_of]]),
        "kind": np.concatenate([kind, np.full(len(of), 3), np.full(len(drawn), 1)]),
        "other": np.concatenate([other, mule[of], rng.integers(AGENTS, size=len(drawn))]),
        "fraud": np.concatenate([fraud, np.full(len(of), 1), np.full(len(drawn), 2)]),
    }
    order = np.argsort(rows["time"], kind="stable")
    return history([_book(rng, wealth, **{name: row[order] for name, row in rows.items()})], REPORTS, rng)


def _book(
    rng: np.random.Generator,
    wealth: np.ndarray,
    time: np.ndarray,
    customer: np.ndarray,
    kind: np.ndarray,
    other: np.ndarray,
    fraud: np.ndarray,
) -> Block:
    """The amounts that the balances allow, one transaction after the other."""
    n = len(time)
    balance = wealth * rng.gamma(1.5, 1.0, len(wealth))
    wanted = wealth[customer] * np.exp(rng.normal(np.array([0.0, -0.5, -2.2, -0.9, -2.5])[kind], 0.9))
    empties = (rng.random(n) < np.where(kind == 1, 0.12, np.where(kind == 3, 0.05, 0.0))) | (
        rng.random(n) < 0.6
    ) & (fraud > 0)
    part = rng.uniform(0.45, 1.0, n)
    amount, before, receiver = np.empty(n), np.empty(n), np.full(n, np.nan)
    for row, (who, what, to) in enumerate(zip(customer.tolist(), kind.tolist(), other.tolist(), strict=True)):
        have = before[row] = balance[who]
        if what == 0:
            amount[row] = wanted[row]
            balance[who] += amount[row]
            continue
        if fraud[row]:
            amount[row] = have * (1.0 if empties[row] else part[row])
        else:
            amount[row] = have if empties[row] else min(wanted[row], have)
        amount[row] = max(amount[row], 50.0)
        balance[who] = max(0.0, have - amount[row])
        if what == 3:
            receiver[row] = balance[to]
            balance[to] += amount[row]
    receivers = np.stack([names(prefix, other) for prefix in ("agent", "agent", "shop", "account", "bank")])
    return {
        "time": time,
        "user_id": names("account", customer),
        "amount": amount,
        "scenario": np.array(["", "account emptied", "mule's cash-out"], object)[fraud],
        "merchant_id": receivers[kind, np.arange(n)],
        "merchant_category": np.array(KINDS, object)[kind],
        "currency": constant("TZS", n),
        "balance_before": before,
        "receiver_balance_before": receiver,
    }
