"""What a container of the image becomes: `python -m include.platform.container NAME`.

NAME is a service of the embedded platform (`airflow-scheduler`, `mlflow`, …), a part of the Spark cluster, one of
the steps `provision`, `start` and `drain`, or any other program with its arguments. Each gets the environment
that the embedded platform would give it, made from the secrets that are mounted into this container; what the
container's own environment says is kept. A service that hangs is ended, and its container with it: Docker restarts
only what ends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
from rich.console import Console

from include.broker import kafka
from include.operations import housekeeping
from include.platform import airflow, down, postgres, secrets, services, up, watchdog
from include.platform.progress import Progress
from include.settings import PROJECT_ROOT, Settings, SettingsError, load

SPARK_MASTER_UI, SPARK_WORKER_UI = 8080, 8081
SPARK_DEFAULTS = PROJECT_ROOT / "docker" / "spark-defaults.conf"
SPARK_LOGGING = PROJECT_ROOT / "spark_jobs" / "log4j2.properties"


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def provision(settings: Settings) -> None:
    """Roles, databases, migrations and topics, Airflow's tables; may be repeated."""
    progress = Progress(_console())
    with progress.step("PostgreSQL answers"):
        address = f"{settings.postgres_host}:{settings.postgres_port}"
        up.wait_until(
            lambda: postgres.ready(settings), 60, lambda: f"no PostgreSQL at {address} within a minute"
        )
    with progress.step("PostgreSQL has its roles, databases and migrations"):
        postgres.provision(settings)
        housekeeping.make_months(settings)
        down.allow_streams(settings)
    with progress.step("Kafka has its topics"):
        kafka.ensure_topics(settings, timeout=60)
    with progress.step("Airflow's database is up to date"):
        (settings.home / "logs").mkdir(exist_ok=True)
        airflow.migrate(settings, environment(settings, "airflow-api-server"))


def start(settings: Settings) -> None:
    """Switches the DAGs on, trains the first model, and waits for the first scored transaction; may be repeated."""
    progress, client = Progress(_console()), airflow.Client(settings)
    with progress.step("Airflow is ready"):  # `docker compose restart` waits for nothing
        up.wait_for_airflow(settings)
    with progress.step("Airflow's DAGs are switched on"):
        up.switch_on(settings, client)
    up.reach_first_score(settings, client, progress)


def drain(settings: Settings) -> None:
    """Asks the streams to end after their current batch, before the scheduler stops."""
    down.drain(settings)


STEPS: dict[str, Callable[[Settings], None]] = {"provision": provision, "start": start, "drain": drain}


def environment(settings: Settings, name: str) -> dict[str, str]:
    """The embedded platform's environment of a service, under what the container was given."""
    spark = {"SPARK_CONF_DIR": str(_spark_configuration(settings))} if _in_spark(name) else {}
    return services.environment(settings, services.SERVICES.get(name)) | spark | os.environ


def command(settings: Settings, name: str) -> list[str]:
    """The command line of a service; it holds no secret."""
    if name in services.SERVICES:
        return services.SERVICES[name].command(settings)
    import pyspark

    spark_class = str(Path(pyspark.__file__).parent / "bin" / "spark-class")
    if name == "spark-master":
        host = settings.spark_master.removeprefix("spark://").split(":")[0]
        return [
            spark_class, "org.apache.spark.deploy.master.Master",
            "--host", host, "--port", "7077", "--webui-port", str(SPARK_MASTER_UI),
        ]  # fmt: skip
    return [
        spark_class, "org.apache.spark.deploy.worker.Worker", settings.spark_master,
        "--webui-port", str(SPARK_WORKER_UI), "--work-dir", "/tmp/spark",
    ]  # fmt: skip


def _in_spark(name: str) -> bool:
    return name in ("spark-master", "spark-worker", "airflow-scheduler")


def _spark_configuration(settings: Settings) -> Path:
    """Spark's configuration folder: defaults with the secret that all of Spark shares, and logging at WARN."""
    folder = secrets.folder(settings) / "spark"
    shared = secrets.ensure(settings)["spark_secret"]
    text = SPARK_DEFAULTS.read_text() + f"spark.authenticate.secret {shared}\n"
    secrets.write_private(folder / "spark-defaults.conf", text)
    secrets.write_private(folder / "log4j2.properties", SPARK_LOGGING.read_text())
    return folder


def main() -> None:
    try:
        settings = load()
    except SettingsError as error:
        raise SystemExit(f"fraudstream: {error}") from None
    name, *arguments = sys.argv[1:]
    secrets.ensure(settings)
    before = down.allow_streams if name == "airflow-scheduler" else STEPS.get(name)
    if before:
        try:
            before(settings)
        except (
            up.NotReady,
            housekeeping.StillLocked,
            airflow.AirflowError,
            kafka.KafkaError,
            postgres.MigrationRefused,
            psycopg.Error,
            httpx.HTTPError,
        ) as error:
            raise SystemExit(f"{name}: {error}") from None
    if name in STEPS:
        return
    known = name in services.SERVICES or name in ("spark-master", "spark-worker")
    program = command(settings, name) if known else [name, *arguments]
    os.chdir(PROJECT_ROOT)
    if name in services.SERVICES:
        sys.exit(watchdog.keep(settings, name, program, environment(settings, name)))
    os.execvpe(program[0], program, environment(settings, name if known else "airflow-scheduler"))


if __name__ == "__main__":
    main()
