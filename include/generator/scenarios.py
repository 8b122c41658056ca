"""The kinds of fraud, and honest oddities that look like them.

Two ways lead to fraud. Most kinds turn some ordinary payments into fraud: an episode of a customer or merchant (found
by hashing its window of time, so nobody has to remember it) gives them a share. Campaigns (account takeover, card
testing, …) add payments of their own, drawn for each hour. Each kind's rates follow from the wanted share of fraud.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from include.generator.hashing import again, hashed, unit
from include.generator.population import (
    DEVICE_TABLE,
    Customers,
    Merchants,
    foreign_city,
)
from include.generator.volume import DAY

SCENARIOS = (
    None,
    "large_amount",
    "stolen_credentials",
    "compromised_merchant",
    "account_takeover",
    "card_testing",
    "impossible_travel",
    "low_and_slow",
    "unknown_device",
    "location_change",
    "gift_cards",
)
CODE = {name: code for code, name in enumerate(SCENARIOS)}
ODDITIES = (
    None,
    "holiday",
    "big_purchase",
    "borrowed_device",
    "new_device",
    "moved",
    "travel_home",
    "bought_abroad",
)
ODD = {name: code for code, name in enumerate(ODDITIES)}

# Share of each kind in all fraud; after the drift, gift cards take their share from the others.
SHARES = {
    "large_amount": 0.06,
    "stolen_credentials": 0.22,
    "compromised_merchant": 0.16,
    "account_takeover": 0.14,
    "card_testing": 0.22,
    "impossible_travel": 0.06,
    "low_and_slow": 0.08,
    "unknown_device": 0.03,
    "location_change": 0.03,
}
GIFT_CARD_SHARE = 0.15


@dataclass
class Draft:
    """Payments in the making, arrays of shape (N,); the scenarios change them in place."""

    time: np.ndarray
    customer: np.ndarray
    home: np.ndarray  # city of residence
    on_file: np.ndarray  # city of the address that the shop has
    city: np.ndarray  # where the payment is made
    merchant: np.ndarray
    remote: np.ndarray  # bool: paid from home, the position is the customer's
    amount: np.ndarray
    device: np.ndarray
    scenario: np.ndarray  # code
    oddity: np.ndarray  # code
    campaign: np.ndarray  # uint64 hash of the campaign that a payment belongs to
    place: np.ndarray  # position within the campaign, in [0, 1]


@dataclass(frozen=True)
class People:
    """What the scenarios know about the world."""

    customers: Customers
    merchants: Merchants


def pick(table: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Entries of a table by uniform numbers in [0, 1)."""
    return table[(uniform * len(table)).astype(np.int64)]


# What each kind of fraud does to its payments. `i`: their indices in the draft.


