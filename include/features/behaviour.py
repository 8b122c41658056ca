"""Behaviour features of transactions: one function for the live stream, parity and training.

Each customer has one `STATE` record of constant size, each merchant one `MERCHANT_STATE`: include.features.aggregates
says what they hold, include.features.definitions what each feature means.

Time rules:
- A row sees the rows before it in the log (its Kafka partition), never itself or later rows, except where a
  feature says that it includes the payment.
- Event time drives every window. The state stands at the latest event time seen. A late row is compared with
  the state as it stands, and is then added with its exactly decayed weight, so the state after any order of
  the same rows is the same up to floating-point rounding, but for the sums of payments at new merchants: which
  payment was the first at a merchant depends on the order. Sets keep the values with the latest event times,
  and the last country and position are those with the latest event time (at equal microseconds, the first that
  arrived).
- The vectors do not depend on how the rows are split into batches, to the last bit.

Missing optional fields are normal: they change no set, country or position, and their features keep neutral
values. A customer without history gets neutral values (docs/features.md) and `history` 0. Currencies are not
converted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from include.events.transaction import CATEGORIES, NUMBERS
from include.features import aggregates, closed_days, extras
from include.features.aggregates import (
    BURST,
    DAY,
    HABIT,
    HOUR,
    KNOWN,
    LEVELS,
    MONTH,
    QUANTITIES,
    TINY_AMOUNT,
    VALUES,
    WAVES,
    WINDOWS,
    Aggregates,
)
from include.features.closed_days import COUNTED, DAY_STATE, Seen
from include.features.definitions import (
    CUSTOMER_FEATURES,
    EXTRA_FEATURES,
    FEATURE_SET,
    FEATURES,
    KNOWN_FRAUD_FEATURES,
    LIFT_FEATURES,
    LIFT_WINDOWS,
    LIFTED,
    MERCHANT_FEATURES,
    NEUTRAL,
    PRIOR_SPREAD,
)
from include.features.entities import KINDS, SHOP, Coded, coded_countries, entities
from include.features.geography import kilometres
from include.features.known_frauds import WINDOWS as REPORT_WINDOWS
from include.features.rounds import NEVER, Kept, Latest, Rounds, decayed_sums
from include.features.words import TRAVEL_MEMORY

if TYPE_CHECKING:
    from include.events.transaction import Transaction

__all__ = [
    "FEATURES",
    "FEATURE_SET",
    "LAYOUT",
    "MERCHANT_STATE",
    "STATE",
    "Columns",
    "columns",
    "compute",
    "new_merchant_state",
    "new_state",
]

LAYOUT = 2

TRAVEL_SLACK = 0.25  # hours added to a journey: clocks and positions are rough
TOP_SPEED = 2000.0  # km/h; faster says nothing more
PRIOR_WEIGHT = 4.0  # payments that PRIOR_SPREAD weighs as much as

_WINDOWS = np.array(WINDOWS)
_DENSITY = 2 * np.array(
    [0.75, 0.75, 0.5, 0.5, 0.25, 0.25]
)  # Fejér's weights: no density of three waves is negative
_WAVES = [QUANTITIES.index(wave) for wave in WAVES]
_LOG_AMOUNT, _NEW_MERCHANTS = QUANTITIES.index("log_amount"), QUANTITIES.index("new_merchants")
_OF_COUNTRY = VALUES.index("country")
_NAME = "S20"
_ENDS = np.cumsum(
    [
        0,
        *map(
            len, (CUSTOMER_FEATURES, MERCHANT_FEATURES, LIFT_FEATURES, KNOWN_FRAUD_FEATURES, EXTRA_FEATURES)
        ),
    ]
).tolist()
_PARTS = tuple(map(slice, _ENDS, _ENDS[1:]))  # of a vector
_NAMED = slice(KINDS.index(SHOP) + 1, KINDS.index(CATEGORIES[0]))  # of the kinds

_COMMON = [
    ("layout", "<u2"),
    ("count", "<u4"),  # payments so far
    ("first", "<i8"),  # microseconds since 1970
]
_PAYMENT, _COUNTRY, _POSITION = range(3)  # kinds of latest events: any; with a country; with a position
STATE = np.dtype([
    *_COMMON,
    ("latest", "<i8", (3,)),  # of each kind, microseconds
    ("country", _NAME),  # of the latest with a country
    ("position", "<f4", (2,)),  # degrees, of the latest with a position
    ("sums", "<f8", (len(aggregates.CUSTOMER),)),  # decayed to the latest payment
    *((name, "<u8", (len(values), size)) for name, (values, size) in KNOWN.items()),
    *extras.STATE,
])  # fmt: skip
MERCHANT_STATE = np.dtype([
    *_COMMON,
    ("latest", "<i8", (1,)),
    ("sums", "<f8", (len(aggregates.MERCHANT),)),
])  # fmt: skip


@dataclass(slots=True)
class Columns:
    """What features need of N transactions.

    `time` int64 microseconds since 1970; `amount` float64; `hashes` uint32 (N, 4) of the values of
    include.features.aggregates.VALUES, 0 where missing; `home` uint32 hash of the home country; `country` bytes, empty
    where missing; `position` float32 (N, 2) degrees, NaN where missing; `entities` of the payments by kind
    (include.features.entities), and which have a number by the name of its field. `numbers` float64 (N, len(NUMBERS)),
    NaN where missing; None when all are. `previous_country` is filled by `compute`: the country of the customer's last
    payment, for reasons in words.
    """

    time: np.ndarray
    amount: np.ndarray
    hashes: np.ndarray
    home: np.ndarray
    country: np.ndarray
    position: np.ndarray
    entities: dict[str, Coded] = field(default_factory=dict)
    numbers: np.ndarray | None = None
    previous_country: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, rows: slice | np.ndarray) -> Columns:
        values = {name: getattr(self, name) for name in _ROWS}
        return Columns(
            **{name: value[rows] for name, value in values.items() if value is not None},
            entities={kind: Coded(values, codes[rows]) for kind, (values, codes) in self.entities.items()},
        )


_ROWS = [column.name for column in fields(Columns) if column.name != "entities"]


@lru_cache(maxsize=1 << 17)
def _hash(text: str | None) -> int:
    """32 bits that stay the same for ever: within one customer's few values a clash is a 1e-9 event."""
    if not text:
        return 0
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "little") or 1


