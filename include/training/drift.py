"""Whether what is scored now is still what the model learned, and the one cause why it is not.

Pure functions on arrays: `include.operations.model_monitor` reads them from PostgreSQL. A change is measured by what it
does to decisions, never by a p-value: with enough payments every difference is significant. docs/models.md has the
rules for people; `fraudstream bench drift` counts false alarms and right names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from include.features.definitions import FEATURES

ASPECTS: Mapping[str, np.ndarray] = {
    aspect: np.array([FEATURES.index(name) for name in names.split()])
    for aspect, names in {
        "amounts": "amount amount_ratio amount_z mean_1d merchant_amount_z",
        "device": "new_device",
        "place": "new_country foreign distance",
        "merchant": "new_category new_merchant",
        "time of day": "hour hour_surprise",
        "history": "history known_devices known_countries known_merchants",
    }.items()
}
"""Columns of a vector by what they say something about. How often customers pay is none: a holiday is no fault. Those
of reports are none either, they follow the labels."""
HISTORY = "history"
FIELD_OF = {"amounts": "amount", "device": "device", "place": "transaction_location", "merchant": "merchant_id",
            "time of day": "timestamp"}  # fmt: skip

BULK_SHIFT = (
    0.25  # of the payments of a day lie elsewhere: too many for anything but a fault or other customers
)
SLOW_SHIFT = 0.15  # the same of a week
ALONE = 0.4  # of the most shifted aspect's shift has the next one at most, where one field is wrong
BUSY = 1.3  # times the usual payments of a day: neither their hours nor more alerts say anything
MISSING = 0.2  # share of the payments that newly lack a field
CHANGED = 0.1  # decisions that would change, against the usual alerts
MORE_ALERTS = 2.0  # times the usual share, and
ALERT_NOISE = 6.0  # of the usual spread between days
RECALL_LOST = 0.3  # of the known frauds, fewer caught than usual, and
RECALL_NOISE = 4.0  # standard errors
FEWEST_KNOWN = 20  # frauds, to compare recall or delays
DELAY_TIMES = 1.5  # the usual, of the median delay of reports
DELAY_SHIFT = 0.2  # of the reports come later than almost all did
SILENT_TIMES = 3.0  # the longest usual interval between two reports, and
SILENT_EXPECTED = 10.0  # reports that should have come meanwhile
DEAD_EXPECTED = 30.0  # events of a partition that should have come
FEWEST_ROWS = 200  # payments of a window, to compare


class Cause(StrEnum):
    """The one thing that is wrong."""

    PIPELINE = "pipeline or field fault"
    LABELS = "labels stalled"
    POPULATION = "other customers or habits"
    FRAUD = "other fraud"
    STALE = "stale champion"


@dataclass(frozen=True)
class Sample:
    """N payments in order of time: vectors (N, F) and alerts (N,).

    `missing` has the share of payments without each optional field; `days` is the time that they took to come,
    times the share of the customers that they are of.
    """

    features: np.ndarray
    alert: np.ndarray
    missing: Mapping[str, float]
    days: float

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Reports:
    """Frauds that became known in some days: their delays (L,) in days, and whether they had raised an alert (L,).

    `gap` is the longest time between two of them in days; of the newest reports, the time since the last one.
    """

    delay: np.ndarray
    caught: np.ndarray
    days: float
    gap: float


@dataclass(frozen=True)
class Usual:
    """What is compared with: payments and reports of weeks before, and the alerts' share of each of their days (D,)."""

    sample: Sample
    reports: Reports
    alert_share_by_day: np.ndarray


@dataclass(frozen=True)
class Now:
    """The newest day, the newest week, the reports of the newest days, and events of each partition in a few hours.

    `expected` has how many events a partition should have had, by the same hours of earlier days.
    """

    day: Sample
    week: Sample
    reports: Reports
    events: Mapping[int, int] = field(default_factory=dict)
    expected: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Health:
    """What was found: the cause, or None, its subject in words, and the figures behind it.

    shift: of each aspect, the largest share of the day's payments that one of its features has elsewhere (the greatest
    distance between both distribution functions). changed: decisions a day that would change if it were as usual.
    """

    cause: Cause | None
    subject: str
    shift: dict[str, float]
    changed: dict[str, float]
    evidence: dict[str, Any]

    @property
    def summary(self) -> str:
        """One sentence."""
        return f"{self.cause}: {self.subject}" if self.cause else "as usual"


