"""Looks at streams, books and messages again and again, and opens and closes incidents: a stream that is silent, that
lags or that starts again and again; differing features; dead letters that rise; messages that did not arrive.

It runs in the relay. The books themselves are compared by `include.operations.reconcile`, which opens its own.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import dict_row

from include.broker import kafka
from include.features.definitions import FEATURE_SET
from include.operations.incidents import Kind, close_incident, open_incident
from include.settings import Settings
from include.sql import one_row, statement
from include.streams import STREAMS, TRANSACTION_STREAM

LOOK_SECONDS = 10.0
SILENT_SECONDS = 45.0  # without a report
STOPPED_SECONDS = 100.0  # stopped or failed unasked: Airflow starts it again within a minute
FIRST_START_SECONDS = 300.0  # the same of a stream that has never run
LAG_SECONDS = 60.0  # records wait, and nothing was committed since
RESTARTS, RESTART_SECONDS = 4, 600.0  # so many starts within so long
LETTERS, LETTERS_SHARE = 20, 0.05  # new dead letters within LETTER_SECONDS, and their share of all records
LETTER_SECONDS = 600.0
START_SECONDS = 180.0  # until a service answers for the first time
DOWN_SECONDS = 45.0  # a service that does not answer for so long

Finding = tuple[Kind, str]


class Problem(NamedTuple):
    """What is wrong, in words and in figures."""

    summary: str
    evidence: Mapping[str, Any]


@dataclass
class _Seen:
    """What was seen of a stream at earlier looks; times of the monotonic clock."""

    epoch: int | None = None
    starts: deque[float] = field(default_factory=deque)
    down_since: float | None = None
    behind_since: float | None = None
    target: dict[tuple[str, int], int] = field(default_factory=dict)


class StreamWatch:
    """Decides by consecutive looks what is wrong with the streams."""

    def __init__(self) -> None:
        self._seen = {stream: _Seen() for stream in STREAMS}

    def look(
        self,
        now: float,
        rows: Iterable[Mapping[str, Any]],
        ends: Mapping[tuple[str, int], int] | None,
        airflow_works: bool = True,
    ) -> dict[Finding, Problem]:
        """What is wrong now.

        Args:
            now: seconds of a monotonic clock.
            rows: of `status_streams`.
            ends: of the partitions that the streams read; None when the brokers do not answer.
            airflow_works: Airflow, which starts streams, answers.
        """
        problems: dict[Finding, Problem] = {}
        for row in rows:
            if row["stream"] in self._seen:
                seen = self._seen[row["stream"]]
                for kind, problem in (
                    (Kind.STREAM_SILENT, self._silent(seen, now, row, airflow_works)),
                    (Kind.STREAM_RESTARTING, self._restarting(seen, now, row)),
                    (Kind.STREAM_LAGGING, self._lagging(seen, now, row, ends)),
                ):
                    if problem:
                        problems[kind, row["stream"]] = problem
        return problems

    def _silent(self, seen: _Seen, now: float, row: Mapping[str, Any], airflow_works: bool) -> Problem | None:
        down = row["state"] in ("stopped", "failed")
        if not down and row["heartbeat_age"] > SILENT_SECONDS:
            evidence = {"state": row["state"], "seconds": round(row["heartbeat_age"])}
            return Problem(f"no report for {row['heartbeat_age']:.0f} s", evidence)
        if not (down and airflow_works) or row["held"] or row["stop_requested"]:
            seen.down_since = None
            return None
        seen.down_since = now if seen.down_since is None else seen.down_since
        seconds = now - seen.down_since
        if seconds < (STOPPED_SECONDS if row["epoch"] else FIRST_START_SECONDS):
            return None
        detail = f": {row['detail']}" if row["detail"] else ""
        summary = f"is {row['state']}{detail}, and nobody asked it to stop"
        return Problem(summary, {"state": row["state"], "seconds": round(seconds)})

    def _restarting(self, seen: _Seen, now: float, row: Mapping[str, Any]) -> Problem | None:
        if seen.epoch is not None and row["epoch"] > seen.epoch:
            seen.starts.extend([now] * (row["epoch"] - seen.epoch))
        seen.epoch = row["epoch"]
        while seen.starts and now - seen.starts[0] > RESTART_SECONDS:
            seen.starts.popleft()
        if len(seen.starts) < RESTARTS:
            return None
        detail = f"; it says: {row['detail']}" if row["detail"] else ""
        summary = f"started {len(seen.starts)} times within {RESTART_SECONDS / 60:.0f} minutes{detail}"
        return Problem(summary, {"starts": len(seen.starts), "epoch": row["epoch"]})

    def _lagging(
        self, seen: _Seen, now: float, row: Mapping[str, Any], ends: Mapping[tuple[str, int], int] | None
    ) -> Problem | None:
        """Records wait, and those that waited a minute ago wait still."""
        next_offsets = {(at["topic"], at["partition"]): at["next"] for at in row["positions"]}
        if ends is None or row["held"] or row["state"] == "waiting":
            seen.behind_since = None
            return None
        ends = {at: end for at, end in ends.items() if at in next_offsets}
        lag = sum(max(0, end - next_offsets[at]) for at, end in ends.items())
        if not lag or all(next_offsets.get(at, 0) >= end for at, end in seen.target.items()):
            seen.behind_since, seen.target = now if lag else None, ends
            return None
        if seen.behind_since is None or now - seen.behind_since < LAG_SECONDS:
            return None
        seconds = now - seen.behind_since
        summary = f"{lag:,} records wait, some of them for {seconds:.0f} s"
        return Problem(summary, {"lag": lag, "seconds": round(seconds)})


def partition_ends(settings: Settings) -> dict[tuple[str, int], int] | None:
    """The ends of the partitions that the streams read; None when the brokers do not answer."""
    try:
        return {
            (topic, partition): end
            for topic in (settings.transactions_topic, settings.labels_topic)
            for partition, end in kafka.end_offsets(settings, topic).items()
        }
    except kafka.KafkaError:
        return None


class LetterWatch:
    """Decides by the ledger's counts whether dead letters rise."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, int, int]] = deque()

    def look(self, now: float, stored: int, letters: int) -> dict[Finding, Problem]:
        """What is wrong now, by what `transaction_stream` has stored and refused since its ledger began."""
        self._counts.append((now, stored, letters))
        while now - self._counts[0][0] > LETTER_SECONDS:
            self._counts.popleft()
        _, stored_before, letters_before = self._counts[0]
        new, records = letters - letters_before, letters - letters_before + stored - stored_before
        if new < LETTERS or new <= LETTERS_SHARE * records:
            return {}
        summary = (
            f"{new:,} of {records:,} records within {LETTER_SECONDS / 60:.0f} minutes became dead letters"
        )
        return {
            (Kind.DEAD_LETTERS_RISING, TRANSACTION_STREAM): Problem(
                summary, {"letters": new, "records": records}
            )
        }


