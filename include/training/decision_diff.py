"""What a candidate would have decided otherwise: its alerts over a range against those that were raised.

The candidate scores the stored vectors of events with the scorer that the stream uses; vectors of another feature set
are recomputed by the stream's own code. Days are UTC days of the event. A finished day is kept, so an interrupted diff
goes on where it was, with the labels that were known when it began, and gives the same hash.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from include.features.behaviour import FEATURE_SET, FEATURES
from include.registry import aliases, library
from include.registry.loading import load_scorer
from include.settings import Settings
from include.sql import statement
from include.training import stored_rows
from include.training.evaluation import DAY
from include.training.recompute import recomputed_rows

if TYPE_CHECKING:
    from include.models.scorer import Scorer

EXAMPLES = 10  # of gained and of lost decisions
ARTIFACT = "decision_diff.json"
GROUPS = {"new customers (under 5 payments)": 5.0, "customers with 5 to 50 payments": 50.0}  # upper bounds
REGULAR = "customers with more than 50 payments"
INSERT = """
insert into shop.decision_diffs (version, threshold, starts, ends, result) values (%s, %s, %s, %s, %s)"""


class NothingToCompare(ValueError):
    """No decision in the range, or no candidate; the message says what to do."""


class Offsets(NamedTuple):
    """Offsets [first, end) of a partition of the transactions' topic."""

    partition: int
    first: int
    end: int


@dataclass(frozen=True)
class Side:
    """Counts of one side's decisions: alerts, known frauds among them, and the amounts of those frauds."""

    alerts: int = 0
    caught: int = 0
    caught_amount: float = 0.0

    def __add__(self, other: Side) -> Side:
        return Side(
            self.alerts + other.alerts, self.caught + other.caught, self.caught_amount + other.caught_amount
        )


@dataclass(frozen=True)
class Part:
    """Both sides' counts of some transactions, their known frauds, and the alerts that only one side raises."""

    transactions: int = 0
    frauds: int = 0
    stored: Side = Side()
    candidate: Side = Side()
    gained: int = 0
    lost: int = 0

    def __add__(self, other: Part) -> Part:
        return Part(
            self.transactions + other.transactions,
            self.frauds + other.frauds,
            self.stored + other.stored,
            self.candidate + other.candidate,
            self.gained + other.gained,
            self.lost + other.lost,
        )

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Part:
        return cls(
            **{**content, "stored": Side(**content["stored"]), "candidate": Side(**content["candidate"])}
        )


class Example(NamedTuple):
    """A transaction that only one side alerts on, and what is known of it: fraud, or None without a label."""

    transaction_id: str
    user_id: str
    partition: int
    offset: int
    at: str
    amount: float
    stored_score: float
    candidate_score: float
    fraud: bool | None
    scenario: str


@dataclass(frozen=True)
class DecisionDiff:
    """A candidate against what was decided with event time in [from, to); ready for JSON.

    `hash` is the sha256 of every difference and count. Money is the amount of fraud known at `as_of`; `net_money` also
    has the costs of more or fewer reviews. `per_day`, `per_scenario` and `per_group` have the parts by name.
    """

    version: int
    threshold: float
    stored_versions: list[int]
    start: str
    end: str
    as_of: str
    vectors: str
    days: float
    total: Part
    money: float
    net_money: float
    alerts_a_day: dict[str, float]
    per_day: dict[str, Part]
    per_scenario: dict[str, Part]
    per_group: dict[str, Part]
    gained: list[Example]
    lost: list[Example]
    hash: str
    offsets: list[Offsets] = field(default_factory=list)

    def described(self) -> dict[str, Any]:
        """As plain JSON."""
        plain = asdict(self)
        for name in ("gained", "lost", "offsets"):
            plain[name] = [item._asdict() for item in getattr(self, name)]
        return plain


