"""False alarms of the model's monitor in stationary weeks, and whether it names injected faults.

The world is the generator's own. A fault begins at one moment; from then on the monitor looks every few hours until it
finds a cause. `include.training.drift` has the rules; nothing here is known to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from include.bench import START
from include.bench.detection import known_frauds
from include.bench.worlds import own
from include.bench.worlds.history import DAY, HOUR, History, Labels
from include.models.isolation_forest import IsolationForestDetector
from include.training import drift
from include.training.drift import Cause, Health, Now, Reports, Sample, Usual
from include.training.recompute import recompute
from include.training.thresholds import threshold_at

DAYS, PER_DAY, CUSTOMERS, PARTITIONS = 74, 500, 250, 2
LEARNED, BEGINS = 30, 50  # days: the champion's training ends, the fault begins
ALERT_SHARE = 0.015
USUAL_DAYS, REPORT_DAYS = 28, 14
LOOKED = 21  # days after a fault began
EVERY = 3  # hours
MIDNIGHT = int(START.timestamp()) * 1_000_000


class Fault(NamedTuple):
    """What is done to a history from a moment (microseconds) on, and the cause that it is."""

    name: str
    cause: Cause | None
    inject: Callable[[History, int, np.random.Generator], History]


class Watched(NamedTuple):
    """What the monitor said first after a fault began, and how many events had come until then; None for nothing."""

    fault: str
    expected: Cause | None
    health: Health | None
    events: int | None
    hours: float | None

    @property
    def right(self) -> bool:
        return (self.health.cause if self.health else None) == self.expected


def _fields(history: History, begins: int, **changed: Callable[[np.ndarray], np.ndarray]) -> History:
    """The history with some fields changed from a moment on."""
    later = history.time >= begins
    fields = dict(history.fields)
    for name, change in changed.items():
        values = fields[name].copy()
        values[later] = change(values[later])
        fields[name] = values
    return replace(history, fields=fields)


def cents(history: History, begins: int, rng: np.random.Generator) -> History:
    """Amounts in cents instead of euros."""
    return _fields(history, begins, amount=lambda amounts: amounts * 100)


def time_zone(history: History, begins: int, rng: np.random.Generator) -> History:
    """Local times seven hours behind, read as UTC; the order of the log stays."""
    return replace(history, time=np.where(history.time >= begins, history.time - 7 * HOUR, history.time))


def renamed_device(history: History, begins: int, rng: np.random.Generator) -> History:
    """A new version of the app names every device otherwise."""
    return _fields(history, begins, device=lambda names: np.array([f"{n} (app 2)" for n in names], object))


def missing_category(history: History, begins: int, rng: np.random.Generator) -> History:
    """A field that is not filled in any more."""
    return _fields(history, begins, merchant_category=lambda values: np.full(len(values), None, object))


def country_codes(history: History, begins: int, rng: np.random.Generator) -> History:
    """Places of payment with other names of their countries."""

    def coded(places: np.ndarray) -> np.ndarray:
        return np.array([f"{place.rpartition(',')[0]}, {place[-3:].upper()}1" for place in places], object)

    return _fields(history, begins, transaction_location=coded)


def merchant_ids(history: History, begins: int, rng: np.random.Generator) -> History:
    """Merchants with ids of another system."""
    return _fields(history, begins, merchant_id=lambda ids: np.array([f"M2/{i}" for i in ids], object))


def dead_partition(history: History, begins: int, rng: np.random.Generator) -> History:
    """One partition gives nothing any more."""
    return _rows(history, (history.time < begins) | (partitions(history) != 1))


def doubled_delay(history: History, begins: int, rng: np.random.Generator) -> History:
    """Reports take twice as long."""
    labels = history.labels
    delay = labels.known_at - history.time[labels.row]
    late = np.where(labels.known_at >= begins, labels.known_at + delay, labels.known_at)
    return replace(history, labels=Labels(labels.row, labels.fraud, late))


def stopped_labels(history: History, begins: int, rng: np.random.Generator) -> History:
    """No report comes any more."""
    labels = history.labels
    kept = labels.known_at < begins
    return replace(history, labels=Labels(labels.row[kept], labels.fraud[kept], labels.known_at[kept]))


def new_customers(history: History, begins: int, rng: np.random.Generator) -> History:
    """A second shop's customers: as many payments again, all of customers who were never seen."""
    others = own.simulate(int(rng.integers(1_000, 2_000)), DAYS * PER_DAY, CUSTOMERS * 4, DAYS)
    names = np.array([f"new {name}" for name in others.fields["user_id"]], object)
    others = replace(others, fields=others.fields | {"user_id": names})
    return joined(history, _rows(others, others.time >= begins))


