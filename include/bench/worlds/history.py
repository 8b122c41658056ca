"""The common shape of the simulated histories: transactions in order of time, the truth, and what became known.

A simulator draws blocks of payments as mappings from field to array; `history` joins and sorts them. Fields
of `include.events.transaction.Transaction` have their names; a field that no block has is missing in every
transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from include.events.transaction import CATEGORIES, NUMBERS, Transaction
from include.generator.hashing import hashed, salt

SECOND = 1_000_000  # times are microseconds since 1970
HOUR, DAY = 3_600 * SECOND, 86_400 * SECOND

Block = Mapping[str, np.ndarray]
"""Arrays (N,): `time`, `user_id`, `amount`, `scenario` ('' for honest payments), other fields of a transaction or of
the shop's own; None or NaN where a value is missing."""


@dataclass(frozen=True)
class Reports:
    """How fraud becomes known.

    Attributes:
        median, spread: of the delay's log-normal distribution; the median in days, the spread of its logarithm.
        least, most: bounds of the delay in days.
        reported: share of the frauds that are reported at all.
        wrong: share of the honest payments that are reported as fraud.
    """

    median: float
    spread: float
    least: float = 0.05
    most: float = 60.0
    reported: float = 1.0
    wrong: float = 0.0


@dataclass(frozen=True)
class Labels:
    """L reports: the transaction's row, whether it is called fraud, and when that became known (microseconds)."""

    row: np.ndarray
    fraud: np.ndarray
    known_at: np.ndarray


@dataclass(frozen=True)
class History:
    """N transactions in order of time.

    Attributes:
        time: (N,) int64 microseconds since 1970.
        fields: other fields of `Transaction`, arrays (N,) of objects; absent where the shop has none.
        numbers: the shop's own numeric fields, (N,) float64, NaN where missing.
        categories: the shop's own categorical fields, (N,) objects, None where missing.
        fraud, scenario: the truth; '' for honest payments.
    """

    time: np.ndarray
    fields: dict[str, np.ndarray]
    numbers: dict[str, np.ndarray]
    categories: dict[str, np.ndarray]
    scenario: np.ndarray
    labels: Labels

    @property
    def fraud(self) -> np.ndarray:
        return np.asarray(self.scenario != "")

    @property
    def names(self) -> dict[str, str]:
        """What the shop calls its own fields."""
        return dict(zip(NUMBERS, self.numbers, strict=False)) | dict(
            zip(CATEGORIES, self.categories, strict=False)
        )

    def __len__(self) -> int:
        return len(self.time)

    def transactions(self) -> list[Transaction]:
        """The payments as the platform reads them, with the shop's own fields in their order."""
        numbers = [given(column, ~np.isnan(column)) for column in self.numbers.values()]
        own = dict(zip(NUMBERS, numbers, strict=False)) | dict(
            zip(CATEGORIES, self.categories.values(), strict=False)
        )
        values = {name: column.tolist() for name, column in (self.fields | own).items()}
        values["timestamp"] = [datetime.fromtimestamp(at / SECOND, UTC) for at in self.time.tolist()]
        values["transaction_id"] = [f"t{row}" for row in range(len(self))]
        missing = [None] * len(self)
        columns = [values.get(name, missing) for name in Transaction.__struct_fields__]
        return [Transaction(*row) for row in zip(*columns, strict=True)]


def history(blocks: Sequence[Block], reports: Reports, rng: np.random.Generator) -> History:
    """The blocks in one order of time, with the reports that come of them."""
    names = {name: block[name].dtype for block in blocks for name in block}
    joined = {}
    for name, kind in names.items():
        number = np.issubdtype(kind, np.number)
        parts = [
            block.get(
                name, np.full(len(block["time"]), np.nan if number else None, float if number else object)
            )
            for block in blocks
        ]
        joined[name] = np.concatenate([part if number else part.astype(object) for part in parts])
    order = np.argsort(joined["time"], kind="stable")
    joined = {name: values[order] for name, values in joined.items()}
    time, scenario = joined.pop("time"), joined.pop("scenario").astype(str)
    joined["amount"] = np.round(np.maximum(joined["amount"], 0.01), 2)
    own = {name for name in joined if name not in Transaction.__struct_fields__}
    numeric = {name for name in own if np.issubdtype(joined[name].dtype, np.number)}
    return History(
        time=time.astype(np.int64),
        fields={name: joined[name] for name in joined if name not in own},
        numbers={name: joined[name].astype(float) for name in joined if name in numeric},
        categories={name: joined[name] for name in joined if name in own - numeric},
        scenario=scenario,
        labels=_labels(time, scenario != "", reports, rng),
    )


def _labels(time: np.ndarray, fraud: np.ndarray, reports: Reports, rng: np.random.Generator) -> Labels:
    row = np.flatnonzero(rng.random(len(time)) < np.where(fraud, reports.reported, reports.wrong))
    delay = np.exp(rng.normal(np.log(reports.median), reports.spread, len(row)))
    known_at = time[row] + (np.clip(delay, reports.least, reports.most) * DAY).astype(np.int64)
    return Labels(row, np.ones(len(row), bool), known_at.astype(np.int64))


def start(year: int, month: int, day: int) -> int:
    """Midnight (UTC) of a date in microseconds."""
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * SECOND


def weighted(rng: np.random.Generator, weights: np.ndarray, n: int) -> np.ndarray:
    """(n,) places drawn in proportion to weights (K,)."""
    ends = np.cumsum(weights)
    return np.asarray(np.searchsorted(ends[:-1], rng.random(n) * ends[-1], side="right"))


def weighted_rows(rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """(N,) places, one drawn from each row of weights (N, K)."""
    ends = np.cumsum(weights, axis=1)
    return np.asarray((ends < (rng.random(len(weights)) * ends[:, -1])[:, None]).sum(axis=1))


def moments(
    rng: np.random.Generator, begin: int, by_day: np.ndarray, by_hour: np.ndarray, n: int
) -> np.ndarray:
    """(n,) times from `begin` on: days and hours of the day drawn in proportion to their weights."""
    day, hour = weighted(rng, by_day, n), weighted(rng, by_hour, n)
    return np.asarray(begin + day * DAY + hour * HOUR + rng.integers(0, HOUR, n))


def names(prefix: str, numbers: np.ndarray) -> np.ndarray:
    """(N,) ids such as 'card 5f0a91c2', whose order says nothing about the numbers (N,) that they stand for."""
    distinct, inverse = np.unique(numbers, return_inverse=True)
    mixed = hashed(salt(0, prefix), distinct) >> np.uint64(32)
    return np.array([f"{prefix} {number:08x}" for number in mixed.tolist()], object)[inverse]


def given(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(N,) the values where they are there (N,) bool, None elsewhere."""
    result = np.full(len(values), None, object)
    result[there] = values[there]
    return result


def constant(value: str, n: int) -> np.ndarray:
    return np.full(n, value, object)