def diff(
    settings: Settings,
    version: int | None = None,
    threshold: float | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    offsets: Sequence[Offsets] = (),
    as_of: datetime | None = None,
    keep: bool = True,
) -> DecisionDiff:
    """Compares a candidate's decisions with those that were stored, and keeps the result in shop.decision_diffs.

    Args:
        version: of the candidate; the challenger unless given, or the champion where a threshold is.
        threshold: the candidate's own unless given.
        start: 7 days before `end` unless given.
        end: just after the newest event unless given.
        offsets: only these ranges of the transactions' topic, whatever their time.
        as_of: labels known by then; the newest event's time unless given.
        keep: also in PostgreSQL and as an artifact of the version's run in MLflow.

    Raises:
        NothingToCompare: no decision is stored in the range, or there is no candidate.
        ModelRejected, RegistryUnavailable: the version cannot be loaded.
    """
    version = version or _candidate(settings, threshold)
    scorer = load_scorer(settings, version, "trainer")
    if threshold is not None:
        scorer = replace(scorer, threshold=threshold)
    asked = [scorer.sha256, scorer.threshold, _text(start), _text(end), _text(as_of), [*map(list, offsets)]]
    progress = _Progress(settings, version, asked)
    with psycopg.connect(settings.conninfo("trainer")) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        scope = progress.scope() or _Scope.resolve(connection, settings, start, end, offsets, as_of)
        progress.begin(scope)
        days = _days(connection, scorer, scope, settings, offsets, progress)
        result = _result(scorer, scope, settings, offsets, days)
    if keep:
        _keep(settings, result)
    progress.forget()
    return result


def _candidate(settings: Settings, threshold: float | None) -> int:
    wanted = aliases.champion if threshold is not None else aliases.challenger
    candidate = wanted(settings, "trainer")
    if candidate is None:
        raise NothingToCompare("there is no candidate: name a version, as `fraudstream diff --model 3`")
    return candidate.version


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


class _Scope(NamedTuple):
    """What is compared: event times (ISO 8601) and the time up to which labels are known."""

    start: str
    end: str
    as_of: str

    @classmethod
    def resolve(
        cls,
        connection: psycopg.Connection,
        settings: Settings,
        start: datetime | None,
        end: datetime | None,
        offsets: Sequence[Offsets],
        as_of: datetime | None,
    ) -> _Scope:
        newest = stored_rows.newest_event(connection)
        if newest is None:
            raise NothingToCompare(
                "shop.transactions is empty: start the streams and produce transactions first"
            )
        if offsets:
            _, times = _keys_of(connection, settings, offsets)
            if not len(times):
                raise NothingToCompare(
                    "no event of these offsets is scored: choose others, or wait for the fraud stream"
                )
            start = start or datetime.fromtimestamp(float(times.min()), UTC)
            end = end or datetime.fromtimestamp(float(times.max()) + 1e-3, UTC)
        end = end or newest + timedelta(microseconds=1)
        start = start or end - timedelta(days=7)
        return cls(start.isoformat(), end.isoformat(), (as_of or newest).isoformat())

    def days(self) -> Iterator[tuple[datetime, datetime]]:
        """The UTC days of the range, the first and the last cut to it."""
        start, end = datetime.fromisoformat(self.start), datetime.fromisoformat(self.end)
        while start < end:
            midnight = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            stop = min(end, midnight + timedelta(days=1))
            yield start, stop
            start = stop