def columns(transactions: Sequence[Transaction]) -> Columns:
    """The columns of `transactions`, in their order.

    >>> from datetime import UTC, datetime
    >>> from include.events.transaction import FIELDS, Transaction
    >>> payment = Transaction(*[field.example for field in FIELDS])
    >>> given = columns([payment])
    >>> given.time.tolist(), given.amount.tolist(), given.country.tolist()
    ([1795176000000000], [42.5], [b'germany'])
    """
    n = len(transactions)
    of_kind = entities(transactions)
    hashes = np.stack([_hashes(of_kind[kind]) for kind in VALUES], axis=1)
    countries, country = of_kind["country"]
    names = np.array([name.encode("utf-8", "surrogatepass") for name in countries] + [b""], dtype=_NAME)
    position = np.empty((n, 2), np.float32)
    position[:, 0] = [np.nan if t.latitude is None else t.latitude for t in transactions]
    position[:, 1] = [np.nan if t.longitude is None else t.longitude for t in transactions]
    numbers = _numbers(transactions)
    if numbers is not None:
        for number in np.flatnonzero(~np.isnan(numbers).all(axis=0)):
            of_kind[NUMBERS[number]] = Coded([""], np.where(np.isnan(numbers[:, number]), -1, 0))
    seconds = np.fromiter((t.timestamp.timestamp() for t in transactions), np.float64, n)
    return Columns(
        time=np.rint(seconds * 1e6).astype(np.int64),
        amount=np.fromiter((t.amount for t in transactions), np.float64, n),
        hashes=hashes,
        home=_hashes(coded_countries([t.location for t in transactions])),
        country=names[country],
        position=position,
        entities=of_kind,
        numbers=numbers,
    )


