"""Retraining: fit on earlier time, measure on later time, fit the best again, register, and promote when better.

docs/models.md explains the rules to users; `include.training.split` separates the parts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psycopg
from sklearn.base import clone

from include.features.behaviour import FEATURE_SET
from include.models import calibration, families
from include.registry import aliases, registration
from include.registry.errors import ModelRejected
from include.registry.loading import load_scorer
from include.registry.promotions import Cause
from include.registry.versions import CHALLENGER, CHAMPION, MEASURED_BY, ModelVersion, read_version
from include.settings import Settings
from include.sql import one_row
from include.training import evaluation, gate, plots, promotion, snapshot, split, thresholds
from include.training.gate import MIN_DEFRAUDED, Check, defrauded
from include.training.snapshot import Snapshot
from include.training.thresholds import threshold_at

if TYPE_CHECKING:
    from include.models.base import Detector
    from include.models.scorer import Scorer

logger = logging.getLogger(__name__)

LOCK = 0x6672_6175_6401  # advisory lock of PostgreSQL: one retraining at a time


class RetrainingRuns(RuntimeError):
    """Another retraining held the lock for too long."""


@dataclass(frozen=True)
class TrainingResult:
    """What a retraining did: the version, its alias and why, and what was measured on the later time.

    `version` was fitted again until `trained_to`; `measured_by` is the version of the same recipe that was fitted until
    `measured_from` and has the metrics, or None where no later time is settled. `compared` has the average precision
    of each family on the later time, `left_out` why a family was not fitted.
    """

    version: int
    measured_by: int | None
    alias: str
    reason: str
    family: str
    threshold: float
    block_threshold: float | None
    decision_rule: Mapping[str, Any]
    vectors: str
    rows: dict[str, int]
    trained_from: datetime
    trained_to: datetime
    measured_from: datetime
    compared: Mapping[str, float | None]
    left_out: Mapping[str, str]
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
            "measured_from": self.measured_from.isoformat(),
        }


class Incumbent(NamedTuple):
    """The champion as it was measured: the model that is compared with new ones, and the end of what it was trained on.

    A champion that was fitted again has seen later rows; the version that it was measured by stands for it, as the
    measured model stands for the new one.
    """

    scorer: Scorer
    trained_to: datetime
    name: str


class Decision(NamedTuple):
    """Which alias a new version gets, why, and what the champion reached on the same rows, if that was measured.

    `checks` are all reasons for and against it, where it was compared with a champion.
    """

    alias: str
    reason: str
    champion_metrics: Mapping[str, Any] | None = None
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A fitted detector with its fast form and thresholds, its decisions on the later rows, and what they measure.

    `rows` counts the rows of each part, and as `fit` those that were really learned from. `probable` are later rows
    with the probabilities that two constants from the rows before them give (include.models.calibration).
    """

    detector: Detector
    scorer: Scorer
    later: evaluation.LabelledScores
    metrics: Mapping[str, Any]
    rows: dict[str, int]
    choice: thresholds.Choice
    probable: evaluation.LabelledScores | None = None

    @property
    def average_precision(self) -> float | None:
        """On the later rows; None where no fraud is known there."""
        return self.metrics.get("average_precision")


@dataclass(frozen=True)
class Trained:
    """A recipe that was measured, fitted again and registered as `version`, which has no alias yet.

    `final` is the scorer of that version. `measured_by` is None where no later time is settled: then nothing was
    measured nor fitted again.
    """

    candidate: Candidate
    final: Scorer
    version: int
    measured_by: int | None
    trained_to: datetime
    compared: Mapping[str, float | None]
    left_out: Mapping[str, str]


