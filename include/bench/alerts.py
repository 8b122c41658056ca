"""Alerts of every world with their reasons, for people to read: `python -m include.bench.alerts --count 3`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from include.bench.detection import ALERT_RATE, champion, dataset
from include.bench.worlds import WORLDS
from include.bench.worlds.history import History
from include.features.behaviour import FEATURE_SET
from include.models.explain import reasons
from include.training.thresholds import threshold_at


class Alert(NamedTuple):
    """An alert as an analyst gets it, the family of the model that raised it, and the truth."""

    world: str
    family: str
    fraud: bool
    texts: list[str]


def alerts(world: str, history: History, count: int, seed: int = 0) -> Iterator[Alert]:
    """Up to `count` alerts, drawn from all that the champion raises at `ALERT_RATE` in a history's later part."""
    data, transactions = dataset(world, history), history.transactions()
    with threadpool_limits(1):
        detector = champion(data).again
    later = np.arange(data.later.start, len(transactions))
    scores = detector.score(data.vectors[later])
    threshold = threshold_at(scores, ALERT_RATE)
    raised = later[scores >= threshold]
    rows = np.random.default_rng(seed).choice(raised, min(count, len(raised)), replace=False)
    scorer = detector.scorer(threshold=threshold, version=1, feature_set=FEATURE_SET)
    explained = reasons(scorer, data.vectors[rows], [transactions[row] for row in rows], names=history.names)
    for row, given in zip(rows, explained, strict=True):
        yield Alert(world, detector.family, bool(data.fraud[row]), [reason["text"] for reason in given])


def table(count: int, seed: int, makers: Mapping[str, Callable[[int], History]] = WORLDS) -> Iterator[str]:
    """Lines of a Markdown table with alerts of the worlds of a seed."""
    yield "| World | Family | Truth | Reasons |"
    yield "|---|---|---|---|"
    for world, make in makers.items():
        for alert in alerts(world, make(seed), count):
            truth = "fraud" if alert.fraud else "honest"
            yield f"| {world} | {alert.family} | {truth} | {'; '.join(alert.texts)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3, help="alerts of each world")
    parser.add_argument("--seed", type=int, default=24, help="of the worlds")
    arguments = parser.parse_args()
    for line in table(arguments.count, arguments.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()
