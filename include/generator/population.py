"""Who lives in the simulated world: customers with homes, devices and habits, and the merchants around them."""

from __future__ import annotations

import math
import unicodedata
from functools import cache, cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.generator.catalogue import CATEGORIES, CITIES, COUNTRIES, CULTURES, DEVICES
from include.generator.hashing import again, hashed, salt, unit
from include.generator.volume import DAY

TABLE = 4096  # entries of a table that turns a hash into a weighted choice

COUNTRY_NAMES = tuple(COUNTRIES)
CITY_COUNTRY = np.array([COUNTRY_NAMES.index(city.country) for city in CITIES], np.int16)
CITY_LATITUDE = np.array([city.latitude for city in CITIES])
CITY_LONGITUDE = np.array([city.longitude for city in CITIES])
CITY_WEIGHT = np.array([city.weight for city in CITIES])
PLACES = pa.array([f"{city.name}, {city.country}" for city in CITIES])
CATEGORY_NAMES = pa.array([category.name for category in CATEGORIES])
DEVICE_NAMES = pa.array([device.name for device in DEVICES])
PRICE = np.log([category.price for category in CATEGORIES])
MICRO = np.array([category.micro for category in CATEGORIES])
GIFT_CARDS = next(i for i, category in enumerate(CATEGORIES) if category.name == "gift cards")
CURRENCIES = pa.array([COUNTRIES[name][1] for name in COUNTRY_NAMES])
_CONTINENT = np.array([COUNTRIES[name][2] for name in COUNTRY_NAMES])


def weighted_table(weights: np.ndarray, size: int = TABLE) -> np.ndarray:
    """(size,) indices; each occurs about in proportion to its weight."""
    shares = np.cumsum(weights) / np.sum(weights)
    return np.searchsorted(shares, (np.arange(size) + 0.5) / size).astype(np.int32)


DEVICE_TABLE = weighted_table(np.array([device.weight for device in DEVICES]))
LATER_DEVICE_TABLE = weighted_table(np.array([device.later for device in DEVICES]))
CITY_TABLE = weighted_table(CITY_WEIGHT)


class Groups:
    """Members of each group, to choose one by a hash: `members[first[g] + hash % size[g]]`."""

    def __init__(self, group_of: np.ndarray, groups: int, members: np.ndarray | None = None):
        order = np.argsort(group_of, kind="stable")
        self.members = order if members is None else members[order]
        self.size = np.bincount(group_of, minlength=groups)
        self.first = np.cumsum(self.size) - self.size

    def choose(self, group: np.ndarray, hashes: np.ndarray) -> np.ndarray:
        """A member of each group; where a group is empty, of any group."""
        size, first = self.size[group], self.first[group]
        empty = size == 0
        if empty.any():
            size, first = np.where(empty, len(self.members), size), np.where(empty, 0, first)
        return self.members[first + (hashes % size.astype(np.uint64)).astype(np.int64)]


def _of_town(seed: int, kind: int, count: int, town: int) -> np.random.Generator:
    return np.random.default_rng([seed, kind, count, *([town] if town else [])])