def retrain(
    settings: Settings,
    *,
    window_days: int | None = None,
    trees: int | None = None,
    alert_rate: float | None = None,
    alerts_per_day: int | None = None,
    family: str = families.AUTO,
    as_of: datetime | None = None,
    maturity: timedelta | None = None,
    seed: int = 0,
    wait_seconds: float = 600,
    actor: str = "a retraining",
) -> TrainingResult:
    """Trains on the `window_days` before `as_of`, registers the model, and makes it champion or challenger.

    With the promotion mode `human` a model that is better than the champion is challenger until somebody promotes it.

    Everything counts in event time: `as_of` is the newest transaction's time unless given, and labels that became
    known later do not exist. `None` takes the settings, the family's own number of trees, or the maturity that the
    labels' delays show. The family `auto` takes the best of all on the later time. `actor` is who or what retrains, for
    the ledger of promotions.

    Raises:
        split.NotEnoughData: too few transactions, or too few known frauds for a family that learns from labels.
        families.UnknownFamily: there is no such family.
        RetrainingRuns: another retraining did not end within `wait_seconds`.
        RegistryUnavailable: MLflow does not answer; the old champion stays.
    """
    started = time.monotonic()
    detectors = detectors_of(family, trees, seed)
    window_days = window_days or settings.training_window_days
    limits = thresholds.Limits.of(settings, alerts_per_day=alerts_per_day, alert_rate=alert_rate)
    with only_one(settings, wait_seconds) as lock:
        data = split.read(settings, window_days=window_days, as_of=as_of, maturity=maturity)
        taken = snapshot.describe(data, window_days)
        trained = train(settings, data, taken, detectors, limits, maturity, seed)
        candidate, final = trained.candidate, trained.final
        decision, evidence = judge(settings, data, taken, candidate.scorer, trained.version, seed)
        if decision.alias == CHAMPION and decision.checks and settings.promotion_mode == "human":
            asks = f"a person decides: `fraudstream model promote {trained.version}`"
            decision = decision._replace(alias=CHALLENGER, reason=f"{decision.reason}; {asks}")
        lock.execute("select 1")  # the session with the lock is alive: nobody else promotes now
        if decision.alias == CHAMPION:
            cause = Cause(actor, decision.reason, evidence=evidence)
            promotion.promote(settings, trained.version, cause=cause)
        else:
            aliases.set_challenger(settings, trained.version)
    return TrainingResult(
        version=trained.version,
        measured_by=trained.measured_by,
        alias=decision.alias,
        reason=decision.reason,
        family=candidate.detector.family,
        threshold=final.threshold,
        block_threshold=final.block_threshold,
        decision_rule=candidate.choice.described(),
        vectors=data.source,
        rows=candidate.rows,
        trained_from=data.trained_from,
        trained_to=trained.trained_to,
        measured_from=data.trained_to,
        compared=trained.compared,
        left_out=trained.left_out,
        metrics=candidate.metrics,
        champion_metrics=decision.champion_metrics,
        seconds=round(time.monotonic() - started, 2),
    )


def detectors_of(family: str, trees: int | None, seed: int) -> list[Detector]:
    """New detectors of a family, or of each one for `families.AUTO`.

    Raises:
        families.UnknownFamily: there is no such family.
    """
    names = [*families.FAMILIES] if family == families.AUTO else [family]
    options = {"seed": seed, **({"trees": trees} if trees else {})}
    return [families.detector_class(name)(**options) for name in names]


def train(
    settings: Settings,
    data: split.TrainingData,
    taken: Snapshot,
    detectors: Sequence[Detector],
    limits: thresholds.Limits,
    maturity: timedelta | None,
    seed: int,
) -> Trained:
    """Fits the detectors, measures them, fits the best again, and registers both versions without an alias.

    The same rows and seed give the same model.
    """
    candidates, left_out = fit_all(detectors, data, limits, maturity, np.random.default_rng(seed))
    candidate = best(candidates)
    compared = {fitted.detector.family: fitted.average_precision for fitted in candidates}
    facts = _facts(data, taken, candidate, compared, left_out) | {"seed": seed}
    if not data.measured:
        version = _register(settings, candidate, data, facts | {"role": "not measured"})
        return Trained(candidate, candidate.scorer, version, None, data.trained_to, compared, left_out)
    measured_by = _register(settings, candidate, data, facts | {"role": "measured on later time"})
    detector, final, trained_to = refit(candidate, data)
    again = replace(candidate, detector=detector, scorer=final)
    facts |= {"role": "the measured recipe, fitted again", MEASURED_BY: measured_by}
    version = _register(settings, again, data, facts, trained_to, measured_by)
    return Trained(candidate, final, version, measured_by, trained_to, compared, left_out)


