"""An e-commerce shop: cards, devices, e-mail domains and addresses, most of them often missing; rings that share them.

After the published descriptions of the Vesta data of the IEEE-CIS competition (2019) and of linked fraud in
e-commerce (e.g. S. Nami and M. Shajari, "Cost-sensitive payment card fraud detection based on dynamic random
forest and k-nearest neighbors", 2018): products as single letters, no merchants, devices known of a third of
the payments, chargebacks after weeks. Fraudsters try many stolen cards from one device, to one address; some
accounts of good customers are taken over; some customers deny what they bought.
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
    given,
    history,
    moments,
    names,
    start,
    weighted,
)

BEGIN, DAYS = start(2025, 7, 20), 160
CUSTOMERS, DEVICES, REGIONS = 14_000, 4_000, 280
PRODUCTS, PRODUCT_SHARE = ("W", "C", "H", "R", "S"), np.array([0.73, 0.12, 0.06, 0.06, 0.03])
PRODUCT_MEAN = np.array([110, 38, 62, 130, 48.0])
DOMAINS = (
    "post.example",
    "mail.example",
    "fast.example",
    "free.example",
    "isp.example",
    "anonym.example",
    "work.example",
)
REPORTS = Reports(median=16, spread=0.5, least=4, most=50, reported=0.86, wrong=0.001)


def simulate(seed: int, payments: int = 75_000) -> History:
    """A world of about `payments` transactions."""
    rng = np.random.default_rng([seed, 4])
    level = np.exp(rng.normal(0, 0.5, CUSTOMERS))
    joined = np.where(
        rng.random(CUSTOMERS) < 0.5, -rng.exponential(200, CUSTOMERS), rng.uniform(0, DAYS, CUSTOMERS)
    )
    domain = weighted(rng, np.array([0.42, 0.2, 0.12, 0.1, 0.08, 0.03, 0.05]), CUSTOMERS)
    region = weighted(rng, rng.gamma(0.4, 1, REGIONS), CUSTOMERS)
    brand = weighted(rng, np.array([0.62, 0.25, 0.08, 0.05]), CUSTOMERS)
    credit = rng.random(CUSTOMERS) < 0.27

    def block(
        time: np.ndarray,
        card: np.ndarray,
        product: np.ndarray,
        amount: np.ndarray,
        scenario: np.ndarray,
        **other: Any,
    ) -> Block:
        n, who = len(time), np.minimum(card, CUSTOMERS - 1)
        device = other.get("device", (who * 13 + (rng.random(n) < 0.12) * rng.integers(1, 99, n)) % DEVICES)
        device_told = rng.random(n) < np.where(product == 0, 0.12, 0.85)
        to = other.get("address", region[who])
        address_told = rng.random(n) < np.where(product == 1, 0.3, 0.96)
        mail = other.get("domain", domain[who])
        recipient = rng.random(n) < np.where(product == 0, 0.05, 0.7)
        return {
            "time": time,
            "user_id": names("card", card),
            "amount": amount,
            "scenario": scenario,
            "device": given(names("device", device), device_told),
            "merchant_category": np.array(PRODUCTS, object)[product],
            "currency": constant("USD", n),
            "email_domain": given(np.array(DOMAINS, object)[mail], rng.random(n) < 0.85),
            "recipient_domain": given(np.array(DOMAINS, object)[other.get("recipient", mail)], recipient),
            "address": given(names("region", to), address_told),
            "card_type": np.where(other.get("credit", credit[who]), "credit ", "debit ").astype(object)
            + names("brand", brand[who]),
            "billing_distance": np.where(
                rng.random(n) < 0.4, np.exp(rng.normal(2.2, 1.3, n) + other.get("farther", 0.0)), np.nan
            ),
            "days_known": other.get("days_known", np.maximum((time - BEGIN) / DAY - joined[who], 0)).round(1),
        }

    day = np.arange(DAYS)
    by_day = (
        1
        + 0.25 * np.sin(2 * np.pi * day / 7)
        + 0.9 * np.exp(-(((day - 145) / 9.0) ** 2))
        + 0.5 * (day == 131)
    )
    by_hour = np.array([5, 3, 2, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 9, 10, 11, 12, 12, 11, 9, 7.0])
    n = round(payments * 0.972)
    card, product = weighted(rng, rng.gamma(0.8, 1, CUSTOMERS), n), weighted(rng, PRODUCT_SHARE, n)
    amount = _price(rng, PRODUCT_MEAN[product] * level[card])
    scenario = np.where(rng.random(n) < 0.002, "denied purchase", "").astype(object)
    honest = block(moments(rng, BEGIN, by_day, by_hour, n), card, product, amount, scenario)

    frauds = round(payments * 0.026)
    rings = max(2, frauds // 45)
    of = weighted(rng, rng.gamma(1.2, 1, rings), round(frauds * 0.65))
    size = len(of)
    begins = BEGIN + rng.integers(0, DAYS - 12, rings) * DAY
    time = begins[of] + (rng.random(size) ** 1.3 * rng.uniform(1, 12, rings)[of] * DAY).astype(np.int64)
    cards = CUSTOMERS + of * 1_000 + rng.integers(0, rng.integers(4, 40, rings)[of])
    product = np.where(
        rng.random(size) < 0.6, rng.integers(1, 5, rings)[of], weighted(rng, PRODUCT_SHARE, size)
    )
    ring = block(
        time,
        cards,
        product,
        _price(rng, PRODUCT_MEAN[product] * np.exp(rng.normal(0.3, 0.5, rings))[of]),
        constant("ring", size),
        device=DEVICES + of * 2 + rng.integers(0, 2, size),
        address=weighted(rng, rng.gamma(0.4, 1, REGIONS), rings)[of],
        domain=np.where(rng.random(size) < 0.5, 5, rng.integers(0, 7, rings)[of]),
        recipient=rng.integers(0, 7, rings)[of],
        credit=rng.random(size) < 0.6,
        farther=1.2,
        days_known=rng.exponential(np.where(rng.random(rings) < 0.5, 4, 60)[of]),
    )
    taken = round(frauds * 0.35 / 3)
    of = np.repeat(np.arange(taken), 3)
    owner = weighted(rng, rng.gamma(0.8, 1, CUSTOMERS), taken)[of]
    time = (
        BEGIN
        + rng.integers(0, (DAYS - 1) * 24, taken)[of] * HOUR
        + (rng.exponential(5, len(of)) * HOUR).astype(np.int64)
    )
    product = weighted(rng, np.array([0.4, 0.2, 0.2, 0.15, 0.05]), len(of))
    takeover = block(
        time,
        owner,
        product,
        _price(rng, PRODUCT_MEAN[product] * level[owner] * rng.uniform(1.2, 4, len(of))),
        constant("account takeover", len(of)),
        device=DEVICES + 90_000 + of,
        address=rng.integers(REGIONS, size=taken)[of],
        farther=1.0,
    )
    return history([honest, ring, takeover], REPORTS, rng)


def _price(rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
    """Amounts around a mean, half of them such prices as 49.95."""
    amount = mean * np.exp(rng.normal(-0.2, 0.7, len(mean)))
    return np.where(rng.random(len(mean)) < 0.5, np.maximum(np.round(amount / 10) * 10, 10) - 0.05, amount)
