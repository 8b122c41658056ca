"""Stops the platform: streams finish their batch, then every service stops, then nothing is left."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import psycopg

from include.platform import airflow, processes, services, supervisor
from include.platform.progress import Progress
from include.settings import Settings


def down(settings: Settings, progress: Progress, wipe: bool = False) -> None:
    """Stops everything of this state folder; with `wipe` the state folder is deleted too."""
    if supervisor.running(settings):
        with progress.step("Streams finish their batch"):
            for name in (services.WATCHDOG, services.RELAY):  # what ends now is no fault
                supervisor.stop(settings, name)
            drain(settings)
            # The scheduler waits for its tasks, and they end by themselves now.
            supervisor.stop(settings, "airflow-scheduler")
        with progress.step("Services stop"):
            others = [f"airflow-{component}" for component in airflow.COMPONENTS if component != "scheduler"]
            with ThreadPoolExecutor() as pool:
                list(
                    pool.map(
                        lambda name: supervisor.stop(settings, name),
                        [*others, "streamlit", "mlflow", "kafka"],
                    )
                )
            supervisor.stop(settings, "postgres")
            supervisor.shutdown(settings)
    with progress.step("No process is left") as step:
        left, killed = end_what_is_left(settings)
        if left:
            step.note(f"{left} processes had to be ended, {killed} of them killed")
    if wipe:
        with progress.step(f"State deleted: {settings.home}"):
            shutil.rmtree(settings.home)


def end_what_is_left(settings: Settings) -> tuple[int, int]:
    """Ends the platform's processes that nobody supervises; how many there were, and how many had to be killed."""
    airflow.end_workers_left_behind(settings)  # their title hides whose they are
    left = processes.ours(settings)
    return len(left), processes.end(left, grace=5)


def drain(settings: Settings) -> None:
    """Asks the jobs to stop after their current batch; without a database there is nobody to ask."""
    try:
        with psycopg.connect(settings.conninfo("owner"), autocommit=True) as connection:
            connection.execute("update shop.stream_leases set stop_requested = true")
    except psycopg.OperationalError:
        return


def allow_streams(settings: Settings) -> None:
    """Takes the request to stop back, so that jobs that are started go on.

    Raises:
        psycopg.Error
    """
    with psycopg.connect(settings.conninfo("owner"), autocommit=True) as connection:
        connection.execute("update shop.stream_leases set stop_requested = false where stop_requested")
