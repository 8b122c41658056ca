"""Real services for the tests: each is started once a session on free ports, and always stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from include.platform import broker as kafka_server
from include.platform import jars, mlflow, ports, secrets
from include.platform import postgres as postgres_server
from include.settings import Settings

# Airflow reads these when it is imported, and would else make a folder in the user's home.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="fraudstream-airflow-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


@contextmanager
def running(
    name: str,
    command: list[str],
    ready: Callable[[], bool],
    log: Path,
    environment: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen]:
    """Runs a server until the block ends; fails with its log when it does not get ready."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=os.environ | (environment or {}),
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 90
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{name} did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen) -> None:
    for signal_number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, signal_number)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                continue


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of the tests' own platform: a temporary home and free ports."""
    postgres, kafka, controller, mlflow_port, airflow, streamlit = ports.free(6)
    return Settings(
        _env_file=None,
        home=tmp_path_factory.mktemp("home"),
        postgres_port=postgres,
        kafka_port=kafka,
        kafka_controller_port=controller,
        mlflow_port=mlflow_port,
        airflow_port=airflow,
        streamlit_port=streamlit,
    )


@pytest.fixture(scope="session")
def postgres(settings: Settings) -> Iterator[Settings]:
    """A migrated PostgreSQL 18; use `clean_postgres` for empty tables."""
    secrets.ensure(settings)
    postgres_server.initialise(settings)
    log = settings.home / "logs" / "postgres.log"
    with running(
        "PostgreSQL", postgres_server.command(settings), lambda: postgres_server.ready(settings), log
    ):
        postgres_server.provision(settings)
        yield settings


EMPTY = """
do $$
declare
    tables text;
begin
    select string_agg(format('%I.%I', schemaname, tablename), ', ') into tables
    from pg_tables where schemaname = 'shop' and tablename <> 'stream_leases';
    execute 'truncate ' || tables || ' restart identity';
    update shop.stream_leases
    set epoch = 0, holder = '', state = 'stopped', detail = '', model_version = null, stop_requested = false;
end
$$
"""


def read(connection: psycopg.Connection, query: str) -> list[tuple]:
    """Rows as the owner sees them: the streams' role cannot read most of what it writes."""
    with psycopg.connect(connection.info.dsn, user="owner") as owner:
        return owner.execute(query).fetchall()


@pytest.fixture
def clean_postgres(postgres: Settings) -> Settings:
    """The PostgreSQL with every table of the shop empty."""
    with psycopg.connect(postgres.conninfo("owner"), autocommit=True) as connection:
        connection.execute(EMPTY)
    return postgres


@pytest.fixture(scope="session")
def kafka(settings: Settings) -> Iterator[Settings]:
    """A Kafka broker without topics."""
    jars.fetch()
    kafka_server.initialise(settings)
    log = settings.home / "logs" / "kafka.log"
    with running("Kafka", kafka_server.command(settings), lambda: kafka_server.ready(settings), log):
        yield settings


@pytest.fixture(scope="session")
def mlflow_server(postgres: Settings) -> Iterator[Settings]:
    """An MLflow server on the tests' PostgreSQL."""
    log = postgres.home / "logs" / "mlflow.log"
    with running(
        "MLflow", mlflow.command(postgres), lambda: mlflow.ready(postgres), log, mlflow.environment(postgres)
    ):
        yield postgres


@pytest.fixture(scope="session")
def spark() -> Iterator:
    """A local Spark session with the Kafka connector on its class path."""
    import sys

    from pyspark.sql import SparkSession

    jars.fetch()
    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.jars", ",".join(jars.spark_classpath()))
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", "2")
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.fixture(scope="module")
def session(spark):
    """The Spark session with the streams' options."""
    from include.streams import runner

    for key, value in runner.SPARK.items():
        if key.startswith("spark.sql."):
            spark.conf.set(key, value)
    return spark
