"""Isolation Forest: what few random cuts separate from the rest is suspicious. Can do without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest

from include.features.definitions import FEATURES, NEUTRAL, SUSPICIOUS
from include.models import selection, tree_ensemble
from include.models.reference import reference
from include.models.scorer import Scorer
from include.models.surprise import Surprise, surprises
from include.models.vectors import checked

FEWEST_FRAUDS = 10  # known, from which on they choose: docs/decisions/0008-models-fit-themselves.md
CANDIDATES = 50  # best single columns and sides that get trees to choose from
CANDIDATE_TREES = 25


class IsolationForestDetector(BaseEstimator):
    """Isolation Forest of trees that see one column each; it chooses the columns when it is fitted.

    The score is 2^(-E[h(x)] / c(samples)) with h(x) the depth at which a tree isolates x (Liu, Ting and Zhou,
    "Isolation Forest", ICDM 2008): near 1 is suspicious, below 0.5 is ordinary. A tree sees the surprise
    -log P(X >= x) of one column on one of its sides (`include.models.surprise`), so that every column has the same
    scale and only its suspicious side isolates.

    Which columns and sides get how many trees is chosen by the known frauds (`include.models.selection`). With fewer
    than `FEWEST_FRAUDS` of them every feature of `include.features.definitions.SUSPICIOUS` gets as many, on its high
    side; and in vectors of another width, whose columns nobody knows, both sides of all.

    Args:
        trees: number of trees.
        samples: rows that each tree sees, or all when there are fewer.
        seed: of every random choice.

    >>> rng = np.random.default_rng(1)
    >>> X = rng.normal(size=(1000, 3)).astype(np.float32)
    >>> X[0] = 6
    >>> detector = IsolationForestDetector(seed=1).fit(X)
    >>> scores = detector.score(X)
    >>> int(scores.argmax()), bool(scores[0] > 0.6), bool(np.median(scores) < 0.5)
    (0, True, True)
    >>> fast = detector.scorer(threshold=0.6, version=1, feature_set=2)
    >>> bool(np.allclose(fast.score(X), scores, atol=1e-6))
    True
    """

    family = "isolation_forest"
    supervised = False
    trusted_types = (
        "include.models.isolation_forest.IsolationForestDetector",
        "include.models.surprise.Surprise",
        "sklearn.tree._tree.Tree",
    )

    calibration_ = (1.0, 0.0)  # never changed: its scores are no probabilities

    def __init__(self, trees: int = 100, samples: int = 1024, seed: int = 0):
        self.trees = trees
        self.samples = samples
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray | None = None) -> Self:
        """Choose columns and grow trees on all rows of X; y only helps to choose.

        Raises:
            ValueError: fewer than two rows, or no column has two values.
        """
        X = checked(X)
        if len(X) < 2:
            raise ValueError(f"an isolation forest needs at least 2 rows to separate, got {len(X)}")
        self.n_features_in_ = X.shape[1]
        neutral = NEUTRAL if X.shape[1] == len(FEATURES) else np.full(X.shape[1], np.nan)
        candidates = list(surprises(X, neutral))
        if not candidates:
            raise ValueError("an isolation forest needs a column that varies: every row has the same values")
        self.frauds_ = 0 if y is None else int((np.asarray(y) == 1).sum())
        if y is not None and self.frauds_ >= FEWEST_FRAUDS:
            shares = self._chosen_by_frauds(X, np.asarray(y), candidates)
        else:
            shares = _chosen_without_labels(candidates, X.shape[1])
        trees = _apportioned(shares, self.trees)
        self.surprises_ = [candidates[at] for at in trees]
        self.forests_ = [
            self._forest(surprise, X, count, self.seed + at)
            for at, (surprise, count) in enumerate(zip(self.surprises_, trees.values(), strict=True))
        ]
        self.reference_ = reference(X, self.columns_)
        return self

    @property
    def columns_(self) -> np.ndarray:
        """(C,) indices of the columns that the trees see."""
        return np.unique([surprise.column for surprise in self.surprises_])

    def score(self, X: np.ndarray) -> np.ndarray:
        """Scores (N,) in [0, 1], higher is more suspicious."""
        X = checked(X, self.n_features_in_)
        depth = np.zeros(len(X))
        for surprise, depths in zip(self.surprises_, self._depths(), strict=True):
            depth += depths[surprise.step(X)]
        return np.exp2(-depth)

    def calibrate(self, slope: float, shift: float) -> Self:
        """Raises TypeError: what a forest scores is a depth, not a probability."""
        raise TypeError("the scores of an isolation forest are no probabilities of fraud")

    def to_onnx(self) -> bytes:
        """One TreeEnsembleRegressor with a tree of all steps for each column and side, then 2^-sum."""
        trees = [
            tree_ensemble.staircase(surprise.column, surprise.side, surprise.edges, depths)
            for surprise, depths in zip(self.surprises_, self._depths(), strict=True)
        ]
        width = self.n_features_in_
        return tree_ensemble.model(trees, width=width, base=0, scale=-np.log(2), activation="Exp")

    def scorer(self, *, threshold: float, version: int, feature_set: int) -> Scorer:
        """The fast form."""
        return Scorer(self.to_onnx(), self.reference_, threshold, version, feature_set, self.family)

    def _depths(self) -> list[np.ndarray]:
        """For each column and side, what each of its steps adds to the mean depth over c(samples) of all trees."""
        trees = [len(forest.estimators_) for forest in self.forests_]
        return [
            _depth(forest, surprise) * count / sum(trees)
            for forest, surprise, count in zip(self.forests_, self.surprises_, trees, strict=True)
        ]

    def _forest(self, surprise: Surprise, X: np.ndarray, trees: int, seed: int) -> IsolationForest:
        forest = IsolationForest(n_estimators=trees, max_samples=min(self.samples, len(X)), random_state=seed)
        return forest.fit(surprise.values[surprise.step(X)][:, None])

    def _chosen_by_frauds(
        self, X: np.ndarray, y: np.ndarray, candidates: Sequence[Surprise]
    ) -> dict[int, float]:
        """The share of the trees of each chosen candidate, by average precision on the rows with settled labels."""
        parts = selection.blocks(y, np.random.default_rng(self.seed))
        alone = selection.singles(
            parts, [np.stack([surprise.step(X[part.rows]) for surprise in candidates]) for part in parts]
        )
        best = np.argsort(-alone, kind="stable")[:CANDIDATES].tolist()
        depths = [_depth(self._forest(candidates[at], X, CANDIDATE_TREES, at), candidates[at]) for at in best]
        scores = [
            np.stack(
                [-depth[candidates[at].step(X[part.rows])] for at, depth in zip(best, depths, strict=True)]
            )
            for part in parts
        ]
        return {best[at]: share for at, share in selection.shares(parts, scores).items()}


def _chosen_without_labels(candidates: Sequence[Surprise], width: int) -> dict[int, float]:
    """Equal shares of the candidates that a high value makes suspicious, or of all where columns are not known."""
    known = [FEATURES.index(name) for name in SUSPICIOUS] if width == len(FEATURES) else []
    suspicious = [
        at for at, surprise in enumerate(candidates) if surprise.column in known and surprise.side == 1
    ]
    chosen = suspicious or range(len(candidates))
    return dict.fromkeys(chosen, 1 / len(chosen))


def _apportioned(shares: dict[int, float], trees: int) -> dict[int, int]:
    """Whole numbers of trees by the largest remainders; who gets none is left out.

    >>> _apportioned({4: 0.5, 7: 0.3, 9: 0.2}, 4)
    {4: 2, 7: 1, 9: 1}
    >>> _apportioned({4: 0.5, 7: 0.3, 9: 0.2}, 1)
    {4: 1}
    """
    counts = {at: int(trees * share + 1e-9) for at, share in shares.items()}
    by_remainder = sorted(shares, key=lambda at: counts[at] - trees * shares[at])
    for at in by_remainder[: trees - sum(counts.values())]:
        counts[at] += 1
    return {at: count for at, count in counts.items() if count}


def _depth(forest: IsolationForest, surprise: Surprise) -> np.ndarray:
    """(S + 1,) the mean depth over c(samples) at each step of a column."""
    depth: np.ndarray = -np.log2(-forest.score_samples(surprise.values[:, None]))
    return depth
