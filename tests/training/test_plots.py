"""The figures hold what they say, and cases without fraud or alerts draw what there is."""

from dataclasses import replace

import numpy as np
import pytest

from include.training import evaluation, plots
from include.training.evaluation import LabelledScores

N = 200


def later(fraud: np.ndarray, alert: np.ndarray) -> LabelledScores:
    score = np.linspace(0, 1, N)
    return LabelledScores(
        np.arange(N), np.arange(N) * 3600.0, np.ones(N), score, alert, fraud, np.full(N, "", object)
    )


def figures(scored: LabelledScores) -> dict:
    measured = evaluation.metrics(scored, draws=0, rng=np.random.default_rng(0))
    return plots.training(scored, 0.95, measured["per_day"])


def test_every_figure_is_drawn_from_the_later_rows(tmp_path):
    fraud, alert = np.arange(N) % 10 == 9, np.arange(N) >= 190
    drawn = figures(later(fraud, alert))
    assert set(drawn) == {"score_distribution", "precision_recall", "per_day"}
    for name, figure in drawn.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000
    (point,) = [line for line in drawn["precision_recall"].axes[0].lines if line.get_marker() == "o"]
    assert point.get_xydata().tolist() == [[1 / 20, 1 / 10]]
    assert len(drawn["per_day"].axes[0].lines[0].get_xdata()) == 9
    bars = sum(patch.get_height() for patch in drawn["score_distribution"].axes[0].patches)
    assert bars == N


def test_without_fraud_only_the_scores_are_drawn():
    nothing = np.zeros(N, bool)
    assert set(figures(later(nothing, nothing))) == {"score_distribution"}
    assert plots.training(later(nothing, nothing)[nothing], 0.9, []) == {}


def test_reliability_compares_given_and_known_shares():
    score = np.repeat([0.1, 0.8], [160, 40])
    fraud = np.arange(N) % 10 == 0
    fraud[160:] = np.arange(40) % 5 != 0
    scored = replace(later(fraud, score > 0.5), score=score)
    assert evaluation.reliability(scored) == {
        "transactions": N, "expected": pytest.approx(48), "frauds": 48,
        "expected_in_alerts": pytest.approx(32), "frauds_in_alerts": 32,
    }  # fmt: skip
    figure = plots.training(scored, 0.5, [], scored)["reliability"]
    (_, drawn) = figure.axes[0].lines
    given, known = drawn.get_xydata().T
    assert given[-1] == pytest.approx(0.8) and known[-1] == pytest.approx(0.8, abs=0.25)