def _numbers(transactions: Sequence[Transaction]) -> np.ndarray | None:
    given = [[getattr(t, name) for t in transactions] for name in NUMBERS]
    if all(column.count(None) == len(column) for column in given):
        return None
    return np.array(given, np.float64).T


def _hashes(texts: Coded) -> np.ndarray:
    """The hashes (N,) uint32 of coded texts, 0 where there is none."""
    return np.array([*map(_hash, texts.values), 0], np.uint32)[texts.codes]


def new_state(n: int) -> np.ndarray:
    """States (n,) of customers without payments.

    >>> new_state(2)["count"].tolist()
    [0, 0]
    """
    return _empty(n, STATE)


def new_merchant_state(n: int) -> np.ndarray:
    """States (n,) of merchants without payments, as one Kafka partition sees them.

    >>> new_merchant_state(2)["count"].tolist()
    [0, 0]
    """
    return _empty(n, MERCHANT_STATE)


def packed(states: np.ndarray) -> list[bytes]:
    """States as they are stored: without the zeros at their end, so that what nobody uses takes no room.

    >>> len(packed(new_day_state(1))[0]) < DAY_STATE.itemsize
    True
    """
    return [state.tobytes().rstrip(b"\0") for state in states]


def unpacked(stored: Sequence[bytes], dtype: np.dtype) -> np.ndarray:
    """The states of what `packed` has made, now or before fields were added at their end.

    >>> unpacked(packed(new_state(2)), STATE)["count"].tolist()
    [0, 0]
    """
    width = dtype.itemsize
    return np.frombuffer(b"".join([state.ljust(width, b"\0") for state in stored]), dtype)


