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
from dataclasses import dataclass, fields
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from include.features.rounds import NEVER, Kept, Latest, Rounds, decayed_sums

if TYPE_CHECKING:
    from include.events.transaction import Transaction

FEATURE_SET = 2
LAYOUT = 1

FEATURES = (
    "amount", "amount_ratio", "amount_z",
    "count_1h", "count_1d", "rate_1h", "rate_1d", "rate_7d",
    "spend_1h", "spend_1d", "spend_7d",
    "mean_1d", "mean_7d", "growth", "spread_1d", "spread_7d", "spread",
    "since_last", "gap_ratio",
    "new_device", "new_country", "new_category", "new_merchant", "newness",
    "known_devices", "known_countries", "known_merchants", "history",
    "foreign", "country_change", "speed", "distance",
    "hour_surprise", "tiny_burst", "large_after_tiny",
    "merchant_amount_z", "merchant_rate_1h", "merchant_rate_1d", "merchant_mean_1d", "merchant_tiny",
    "merchant_history", "merchant_frauds", "merchant_fraud_share",
)  # fmt: skip

HOUR, DAY = 3600.0, 86400.0
WINDOWS = (HOUR, DAY, 7 * DAY, 30 * DAY)
HABIT = 90 * DAY  # memory of a customer's own usual amount and rate
BURST = 1800.0  # memory of a burst of tiny amounts
TINY_AMOUNT = 5.0
TRAVEL_MEMORY = 6 * HOUR  # a change of country is told as long as it is this recent
TRAVEL_SLACK = 0.25  # hours added to a journey: clocks and positions are rough
TOP_SPEED = 2000.0  # km/h; faster says nothing more
SHARE_PRIOR = 10.0  # payments that a merchant's share of known frauds is set against at least
PRIOR_SPREAD, PRIOR_WEIGHT = 0.6, 4.0  # spread of log amounts that a short history is pulled towards

