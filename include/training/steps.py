"""A retraining in steps, each of which can be repeated: what one hands to the next is plain JSON.

The DAG `retrain_isolation_forest` runs them as tasks; `include.training.retraining.retrain` does the same at once. The
new version is challenger from its training on until somebody or something promotes it: whenever a step is killed, the
champion is the old one or the new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from include.models.families import AUTO, CHOICES, FEWEST_TREES, MOST_TREES
from include.registry import aliases
from include.registry.loading import load_scorer
from include.registry.promotions import Cause, Mode
from include.registry.versions import CHAMPION
from include.settings import Settings, limits
from include.training import promotion, snapshot, thresholds
from include.training.snapshot import Snapshot

SEED = 0


def form(settings: Settings) -> dict[str, dict[str, Any]]:
    """The fields of the DAG's form by name, as Airflow's `Param` takes them."""

    def of(setting: str, **more: Any) -> dict[str, Any]:
        default = getattr(settings, setting)
        kind = "integer" if isinstance(default, int) else "number"
        return {"default": default, "type": kind, **limits(setting), **more}

    return {
        "window_days": of("training_window_days", title="Training window in days"),
        "family": {
            "default": AUTO,
            "enum": [*CHOICES],
            "title": "Family of the detector",
            "description": "auto: all that the known labels allow, the best on later time",
        },
        "trees": {
            "default": None,
            "type": ["null", "integer"],
            "minimum": FEWEST_TREES,
            "maximum": MOST_TREES,
            "title": "Trees",
            "description": "empty: the family's own number",
        },
        "alerts_per_day": of("alerts_per_day", title="Alerts that the team can read in a day"),
        "alert_rate": of(
            "alert_rate",
            title="A fixed share of transactions to alert on",
            description="0: what costs and capacity give",
        ),
        "mode": {
            "default": settings.promotion_mode,
            "enum": ["auto", "human"],
            "title": "Who promotes a better model",
        },
    }


def take_snapshot(settings: Settings, window_days: int) -> dict[str, Any]:
    """Keeps what to train on; returns how much it is, and its hash."""
    return asdict(snapshot.take(settings, window_days=window_days))


def train(settings: Settings, taken: dict[str, Any], form: Mapping[str, Any]) -> dict[str, Any]:
    """Fits, measures and registers on a snapshot; returns the version, and what was compared.

    Args:
        form: what was entered, see `form`.
    """
    from include.training import retraining  # loads the learning libraries

    kept = Snapshot(**taken)
    detectors = retraining.detectors_of(form["family"], form["trees"], SEED)
    capacity = thresholds.Limits.of(
        settings, alerts_per_day=form["alerts_per_day"], alert_rate=form["alert_rate"]
    )
    data = snapshot.read(settings, kept)
    with retraining.only_one(settings):
        trained = retraining.train(settings, data, kept, detectors, capacity, None, SEED)
    measures = {name: trained.candidate.metrics.get(name) for name in ("transactions", "frauds", *MEASURES)}
    return {
        "version": trained.version,
        "measured_by": trained.measured_by,
        "family": trained.candidate.detector.family,
        "compared": dict(trained.compared),
        "left_out": dict(trained.left_out),
        "metrics": measures,
    }


MEASURES = ("average_precision", "precision_at_threshold", "recall_at_threshold", "alert_rate")


def judge(settings: Settings, taken: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
    """Compares the version with the champion and makes it challenger; returns every reason for and against it."""
    from include.training import retraining

    kept, version = Snapshot(**taken), trained["version"]
    data = snapshot.read(settings, kept)
    measured = load_scorer(settings, trained["measured_by"] or version, "trainer")
    decision, evidence = retraining.judge(settings, data, kept, measured, version, SEED)
    if (champion := aliases.champion(settings, "trainer")) is None or champion.version != version:
        aliases.set_challenger(settings, version)
    return {
        "version": version,
        "better": decision.alias == CHAMPION,
        "reason": decision.reason,
        "evidence": evidence,
        "text": f"Version {version} ({trained['family']}), trained on {kept}.\n\n{retraining.reasons(decision)}",
    }


def next_step(judged: dict[str, Any], mode: Mode) -> str:
    """The task that follows: a better model is promoted, or a person is asked whether to."""
    if not judged["better"]:
        return "announce"
    return {"auto": "promote", "human": "approve"}[mode]


def promote(settings: Settings, judged: dict[str, Any], answer: Mapping[str, Any] | None, run_id: str) -> int:
    """Makes the version champion, if the parity gate is open still; returns it.

    Args:
        answer: of the person who approved; empty when nobody was asked.
    """
    actor = f"retrain_isolation_forest, {run_id}"
    mode: Mode = "human" if answer else "auto"
    if answer:
        actor = f"{(answer.get('responded_by_user') or {}).get('name') or 'somebody'} in {actor}"
    cause = Cause(actor, judged["reason"], mode=mode, evidence=judged["evidence"])
    promotion.promote(settings, judged["version"], cause=cause)
    return int(judged["version"])


def outcome(settings: Settings, judged: dict[str, Any]) -> str:
    """What became of a version, in a sentence."""
    champion = aliases.champion(settings, "trainer")
    version = judged["version"]
    if champion is not None and champion.version == version:
        return f"version {version} is champion: {judged['reason']}"
    present = f"version {champion.version} stays champion" if champion else "there is no champion"
    return f"version {version} is challenger, {present}: {judged['reason']}"
