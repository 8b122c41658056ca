"""How long the queries of Grafana's dashboards and of Streamlit's pages take in a large shop."""

from __future__ import annotations

import json
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import psycopg
from rich.table import Table

from include import queries
from include.bench.services import services
from include.features.behaviour import FEATURES
from include.grafana.macros import expand
from include.operations import housekeeping, rollups
from include.settings import PROJECT_ROOT, Settings
from include.sql import statement

ROWS, DAYS = 10_000_000, 60
CHUNK = 500_000
WAITING = 60_000  # stored after the last refresh: five minutes at 200 a second
ROUNDS = 3
TIMEOUT_SECONDS = 60
CLEAR = 100, 10_000  # milliseconds: below and above them one round tells enough
RANGES = {"15 min": 15 / 1440, "6 h": 0.25, "24 h": 1.0, "7 d": 7.0, "30 d": 30.0, f"{DAYS} d": float(DAYS)}
CHOICES: dict[str, Mapping[str, Sequence[str]]] = {
    "all": {},
    "some": {"country": ["Germany", "Japan"], "category": ["grocery", "travel"], "version": ["2"]},
}
NOT_READ = {"add_verdict", "personal_data"}


@dataclass(frozen=True)
class Timing:
    """A query's slowest range: milliseconds are the median of the rounds; None: it ran into the time-out."""

    asked_by: str
    query: str
    range: str
    choice: str
    milliseconds: float | None


def measure(rows: int = ROWS, starting: Callable[[str], None] = lambda step: None) -> dict[str, Any]:
    """Fills a temporary PostgreSQL with `rows` transactions and times every query over every range; ready for JSON.

    Raises:
        ServerFailed
    """
    with services() as settings:
        starting(f"{rows:,} transactions")
        began = time.monotonic()
        _fill(settings, rows)
        filled = time.monotonic()
        starting("sums")
        added = rollups.refresh(settings).transactions
        refreshed = time.monotonic()
        _read_everything(settings, rows)
        load = os.getloadavg()[0]
        timings = [*_dashboards(settings, starting), *_pages(settings, starting)]
        load_after = os.getloadavg()[0]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "load": [round(load, 1), round(load_after, 1)],
        "rows": rows,
        "fill_seconds": round(filled - began),
        "sums_seconds": round(refreshed - filled),
        "sums_rows": added,
        "timings": [asdict(timing) for timing in timings],
    }


def tables(result: dict[str, Any]) -> Iterator[Table | str]:
    """What to print: for each query its slowest range, slowest query first."""
    yield (
        f"{result['date']}, {result['cores']} cores, {result['memory_gib']} GiB, load {result['load'][0]} to "
        f"{result['load'][1]}: {result['rows']:,} transactions over {DAYS} days, of which {result['sums_rows']:,} were "
        f"added to the sums in {result['sums_seconds']} s; median of {ROUNDS} rounds"
    )
    table = Table("Asked by", "Query", "Slowest range", "Choice", "ms")
    slowest: dict[tuple[str, str], dict[str, Any]] = {}
    for timing in sorted(result["timings"], key=_cost, reverse=True):
        slowest.setdefault((timing["asked_by"], timing["query"]), timing)
    for timing in slowest.values():
        cost = timing["milliseconds"]
        shown = f"more than {TIMEOUT_SECONDS * 1000:,}" if cost is None else f"{cost:,.0f}"
        table.add_row(timing["asked_by"], timing["query"], timing["range"], timing["choice"], shown)
    yield table


def _cost(timing: Mapping[str, Any]) -> float:
    return float("inf") if timing["milliseconds"] is None else float(timing["milliseconds"])


