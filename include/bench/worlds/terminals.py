"""An acquirer's terminals: cards of unknown owners at known terminals, without any place of the customer.

After papers on transactions as an acquirer or processor sees them: V. Van Vlasselaer et al., "APATE"
(Decision Support Systems, 2015) on stolen cards and the merchants that they visit; A. C. Bahnsen et al.,
"Feature engineering strategies for credit card fraud detection" (Expert Systems with Applications, 2016) on
the hours in which a customer pays; A. Dal Pozzolo et al., "Credit card fraud detection: a realistic modeling
and a novel learning strategy" (IEEE TNNLS, 2018) on late labels and a fraction of a percent of fraud. Kinds:
stolen cards used within hours at few dear terminals; terminals that copy cards, which are misused elsewhere
weeks later; shops that charge cards which never were there; numbers tried out with small sums at one online
terminal.
"""

from __future__ import annotations

import numpy as np

from include.bench.worlds.history import (
    DAY,
    HOUR,
    SECOND,
    Block,
    History,
    Reports,
    constant,
    history,
    names,
    start,
    weighted,
)

BEGIN, DAYS = start(2024, 10, 7), 110
CARDS, TERMINALS = 2_600, 900
CODES = ("5411", "5541", "5812", "5912", "5732", "5944", "5651", "4829", "5967")
CODE_SHARE = np.array([0.30, 0.15, 0.2, 0.1, 0.05, 0.02, 0.1, 0.03, 0.05])
CODE_MEAN = np.array([70, 150, 55, 45, 420, 600, 160, 400, 80.0])
DEAR, ONLINE = (4, 5, 7), 8
REPORTS = Reports(median=9, spread=0.8, least=0.5, most=60, reported=0.9, wrong=0.0002)


