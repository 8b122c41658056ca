"""`status` says what is wrong and what to do."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from include.platform import status, watch
from include.platform.services import SERVICES

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
NOTHING = watch.Record(silent_seconds={}, restarts=[])


def services(**states: str) -> dict[str, dict[str, str]]:
    """All services with their states; `_` in a name stands for `-`."""
    changed = {name.replace("_", "-"): state for name, state in states.items()}
    return {name: {"state": changed.get(name, "healthy"), "address": ""} for name in SERVICES}


def test_a_platform_that_is_well_or_stopped_is_no_list_of_problems():
    assert status.service_problems(services(), NOTHING, watched=True) == []
    stopped = services(**dict.fromkeys(SERVICES, "stopped"))
    assert status.service_problems(stopped, NOTHING, watched=False) == [
        "the platform is stopped: `make up` starts it"
    ]


@pytest.mark.parametrize(
    ("states", "record", "watched", "words"),
    [
        ({"kafka": "stopped"}, NOTHING, True, "kafka is stopped: `make up`"),
        ({"postgres": "backoff"}, NOTHING, True, "postgres ends as soon as it is started"),
        ({"watchdog": "unhealthy"}, NOTHING, False, "the watchdog hangs.*`make up` restarts it"),
        ({"mlflow": "unhealthy"}, NOTHING, False, "mlflow is not ready: `make up` restarts it"),
        (
            {"airflow_scheduler": "unhealthy"},
            watch.Record(silent_seconds={"airflow-scheduler": 12.3}, restarts=[]),
            True,
            "airflow-scheduler is not ready and has not responded for 12 s: the watchdog restarts it",
        ),
    ],
)
def test_a_service_that_is_not_well_is_named_with_what_to_do(states, record, watched, words):
    (problem,) = status.service_problems(services(**states), record, watched)
    assert re.search(words, problem)


def restart(part: str, minutes_ago: float) -> watch.Restart:
    at = (NOW - timedelta(minutes=minutes_ago)).isoformat()
    return watch.Restart(part=part, at=at, silent_seconds=16.0, in_a_row=1)


def test_a_part_that_hangs_again_and_again_is_a_problem_and_one_that_did_once_is_none():
    restarts = [restart("kafka", 5), *(restart("mlflow", 10 * i) for i in range(6))]
    restarts += [restart("postgres", 90 + i) for i in range(6)]
    (problem,) = status.restart_problems(restarts, NOW)
    assert problem.startswith("mlflow hung 6 times within the last hour")


@pytest.mark.services
def test_a_lost_stream_is_said_to_be_lost_with_what_to_do(clean_postgres, kafka):
    """Its last report may say `running` for ever: the driver that wrote it may be gone or stopped."""
    with psycopg.connect(clean_postgres.conninfo("owner"), autocommit=True) as connection:
        connection.execute(
            "update shop.stream_leases set state = 'running', detail = 'all is well',"
            " heartbeat_at = clock_timestamp() - interval '73 seconds' where stream = 'fraud_stream'"
        )
        result = status.status(clean_postgres)
        stream = result["streams"]["fraud_stream"]
        assert (stream["state"], stream["detail"]) == ("lost", "no report for 73 s")
        (problem,) = [problem for problem in result["problems"] if problem.startswith("fraud_stream")]
        assert (
            "is lost, no report for 73 s" in problem
            and "scheduler, which starts it, is not healthy" in problem
        )
        assert "stream_fraud_scores" in problem and "`make up`" in problem
        assert not status.healthy(result)

        connection.execute(
            "update shop.stream_leases set state = 'failed', detail = 'the reason' where stream = 'fraud_stream'"
        )
        stream = status.status(clean_postgres)["streams"]["fraud_stream"]
        assert (stream["state"], stream["detail"]) == ("failed", "the reason")

        connection.execute(
            "update shop.stream_leases set state = 'stopped', stop_requested = true where stream = 'fraud_stream'"
        )
        (problem,) = [
            problem
            for problem in status.status(clean_postgres)["problems"]
            if problem.startswith("fraud_stream")
        ]
        assert "was asked to stop" in problem and "`make up` cancels that request" in problem


@pytest.mark.services
def test_the_restarts_of_the_watchdog_are_shown(clean_postgres, kafka):
    record = watch.Record(silent_seconds={}, restarts=[restart("kafka", 5)])
    watch.write(clean_postgres, record)
    assert status.status(clean_postgres)["restarts"] == record["restarts"]


def row(stream: str, state: str, **more) -> dict:
    """A stream as the query gives it, reporting."""
    return {
        "stream": stream,
        "state": state,
        "heartbeat_age": 1.0,
        "stop_requested": False,
        "held": False,
        "detail": "",
        **more,
    }


def test_a_stream_that_is_stopped_is_a_problem_only_while_its_dag_is_switched_on():
    rows = [row("fraud_stream", "stopped"), row("transaction_stream", "stopped"), row("producer", "stopped")]
    on = ["stream_transactions", "produce_transactions"]
    (problem,) = status.stream_problems(rows, on, True, "`make up`")
    assert problem.startswith(
        "transaction_stream is stopped, though its DAG is switched on. Airflow starts it"
    )


def test_streams_that_run_wait_or_start_are_no_problem():
    rows = [row("fraud_stream", "waiting"), row("transaction_stream", "starting"), row("producer", "running")]
    assert status.stream_problems(rows, list(status.DAG_OF.values()), True, "`make up`") == []
