"""The scenarios of fraud, and honest oddities that look like them.

Two ways lead to fraud. Some scenarios turn ordinary payments into fraud: one by one, or a share of those in an episode
of a customer or merchant, which a hash of the owner and a period of time decides, so that nobody has to remember it.
Others add campaigns of further payments, drawn for each hour. All rates follow from the wanted share of fraud.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from include.generator.draft import Draft
from include.generator.hashing import again, hashed, unit
from include.generator.population import (
    DEVICE_TABLE,
    Customers,
    Merchants,
    foreign_city,
)
from include.generator.volume import DAY


@dataclass(frozen=True)
class People:
    """What the scenarios know about the world."""

    customers: Customers
    merchants: Merchants

    def towns(self, customer: np.ndarray) -> np.ndarray:
        """(N,) the towns of customers."""
        return self.customers.town[customer]


def pick(table: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Entries of a table by uniform numbers in [0, 1)."""
    return table[(uniform * len(table)).astype(np.int64)]


# What each scenario does to its payments; SCENARIOS describes them. `i`: their indices in the draft.


def _large_amount(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    town = people.towns(draft.customer[i])
    draft.amount[i] = np.exp(rng.uniform(np.log(1_000), np.log(9_000), len(i)))
    draft.merchant[i] = people.merchants.big_shop(town, rng.random(len(i)))
    draft.remote[i], draft.city[i] = True, draft.home[i]


def _stolen_credentials(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    town = people.towns(draft.customer[i])
    factor = rng.uniform(1.5, 6, len(i)) * rng.lognormal(0, 0.2, len(i))
    draft.amount[i] = people.customers.mean[draft.customer[i]] * factor
    draft.merchant[i] = people.merchants.online_shop(town, rng.random(len(i)))
    draft.remote[i], draft.city[i] = True, draft.home[i]
    other = i[again(draft.campaign[i], 3) < 0.5]
    draft.device[other] = pick(DEVICE_TABLE, again(draft.campaign[other], 4))


def _compromised_merchant(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    """There is nothing to see in the payment itself."""


def _account_takeover(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    town = people.towns(draft.customer[i])
    h = draft.campaign[i]
    draft.device[i] = pick(DEVICE_TABLE, again(h, 1))
    draft.city[i] = foreign_city(people.customers.country[draft.customer[i]], h)
    draft.amount[i] = people.customers.mean[draft.customer[i]] * rng.uniform(2, 6, len(i))
    draft.remote[i] = False
    draft.merchant[i] = people.merchants.in_city(
        town, draft.city[i], rng.integers(0, 1 << 32, len(i), np.uint64)
    )


def _card_testing(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    town = people.towns(draft.customer[i])
    h, last = draft.campaign[i], draft.progress[i] == 1
    large = people.customers.mean[draft.customer[i]] * rng.uniform(3, 8, len(i))
    draft.amount[i] = np.where(last, large, rng.uniform(0.5, 4, len(i)))
    draft.merchant[i] = people.merchants.online_shop(town, np.where(last, rng.random(len(i)), again(h, 2)))
    draft.device[i] = pick(DEVICE_TABLE, again(h, 1))
    draft.remote[i], draft.city[i] = True, draft.home[i]


def _impossible_travel(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    town = people.towns(draft.customer[i])
    draft.city[i] = foreign_city(people.customers.country[draft.customer[i]], draft.campaign[i], far=True)
    draft.amount[i] = people.customers.mean[draft.customer[i]] * rng.uniform(0.5, 2.5, len(i))
    draft.remote[i] = False
    draft.merchant[i] = people.merchants.in_city(
        town, draft.city[i], rng.integers(0, 1 << 32, len(i), np.uint64)
    )


def _low_and_slow(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    town = people.towns(draft.customer[i])
    factor = (1.3 + 0.9 * draft.progress[i]) * rng.lognormal(0, 0.1, len(i))
    draft.amount[i] = people.customers.mean[draft.customer[i]] * factor
    draft.merchant[i] = people.merchants.online_shop(town, rng.random(len(i)))
    draft.remote[i], draft.city[i] = True, draft.home[i]


def _unknown_device(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    draft.device[i] = pick(DEVICE_TABLE, rng.random(len(i)))
    draft.amount[i] *= rng.uniform(1, 2, len(i))


def _location_change(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    town = people.towns(draft.customer[i])
    h = rng.integers(0, 1 << 63, len(i), np.uint64)
    draft.city[i] = foreign_city(people.customers.country[draft.customer[i]], h)
    draft.merchant[i] = people.merchants.in_city(town, draft.city[i], h >> np.uint64(20))
    draft.remote[i] = False
    draft.amount[i] *= rng.uniform(1, 2, len(i))


def _gift_cards(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    town = people.towns(draft.customer[i])
    draft.amount[i] = rng.choice([25.0, 50.0, 75.0, 100.0, 150.0, 200.0], len(i))
    draft.merchant[i] = people.merchants.gift_shop(town, rng.random(len(i)))
    draft.device[i] = pick(DEVICE_TABLE, again(draft.campaign[i], 1))
    draft.remote[i], draft.city[i] = True, draft.home[i]


Change = Callable[[Draft, np.ndarray, People, np.random.Generator], None]


@dataclass(frozen=True)
class Episodes:
    """Stretches of time in which a share of a customer's or merchant's payments are fraud.

    Attributes:
        period: in days; at most one episode of an owner falls into a period.
        shortest, longest: length of an episode, in days.
        share: of the owner's payments in it that are fraud.
    """

    period: int
    shortest: float
    longest: float
    share: float
    of_merchant: bool = False

    def chance(self, rate: float) -> tuple[float, float]:
        """Chance of an episode in a period, and the share, that make `rate` of all payments fraud."""
        covered = (self.shortest + self.longest) / 2 / self.period
        chance = rate / (self.share * covered)
        return min(1.0, chance), min(0.95, self.share * max(1.0, chance))


@dataclass(frozen=True)
class Campaigns:
    """Groups of additional payments.

    Attributes:
        payments: fewest and most of a group.
        minutes: fewest and most over which they spread.
        at_home: one of a group is the customer's own, at home: an honest oddity.
        at_own_hours: they come at the hours at which the customer pays.
    """

    payments: tuple[int, int]
    minutes: tuple[float, float]
    at_home: bool = False
    at_own_hours: bool = False

    @property
    def size(self) -> float:
        """Payments of a group in the mean."""
        return sum(self.payments) / 2

    @property
    def frauds(self) -> float:
        """Frauds of a group in the mean."""
        return self.size - self.at_home


@dataclass(frozen=True)
class Single:
    """Ordinary payments, one by one."""


@dataclass(frozen=True)
class Scenario:
    """A kind of fraud: everything that the world and docs/generator.md say of it comes from here.

    Attributes:
        share: of all fraud. A scenario that begins with the drift takes its share from the others.
        shape: what it looks like, in words.
        change: what it does to its payments.
    """

    name: str
    share: float
    shape: str
    payments: Episodes | Campaigns | Single
    change: Change
    begins_with_drift: bool = False


SCENARIOS = (
    Scenario(
        "stolen_credentials",
        0.22,
        "for 2 to 7 days, a third of a customer's payments are 1.5 to 6 times their mean, online; half of the thieves "
        "have another device",
        Episodes(period=20, shortest=2, longest=7, share=0.35),
        _stolen_credentials,
    ),
    Scenario(
        "low_and_slow",
        0.08,
        "for 10 to 25 days, 1.3 to 2.2 times the mean, growing",
        Episodes(period=40, shortest=10, longest=25, share=0.3),
        _low_and_slow,
    ),
    Scenario(
        "compromised_merchant",
        0.16,
        "for 2 to 4 weeks, a fifth of a merchant's payments; nothing to see in them",
        Episodes(period=42, shortest=14, longest=28, share=0.2, of_merchant=True),
        _compromised_merchant,
    ),
    Scenario(
        "account_takeover",
        0.14,
        "2 to 5 payments within 2.5 hours, another device, another country, 2 to 6 times the mean",
        Campaigns((2, 5), (10, 150)),
        _account_takeover,
    ),
    Scenario(
        "card_testing",
        0.22,
        "5 to 13 tiny amounts (0.50 to 4) at one shop within 12 minutes, then one of 3 to 8 times the mean",
        Campaigns((6, 14), (2, 12)),
        _card_testing,
    ),
    Scenario(
        "impossible_travel",
        0.06,
        "a payment on another continent within two hours of one at home",
        Campaigns((2, 2), (15, 110), at_home=True, at_own_hours=True),
        _impossible_travel,
    ),
    Scenario(
        "gift_cards",
        0.15,
        "3 to 6 gift cards of round amounts within an hour, another device",
        Campaigns((3, 6), (5, 60)),
        _gift_cards,
        begins_with_drift=True,
    ),
    Scenario("large_amount", 0.06, "one payment of 1,000 to 9,000", Single(), _large_amount),
    Scenario(
        "unknown_device", 0.03, "another device, amount at most twice as usual", Single(), _unknown_device
    ),
    Scenario(
        "location_change", 0.03, "another country, amount at most twice as usual", Single(), _location_change
    ),
)
EPISODES = {
    scenario.name: scenario.payments for scenario in SCENARIOS if isinstance(scenario.payments, Episodes)
}
CAMPAIGNS = {
    scenario.name: scenario.payments for scenario in SCENARIOS if isinstance(scenario.payments, Campaigns)
}
SINGLE = tuple(scenario.name for scenario in SCENARIOS if isinstance(scenario.payments, Single))
CODE = {scenario.name: code for code, scenario in enumerate(SCENARIOS, start=1)}  # 0: honest


def shares(*, drifted: bool) -> dict[str, float]:
    """Share of each scenario in all fraud, before or after the drift."""
    new = sum(scenario.share for scenario in SCENARIOS if scenario.begins_with_drift) if drifted else 0.0
    others = {scenario.name: scenario.share * (1 - new) for scenario in SCENARIOS}
    return others | {
        scenario.name: scenario.share if drifted else 0.0
        for scenario in SCENARIOS
        if scenario.begins_with_drift
    }


LONGEST_CAMPAIGN_HOURS = 3  # after its start's hour began, a campaign is over


def active(
    start: np.uint64, owner: np.ndarray, at: np.ndarray, period: int, chance: float, days: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the payments that fall into an episode of their owner, its hash, and how far it is, in [0, 1]."""
    length = period * DAY
    shifted = at + (hashed(start, owner) % np.uint64(length)).astype(np.int64)
    number = shifted // length
    h = hashed(start ^ np.uint64(1), owner, number)
    i = np.flatnonzero(unit(h) < chance)
    h = h[i]
    lasts = (days[0] + (days[1] - days[0]) * again(h, 11)) * DAY
    since = shifted[i] - number[i] * length - again(h, 12) * (length - lasts)
    happening = (since >= 0) & (since < lasts)
    return i[happening], h[happening], (since / lasts)[happening]
