"""Retraining: fit on earlier time, measure on later time, register, and promote when better.

docs/models.md explains the rules to users; `include.training.split` separates the parts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psycopg

from include.features.behaviour import FEATURE_SET
from include.models import families
from include.registry import aliases, registration
from include.registry.errors import ModelRejected
from include.registry.loading import load_scorer
from include.registry.versions import CHALLENGER, CHAMPION
from include.settings import Settings
from include.sql import one_row
from include.training import evaluation, plots, promotion, split

if TYPE_CHECKING:
    from include.models.base import Detector
    from include.models.scorer import Scorer

logger = logging.getLogger(__name__)

MIN_DEFRAUDED = 10  # customers with fraud in the later time, to compare two models at all
BETTER_SHARE = 0.9  # of the bootstrap draws: in so many must a better model be better
LOCK = 0x6672_6175_6401  # advisory lock of PostgreSQL: one retraining at a time


class RetrainingRuns(RuntimeError):
    """Another retraining held the lock for too long."""


@dataclass(frozen=True)
class TrainingResult:
    """What a retraining did: the version, its alias and why, and what was measured on the later time."""

    version: int
    alias: str
    reason: str
    family: str
    threshold: float
    vectors: str
    rows: dict[str, int]
    trained_from: datetime
    trained_to: datetime
    metrics: Mapping[str, Any]
    champion_metrics: Mapping[str, Any] | None
    seconds: float

    def summary(self) -> dict[str, Any]:
        """The result as plain JSON without the daily series: for a log, or a task's return value."""
        plain = asdict(self)
        for name in ("metrics", "champion_metrics"):
            plain[name] = {key: value for key, value in (plain[name] or {}).items() if key != "per_day"}
        return plain | {
            "trained_from": self.trained_from.isoformat(),
            "trained_to": self.trained_to.isoformat(),
        }


class Incumbent(NamedTuple):
    """The champion that a new model is compared with, and the end of the time that it was trained on."""

    scorer: Scorer
    trained_to: datetime


class Decision(NamedTuple):
    """Which alias a new version gets, why, and what the champion reached on the same rows, if that was measured."""

    alias: str
    reason: str
    champion_metrics: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Candidate:
    """A fitted detector with its fast form and threshold, its decisions on the later rows, and what they measure.

    `rows` counts the rows of each part, and as `fit` those that were really learned from.
    """

    detector: Detector
    scorer: Scorer
    later: evaluation.LabelledScores
    metrics: Mapping[str, Any]
    rows: dict[str, int]


def retrain(
    settings: Settings,
    *,
    window_days: int | None = None,
    trees: int | None = None,
    alert_rate: float | None = None,
    family: str = families.DEFAULT_FAMILY,
    as_of: datetime | None = None,
    maturity: timedelta | None = None,
    seed: int = 0,
    wait_seconds: float = 600,
) -> TrainingResult:
    """Trains on the `window_days` before `as_of`, registers the model, and makes it champion or challenger.

    Everything counts in event time: `as_of` is the newest transaction's time unless given, and labels that became
    known later do not exist. `None` takes the setting, the family's own number of trees, or the maturity that the
    labels' delays show.

    Raises:
        split.NotEnoughData: too few transactions, or too few known frauds for a family that learns from labels.
        families.UnknownFamily: there is no such family.
        RetrainingRuns: another retraining did not end within `wait_seconds`.
        RegistryUnavailable: MLflow does not answer; the old champion stays.
    """
    started = time.monotonic()
    detector = families.detector_class(family)(seed=seed, **({"trees": trees} if trees else {}))
    window_days = window_days or settings.training_window_days
    alert_rate = alert_rate or settings.alert_rate
    rng = np.random.default_rng(seed)
    with _only_one(settings, wait_seconds) as lock:
        incumbent, refused = _incumbent(settings)
        data = split.read(settings, window_days=window_days, as_of=as_of, maturity=maturity)
        candidate = fit(detector, data, alert_rate, maturity, rng)
        decision = _unless_parity_is_broken(settings, decide(data, candidate.later, incumbent, refused, rng))
        logger.info("%s: %s", decision.alias, decision.reason)
        options = {"window_days": window_days, "alert_rate": alert_rate}
        version = _register(settings, candidate, data, decision, options)
        lock.execute("select 1")  # the session with the lock is alive: nobody else promotes now
        if decision.alias == CHAMPION:
            promotion.promote(settings, version)
        else:
            aliases.set_challenger(settings, version)
    return TrainingResult(
        version=version,
        alias=decision.alias,
        reason=decision.reason,
        family=family,
        threshold=candidate.scorer.threshold,
        vectors=data.source,
        rows=candidate.rows,
        trained_from=data.trained_from,
        trained_to=data.trained_to,
        metrics=candidate.metrics,
        champion_metrics=decision.champion_metrics,
        seconds=round(time.monotonic() - started, 2),
    )


