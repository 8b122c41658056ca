"""Which columns an Isolation Forest of one-column trees looks at, chosen by the frauds that are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BLOCKS = 3  # of consecutive time with equally many frauds: a choice must serve all of them
HONEST = 10_000  # rows of a block, drawn when there are more
POOL = 40  # best single columns, which a search combines
STARTS = 6  # best single columns that a search starts from; the results are averaged
MOST = 10  # columns of one search, with repetition
GAIN = 1.01  # a step must raise the mean average precision by so much
PATIENCE = 2  # steps without a gain that end a search


class Block(NamedTuple):
    """Rows of one block of time, whether each is a fraud, and how many rows it stands for.

    >>> Block(np.array([4, 7]), np.array([True, False]), np.array([1.0, 12.5])).rows.tolist()
    [4, 7]
    """

    rows: np.ndarray
    fraud: np.ndarray
    weight: np.ndarray


def blocks(y: np.ndarray, rng: np.random.Generator) -> list[Block]:
    """Consecutive blocks of the rows whose label is settled, each with as many frauds.

    Args:
        y: (N,) 1 fraud, 0 honest, -1 not settled; rows in order of time, at least `BLOCKS` frauds.

    >>> parts = blocks(np.array([0, 1, 0, -1, 1, 0, 1, 0]), np.random.default_rng(1))
    >>> [np.sort(part.rows).tolist() for part in parts]
    [[0, 1], [2, 4], [5, 6, 7]]
    """
    settled = np.flatnonzero(y >= 0)
    frauds = np.array_split(np.flatnonzero(y[settled] == 1), BLOCKS)
    parts = []
    for rows in np.split(settled, [part[-1] + 1 for part in frauds[:-1]]):
        fraud, honest = rows[y[rows] == 1], rows[y[rows] == 0]
        drawn = rng.choice(honest, HONEST, replace=False) if len(honest) > HONEST else honest
        weight = np.repeat([1.0, len(honest) / max(1, len(drawn))], [len(fraud), len(drawn)])
        parts.append(Block(np.append(fraud, drawn), np.arange(len(weight)) < len(fraud), weight))
    return parts


def average_precision(block: Block, score: np.ndarray) -> float:
    """Average precision of scores (rows,) on one block; equal scores are one step of the curve.

    >>> block = Block(np.arange(3), np.array([True, False, True]), np.ones(3))
    >>> round(average_precision(block, np.array([0.9, 0.8, 0.7])), 3)
    0.833
    """
    order = np.argsort(-score)
    ranked, weight = score[order], block.weight[order]
    ends = np.append(ranked[1:] != ranked[:-1], True)
    caught = np.cumsum(weight * block.fraud[order])[ends]
    flagged = np.cumsum(weight)[ends]
    return float((np.diff(caught, prepend=0.0) * caught / flagged).sum() / caught[-1])


def singles(parts: Sequence[Block], scores: Sequence[np.ndarray]) -> np.ndarray:
    """(C,) the mean over the blocks of the average precision of each column alone.

    Args:
        scores: for each block the scores (C, rows) of C columns.

    >>> block = Block(np.arange(3), np.array([True, False, True]), np.ones(3))
    >>> singles([block], [np.array([[0.9, 0.8, 0.7], [0.9, 0.1, 0.8]])]).round(3).tolist()
    [0.833, 1.0]
    """
    return np.mean(
        [[average_precision(part, row) for row in score] for part, score in zip(parts, scores, strict=True)],
        axis=0,
    )


def shares(parts: Sequence[Block], scores: Sequence[np.ndarray]) -> dict[int, float]:
    """Which columns to add up, and the share of each in the sum: the mean of greedy searches from several starts.

    Args:
        scores: as in `singles`.

    >>> rng = np.random.default_rng(1)
    >>> y = (rng.random(3000) < 0.05).astype(np.int8)
    >>> X = rng.normal(size=(3, 3000)) + 3 * y * np.array([[1], [1], [0]])
    >>> parts = blocks(y, rng)
    >>> chosen = shares(parts, [X[:, part.rows] for part in parts])
    >>> sorted(column for column, share in chosen.items() if share > 0.2)
    [0, 1]
    """
    alone = singles(parts, scores)
    pool = np.argsort(-alone, kind="stable")[:POOL].tolist()
    starts = pool[:STARTS]
    total: dict[int, float] = {}
    for start in starts:
        chosen = _search(parts, scores, start, alone[start], pool)
        for column in chosen:
            total[column] = total.get(column, 0) + 1 / len(chosen) / len(starts)
    return total


def _search(
    parts: Sequence[Block], scores: Sequence[np.ndarray], start: int, alone: float, pool: Sequence[int]
) -> list[int]:
    """The best list of columns on the greedy way from one column to `MOST`."""
    chosen, best, reached, failures = [start], 1, alone, 0
    sums = [score[start].copy() for score in scores]
    while len(chosen) < MOST and failures < PATIENCE:
        gained = [
            np.mean([average_precision(*pair) for pair in zip(parts, _added(sums, scores, j), strict=True)])
            for j in pool
        ]
        value, column = max(zip(gained, pool, strict=True))
        chosen.append(column)
        sums = _added(sums, scores, column)
        if value > reached * GAIN:
            best, reached, failures = len(chosen), float(value), 0
        else:
            failures += 1
    return chosen[:best]


def _added(sums: Sequence[np.ndarray], scores: Sequence[np.ndarray], column: int) -> list[np.ndarray]:
    return [total + score[column] for total, score in zip(sums, scores, strict=True)]
