"""Behaviour features of transactions: one function for the live stream, replay and training.

Each customer has one `STATE` record of constant size. A sum over a window of length W is exponentially
decayed: a payment of age a weighs exp(-a / W), so that a steady rate r gives a count of r W (forward form in
Cormode et al., "Forward Decay", ICDE 2009). The cost of a row does not depend on the window.

Time rules:
- A row sees the rows before it in the log (its Kafka partition), never itself or later rows, except where a
  feature says that it includes the payment.
- Event time drives every window. The state stands at the latest event time seen. A late row is compared with
  the state as it stands, and is then added with its exactly decayed weight, so the state after any order of
  the same rows is the same up to floating-point rounding. Sets keep the values with the latest event times,
  and the last place is the one with the latest event time (at equal microseconds, the first that arrived).
- The vectors do not depend on how the rows are split into batches, to the last bit.

Missing optional fields are normal: they change no set and no place, and their features keep neutral
values. A customer without history gets neutral values (docs/features.md) and `history` 0. Currencies are not
converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from include.transaction import Transaction

FEATURE_SET = 1
LAYOUT = 1

FEATURES = (
    "amount", "amount_ratio", "amount_z",
    "count_1h", "count_1d", "rate_1h", "rate_1d", "rate_7d",
    "spend_1h", "spend_1d", "spend_7d",
    "mean_1d", "mean_7d", "growth", "spread_1d", "spread_7d", "spread",
    "since_last", "gap_ratio",
    "new_device", "new_country", "new_category", "new_merchant", "newness",
    "foreign", "country_change", "speed", "distance",
    "hour_surprise", "tiny_burst", "large_after_tiny",
    "known_devices", "known_countries", "known_merchants", "history",
)  # fmt: skip

HOUR, DAY = 3600.0, 86400.0
WINDOWS = (HOUR, DAY, 7 * DAY, 30 * DAY)
HABIT = 90 * DAY  # memory of a customer's own usual amount and rate
BURST = 1800.0  # memory of a burst of tiny amounts
TINY_AMOUNT = 5.0
TRAVEL_MEMORY = 6 * HOUR  # a change of country is told as long as it is this recent
TRAVEL_SLACK = 0.25  # hours added to a journey: clocks and positions are rough
TOP_SPEED = 2000.0  # km/h; faster says nothing more
PRIOR_SPREAD, PRIOR_WEIGHT = 0.6, 4.0  # spread of log amounts that a short history is pulled towards

# Columns of the decayed sums: per window count, sum, sum of logs, sum of squared logs; the habit's count and
# logs; three harmonics of the hour of day; tiny amounts. Each has one of six decay times.
_DECAY = np.array([*WINDOWS, HABIT, BURST])
_DECAY_OF = np.array([0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 3 + [3] * 6 + [5])
_HABIT, _HOURS, _TINY = slice(16, 19), slice(19, 25), 25
_FEJER = 2 * np.repeat([0.75, 0.5, 0.25], 2)  # weights that keep a density of three harmonics non-negative
_SETS, _SLOTS, _MERCHANTS = 3, 8, 16
_NAME = "S20"
_NEVER = np.iinfo(np.int64).min

STATE = np.dtype([
    ("layout", "<u2"),
    ("count", "<u4"),  # payments so far
    ("first", "<i8"),  # microseconds since 1970
    ("latest", "<i8", (3,)),  # latest event; latest with a country; latest with a position
    ("country", _NAME),  # of the latest with a country
    ("position", "<f4", (2,)),  # degrees
    ("sums", "<f8", (len(_DECAY_OF),)),  # decayed to latest[0]
    ("known", "<u8", (_SETS, _SLOTS)),  # devices, countries, categories: second << 32 | hash, 0 is empty
    ("merchants", "<u8", (1, _MERCHANTS)),
])  # fmt: skip


@dataclass(slots=True)
class Columns:
    """What features need of N transactions.

    `time` int64 microseconds since 1970; `amount` float64; `hashes` uint32 (N, 4) of device, country,
    category and merchant, 0 where missing; `home` uint32 hash of the home country; `country` bytes, empty
    where missing; `position` float32 (N, 2) degrees, NaN where missing. `previous_country` is filled by
    `compute`: the country of the customer's last payment, for reasons in words.
    """

    time: np.ndarray
    amount: np.ndarray
    hashes: np.ndarray
    home: np.ndarray
    country: np.ndarray
    position: np.ndarray
    previous_country: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.time)


@lru_cache(maxsize=1 << 17)
def _hash(text: str | None) -> int:
    """32 bits that stay the same for ever: within one customer's few values a clash is a 1e-9 event."""
    if not text:
        return 0
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "little") or 1


