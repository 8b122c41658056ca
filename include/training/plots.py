"""Figures of a training run, drawn without a display and without matplotlib's global state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from include.training.evaluation import Day, LabelledScores, Ranking

HONEST, FRAUD, LINE = "#4c78a8", "#e45756", "#54585f"


BINS = 10  # of the reliability, each with as many frauds expected


def training(
    later: LabelledScores,
    threshold: float,
    per_day: Sequence[Day],
    probable: LabelledScores | None = None,
) -> dict[str, Figure]:
    """The figures of a model's later time, by name; only those with data to show.

    Args:
        probable: later rows whose scores are probabilities that were learned before them.
    """
    figures: dict[str, Figure] = {}
    if len(later):
        figures["score_distribution"] = score_distribution(later, threshold)
    if later.fraud.any():
        figures["precision_recall"] = precision_recall(later)
        figures["per_day"] = daily(per_day)
    if probable is not None and probable.fraud.any():
        figures["reliability"] = reliability(probable)
    return figures


def score_distribution(scored: LabelledScores, threshold: float) -> Figure:
    """Scores of honest and of fraudulent transactions, and the threshold; counts on a logarithmic scale."""
    figure, axes = _axes("Scores on later transactions", "score (higher is more suspicious)", "transactions")
    bins = np.linspace(
        min(scored.score.min(), threshold), max(scored.score.max(), threshold) + 1e-9, 60
    ).tolist()
    axes.hist(scored.score[~scored.fraud], bins, color=HONEST, alpha=0.7, label="not fraud")
    if scored.fraud.any():
        axes.hist(scored.score[scored.fraud], bins, color=FRAUD, alpha=0.7, label="fraud")
    axes.axvline(threshold, color=LINE, linestyle="--", label=f"threshold {threshold:.3f}")
    axes.set_yscale("log")
    axes.legend()
    return figure


def precision_recall(scored: LabelledScores) -> Figure:
    """Precision against recall for every threshold, and the point of the threshold in use."""
    ranking = Ranking(scored.fraud, scored.score)
    caught = np.cumsum(ranking.fraud)[ranking.ends]
    flagged = ranking.ends + 1
    figure, axes = _axes(
        f"Precision and recall, average precision {ranking.areas()[1]:.3f}", "recall", "precision"
    )
    axes.step(caught / caught[-1], caught / flagged, where="post", color=HONEST)
    if scored.alert.any():
        right = (scored.alert & scored.fraud).sum()
        axes.plot(
            right / scored.fraud.sum(), right / scored.alert.sum(), "o", color=FRAUD, label="threshold in use"
        )
        axes.legend()
    axes.axhline(scored.fraud.mean(), color=LINE, linestyle=":")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    return figure


def reliability(probable: LabelledScores) -> Figure:
    """Share of fraud against the probability that the model gave, in bins in each of which as many are expected."""
    order = np.argsort(probable.score, kind="stable")
    expected = np.cumsum(probable.score[order])
    ends = np.unique(np.searchsorted(expected, expected[-1] * np.arange(1, BINS) / BINS) + 1)
    parts = [part for part in np.split(order, ends) if len(part)]
    given = [probable.score[part].mean() for part in parts]
    known = [probable.fraud[part].mean() for part in parts]
    figure, axes = _axes(
        "Reliability on the later half", "probability of fraud given", "share of known fraud"
    )
    axes.plot((0, 1), (0, 1), color=LINE, linestyle=":")
    axes.plot(given, known, "o-", color=FRAUD)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    return figure


def daily(per_day: Sequence[Day]) -> Figure:
    """Precision, recall and average precision of each UTC day."""
    figure, axes = _axes("Each day of the later time", "day (UTC)", "")
    days = np.array([day["day"] for day in per_day], "datetime64[D]")
    for label, color, values in (
        ("precision", HONEST, [day["precision"] for day in per_day]),
        ("recall", FRAUD, [day["recall"] for day in per_day]),
        ("average precision", LINE, [day["average_precision"] for day in per_day]),
    ):
        numbers = [np.nan if value is None else value for value in values]
        axes.plot(days, numbers, "o-", color=color, label=label)
    axes.set_ylim(0, 1.02)
    axes.legend()
    figure.autofmt_xdate(bottom=0.2)
    return figure


def _axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4.2))
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes
