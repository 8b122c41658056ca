"""The fast form of a detector: ONNX bytes, a threshold, and a session per process."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

import numpy as np

from include.models.reference import median, rarity
from include.models.vectors import checked

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_SESSIONS: dict[tuple[int, str], InferenceSession] = {}
ORDINARY = 0.05  # share of the training values beyond a value, from which on it is no longer unusual
Band = Literal["alert", "block"]
_KEPT_SESSIONS = 4  # champion, challenger, and the ones they replace


@dataclass(frozen=True)
class Scorer:
    """Scores feature vectors; can be pickled and sent to Spark tasks.

    Args:
        onnx: graph from float32 (N, F) to scores (N, 1).
        reference: (2 Q, F) quantiles of the training vectors (include.models.reference).
        threshold: scores at or above it are alerts.
        block_threshold: alerts at or above it are payments to decline; None for none.
        capacity: alerts that the team can read in a day; None where nothing says so.
        version: of the registered model.
        feature_set: `include.features.behaviour.FEATURE_SET` that it was trained on.
        family: kind of detector.

    >>> from include.models.isolation_forest import IsolationForestDetector
    >>> X = np.random.default_rng(1).normal(size=(1000, 3)).astype(np.float32)
    >>> scorer = IsolationForestDetector(seed=1).fit(X).scorer(threshold=0.52, version=7, feature_set=2)
    >>> odd = np.array([[0.0, 6.0, 0.0]])
    >>> scorer.is_alert(scorer.score(odd)).tolist()
    [True]
    >>> scorer.attributions(odd).argmax(axis=1), scorer.evidence(odd).argmax(axis=1)
    (array([1]), array([1]))
    """

    onnx: bytes = field(repr=False)
    reference: np.ndarray = field(repr=False)
    threshold: float
    version: int
    feature_set: int
    family: str
    block_threshold: float | None = None
    capacity: int | None = None
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", sha256(self.onnx).hexdigest())

    def score(self, X: np.ndarray) -> np.ndarray:
        """Scores (N,) float64 in [0, 1] of vectors (N, F), higher is more suspicious.

        Raises:
            UnusableFeatures: X is not finite or has another width.
        """
        X = checked(X, self.width)
        if len(X) == 0:
            return np.empty(0)
        scores = self._session().run(None, {"features": X})[0]
        return np.clip(scores[:, 0].astype(np.float64), 0, 1)

    def is_alert(self, scores: np.ndarray) -> np.ndarray:
        """Which scores reach the threshold."""
        return scores >= self.threshold

    def bands(self, scores: np.ndarray) -> list[Band]:
        """What alerts with these scores (N,) ask for: to be read, or to decline the payment."""
        blocked = (
            np.zeros(len(scores), bool) if self.block_threshold is None else scores >= self.block_threshold
        )
        return ["block" if block else "alert" for block in blocked.tolist()]

    def attributions(self, X: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        """How much each feature raises the score of each vector: (N, F) log odds, positive = more suspicious.

        The mean of two questions (the last and the first step of a Shapley value, Lundberg and Lee, 2017): by
        how much does the score fall when this feature alone becomes ordinary, and by how much does an ordinary
        vector's score rise when this feature alone gets this value. Costs two scores per feature.

        Args:
            where: (N, F) bool, which to compute; the others are 0.
        """
        X = checked(X, self.width)
        row, feature = np.nonzero(np.ones(X.shape, bool) if where is None else where)
        pair, ordinary = np.arange(len(row)), median(self.reference)
        without, alone = X[row], np.tile(ordinary, (len(row), 1))
        without[pair, feature], alone[pair, feature] = ordinary[feature], X[row, feature]
        odds = _log_odds(self.score(np.concatenate([without, alone, X, ordinary[None]])))
        without, alone, whole = odds[: len(row)], odds[len(row) : 2 * len(row)], odds[2 * len(row) : -1]
        attributions = np.zeros(X.shape)
        attributions[row, feature] = ((whole[row] - without) + (alone - odds[-1])) / 2
        return attributions

    def evidence(self, X: np.ndarray) -> np.ndarray:
        """How strongly each feature speaks for an alert: (N, F), 0 where it does not.

        The attribution, where it is positive, times how rare the value was in training: the model decides what
        matters and which way, and a value that more than `ORDINARY` of all transactions lie beyond is no evidence.
        """
        rare = rarity(self.reference, checked(X, self.width))
        rare[rare < np.log(0.5 / ORDINARY)] = 0
        return np.maximum(self.attributions(X, where=rare > 0), 0) * rare

    @property
    def width(self) -> int:
        """Features of a vector."""
        return self.reference.shape[1]

    def _session(self) -> InferenceSession:
        key = (self.version, self.sha256)
        session = _SESSIONS.get(key)
        if session is None:
            while len(_SESSIONS) >= _KEPT_SESSIONS:
                _SESSIONS.pop(next(iter(_SESSIONS)))
            session = _SESSIONS[key] = _open(self.onnx)
        return session


def _open(onnx: bytes) -> InferenceSession:
    import onnxruntime  # a process that only carries a scorer does not pay for it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a Spark task has one core
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def _log_odds(scores: np.ndarray) -> np.ndarray:
    scores = np.clip(scores, 1e-7, 1 - 1e-7)
    return np.log(scores / (1 - scores))