def compute(
    state: np.ndarray,
    user_index: np.ndarray,
    columns: Columns,
    merchant_state: np.ndarray | None = None,
    merchant_index: np.ndarray | None = None,
    frauds: np.ndarray | None = None,
    day_state: np.ndarray | None = None,
    day_codes: np.ndarray | None = None,
) -> np.ndarray:
    """Feature vectors of rows in log order; each row's payment is then added to its states.

    docs/features.md has the formula and unit of each feature.

    Args:
        state: (U,) of `STATE`, changed in place.
        user_index: (N,) which state each row belongs to.
        columns: N rows in the order of the log.
        merchant_state: (M,) of `MERCHANT_STATE`, changed in place. A Kafka partition keeps its own, so that
            partitions neither wait for one another nor depend on which of them came first. Without it the
            merchants' features are neutral.
        merchant_index: (N,) which of them each row belongs to, -1 for a row without a merchant.
        frauds: (N, len(KINDS), len(WINDOWS)) known of the row's entities on its day (include.features.known_frauds);
            none when it is not given.
        day_state: (V,) of include.features.closed_days.DAY_STATE, changed in place; without it the lifts are neutral.
        day_codes: (N, len(COUNTED)) which of them each row's values have (include.features.closed_days.values_of).

    Returns:
        (N, len(FEATURES)) float32, all finite.

    Raises:
        ValueError: shapes or dtypes do not fit, or a state has another layout.

    A customer pays about 50 a day for 40 days, then 400:

    >>> rng = np.random.default_rng(1)
    >>> rows = Columns(
    ...     time=np.arange(41) * 86_400_000_000,
    ...     amount=np.append(50 * rng.lognormal(0, 0.2, 40), 400.0),
    ...     hashes=np.ones((41, 4), np.uint32),
    ...     home=np.ones(41, np.uint32),
    ...     country=np.full(41, b"kenya"),
    ...     position=np.full((41, 2), np.nan, np.float32),
    ... )
    >>> customer = new_state(1)
    >>> vectors = compute(customer, np.zeros(41, int), rows)
    >>> named = dict(zip(FEATURES, vectors[-1].tolist()))
    >>> f"{np.exp(named['amount_ratio']):.1f} times the usual, {named['amount_z']:.1f} standard deviations above"
    '7.9 times the usual, 7.6 standard deviations above'
    >>> customer["count"].tolist()
    [41]
    """
    _check(state, STATE, user_index, columns)
    vectors = np.empty((len(columns), len(FEATURES)), np.float32)
    columns.previous_country = np.zeros(len(columns), _NAME)
    if len(columns) == 0:
        return vectors
    of_customer, of_merchant, lifts, of_known_frauds, of_extras = (vectors[:, part] for part in _PARTS)
    quantities = aggregates.quantities(columns.time, columns.amount)
    of_customer[:], history, columns.previous_country = _customer(state, user_index, columns, quantities)
    of_merchant[:] = NEUTRAL[_PARTS[1]]
    payments = np.zeros(len(columns))  # of the merchant in 30 days
    if merchant_state is not None:
        _check(merchant_state, MERCHANT_STATE, merchant_index, columns)
        has = np.flatnonzero(np.asarray(merchant_index) >= 0)
        if len(has):
            of_merchant[has], payments[has] = _merchant(
                merchant_state, np.asarray(merchant_index)[has], columns.time[has], quantities[has]
            )
    measures = None if columns.numbers is None else extras.measures(columns.numbers, columns.amount)
    seen = None
    if day_state is not None and day_codes is not None:
        _check(day_state, DAY_STATE, day_codes, columns)
        seen = closed_days.see(day_state, day_codes, columns.time, measures)
    shares = None if seen is None or frauds is None else _Shares(frauds, payments, seen, columns)
    lifts[:] = 0 if shares is None else np.hstack([shares.lifts(kind) for kind in LIFTED])
    of_known_frauds[:] = 0 if frauds is None else np.log1p(frauds[:, _NAMED]).reshape(len(columns), -1)
    of_extras[:] = 0
    for name, values in _extras(state, user_index, columns, history, measures, seen, shares):
        of_extras[:, EXTRA_FEATURES.index(name)] = values
    return vectors


def new_day_state(n: int) -> np.ndarray:
    """States (n,) of values that have not occurred, as one Kafka partition sees them.

    >>> new_day_state(2)["open"].tolist()
    [0.0, 0.0]
    """
    state = np.zeros(n, DAY_STATE)
    state["layout"] = LAYOUT
    return state


def _empty(n: int, dtype: np.dtype) -> np.ndarray:
    state = np.zeros(n, dtype)
    state["layout"] = LAYOUT
    state["latest"] = NEVER
    state["first"] = -NEVER - 1
    return state


def _check(state: np.ndarray, dtype: np.dtype, index: np.ndarray | None, columns: Columns) -> None:
    indices = 0 if index is None else len(index)
    if state.dtype != dtype or indices != len(columns):
        raise ValueError(f"got states of {state.dtype} and {indices} indices for {len(columns)} rows")
    if (state["layout"] != LAYOUT).any():
        raise ValueError(f"states have layout {set(state['layout'].tolist())}, this code has {LAYOUT}")


class _Past(NamedTuple):
    """What rows find in their entities' states."""

    payments: np.ndarray  # how many before
    age: np.ndarray  # seconds since the first payment, at least a day
    sums: np.ndarray
    aggregates: Aggregates  # which sums

    def sum(self, quantity: str | tuple[str, ...], memory: float | tuple[float, ...]) -> np.ndarray:
        """A sum, or several, before the row: as `Aggregates.read`."""
        return self.aggregates.read(self.sums, quantity, memory)

    def expected(self, rate: np.ndarray) -> np.ndarray:
        """Payments (N, len(WINDOWS)) that a rate per second would have left in each window's sum."""
        return rate[:, None] * (_WINDOWS * -np.expm1(-self.age[:, None] / _WINDOWS))