def _fill(settings: Settings, rows: int) -> None:
    """Rows as the streams write them; the last `WAITING` of them are not in the sums afterwards."""
    housekeeping.make_months(settings, datetime.now(UTC) - timedelta(days=DAYS))
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as owner:
        owner.execute("set synchronous_commit = off")
        owner.execute("select setseed(0.42)")
        definitions = owner.execute(
            "select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index"
            " where indrelid in ('shop.transactions'::regclass, 'shop.fraud_scores'::regclass)"
        ).fetchall()
        for name, _ in definitions:
            owner.execute(f"drop index {name}")
        cursor = psycopg.ClientCursor(owner)
        values = {"rows": rows, "days": DAYS, "features": [0.5] * len(FEATURES)}
        for first in range(1, rows + 1, CHUNK):
            cursor.execute(
                statement("bench/fill"), values | {"first": first, "last": min(first + CHUNK - 1, rows)}
            )
        for _, definition in definitions:
            owner.execute(definition.replace(" ON ONLY ", " ON "))
        owner.execute("""
            insert into shop.models (version, run_id, sha256, family, threshold, feature_set, trained_from, trained_to)
            select v, 'run', repeat('0', 64), 'isolation_forest', 0.55, 1, now(), now() from generate_series(1, 2) v""")
        owner.execute("""
            insert into shop.verdicts (transaction_id, topic, partition, "offset", is_fraud, analyst)
            select transaction_id, topic, partition, "offset", true, 'bench' from shop.fraud_alerts
            order by created_at limit 10000""")
        owner.execute(
            """
            insert into shop.stream_offsets (stream, topic, partition, topic_id, first_offset, next_offset, stored,
                dead_letters, duplicates, epoch)
            select stream, 'transactions-data', partition, 'bench', 0, behind, behind, 0, 0, 1
            from (values ('transaction_stream', 1), ('fraud_stream', 0)) s (stream, more)
            cross join generate_series(0, 1) partition
            cross join lateral (select (%s / 2 + more)::bigint as behind)
            """,
            (rows - WAITING,),
        )
        owner.execute("vacuum analyze")


def _read_everything(settings: Settings, rows: int) -> None:
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as owner:
        owner.execute("update shop.stream_offsets set next_offset = %(n)s, stored = %(n)s", {"n": rows // 2})
        owner.execute("vacuum analyze")


def _dashboards(settings: Settings, starting: Callable[[str], None]) -> Iterator[Timing]:
    with psycopg.connect(settings.conninfo("grafana"), autocommit=True) as grafana:
        grafana.execute(f"set statement_timeout = '{TIMEOUT_SECONDS}s'")
        for path in sorted((PROJECT_ROOT / "grafana" / "dashboards").glob("*.json")):
            board = json.loads(path.read_text())
            starting(board["title"])
            asked = {variable["name"]: variable["query"] for variable in board["templating"]["list"]}
            for panel in board["panels"]:
                for target in panel.get("targets", []):
                    asked[f"{panel['title']} {target['refId']}"] = target["rawSql"]
            for name, sql in asked.items():
                for length, days in RANGES.items():
                    for choice, variables in CHOICES.items():
                        now = datetime.now(UTC)
                        text = expand(sql, now - timedelta(days=days), now, _interval(days), variables)
                        yield Timing(board["title"], name, length, choice, _milliseconds(grafana, text))


def _pages(settings: Settings, starting: Callable[[str], None]) -> Iterator[Timing]:
    starting("Streamlit")
    with psycopg.connect(settings.conninfo("app"), autocommit=True) as app:
        app.execute(f"set statement_timeout = '{TIMEOUT_SECONDS}s'")
        alert = app.execute(
            'select transaction_id, topic, partition, "offset", user_id from shop.fraud_alerts limit 1'
        ).fetchone()
        assert alert is not None
        event = dict(zip(("transaction_id", "topic", "partition", "offset", "user_id"), alert, strict=True))
        for name in sorted(set(queries.names()) - NOT_READ):
            text = queries.text(name)
            ranges = RANGES if "%(since)s" in text else {"": 1.0}
            for length, days in ranges.items():
                now = datetime.now(UTC)
                known: dict[str, object] = event | {
                    "since": now - timedelta(days=days),
                    "until": now,
                    "version": None,
                    "inbox": "open",
                    "limit": 500,
                    "seconds": max(60, int(days * 864)),
                    "labels_topic": settings.labels_topic,
                }
                used = {key: known[key] for key in set(re.findall(r"%\((\w+)\)s", text)) if key in known}
                yield Timing("Streamlit", name, length, "", _milliseconds(app, text, used))


def _interval(days: float) -> str:
    """What Grafana takes for a panel a thousand points wide."""
    return f"{max(60, int(days * 86.4) // 60 * 60)}s"


def _milliseconds(
    connection: psycopg.Connection, sql: str, values: Mapping[str, object] | None = None
) -> float | None:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        try:
            connection.execute(sql, values).fetchall()
        except psycopg.errors.QueryCanceled:
            return None
        times.append((time.perf_counter() - began) * 1000)
        if not CLEAR[0] < times[-1] < CLEAR[1]:
            break
    return round(statistics.median(times), 1)
