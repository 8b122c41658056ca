"""Retraining: fit on earlier time, measure on later time, register, and promote when better.

docs/models.md explains the rules to users; `include.training.split` separates the parts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psycopg

from include import registry
from include.features.behaviour import FEATURE_SET
from include.settings import Settings
from include.training import evaluation, plots, split

if TYPE_CHECKING:
    from include.models.scorer import Scorer

logger = logging.getLogger(__name__)

SUPERVISED = ("gradient_boosting",)
MIN_DEFRAUDED = 10  # customers with fraud in the later time, to compare two models at all
BETTER_SHARE = 0.9  # of the bootstrap draws: in so many must a better model be better
LOCK = 0x6672_6175_6401  # advisory lock of PostgreSQL: one retraining at a time


class UnknownFamily(ValueError):
    """There is no kind of detector of this name."""


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
    metrics: dict[str, Any]
    champion_metrics: dict[str, Any] | None
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


class Champion(NamedTuple):
    """The model in use, and the end of the time that it was trained on."""

    scorer: Scorer
    trained_to: datetime


class Decision(NamedTuple):
    """Which alias a new version gets, why, and what the champion reached on the same rows, if that was measured."""

    alias: str
    reason: str
    champion_metrics: dict[str, Any] | None = None


def retrain(
    settings: Settings,
    *,
    window_days: int | None = None,
    trees: int | None = None,
    alert_rate: float | None = None,
    family: str = "isolation_forest",
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
        UnknownFamily: see `registry.families`.
        RetrainingRuns: another retraining did not end within `wait_seconds`.
        registry.RegistryUnavailable: MLflow does not answer; the old champion stays.
    """
    started = time.monotonic()
    kinds = registry.families()
    if family not in kinds:
        raise UnknownFamily(f"no family {family!r}: there are {', '.join(kinds)}")
    detector = kinds[family](seed=seed, **({"trees": trees} if trees else {}))
    window_days = window_days or settings.training_window_days
    alert_rate = alert_rate or settings.alert_rate
    rng = np.random.default_rng(seed)
    with _only_one(settings, wait_seconds) as lock:
        champion, refused = _champion(settings)
        data = split.read(settings, window_days=window_days, as_of=as_of, maturity=maturity)
        X, y = data.to_fit(supervised=family in SUPERVISED, maturity=maturity)
        detector.fit(X, y)
        scorer = detector.scorer(threshold=0.0, version=0, feature_set=FEATURE_SET)
        scorer = replace(scorer, threshold=threshold_at(scorer.score(data.after_fit()), alert_rate))

        later = data.later(scorer)
        measured = evaluation.metrics(later, rng=rng) if later.fraud.any() else {"transactions": len(later)}
        decision = decide(data, later, champion, refused, rng)
        if decision.alias == registry.CHAMPION and (reason := registry.promotion_refused(settings)):
            decision = decision._replace(
                alias=registry.CHALLENGER, reason=f"{decision.reason}; but not promoted: {reason}"
            )
        logger.info("%s: %s", decision.alias, decision.reason)
        rows = data.parts.sizes() | {"fit": len(X)}
        known = registry.register(
            settings,
            detector,
            threshold=scorer.threshold,
            metrics=measured,
            params={
                **{name: value for name, value in detector.get_params().items() if value is not None},
                **{f"rows_{name}": count for name, count in rows.items()},
                "window_days": window_days,
                "alert_rate": alert_rate,
                "as_of": data.as_of.isoformat(),
                "settled_until": split.moment(data.settled_until).isoformat(),
                "vectors": data.source,
                "customers_share": data.share,
                "decision": f"{decision.alias}: {decision.reason}",
            },
            figures=plots.training(later, scorer.threshold, measured.get("per_day", [])),
            trained_from=data.trained_from,
            trained_to=data.trained_to,
        )
        lock.execute("select 1")  # the session with the lock is alive: nobody else promotes now
        promote = registry.set_champion if decision.alias == registry.CHAMPION else registry.set_challenger
        promote(settings, known.version)
    return TrainingResult(
        version=known.version,
        alias=decision.alias,
        reason=decision.reason,
        family=family,
        threshold=scorer.threshold,
        vectors=data.source,
        rows=rows,
        trained_from=data.trained_from,
        trained_to=data.trained_to,
        metrics=measured,
        champion_metrics=decision.champion_metrics,
        seconds=round(time.monotonic() - started, 2),
    )


def threshold_at(score: np.ndarray, alert_rate: float) -> float:
    """The score that the share `alert_rate` of these scores (N,) reaches."""
    return float(np.quantile(score, 1 - alert_rate, method="higher"))


def decide(
    data: split.Window,
    later: evaluation.Scored,
    champion: Champion | None,
    refused: str | None,
    rng: np.random.Generator,
) -> Decision:
    """Champion when first, when the champion is refused, or when better on the same later rows; else challenger.

    Better: a higher average precision in at least `BETTER_SHARE` of the bootstrap draws over customers, on the
    later rows that neither model was trained on, if they hold `MIN_DEFRAUDED` customers with fraud.
    """
    if champion is None:
        return Decision(
            registry.CHAMPION, f"the champion is refused: {refused}" if refused else "the first model"
        )
    theirs = data.later(champion.scorer)
    unseen = theirs.timestamp >= champion.trained_to.timestamp()
    ours, theirs = later[unseen], theirs[unseen]
    name = f"champion (version {champion.scorer.version})"
    defrauded = len(np.unique(ours.user[ours.fraud]))
    if defrauded < MIN_DEFRAUDED:
        return Decision(
            registry.CHALLENGER,
            f"not comparable with the {name}: {defrauded} customers with known fraud in the later time, "
            f"{MIN_DEFRAUDED} are needed",
        )
    measured = evaluation.metrics(theirs, draws=0, rng=rng)
    _, average_precision = evaluation.Ranking(ours.fraud, ours.score).areas()
    share = evaluation.better_share(ours.fraud, ours.user, ours.score, theirs.score, evaluation.DRAWS, rng)
    return Decision(
        registry.CHAMPION if share >= BETTER_SHARE else registry.CHALLENGER,
        f"average precision {average_precision:.3f} against {measured['average_precision']:.3f} of the {name} on the "
        f"same {len(ours)} later transactions, higher in {share:.0%} of the bootstrap draws "
        f"({BETTER_SHARE:.0%} are needed)",
        measured,
    )


def _champion(settings: Settings) -> tuple[Champion | None, str | None]:
    """The champion ready to score; or None and, when there is one that is refused, why."""
    try:
        known = registry.champion(settings, "trainer")
        if known is None:
            return None, None
        return Champion(registry.load_scorer(settings, known.version, "trainer"), known.trained_to), None
    except registry.ModelRejected as error:
        logger.warning("the champion is refused: %s", error)
        return None, str(error)


@contextmanager
def _only_one(settings: Settings, wait_seconds: float) -> Iterator[psycopg.Connection]:
    """Holds the lock of retraining in a session of its own; PostgreSQL frees it when this process dies."""
    with psycopg.connect(settings.conninfo("trainer"), autocommit=True) as connection:
        if not connection.execute("select pg_try_advisory_lock(%s)", (LOCK,)).fetchone()[0]:
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
