"""The fast form of a detector: ONNX bytes, a threshold, and a session per process."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from include.models.base import checked

_SESSIONS: dict[tuple[int, str], object] = {}
_KEPT_SESSIONS = 4  # champion, challenger, and the ones they replace


@dataclass(frozen=True)
class Scorer:
    """Scores feature vectors; can be pickled and sent to Spark tasks.

    Args:
        onnx: graph from float32 (N, F) to scores (N, 1).
        reference: (F,) the medians of the training vectors, what an ordinary transaction looks like.
        threshold: scores at or above it are alerts.
        version: of the registered model.
        feature_set: `include.features.FEATURE_SET` that it was trained on.
        family: kind of detector.
    """

    onnx: bytes = field(repr=False)
    reference: np.ndarray = field(repr=False)
    threshold: float
    version: int
    feature_set: int
    family: str
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", sha256(self.onnx).hexdigest())

    def score(self, X: np.ndarray) -> np.ndarray:
        """Scores (N,) float64 in [0, 1] of vectors (N, F), higher is more suspicious.

        Raises:
            UnusableFeatures: X is not finite or has another width.
        """
        X = checked(X, len(self.reference))
        if len(X) == 0:
            return np.empty(0)
        scores = self._session().run(None, {"features": X})[0]
        return np.clip(scores[:, 0].astype(np.float64), 0, 1)

    def is_alert(self, scores: np.ndarray) -> np.ndarray:
        """Which scores reach the threshold."""
        return scores >= self.threshold

    def attributions(self, X: np.ndarray) -> np.ndarray:
        """How much each feature raises the score of each vector: (N, F) log odds, positive = more suspicious.

        The mean of two questions (the first and the last step of a Shapley value, Lundberg and Lee, 2017): by
        how much does the score fall when this feature alone becomes ordinary, and by how much does an ordinary
        transaction's score rise when it alone gets this value. Costs 2 F scores a row: for alerts, not for all.
        """
        X = checked(X, len(self.reference))
        n, width = X.shape
        diagonal = np.eye(width, dtype=bool)
        without = np.where(diagonal, self.reference, X[:, None, :])
        alone = np.where(diagonal, X[:, None, :], self.reference)
        rows = np.concatenate([without.reshape(-1, width), alone.reshape(-1, width), X, self.reference[None]])
        odds = _log_odds(self.score(rows))
        without, alone = odds[: n * width].reshape(n, width), odds[n * width : 2 * n * width].reshape(n, width)
        return ((odds[2 * n * width : -1, None] - without) + (alone - odds[-1])) / 2

    def _session(self):
        key = (self.version, self.sha256)
        session = _SESSIONS.get(key)
        if session is None:
            while len(_SESSIONS) >= _KEPT_SESSIONS:
                _SESSIONS.pop(next(iter(_SESSIONS)))
            session = _SESSIONS[key] = _open(self.onnx)
        return session


def _open(onnx: bytes):
    import onnxruntime  # a process that only carries a scorer does not pay for it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a Spark task has one core
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def _log_odds(scores: np.ndarray) -> np.ndarray:
    scores = np.clip(scores, 1e-7, 1 - 1e-7)
    return np.log(scores / (1 - scores))
