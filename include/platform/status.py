"""What runs, how far the streams are, and what they counted."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from psycopg.rows import dict_row

from include.broker import kafka
from include.operations import reconcile
from include.platform import supervisor
from include.platform.services import SERVICES
from include.settings import Settings
from include.sql import one_row, statement
from include.streams import FRAUD_STREAM, TRANSACTION_STREAM

HEARTBEAT_LIMIT = 15  # seconds; a stream renews its heartbeat every second
UP_RECORD = "up.json"


def status(settings: Settings, books: bool = False) -> dict[str, Any]:
    """The object that `fraudstream status --json` prints.

    Parts that cannot be read are None, and `problems` says why. In a container there are no services: Docker runs
    them, and `docker compose ps` shows their health. With `books` it also names every partition and
    range for which broker, ledger and rows do not agree.
    """
    found: dict[str, Any] = {
        "services": _services(settings),
        "streams": {},
        "counts": None,
        "champion": None,
        "first_scored_seconds": _up_record(settings).get("first_scored_seconds"),
        "problems": [],
    }
    try:
        with psycopg.connect(settings.conninfo("owner"), row_factory=dict_row) as connection:
            rows = connection.execute(
                statement("status_streams"), {"topic": settings.transactions_topic}
            ).fetchall()
            found["counts"] = _counts(connection, settings, rows)
            found["champion"] = _champion(connection, settings, rows)
    except psycopg.Error as error:
        found["problems"].append(f"PostgreSQL: {str(error).strip()}")
        return found
    found["streams"] = {row["stream"]: _stream(row) for row in rows}
    try:
        ends = {
            topic: kafka.end_offsets(settings, topic)
            for topic in (settings.transactions_topic, settings.labels_topic)
        }
        begins = {topic: kafka.begin_offsets(settings, topic) for topic in ends}
    except kafka.KafkaError as error:
        found["problems"].append(f"Kafka: {error}")
        return found
    for row in rows:
        if row["stream"] != "producer":
            found["streams"][row["stream"]]["lag"] = _lag(row, ends, begins)
    if books:
        found["problems"] += _open_books(settings)
    return found


def _open_books(settings: Settings) -> list[str]:
    try:
        return [str(difference) for difference in reconcile.differences(settings)]
    except (kafka.KafkaError, psycopg.Error) as error:
        return [f"the books could not be compared: {error}"]


def healthy(found: dict[str, Any]) -> bool:
    services = all(each["state"] == "healthy" for each in found["services"].values())
    return services and not found["problems"]


def _services(settings: Settings) -> dict[str, dict[str, str]]:
    if settings.in_containers:
        return {}
    states = supervisor.states(settings)

    def look(name: str) -> dict[str, str]:
        service, state = SERVICES[name], states.get(name, "STOPPED").lower()
        if state == "running":
            state = "healthy" if service.ready(settings) else "unhealthy"
        return {"state": state, "address": service.address(settings)}

    with ThreadPoolExecutor(len(SERVICES)) as pool:
        return dict(zip(SERVICES, pool.map(look, SERVICES), strict=True))


def _stream(row: dict[str, Any]) -> dict[str, Any]:
    alive = row["heartbeat_age"] < HEARTBEAT_LIMIT
    state = row["state"] if alive or row["state"] == "stopped" else "lost"
    return {
        "state": state,
        "lag": None,
        "seconds_since_last_commit": None if row["since_commit"] is None else round(row["since_commit"], 1),
        "detail": row["detail"],
    }


def _lag(row: dict[str, Any], ends: dict, begins: dict) -> int:
    """Records in the topics that the stream's ledger does not hold yet: each stream reads both."""
    done = {(each["topic"], each["partition"]): each["next"] for each in row["positions"]}
    return sum(
        max(0, end - done.get((topic, partition), begins[topic][partition]))
        for topic in ends
        for partition, end in ends[topic].items()
    )


def _counts(connection: psycopg.Connection, settings: Settings, rows: list[dict[str, Any]]) -> dict[str, int]:
    """What was stored and scored.

    Once both streams have read as far, scored = transactions + scored_id_conflicts + scored_repeats: events that were
    scored before the other stream refused them as id_conflict, and events sent again in another partition.
    """
    ledger = {row["stream"]: row for row in rows}
    counted = one_row(connection.execute(statement("status_counts"), {"topic": settings.transactions_topic}))
    return {
        "transactions": ledger[TRANSACTION_STREAM]["stored"],
        "scored": ledger[FRAUD_STREAM]["stored"],
        "alerts": counted["alerts"],
        "dead_letters": ledger[TRANSACTION_STREAM]["dead_letters"],
        "labels": counted["labels"],
        "duplicates": ledger[TRANSACTION_STREAM]["duplicates"],
        "scored_id_conflicts": counted["scored_id_conflicts"],
        "scored_repeats": counted["scored_repeats"],
    }


def _champion(
    connection: psycopg.Connection, settings: Settings, rows: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """The version that the scorer uses now."""
    version = next(row["model_version"] for row in rows if row["stream"] == FRAUD_STREAM)
    if version is None:
        return None
    run = connection.execute("select run_id from shop.models where version = %s", [version]).fetchone()
    return {"name": settings.model_name, "version": version, "run_id": run and run["run_id"]}


def _up_record(settings: Settings) -> dict[str, Any]:
    path = settings.home / UP_RECORD
    return json.loads(path.read_text()) if path.exists() else {}


def record_up(settings: Settings, first_scored_seconds: float) -> None:
    (settings.home / UP_RECORD).write_text(
        json.dumps({"first_scored_seconds": round(first_scored_seconds, 1)})
    )