def judge(
    settings: Settings,
    data: split.TrainingData,
    taken: Snapshot,
    measured: Scorer,
    version: int,
    seed: int,
) -> tuple[Decision, str]:
    """Compares a measured model with the champion, and writes all reasons into the run of `version`.

    Returns:
        the decision, and the sha256 of what it stands on, which is in the run as `gate/evidence.json`.
    """
    incumbent, refused = _incumbent(settings)
    rng = np.random.default_rng(seed)
    decision = decide(data, measured, incumbent, refused, settings.review_cost, rng)
    decision = _unless_parity_is_broken(settings, decision)
    logger.info("%s: %s", decision.alias, decision.reason)
    champion_metrics = decision.champion_metrics or {}
    text, digest = gate.evidence(
        {
            "version": version,
            "snapshot": asdict(taken),
            "alias": decision.alias,
            "reason": decision.reason,
            "checks": [check._asdict() for check in decision.checks],
            "champion": incumbent and incumbent.name,
            "champion_metrics": {name: it for name, it in champion_metrics.items() if name != "per_day"},
        }
    )
    registration.annotate(
        settings,
        version,
        tags={"decision": f"{decision.alias}: {decision.reason}", "evidence": digest},
        texts={"gate/evidence.json": text, "gate/reasons.md": reasons(decision)},
    )
    return decision, digest


def reasons(decision: Decision) -> str:
    """The decision and every reason for and against it, in Markdown."""
    lines = [f"**{decision.alias}**: {decision.reason}", ""]
    for title, passed in (("For", True), ("Against", False)):
        named = [f"- {check.name}: {check.reason}" for check in decision.checks if check.passed is passed]
        lines += [f"### {title}", "", *(named or ["- nothing"]), ""]
    return "\n".join(lines if decision.checks else lines[:1])


def fit_all(
    detectors: Sequence[Detector],
    data: split.TrainingData,
    limits: thresholds.Limits,
    maturity: timedelta | None,
    rng: np.random.Generator,
) -> tuple[list[Candidate], dict[str, str]]:
    """Every detector that the known labels allow, fitted and measured; and why the others were left out, by family.

    Raises:
        split.NotEnoughData: none is left.
    """
    candidates, left_out = [], {}
    for detector in detectors:
        try:
            candidates.append(fit(detector, data, limits, maturity, rng))
        except split.NotEnoughData as error:
            if len(detectors) == 1:
                raise
            left_out[detector.family] = str(error)
    return candidates, left_out


def best(candidates: Sequence[Candidate]) -> Candidate:
    """The one with the highest average precision on the later rows.

    With fewer than `MIN_DEFRAUDED` customers with known fraud there it is the first, which needs no labels.
    """
    later = candidates[0].later
    if defrauded(later) < MIN_DEFRAUDED:
        return candidates[0]
    return max(candidates, key=lambda candidate: candidate.average_precision or 0.0)