def new_habits(history: History, begins: int, rng: np.random.Generator) -> History:
    """Half of the customers shop elsewhere, with other devices, for more money."""
    users = np.unique(history.fields["user_id"].astype(str))
    changing = np.isin(history.fields["user_id"].astype(str), users[rng.random(len(users)) < 0.5])
    rows = changing & (history.time >= begins)
    fields = dict(history.fields)
    for name in ("device", "merchant_id"):
        values = fields[name].copy()
        values[rows] = [f"{value} of another kind {rng.integers(4)}" for value in values[rows]]
        fields[name] = values
    amounts = fields["amount"].copy()
    amounts[rows] = amounts[rows] * 2.2
    return replace(history, fields=fields | {"amount": amounts})


def drifted(history: History, begins: int, rng: np.random.Generator) -> History:
    """The generator's own drift: amounts, devices and the mix of fraud change."""
    at = START + timedelta(microseconds=begins - MIDNIGHT)
    return own.simulate(int(rng.integers(1_000)), len(history), CUSTOMERS, DAYS, drift_at=at)


def fraud_wave(history: History, begins: int, rng: np.random.Generator) -> History:
    """Six times as much fraud, of the same customers."""
    seed = int(rng.integers(1_000))
    calm, wild = (
        own.simulate(seed, DAYS * PER_DAY, CUSTOMERS, DAYS, fraud_rate=rate) for rate in (0.01, 0.06)
    )
    return joined(_rows(calm, calm.time < begins), _rows(wild, wild.time >= begins))


def holiday(history: History, begins: int, rng: np.random.Generator) -> History:
    """Five days with three times the payments: those of other days come in addition, at the same hours."""
    before = (history.time >= begins - 20 * DAY) & (history.time < begins) & (history.scenario == "")
    usual_number = int(((history.time >= begins) & (history.time < begins + 5 * DAY)).sum())
    more = rng.choice(np.flatnonzero(before), 2 * usual_number)
    extra = _rows(history, more)
    moved = begins + rng.integers(0, 5, len(more)) * DAY + extra.time % DAY
    none = np.array([], np.int64)
    extra = replace(extra, time=moved, labels=Labels(none, none.astype(bool), none))
    return joined(history, extra)


FAULTS = (
    Fault("cents for euros", Cause.PIPELINE, cents),
    Fault("a time zone", Cause.PIPELINE, time_zone),
    Fault("renamed devices", Cause.PIPELINE, renamed_device),
    Fault("a field is missing", Cause.PIPELINE, missing_category),
    Fault("country codes", Cause.PIPELINE, country_codes),
    Fault("other merchant ids", Cause.PIPELINE, merchant_ids),
    Fault("a dead partition", Cause.PIPELINE, dead_partition),
    Fault("reports take twice as long", Cause.LABELS, doubled_delay),
    Fault("no reports", Cause.LABELS, stopped_labels),
    Fault("as many new customers", Cause.POPULATION, new_customers),
    Fault("new habits", Cause.POPULATION, new_habits),
    Fault("the generator's drift", Cause.POPULATION, drifted),
    Fault("six times the fraud", Cause.FRAUD, fraud_wave),
    Fault("a holiday peak", None, holiday),
)


def partitions(history: History) -> np.ndarray:
    """(N,) the Kafka partition of each payment: by its customer."""
    users, user = np.unique(history.fields["user_id"].astype(str), return_inverse=True)
    return np.array([sum(map(ord, name)) % PARTITIONS for name in users.tolist()])[user]