class ServiceWatch:
    """Decides by consecutive looks which services are down."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._starting: set[str] | None = None
        self._began = 0.0

    def look(self, now: float, silent: Collection[str]) -> dict[Finding, Problem]:
        """What is wrong now, by the names of the services that did not answer.

        Those that are silent from the first look on are starting.
        """
        if self._starting is None:
            self._starting, self._began = {*silent}, now
        self._starting &= {*silent} if now - self._began < START_SECONDS else set()
        self._since = {name: self._since.get(name, now) for name in {*silent} - self._starting}
        return {
            (Kind.SERVICE_DOWN, name): Problem(
                f"no answer for {now - since:.0f} s", {"seconds": round(now - since)}
            )
            for name, since in self._since.items()
            if now - since >= DOWN_SECONDS
        }


class Watch:
    """One look each `LOOK_SECONDS`; a piece of the relay's work.

    Args:
        silent: gives the names of the services that do not answer.
    """

    def __init__(self, settings: Settings, silent: Callable[[], Collection[str]] = tuple) -> None:
        self._settings = settings
        self._silent = silent
        self._streams, self._letters, self._services = StreamWatch(), LetterWatch(), ServiceWatch()
        self._next = 0.0

    def __call__(self, connection: psycopg.Connection[Any]) -> int:
        if time.monotonic() >= self._next:
            self.look(connection)
            self._next = time.monotonic() + LOOK_SECONDS
        return 0

    def look(self, connection: psycopg.Connection[Any]) -> None:
        """Looks, and opens and closes what changed."""
        ends = partition_ends(self._settings)
        silent = {*self._silent()} | (set() if ends is not None else {"kafka"})
        with connection.cursor(row_factory=dict_row) as cursor:
            topic = {"topic": self._settings.transactions_topic}
            rows = cursor.execute(statement("status_streams"), topic).fetchall()
            figures = one_row(cursor.execute(statement("incidents/figures"), {"feature_set": FEATURE_SET}))
        (books,) = [row for row in rows if row["stream"] == TRANSACTION_STREAM]
        now = time.monotonic()
        problems = (
            self._streams.look(now, rows, ends, not any(name.startswith("airflow-") for name in silent))
            | self._letters.look(now, books["stored"], books["dead_letters"])
            | self._services.look(now, silent)
            | stored_problems(figures)
        )
        update(connection, problems)


def stored_problems(figures: Mapping[str, Any]) -> dict[Finding, Problem]:
    """What the row of incidents/figures.sql says."""
    problems: dict[Finding, Problem] = {}
    if figures["mismatches"]:
        names = ", ".join(item["feature"] for item in figures["mismatches"])
        problems[Kind.PARITY_BROKEN, "features"] = Problem(
            f"logged and recomputed features differ: {names}", {"mismatches": figures["mismatches"]}
        )
    for channel, count in figures["undelivered"].items():
        problems[Kind.UNDELIVERED, channel] = Problem(
            f"{count:,} messages of the last day did not arrive", {"messages": count}
        )
    return problems


WATCHED = (
    Kind.STREAM_SILENT,
    Kind.STREAM_LAGGING,
    Kind.STREAM_RESTARTING,
    Kind.SERVICE_DOWN,
    Kind.DEAD_LETTERS_RISING,
    Kind.PARITY_BROKEN,
    Kind.UNDELIVERED,
)


def update(connection: psycopg.Connection[Any], problems: Mapping[Finding, Problem]) -> None:
    """Opens incidents for the problems, and closes those of `WATCHED` that are none any more."""
    with connection.transaction():
        query = "select kind, subject from shop.incidents where closed_at is null and kind = any(%s)"
        open_now = {
            (Kind(kind), subject) for kind, subject in connection.execute(query, [list(map(str, WATCHED))])
        }
        for (kind, subject), problem in problems.items():
            open_incident(connection, kind, subject, problem.summary, problem.evidence)
        for kind, subject in open_now - problems.keys():
            close_incident(connection, kind, subject)