def fit(
    detector: Detector,
    data: split.TrainingData,
    limits: thresholds.Limits,
    maturity: timedelta | None,
    rng: np.random.Generator,
) -> Candidate:
    """Fits the detector on the earlier part, and measures it on the later one at the thresholds that pay most there.

    A supervised family's scores become probabilities by the labels of the later part.

    Raises:
        split.NotEnoughData: too few known frauds for a family that learns from labels.
    """
    X, y = data.to_fit(supervised=detector.supervised, maturity=maturity)
    detector.fit(X, y)
    learned = int((y >= 0).sum()) if detector.supervised else len(X)
    scorer = detector.scorer(threshold=0.0, version=0, feature_set=FEATURE_SET)
    uncalibrated = None
    if detector.supervised and data.measured:
        uncalibrated = data.later(scorer)
        detector.calibrate(*calibration.learn(uncalibrated.score, uncalibrated.fraud))
        scorer = detector.scorer(threshold=0.0, version=0, feature_set=FEATURE_SET)
    choice = thresholds.choose(data.later(scorer), data.transactions_a_day(), limits, data.share)
    scorer = _with_thresholds(scorer, scorer.score(data.after_fit()), choice)
    later = data.later(scorer)
    metrics: Mapping[str, Any] = {"transactions": len(later)}
    probable = None
    if later.fraud.any():
        metrics = evaluation.metrics(later, rng=rng)
        if uncalibrated is not None:
            probable = _calibrated_by_the_first_half(uncalibrated, choice.alert_share)
            metrics = {**metrics, "reliability": evaluation.reliability(probable)}
    metrics = {**metrics, "decision_rule": choice.described()}
    rows = data.parts.sizes() | {"fit": learned}
    return Candidate(detector, scorer, later, metrics, rows, choice, probable)


def _with_thresholds(
    scorer: Scorer, score: np.ndarray, choice: thresholds.Choice, least: float = 0.0
) -> Scorer:
    """The scorer with the thresholds that the chosen shares of these scores (N,) reach.

    Args:
        least: the lowest score to decline payments from.
    """
    threshold = threshold_at(score, choice.alert_share)
    return replace(
        scorer,
        threshold=threshold,
        block_threshold=thresholds.block_threshold_at(score, choice.block_share, max(least, threshold)),
        capacity=choice.alerts_per_day,
    )


def _calibrated_by_the_first_half(
    later: evaluation.LabelledScores, alert_share: float
) -> evaluation.LabelledScores:
    """The second half of the later rows, with probabilities that the labels of the first half give."""
    half = len(later) // 2
    first, second = later[slice(0, half)], later[slice(half, None)]
    constants = calibration.learn(first.score, first.fraud)
    score = calibration.apply(second.score, constants)
    return replace(second, score=score, alert=score >= threshold_at(score, alert_share))


def refit(candidate: Candidate, data: split.TrainingData) -> tuple[Detector, Scorer, datetime]:
    """The candidate's recipe fitted on all settled rows but the newest ones, and the end of the time it has seen.

    The newest rows set its thresholds, which no row that it was fitted on may do: a model is surer of those.
    """
    choice = candidate.choice
    X, y = data.to_refit(choice.alert_share)
    detector: Detector = clone(candidate.detector).fit(X, y)
    if detector.supervised:
        detector.calibrate(*candidate.detector.calibration_)
    scorer = detector.scorer(threshold=0.0, version=0, feature_set=FEATURE_SET)
    held = data.held_from(choice.alert_share)
    least = candidate.scorer.block_threshold or 0.0
    scorer = _with_thresholds(scorer, scorer.score(data.rows.features[held:]), choice, least)
    return detector, scorer, split.from_seconds(data.rows.timestamp[held])


def decide(
    data: split.TrainingData,
    measured: Scorer,
    incumbent: Incumbent | None,
    refused: str | None,
    review_cost: float,
    rng: np.random.Generator,
) -> Decision:
    """Champion when first, when the champion is refused, or when better on the same later rows; else challenger.

    Better: each check of `include.training.gate` is passed, on the later rows that neither model was trained on, if
    they hold `MIN_DEFRAUDED` customers with fraud.
    """
    if incumbent is None:
        return Decision(CHAMPION, f"the champion is refused: {refused}" if refused else "the first model")
    ours, theirs = data.later(measured), data.later(incumbent.scorer)
    unseen = theirs.timestamp >= incumbent.trained_to.timestamp()
    ours, theirs = ours[unseen], theirs[unseen]
    if (customers := defrauded(ours)) < MIN_DEFRAUDED:
        return Decision(
            CHALLENGER,
            f"not comparable with the {incumbent.name}: {customers} customers with known fraud in the later time, "
            f"{MIN_DEFRAUDED} are needed",
        )
    features = data.rows.features[data.parts.later][unseen]
    checks = gate.compare(ours, theirs, gate.groups_of(ours, features), review_cost, rng)
    checks += gate.bounds(measured, features)
    failed = [str(check) for check in checks if not check.passed]
    compared = f"compared with the {incumbent.name} on the same {len(ours)} later transactions"
    return Decision(
        CHALLENGER if failed else CHAMPION,
        "; ".join([f"{compared}: average precision {checks[0].reason}", *failed]),
        evaluation.metrics(theirs, draws=0, rng=rng),
        tuple(checks),
    )