def _rows(history: History, rows: np.ndarray) -> History:
    """Some rows of a history, with their labels."""
    chosen = np.flatnonzero(rows) if rows.dtype == bool else rows
    number = np.full(len(history), -1)
    number[chosen] = np.arange(len(chosen))
    labels = history.labels
    kept = number[labels.row] >= 0
    return History(
        history.time[chosen],
        {name: values[chosen] for name, values in history.fields.items()},
        {},
        {},
        history.scenario[chosen],
        Labels(number[labels.row[kept]], labels.fraud[kept], labels.known_at[kept]),
    )


def joined(one: History, other: History) -> History:
    """Two histories in one order of time."""
    time = np.concatenate([one.time, other.time])
    order = np.argsort(time, kind="stable")
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    row = position[np.concatenate([one.labels.row, other.labels.row + len(one)])]
    fraud, known_at = (
        np.concatenate([getattr(one.labels, name), getattr(other.labels, name)])
        for name in ("fraud", "known_at")
    )
    return History(
        time[order],
        {name: np.concatenate([one.fields[name], other.fields[name]])[order] for name in one.fields},
        {},
        {},
        np.concatenate([one.scenario, other.scenario])[order],
        Labels(row, fraud, known_at),
    )


@dataclass(frozen=True)
class Scored:
    """A history as the stream scored it: vectors, alerts, partitions, and when each payment arrived (microseconds)."""

    history: History
    arrived: np.ndarray
    partition: np.ndarray
    features: np.ndarray
    alert: np.ndarray
    decide: Callable[[np.ndarray], np.ndarray]


def scored(history: History, arrived: np.ndarray) -> Scored:
    """Features in the order of the log, and the decisions of a forest that learned from the first days."""
    transactions = history.transactions()
    features = recompute(transactions, partitions(history), known_frauds(history.labels, transactions))
    learned = arrived < MIDNIGHT + LEARNED * DAY
    labels = history.labels
    truth = np.zeros(len(history), np.int8)
    truth[labels.row[labels.fraud & (labels.known_at < MIDNIGHT + LEARNED * DAY)]] = 1
    detector = IsolationForestDetector(trees=60).fit(features[learned], truth[learned])
    scorer = detector.scorer(threshold=0.0, version=1, feature_set=1)
    calm = (arrived >= MIDNIGHT + LEARNED * DAY) & (arrived < MIDNIGHT + (BEGINS - 5) * DAY)
    scorer = replace(scorer, threshold=threshold_at(scorer.score(features[calm]), ALERT_SHARE))

    def decide(vectors: np.ndarray) -> np.ndarray:
        return scorer.is_alert(scorer.score(vectors))

    return Scored(history, arrived, partitions(history), features, decide(features), decide)


OPTIONAL = ("device", "merchant_category", "merchant_id", "transaction_location")


def sample(made: Scored, start: int, end: int) -> Sample:
    """The payments that arrived in [start, end)."""
    rows = (made.arrived >= start) & (made.arrived < end)
    missing = {
        name: float(np.mean([value is None for value in made.history.fields[name][rows]]))
        if rows.any()
        else 0.0
        for name in OPTIONAL
    }
    return Sample(made.features[rows], made.alert[rows], missing, (end - start) / DAY)


def reports(made: Scored, start: int, end: int, newest: bool = False) -> Reports:
    """The frauds that became known in [start, end); for the newest, with the time since the last one."""
    labels = made.history.labels
    chosen = labels.fraud & (labels.known_at >= start) & (labels.known_at < end)
    row = labels.row[chosen]
    delay = (labels.known_at[chosen] - made.arrived[row]) / DAY
    known_at = np.sort(labels.known_at[chosen])
    gap = float(np.diff(known_at).max() / DAY) if len(known_at) > 1 else (end - start) / DAY
    if newest:
        gap = float(end - known_at[-1]) / DAY if len(known_at) else (end - start) / DAY
    return Reports(delay, made.alert[row], (end - start) / DAY, gap)


