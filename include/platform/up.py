"""Starts the platform and returns when the first live transaction has been scored.

Order: PostgreSQL and Kafka, then everything that needs them at the same time, then the DAGs through
Airflow's API. On a first start the producer publishes simulated weeks of history, the stream stores them,
and a first training makes the champion that scores them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg

from include.broker import kafka
from include.operations import housekeeping, jobs
from include.platform import (
    airflow,
    doctor,
    down,
    jars,
    postgres,
    processes,
    secrets,
    services,
    supervisor,
    watch,
)
from include.platform import broker as kafka_server
from include.platform.down import allow_streams
from include.platform.progress import Progress
from include.platform.status import record_up, status
from include.settings import Settings
from include.sql import one_row
from include.streams import STREAMS, TRANSACTION_STREAM
from include.training.first_champion import ENOUGH, awaited

AIRFLOW_SECONDS = 240.0


class NotReady(RuntimeError):
    """A step did not succeed in its time; the message names what to look at."""


PAGES = ("mlflow", "streamlit")


def up(settings: Settings, progress: Progress, demo: bool = True) -> None:
    """Starts what does not run yet.

    Args:
        demo: publish simulated transactions, unless an operator switched the producer off.

    Raises:
        NotReady: a check of `doctor` failed, or a step did not get ready; what runs is left running.
    """
    already = supervisor.running(settings)
    client = airflow.Client(settings)
    start_services(settings, progress)
    with progress.step("Airflow's DAGs are switched on"):
        switch_on(settings, client, demo)
    if not reach_first_score(settings, client, progress):
        return
    if not already or not status(settings)["first_scored_seconds"]:
        record_up(settings, progress.elapsed())


def start_services(settings: Settings, progress: Progress, pages: Iterable[str] = PAGES) -> None:
    """Starts the services that do not run yet, and ends before whatever a crash left of them.

    Args:
        pages: those of `PAGES` that are wanted.

    Raises:
        NotReady: a check of `doctor` failed.
        SupervisorError: a service did not get ready.
    """
    if not supervisor.running(settings) and processes.ours(settings):
        with progress.step("Processes that a crash left behind are ended") as step:
            left, _ = down.end_what_is_left(settings)
            step.note(f"{left} processes")
    with progress.step("This machine meets the requirements"):
        failed = [check for check in doctor.examine(settings) if not check.good]
        if failed:
            raise NotReady("\n".join(f"{check.name}: {check.message}" for check in failed))
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    (settings.home / "logs").mkdir(exist_ok=True)
    secrets.ensure(settings)
    supervisor.ensure(settings)
    start_watchdog(settings)
    with ThreadPoolExecutor() as pool:
        broker = pool.submit(_start_kafka, settings, progress)
        _start_postgres(settings, progress)
        others = [pool.submit(_start, settings, progress, name) for name in (services.RELAY, *pages)]
        _start_airflow(settings, progress)
        for other in (broker, *others):
            other.result()


def start_watchdog(settings: Settings) -> None:
    """Starts the watchdog, which ends whatever hangs while the rest of `up` waits for it; one that hangs is ended."""
    if not watch.works(settings) and (pid := supervisor.processes(settings).get(services.WATCHDOG)):
        psutil.Process(pid).kill()
    supervisor.start(settings, services.WATCHDOG)


def _start(settings: Settings, progress: Progress, name: str) -> None:
    with progress.step(f"{name} is ready"):
        supervisor.start(settings, name)


def _start_postgres(settings: Settings, progress: Progress) -> None:
    with progress.step("PostgreSQL is ready, roles and migrations are applied"):
        postgres.initialise(settings)
        supervisor.start(settings, "postgres")
        postgres.provision(settings)
        housekeeping.make_months(settings)
        allow_streams(settings)


def _start_kafka(settings: Settings, progress: Progress) -> None:
    with progress.step("Jars are downloaded and checked"):
        jars.fetch()
    with progress.step("Kafka is ready, topics exist"):
        kafka_server.initialise(settings)
        supervisor.start(settings, "kafka")
        kafka.ensure_topics(settings)


def _start_airflow(settings: Settings, progress: Progress) -> None:
    with progress.step("Airflow is ready"):
        if supervisor.states(settings).get("airflow-api-server") != "RUNNING":
            airflow.migrate(settings, services.environment(settings, services.SERVICES["airflow-api-server"]))
        supervisor.start(settings, *(f"airflow-{component}" for component in airflow.COMPONENTS))


def wait_for_dags(client: airflow.Client) -> None:
    """Waits until Airflow has read the platform's DAGs, and makes the pool that they need.

    Raises:
        NotReady
    """
    wait_until(
        lambda: set(airflow.DAGS) <= client.dags().keys(),
        60,
        lambda: (
            "Airflow has not read these DAGs: "
            + ", ".join(sorted(set(airflow.DAGS) - client.dags().keys()))
            + "".join(f"\n  {line}" for line in client.import_errors())
        ),
    )
    client.ensure_pool(airflow.STREAM_POOL, 8, "Endless tasks: the producer and the streams")


def reach_first_score(settings: Settings, client: airflow.Client, progress: Progress) -> bool:
    """Waits for the first champion and its first score of a live transaction.

    False when nothing is waited for: without simulated transactions, or with a short history of them, the first model
    is trained by itself once there are enough.
    """
    _require_on(client, airflow.STREAM_DAGS)
    if held := [stream for stream in STREAMS if jobs.state(settings, stream).held]:
        raise NotReady(
            f"an operator stopped {', '.join(held)}, so nothing is scored: the DAG start_stream starts a stream again"
        )
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as connection:
        state = awaited(connection, settings.training_window_days)
    has_producer = not client.dags()[airflow.PRODUCER_DAG]
    waits = state is not None and (not has_producer or settings.history_events < ENOUGH)
    if state is not None and waits:
        with progress.step("The first model is trained by itself") as step:
            if not client.active_runs(airflow.FIRST_CHAMPION_DAG):
                client.trigger(airflow.FIRST_CHAMPION_DAG)
            step.note(f"{state.stored:,} of {state.needed:,} transactions")
    if waits or not has_producer:
        with progress.step("The streams run"):
            wait_until(
                lambda: _streams_run(settings),
                AIRFLOW_SECONDS,
                lambda: f"not within {AIRFLOW_SECONDS:.0f} s: {_streams_in_words(settings)}",
            )
        return False
    first_champion(settings, client, progress)
    with progress.step("First live transaction scored"):
        wait_for_live_score(settings, client)
    return True


def _streams_run(settings: Settings) -> bool:
    states = status(settings)["streams"]
    return all(states[stream]["state"] in ("running", "waiting") for stream in STREAMS)


def _require_on(client: airflow.Client, dag_ids: Iterable[str]) -> None:
    """Raises `NotReady` when one of these DAGs is switched off."""
    paused = client.dags()
    if off := [dag_id for dag_id in dag_ids if paused.get(dag_id, False)]:
        raise NotReady(f"these DAGs are switched off in Airflow, so nothing is scored: {', '.join(off)}")


def switch_on(settings: Settings, client: airflow.Client, demo: bool = True) -> None:
    """Switches on the platform's DAGs that never were, and starts the producer unless it runs.

    A DAG that an operator paused later stays paused; one that a newer release brought is switched on, too. Without
    `demo` the producer stays off, also at later starts.
    """
    wait_for_dags(client)
    before = _switched_on(settings)
    if new := set(airflow.DAGS) - before:
        for dag_id in sorted(new if demo else new - {airflow.PRODUCER_DAG}):
            client.unpause(dag_id)
        secrets.write_private(_marker(settings), "".join(f"{dag_id}\n" for dag_id in sorted(before | new)))
    wanted = not client.dags()[airflow.PRODUCER_DAG] and not jobs.state(settings, jobs.PRODUCER).held
    if wanted and not client.active_runs(airflow.PRODUCER_DAG):
        client.trigger(airflow.PRODUCER_DAG)


def _marker(settings: Settings) -> Path:
    return settings.home / "switched-on"


def _switched_on(settings: Settings) -> set[str]:
    """The DAGs that were switched on here before."""
    if not _marker(settings).exists():
        return set()
    return set(_marker(settings).read_text().split())


def first_champion(settings: Settings, client: airflow.Client, progress: Progress) -> None:
    """Trains the first model once the simulated history is stored; does nothing when there is a model.

    Raises:
        NotReady: the history was not stored in time, or the training failed.
    """
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as connection:
        if one_row(connection.execute("select exists (select from shop.models)"))[0]:
            return
        with progress.step("Simulated history is published and stored") as step:
            wait_until(
                lambda: _history_stored(settings, connection),
                900,
                lambda: "the history was not stored within 15 minutes: " + _streams_in_words(settings),
            )
            (stored,) = one_row(connection.execute("select count(*) from shop.transactions"))
            step.note(f"{stored:,} transactions")
        with progress.step("First champion is trained"):
            run = client.trigger(airflow.RETRAIN_DAG)
            if client.wait_for_run(airflow.RETRAIN_DAG, run, timeout=900) != "success":
                raise NotReady(
                    f"the first training failed: see the run {run} of {airflow.RETRAIN_DAG} in Airflow"
                )


def _history_stored(settings: Settings, connection: psycopg.Connection[Any]) -> bool:
    query = "select state from shop.stream_leases where stream = 'producer'"
    if one_row(connection.execute(query)) != ("running",):
        return False
    lag = status(settings)["streams"][TRANSACTION_STREAM]["lag"]
    return lag is not None and lag < 100 + 10 * settings.rate_per_second


LIVE = "select exists (select from shop.fraud_scores where timestamp > %s and scored_at > %s)"


def wait_for_airflow(settings: Settings) -> None:
    """Waits until each of Airflow's components is healthy.

    Raises:
        NotReady
    """

    def missing() -> list[str]:
        names = [f"airflow-{component}" for component in airflow.COMPONENTS]
        return [name for name in names if not services.SERVICES[name].ready(settings)]

    wait_until(
        lambda: not missing(),
        AIRFLOW_SECONDS,
        lambda: f"not healthy within {AIRFLOW_SECONDS:.0f} s: {', '.join(missing())}",
    )


def wait_for_live_score(settings: Settings, client: airflow.Client) -> None:
    """Waits until an event that happened after now is scored; a paused stream or producer is not waited for."""
    _require_on(client, (airflow.PRODUCER_DAG, *airflow.STREAM_DAGS))
    now = datetime.now(UTC)
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as connection:
        wait_until(
            lambda: bool(one_row(connection.execute(LIVE, [now, now]))[0]),
            240,
            lambda: "no live transaction was scored within 4 minutes: " + _streams_in_words(settings),
        )


def _streams_in_words(settings: Settings) -> str:
    streams = status(settings)["streams"]
    words = (
        f"{name} is {stream['state']} ({stream['detail'] or 'no detail'})" for name, stream in streams.items()
    )
    return "; ".join(words) + f"; logs of the tasks: Airflow, or {settings.home / 'logs' / 'airflow'}"


def wait_until(done: Callable[[], bool], timeout: float, otherwise: Callable[[], str]) -> None:
    """Waits until it is done.

    Raises:
        NotReady: it is not within `timeout` seconds; the message is what `otherwise` returns.
    """
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise NotReady(otherwise())
        time.sleep(0.3)
