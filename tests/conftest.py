"""Real services for the tests: each is started once a session on free ports, and always stopped."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from include.platform import jars, mlflow, temporary
from include.settings import PREFIX, Settings
from include.streams import store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# What is set for somebody's platform is not for the tests, nor for what they start.
for name in [name for name in os.environ if name.startswith(PREFIX)]:
    del os.environ[name]
Settings.model_config["env_file"] = None
# Airflow reads these when it is imported, and would else make a folder in the user's home.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="fraudstream-airflow-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of the tests' own platform: a temporary home and free ports."""
    return temporary.temporary_settings(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def postgres(settings: Settings) -> Iterator[Settings]:
    """A migrated PostgreSQL 18; use `clean_postgres` for empty tables."""
    with temporary.postgres(settings):
        yield settings


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-docs", action="store_true", help="write the records of docs/architecture.md anew"
    )


EMPTY = """
do $$
declare
    tables text;
begin
    select string_agg(format('%I.%I', schemaname, tablename), ', ') into tables
    from pg_tables where schemaname = 'shop' and tablename <> 'stream_leases';
    execute 'truncate ' || tables || ' restart identity';
    update shop.stream_leases
    set epoch = 0, holder = '', state = 'stopped', detail = '', model_version = null, stop_requested = false,
        held = false;
end
$$
"""


def read(connection: psycopg.Connection, query: str) -> list[tuple[Any, ...]]:
    """Rows as the owner sees them: the streams' role cannot read most of what it writes."""
    with psycopg.connect(connection.info.dsn, user="owner") as owner:
        return owner.execute(query).fetchall()


@pytest.fixture
def clean_postgres(postgres: Settings) -> Settings:
    """The PostgreSQL with every table of the shop empty, and no connection of a test before, which may be broken."""
    while store._open:
        store._open.popitem()[1][1].close()
    with psycopg.connect(postgres.conninfo("owner"), autocommit=True) as connection:
        connection.execute(EMPTY)
    return postgres


@pytest.fixture(scope="session")
def kafka(settings: Settings) -> Iterator[Settings]:
    """A Kafka broker without topics."""
    with temporary.kafka(settings):
        yield settings


@pytest.fixture(scope="session")
def mlflow_server(postgres: Settings) -> Iterator[Settings]:
    """An MLflow server on the tests' PostgreSQL."""
    command, variables = mlflow.command(postgres), mlflow.environment(postgres)
    with temporary.running("mlflow", postgres, command, lambda: mlflow.ready(postgres), variables):
        yield postgres


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A local Spark session with the Kafka connector on its class path."""
    import sys

    from pyspark import SparkContext
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
    gateway = SparkContext._gateway
    session.stop()
    # It would else end with the process and log that to a stream that pytest has closed.
    assert gateway is not None
    gateway.shutdown()
    SparkContext._gateway = SparkContext._jvm = None


@pytest.fixture(scope="module")
def session(spark: SparkSession) -> SparkSession:
    """The Spark session with the streams' options."""
    from include.streams import runner

    for key, value in runner.SPARK.items():
        if key.startswith("spark.sql."):
            spark.conf.set(key, value)
    return spark