def usual(made: Scored, at: int) -> Usual:
    """The weeks before the newest one."""
    start, end = at - (USUAL_DAYS + 7) * DAY, at - 7 * DAY
    start = max(start, MIDNIGHT + 14 * DAY)
    whole = sample(made, start, end)
    shares = [
        float(made.alert[(made.arrived >= day) & (made.arrived < day + DAY)].mean())
        for day in range(start, end - DAY + 1, DAY)
    ]
    return Usual(whole, reports(made, start, end), np.array(shares))


def judged(made: Scored, at: int, against: Usual) -> Health:
    """What the monitor says at a moment (microseconds)."""
    hours = 6 * HOUR
    events, expected = {}, {}
    for partition in range(PARTITIONS):
        arrived = np.sort(made.arrived[made.partition == partition])
        counts = [np.searchsorted(arrived, at - d * DAY) - np.searchsorted(arrived, at - d * DAY - hours)
                  for d in (0, 7, 14, 21)]  # fmt: skip
        events[partition], expected[partition] = int(counts[0]), float(np.mean(counts[1:]))
    newest = reports(made, at - REPORT_DAYS * DAY, at, newest=True)
    now = Now(sample(made, at - DAY, at), sample(made, at - 7 * DAY, at), newest, events, expected)
    return drift.judge(now, against, made.decide)


def watch(fault: Fault, seed: int) -> Watched:
    """Injects a fault and looks every few hours, until a cause is named or `LOOKED` days are over."""
    rng = np.random.default_rng([seed, len(fault.name)])
    begins = MIDNIGHT + BEGINS * DAY
    plain = own.simulate(seed, DAYS * PER_DAY, CUSTOMERS, DAYS)
    history = fault.inject(plain, begins, rng)
    arrived = history.time
    made = scored(history, arrived)
    against = usual(made, begins)
    for hours in range(EVERY, LOOKED * 24 + 1, EVERY):
        health = judged(made, begins + hours * HOUR, against)
        if health.cause is not None:
            events = int(((arrived >= begins) & (arrived < begins + hours * HOUR)).sum())
            return Watched(fault.name, fault.cause, health, events, hours)
    return Watched(fault.name, fault.cause, None, None, None)


def false_alarms(weeks: int, seed: int, every: int = 24) -> Iterator[Health]:
    """What the monitor says in so many stationary weeks, looking once in `every` hours."""
    days = weeks * 7 + BEGINS
    history = own.simulate(seed, days * PER_DAY, CUSTOMERS, days)
    made = scored(history, history.time)
    for hours in range(0, weeks * 7 * 24, every):
        at = MIDNIGHT + BEGINS * DAY + hours * HOUR
        yield judged(made, at, usual(made, at))


def measure(
    weeks: int = 200, seeds: Sequence[int] = (1, 2, 3), starting: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """False alarms in stationary weeks and the names of injected faults; ready for JSON."""
    starting(f"{weeks} stationary weeks")
    alarms, open_cause = [], None
    for health in false_alarms(weeks, seed=7):
        if health.cause is not None and open_cause is None:
            alarms.append(health.summary)
        open_cause = health.cause
    watched = []
    for fault in FAULTS:
        starting(fault.name)
        watched += [watch(fault, seed) for seed in seeds]
    return {
        "weeks": weeks,
        "false_alarms": alarms,
        "seeds": list(seeds),
        "faults": [
            {
                "fault": w.fault,
                "expected": w.expected,
                "named": w.health and w.health.summary,
                "right": w.right,
                "events": w.events,
                "hours": w.hours,
            }
            for w in watched
        ],
    }


def tables(result: dict[str, Any]) -> Iterator[Table | str]:
    """What to print, in order."""
    yield f"{len(result['false_alarms'])} false alarms in {result['weeks']} stationary weeks"
    yield from result["false_alarms"]
    table = Table("Fault", "Right", "Events until noticed", "Hours", "Named")
    for row in result["faults"]:
        events = "-" if row["events"] is None else f"{row['events']:,}"
        hours = "-" if row["hours"] is None else f"{row['hours']:.0f}"
        table.add_row(row["fault"], "yes" if row["right"] else "no", events, hours, row["named"] or "nothing")
    yield table
