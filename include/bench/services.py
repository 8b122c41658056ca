"""Servers for a benchmark: on free ports, in a temporary folder, and always stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from include.platform import broker as broker
from include.platform import jars, ports, secrets
from include.platform import postgres as database
from include.settings import Settings

START_SECONDS = 120.0


class ServiceFailed(RuntimeError):
    """A server did not start; the message has the end of its log."""


@contextmanager
def services(*, kafka: bool = False) -> Iterator[Settings]:
    """A migrated PostgreSQL and, if asked for, a Kafka broker with its topics.

    Raises:
        ServiceFailed
    """
    with (
        tempfile.TemporaryDirectory(prefix="fraudstream-bench-", ignore_cleanup_errors=True) as folder,
        ExitStack() as stack,
    ):
        postgres_port, kafka_port, controller_port = ports.free(3)
        settings = Settings(
            _env_file=None,
            home=Path(folder),
            postgres_port=postgres_port,
            kafka_port=kafka_port,
            kafka_controller_port=controller_port,
        )
        secrets.ensure(settings)
        database.initialise(settings)
        stack.enter_context(_running("PostgreSQL", settings, database.command(settings), database.ready))
        database.provision(settings)
        if kafka:
            from include.broker.kafka import ensure_topics

            jars.fetch()
            broker.initialise(settings)
            stack.enter_context(_running("Kafka", settings, broker.command(settings), broker.ready))
            ensure_topics(settings, timeout=START_SECONDS)
        yield settings


@contextmanager
def _running(
    name: str, settings: Settings, command: list[str], ready: Callable[[Settings], bool]
) -> Iterator[None]:
    log = settings.home / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=os.environ.copy(),
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready(settings):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServiceFailed(f"{name} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, number)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    continue
