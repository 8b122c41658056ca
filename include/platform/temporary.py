"""Services of tests, benchmarks and fault campaigns: on free ports, in a folder of their own, and always stopped.

They obey no setting from outside: neither the environment's nor those of `.env`, in this process and in those that
it starts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from include.platform import broker, jars, ports, secrets
from include.platform import postgres as database
from include.settings import PREFIX, PROJECT_ROOT, IsolatedSettings, Settings

START_SECONDS = 120.0
STOP_SECONDS = 20.0
PORTS = (
    "postgres_port",
    "kafka_port",
    "kafka_controller_port",
    "mlflow_port",
    "airflow_port",
    "streamlit_port",
    "relay_port",
)


class ServerFailed(RuntimeError):
    """A server did not start; the message has the end of its log."""


def temporary_settings(home: Path, **values: Any) -> Settings:
    """The defaults with a home and free ports, changed by nothing but `values`."""
    free = dict(zip(PORTS, ports.free(len(PORTS)), strict=True))
    return IsolatedSettings(**{"home": home, **free, **values})


def environment(settings: Settings) -> dict[str, str]:
    """This process's environment for a process that is to have these settings of fraudstream and no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return inherited | {"PYTHONPATH": str(PROJECT_ROOT)} | settings.as_environment()


@contextmanager
def running(
    name: str,
    settings: Settings,
    command: list[str],
    ready: Callable[[], bool],
    variables: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server until the block ends.

    Args:
        variables: more for its environment.

    Raises:
        ServerFailed: it ended, or was not ready in time.
    """
    log = settings.home / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={**environment(settings), **(variables or {})},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"{name} did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue


@contextmanager
def postgres(settings: Settings) -> Iterator[None]:
    """A migrated PostgreSQL."""
    secrets.ensure(settings)
    database.initialise(settings)
    with running("postgres", settings, database.command(settings), lambda: database.ready(settings)):
        database.provision(settings)
        yield


@contextmanager
def kafka(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A broker without topics."""
    jars.fetch()
    broker.initialise(settings)
    with running("kafka", settings, broker.command(settings), lambda: broker.ready(settings)) as process:
        yield process