def _unless_parity_is_broken(settings: Settings, decision: Decision) -> Decision:
    """The decision; challenger in the place of champion while no version may be promoted."""
    if decision.alias != CHAMPION or not (reason := promotion.obstacle(settings)):
        return decision
    return decision._replace(alias=CHALLENGER, reason=f"{decision.reason}; but not promoted: {reason}")


def _facts(
    data: split.TrainingData,
    taken: Snapshot,
    candidate: Candidate,
    compared: Mapping[str, float | None],
    left_out: Mapping[str, str],
) -> dict[str, Any]:
    """What a retraining was made from, for the run in MLflow."""
    results = [
        f"{family} {'not measured' if value is None else f'{value:.3f}'}"
        for family, value in compared.items()
    ]
    return {
        **{f"rows_{name}": count for name, count in candidate.rows.items()},
        "as_of": data.as_of.isoformat(),
        "window_days": taken.window_days,
        "snapshot": taken.sha256,
        "settled_until": split.from_seconds(data.settled_until).isoformat(),
        "vectors": data.source,
        "customers_share": data.share,
        "decision_rule": candidate.choice.rule,
        "compared": ", ".join(results + [f"{family} left out: {why}" for family, why in left_out.items()]),
    }


def _register(
    settings: Settings,
    candidate: Candidate,
    data: split.TrainingData,
    facts: Mapping[str, Any],
    trained_to: datetime | None = None,
    measured_by: int | None = None,
) -> int:
    """Registers the model with what it was made from; returns its version.

    Metrics and figures are those of the later rows, also of a model that was fitted again on them.
    """
    own = {name: value for name, value in candidate.detector.get_params().items() if value is not None}
    threshold, per_day = candidate.scorer.threshold, candidate.metrics.get("per_day", [])
    figures = plots.training(candidate.later, threshold, per_day, candidate.probable)
    return registration.register(
        settings,
        candidate.detector,
        threshold=threshold,
        block_threshold=candidate.scorer.block_threshold,
        capacity=candidate.scorer.capacity,
        metrics=candidate.metrics if measured_by is None else {**candidate.metrics, MEASURED_BY: measured_by},
        params={**own, **facts},
        figures=figures,
        trained_from=data.trained_from,
        trained_to=trained_to or data.trained_to,
    ).version


def _incumbent(settings: Settings) -> tuple[Incumbent | None, str | None]:
    """The champion ready to score; or None and, when there is one that is refused, why."""
    try:
        champion = aliases.champion(settings, "trainer")
        if champion is None:
            return None, None
        scorer = load_scorer(settings, champion.version, "trainer")
        name = f"champion (version {champion.version})"
        return _measured(settings, champion, name) or Incumbent(scorer, champion.trained_to, name), None
    except ModelRejected as error:
        logger.warning("the champion is refused: %s", error)
        return None, str(error)


def _measured(settings: Settings, champion: ModelVersion, name: str) -> Incumbent | None:
    """The version that a champion was measured by, if there is one and it can still be used."""
    if (version := champion.metrics.get(MEASURED_BY)) is None:
        return None
    try:
        known = read_version(settings, version, "trainer")
        scorer = load_scorer(settings, version, "trainer")
    except ModelRejected as error:
        logger.warning("the version that the champion was measured by is refused: %s", error)
        return None
    return Incumbent(scorer, known.trained_to, f"{name}, measured by version {version},")


@contextmanager
def only_one(settings: Settings, wait_seconds: float = 600) -> Iterator[psycopg.Connection]:
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