@lru_cache(maxsize=1 << 17)
def country_of(location: str | None) -> str:
    """The country of a location such as "Nairobi, Kenya": the text after the last comma, casefolded."""
    return location.rpartition(",")[2].strip().casefold() if location else ""


def columns(transactions: Sequence[Transaction]) -> Columns:
    """The columns of `transactions`, in their order."""
    n = len(transactions)
    countries = [country_of(t.transaction_location) for t in transactions]
    hashes = np.empty((n, 4), np.uint32)
    hashes[:, 0] = [_hash(t.device) for t in transactions]
    hashes[:, 1] = [_hash(country) for country in countries]
    hashes[:, 2] = [_hash(t.merchant_category) for t in transactions]
    hashes[:, 3] = [_hash(t.merchant_id) for t in transactions]
    position = np.empty((n, 2), np.float32)
    position[:, 0] = [np.nan if t.latitude is None else t.latitude for t in transactions]
    position[:, 1] = [np.nan if t.longitude is None else t.longitude for t in transactions]
    seconds = np.fromiter((t.timestamp.timestamp() for t in transactions), np.float64, n)
    return Columns(
        time=np.rint(seconds * 1e6).astype(np.int64),
        amount=np.fromiter((t.amount for t in transactions), np.float64, n),
        hashes=hashes,
        home=np.fromiter((_hash(country_of(t.location)) for t in transactions), np.uint32, n),
        country=np.array([country.encode("utf-8", "surrogatepass") for country in countries], dtype=_NAME),
        position=position,
    )


def new_state(n: int) -> np.ndarray:
    """States (n,) of customers who have not paid yet."""
    state = np.zeros(n, STATE)
    state["layout"] = LAYOUT
    state["latest"] = _NEVER
    state["first"] = np.iinfo(np.int64).max
    return state


