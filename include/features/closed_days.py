"""What a Kafka partition has seen over its closed days: how often values occur, and the usual numbers.

The partition's clock is the newest UTC day of its rows so far. A row sees the payments of the days before that day; a
payment of age a days weighs exp(-a / MEMORY). The open day takes effect when the next one begins, so that all rows of
a day see the same sums. A late row sees what the others see, and counts with the open day, at the weight of its own
age. Sums do not depend on how the rows are split into batches, to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from include.events.transaction import CATEGORIES, NUMBERS
from include.features.entities import SHOP, Coded

DAY = 86_400_000_000  # microseconds
MEMORY = 30.0  # days
# Kinds of values; the shop's state holds the partition's clock. A field of NUMBERS is one value: that it is given.
COUNTED = (SHOP, "category", "country", *CATEGORIES, *NUMBERS)
MEASURES = 4  # that are summed up for a number, beside the count

_FIRST_NUMBER = len(COUNTED) - len(NUMBERS)

DAY_STATE = np.dtype([
    ("layout", "<u2"),
    ("day", "<i4"),  # since 1970, the open one
    ("closed", "<f8"),  # decayed payments of the days before
    ("open", "<f8"),  # payments of the open day
    ("closed_sums", "<f8", (MEASURES,)),  # the same of the measures of a number
    ("open_sums", "<f8", (MEASURES,)),
])  # fmt: skip


class Seen(NamedTuple):
    """What N rows find: payments with their values (N, len(COUNTED)), sums (N, len(NUMBERS), MEASURES)."""

    counts: np.ndarray
    sums: np.ndarray


def values_of(entities: Mapping[str, Coded]) -> Coded:
    """The ids of N rows' states, and which of them each row has of each kind in `COUNTED`: codes (N, len(COUNTED)).

    >>> day = {"shop": Coded([""], np.zeros(2, int)), "country": Coded(["kenya"], np.array([0, -1]))}
    >>> values, codes = values_of(day)
    >>> values, codes[:, :3].tolist()
    (['shop:', 'country:kenya'], [[0, -1, 1], [0, -1, -1]])
    """
    ids: list[str] = []
    codes = np.full((len(entities[SHOP].codes), len(COUNTED)), -1)
    for column, kind in enumerate(COUNTED):
        if kind in entities:
            values, of_kind = entities[kind]
            codes[:, column] = np.where(of_kind >= 0, of_kind + len(ids), -1)
            ids += [f"{kind}:{value}" for value in values]
    return Coded(ids, codes)


def see(state: np.ndarray, codes: np.ndarray, time: np.ndarray, measures: np.ndarray | None = None) -> Seen:
    """What N rows in log order find of their values; each row is then added.

    Args:
        state: (V,) of `DAY_STATE`, changed in place.
        codes: (N, len(COUNTED)) which state each row's values have, -1 for none; the shop's is given.
        time: (N,) microseconds since 1970.
        measures: (N, len(NUMBERS), MEASURES) of the rows' numbers, needed where codes name numbers.

    Two payments on a day, one on the next, and one on the day after that:

    >>> state, codes = np.zeros(1, DAY_STATE), np.where(np.arange(len(COUNTED)) == 0, 0, np.full((4, 1), -1))
    >>> seen = see(state, codes, np.array([5, 5, 6, 7]) * DAY)
    >>> seen.counts[:, :1].round(2).T.tolist()
    [[0.0, 0.0, 2.0, 2.93]]
    """
    seen = Seen(np.zeros(codes.shape), np.zeros((len(codes), len(NUMBERS), MEASURES)))
    if not len(time):
        return seen
    day = time // DAY
    clock = np.maximum(np.maximum.accumulate(day), state["day"][codes[0, 0]])
    weight = np.exp((day - clock) / MEMORY)
    edges = [0, *(np.flatnonzero(np.diff(clock)) + 1).tolist(), len(clock)]
    opened, closed, open_ = state["day"], state["closed"], state["open"]
    closed_sums, open_sums = state["closed_sums"], state["open_sums"]
    for first, end in zip(edges, edges[1:], strict=False):
        now, of_rows = int(clock[first]), codes[first:end]
        row, column = np.nonzero(of_rows >= 0)
        value = of_rows[row, column]
        touched = np.zeros(len(state), bool)
        touched[value] = True
        stale = np.flatnonzero(touched & (opened < now))
        age = (now - opened[stale]) / MEMORY
        faded, of_last_day = np.exp(-age), np.exp(1 / MEMORY - age)
        closed[stale] = closed[stale] * faded + open_[stale] * of_last_day
        open_[stale] = 0
        seen.counts[first + row, column] = closed[value]
        np.add.at(open_, value, weight[first + row])
        if measures is not None:
            closed_sums[stale] = closed_sums[stale] * faded[:, None] + open_sums[stale] * of_last_day[:, None]
            open_sums[stale] = 0
            numbers = np.flatnonzero(column >= _FIRST_NUMBER)
            row, number, value = first + row[numbers], column[numbers] - _FIRST_NUMBER, value[numbers]
            seen.sums[row, number] = closed_sums[value]
            np.add.at(open_sums, value, weight[row, None] * measures[row, number])
        opened[stale] = now
    return seen
