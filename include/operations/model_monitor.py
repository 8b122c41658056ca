"""Looks every hour whether the champion still scores what it learned, and opens one incident that names one cause."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from include.features.behaviour import FEATURE_SET, FEATURES
from include.models.scorer import Scorer
from include.operations.incidents import Kind, close_incident, open_incident
from include.registry import aliases
from include.registry.loading import load_scorer
from include.settings import Settings
from include.sql import one_row, statement
from include.training import drift, evaluation, stored_rows
from include.training.drift import Cause, Health, Now, Reports, Sample, Usual
from include.training.evaluation import DAY

MAX_ROWS = 20_000  # payments of the usual weeks; with more, a fixed share of the customers is looked at
USUAL = timedelta(days=28)
WEEK = timedelta(days=7)
HOURS = timedelta(hours=6)  # in which each partition should give something
STALE = timedelta(days=14)  # without a newer version
KINDS = {
    Cause.PIPELINE: Kind.FIELD_FAULT,
    Cause.LABELS: Kind.LABELS_STALLED,
    Cause.POPULATION: Kind.POPULATION_CHANGED,
    Cause.FRAUD: Kind.FRAUD_CHANGED,
    Cause.STALE: Kind.CHAMPION_STALE,
}
LEARNABLE = [str(KINDS[cause]) for cause in (Cause.POPULATION, Cause.FRAUD, Cause.STALE)]
"""Incidents that a model which learns from the newest payments may end."""
ALERTS = "alerts"  # the subject of the incident of a day with too many
KEEP = """
insert into shop.model_health (at, version, cause, subject, shift, changed, evidence)
values (%s, %s, %s, %s, %s, %s, %s)"""
OPEN = "select kind from shop.incidents where closed_at is null and subject = %s and kind = any(%s)"
OPENED = """
select exists (
    select from shop.incidents where subject = %s and kind = any(%s) and opened_at >= %s and closed_at is null)"""
NEWEST_VERSION = "select max(trained_to) from shop.models"


def monitor(settings: Settings, at: datetime | None = None) -> list[str]:
    """Looks, keeps what was found, opens or closes incidents; returns what it found, in sentences.

    Args:
        at: the newest event's time unless given.

    Raises:
        RegistryUnavailable, ModelRejected: the champion cannot be loaded.
    """
    with psycopg.connect(settings.conninfo("trainer")) as connection:
        lines = over_capacity(connection)
        champion = aliases.champion(settings, "trainer")
        at = at or stored_rows.newest_event(connection)
        if champion is None or at is None:
            return [*lines, "there is no champion, or no payment yet: nothing to compare"]
        scorer = load_scorer(settings, champion.version, "trainer")
        health = look(connection, settings, scorer, at)
        values = (health.shift, health.changed, health.evidence)
        connection.execute(
            KEEP, (at, scorer.version, health.cause, health.subject, *(Jsonb(value) for value in values))
        )
        tell(connection, settings.model_name, health)
    return [*lines, health.summary]


def asks_for_retraining(settings: Settings, since: datetime) -> bool:
    """Whether an incident was opened at `since` or later, and is open, that a new model may end."""
    with psycopg.connect(settings.conninfo("trainer")) as connection:
        values = (settings.model_name, LEARNABLE, since)
        return bool(one_row(connection.execute(OPENED, values))[0])


def look(connection: psycopg.Connection[Any], settings: Settings, scorer: Scorer, at: datetime) -> Health:
    """What is found at a time of events."""
    end = at + timedelta(microseconds=1)
    stored, _ = stored_rows.counts(connection, end - USUAL - WEEK, end - WEEK, FEATURE_SET, len(FEATURES))
    share = min(1.0, MAX_ROWS / max(stored, 1))

    def decide(vectors: np.ndarray) -> np.ndarray:
        return scorer.is_alert(scorer.score(vectors))

    def sample(start: datetime, end: datetime) -> tuple[Sample, np.ndarray]:
        rows = stored_rows.feature_rows(
            connection, start, end, feature_set=FEATURE_SET, width=len(FEATURES), share=share
        )
        with connection.cursor(row_factory=dict_row) as cursor:
            missing = one_row(cursor.execute(statement("monitor/missing"), {"start": start, "end": end}))
        known = {name: value or 0.0 for name, value in missing.items()}
        days = (end - start).total_seconds() / DAY * share
        return Sample(rows.features, decide(rows.features), known, days), rows.timestamp

    before, times = sample(end - USUAL - WEEK, end - WEEK)
    day_of = evaluation.days_of(times)
    shares = np.array([before.alert[day_of == day].mean() for day in np.unique(day_of)])
    usual = Usual(before, _reports(connection, end - USUAL - WEEK, end - WEEK), shares)
    given = {"at": end, "hours": HOURS, "topic": settings.transactions_topic}
    partitions = connection.execute(statement("monitor/partitions"), given).fetchall()
    now = Now(
        day=sample(end - timedelta(days=1), end)[0],
        week=sample(end - WEEK, end)[0],
        reports=_reports(connection, end - 2 * WEEK, end, newest=True),
        events={partition: events for partition, events, _ in partitions},
        expected={partition: float(expected) for partition, _, expected in partitions},
    )
    health = drift.judge(now, usual, decide)
    if health.cause is not None:
        return health
    (trained_to,) = one_row(connection.execute(NEWEST_VERSION))
    if trained_to is not None and at - trained_to > STALE and len(before):
        subject = f"no model has learned anything newer than {trained_to:%Y-%m-%d}, {(at - trained_to).days} days ago"
        return Health(Cause.STALE, subject, health.shift, health.changed, health.evidence)
    return health


def _reports(
    connection: psycopg.Connection[Any], start: datetime, end: datetime, newest: bool = False
) -> Reports:
    rows = connection.execute(statement("monitor/reports"), {"start": start, "end": end}).fetchall()
    days = (end - start).total_seconds() / DAY
    delay, known_at, caught = (
        (np.array(column) for column in zip(*rows, strict=True)) if rows else 3 * [np.empty(0)]
    )
    if newest:
        gap = (end.timestamp() - known_at[-1]) / DAY if len(rows) else days
    else:
        gap = np.diff(known_at).max() / DAY if len(rows) > 1 else days
    return Reports(delay, caught.astype(bool), days, float(gap))


def tell(connection: psycopg.Connection[Any], model: str, health: Health) -> None:
    """Opens an incident of the cause, unless one of another cause is open: windows overlap, and one fault has one name.

    All are closed once nothing is wrong any more.
    """
    kinds = [str(kind) for kind in KINDS.values()]
    opened = [Kind(kind) for (kind,) in connection.execute(OPEN, (model, kinds))]
    if health.cause is None:
        for kind in opened:
            close_incident(connection, kind, model)
    elif not opened or KINDS[health.cause] in opened:
        evidence = health.evidence | {"shift": health.shift, "changed_decisions_a_day": health.changed}
        open_incident(connection, KINDS[health.cause], model, health.summary, evidence)


def over_capacity(connection: psycopg.Connection[Any]) -> list[str]:
    """The incident of the newest day with more alerts than the team can read, and why; closed on a day without."""
    with connection.cursor(row_factory=dict_row) as cursor:
        day = cursor.execute(statement("monitor/over_capacity")).fetchone()
    if day is None:
        close_incident(connection, Kind.ALERTS_OVER_CAPACITY, ALERTS)
        return []
    share = day["alerts"] / max(day["payments"], 1)
    summary = (
        f"{day['alerts']:,} alerts of {day['day']:%Y-%m-%d}, the team can read {day['capacity']:,}; "
        f"{day['held_back']:,} are held back: {day['payments']:,} payments came, usually "
        f"{float(day['usual_payments']):,.0f} a day, and {share:.1%} raise alerts, usually {day['usual_share']:.1%}"
    )
    evidence = {name: float(value) if name != "day" else f"{value:%Y-%m-%d}" for name, value in day.items()}
    open_incident(connection, Kind.ALERTS_OVER_CAPACITY, ALERTS, summary, evidence)
    return [summary]