# Columns of the decayed sums: count, sum, sum of logs and of squared logs in each window; the same without the
# sum for the habit; three harmonics of the hour of day; tiny amounts in a burst and in 30 days.
_DECAY = np.array([*WINDOWS, HABIT, BURST])
_DECAY_OF = np.array([0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 3 + [3] * 6 + [5, 3])
_HABIT, _HOURS, _TINY, _TINY_30D = slice(16, 19), slice(19, 25), 25, 26
_OF_CUSTOMER = np.arange(26)
_OF_MERCHANT = np.array([*range(16), _TINY, _TINY_30D])
_FEJER = 2 * np.repeat([0.75, 0.5, 0.25], 2)  # weights that keep a density of three harmonics non-negative
_NAME = "S20"

_COMMON = [
    ("layout", "<u2"),
    ("count", "<u4"),  # payments so far
    ("first", "<i8"),  # microseconds since 1970
]
STATE = np.dtype([
    *_COMMON,
    ("latest", "<i8", (3,)),  # latest event; latest with a country; latest with a position
    ("country", _NAME),  # of the latest with a country
    ("position", "<f4", (2,)),  # degrees, of the latest with a position
    ("sums", "<f8", (len(_OF_CUSTOMER),)),  # decayed to latest[0]
    ("known", "<u8", (3, 8)),  # devices, countries, categories (include.features.rounds.Kept)
    ("merchants", "<u8", (1, 16)),
])  # fmt: skip
MERCHANT_STATE = np.dtype([
    *_COMMON,
    ("latest", "<i8", (1,)),
    ("sums", "<f8", (len(_OF_MERCHANT),)),
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

    def __getitem__(self, rows: slice | np.ndarray) -> Columns:
        values = [getattr(self, field.name) for field in fields(self)]
        return Columns(*[None if value is None else value[rows] for value in values])


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
    return _empty(n, STATE)


def new_merchant_state(n: int) -> np.ndarray:
    """States (n,) of merchants whom nobody has paid yet, as one Kafka partition sees them."""
    return _empty(n, MERCHANT_STATE)


def compute(
    state: np.ndarray,
    user_index: np.ndarray,
    columns: Columns,
    merchant_state: np.ndarray | None = None,
    merchant_index: np.ndarray | None = None,
    merchant_frauds: np.ndarray | None = None,
) -> np.ndarray:
    """Feature vectors of rows in log order; each row's payment is then added to its states.

    Args:
        state: (U,) of `STATE`, changed in place.
        user_index: (N,) which state each row belongs to.
        columns: N rows in the order of the log.
        merchant_state: (M,) of `MERCHANT_STATE`, changed in place. A Kafka partition keeps its own, so that
            partitions neither wait for one another nor depend on which of them came first. Without it the
            merchants' features are neutral.
        merchant_index: (N,) which of them each row belongs to, -1 for a row without a merchant.
        merchant_frauds: (N,) frauds known of the row's merchant on its day (include.features.known_frauds); none when
            it is not given.

    Returns:
        (N, len(FEATURES)) float32, all finite.

    Raises:
        ValueError: shapes or dtypes do not fit, or a state has another layout.
    """
    _check(state, STATE, user_index, columns)
    vectors = np.zeros((len(columns), len(FEATURES)), np.float32)
    columns.previous_country = np.zeros(len(columns), _NAME)
    if len(columns) == 0:
        return vectors
    log_amount, harmonics, amounts = _amounts(columns)
    vectors[:, : -len(_MERCHANT_FEATURES)] = _customer(
        state, user_index, columns, log_amount, harmonics, amounts
    )
    if merchant_state is not None:
        _check(merchant_state, MERCHANT_STATE, merchant_index, columns)
        has = np.flatnonzero(np.asarray(merchant_index) >= 0)
        if len(has):
            vectors[has, -len(_MERCHANT_FEATURES) :] = _merchant(
                merchant_state,
                np.asarray(merchant_index)[has],
                columns.time[has],
                log_amount[has],
                amounts[has],
                np.zeros(len(has)) if merchant_frauds is None else np.asarray(merchant_frauds, float)[has],
            )
    return vectors


def _empty(n: int, dtype: np.dtype) -> np.ndarray:
    state = np.zeros(n, dtype)
    state["layout"] = LAYOUT
    state["latest"] = NEVER
    state["first"] = -NEVER - 1
    return state


def _check(state: np.ndarray, dtype: np.dtype, index: np.ndarray, columns: Columns) -> None:
    if state.dtype != dtype or np.shape(index) != (len(columns),):
        raise ValueError(f"got states of {state.dtype} and {np.shape(index)} indices for {len(columns)} rows")
    if (state["layout"] != LAYOUT).any():
        raise ValueError(f"states have layout {set(state['layout'].tolist())}, this code has {LAYOUT}")


def _amounts(columns: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log amounts (N,), harmonics of the hour (N, 6), and what a payment adds to every sum (N, 27)."""
    amount, log_amount = columns.amount, np.log1p(columns.amount)
    angle = (columns.time % int(DAY * 1e6)) * (2 * np.pi / (DAY * 1e6))
    harmonics = np.stack([f(k * angle) for k in (1, 2, 3) for f in (np.cos, np.sin)], axis=1)
    basic = np.stack([np.ones_like(amount), amount, log_amount, log_amount**2], axis=1)
    added = np.empty((len(columns), len(_DECAY_OF)))
    added[:, : 4 * len(WINDOWS)] = np.tile(basic, len(WINDOWS))
    added[:, _HABIT] = basic[:, [0, 2, 3]]
    added[:, _HOURS] = harmonics
    added[:, _TINY] = added[:, _TINY_30D] = amount <= TINY_AMOUNT
    return log_amount, harmonics, added


class _Looked(NamedTuple):
    """What rows find in their entities' states."""

    count: np.ndarray  # payments before
    now: np.ndarray  # where the state's clock stands, microseconds
    age: np.ndarray  # seconds since the first payment, at least a day
    sums: np.ndarray


def _look(
    rounds: Rounds, latest: Latest, old: np.ndarray, new: np.ndarray, time: np.ndarray, amounts: np.ndarray,
    columns: np.ndarray,
) -> _Looked:  # fmt: skip
    """Run the decayed sums; `new` gets count, first, latest and sums. latest's last kind is minus the first."""
    count = old["count"][rounds.entity].astype(np.int64) + rounds.occurrence
    stood = np.where(count > 0, latest.before[:, 0], time)
    now = np.maximum(stood, time)
    decay_of = _DECAY_OF[columns]
    added = amounts[:, columns]
    behind = (now - time) / 1e6
    if behind.any():
        added *= np.exp(-behind[:, None] / _DECAY)[:, decay_of]
    decay = np.exp((stood - now)[:, None] / (1e6 * _DECAY))[:, decay_of]
    sums = old["sums"].copy()
    before = decayed_sums(rounds, sums, decay, added)
    new["count"] = np.minimum(old["count"].astype(np.int64) + rounds.counts, 2**32 - 1)
    new["first"], new["latest"], new["sums"] = -latest.final[:, -1], latest.final[:, :-1], sums
    first = np.where(count > 0, -latest.before[:, -1], now)
    return _Looked(count, now, np.maximum((now - first) / 1e6, DAY), before)


def _expected(rate: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Payments (N, 4) that a rate per second leaves in each decayed window after `age` seconds."""
    return rate[:, None] * (_DECAY[:4] * -np.expm1(-age[:, None] / _DECAY[:4]))


def _customer(
    state: np.ndarray, index: np.ndarray, columns: Columns, log_amount: np.ndarray, harmonics: np.ndarray,
    amounts: np.ndarray,
) -> np.ndarray:  # fmt: skip
    rounds = Rounds(index)
    old, new = state[rounds.entities], state[rounds.entities]
    row, log_amount, harmonics = columns[rounds.order], log_amount[rounds.order], harmonics[rounds.order]
    located, given = ~np.isnan(row.position).any(axis=1), row.hashes != 0

    happened = np.stack([np.ones_like(located), given[:, 1], located, np.ones_like(located)], axis=1)
    times = np.where(happened, row.time[:, None] * np.array([1, 1, 1, -1]), NEVER)
    latest = Latest(rounds, times, np.column_stack([old["latest"], -old["first"]]))
    look = _look(rounds, latest, old, new, row.time, amounts[rounds.order], _OF_CUSTOMER)

    second = np.clip(row.time // 1_000_000, 1, 2**32 - 1).astype(np.uint64) << np.uint64(32)
    seen = np.where(given, second[:, None] | row.hashes, 0)
    sets = Kept(rounds, old["known"], seen[:, :3]), Kept(rounds, old["merchants"], seen[:, 3:])
    known = np.concatenate([kept.known for kept in sets], axis=1)
    sizes = np.concatenate([kept.sizes for kept in sets], axis=1)

    countries = np.concatenate([old["country"], row.country])
    positions = np.concatenate([old["position"], row.position])
    previous_country, previous_position = (
        countries[latest.before_row[:, 1]],
        positions[latest.before_row[:, 2]],
    )
    new["known"], new["merchants"] = sets[0].slots, sets[1].slots
    new["country"], new["position"] = countries[latest.final_row[:, 1]], positions[latest.final_row[:, 2]]
    state[rounds.entities] = new

    features = _habits(look, row, log_amount, latest.before[:, 0])
    features |= _novelty(look, given & ~known, sizes)
    features |= _travel(row, latest.before, previous_country, previous_position)
    features |= _hours_and_bursts(look, row.amount, log_amount, harmonics)
    result = np.empty((len(index), len(features)), np.float32)
    result[rounds.order] = np.stack([features[name] for name in FEATURES[: len(features)]], axis=1)
    columns.previous_country[rounds.order] = previous_country
    return result


def _habits(look: _Looked, row: Columns, log_amount: np.ndarray, last: np.ndarray) -> dict[str, np.ndarray]:
    """Amounts and pace against the customer's own habit. A habit that has decayed away is no habit."""
    count, spent, logs, squares = (look.sums[:, j:16:4] for j in range(4))
    habit_count, habit_logs, habit_squares = look.sums[:, _HABIT].T
    habit = (look.count > 0) & (habit_count > 1e-6)
    weight = np.where(habit, habit_count, 1.0)
    mean = np.where(habit, habit_logs / weight, log_amount)
    variance = np.where(habit, np.maximum(habit_squares / weight - mean**2, 0), 0)
    weighed = np.where(habit, habit_count, 0)
    spread = np.sqrt((weighed * variance + PRIOR_WEIGHT * PRIOR_SPREAD**2) / (weighed + PRIOR_WEIGHT))
    usual = np.maximum(np.expm1(mean), 1.0)
    rate = weighed / (HABIT * -np.expm1(-look.age / HABIT))
    expected = _expected(rate, look.age)

    rates = np.log((count + 1) / (expected + 1))
    # Spending includes this payment, and one usual payment on both sides damps the ratio.
    spends = np.log((spent + (row.amount + usual)[:, None]) / (usual[:, None] * (expected + 2)))
    # Means and spreads of a window are pulled towards the habit as if one usual payment were in it.
    means = (logs - count * mean[:, None]) / (count + 1)
    deviation = np.maximum(squares - 2 * mean[:, None] * logs + count * (mean**2)[:, None], 0)
    spreads = np.maximum(0.5 * np.log((deviation / (spread**2)[:, None] + 1) / (count + 1)), -5)
    rates, spends, means, spreads = (np.where(habit[:, None], x, 0) for x in (rates, spends, means, spreads))

    since = np.abs(row.time - np.where(look.count > 0, last, row.time)) / 1e6
    gap = np.log((since + 60) / (1 / np.maximum(rate, 1e-9) + 60))
    return {
        "amount": log_amount,
        "amount_ratio": log_amount - mean,
        "amount_z": (log_amount - mean) / (spread * np.sqrt(1 + 1 / weight)),
        "count_1h": np.log1p(count[:, 0]),
        "count_1d": np.log1p(count[:, 1]),
        "rate_1h": rates[:, 0],
        "rate_1d": rates[:, 1],
        "rate_7d": rates[:, 2],
        "spend_1h": spends[:, 0],
        "spend_1d": spends[:, 1],
        "spend_7d": spends[:, 2],
        "mean_1d": means[:, 1],
        "mean_7d": means[:, 2],
        "growth": means[:, 2] - means[:, 3],
        "spread_1d": spreads[:, 1],
        "spread_7d": spreads[:, 2],
        "spread": spread,
        "since_last": np.log1p(np.where(look.count > 0, np.minimum(since, 30 * DAY), DAY)),
        "gap_ratio": np.where(habit, gap, 0),
    }


def _novelty(look: _Looked, new: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
    """Values that the customer has not used lately; they mean more the longer the history: n / (n + 3)."""
    newness = np.where(new, (look.count / (look.count + 3))[:, None], 0)
    return {
        "new_device": newness[:, 0],
        "new_country": newness[:, 1],
        "new_category": newness[:, 2],
        "new_merchant": newness[:, 3],
        "newness": newness[:, 0] + newness[:, 1] + newness[:, 2] + newness[:, 3],
        "known_devices": sizes[:, 0],
        "known_countries": sizes[:, 1],
        "known_merchants": sizes[:, 3],
        "history": np.log1p(np.minimum(look.count, 500)),
    }


def _travel(
    row: Columns, latest: np.ndarray, previous_country: np.ndarray, previous_position: np.ndarray
) -> dict[str, np.ndarray]:
    """Countries and positions against home and against the last ones that are known."""
    given = row.country != b""
    changed = given & (previous_country != b"") & (previous_country != row.country)
    since = np.abs(row.time - np.where(changed, latest[:, 1], row.time)) / 1e6
    moved = ~np.isnan(row.position).any(axis=1) & (latest[:, 2] != NEVER)
    here, there = (np.where(moved[:, None], p, 0) for p in (row.position, previous_position))
    distance = _kilometres(here, there)
    hours = np.abs(row.time - np.where(moved, latest[:, 2], row.time)) / 3.6e9
    return {
        "foreign": given & (row.home != 0) & (row.home != row.hashes[:, 1]),
        "country_change": np.where(changed, np.exp(-since / TRAVEL_MEMORY), 0),
        "speed": np.log1p(np.minimum(distance / (hours + TRAVEL_SLACK), TOP_SPEED)),
        "distance": np.log1p(distance),
    }


def _hours_and_bursts(
    look: _Looked, amount: np.ndarray, log_amount: np.ndarray, harmonics: np.ndarray
) -> dict[str, np.ndarray]:
    """Rarity of the hour, as minus the log of a Fejér density of the own hours (1: even), and tiny amounts."""
    terms, steady = look.sums[:, _HOURS] * harmonics * _FEJER, look.sums[:, 12]
    density = steady + terms[:, 0] + terms[:, 1] + terms[:, 2] + terms[:, 3] + terms[:, 4] + terms[:, 5]
    tiny = look.sums[:, _TINY]
    return {
        "hour_surprise": -np.log((np.maximum(density, 0) + 3) / (steady + 3)),
        "tiny_burst": np.log1p(tiny + (amount <= TINY_AMOUNT)),
        "large_after_tiny": np.log1p(tiny) * np.maximum(log_amount - np.log1p(TINY_AMOUNT), 0),
    }


_MERCHANT_FEATURES = tuple(name for name in FEATURES if name.startswith("merchant_"))


def _merchant(
    state: np.ndarray, index: np.ndarray, time: np.ndarray, log_amount: np.ndarray, amounts: np.ndarray,
    frauds: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """A payment against its merchant's habit over 30 days, and the merchant's last hour and day against it."""
    rounds = Rounds(index)
    old, new = state[rounds.entities], state[rounds.entities]
    time, log_amount, frauds = time[rounds.order], log_amount[rounds.order], frauds[rounds.order]
    latest = Latest(rounds, np.stack([time, -time], axis=1), np.column_stack([old["latest"], -old["first"]]))
    look = _look(rounds, latest, old, new, time, amounts[rounds.order], _OF_MERCHANT)
    state[rounds.entities] = new

    count, logs, squares = (look.sums[:, j:16:4] for j in (0, 2, 3))
    tiny, tiny_30d = look.sums[:, 16], look.sums[:, 17]
    steady = count[:, 3]
    habit = (look.count > 0) & (steady > 1e-6)
    weight = np.where(habit, steady, 1.0)
    mean = np.where(habit, logs[:, 3] / weight, log_amount)
    variance = np.where(habit, np.maximum(squares[:, 3] / weight - mean**2, 0), 0)
    weighed = np.where(habit, steady, 0)
    spread = np.sqrt((weighed * variance + PRIOR_WEIGHT * PRIOR_SPREAD**2) / (weighed + PRIOR_WEIGHT))
    exposure = WINDOWS[3] * -np.expm1(-look.age / WINDOWS[3])
    rates = np.log((count + 1) / (_expected(weighed / exposure, look.age) + 1))
    expected_tiny = tiny_30d / exposure * BURST
    values = {
        "merchant_amount_z": (log_amount - mean) / (spread * np.sqrt(1 + 1 / weight)),
        "merchant_rate_1h": np.where(habit, rates[:, 0], 0),
        "merchant_rate_1d": np.where(habit, rates[:, 1], 0),
        "merchant_mean_1d": np.where(habit, (logs[:, 1] - count[:, 1] * mean) / (count[:, 1] + 1), 0),
        "merchant_tiny": np.log((tiny + 1) / (expected_tiny + 1)),
        "merchant_history": np.log1p(np.minimum(look.count, 500)),
        "merchant_frauds": np.log1p(frauds),
        "merchant_fraud_share": frauds / (frauds + weighed + SHARE_PRIOR),
    }
    result = np.empty((len(index), len(_MERCHANT_FEATURES)), np.float32)
    result[rounds.order] = np.stack([values[name] for name in _MERCHANT_FEATURES], axis=1)
    return result


def _kilometres(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Great-circle distance (haversine, Earth's mean radius 6371 km) of (N, 2) degrees."""
    (lat1, lon1), (lat2, lon2) = np.radians(here.astype(np.float64)).T, np.radians(there.astype(np.float64)).T
    half = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    return 12742.0 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))
