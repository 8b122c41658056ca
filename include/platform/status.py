"""What runs, how far the streams are, and what they counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

from include.broker import kafka
from include.operations import reconcile
from include.operations.figures import lag
from include.platform import supervisor, watch
from include.platform.airflow import PRODUCER_DAG, AirflowError, Client
from include.platform.services import SERVICES, WATCHDOG
from include.registry import promotions
from include.registry.promotions import Promotion
from include.settings import Settings
from include.sql import one_row, statement
from include.streams import FRAUD_STREAM, TRANSACTION_STREAM
from include.training.first_champion import awaited

HEARTBEAT_LIMIT = 15  # seconds; a stream renews its heartbeat every second
UP_RECORD = "up.json"
OFTEN = 5  # restarts of a part within an hour that somebody should look at
DAG_OF = {TRANSACTION_STREAM: "stream_transactions", FRAUD_STREAM: "stream_fraud_scores"}


class Unhealthy(RuntimeError):
    """Something is wrong with the platform; the message has each problem with what to do."""


def status(settings: Settings, books: bool = False) -> dict[str, Any]:
    """The object that `fraudstream status --json` prints.

    Parts that cannot be read are None, and `problems` says what is wrong and what to do. `restarts` are those of the
    watchdog. `first_champion` counts the transactions that the first training waits for, if it does. In a container
    there are no services: Docker runs them, and `docker compose ps` shows their health. With `books` the problems also
    name every partition and range for which broker, ledger and rows do not agree.
    """
    record = watch.read(settings)
    result: dict[str, Any] = {
        "services": _services(settings),
        "streams": {},
        "counts": None,
        "champion": None,
        "first_champion": None,
        "first_scored_seconds": _up_record(settings).get("first_scored_seconds"),
        "problems": [],
        "restarts": record["restarts"],
    }
    problems: list[str] = result["problems"]
    if not settings.in_containers:
        problems += service_problems(result["services"], record, watch.works(settings))
    problems += restart_problems(record["restarts"], datetime.now(UTC))
    try:
        with psycopg.connect(settings.conninfo("owner"), row_factory=dict_row) as connection:
            rows = connection.execute(
                statement("status_streams"), {"topic": settings.transactions_topic}
            ).fetchall()
            result["counts"] = _counts(connection, settings, rows)
            result["champion"] = _champion(connection, settings, rows)
            problems += promotion_problems(promotions.read(connection))
            state = awaited(connection, settings.training_window_days)
            result["first_champion"] = state and state._asdict()
    except psycopg.Error as error:
        problems.append(f"PostgreSQL: {str(error).strip()}")
        return result
    result["streams"] = {row["stream"]: _stream(row) for row in rows}
    problems += _stream_problems(settings, rows)
    try:
        bounds = {
            topic: kafka.bounds(settings, topic)
            for topic in (settings.transactions_topic, settings.labels_topic)
        }
    except kafka.KafkaError as error:
        problems.append(f"Kafka: {error}")
        return result
    for row in rows:
        if row["stream"] != "producer":
            result["streams"][row["stream"]]["lag"] = lag(row, bounds)
    if books:
        problems += _open_books(settings)
    return result


def _open_books(settings: Settings) -> list[str]:
    try:
        return [str(open_range) for open_range in reconcile.open_ranges(settings)]
    except (kafka.KafkaError, psycopg.Error) as error:
        return [f"the books could not be compared: {error}"]


def healthy(result: dict[str, Any]) -> bool:
    services = all(service["state"] == "healthy" for service in result["services"].values())
    return services and not result["problems"]


def require(result: Mapping[str, Any]) -> None:
    """Raises Unhealthy when something is wrong."""
    if not healthy(dict(result)):
        raise Unhealthy("\n".join(result["problems"]) or "a service is not healthy")


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


def service_problems(
    services: Mapping[str, Mapping[str, str]], record: watch.Record, watched: bool
) -> list[str]:
    """What is wrong with the services, and what to do.

    Args:
        watched: the watchdog works.
    """
    states = {name: service["state"] for name, service in services.items()}
    if set(states.values()) == {"stopped"}:
        return ["the platform is stopped: `make up` starts it"]
    problems = []
    for name, state in states.items():
        if state == "stopped":
            problems.append(f"{name} is stopped: `make up` starts it")
        elif state == "unhealthy" and name == WATCHDOG:
            problems.append(
                "the watchdog hangs, and nothing else that hangs is restarted: `make up` restarts it"
            )
        elif state == "unhealthy":
            silent = record["silent_seconds"].get(name, 0.0) if watched else 0.0
            since = f" and has not responded for {silent:.0f} s" if silent else ""
            then = "the watchdog restarts it when it hangs" if watched else "`make up` restarts it"
            problems.append(f"{name} is not ready{since}: {then}; its log: `fraudstream logs {name}`")
        elif state != "healthy":
            problems.append(f"{name} ends as soon as it is started ({state}): see `fraudstream logs {name}`")
    return problems


def restart_problems(restarts: Sequence[watch.Restart], now: datetime) -> list[str]:
    """The parts that the watchdog restarted again and again within an hour."""
    lately = Counter(
        restart["part"]
        for restart in restarts
        if now - datetime.fromisoformat(restart["at"]) < timedelta(hours=1)
    )
    return [
        f"{part} hung {times} times within the last hour and was restarted: see `fraudstream logs {part}`"
        for part, times in lately.items()
        if times >= OFTEN
    ]


def _stream(row: dict[str, Any]) -> dict[str, Any]:
    lost = _is_lost(row)
    return {
        "state": "lost" if lost else row["state"],
        "lag": None,
        "seconds_since_last_commit": None if row["since_commit"] is None else round(row["since_commit"], 1),
        "detail": f"no report for {row['heartbeat_age']:.0f} s" if lost else row["detail"],
    }


def _is_lost(row: dict[str, Any]) -> bool:
    return row["heartbeat_age"] >= HEARTBEAT_LIMIT and row["state"] not in ("stopped", "failed")


def _stream_problems(settings: Settings, rows: Sequence[dict[str, Any]]) -> list[str]:
    if all(row["state"] in ("running", "waiting") and not _is_lost(row) for row in rows):
        return []  # what Airflow says of its own tasks does not matter
    client = Client(settings)
    scheduler = client.health().get("scheduler")
    switched_on: list[str] = []
    with suppress(
        AirflowError, httpx.HTTPError, KeyError
    ):  # a container may not have the administrator's password
        switched_on = [dag for dag, paused in client.dags().items() if not paused]
    restart = "`docker compose restart airflow-scheduler`" if settings.in_containers else "`make up`"
    healthy = scheduler is not None and scheduler.status == "healthy"
    return stream_problems(rows, switched_on, healthy, restart)


def stream_problems(
    rows: Sequence[dict[str, Any]], switched_on: Collection[str], scheduler_healthy: bool, restart: str
) -> list[str]:
    """The streams that should run and do not, and what to do.

    Args:
        rows: of `status_streams`.
        switched_on: the DAGs that are switched on.
        restart: the command that restarts what does not work.
    """
    then = (
        "Airflow starts it again"
        if scheduler_healthy
        else "Airflow's scheduler, which starts it, is not healthy"
    )
    problems = []
    for row in rows:
        stream, dag = row["stream"], DAG_OF.get(row["stream"], PRODUCER_DAG)
        if row["held"] and row["state"] in ("stopped", "failed"):  # an operator wants it so
            continue
        if row["stop_requested"]:
            problems.append(
                f"{stream} was asked to stop and does not start again: {restart} cancels that request"
            )
            continue
        if _is_lost(row):
            what = f"is lost, {_stream(row)['detail']}"
        elif row["state"] == "failed":
            what = f"failed: {row['detail']}"
        elif row["state"] == "stopped" and dag in switched_on and dag != PRODUCER_DAG:
            what = "is stopped, though its DAG is switched on"
        else:
            continue
        problems.append(
            f"{stream} {what}. {then}; if it is not back within two minutes, `fraudstream logs {dag}` says why, "
            f"and {restart} restarts what does not work"
        )
    return problems


def promotion_problems(ledger: Sequence[Promotion]) -> list[str]:
    """That the champion was changed in MLflow itself, as long as nobody took that on or back.

    Args:
        ledger: newest first.
    """
    row = next((row for row in ledger if row.done), None)
    if row is None or row.kind != "by hand":
        return []
    took_back = "`fraudstream model rollback` takes it back"
    if row.version is None:
        return [f"the alias champion was removed in MLflow at {row.at:%Y-%m-%d %H:%M} UTC: {took_back}"]
    return [
        f"version {row.version} was made champion in MLflow itself, noticed at {row.at:%Y-%m-%d %H:%M} UTC, and the "
        f"parity gate was not asked: `fraudstream model promote {row.version}` takes it on, {took_back}"
    ]


def _counts(
    connection: psycopg.Connection[dict[str, Any]], settings: Settings, rows: list[dict[str, Any]]
) -> dict[str, int]:
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
    connection: psycopg.Connection[dict[str, Any]], settings: Settings, rows: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """The version that the scorer uses now, from which scores on it decides, and what that was expected to bring."""
    version = next(row["model_version"] for row in rows if row["stream"] == FRAUD_STREAM)
    if version is None:
        return None
    model = connection.execute(statement("status_champion"), [version]).fetchone() or {}
    return {
        "name": settings.model_name,
        "version": version,
        **dict.fromkeys(("run_id", "threshold", "block_threshold", "decision_rule", "alerts_today")),
        **model,
    }


def _up_record(settings: Settings) -> dict[str, Any]:
    path = settings.home / UP_RECORD
    return json.loads(path.read_text()) if path.exists() else {}


def record_up(settings: Settings, first_scored_seconds: float) -> None:
    (settings.home / UP_RECORD).write_text(
        json.dumps({"first_scored_seconds": round(first_scored_seconds, 1)})
    )