def fit(
    detector: Detector,
    data: split.TrainingData,
    alert_rate: float,
    maturity: timedelta | None,
    rng: np.random.Generator,
) -> Candidate:
    """Fits the detector on the earlier part, and measures it on the later one at the threshold of `alert_rate`.

    Raises:
        split.NotEnoughData: too few known frauds for a family that learns from labels.
    """
    X, y = data.to_fit(supervised=detector.supervised, maturity=maturity)
    detector.fit(X, y)
    learned = int((y >= 0).sum()) if detector.supervised else len(X)
    scorer = detector.scorer(threshold=0.0, version=0, feature_set=FEATURE_SET)
    scorer = replace(scorer, threshold=threshold_at(scorer.score(data.after_fit()), alert_rate))
    later = data.later(scorer)
    metrics: Mapping[str, Any] = {"transactions": len(later)}
    if later.fraud.any():
        metrics = evaluation.metrics(later, rng=rng)
    return Candidate(detector, scorer, later, metrics, data.parts.sizes() | {"fit": learned})


def threshold_at(score: np.ndarray, alert_rate: float) -> float:
    """The score that the share `alert_rate` of these scores (N,) reaches."""
    return float(np.quantile(score, 1 - alert_rate, method="higher"))


def decide(
    data: split.TrainingData,
    later: evaluation.LabelledScores,
    incumbent: Incumbent | None,
    refused: str | None,
    rng: np.random.Generator,
) -> Decision:
    """Champion when first, when the champion is refused, or when better on the same later rows; else challenger.

    Better: a higher average precision in at least `BETTER_SHARE` of the bootstrap draws over customers, on the
    later rows that neither model was trained on, if they hold `MIN_DEFRAUDED` customers with fraud.
    """
    if incumbent is None:
        return Decision(CHAMPION, f"the champion is refused: {refused}" if refused else "the first model")
    theirs = data.later(incumbent.scorer)
    unseen = theirs.timestamp >= incumbent.trained_to.timestamp()
    ours, theirs = later[unseen], theirs[unseen]
    name = f"champion (version {incumbent.scorer.version})"
    defrauded = len(np.unique(ours.user[ours.fraud]))
    if defrauded < MIN_DEFRAUDED:
        return Decision(
            CHALLENGER,
            f"not comparable with the {name}: {defrauded} customers with known fraud in the later time, "
            f"{MIN_DEFRAUDED} are needed",
        )
    measured = evaluation.metrics(theirs, draws=0, rng=rng)
    _, average_precision = evaluation.Ranking(ours.fraud, ours.score).areas()
    share = evaluation.better_share(ours.fraud, ours.user, ours.score, theirs.score, evaluation.DRAWS, rng)
    return Decision(
        CHAMPION if share >= BETTER_SHARE else CHALLENGER,
        f"average precision {average_precision:.3f} against {measured['average_precision']:.3f} of the {name} on the "
        f"same {len(ours)} later transactions, higher in {share:.0%} of the bootstrap draws "
        f"({BETTER_SHARE:.0%} are needed)",
        measured,
    )


def _unless_parity_is_broken(settings: Settings, decision: Decision) -> Decision:
    """The decision; challenger in the place of champion while no version may be promoted."""
    if decision.alias != CHAMPION or not (reason := promotion.obstacle(settings)):
        return decision
    return decision._replace(alias=CHALLENGER, reason=f"{decision.reason}; but not promoted: {reason}")


def _register(
    settings: Settings,
    candidate: Candidate,
    data: split.TrainingData,
    decision: Decision,
    options: Mapping[str, Any],
) -> int:
    """Registers the model with what it was made from; returns its version."""
    own = {name: value for name, value in candidate.detector.get_params().items() if value is not None}
    params = {
        **own,
        **{f"rows_{name}": count for name, count in candidate.rows.items()},
        **options,
        "as_of": data.as_of.isoformat(),
        "settled_until": split.from_seconds(data.settled_until).isoformat(),
        "vectors": data.source,
        "customers_share": data.share,
        "decision": f"{decision.alias}: {decision.reason}",
    }
    threshold, per_day = candidate.scorer.threshold, candidate.metrics.get("per_day", [])
    return registration.register(
        settings,
        candidate.detector,
        threshold=threshold,
        metrics=candidate.metrics,
        params=params,
        figures=plots.training(candidate.later, threshold, per_day),
        trained_from=data.trained_from,
        trained_to=data.trained_to,
    ).version


def _incumbent(settings: Settings) -> tuple[Incumbent | None, str | None]:
    """The champion ready to score; or None and, when there is one that is refused, why."""
    try:
        champion = aliases.champion(settings, "trainer")
        if champion is None:
            return None, None
        return Incumbent(load_scorer(settings, champion.version, "trainer"), champion.trained_to), None
    except ModelRejected as error:
        logger.warning("the champion is refused: %s", error)
        return None, str(error)


@contextmanager
def _only_one(settings: Settings, wait_seconds: float) -> Iterator[psycopg.Connection]:
    """Holds the lock of retraining in a session of its own; PostgreSQL frees it when this process dies."""
    with psycopg.connect(settings.conninfo("trainer"), autocommit=True) as connection:
        (free,) = one_row(connection.execute("select pg_try_advisory_lock(%s)", (LOCK,)))
        if not free:
            logger.warning("another retraining runs: waiting up to %.0f s for it to end", wait_seconds)
            limit = max(1, round(wait_seconds * 1000))  # 0 would mean no limit
            connection.execute("select set_config('lock_timeout', %s, false)", (f"{limit}ms",))
            try:
                connection.execute("select pg_advisory_lock(%s)", (LOCK,))
            except psycopg.errors.LockNotAvailable as error:
                raise RetrainingRuns(
                    f"another retraining still runs after {wait_seconds:.0f} s: let it end or stop it, then try again"
                ) from error
        yield connection