class _Progress:
    """The finished days of a diff, as files of a folder that is named after what was asked for."""

    def __init__(self, settings: Settings, version: int, asked: Sequence[object]) -> None:
        name = hashlib.sha256(json.dumps([version, *asked]).encode()).hexdigest()[:16]
        self.folder = settings.home / "diffs" / name

    def scope(self) -> _Scope | None:
        """That of the diff that was interrupted, if there is one."""
        path = self.folder / "scope.json"
        return _Scope(*json.loads(path.read_text())) if path.exists() else None

    def begin(self, scope: _Scope) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write("scope", [*scope])

    def day(self, name: str) -> dict[str, Any] | None:
        path = self.folder / f"{name}.json"
        content: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
        return content

    def finish(self, name: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Keeps a finished day; it is there whole, or not at all. Returns it as it is read back."""
        self._write(name, content)
        return json.loads(json.dumps(content))  # type: ignore[no-any-return]

    def _write(self, name: str, content: object) -> None:
        part = self.folder / f"{name}.part"
        part.write_text(json.dumps(content))
        os.replace(part, self.folder / f"{name}.json")

    def forget(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()


def _days(
    connection: psycopg.Connection,
    scorer: Scorer,
    scope: _Scope,
    settings: Settings,
    offsets: Sequence[Offsets],
    progress: _Progress,
) -> list[dict[str, Any]]:
    """Each day's counts and differences, in order; finished ones are read back."""
    keys = _keys_of(connection, settings, offsets)[0] if offsets else None
    start, end = datetime.fromisoformat(scope.start), datetime.fromisoformat(scope.end)
    _, logged = stored_rows.counts(connection, start, end, FEATURE_SET, len(FEATURES))
    decided = connection.execute(
        "select count(*) from shop.fraud_scores where timestamp >= %s and timestamp < %s", (start, end)
    ).fetchone()
    recomputed = decided is not None and logged < decided[0]
    vectors = recomputed_rows(connection, start, end) if recomputed else None
    days = []
    for first, stop in scope.days():
        name = f"{first:%Y-%m-%d}"
        content = progress.day(name)
        if content is None:
            rows = _rows(connection, first, stop, vectors)
            if keys is not None:
                rows = rows[np.isin(rows.key, keys)]
            labels = stored_rows.labels(connection, first, stop, datetime.fromisoformat(scope.as_of))
            content = progress.finish(name, _compared(rows, scorer, labels, connection, first, stop))
        content["vectors"] = "recomputed" if recomputed else "logged"
        days.append(content)
    return days


def _keys_of(
    connection: psycopg.Connection, settings: Settings, offsets: Sequence[Offsets]
) -> tuple[np.ndarray, np.ndarray]:
    """The events' keys (N,) and times (N,) of some offset ranges."""
    pairs: list[tuple[int, float]] = []
    for partition, first, end in offsets:
        given = {"topic": settings.transactions_topic, "partition": partition, "first": first, "end": end}
        pairs += connection.execute(statement("training/offsets"), given).fetchall()
    return np.array([key for key, _ in pairs], np.int64), np.array([at for _, at in pairs], np.float64)


def _rows(
    connection: psycopg.Connection, start: datetime, end: datetime, vectors: stored_rows.FeatureRows | None
) -> stored_rows.FeatureRows:
    """The stored decisions with the vectors of the present feature set, logged or recomputed."""
    if vectors is None:
        return stored_rows.feature_rows(connection, start, end, feature_set=FEATURE_SET, width=len(FEATURES))
    decided = stored_rows.scored_rows(connection, start, end)
    order = np.argsort(vectors.key)
    at = np.minimum(np.searchsorted(vectors.key[order], decided.key), max(len(order) - 1, 0))
    known = vectors.key[order][at] == decided.key if len(order) else np.zeros(len(decided), bool)
    decided = decided[known]
    columns = {name: getattr(decided, name) for name in stored_rows.Rows.__dataclass_fields__}
    return stored_rows.FeatureRows(**columns, features=vectors.features[order][at[known]])


def customer_group(features: np.ndarray) -> np.ndarray:
    """(N,) the group of each vector's customer: by how many payments were seen before."""
    payments = np.expm1(features[:, FEATURES.index("history")].astype(np.float64))
    names = [*GROUPS, REGULAR]
    return np.array(names, object)[np.searchsorted([*GROUPS.values()], payments, side="right")]


def _compared(
    rows: stored_rows.FeatureRows,
    scorer: Scorer,
    labels: stored_rows.Labels,
    connection: psycopg.Connection,
    start: datetime,
    end: datetime,
) -> dict[str, Any]:
    """One day's counts and differences, as JSON."""
    score = scorer.score(rows.features)
    alert = scorer.is_alert(score)
    labelled, fraud, scenario = labels.of(rows.key)
    kind = np.where(fraud, np.where(scenario == "", "unknown", scenario), "no known fraud")
    group = customer_group(rows.features)
    counted = _Counted(rows.amount, rows.alert, alert, fraud)
    differing = np.flatnonzero(rows.alert != alert)
    listed = differing[np.argsort(rows.key[differing])]
    differences = [
        [
            int(rows.key[i]),
            bool(alert[i]),
            float(rows.score[i]),
            float(score[i]),
            float(rows.amount[i]),
            float(rows.timestamp[i]),
            bool(fraud[i]) if labelled[i] else None,
            str(scenario[i]),
        ]
        for i in listed
    ]
    return {
        "total": asdict(counted.part(np.ones(len(rows), bool))),
        "per_scenario": {name: asdict(counted.part(kind == name)) for name in np.unique(kind).tolist()},
        "per_group": {name: asdict(counted.part(group == name)) for name in np.unique(group).tolist()},
        "versions": np.unique(rows.version).tolist(),
        "differences": differences,
        "examples": _examples(connection, differences, start, end),
    }


class _Counted(NamedTuple):
    """Both sides' decisions on N transactions, to be counted for some of them."""

    amount: np.ndarray
    stored: np.ndarray
    candidate: np.ndarray
    fraud: np.ndarray

    def part(self, rows: np.ndarray) -> Part:
        def side(alert: np.ndarray) -> Side:
            caught = rows & alert & self.fraud
            return Side(
                int((rows & alert).sum()), int(caught.sum()), round(float(self.amount[caught].sum()), 2)
            )

        return Part(
            int(rows.sum()),
            int((rows & self.fraud).sum()),
            side(self.stored),
            side(self.candidate),
            int((rows & self.candidate & ~self.stored).sum()),
            int((rows & self.stored & ~self.candidate).sum()),
        )


def _examples(
    connection: psycopg.Connection, differences: Sequence[Sequence[Any]], start: datetime, end: datetime
) -> dict[str, list[list[Any]]]:
    """The largest amounts among the gained and the lost decisions, with the events' names."""
    chosen = {
        side: sorted((row for row in differences if row[1] == gained), key=lambda row: (-row[4], row[0]))[
            :EXAMPLES
        ]
        for side, gained in (("gained", True), ("lost", False))
    }
    keys = [row[0] for rows in chosen.values() for row in rows]
    events = connection.execute(
        statement("training/events_of_keys"), {"keys": keys, "start": start, "end": end}
    )
    named = {key: names for key, *names in events}
    return {
        side: [
            [
                *(named[key][0], named[key][1], named[key][3], named[key][4]),
                datetime.fromtimestamp(at, UTC).isoformat(),
                *(amount, stored, candidate, fraud, scenario),
            ]
            for key, _, stored, candidate, amount, at, fraud, scenario in rows
            if key in named
        ]
        for side, rows in chosen.items()
    }


def _result(
    scorer: Scorer,
    scope: _Scope,
    settings: Settings,
    offsets: Sequence[Offsets],
    days: Sequence[Mapping[str, Any]],
) -> DecisionDiff:
    per_day = {
        f"{first:%Y-%m-%d}": Part.of(day["total"]) for (first, _), day in zip(scope.days(), days, strict=True)
    }
    total = sum(per_day.values(), Part())
    if not total.transactions:
        raise NothingToCompare(
            f"no decision is stored between {scope.start} and {scope.end}: take another range, or let the fraud "
            f"stream score first"
        )
    length = (datetime.fromisoformat(scope.end) - datetime.fromisoformat(scope.start)).total_seconds() / DAY
    money = total.candidate.caught_amount - total.stored.caught_amount
    reviews = (total.candidate.alerts - total.stored.alerts) * settings.review_cost
    differences = [row for day in days for row in day["differences"]]
    parts = {name: _added(days, name) for name in ("per_scenario", "per_group")}
    counts = {name: {key: asdict(part) for key, part in value.items()} for name, value in parts.items()}
    digest = hashlib.sha256(
        json.dumps([asdict(total), counts, differences], sort_keys=True).encode()
    ).hexdigest()
    return DecisionDiff(
        version=scorer.version,
        threshold=scorer.threshold,
        stored_versions=sorted({version for day in days for version in day["versions"]}),
        start=scope.start,
        end=scope.end,
        as_of=scope.as_of,
        vectors=days[0]["vectors"],
        days=round(length, 3),
        total=total,
        money=round(money, 2),
        net_money=round(money - reviews, 2),
        alerts_a_day={
            "stored": round(total.stored.alerts / max(length, 1e-9), 2),
            "candidate": round(total.candidate.alerts / max(length, 1e-9), 2),
        },
        per_day=per_day,
        per_scenario=parts["per_scenario"],
        per_group=parts["per_group"],
        gained=_largest(days, "gained"),
        lost=_largest(days, "lost"),
        hash=digest,
        offsets=list(offsets),
    )


def _added(days: Iterable[Mapping[str, Any]], name: str) -> dict[str, Part]:
    """The days' parts by name, added up."""
    parts: dict[str, Part] = {}
    for day in days:
        for key, content in day[name].items():
            parts[key] = parts.get(key, Part()) + Part.of(content)
    return dict(sorted(parts.items()))


def _largest(days: Iterable[Mapping[str, Any]], side: str) -> list[Example]:
    examples = [Example(*row) for day in days for row in day["examples"][side]]
    return sorted(examples, key=lambda example: (-example.amount, example.transaction_id))[:EXAMPLES]


def _keep(settings: Settings, result: DecisionDiff) -> None:
    """In shop.decision_diffs, and as an artifact of the version's run."""
    described = result.described()
    times = datetime.fromisoformat(result.start), datetime.fromisoformat(result.end)
    with psycopg.connect(settings.conninfo("trainer")) as connection:
        connection.execute(INSERT, (result.version, result.threshold, *times, Jsonb(described)))
        row = connection.execute(
            "select run_id from shop.models where version = %s", (result.version,)
        ).fetchone()
    if row is not None:
        with library.connected(settings) as client:
            client.log_dict(row[0], described, ARTIFACT)


def sentences(result: DecisionDiff) -> list[str]:
    """The result in sentences, for a log, a form or an approval."""
    total, daily = result.total, result.alerts_a_day
    lines = [
        f"Version {result.version} at a threshold of {result.threshold:.4f} against what was decided on "
        f"{total.transactions:,} transactions from {result.start[:16]} to {result.end[:16]} UTC "
        f"({result.vectors} features):",
        f"{total.gained:,} alerts gained and {total.lost:,} lost; {daily['candidate']:,.1f} alerts a day instead of "
        f"{daily['stored']:,.1f}.",
        f"Known frauds among the alerts: {total.candidate.caught:,} instead of {total.stored.caught:,} of "
        f"{total.frauds:,}; their amounts {result.money:+,.2f}, after the costs of reviews {result.net_money:+,.2f}.",
    ]
    worse = [
        f"{name} ({part.candidate.caught} instead of {part.stored.caught} of {part.frauds} frauds)"
        for name, part in (*result.per_scenario.items(), *result.per_group.items())
        if part.candidate.caught < part.stored.caught
    ]
    if worse:
        lines.append(f"Less fraud is found in: {', '.join(worse)}.")
    return lines
