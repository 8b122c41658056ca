"""Two or more sides that take turns, and how many times faster the one is."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median


class BenchmarkFailed(RuntimeError):
    """A side could not be measured; the message says why."""


@dataclass(frozen=True)
class Side:
    """A way to do something. `cost` does it once more and returns the seconds that one item took."""

    name: str
    cost: Callable[[], float]


@dataclass(frozen=True)
class Comparison:
    """What an item costs on both sides (medians over rounds), and the median of the rounds' ratios with its extremes.

    `ratio` is how many times faster `ours` is.
    """

    what: str
    item: str
    ours: str
    other: str
    ours_microseconds: float
    other_microseconds: float
    ratio: float
    lowest: float
    highest: float
    rounds: int


def compare(what: str, item: str, ours: Sequence[Side], other: Side, rounds: int) -> list[Comparison]:
    """Each of `ours` against `other`; in every second round the sides take turns in reverse.

    Args:
        item: what the cost is of: "transaction", "row".
    """
    return compare_pairs(what, item, [(side, other) for side in ours], rounds)


def compare_pairs(what: str, item: str, pairs: Sequence[tuple[Side, Side]], rounds: int) -> list[Comparison]:
    """Ours against the other side of each pair; a side that occurs in several pairs runs once in a round."""
    ours, others = zip(*pairs, strict=True)
    sides = list({side.name: side for side in (*ours, *others)}.values())
    costs: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            costs[side.name].append(side.cost())
    return [_comparison(what, item, mine.name, other.name, costs) for mine, other in pairs]


def _comparison(what: str, item: str, ours: str, other: str, costs: dict[str, list[float]]) -> Comparison:
    ratios = [theirs / mine for mine, theirs in zip(costs[ours], costs[other], strict=True)]
    medians = median(costs[ours]) * 1e6, median(costs[other]) * 1e6
    return Comparison(
        what, item, ours, other, *medians, median(ratios), min(ratios), max(ratios), len(ratios)
    )


def timed(work: Callable[[], object], items: int, clock: Callable[[], float] = time.process_time) -> float:
    """Seconds that one of `items` takes; of this process's processor time unless another clock is given."""
    begin = clock()
    work()
    return (clock() - begin) / items


@contextmanager
def held_objects_left_alone() -> Iterator[None]:
    """No side pays for looking through what the benchmark itself holds: the collector sees only what is made within."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