def _past(
    rounds: Rounds, latest: Latest, old: np.ndarray, new: np.ndarray, time: np.ndarray, quantities: np.ndarray,
    specified: Aggregates,
) -> _Past:  # fmt: skip
    """Run the decayed sums; `new` gets count, first, latest and sums. latest's last kind is minus the first."""
    count = old["count"][rounds.entity].astype(np.int64) + rounds.occurrence
    stood = np.where(count > 0, latest.before[:, _PAYMENT], time)
    now = np.maximum(stood, time)
    added = specified.added(quantities)
    behind = (now - time) / 1e6
    if behind.any():
        added *= specified.weights(behind)
    sums = old["sums"].copy()
    before = decayed_sums(rounds, sums, specified.weights(now - stood, per_second=1e6), added)
    new["count"] = np.minimum(old["count"].astype(np.int64) + rounds.counts, 2**32 - 1)
    new["first"], new["latest"], new["sums"] = -latest.final[:, -1], latest.final[:, :-1], sums
    first = np.where(count > 0, -latest.before[:, -1], now)
    return _Past(count, np.maximum((now - first) / 1e6, DAY), before, specified)


def _in_order(rounds: Rounds, values: dict[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    """Features (N, len(names)) float32 in the order of the log, from their values in the order of the rounds."""
    result = np.empty((len(rounds.order), len(names)), np.float32)
    result[rounds.order] = np.stack([values[name] for name in names], axis=1)
    return result


def _customer(
    state: np.ndarray, index: np.ndarray, columns: Columns, quantities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The features (N, len(CUSTOMER_FEATURES)) of payments against their customer's past, how many payments and which
    country were before."""
    rounds = Rounds(index)
    old, new = state[rounds.entities], state[rounds.entities]
    row, quantities = columns[rounds.order], quantities[rounds.order]
    located, given = ~np.isnan(row.position).any(axis=1), row.hashes != 0

    happened = np.stack(
        [np.ones_like(located), given[:, _OF_COUNTRY], located, np.ones_like(located)], axis=1
    )
    times = np.where(happened, row.time[:, None] * np.array([1, 1, 1, -1]), NEVER)
    latest = Latest(rounds, times, np.column_stack([old["latest"], -old["first"]]))
    known, sizes = _known(rounds, old, new, row)
    payments = old["count"][rounds.entity].astype(np.int64) + rounds.occurrence
    novelty = np.where(given & ~known, (payments / (payments + 3))[:, None], 0)
    quantities[:, _NEW_MERCHANTS] = novelty[:, VALUES.index("merchant")]
    past = _past(rounds, latest, old, new, row.time, quantities, aggregates.CUSTOMER)
    countries = np.concatenate([old["country"], row.country])
    positions = np.concatenate([old["position"], row.position])
    last_country = countries[latest.before_row[:, _COUNTRY]]
    last_position = positions[latest.before_row[:, _POSITION]]
    new["country"] = countries[latest.final_row[:, _COUNTRY]]
    new["position"] = positions[latest.final_row[:, _POSITION]]
    state[rounds.entities] = new

    log_amount = quantities[:, _LOG_AMOUNT]
    features = _habits(past, row, log_amount, latest.before[:, _PAYMENT])
    features |= _novelty(past, novelty, sizes)
    features |= _travel(row, latest.before, last_country, last_position)
    features |= _hours_and_bursts(past, row, log_amount, quantities[:, _WAVES])
    before, previous_country = np.empty_like(payments), np.empty_like(last_country)
    before[rounds.order], previous_country[rounds.order] = payments, last_country
    return _in_order(rounds, features, CUSTOMER_FEATURES), before, previous_country


def _known(rounds: Rounds, old: np.ndarray, new: np.ndarray, row: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Whether each of a row's values was known, and how many were: (N, len(VALUES)) each; `new` gets the sets."""
    second = np.clip(row.time // 1_000_000, 1, 2**32 - 1).astype(np.uint64) << np.uint64(32)
    seen = np.where(row.hashes != 0, second[:, None] | row.hashes, 0)
    known, sizes, first = [], [], 0
    for name, (values, _) in KNOWN.items():
        kept = Kept(rounds, old[name], seen[:, first : first + len(values)])
        new[name], first = kept.slots, first + len(values)
        known.append(kept.known)
        sizes.append(kept.sizes)
    return np.concatenate(known, axis=1), np.concatenate(sizes, axis=1)


class _Habit(NamedTuple):
    """The usual log amount of an entity and its spread, over a memory. One that has decayed away is no habit."""

    there: np.ndarray
    weight: np.ndarray  # payments that it rests on, 1 where there is none
    payments: np.ndarray  # the same, 0 where there is none
    mean: np.ndarray  # the payment's own where there is none
    spread: np.ndarray  # pulled towards PRIOR_SPREAD as if by PRIOR_WEIGHT payments
    rate: np.ndarray  # payments per second

    def deviations(self, log_amount: np.ndarray) -> np.ndarray:
        """How many standard deviations an amount lies from the mean, which a short history knows less well."""
        return (log_amount - self.mean) / (self.spread * np.sqrt(1 + 1 / self.weight))


def _habit(past: _Past, memory: float, log_amount: np.ndarray) -> _Habit:
    payments = past.sum("payments", memory)
    there = (past.payments > 0) & (payments > 1e-6)
    weight = np.where(there, payments, 1.0)
    mean = np.where(there, past.sum("log_amount", memory) / weight, log_amount)
    variance = past.sum("squared_log_amount", memory) / weight - mean**2
    variance = np.where(there, np.maximum(variance, 0), 0)
    count = np.where(there, payments, 0)
    spread = np.sqrt((count * variance + PRIOR_WEIGHT * PRIOR_SPREAD**2) / (count + PRIOR_WEIGHT))
    rate = count / (memory * -np.expm1(-past.age / memory))
    return _Habit(there, weight, count, mean, spread, rate)


def _habits(past: _Past, row: Columns, log_amount: np.ndarray, last: np.ndarray) -> dict[str, np.ndarray]:
    """Amounts and pace against the customer's own habit."""
    count, spent, logs, squares = (past.sum(level, WINDOWS) for level in LEVELS)
    habit = _habit(past, HABIT, log_amount)
    mean, spread = habit.mean, habit.spread
    usual = np.maximum(np.expm1(mean), 1.0)
    expected = past.expected(habit.rate)

    rates = np.log((count + 1) / (expected + 1))
    # Spending includes this payment, and one usual payment on both sides damps the ratio.
    spends = np.log((spent + (row.amount + usual)[:, None]) / (usual[:, None] * (expected + 2)))
    # Means and spreads of a window are pulled towards the habit as if one usual payment were in it.
    means = (logs - count * mean[:, None]) / (count + 1)
    deviation = np.maximum(squares - 2 * mean[:, None] * logs + count * (mean**2)[:, None], 0)
    spreads = np.maximum(0.5 * np.log((deviation / (spread**2)[:, None] + 1) / (count + 1)), -5)
    rates, spends, means, spreads = (
        np.where(habit.there[:, None], x, 0) for x in (rates, spends, means, spreads)
    )

    since = np.abs(row.time - np.where(past.payments > 0, last, row.time)) / 1e6
    gap = np.log((since + 60) / (1 / np.maximum(habit.rate, 1e-9) + 60))
    return {
        "amount": log_amount,
        "amount_ratio": log_amount - mean,
        "amount_z": habit.deviations(log_amount),
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
        "since_last": np.log1p(np.where(past.payments > 0, np.minimum(since, 30 * DAY), DAY)),
        "gap_ratio": np.where(habit.there, gap, 0),
    }


def _novelty(past: _Past, new: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
    """Values that the customer has not used lately; they mean more the longer the history: n / (n + 3)."""
    novelty = dict(zip(VALUES, new.T, strict=True))
    tried = {memory: past.sum("new_merchants", memory) for memory in (DAY, 7 * DAY, HABIT)}
    share = (tried[HABIT] + 0.3) / (past.sum("payments", HABIT) + 3)
    expected = (past.sum("payments", 7 * DAY) + 1) * share
    known = dict(zip(VALUES, sizes.T, strict=True))
    return {
        **{f"new_{value}": novelty[value] for value in VALUES},
        "new_merchants_1d": np.log1p(tried[DAY] + novelty["merchant"]),
        "new_merchants_7d": np.where(
            past.payments > 0, (tried[7 * DAY] + novelty["merchant"] - expected) / np.sqrt(expected + 1), 0
        ),
        "newness": novelty["device"] + novelty["country"] + novelty["category"] + novelty["merchant"],
        "known_devices": known["device"],
        "known_countries": known["country"],
        "known_merchants": known["merchant"],
        "history": np.log1p(np.minimum(past.payments, 500)),
    }


def _travel(
    row: Columns, latest: np.ndarray, last_country: np.ndarray, last_position: np.ndarray
) -> dict[str, np.ndarray]:
    """Countries and positions against home and against the last ones that are known."""
    given = row.country != b""
    changed = given & (last_country != b"") & (last_country != row.country)
    since = np.abs(row.time - np.where(changed, latest[:, _COUNTRY], row.time)) / 1e6
    moved = ~np.isnan(row.position).any(axis=1) & (latest[:, _POSITION] != NEVER)
    here, there = (np.where(moved[:, None], p, 0) for p in (row.position, last_position))
    distance = kilometres(here, there)
    hours = np.abs(row.time - np.where(moved, latest[:, _POSITION], row.time)) / 3.6e9
    return {
        "foreign": given & (row.home != 0) & (row.home != row.hashes[:, _OF_COUNTRY]),
        "country_change": np.where(changed, np.exp(-since / TRAVEL_MEMORY), 0),
        "speed": np.log1p(np.minimum(distance / (hours + TRAVEL_SLACK), TOP_SPEED)),
        "distance": np.log1p(distance),
    }


def _hours_and_bursts(
    past: _Past, row: Columns, log_amount: np.ndarray, waves: np.ndarray
) -> dict[str, np.ndarray]:
    """Rarity of the hour, as minus the log of a Fejér density of the own hours (1: even), and tiny amounts."""
    steady = density = past.sum("payments", MONTH)
    for term in (past.sum(WAVES, MONTH) * waves * _DENSITY).T:
        density = density + term
    tiny, (day, time) = past.sum("tiny_payments", BURST), np.divmod(row.time, int(DAY * 1e6))
    return {
        "hour": time / (HOUR * 1e6),
        "weekday": (day + 3) % 7,
        "hour_surprise": -np.log((np.maximum(density, 0) + 3) / (steady + 3)),
        "tiny_burst": np.log1p(tiny + (row.amount <= TINY_AMOUNT)),
        "large_after_tiny": np.log1p(tiny) * np.maximum(log_amount - np.log1p(TINY_AMOUNT), 0),
    }


class _Shares:
    """Known frauds of entities against the shop's times the entities' share of the payments."""

    def __init__(self, frauds: np.ndarray, at_merchant: np.ndarray, seen: Seen, columns: Columns):
        self._counts = dict(zip(COUNTED, seen.counts.T, strict=True)) | {"merchant": at_merchant}
        self._entities = columns.entities
        self._frauds = frauds[:, :, [REPORT_WINDOWS.index(window) for window in LIFT_WINDOWS]]

    def lifts(self, kind: str) -> np.ndarray:
        """(N, len(LIFT_WINDOWS)), 0 where a payment names no entity of this kind."""
        share = np.minimum(self._counts[kind] / np.maximum(self._counts[SHOP], 1), 1)
        expected = self._frauds[:, KINDS.index(SHOP)] * share[:, None]
        lift = np.log((self._frauds[:, KINDS.index(kind)] + 1) / (expected + 1))
        return np.where(self._entities[kind].codes[:, None] >= 0, lift, 0)


def _extras(
    state: np.ndarray, index: np.ndarray, columns: Columns, history: np.ndarray, measures: np.ndarray | None,
    seen: Seen | None, shares: _Shares | None,
) -> Iterator[tuple[str, np.ndarray]]:  # fmt: skip
    """Names and values (N,) of the features of the fields that any row has; the rows are added to the states."""
    for number, name in enumerate(NUMBERS):
        if name in columns.entities and measures is not None:
            level = measures[:, number, 0]
            yield f"{name}_ratio", extras.against_habit(state, index, columns.time, level, number)
            if seen is not None:
                count = seen.counts[:, COUNTED.index(name)]
                z, amount_z = extras.against_shop(measures[:, number], count, seen.sums[:, number]).T
                yield f"{name}_z", z
                yield f"{name}_amount_z", amount_z
    for category, name in enumerate(CATEGORIES):
        if name in columns.entities:
            hashes = _hashes(columns.entities[name])
            yield f"new_{name}", extras.novelty(state, index, columns.time, hashes, history, category)
            if seen is not None:
                of_value, of_all = seen.counts[:, COUNTED.index(name)], seen.counts[:, COUNTED.index(SHOP)]
                yield f"{name}_rarity", np.where(hashes != 0, extras.rarity(of_value, of_all), 0)
            if shares is not None:
                for window, lift in zip(LIFT_WINDOWS, shares.lifts(name).T, strict=True):
                    yield f"{name}_fraud_lift_{window}d", lift


def _merchant(
    state: np.ndarray, index: np.ndarray, time: np.ndarray, quantities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The features (N, len(MERCHANT_FEATURES)) of payments against their merchant's habit, and its payments."""
    rounds = Rounds(index)
    old, new = state[rounds.entities], state[rounds.entities]
    time, quantities = time[rounds.order], quantities[rounds.order]
    latest = Latest(rounds, np.stack([time, -time], axis=1), np.column_stack([old["latest"], -old["first"]]))
    past = _past(rounds, latest, old, new, time, quantities, aggregates.MERCHANT)
    state[rounds.entities] = new

    log_amount = quantities[:, _LOG_AMOUNT]
    habit = _habit(past, MONTH, log_amount)
    rates = dict(
        zip(
            WINDOWS,
            np.log((past.sum("payments", WINDOWS) + 1) / (past.expected(habit.rate) + 1)).T,
            strict=True,
        )
    )
    in_a_day = past.sum("payments", DAY)
    mean_of_a_day = (past.sum("log_amount", DAY) - in_a_day * habit.mean) / (in_a_day + 1)
    exposure = MONTH * -np.expm1(-past.age / MONTH)
    expected_tiny = past.sum("tiny_payments", MONTH) / exposure * BURST
    values = {
        "merchant_amount_z": habit.deviations(log_amount),
        "merchant_rate_1h": np.where(habit.there, rates[HOUR], 0),
        "merchant_rate_1d": np.where(habit.there, rates[DAY], 0),
        "merchant_mean_1d": np.where(habit.there, mean_of_a_day, 0),
        "merchant_tiny": np.log((past.sum("tiny_payments", BURST) + 1) / (expected_tiny + 1)),
        "merchant_history": np.log1p(np.minimum(past.payments, 500)),
    }
    payments = np.empty_like(habit.payments)
    payments[rounds.order] = habit.payments
    return _in_order(rounds, values, MERCHANT_FEATURES), payments