def distance(values: np.ndarray, usual: np.ndarray, lower: bool = False) -> np.ndarray:
    """(C,) the greatest distance between the distribution functions of two matrices (N, C) and (M, C), by column.

    Args:
        lower: count only values that are lower than usual.
    """
    result = np.zeros(values.shape[1])
    for column in range(values.shape[1]):
        one, other = np.sort(values[:, column]), np.sort(usual[:, column])
        points = np.concatenate([one, other])
        apart = np.searchsorted(one, points, side="right") / len(one)
        apart -= np.searchsorted(other, points, side="right") / len(other)
        result[column] = (apart if lower else np.abs(apart)).max()
    return result


def as_usual(values: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Each value of a matrix (N, C) replaced by that of the same rank in its column of (M, C)."""
    mapped = np.empty_like(values)
    for column in range(values.shape[1]):
        rank = np.empty(len(values), np.int64)
        rank[np.argsort(values[:, column], kind="stable")] = np.arange(len(values))
        ordered = np.sort(usual[:, column])
        mapped[:, column] = ordered[((rank + 0.5) / len(values) * len(ordered)).astype(np.int64)]
    return mapped


def shifts(sample: Sample, usual: Sample) -> dict[str, float]:
    """Of each aspect the largest distance of its columns; nothing for too few payments.

    A longer history is no shift: every customer's grows.
    """
    if len(sample) < FEWEST_ROWS or len(usual) < FEWEST_ROWS:
        return {}
    return {
        aspect: round(
            float(distance(sample.features[:, columns], usual.features[:, columns], aspect == HISTORY).max()),
            3,
        )
        for aspect, columns in ASPECTS.items()
    }


def changed_decisions(
    sample: Sample, usual: Sample, decide: Callable[[np.ndarray], np.ndarray], aspect: str
) -> float:
    """Decisions a day that would change if an aspect's features were distributed as usual, the others as they are."""
    columns = ASPECTS[aspect]
    vectors = sample.features.copy()
    vectors[:, columns] = as_usual(sample.features[:, columns], usual.features[:, columns])
    return float((decide(vectors) != decide(sample.features)).sum() / max(sample.days, 1e-9))


def judge(now: Now, usual: Usual, decide: Callable[[np.ndarray], np.ndarray]) -> Health:
    """The one cause, looked for in this order: fields and pipeline, labels, customers and habits, fraud.

    Args:
        decide: from vectors (N, F) to alerts (N,).
    """
    day, week = shifts(now.day, usual.sample), shifts(now.week, usual.sample)
    if _busy(now.day, usual.sample):
        day.pop("time of day", None)  # a peak that began in the night has more payments of the night
    suspects = {aspect for aspect, moved in day.items() if moved >= BULK_SHIFT}
    suspects |= {aspect for aspect, moved in week.items() if moved >= SLOW_SHIFT}
    changed = {
        aspect: round(changed_decisions(now.day, usual.sample, decide, aspect), 2)
        for aspect in sorted(suspects)
    }
    evidence: dict[str, Any] = {
        "shift_of_the_week": week,
        "usual_alerts_a_day": round(_alerts_a_day(usual, now.day), 2),
        "alerts_a_day": round(float(now.day.alert.sum()) / max(now.day.days, 1e-9), 2),
        "missing": {name: round(share, 3) for name, share in now.day.missing.items()},
        "median_delay_days": _median(now.reports.delay),
        "usual_delay_days": _median(usual.reports.delay),
        "reports_a_day": round(len(now.reports.delay) / max(now.reports.days, 1e-9), 2),
        "usual_reports_a_day": round(len(usual.reports.delay) / max(usual.reports.days, 1e-9), 2),
    }

    def health(cause: Cause | None, subject: str) -> Health:
        return Health(cause, subject, day, changed, evidence)

    if subject := _dead_partition(now) or _missing_field(now.day, usual.sample):
        return health(Cause.PIPELINE, subject)
    material = _material(changed, usual, now.day)
    first, second, *_ = [*sorted(day, key=lambda item: -day[item]), "", ""]
    if first and first != HISTORY and day[first] >= BULK_SHIFT and day[second] <= ALONE * day[first]:
        aspect = first
        return health(
            Cause.PIPELINE,
            f"{FIELD_OF.get(aspect, aspect)}: {day[aspect]:.0%} of the payments lie elsewhere, of one aspect alone; "
            f"{changed[aspect]:,.0f} decisions a day are changed by it",
        )
    if subject := _stalled(now.reports, usual.reports):
        return health(Cause.LABELS, subject)
    if moved_aspects := material | {aspect for aspect, moved in day.items() if moved >= BULK_SHIFT}:
        named = ", ".join(
            f"{aspect} {max(day.get(aspect, 0), week.get(aspect, 0)):.0%}" for aspect in sorted(moved_aspects)
        )
        decisions = sum(changed[aspect] for aspect in moved_aspects)
        return health(
            Cause.POPULATION,
            f"payments lie elsewhere in {named}; {decisions:,.0f} decisions a day are changed",
        )
    if subject := _other_fraud(now, usual):
        return health(Cause.FRAUD, subject)
    return health(None, "")


def _busy(day: Sample, usual: Sample) -> bool:
    """Many more payments come than usual: a peak, in which customers' own paces raise alerts, too."""
    return len(day) / max(day.days, 1e-9) > BUSY * len(usual) / max(usual.days, 1e-9)


def _alerts_a_day(usual: Usual, day: Sample) -> float:
    """Alerts that as many payments as today's usually raise."""
    return float(usual.sample.alert.mean()) * len(day) / max(day.days, 1e-9) if len(usual.sample) else 0.0


def _material(changed: Mapping[str, float], usual: Usual, day: Sample) -> set[str]:
    """The shifted aspects that change decisions, as many as `CHANGED` of the usual alerts and at least one a day."""
    least = max(1.0, CHANGED * _alerts_a_day(usual, day))
    return {aspect for aspect, decisions in changed.items() if decisions >= least}


def _dead_partition(now: Now) -> str:
    dead = sorted(
        partition
        for partition, expected in now.expected.items()
        if expected >= DEAD_EXPECTED and not now.events.get(partition)
    )
    if not dead or not any(now.events.values()):
        return ""  # a stream that stands still altogether is another alarm
    return f"partition {dead[0]} gives nothing while others do; {now.expected[dead[0]]:,.0f} events were expected"


def _missing_field(day: Sample, usual: Sample) -> str:
    more = {name: share - usual.missing.get(name, 0.0) for name, share in day.missing.items()}
    name = max(more, key=lambda item: more[item], default="")
    if not name or more[name] < MISSING or len(day) < FEWEST_ROWS:
        return ""
    return f"{name} is missing in {day.missing[name]:.0%} of the payments, usually in {usual.missing.get(name, 0):.0%}"


def _stalled(reports: Reports, usual: Reports) -> str:
    """Why reports of fraud are late or missing; empty when they come as usual."""
    expected = len(usual.delay) / max(usual.days, 1e-9) * reports.gap
    if expected >= SILENT_EXPECTED and reports.gap >= SILENT_TIMES * usual.gap:
        return f"no report of fraud for {reports.gap:.1f} days, in which {expected:.0f} were expected"
    if min(len(reports.delay), len(usual.delay)) < FEWEST_KNOWN:
        return ""
    now, before = float(np.median(reports.delay)), float(np.median(usual.delay))
    later = float((reports.delay > np.quantile(usual.delay, 0.8)).mean()) - 0.2
    if now >= DELAY_TIMES * before and later >= DELAY_SHIFT:
        return f"reports of fraud take {now:.1f} days instead of {before:.1f}"
    return ""


def _other_fraud(now: Now, usual: Usual) -> str:
    """Why fraud is another one, while honest payments are as usual; empty when it is not."""
    shares = usual.alert_share_by_day
    if len(shares) >= 5 and len(now.day) >= FEWEST_ROWS and not _busy(now.day, usual.sample):
        half, mean = len(now.day) // 2, float(shares.mean())
        # In both halves: a fault that began just now has not shifted the whole day yet, and would be called fraud.
        share = float(min(now.day.alert[:half].mean(), now.day.alert[half:].mean()))
        spread = max(float(shares.std()), float(np.sqrt(max(mean, 1e-6) / half)))
        if share >= MORE_ALERTS * mean and share - mean >= ALERT_NOISE * spread:
            return f"{share:.1%} of the payments raise alerts, usually {mean:.1%}, and payments are as usual otherwise"
    one, other = now.reports.caught, usual.reports.caught
    if min(len(one), len(other)) >= FEWEST_KNOWN:
        lost = float(other.mean() - one.mean())
        error = float(np.sqrt(other.mean() * (1 - other.mean()) * (1 / len(one) + 1 / len(other))))
        if lost >= RECALL_LOST and lost >= RECALL_NOISE * max(error, 1e-9):
            return f"{one.mean():.0%} of the frauds that became known had raised an alert, usually {other.mean():.0%}"
    return ""


def _median(delay: np.ndarray) -> float | None:
    return round(float(np.median(delay)), 2) if len(delay) else None