def _habits(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """What the customers of a town are drawn with."""
    return {
        "city": rng.choice(len(CITIES), count, p=CITY_WEIGHT / CITY_WEIGHT.sum()),
        "amount": rng.normal(np.log(28.0), 0.85, count),
        "spread": rng.uniform(0.3, 0.7, count),
        "activity": rng.lognormal(0.0, 0.8, count),
        "peak": rng.normal(15.0, 3.0, count),
        "focus": rng.uniform(0.6, 2.2, count),
        "devices": rng.choice([1, 2, 3], count, p=[0.45, 0.4, 0.15]),
        "device_life": rng.uniform(150, 900, count),
        "residence_life": rng.uniform(3, 9, count),
        "phase": rng.random(count),
        "name": rng.integers(0, 1 << 32, count),
    }


CITIES_OF_COUNTRY = Groups(CITY_COUNTRY, len(COUNTRY_NAMES))


class Customers:
    """Habits of each customer, arrays of shape (customers,), and where they are and what they use at a time.

    Args:
        count: customers of a town.
        towns: how many towns; a larger number adds customers and leaves those of a smaller one as they are.
    """

    def __init__(self, seed: int, count: int, towns: float = 1.0):
        drawn = [_habits(_of_town(seed, 1, count, town), count) for town in range(math.ceil(towns))]
        self.count = max(10, round(count * towns))
        habits = {name: np.concatenate([town[name] for town in drawn])[: self.count] for name in drawn[0]}
        self._salt = salt(seed, "customers")
        self.index = np.arange(self.count)
        self.town = self.index // count
        self.country = CITY_COUNTRY[habits["city"]]
        self.amount = habits["amount"]  # mean of the logarithm of a payment
        self.spread = habits["spread"]
        self.mean = np.exp(self.amount + self.spread**2 / 2)
        self.activity = habits["activity"]  # payments per day, relative to the others
        self.peak = habits["peak"]  # the hour, own time, of most payments
        self.focus = habits["focus"]  # how much they keep to it
        self.devices = habits["devices"]
        self.device_life = (habits["device_life"] * DAY).astype(np.int64)
        self.residence_life = (habits["residence_life"] * 365 * DAY).astype(np.int64)
        self.phase = (habits["phase"] * 10 * 365 * DAY).astype(np.int64)
        self.name = habits["name"]
        self._hours: dict[int, np.ndarray] = {}

    def chances(self, hour: int) -> np.ndarray:
        """(customers,) cumulative weights of being the one who pays, at an hour of the day in UTC, or -1: any."""
        if hour not in self._hours:
            weights = self.activity
            if hour >= 0:
                offset = CITY_LONGITUDE[self.home(self.index, np.zeros(self.count, np.int64))[1]] / 15
                angle = (hour + 0.5 + offset - self.peak) * (2 * np.pi / 24)
                weights = weights * (0.02 + np.exp(self.focus * (np.cos(angle) - 1)) * np.sqrt(self.focus))
            if len(self._hours) > 3 and self.count > 100_000:
                self._hours.clear()
            self._hours[hour] = np.cumsum(weights)
        return self._hours[hour]

    def choose(self, uniform: np.ndarray, hour: int, present: int) -> np.ndarray:
        """(N,) customers of the first `present` ones, from uniform numbers in [0, 1)."""
        chances = self.chances(hour)
        return np.searchsorted(chances[:present], uniform * chances[present - 1], side="right").astype(
            np.int32
        )

    def home(self, customer: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How often they moved, and the city where they live then; a move stays within the country."""
        moves = (at + self.phase[customer]) // self.residence_life[customer]
        return moves, CITIES_OF_COUNTRY.choose(self.country[customer], hashed(self._salt, customer, moves))

    def position(self, customer: np.ndarray, city: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latitude and longitude of their home in a city, in degrees, within about 15 km of its centre."""
        h = hashed(self._salt ^ np.uint64(5), customer, city)
        return CITY_LATITUDE[city] + 0.26 * (unit(h) - 0.5), CITY_LONGITUDE[city] + 0.3 * (again(h, 1) - 0.5)

    def device(
        self, customer: np.ndarray, at: np.ndarray, which: np.ndarray, drift_at: int | None
    ) -> np.ndarray:
        """Model of a customer's first, second or third device at a time; each is replaced now and then.

        In the month after the drift, two customers in five change to what is popular then.
        """
        generation = (at + self.phase[customer]) // self.device_life[customer]
        model = DEVICE_TABLE[
            hashed(self._salt ^ np.uint64(7), customer, which, generation) % np.uint64(TABLE)
        ]
        if drift_at is not None and at.size and at[-1] >= drift_at:
            h = hashed(self._salt ^ np.uint64(11), customer, which)
            changed = (unit(h) < 0.4) & (at >= drift_at + again(h, 1) * 30 * DAY)
            model = np.where(changed, LATER_DEVICE_TABLE[(again(h, 2) * TABLE).astype(np.int64)], model)
        return model

    def device_is_new(self, customer: np.ndarray, at: np.ndarray) -> np.ndarray:
        """True on a device's first day."""
        return (at + self.phase[customer]) % self.device_life[customer] < DAY

    @cached_property
    def ids(self) -> pa.Array:
        return pa.array([f"user_{k:07d}" for k in range(self.count)])

    @cached_property
    def names(self) -> dict[str, pa.Array]:
        """first_name, last_name, full_name, email and currency of each customer."""
        table = names_of(self.country, self.name, pa.array(self.index).cast(pa.string()))
        return {name: table[name].combine_chunks() for name in table.column_names}


def names_of(country: np.ndarray, draw: np.ndarray, number: pa.Array) -> pa.Table:
    """first_name, last_name, full_name and e-mail address from random numbers, and the currency of the country.

    `number` (texts) makes an address unique.
    """
    names, first, size = _all_names()
    who = names.take(pa.array(first[country] + draw % size[country]))
    ending = pa.array(["@example.com", "@example.org", "@example.net"]).take(pa.array(draw // 7 % 3))
    email = pc.binary_join_element_wise(who["address"].combine_chunks(), number, ending, "")
    return (
        who.drop_columns("address")
        .append_column("email", email)
        .append_column("currency", CURRENCIES.take(pa.array(country)))
    )


@cache
def _all_names() -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """Each pair of names of each culture once; by country the row of its first pair, and the number of its pairs."""
    rows: list[tuple[str, str, str, str]] = []
    first, size = [], []
    begins: dict[str, int] = {}
    for culture, (given, family) in CULTURES.items():
        begins[culture] = len(rows)
        rows += [(a, b, f"{a} {b}", f"{_ascii(a)}.{_ascii(b)}") for a in given for b in family]
    for culture, _, _ in COUNTRIES.values():
        first.append(begins[culture])
        size.append(len(CULTURES[culture].first) * len(CULTURES[culture].last))
    columns = zip(("first_name", "last_name", "full_name", "address"), zip(*rows, strict=True), strict=True)
    return pa.table({name: list(values) for name, values in columns}), np.array(first), np.array(size)


def _ascii(word: str) -> str:
    plain = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode().lower()
    return "".join(letter for letter in plain if letter.isalnum()) or "mail"


_ONLINE = np.array([category.online for category in CATEGORIES])
_BIG = np.array([category.big for category in CATEGORIES])


def _shops(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """What the merchants of a town are drawn with."""
    weights = np.array([category.weight for category in CATEGORIES])
    kind = rng.choice(len(CATEGORIES), count, p=weights / weights.sum())
    # the first merchants make sure that every selection has a member
    needed = [
        0,
        GIFT_CARDS,
        *(np.flatnonzero(which)[0] for which in (_ONLINE, _BIG & _ONLINE, _BIG & ~_ONLINE)),
    ]
    kind[: len(needed)] = needed
    return {
        "category": kind,
        "city": rng.choice(len(CITIES), count, p=CITY_WEIGHT / CITY_WEIGHT.sum()),
        "price": rng.normal(0, 0.25, count),
        "latitude": rng.random(count),
        "longitude": rng.random(count),
        "popularity": rng.lognormal(0.0, 0.7, count),
    }


class Merchants:
    """Category, city, price level and position of each merchant, arrays of shape (merchants,).

    Customers pay at the merchants of their own town.

    Args:
        count: merchants of a town; of a part of a town all are there.
        towns: as for `Customers`.
    """

    def __init__(self, seed: int, count: int, towns: float = 1.0):
        drawn = [_shops(_of_town(seed, 2, count, town), count) for town in range(math.ceil(towns))]
        shops = {name: np.concatenate([town[name] for town in drawn]) for name in drawn[0]}
        self.count = len(shops["city"])
        self.towns = len(drawn)
        self.category = shops["category"]
        self.city = shops["city"]
        self.price = PRICE[self.category] + shops["price"]
        self.latitude = CITY_LATITUDE[self.city] + 0.16 * (shops["latitude"] - 0.5)
        self.longitude = CITY_LONGITUDE[self.city] + 0.2 * (shops["longitude"] - 0.5)
        self.online = _ONLINE[self.category]
        town = np.arange(self.count) // count
        physical = np.flatnonzero(~self.online)
        town_city = town * len(CITIES) + self.city
        physical = physical[np.argsort(town_city[physical], kind="stable")]
        self._in_city = Groups(town_city[physical], self.towns * len(CITIES), physical)
        self._in_town = Groups(town[physical], self.towns, physical)
        popularity = shops["popularity"].reshape(self.towns, count)
        self._online_table = self._tables(self.online, popularity)
        self._big_table = self._tables(_BIG[self.category], popularity)
        self._gift_table = self._tables(self.category == GIFT_CARDS, popularity)

    @staticmethod
    def _tables(which: np.ndarray, popularity: np.ndarray) -> np.ndarray:
        """(towns, TABLE) merchants of each town, those `which` (merchants,) says, by their popularity."""
        towns, count = popularity.shape
        tables = np.empty((towns, TABLE), np.int32)
        for town, members in enumerate(which.reshape(towns, count)):
            members = np.flatnonzero(members)
            tables[town] = town * count + members[weighted_table(popularity[town, members])]
        return tables

    def in_city(self, town: np.ndarray, city: np.ndarray, hashes: np.ndarray) -> np.ndarray:
        """(N,) shops of a town in cities; where there is none in a city, in any."""
        town_city = town * len(CITIES) + city
        chosen = self._in_city.choose(town_city, hashes)
        nowhere = np.flatnonzero(self._in_city.size[town_city] == 0)
        chosen[nowhere] = self._in_town.choose(town[nowhere], hashes[nowhere])
        return chosen

    def online_shop(self, town: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """(N,) shops of a town that are online, from uniform numbers in [0, 1)."""
        return self._online_table[town, (uniform * TABLE).astype(np.int64)]

    def big_shop(self, town: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """The same of those that sell what is expensive."""
        return self._big_table[town, (uniform * TABLE).astype(np.int64)]

    def gift_shop(self, town: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """The same of those that sell gift cards."""
        return self._gift_table[town, (uniform * TABLE).astype(np.int64)]

    @cached_property
    def ids(self) -> pa.Array:
        return pa.array([f"merchant_{m:06d}" for m in range(self.count)])

    @cached_property
    def categories(self) -> pa.Array:
        return CATEGORY_NAMES.take(pa.array(self.category))


def foreign_city(country: np.ndarray, h: np.ndarray, far: bool = False) -> np.ndarray:
    """(N,) cities outside a country, and with `far` on another continent, chosen by hashes."""
    city = CITY_TABLE[h % np.uint64(TABLE)]
    region = _CONTINENT if far else np.arange(len(COUNTRY_NAMES))
    for attempt in range(1, 40):
        same = region[CITY_COUNTRY[city]] == region[country]
        if not same.any():
            break
        city = np.where(same, CITY_TABLE[(again(h, attempt) * TABLE).astype(np.int64)], city)
    return city