def large_amount(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    """One payment far above anyone's habit."""
    draft.amount[i] = np.exp(rng.uniform(np.log(1_000), np.log(9_000), len(i)))
    draft.merchant[i] = pick(people.merchants.big_table, rng.random(len(i)))
    draft.remote[i], draft.city[i] = True, draft.home[i]


def stolen_credentials(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    """Payments of several times the customer's mean, on the net; in half of the cases from another device."""
    factor = rng.uniform(1.5, 6, len(i)) * rng.lognormal(0, 0.2, len(i))
    draft.amount[i] = people.customers.mean[draft.customer[i]] * factor
    draft.merchant[i] = pick(people.merchants.online_table, rng.random(len(i)))
    draft.remote[i], draft.city[i] = True, draft.home[i]
    other = i[again(draft.campaign[i], 3) < 0.5]
    draft.device[other] = pick(DEVICE_TABLE, again(draft.campaign[other], 4))


def compromised_merchant(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    """Nothing to see in the payment itself."""


def account_takeover(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    """A new device in another country, 2 to 6 times the usual amount."""
    h = draft.campaign[i]
    draft.device[i] = pick(DEVICE_TABLE, again(h, 1))
    draft.city[i] = foreign_city(people.customers.country[draft.customer[i]], h)
    draft.amount[i] = people.customers.mean[draft.customer[i]] * rng.uniform(2, 6, len(i))
    draft.remote[i] = False
    draft.merchant[i] = people.merchants.in_city.choose(
        draft.city[i], rng.integers(0, 1 << 32, len(i), np.uint64)
    )


def card_testing(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    """Tiny amounts at one shop within minutes, then a large one elsewhere."""
    h, last = draft.campaign[i], draft.place[i] == 1
    large = people.customers.mean[draft.customer[i]] * rng.uniform(3, 8, len(i))
    draft.amount[i] = np.where(last, large, rng.uniform(0.5, 4, len(i)))
    draft.merchant[i] = pick(people.merchants.online_table, np.where(last, rng.random(len(i)), again(h, 2)))
    draft.device[i] = pick(DEVICE_TABLE, again(h, 1))
    draft.remote[i], draft.city[i] = True, draft.home[i]


def impossible_travel(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    """A payment on another continent, within two hours of one at home."""
    draft.city[i] = foreign_city(people.customers.country[draft.customer[i]], draft.campaign[i], far=True)
    draft.amount[i] = people.customers.mean[draft.customer[i]] * rng.uniform(0.5, 2.5, len(i))
    draft.remote[i] = False
    draft.merchant[i] = people.merchants.in_city.choose(
        draft.city[i], rng.integers(0, 1 << 32, len(i), np.uint64)
    )


def low_and_slow(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    """1.3 to 2.2 times the usual, growing step by step over weeks."""
    factor = (1.3 + 0.9 * draft.place[i]) * rng.lognormal(0, 0.1, len(i))
    draft.amount[i] = people.customers.mean[draft.customer[i]] * factor
    draft.merchant[i] = pick(people.merchants.online_table, rng.random(len(i)))
    draft.remote[i], draft.city[i] = True, draft.home[i]


def unknown_device(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    """A device that the customer never used, and little else."""
    draft.device[i] = pick(DEVICE_TABLE, rng.random(len(i)))
    draft.amount[i] *= rng.uniform(1, 2, len(i))


def location_change(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    """Another country, and little else."""
    h = rng.integers(0, 1 << 63, len(i), np.uint64)
    draft.city[i] = foreign_city(people.customers.country[draft.customer[i]], h)
    draft.merchant[i] = people.merchants.in_city.choose(draft.city[i], h >> np.uint64(20))
    draft.remote[i] = False
    draft.amount[i] *= rng.uniform(1, 2, len(i))


def gift_cards(draft: Draft, i: np.ndarray, people: People, rng: np.random.Generator) -> None:
    """Several gift cards of round amounts within an hour, from another device. Begins with the drift."""
    draft.amount[i] = rng.choice([25.0, 50.0, 75.0, 100.0, 150.0, 200.0], len(i))
    draft.merchant[i] = pick(people.merchants.gift_table, rng.random(len(i)))
    draft.device[i] = pick(DEVICE_TABLE, again(draft.campaign[i], 1))
    draft.remote[i], draft.city[i] = True, draft.home[i]


Change = Callable[[Draft, np.ndarray, People, np.random.Generator], None]


@dataclass(frozen=True)
class Episode:
    """Stretches of time in which a share of a customer's or merchant's payments are fraud.

    Attributes:
        window: in days; at most one episode of an owner falls into a window.
        shortest, longest: length of an episode, in days.
        share: of the owner's payments in it that are fraud.
    """

    change: Change
    of_merchant: bool
    window: int
    shortest: float
    longest: float
    share: float

    def chance(self, rate: float) -> tuple[float, float]:
        """Chance of an episode in a window, and the share, that make `rate` of all payments fraud."""
        covered = (self.shortest + self.longest) / 2 / self.window
        chance = rate / (self.share * covered)
        return min(1.0, chance), min(0.95, self.share * max(1.0, chance))


@dataclass(frozen=True)
class Campaign:
    """Payments that come on top, in groups; `draw` gives the minutes and places of one group's payments."""

    change: Change
    payments: tuple[int, int]  # fewest and most of a group
    minutes: tuple[float, float]  # over which they spread
    at_own_hours: bool = False


EPISODES = {
    "stolen_credentials": Episode(stolen_credentials, False, window=20, shortest=2, longest=7, share=0.35),
    "low_and_slow": Episode(low_and_slow, False, window=40, shortest=10, longest=25, share=0.3),
    "compromised_merchant": Episode(
        compromised_merchant, True, window=42, shortest=14, longest=28, share=0.2
    ),
}
SINGLE = {"large_amount": large_amount, "unknown_device": unknown_device, "location_change": location_change}
CAMPAIGNS = {
    "account_takeover": Campaign(account_takeover, (2, 5), (10, 150)),
    "card_testing": Campaign(card_testing, (6, 14), (2, 12)),
    "impossible_travel": Campaign(impossible_travel, (2, 2), (15, 110), at_own_hours=True),
    "gift_cards": Campaign(gift_cards, (3, 6), (5, 60)),
}
LONGEST_CAMPAIGN_HOURS = 3  # after its start's hour began, a campaign is over


def active(
    start: np.uint64, owner: np.ndarray, at: np.ndarray, window: int, chance: float, days: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the payments that fall into an episode of their owner, its hash, and how far it is, in [0, 1]."""
    length = window * DAY
    shifted = at + (hashed(start, owner) % np.uint64(length)).astype(np.int64)
    number = shifted // length
    h = hashed(start ^ np.uint64(1), owner, number)
    i = np.flatnonzero(unit(h) < chance)
    h = h[i]
    lasts = (days[0] + (days[1] - days[0]) * again(h, 11)) * DAY
    since = shifted[i] - number[i] * length - again(h, 12) * (length - lasts)
    happening = (since >= 0) & (since < lasts)
    return i[happening], h[happening], (since / lasts)[happening]


@dataclass
class Extra:
    """Payments of the campaigns that start in one hour, in order of time."""

    time: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    customer: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    scenario: np.ndarray = field(default_factory=lambda: np.empty(0, np.int8))
    campaign: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    place: np.ndarray = field(default_factory=lambda: np.empty(0))
    oddity: np.ndarray = field(default_factory=lambda: np.empty(0, np.int8))

    @classmethod
    def joined(cls, parts: list[Extra]) -> Extra:
        names = cls.__dataclass_fields__
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        order = np.argsort(columns["time"], kind="stable")
        return cls(**{name: column[order] for name, column in columns.items()})

    def between(self, start: int, end: int) -> Extra:
        first, last = np.searchsorted(self.time, [start, end])
        return Extra(**{name: getattr(self, name)[first:last] for name in self.__dataclass_fields__})
