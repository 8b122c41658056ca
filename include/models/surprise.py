"""How rare a value of one column is on its suspicious side: the scale on which columns can be added up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

STEPS = 512
FEWEST_BEYOND = (
    2e-4  # share of the rows that must lie beyond the neutral value: fewer are no side to learn from
)
ORDINARY = (0.01, 0.99)  # quantiles: a neutral value outside of them is not where ordinary rows lie


@dataclass(frozen=True)
class Surprise:
    """Steps x -> -log P(X >= x) of one column, or with P(X <= x) of its other side; 0 up to the neutral value.

    The steps never go down, so that a cut of the surprise is a cut of the column.

    Attributes:
        column: index of the column.
        side: 1 where high values are suspicious, -1 where low ones are.
        edges: (S,) float32 ascending, the values of `side * x` from which each next step holds.
        values: (S + 1,) float32 ascending, the surprise of each step.

    >>> high = Surprise(0, 1, np.array([1, 5], np.float32), np.array([0, 1.1, 2.2], np.float32))
    >>> high.step(np.array([[0.5], [1.0], [9.0]])).tolist()
    [0, 1, 2]
    """

    column: int
    side: int
    edges: np.ndarray
    values: np.ndarray

    def step(self, X: np.ndarray) -> np.ndarray:
        """(N,) the number of each row's step."""
        return np.searchsorted(self.edges, np.float32(self.side) * X[:, self.column], side="right")


def surprises(X: np.ndarray, neutral: np.ndarray) -> Iterator[Surprise]:
    """Both sides of every column of X (N, F) float32, without those that hardly any row lies on.

    Args:
        neutral: (F,) the value of each column that says nothing. The median takes its place where it is NaN, or
            lies outside of the quantiles `ORDINARY`: where everybody has a history, none is not what is ordinary.

    >>> X = np.array([[0.0, 7.0]] * 6 + [[1.0, 7.0], [1.0, 7.0], [5.0, 7.0]], np.float32)
    >>> (high,) = surprises(X, np.zeros(2))
    >>> high.column, high.side, high.edges.tolist(), np.allclose(high.values, np.log([1, 3, 9]))
    (0, 1, [1.0, 5.0], True)
    """
    for column in range(X.shape[1]):
        ascending = np.sort(X[:, column])
        if ascending[0] == ascending[-1]:
            continue
        low, middle, high = np.quantile(ascending, (ORDINARY[0], 0.5, ORDINARY[1]))
        ordinary = float(neutral[column])
        if not low <= ordinary <= high:  # also where it is NaN
            ordinary = float(middle)
        for side, values in ((1, ascending), (-1, -ascending[::-1])):
            if (surprise := _of_side(column, side, values, side * ordinary)) is not None:
                yield surprise


def _of_side(column: int, side: int, ascending: np.ndarray, neutral: float) -> Surprise | None:
    rows = len(ascending)
    ranks = np.unique(np.geomspace(1, rows, STEPS).round().astype(int))  # finer where values are rarer
    edges = np.unique(ascending[rows - ranks])
    beyond = (rows - np.searchsorted(ascending, edges, side="left")) / rows
    steps = (edges > neutral) & (beyond < 1)
    if not steps.any() or beyond[steps][0] < FEWEST_BEYOND:
        return None
    values = np.append(0, -np.log(beyond[steps])).astype(np.float32)
    return Surprise(column, side, edges[steps], values)