def compute(state: np.ndarray, user_index: np.ndarray, columns: Columns) -> np.ndarray:
    """Feature vectors of rows in log order; each row's payment is then added to its customer's state.

    Args:
        state: (U,) of `STATE`, changed in place.
        user_index: (N,) which state each row belongs to.
        columns: N rows in the order of the log.

    Returns:
        (N, len(FEATURES)) float32, all finite.

    Raises:
        ValueError: shapes do not fit, or a state has another layout.
    """
    user_index = np.asarray(user_index, np.int64)
    if state.dtype != STATE or user_index.shape != (len(columns),):
        raise ValueError(f"need STATE and {len(columns)} indices, got {state.dtype} and {user_index.shape}")
    if len(columns) == 0:
        columns.previous_country = np.empty(0, _NAME)
        return np.empty((0, len(FEATURES)), np.float32)

    # Round k holds the k-th row of every customer who has one. With the busiest customers first, each round
    # is a prefix of the customers and a slice of the rows, so the loops below work on views only.
    users, inverse, counts = np.unique(user_index, return_inverse=True, return_counts=True)
    old = state[users]
    if (old["layout"] != LAYOUT).any():
        raise ValueError(f"states have layout {set(old['layout'].tolist())}, this code has {LAYOUT}")
    by_user = np.argsort(inverse, kind="stable")
    occurrence = np.empty(len(by_user), np.int64)
    occurrence[by_user] = np.arange(len(by_user)) - np.repeat(np.cumsum(counts) - counts, counts)
    busiest = np.argsort(-counts, kind="stable")
    place = np.empty(len(users), np.int64)
    place[busiest] = np.arange(len(users))
    order = np.lexsort((place[inverse], occurrence))
    ends = np.cumsum(np.bincount(occurrence)).tolist()
    rounds = list(zip([0, *ends], ends, strict=False))
    users, old = users[busiest], old[busiest]
    user = place[inverse][order]

    time, amount = columns.time[order], columns.amount[order]
    country, position = columns.country[order], columns.position[order]
    hashes = columns.hashes[order]

    # Latest event, latest with a country, latest with a position: its time, and its row (U + row, or the
    # customer's own number while it still stands in the old state).
    located = ~np.isnan(position).any(axis=1)
    present = np.stack([np.ones_like(located), hashes[:, 1] != 0, located], axis=1)
    times = np.where(present, time[:, None], _NEVER)
    latest, first = old["latest"].copy(), old["first"].copy()
    row = np.repeat(np.arange(len(time))[:, None] + len(users), 3, axis=1)
    holder = np.repeat(np.arange(len(users))[:, None], 3, axis=1)
    latest_before, holder_before = np.empty_like(times), np.empty_like(row)
    first_before = np.empty_like(time)
    for a, b in rounds:
        n = b - a
        latest_before[a:b], holder_before[a:b], first_before[a:b] = latest[:n], holder[:n], first[:n]
        newer = times[a:b] > latest[:n]
        np.copyto(latest[:n], times[a:b], where=newer)
        np.copyto(holder[:n], row[a:b], where=newer)
        np.minimum(first[:n], time[a:b], out=first[:n])

    seen_before = old["count"][user].astype(np.int64) + occurrence[order]
    has_history = seen_before > 0
    now = np.where(has_history, np.maximum(time, latest_before[:, 0]), time)
    elapsed = np.where(has_history, now - latest_before[:, 0], 0) / 1e6
    behind = (now - time) / 1e6

    log_amount = np.log1p(amount)
    angle = (time % int(DAY * 1e6)) * (2 * np.pi / (DAY * 1e6))
    harmonics = np.stack([f(k * angle) for k in (1, 2, 3) for f in (np.cos, np.sin)], axis=1)
    added = np.empty((len(time), len(_DECAY_OF)))
    basic = np.stack([np.ones_like(amount), amount, log_amount, log_amount**2], axis=1)
    added[:, : 4 * len(WINDOWS)] = np.tile(basic, len(WINDOWS))
    added[:, _HABIT] = added[:, [0, 2, 3]]
    added[:, _HOURS] = harmonics
    added[:, _TINY] = amount <= TINY_AMOUNT
    if behind.any():
        added *= np.exp(-behind[:, None] / _DECAY)[:, _DECAY_OF]
    decay = np.exp(-elapsed[:, None] / _DECAY)[:, _DECAY_OF]

    second = np.clip(time // 1_000_000, 1, 2**32 - 1).astype(np.uint64) << np.uint64(32)
    seen = np.where(hashes != 0, second[:, None] | hashes, 0)
    sums = old["sums"].copy()
    before = np.empty_like(added)
    kept = _Kept(old["known"], seen[:, :3]), _Kept(old["merchants"], seen[:, 3:])
    for a, b in rounds:
        s = sums[: b - a]
        s *= decay[a:b]
        before[a:b] = s
        s += added[a:b]
        for sets in kept:
            sets.add(a, b)

    known = np.concatenate([sets.known for sets in kept], axis=1)
    sizes = np.concatenate([sets.sizes for sets in kept], axis=1)
    previous_country = np.concatenate([old["country"], country])[holder_before[:, 1]]
    previous_position = np.concatenate([old["position"], position])[holder_before[:, 2]]

    new = state[users]
    new["count"] = np.minimum(old["count"] + counts[busiest], 2**32 - 1)
    new["first"], new["latest"], new["sums"] = first, latest, sums
    new["known"], new["merchants"] = kept[0].slots, kept[1].slots
    new["country"] = np.concatenate([old["country"], country])[holder[:, 1]]
    new["position"] = np.concatenate([old["position"], position])[holder[:, 2]]
    state[users] = new

    vectors = _vectors(
        time=time, now=now, amount=amount, log_amount=log_amount, harmonics=harmonics, before=before,
        seen_before=seen_before, first=first_before, known=known, sizes=sizes, hashes=hashes,
        home=columns.home[order], country=country, previous_country=previous_country, position=position,
        previous_position=previous_position, latest=latest_before,
    )  # fmt: skip
    result = np.empty((len(time), len(FEATURES)), np.float32)
    result[order] = vectors
    columns.previous_country = np.empty(len(time), _NAME)
    columns.previous_country[order] = previous_country
    return result


class _Kept:
    """Sets of the values with the latest event times, for all customers at once.

    A slot is `second << 32 | hash`, so the largest slots are the latest values and keeping the larger of two
    is the whole rule; that is why any order of the rows leaves the same set.
    """

    def __init__(self, slots: np.ndarray, seen: np.ndarray):
        self.slots = slots.copy()
        self.seen = seen
        self.known = np.empty(seen.shape, bool)
        self.sizes = np.empty(seen.shape, np.int64)
        self._hash = seen.astype(np.uint32)[:, :, None]
        self._hashes = self.slots.view("<u4")[..., ::2]
        self._flat = self.slots.reshape(-1)
        self._start = np.arange(0, self.slots.size, slots.shape[2]).reshape(slots.shape[:2])

    def add(self, a: int, b: int) -> None:
        """Note which values of rows a..b were known, then keep them."""
        slots = self.slots[: b - a]
        hit = self._hashes[: b - a] == self._hash[a:b]
        known = hit.any(axis=2)
        self.known[a:b] = known
        self.sizes[a:b] = np.count_nonzero(slots, axis=2)
        slot = self._start[: b - a] + np.where(known, hit.argmax(axis=2), slots.argmin(axis=2))
        self._flat[slot] = np.maximum(self._flat[slot], self.seen[a:b])


def _vectors(
    *, time, now, amount, log_amount, harmonics, before, seen_before, first, known, sizes, hashes, home,
    country, previous_country, position, previous_position, latest,
) -> np.ndarray:  # fmt: skip
    """The features from what each row saw: (N, len(FEATURES))."""
    f: dict[str, np.ndarray] = {}
    history = seen_before > 0
    count, spent = before[:, 0:16:4], before[:, 1:16:4]
    logs, squares = before[:, 2:16:4], before[:, 3:16:4]
    habit_count, habit_logs, habit_squares = before[:, _HABIT].T

    # The customer's usual amount (in logs) and rate; a habit that has decayed away is no habit.
    habit = history & (habit_count > 1e-6)
    weight = np.where(habit, habit_count, 1.0)
    mean = np.where(habit, habit_logs / weight, log_amount)
    variance = np.where(habit, np.maximum(habit_squares / weight - mean**2, 0), 0)
    spread = np.sqrt(
        (np.where(habit, habit_count * variance, 0) + PRIOR_WEIGHT * PRIOR_SPREAD**2)
        / (np.where(habit, habit_count, 0) + PRIOR_WEIGHT)
    )
    usual = np.maximum(np.expm1(mean), 1.0)
    age = np.where(history, np.maximum((now - np.where(history, first, now)) / 1e6, DAY), DAY)
    rate = np.where(habit, habit_count, 0) / (HABIT * -np.expm1(-age / HABIT))
    expected = rate[:, None] * (_DECAY[:4] * -np.expm1(-age[:, None] / _DECAY[:4]))

    f["amount"] = log_amount
    f["amount_ratio"] = log_amount - mean
    f["amount_z"] = (log_amount - mean) / (spread * np.sqrt(1 + 1 / weight))

    f["count_1h"], f["count_1d"] = np.log1p(count[:, 0]), np.log1p(count[:, 1])
    rates = np.where(habit[:, None], np.log((count + 1) / (expected + 1)), 0)
    f["rate_1h"], f["rate_1d"], f["rate_7d"] = rates[:, 0], rates[:, 1], rates[:, 2]
    spends = np.log((spent + (amount + usual)[:, None]) / (usual[:, None] * (expected + 2)))
    spends = np.where(habit[:, None], spends, 0)
    f["spend_1h"], f["spend_1d"], f["spend_7d"] = spends[:, 0], spends[:, 1], spends[:, 2]

    # Means and spreads of a window are pulled towards the habit as if one usual payment were in it.
    means = np.where(habit[:, None], (logs - count * mean[:, None]) / (count + 1), 0)
    f["mean_1d"], f["mean_7d"] = means[:, 1], means[:, 2]
    f["growth"] = means[:, 2] - means[:, 3]
    deviation = np.maximum(squares - 2 * mean[:, None] * logs + count * (mean**2)[:, None], 0)
    spreads = 0.5 * np.log((deviation / (spread**2)[:, None] + 1) / (count + 1))
    spreads = np.where(habit[:, None], np.maximum(spreads, -5), 0)
    f["spread_1d"], f["spread_7d"], f["spread"] = spreads[:, 1], spreads[:, 2], spread

    since = np.abs(time - np.where(history, latest[:, 0], time)) / 1e6
    f["since_last"] = np.log1p(np.where(history, np.minimum(since, 30 * DAY), DAY))
    f["gap_ratio"] = np.where(habit, np.log((since + 60) / (1 / np.maximum(rate, 1e-9) + 60)), 0)

    # A new value means more the longer the history: n / (n + 3).
    given = hashes != 0
    newness = np.where(given & ~known & history[:, None], (seen_before / (seen_before + 3))[:, None], 0)
    for j, name in enumerate(("new_device", "new_country", "new_category", "new_merchant")):
        f[name] = newness[:, j]
    f["newness"] = newness[:, 0] + newness[:, 1] + newness[:, 2] + newness[:, 3]

    f["foreign"] = given[:, 1] & (home != 0) & (home != hashes[:, 1])
    changed = given[:, 1] & (previous_country != b"") & (previous_country != country)
    since_country = np.abs(time - np.where(changed, latest[:, 1], time)) / 1e6
    f["country_change"] = np.where(changed, np.exp(-since_country / TRAVEL_MEMORY), 0)
    moved = ~np.isnan(position).any(axis=1) & (latest[:, 2] != _NEVER)
    here, there = np.where(moved[:, None], position, 0), np.where(moved[:, None], previous_position, 0)
    distance = _kilometres(here, there)
    hours = np.abs(time - np.where(moved, latest[:, 2], time)) / 3.6e9
    f["speed"] = np.log1p(np.minimum(distance / (hours + TRAVEL_SLACK), TOP_SPEED))
    f["distance"] = np.log1p(distance)

    # How rare this hour is among the customer's own: minus log of a Fejér density, 1 being even hours.
    terms = before[:, _HOURS] * harmonics * _FEJER
    density = count[:, 3] + terms[:, 0] + terms[:, 1] + terms[:, 2] + terms[:, 3] + terms[:, 4] + terms[:, 5]
    f["hour_surprise"] = -np.log((np.maximum(density, 0) + 3) / (count[:, 3] + 3))

    tiny = before[:, _TINY]
    f["tiny_burst"] = np.log1p(tiny + (amount <= TINY_AMOUNT))
    f["large_after_tiny"] = np.log1p(tiny) * np.maximum(log_amount - np.log1p(TINY_AMOUNT), 0)

    f["known_devices"], f["known_countries"], f["known_merchants"] = sizes[:, 0], sizes[:, 1], sizes[:, 3]
    f["history"] = np.log1p(np.minimum(seen_before, 500))
    return np.stack([f[name] for name in FEATURES], axis=1)


def _kilometres(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Great-circle distance (haversine, Earth's mean radius 6371 km) of (N, 2) degrees."""
    (lat1, lon1), (lat2, lon2) = np.radians(here.astype(np.float64)).T, np.radians(there.astype(np.float64)).T
    half = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    return 12742.0 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))