def simulate(seed: int, payments: int = 85_000) -> History:
    """A world of about `payments` transactions."""
    rng = np.random.default_rng([seed, 5])
    code = weighted(rng, CODE_SHARE, TERMINALS)
    size = rng.gamma(0.7, 1, TERMINALS)
    price = CODE_MEAN[code] * np.exp(rng.normal(0, 0.3, TERMINALS))
    level, hour = np.exp(rng.normal(0, 0.4, CARDS)), rng.normal(14, 3.5, CARDS)
    issuer = weighted(rng, np.array([0.86, 0.05, 0.04, 0.03, 0.02]), CARDS)
    haunts = np.stack([weighted(rng, size, CARDS) for _ in range(9)], axis=1)

    def block(
        time: np.ndarray,
        card: np.ndarray,
        terminal: np.ndarray,
        amount: np.ndarray,
        kind: str,
        mode: np.ndarray,
    ) -> Block:
        return {
            "time": time,
            "user_id": names("card", card),
            "amount": amount,
            "scenario": constant(kind, len(time)),
            "merchant_id": names("terminal", terminal),
            "merchant_category": np.array(CODES, object)[code[terminal]],
            "currency": constant("PLN", len(time)),
            "entry_mode": np.array(["chip", "contactless", "stripe", "online"], object)[mode],
            "issuer": np.array(["PL", "DE", "UA", "GB", "US"], object)[issuer[card]],
        }

    n = round(payments * 0.9955)
    day = np.arange(DAYS)
    weekday = (BEGIN // DAY + 3 + day) % 7
    by_day = np.where(weekday == 6, 0.5, np.where(weekday == 5, 1.3, 1.0)) * np.where(day % 30 < 4, 1.2, 1.0)
    card = weighted(rng, rng.gamma(1.5, 1, CARDS), n)
    time = BEGIN + weighted(rng, by_day, n) * DAY + (rng.normal(hour[card], 2.5) % 24 * HOUR).astype(np.int64)
    usual = rng.random(n) < 0.75
    terminal = np.where(usual, haunts[card, (rng.random(n) ** 1.7 * 9).astype(int)], weighted(rng, size, n))
    amount = price[terminal] * level[card] * np.exp(rng.normal(-0.25, 0.7, n))
    mode = np.where(code[terminal] == ONLINE, 3, weighted(rng, np.array([0.35, 0.6, 0.05]), n))
    blocks = [block(time, card, terminal, amount, "", mode)]

    frauds = payments - n
    # stolen cards: several dear payments within hours
    count = max(1, round(frauds * 0.3 / 4))
    of = np.repeat(np.arange(count), rng.integers(2, 7, count))
    thief = rng.integers(0, 1 << 30, count)
    dear = np.flatnonzero(np.isin(code, DEAR))
    at = np.where(
        rng.random(len(of)) < 0.6,
        dear[(thief[of] + rng.integers(0, 3, len(of))) % len(dear)],
        weighted(rng, size, len(of)),
    )
    begin = BEGIN + rng.integers(0, DAYS * 24 - 30, count) * HOUR
    time = begin[of] + (rng.random(len(of)) * rng.uniform(0.5, 10, count)[of] * HOUR).astype(np.int64)
    stolen = rng.integers(CARDS, size=count)[of]
    amount = price[at] * np.exp(rng.normal(0.5, 0.5, len(of)))
    blocks.append(
        block(time, stolen, at, amount, "stolen card", weighted(rng, np.array([0.5, 0.3, 0.2]), len(of)))
    )
    # copied cards: read at one terminal, misused at others with the stripe days to weeks later
    count, wanted = max(1, round(frauds * 0.3 / 24)), 24
    skimmer = weighted(rng, size, count)
    of = np.repeat(np.arange(count), wanted)
    opened = rng.integers(0, DAYS - 45, count) * DAY
    victim = _visitors(rng, blocks[0], skimmer, BEGIN + opened, card, terminal)
    copied = victim[of, rng.integers(0, victim.shape[1], len(of))]
    days = np.minimum(8 + rng.gamma(2, 7, len(of)), 44)
    time = BEGIN + opened[of] + (days * DAY).astype(np.int64) + rng.integers(0, DAY, len(of))
    at = dear[rng.integers(0, 1 << 30, len(of)) % len(dear)]
    amount = price[at] * np.exp(rng.normal(0.1, 0.6, len(of)))
    blocks.append(block(time, copied, at, amount, "copied card", np.full(len(of), 2)))
    # dishonest shops: for one to three weeks they charge numbers of cards that never were there
    count = max(1, round(frauds * 0.25 / 18))
    shop = rng.integers(TERMINALS, size=count)
    of = np.repeat(np.arange(count), rng.integers(8, 29, count))
    time = BEGIN + (
        (rng.integers(0, DAYS - 22, count)[of] + rng.random(len(of)) * rng.uniform(6, 21, count)[of]) * DAY
    ).astype(np.int64)
    amount = price[shop[of]] * np.exp(rng.normal(0.1, 0.5, len(of)))
    blocks.append(
        block(
            time, rng.integers(CARDS, size=len(of)), shop[of], amount, "dishonest shop", np.full(len(of), 1)
        )
    )
    # numbers tried out: small sums minutes apart at one online terminal, each card once or twice
    count = max(1, round(frauds * 0.15 / 12))
    of = np.repeat(np.arange(count), 12)
    online = np.flatnonzero(code == ONLINE)
    at = online[rng.integers(0, len(online), count)][of]
    begin = BEGIN + rng.integers(0, DAYS * 24 - 5, count) * HOUR
    time = begin[of] + (np.sort(rng.random(len(of))) * 3_000 * SECOND).astype(np.int64)
    tried = rng.integers(CARDS, size=len(of))
    blocks.append(block(time, tried, at, rng.uniform(1, 9, len(of)), "number tried out", np.full(len(of), 3)))
    return history(blocks, REPORTS, rng)


def _visitors(
    rng: np.random.Generator,
    honest: Block,
    skimmer: np.ndarray,
    opened: np.ndarray,
    card: np.ndarray,
    terminal: np.ndarray,
) -> np.ndarray:
    """(S, 12) cards that paid at each copying terminal in the ten days after it was opened."""
    copied = np.empty((len(skimmer), 12), np.int64)
    for row, (where, since) in enumerate(zip(skimmer.tolist(), opened.tolist(), strict=True)):
        visits = card[(terminal == where) & (honest["time"] >= since) & (honest["time"] < since + 10 * DAY)]
        copied[row] = rng.choice(visits, 12) if len(visits) else rng.integers(card.max() + 1, size=12)
    return copied
