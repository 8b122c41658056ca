"""A container's command gets the environment and the files that its secrets allow."""

import json
import os
import stat
import subprocess
import sys

import pytest

from include.platform import container, secrets
from include.settings import PROJECT_ROOT, Settings

AIRFLOW = ("airflow", "airflow_fernet", "airflow_api_secret", "airflow_jwt", "airflow_admin", "spark_secret")


@pytest.fixture
def given(tmp_path) -> Settings:
    """Settings of a container with Airflow's secrets, each with its name's reverse as value."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for name in AIRFLOW:
        (mounted / name).write_text(f"{name[::-1]}\n")
    return Settings(
        _env_file=None,
        home=tmp_path / "home",
        mounted_secrets=mounted,
        listen_address="0.0.0.0",
        airflow_url="http://airflow-api-server:8080",
        spark_master="spark://spark-master:7077",
    )


def test_mounted_secrets_are_written_as_programs_read_them_and_only_for_this_user(given):
    assert secrets.ensure(given)["airflow_jwt"] == "twj_wolfria"
    folder = secrets.folder(given)
    assert given.postgres_passfile.read_text() == "*:*:*:airflow:wolfria\n"
    assert json.loads((folder / "airflow-users.json").read_text()) == {"admin": "nimda_wolfria"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_nothing_is_generated_where_secrets_are_mounted(given):
    assert set(secrets.ensure(given)) == set(AIRFLOW)


def test_services_listen_to_other_containers_and_are_found_by_them(given):
    environment = container.environment(given, "airflow-scheduler")
    assert environment["AIRFLOW__API__HOST"] == "0.0.0.0"
    assert (
        environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://airflow-api-server:8080/execution/"
    )
    # The address that a person's browser uses.
    assert environment["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8080"
    assert json.loads(environment["AIRFLOW_CONN_SPARK_DEFAULT"])["host"] == "spark://spark-master:7077"


def test_the_containers_own_environment_wins(given, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "16")
    assert container.environment(given, "airflow-scheduler")["AIRFLOW__CORE__PARALLELISM"] == "16"


def test_spark_gets_its_shared_secret_in_a_private_file(given):
    folder = secrets.folder(given) / "spark"
    assert container.environment(given, "airflow-scheduler")["SPARK_CONF_DIR"] == str(folder)
    assert "spark.authenticate.secret terces_kraps\n" in (folder / "spark-defaults.conf").read_text()
    assert "spark.authenticate              true" in (folder / "spark-defaults.conf").read_text()
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_worker_and_the_master_find_one_another(given):
    master, worker = (container.command(given, f"spark-{each}") for each in ("master", "worker"))
    assert master[master.index("--host") + 1] == "spark-master"
    assert master[master.index("--port") + 1] == "7077"
    assert "spark://spark-master:7077" in worker


def run(settings: Settings, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "include.platform.container", *arguments],
        cwd=PROJECT_ROOT, env=os.environ | settings.as_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_any_other_program_runs_with_airflows_environment(given):
    program = "import os; print(os.environ['AIRFLOW__CORE__FERNET_KEY'], os.getcwd())"
    done = run(given, sys.executable, "-c", program)
    assert done.stdout.split() == ["tenref_wolfria", str(PROJECT_ROOT)], done.stderr


def test_a_step_that_cannot_be_done_ends_with_one_line_that_says_why(given):
    unreachable = given.model_copy(update={"airflow_url": "http://127.0.0.1:1"})
    done = run(unreachable, "start")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("start: ")
    assert "Traceback" not in done.stderr


@pytest.mark.services
def test_draining_asks_every_stream_to_stop(clean_postgres):
    import psycopg

    container.drain(clean_postgres)
    with psycopg.connect(clean_postgres.conninfo("owner"), autocommit=True) as connection:
        asked = connection.execute("select bool_and(stop_requested) from shop.stream_leases").fetchone()[0]
        connection.execute("update shop.stream_leases set stop_requested = false")
    assert asked
