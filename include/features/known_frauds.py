"""What is known of fraud when a payment comes: the only way in which labels reach a feature.

Of each kind of entity (include.features.entities), and of the whole shop. Time is closed UTC days: a payment of day D
knows the labels that count from D or an earlier day, whichever partition it is in and however fast it came. Frauds
count for a window of days from the day after they were known. From which day a label counts,
`include.streams.known_labels` decides when it reads the label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

import numpy as np
import psycopg

from include.features.entities import KINDS, SHOP, Coded, named
from include.sql import statement

WINDOWS = (1, 7, 30)  # days
DAY = 86_400_000_000  # microseconds

_WINDOWS = np.array(WINDOWS)


class Change(NamedTuple):
    """By how many the known frauds of an entity change; a correction takes back with a negative number.

    reported is the day after the report, counts_from the day from which the change is known: both days since 1970.
    """

    kind: str
    entity: str
    reported: int
    counts_from: int
    frauds: int


def changes(entities: Mapping[str, str], reported: int, counts_from: int, frauds: int) -> Iterator[Change]:
    """What a payment with these entities (include.features.entities.entities_of) changes: also the whole shop.

    >>> [change[:2] for change in changes({"customer": "u", "country": "kenya"}, 100, 100, 1)]
    [('shop', ''), ('customer', 'u'), ('country', 'kenya')]
    """
    for kind, entity in {SHOP: "", **entities}.items():
        yield Change(kind, entity, reported, counts_from, frauds)


class KnownFrauds:
    """The known frauds of all entities on any day, in memory.

    Args:
        changes: in any order; those of one entity and day add up.

    Two frauds of a customer reported on day 99, and known on day 101:

    >>> known = KnownFrauds(changes({"customer": "u"}, 100, 101, 2))
    >>> entities = {"customer": Coded(["u", "v"], np.array([0, 0, 0, 1]))}
    >>> frauds = known.counts(entities, np.array([100, 101, 107, 107]) * DAY)
    >>> frauds[:, KINDS.index("customer")].tolist()  # in 1, 7 and 30 days
    [[0.0, 0.0, 0.0], [0.0, 2.0, 2.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]]
    """

    def __init__(self, changes: Iterable[tuple[str, str, int, int, int]] = ()):
        sums: dict[tuple[str, str], dict[tuple[int, int], int]] = {}
        for kind, entity, reported, counts_from, frauds in changes:
            days = sums.setdefault((kind, entity), {})
            days[reported, counts_from] = days.get((reported, counts_from), 0) + frauds
        self._number = {key: number for number, key in enumerate(sums)}
        self._ends = np.cumsum([0, *map(len, sums.values())])
        rows = [(*days, frauds) for of_entity in sums.values() for days, frauds in of_entity.items()]
        self._reported, self._counts_from, self._frauds = np.array(rows, np.int64).reshape(-1, 3).T

    def counts(self, entities: Mapping[str, Coded], time: np.ndarray) -> np.ndarray:
        """As `counts` of this module."""
        return _spread(entities, time, self._of_days) if self._number else _nothing(time)

    def _of_days(self, asked: _Asked) -> np.ndarray:
        known = np.zeros((len(asked.days), len(WINDOWS)))
        number = np.array(
            [self._number.get(key, -1) for key in zip(asked.kinds, asked.entities, strict=True)]
        )
        there = np.flatnonzero(number >= 0)
        first = self._ends[number[there]]
        length = self._ends[number[there] + 1] - first
        row = np.repeat(there, length)
        change = np.arange(len(row)) - np.repeat(np.cumsum(length) - length - first, length)
        days = np.array(asked.days, np.int64)[row]
        age = days - self._reported[change]
        counts = (age >= 0) & (self._counts_from[change] <= days)
        for window, within in enumerate(WINDOWS):
            weights = np.where(counts & (age < within), self._frauds[change], 0)
            known[:, window] = np.bincount(row, weights, len(known))
        return known


def counts(connection: psycopg.Connection, entities: Mapping[str, Coded], time: np.ndarray) -> np.ndarray:
    """Frauds known at N payments of their entities.

    Args:
        entities: of the payments, by kind.
        time: (N,) microseconds since 1970 of the payments.

    Returns:
        (N, len(KINDS), len(WINDOWS)) float64; 0 without an entity.
    """

    def of_days(asked: _Asked) -> np.ndarray:
        known = np.zeros((len(asked.days), len(WINDOWS)))
        rows = connection.cursor(binary=True).execute(statement("known_frauds/counts"), asked._asdict())
        for number, *frauds in rows:
            known[number] = frauds
        return known

    whole = {SHOP: Coded([""], np.zeros(len(time), np.int64))}
    if not _spread(whole, time, of_days).any():
        return _nothing(time)
    return _spread(entities, time, of_days)


def as_read(connection: psycopg.Connection) -> KnownFrauds:
    """What the stream knew, recomputed from the labels as it read them."""
    return KnownFrauds(
        change
        for *names, reported, counts_from, frauds in connection.execute(statement("known_frauds/as_read"))
        for change in changes(
            {kind: name for kind, name in zip(KINDS[1:], names, strict=True) if name},
            reported,
            counts_from,
            frauds,
        )
    )


def in_time(connection: psycopg.Connection, start: datetime, end: datetime) -> KnownFrauds:
    """What a stream that had run all along would have known of payments with event time in [start, end)."""
    cursor = connection.execute(statement("known_frauds/in_time"), {"start": start, "end": end})
    fields = [column.name for column in cursor.description or ()][:-3]
    return KnownFrauds(
        change
        for *texts, reported, counts_from, frauds in cursor
        for change in changes(named(dict(zip(fields, texts, strict=True))), reported, counts_from, frauds)
    )


class _Asked(NamedTuple):
    """Distinct entities and days (since 1970) of which known frauds are asked."""

    kinds: list[str]
    entities: list[str]
    days: list[int]


def _nothing(time: np.ndarray) -> np.ndarray:
    return np.zeros((len(time), len(KINDS), len(WINDOWS)))


def _spread(
    entities: Mapping[str, Coded], time: np.ndarray, of_days: Callable[[_Asked], np.ndarray]
) -> np.ndarray:
    """Known frauds (N, len(KINDS), len(WINDOWS)) of payments from those of their distinct entities and days (A, W)."""
    days, day = np.unique(np.asarray(time) // DAY, return_inverse=True)
    asked = _Asked([], [], [])
    position = np.full((len(time), len(KINDS)), -1)
    for column, kind in enumerate(KINDS):
        if kind not in entities:
            continue
        values, codes = entities[kind]
        given = np.flatnonzero(codes >= 0)
        if len(days) == 1:  # as almost always in a live stream
            pairs, pair = np.arange(len(values)), codes[given]
        else:
            pairs, pair = np.unique(codes[given] * len(days) + day[given], return_inverse=True)
        position[given, column] = len(asked.days) + pair
        value, on = np.divmod(pairs, len(days))
        asked.kinds.extend([kind] * len(pairs))
        asked.entities.extend([values[number] for number in value.tolist()])
        asked.days.extend(days[on].tolist())
    known = np.vstack(
        [of_days(asked) if asked.days else np.zeros((0, len(WINDOWS))), np.zeros((1, len(WINDOWS)))]
    )
    return known[position]
