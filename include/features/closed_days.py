"""How often values occur in a Kafka partition, over its closed days: what known frauds are set against.

The partition's clock is the newest UTC day of its rows so far. A row sees the payments of the days before that day; a
payment of age a days weighs exp(-a / MEMORY). The open day takes effect when the next one begins, so that all rows of
a day see the same counts. A late row sees what the others see, and counts with the open day, at the weight of its own
age. Counts do not depend on how the rows are split into batches, to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from include.features.entities import SHOP, Coded

DAY = 86_400_000_000  # microseconds
MEMORY = 30.0  # days
COUNTED = (SHOP, "category", "country")  # kinds of values; the shop's state holds the partition's clock

DAY_STATE = np.dtype([
    ("layout", "<u2"),
    ("day", "<i4"),  # since 1970, the open one
    ("closed", "<f8"),  # decayed payments of the days before
    ("open", "<f8"),  # payments of the open day
])  # fmt: skip


def values_of(entities: Mapping[str, Coded]) -> Coded:
    """The ids of N rows' states, and which of them each row has of each kind in `COUNTED`: codes (N, len(COUNTED)).

    >>> day = {"shop": Coded([""], np.zeros(2, int)), "country": Coded(["kenya"], np.array([0, -1]))}
    >>> values, codes = values_of(day)
    >>> values, codes.tolist()
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


def counts(state: np.ndarray, codes: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Payments (N, len(COUNTED)) that N rows in log order find of their values; each row is then counted.

    Args:
        state: (V,) of `DAY_STATE`, changed in place.
        codes: (N, len(COUNTED)) which state each row's values have, -1 for none; the shop's is given.
        time: (N,) microseconds since 1970.

    Two payments on a day, one on the next, and one on the day after that:

    >>> state = np.zeros(1, DAY_STATE)
    >>> seen = counts(state, np.zeros((4, 1), int), np.array([5, 5, 6, 7]) * DAY)
    >>> seen.round(2).T.tolist()
    [[0.0, 0.0, 2.0, 2.93]]
    """
    seen = np.zeros(codes.shape)
    if not len(time):
        return seen
    day = time // DAY
    clock = np.maximum(np.maximum.accumulate(day), state["day"][codes[0, 0]])
    weight = np.exp((day - clock) / MEMORY)
    edges = [0, *(np.flatnonzero(np.diff(clock)) + 1).tolist(), len(clock)]
    opened, closed, open_ = state["day"], state["closed"], state["open"]
    for first, end in zip(edges, edges[1:], strict=False):
        now, of_rows = int(clock[first]), codes[first:end]
        row, column = np.nonzero(of_rows >= 0)
        value = of_rows[row, column]
        touched = np.zeros(len(state), bool)
        touched[value] = True
        stale = np.flatnonzero(touched & (opened < now))
        age = (now - opened[stale]) / MEMORY
        closed[stale] = closed[stale] * np.exp(-age) + open_[stale] * np.exp(1 / MEMORY - age)
        open_[stale], opened[stale] = 0, now
        seen[first + row, column] = closed[value]
        np.add.at(open_, value, weight[first + row])
    return seen
