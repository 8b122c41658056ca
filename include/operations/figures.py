"""How the platform is, in figures: for the page in Airflow, and for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from include.broker import kafka
from include.settings import Settings
from include.sql import one_row, statement

PER_STREAM = {
    "lag_records": "Committed records that the stream has not read.",
    "seconds_since_commit": "Seconds since the last commit.",
    "seconds_since_report": "Seconds since the last report.",
    "stored_total": "Records of transactions that were stored or scored.",
    "dead_letters_total": "Records that became dead letters.",
    "duplicates_total": "Records that came again.",
    "starts_total": "Starts of the stream.",
}
OF_ALL = {
    "latency_p50": "Seconds from the broker to the score, the median of the newest 1000.",
    "latency_p95": "The same, 95th percentile.",
    "alerts_hour": "Alerts of the last hour.",
    "messages_waiting": "Messages that are not sent yet.",
    "messages_undelivered": "Messages of the last day that did not arrive.",
}


def read(settings: Settings) -> dict[str, Any]:
    """The figures, as JSON can say them; `lag_records` is None while the brokers do not answer.

    Raises:
        psycopg.Error: PostgreSQL cannot be read.
    """
    with (
        psycopg.connect(settings.conninfo("relay"), autocommit=True) as connection,
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        topic = {"topic": settings.transactions_topic}
        rows = cursor.execute(statement("status_streams"), topic).fetchall()
        overview = one_row(cursor.execute(statement("incidents/overview")))
    try:
        topics = (settings.transactions_topic, settings.labels_topic)
        bounds = {topic: kafka.bounds(settings, topic, timeout=3) for topic in topics}
    except kafka.KafkaError:
        bounds = None
    if overview["reconciled_at"]:
        overview["reconciled_at"] = overview["reconciled_at"].isoformat()
    return overview | {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "streams": [_stream(row, bounds) for row in rows],
    }


def _stream(
    row: Mapping[str, Any], bounds: Mapping[str, Mapping[int, kafka.Bounds]] | None
) -> dict[str, Any]:
    return {
        "stream": row["stream"],
        "state": "stopped by an operator" if row["held"] and row["state"] == "stopped" else row["state"],
        "detail": row["detail"],
        "lag_records": None if bounds is None or row["stream"] == "producer" else lag(row, bounds),
        "seconds_since_commit": row["since_commit"],
        "seconds_since_report": row["heartbeat_age"],
        "stored_total": row["stored"],
        "dead_letters_total": row["dead_letters"],
        "duplicates_total": row["duplicates"],
        "starts_total": row["epoch"],
        "runs": row["state"] in ("running", "waiting"),
    }


def lag(row: Mapping[str, Any], bounds: Mapping[str, Mapping[int, kafka.Bounds]]) -> int:
    """Offsets of committed records that the stream's ledger does not hold yet: each stream reads both topics.

    Args:
        row: of `status_streams`.
        bounds: of the partitions of both topics.
    """
    next_offsets = {(at["topic"], at["partition"]): at["next"] for at in row["positions"]}
    return sum(
        max(0, end - next_offsets.get((topic, partition), begin))
        for topic, partitions in bounds.items()
        for partition, (begin, end) in partitions.items()
    )


def prometheus(figures: Mapping[str, Any]) -> str:
    """The figures in Prometheus' text format, version 0.0.4."""
    return "".join(f"{line}\n" for line in _lines(figures))


def _lines(figures: Mapping[str, Any]) -> Iterator[str]:
    for name, meaning in PER_STREAM.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        yield from _head(f"stream_{name}", meaning, kind)
        for stream in figures["streams"]:
            if stream[name] is not None:
                yield f'fraudstream_stream_{name}{{stream="{stream["stream"]}"}} {_number(stream[name])}'
    yield from _head("stream_up", "1 while the stream runs or waits for a champion.", "gauge")
    for stream in figures["streams"]:
        yield f'fraudstream_stream_up{{stream="{stream["stream"]}"}} {int(stream["runs"])}'
    for name, meaning in OF_ALL.items():
        yield from _head(name, meaning, "gauge")
        if figures[name] is not None:
            yield f"fraudstream_{name} {_number(figures[name])}"
    yield from _head("champion_version", "Version of the model that scores.", "gauge")
    if figures["champion"]:
        yield f"fraudstream_champion_version {figures['champion']['version']}"
    yield from _head("incidents_open", "Open incidents.", "gauge")
    counts: dict[str, int] = {}
    for incident in figures["incidents"]:
        counts[incident["kind"]] = counts.get(incident["kind"], 0) + 1
    for kind, count in sorted(counts.items()):
        yield f'fraudstream_incidents_open{{kind="{kind}"}} {count}'


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _head(name: str, meaning: str, kind: str) -> Iterator[str]:
    yield f"# HELP fraudstream_{name} {meaning}"
    yield f"# TYPE fraudstream_{name} {kind}"
