"""The scores from which on a payment is an alert, or is declined: from what decisions cost and what the team can read.

docs/models.md explains the rule, docs/decisions/0009-capacity-and-money.md why it is this one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from include.settings import Settings
from include.training.evaluation import DAY, LabelledScores, days_of

FEWEST_FRAUDS = 20  # known in the later time, to choose by money
FEWEST_DECLINED = 20  # later payments at or above a score, to say whether declining them pays
FALLBACK_RATE = 0.01  # share of transactions at most, where money cannot say how many
FEWEST_A_DAY = 1.0  # transactions, so that a quiet shop has a share


@dataclass(frozen=True)
class Limits:
    """What the team can read in a day, and what decisions cost in the currency of the amounts.

    A missed fraud costs its amount. An `alert_rate` above 0 is a fixed share of transactions, whatever it brings.
    """

    alerts_per_day: int
    review_cost: float
    decline_cost: float
    alert_rate: float = 0.0

    @classmethod
    def of(
        cls, settings: Settings, *, alerts_per_day: int | None = None, alert_rate: float | None = None
    ) -> Limits:
        """Those of the settings, unless given."""
        return cls(
            alerts_per_day or settings.alerts_per_day,
            settings.review_cost,
            settings.decline_cost,
            settings.alert_rate if alert_rate is None else alert_rate,
        )


@dataclass(frozen=True)
class Choice:
    """Which shares of all transactions become alerts and, of those, are to be declined; and what that brings in a day.

    `alert_share` includes `block_share`. Expected are alerts, blocks, and money: the amounts of caught fraud less what
    reviews and declined honest payments cost; None where no label says so.
    """

    rule: Literal["money", "capacity", "fixed share"]
    alert_share: float
    block_share: float
    alerts_per_day: int
    review_cost: float
    decline_cost: float
    transactions_a_day: float
    expected_alerts_a_day: float
    expected_blocks_a_day: float
    expected_money_a_day: float | None

    def described(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def choose(later: LabelledScores, transactions_a_day: float, limits: Limits, sampled: float = 1.0) -> Choice:
    """The shares with the highest money on these rows (N,), among those whose mean alerts a day the team can read.

    money(k) of the k highest scores = sum over those of them that are read (at most `alerts_per_day` of the highest
    in each UTC day) of fraud * amount - review_cost. Equal scores are alerts together or not at all. It may be best
    to raise no alert. With fewer than `FEWEST_FRAUDS` frauds the share is what the team can read, at most
    `FALLBACK_RATE`.

    Declining instead of reading saves the review and costs `decline_cost` for each honest payment; the share to
    decline is where that pays most, with one honest payment more than were seen, among at least `FEWEST_DECLINED`.

    Args:
        sampled: share of the customers whose transactions these rows are.
    """
    transactions_a_day = max(transactions_a_day, FEWEST_A_DAY)
    readable = min(1.0, limits.alerts_per_day / transactions_a_day)
    rule: Literal["money", "capacity", "fixed share"]
    alerts, blocks, money = 0, 0, None
    rows = len(later)
    known = int(later.fraud.sum()) >= FEWEST_FRAUDS
    curve = _Curve(later, limits, sampled) if known else None
    if limits.alert_rate:
        rule, share = "fixed share", limits.alert_rate
    elif curve is None:
        rule, share = "capacity", min(readable, FALLBACK_RATE)
    else:
        rule = "money"
        alerts = curve.best(readable)
        share = alerts / rows
    if curve is not None:
        alerts = alerts or curve.at_share(share)
        blocks = curve.declined(alerts)
        money = float(curve.money(alerts, blocks) / rows * transactions_a_day)
    return Choice(
        rule=rule,
        alert_share=share,
        block_share=blocks / rows if rows else 0.0,
        alerts_per_day=limits.alerts_per_day,
        review_cost=limits.review_cost,
        decline_cost=limits.decline_cost,
        transactions_a_day=transactions_a_day,
        expected_alerts_a_day=share * transactions_a_day,
        expected_blocks_a_day=blocks / max(rows, 1) * transactions_a_day,
        expected_money_a_day=money,
    )


class _Curve:
    """Money of the k highest scores, for every k at which equal scores are not separated."""

    def __init__(self, later: LabelledScores, limits: Limits, sampled: float) -> None:
        order = np.argsort(-later.score, kind="stable")
        fraud, amount = later.fraud[order], later.amount[order]
        read = _rank_in_day(days_of(later.timestamp)[order]) < max(1, limits.alerts_per_day * sampled)
        ranked = later.score[order]
        self.ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1) + 1
        self.gain = np.cumsum(read * (fraud * amount - limits.review_cost))
        self.saved = np.cumsum(read * (limits.review_cost - ~fraud * limits.decline_cost))
        self.decline_cost = limits.decline_cost

    def best(self, readable: float) -> int:
        """How many of the highest scores bring most, at most this share of all; 0 where none brings anything."""
        ends = self.ends[self.ends <= readable * len(self.gain)]
        gain = self.gain[ends - 1]
        return int(ends[gain.argmax()]) if len(ends) and gain.max() > 0 else 0

    def at_share(self, share: float) -> int:
        """How many scores a threshold at this share lets through."""
        reached = self.ends[self.ends <= round(share * len(self.gain))]
        return int(reached[-1]) if len(reached) else 0

    def declined(self, alerts: int) -> int:
        """How many of the highest scores to decline; 0 where it does not pay."""
        ends = self.ends[(self.ends >= FEWEST_DECLINED) & (self.ends <= alerts)]
        saved = self.saved[ends - 1] - self.decline_cost
        return int(ends[saved.argmax()]) if len(ends) and saved.max() > 0 else 0

    def money(self, alerts: int, blocks: int) -> float:
        return (self.gain[alerts - 1] if alerts else 0.0) + (self.saved[blocks - 1] if blocks else 0.0)


def _rank_in_day(day: np.ndarray) -> np.ndarray:
    """(N,) how many rows before each row are of its day."""
    by_day = np.argsort(day, kind="stable")
    ordered = day[by_day]
    first = np.searchsorted(ordered, ordered)
    rank = np.empty(len(day), np.int64)
    rank[by_day] = np.arange(len(day)) - first
    return rank


def threshold_at(score: np.ndarray, share: float) -> float:
    """The score that a share of these scores (N,) reaches; one above all of them for a share of 0."""
    if share <= 0:
        return float(np.nextafter(score.max(), 2.0))
    return float(np.quantile(score, 1 - share, method="higher"))


def block_threshold_at(score: np.ndarray, share: float, least: float) -> float | None:
    """The score from which on payments are to be declined, at least `least`; None where that never pays.

    Args:
        share: of these scores (N,), that are to be declined.
    """
    return max(threshold_at(score, share), least) if share > 0 else None


def transactions_a_day(timestamp: np.ndarray, as_of: float, sampled: float = 1.0) -> float:
    """How many come now: the mean of the newest 7 days or the newest day, whichever is more.

    Args:
        timestamp: (N,) ascending, in seconds.
        sampled: share of the customers whose transactions these are.
    """
    span = max(as_of - float(timestamp[0]), 1.0)
    rates = []
    for days in (1, 7):
        newest = len(timestamp) - int(np.searchsorted(timestamp, as_of - days * DAY, side="right"))
        rates.append(newest / min(days, max(span / DAY, 1.0)))
    return max(rates) / sampled
